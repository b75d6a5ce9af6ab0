"""Review sets for Label Studio, and its corrections.

A review set holds tasks with predictions and a labeling configuration (https://labelstud.io/guide/predictions);
corrections are its exports as JSON or JSON-MIN. Masks have Label Studio's own run-length encoding, that of
``@thi.ng/rle-pack``, over the bytes of an RGBA image in row order; see ``label_studio_sdk.converter.brush``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import quoteattr

import numpy as np

from labeler.annotation_tools.corrections import CorrectedImage, CorrectedInstance, SentImage
from labeler.errors import FormatError
from labeler.geometry.masks import Rle, mask_to_rle, rle_to_mask
from labeler.geometry.polygons import polygons_to_rle
from labeler.sizes import checked_size, shown, unicode_text

BRUSH, IMAGE = "mask", "image"  # names of tags in the labeling configuration
SCORE_DIGITS = 6
_RUN_BITS = (3, 4, 8, 16)  # bits of a run length, as Label Studio writes them
_LONGEST = 2**16


def rle_to_brush(rle: Rle) -> list[int]:
    """A mask as Label Studio's RLE: the same bytes as ``mask2rle`` of ``label_studio_sdk``.

    All four channels are 255 in the mask and 0 elsewhere.
    """
    flat = rle_to_mask(rle).ravel()
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    lengths = np.diff(np.append(starts, flat.size)) * 4
    bits = [f"{flat.size * 4:032b}{8 - 1:05b}", *(f"{size - 1:04b}" for size in _RUN_BITS)]
    for value, length in zip(flat[starts].tolist(), lengths.tolist(), strict=True):
        byte = "11111111" if value else "00000000"
        if length <= 256:
            size = next(place for place, width in enumerate(_RUN_BITS) if length <= 2**width)
            bits.append(f"1{size:02b}{length - 1:0{_RUN_BITS[size]}b}{byte}")
            continue
        whole, rest = divmod(length - 1, _LONGEST)
        bits += [f"111{_LONGEST - 1:016b}{byte}"] * whole
        bits.append(f"111{rest:016b}{byte}")
    text = "".join(bits)
    text += "0" * (8 - len(text) % 8)  # mask2rle also pads by a whole byte where no padding is needed
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def brush_to_rle(encoded: Sequence[int], width: int, height: int) -> Rle:
    """The mask in Label Studio's RLE: where alpha is at least one half. Alpha fades along strokes drawn by hand.

    Raises:
        ValueError: the RLE is cut short, or is of an image of another size.
    """
    width, height = checked_size(width, height)
    if not isinstance(encoded, (list, tuple)):  # bytes(n) would be n zeros
        raise ValueError("the RLE of a brush region is not a list of bytes")
    data = bytes(encoded)
    bits = f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}"
    place = 0

    def read(count: int) -> int:
        nonlocal place
        place += count
        if place > len(bits):
            raise ValueError("the RLE of a brush region is cut short")
        return int(bits[place - count : place], 2)

    if read(32) != width * height * 4:
        raise ValueError(f"the RLE of a brush region is not that of an image of {width} x {height} pixels")
    word = read(5) + 1
    run_bits = [read(4) + 1 for _ in range(4)]
    alpha = np.zeros(width * height, dtype=np.bool_)
    done, size = 0, alpha.size * 4
    while done < size:
        is_run, bits_of_length = read(1), run_bits[read(2)]
        end = done + read(bits_of_length) + 1
        if end > size:
            raise ValueError("the RLE of a brush region is longer than the image")
        # Alpha is every fourth value, at 3, 7, 11, …
        first, last = done // 4, end // 4
        if is_run:
            alpha[first:last] = read(word) >= 128
        else:
            alpha[first:last] = [read(word) >= 128 for _ in range(done, end)][3 - done % 4 :: 4]
        done = end
    return mask_to_rle(alpha.reshape(height, width))


def labeling_config(class_names: Sequence[str]) -> str:
    """The labeling configuration for a project with these tasks: a brush for each class."""
    labels = "\n".join(f"    <Label value={quoteattr(name)}/>" for name in class_names)
    return (
        f'<View>\n  <Image name="{IMAGE}" value="$image" zoom="true" zoomControl="true"/>\n'
        f'  <BrushLabels name="{BRUSH}" toName="{IMAGE}">\n{labels}\n  </BrushLabels>\n</View>\n'
    )


def write_label_studio(folder: Path, images: Iterable[SentImage], class_names: Sequence[str], url: str) -> None:
    """Write ``tasks.json`` and ``labeling_config.xml`` into ``folder``.

    Args:
        url: prefix of every image URL, such as ``/data/local-files/?d=set/images/``.
    """
    (folder / "labeling_config.xml").write_text(labeling_config(class_names), encoding="utf-8", newline="\n")
    with open(folder / "tasks.json", "w", encoding="ascii") as file:
        file.write("[")
        for number, image in enumerate(images):
            file.write((",\n" if number else "\n") + json.dumps(_task(image, url)))
        file.write("\n]\n")


def _task(image: SentImage, url: str) -> dict[str, Any]:
    result = [
        {
            "id": each.object_id,
            "type": "brushlabels",
            "from_name": BRUSH,
            "to_name": IMAGE,
            "original_width": image.width,
            "original_height": image.height,
            "image_rotation": 0,
            "score": round(each.score, SCORE_DIGITS),
            "value": {"format": "rle", "rle": rle_to_brush(each.rle), "brushlabels": [each.class_name]},
        }
        for each in image.instances
    ]
    score = round(min((each.score for each in image.instances), default=0.0), SCORE_DIGITS)
    prediction = {"model_version": "labeler", "score": score, "result": result}
    return {"data": {"image": url + quote(image.name)}, "predictions": [prediction]}


def read_label_studio(tasks: list[Any]) -> list[CorrectedImage]:
    """The annotated tasks of a JSON or JSON-MIN export, without skipped tasks and tasks that have no annotation.

    If a task has several annotations, the one marked as ground truth counts, or else the one changed last.

    Raises:
        FormatError: a task is damaged.
    """
    images: dict[str, tuple[tuple[bool, str], CorrectedImage]] = {}
    for position, task in enumerate(tasks):
        identity = task.get("id", position) if isinstance(task, dict) else position
        where = f"task {identity if isinstance(identity, str) else shown(identity)}"
        try:
            _check_object(task, "a task")
            for order, name, regions in _annotations(task):
                read = [_instance(region) for region in regions]
                instances = tuple(each for each in read if each is not None)
                image = CorrectedImage(name, instances, len(read) - len(instances))
                if name not in images or images[name][0] <= order:
                    images[name] = order, image
        except KeyError as error:
            raise FormatError(f"{where}: {error} is missing") from error
        except MemoryError as error:
            raise FormatError(f"{where}: not enough memory for a mask of that size") from error
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise FormatError(f"{where}: {str(error).splitlines()[0]}") from error
    return [image for _, image in images.values()]


def _annotations(task: dict[str, Any]) -> Iterator[tuple[tuple[bool, str], str, list[dict[str, Any]]]]:
    """Sort key that says which annotation counts, name of the image, and regions as JSON has them."""
    if "data" in task:
        _check_object(task["data"], "'data'")
        for annotation in task.get("annotations", []):
            _check_object(annotation, "an annotation")
            if not annotation.get("was_cancelled"):
                order = bool(annotation.get("ground_truth")), str(annotation.get("updated_at") or "")
                yield order, _name(task["data"]["image"]), annotation["result"]
    elif task["annotation_id"] is not None:  # JSON-MIN
        regions = [
            {**value, "value": value}
            for values in task.values()
            if isinstance(values, list)
            for value in values
            if isinstance(value, dict)
        ]
        yield (False, str(task.get("updated_at") or "")), _name(task["image"]), regions


def _check_object(value: object, what: str) -> None:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is {shown(value)}, not an object")


def _name(url: object) -> str:
    """The path of an image, from its URL."""
    if not isinstance(url, str):
        raise ValueError(f"the image's address is {shown(url)}, not text")
    unicode_text(url, "the image's address")
    parts = urlsplit(url)
    return parse_qs(parts.query).get("d", [unquote(parts.path)])[-1].replace("\\", "/").lstrip("/")


def _instance(region: dict[str, Any]) -> CorrectedInstance | None:
    """The object of a region; None if the region has no mask."""
    _check_object(region, "a region")
    value = region.get("value", {})
    _check_object(value, "'value'")
    kind = next((kind for kind in ("brushlabels", "polygonlabels") if kind in value), None)  # JSON-MIN has no type
    if kind is None:
        return None
    width, height = checked_size(region["original_width"], region["original_height"])
    if not value[kind]:
        raise ValueError("a shape has no label; give it one")
    name, object_id = unicode_text(str(value[kind][0]), "a label"), str(region.get("id", ""))
    if kind == "brushlabels":
        return CorrectedInstance(name, brush_to_rle(value["rle"], width, height), object_id)
    points = np.array(value["points"], dtype=np.float64).reshape(-1, 2)
    if len(points) < 3 or not (np.abs(points) <= 200).all():
        raise ValueError("a polygon is not a list of three or more points in per cent")
    polygon = (points * (width / 100, height / 100)).ravel().tolist()
    return CorrectedInstance(name, polygons_to_rle([polygon], height, width), object_id, outlined=True)
