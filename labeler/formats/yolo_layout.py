"""Finds the classes and the images that the ``data.yaml`` of a YOLO dataset names, as Ultralytics does."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from labeler.errors import FormatError
from labeler.files.documents import load_yaml
from labeler.files.listing import find_images
from labeler.formats.findings import Findings
from labeler.sizes import shown
from ontologies.documents import DocumentError

# The keys of each split; Ultralytics takes "validation" for "val" too.
SPLITS = (("train",), ("val", "validation", "valid"), ("test",))
MAX_CLASSES = 1_000_000


@dataclass(frozen=True)
class YoloImage:
    """An image of a dataset.

    Attributes:
        path: absolute.
        name: the path below the folder of its split.
        long_name: the path below the dataset, which tells images of several splits apart.
    """

    path: Path
    name: str
    long_name: str


@dataclass(frozen=True)
class YoloLayout:
    """What a ``data.yaml`` says.

    Attributes:
        class_names: by class id.
        images: each once, split by split, sorted within each folder.
        keypoint_values: how many values follow the box in each label line of a pose dataset; 0 in other datasets.
    """

    class_names: tuple[str, ...]
    images: tuple[YoloImage, ...]
    keypoint_values: int


def read_layout(data_yaml: Path, findings: Findings) -> YoloLayout:
    """The classes and images of a dataset.

    Splits are looked for as Ultralytics does: relative to ``path``, or to the file where there is none, and without a
    leading ``../`` if they are not there. Where ``path`` or a split is that of another machine, the end of the path is
    looked for next to the file. Splits that are not there are left out.

    Raises:
        FormatError: the file cannot be read or has another content, or none of its splits is there.
    """
    try:
        content = load_yaml(data_yaml)
    except (OSError, DocumentError) as error:
        raise FormatError(f"{data_yaml}: not a data.yaml ({' '.join(str(error).split())})") from error
    try:
        if not isinstance(content, dict):
            raise ValueError("'names' must be a list, or a mapping of 0, 1, 2, ... to names")
        names = _class_names(content, findings)
        images = {image.path: image for image in _images(data_yaml, content, findings)}
        return YoloLayout(names, tuple(images.values()), _keypoint_values(content))
    except ValueError as error:
        raise FormatError(f"{data_yaml}: {error}") from None


def _class_names(content: dict[Any, Any], findings: Findings) -> tuple[str, ...]:
    names, count = content.get("names"), _whole(content.get("nc"))
    if names is None and count is not None and 0 < count <= MAX_CLASSES:
        return tuple(f"class_{class_id}" for class_id in range(count))
    if isinstance(names, dict):
        by_id = {_whole(key): name for key, name in names.items()}
        names = (
            [by_id.get(class_id) for class_id in range(len(names))] if by_id.keys() == {*range(len(names))} else None
        )
    if not isinstance(names, list) or not names or any(isinstance(name, (list, dict)) for name in names):
        raise ValueError("'names' must be a list, or a mapping of 0, 1, 2, ... to names")
    if count is not None and count != len(names):
        findings.add("key", f"that contradicts 'names': there are {len(names)} names", f"nc: {count}")
    for name in names:
        if isinstance(name, bool):
            findings.add("class", "that YAML takes for true or false: put the name in quotes", name)
    return tuple(map(str, names))


def _whole(value: object) -> int | None:
    try:
        return int(str(value)) if not isinstance(value, bool) else None
    except ValueError:
        return None


def _keypoint_values(content: dict[Any, Any]) -> int:
    shape = content.get("kpt_shape")
    if shape is None:
        return 0
    sizes = [_whole(each) or 0 for each in shape] if isinstance(shape, list) else []
    if len(sizes) != 2 or sizes[0] < 1 or sizes[1] not in (2, 3):
        raise ValueError(f"'kpt_shape' is {shown(shape)}; it must be the number of keypoints, and 2 or 3")
    return sizes[0] * sizes[1]


def _images(data_yaml: Path, content: dict[Any, Any], findings: Findings) -> Iterator[YoloImage]:
    bases = _bases(data_yaml, content.get("path"), findings)
    named, missing = 0, ""
    for keys in SPLITS:
        key = next((key for key in keys if content.get(key)), keys[0])
        entries = content.get(key) or []
        for entry in entries if isinstance(entries, list) else [entries]:
            if not isinstance(entry, str):
                raise ValueError(f"'{key}' must name folders, not {shown(entry)}")
            entry = entry.strip()
            if (found := _find(entry, bases)) is None:
                missing = missing or f"{key} is {entry}, but there is no folder {bases[0] / entry}"
                findings.add("split", "whose images are not there: left out", f"{key}: {entry}")
                continue
            named += 1
            if found not in _as_ultralytics(entry, bases[0]):
                findings.add("split", "found elsewhere than written", f"{key}: {found}")
            root = found.resolve()
            yield from _listed(root, bases, findings) if root.is_file() else _in_folder(root, bases)
    if not named:
        raise ValueError(missing or "it names no images; add train, val or test")


def _bases(data_yaml: Path, path: object, findings: Findings) -> list[Path]:
    """The folders that splits may be relative to, the most likely one first."""
    home = data_yaml.parent.absolute()
    if path is not None and not isinstance(path, str):
        raise ValueError(f"'path' must name a folder, not {shown(path)}")
    if not path:
        return [home]
    path = path.replace("\\", "/")
    there = [base for base in (home / path, Path(path).absolute()) if base.is_dir()]
    if not there:
        findings.add("path", "that is not there: the folder of the file is taken instead", path)
    return [*there, home]


def _as_ultralytics(entry: str, base: Path) -> list[Path]:
    return [base / entry, *([base / entry[3:]] if entry.startswith("../") else [])]


def _find(entry: str, bases: list[Path]) -> Path | None:
    """The folder or file that ``entry`` means; None if there is none."""
    entry = entry.strip().strip("\"'").replace("\\", "/")
    parts = [part for part in PurePosixPath(entry).parts if part not in ("/", "..")]
    ends = ("/".join(parts[start:]) for start in range(1, len(parts)))
    candidates = [path for base in bases for path in _as_ultralytics(entry, base)]
    candidates += [base / end for end in ends for base in bases]
    return next((path for path in candidates if path.exists()), None)


def _in_folder(root: Path, bases: list[Path]) -> Iterator[YoloImage]:
    for image_id in find_images(root).image_ids:
        yield YoloImage(root / image_id, image_id, _below(root / image_id, bases))


def _listed(file: Path, bases: list[Path], findings: Findings) -> Iterator[YoloImage]:
    """The images in a text file with a path per line. ``./`` is the folder of the file, as in Ultralytics."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except ValueError:
        raise ValueError(f"{file} is neither a folder nor a list of images in UTF-8") from None
    for line in filter(None, map(str.strip, lines)):
        found = _find(line, [file.parent] if line.startswith("./") else [*bases, file.parent])
        if found is None or not found.is_file():
            findings.add("image", f"in {file.name} that is not there: left out", line)
            continue
        path = Path(os.path.abspath(found))
        yield YoloImage(path, _below(path, bases), _below(path, bases))


def _below(path: Path, bases: list[Path]) -> str:
    """``path`` relative to the first base that it is in, as a POSIX path; as it is if there is none."""
    for base in bases:
        if path.is_relative_to(base.resolve()):
            return path.relative_to(base.resolve()).as_posix()
    return path.as_posix()
