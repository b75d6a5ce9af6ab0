"""Samples of every kind of file that labeler reads, and small random changes to them."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from labeler.demo.scenes import make_scene, scene_rng
from tests.support.command_line import run_in_process
from tests.support.stand_in import GOOD, Silent, stand_in_job, write_images
from workflows.label import label

STRANGE: tuple[Any, ...] = (
    None, True, 0, -1, 0.5, 2**70, 1e308, float("nan"), "", "x", "\x1b[31m", "../../x", "/etc/passwd", "1" * 5000,
    [], {}, [[]], [None], {"": None}, "\ud800",
)  # fmt: skip
NUMBERS = (b"-1", b"0", b"65536", b"99999999999999999999", b"1e999", b"NaN", b"null", b'"x"')


def image_samples(folder: Path) -> list[Path]:
    """Small images of all formats and pixel types that are read."""
    scene = Image.fromarray(make_scene(scene_rng(5, 0), 64).image)
    grey = np.asarray(scene.convert("L"))
    exif = Image.Exif()
    exif[0x0112] = 6
    made: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "a.jpg": (scene, {"exif": exif}),
        "progressive.jpg": (scene, {"progressive": True}),
        "a.png": (scene, {}),
        "palette.png": (scene.quantize(16), {}),
        "alpha.png": (scene.convert("RGBA"), {}),
        "deep.png": (Image.fromarray(grey.astype(np.uint16) * 16), {}),
        "a.tif": (scene, {"compression": "tiff_lzw"}),
        "float.tif": (Image.fromarray(grey.astype(np.float32) / 255), {}),
        "pages.tif": (scene, {"save_all": True, "append_images": [scene]}),
        "a.webp": (scene, {}),
        "frames.gif": (scene.quantize(), {"save_all": True, "append_images": [scene.quantize()]}),
        "a.bmp": (scene, {}),
        "a.ppm": (scene, {}),
        "a.tga": (scene, {}),
        "a.ico": (scene, {}),
    }
    try:
        import pillow_heif

        pillow_heif.register_heif_opener()
        made["a.heic"] = (scene, {})
    except ImportError:
        pass
    for name, (image, options) in made.items():
        image.save(folder / name, **options)
    return sorted(folder.iterdir())


def make_run(folder: Path) -> Path:
    """A labeled folder, ``out``, and its images in ``input``."""
    write_images(folder / "input", [GOOD] * 6)
    label(stand_in_job(folder / "input", folder / "out"), Silent())
    return folder / "out"


def annotation_samples(folder: Path) -> list[Path]:
    """Files that ``evaluate --ground-truth``, ``label --ontology`` and ``review --from`` read, from a small dataset."""
    out, made = make_run(folder / "made"), folder / "files"
    made.mkdir()
    samples = {f"coco_{path.stem}.json": path.read_bytes() for path in out.glob("annotations/*.json")}
    samples["data.yaml"] = b"path: .\ntrain: images\nval: images\nnames:\n  0: dog\n  1: cat\n"
    samples["names.json"] = b'{"id2label": {"0": "dog", "1": "cat"}}'
    samples["classes.toml"] = b'[[class]]\nname = "dog"\nprompts = ["a dog", "a puppy"]\n[[class]]\nname = "cat"\n'
    samples["labelmap.txt"] = b"# label:color_rgb:parts:actions\nbackground:0,0,0::\ndog:128,0,0::\n"
    for tool in ("label-studio", "cvat", "fiftyone"):
        sent = folder / tool
        if run_in_process("review", out, "--to", tool, "-o", sent, "--verdict", "all").returncode:
            raise SystemExit(f"no review set for {tool} could be written")
        for path in sorted(sent.rglob("*")):
            if path.suffix in (".json", ".xml") and path.stat().st_size < 10**5:
                samples[f"{tool}_{path.name}"] = path.read_bytes()
    for name, data in samples.items():
        (made / name).write_bytes(data)
    return sorted(made.iterdir())


def archives(samples: list[Path], folder: Path) -> list[Path]:
    """The annotation files zipped, as annotation tools export them."""
    folder.mkdir()
    for sample in samples:
        if sample.suffix not in (".json", ".xml"):
            continue
        (folder / f"{sample.stem}.zip").write_bytes(_zipped(sample.name, sample.read_bytes()))
    return sorted(folder.iterdir())


def _zipped(name: str, data: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return file.getvalue()


def mutated(data: bytes, random: Random, name: str) -> bytes:
    """``data`` with a few changes: of values where it is JSON, within an archive or of it, of bytes and numbers."""
    if name.endswith(".zip") and random.random() < 0.6:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            (inside,) = archive.namelist()
            return _zipped(inside, mutated(archive.read(inside), random, inside))
    if name.endswith((".json", ".jsonl")) and random.random() < 0.6:
        lines = data.splitlines() if name.endswith(".jsonl") else [data]
        at = random.randrange(len(lines)) if lines else 0
        if lines:
            lines[at] = _changed_value(lines[at], random)
        return b"\n".join(lines)
    for _ in range(random.randint(1, 4)):
        data = random.choice(BYTE_CHANGES)(data, random)
    return data


def _changed_value(data: bytes, random: Random) -> bytes:
    try:
        document = json.loads(data)
    except ValueError:
        return data
    places = list(_places(document))
    if not places:
        return json.dumps(random.choice(STRANGE)).encode()
    container, key = random.choice(places)
    if random.random() < 0.15:
        container.pop(key)
    elif random.random() < 0.03:
        return data.replace(b":", b":" + b"[" * 100_000, 1)
    else:
        container[key] = random.choice(STRANGE)
    return json.dumps(document).encode()


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in items:
        yield document, key
        yield from _places(value)


def _span(data: bytes, random: Random) -> tuple[int, int]:
    start = random.randrange(len(data) + 1)
    return start, min(len(data), start + random.choice((1, 1, 2, 4, 16, 256)))


def _flip(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 3, 20))):
        if changed:
            changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _noise(data: bytes, random: Random) -> bytes:
    start, end = _span(data, random)
    return data[:start] + random.randbytes(end - start) + data[end:]


def _fill(data: bytes, random: Random) -> bytes:
    start, end = _span(data, random)
    return data[:start] + random.choice((b"\0", b"\xff")) * (end - start) + data[end:]


def _cut(data: bytes, random: Random) -> bytes:
    return data[: random.randrange(len(data) + 1)]


def _remove(data: bytes, random: Random) -> bytes:
    start, end = _span(data, random)
    return data[:start] + data[end:]


def _repeat(data: bytes, random: Random) -> bytes:
    start, end = _span(data, random)
    return data[:end] + data[start:end] * random.choice((1, 3, 1000)) + data[end:]


def _number(data: bytes, random: Random) -> bytes:
    found = list(re.finditer(rb"\d+(\.\d+)?", data))
    if not found:
        return _flip(data, random)
    place = random.choice(found)
    return data[: place.start()] + random.choice(NUMBERS) + data[place.end() :]


BYTE_CHANGES = (_flip, _flip, _noise, _fill, _cut, _remove, _repeat, _number)
