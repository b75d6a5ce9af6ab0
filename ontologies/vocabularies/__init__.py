from pathlib import Path

VOCABULARIES = ("coco", "lvis", "objects365", "openimages")


def read_vocabulary(source: "str | Path") -> "tuple[str, ...]":
    return tuple(Path(source).read_text().split("\n"))
