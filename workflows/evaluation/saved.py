"""Reads ``OUT/evaluation`` back for the report.

The folder may come from anywhere. Only what ``evaluate`` writes is taken from it: numbers, names, and JPEG files with
the names that it gives to its pictures.
"""

from __future__ import annotations

import base64
import io
import re
import stat
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from PIL import Image

from labeler.errors import FormatError, RunError
from labeler.files.storage import as_local, info, read_bytes
from labeler.migrations import read_json
from labeler.sizes import finite_number, shown

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

REMEDY = "evaluate again, or remove it"
_PICTURE = re.compile(r"worst_[0-9]{2}\.jpg")
_COUNTS = ("objects", "accepted", "misses", "extras")
_SHARES = ("precision", "recall", "f1", "semantic_iou")
_NESTED_SHARES = (("mask", "ap"), ("mask", "ap50"), ("box", "ap"), ("overlap", "iou"), ("overlap", "boundary_iou"))


def read_evaluation(output: AnyPath) -> dict[str, Any] | None:
    """What ``labeler evaluate`` wrote into ``output``; None if it was not run.

    Returns:
        The content of ``evaluation.json`` and, under ``pictures``, pairs of an entry of ``worst`` and its picture, a
        JPEG as a data URI.

    Raises:
        RunError: it is damaged, of another version, or names a file that ``evaluate`` does not write.
    """
    folder = output / "evaluation"
    path = folder / "evaluation.json"
    if info(path) is None:
        return None
    try:
        content = read_json("evaluation.json", path)
    except FormatError as error:
        raise RunError(f"{path} is damaged ({str(error).removeprefix(f'{path}: ')}); {REMEDY}") from None
    try:
        _check(content)
        pictures = list(_pictures(folder, content["worst"]))
    except KeyError as error:
        raise RunError(f"{path} is damaged ({error} is missing); {REMEDY}") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path} is damaged ({error}); {REMEDY}") from None
    return {**content, "pictures": pictures}


def _check(content: dict[str, Any]) -> None:
    """Check all that the report shows.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: something is missing, or is not a number.
    """
    settings, scores = content["settings"], content["image_score"]
    _numbers("settings", settings["iou"], settings["band_width"])
    _ = settings["quality"], settings["include_review"], content["truth"]
    _numbers("images", content["images"])
    for each in (content["all"], *content["classes"]):
        _numbers("counts", *(each[name] for name in _COUNTS))
        _shares("measures", *(each[name] for name in _SHARES), *(each[a][b] for a, b in _NESTED_SHARES))
    _ = [each["name"] for each in content["classes"]]
    for each in content["single_object"].values():
        _numbers("single_object", each["pairs"])
        _shares("single_object", *(each[name] for name in ("iou", "boundary_iou", "tolerant_iou")))
    if not all(isinstance(names, list) for names in content["not_compared"].values()):
        raise ValueError("'not_compared' must contain lists")
    notes = content.get("ground_truth_notes", [])  # evaluations of earlier versions have none
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        raise ValueError("'ground_truth_notes' must be a list of text")
    _shares("image_score", scores["mean"])
    edges, counts = scores["histogram"]["edges"], scores["histogram"]["counts"]
    _numbers("histogram", *edges, *counts)
    if len(edges) != len(counts) + 1 or not counts or edges != sorted(set(edges)):
        raise ValueError("the histogram's edges do not fit its counts")
    for each in content["worst"]:
        _shares("worst", each["score"])
        _numbers("worst", each["matched"], each["misses"], each["extras"])
        _ = each["image_id"], each["picture"]


def _numbers(what: str, *values: object) -> None:
    for value in values:
        finite_number(value, f"'{what}'")


def _shares(what: str, *values: object) -> None:
    """Check measures: numbers, or None where they are undefined."""
    _numbers(what, *(value for value in values if value is not None))


def _pictures(folder: AnyPath, worst: Iterable[dict[str, Any]]) -> Iterable[tuple[dict[str, Any], str]]:
    """The entries of ``worst`` whose picture exists, each with the picture as a data URI.

    Raises:
        ValueError: a name is not one that ``evaluate`` writes, or its file is not a JPEG in the folder itself.
    """
    for each in worst:
        name = each["picture"]
        if name is None:
            continue
        if not isinstance(name, str) or not _PICTURE.fullmatch(name):
            raise ValueError(f"it names the picture {shown(name)}, which evaluate does not write")
        path = folder / name
        if info(path) is None:
            continue
        if (file := as_local(path)) and (
            not stat.S_ISREG(file.stat().st_mode) or file.resolve().parent != folder.parent.resolve() / folder.name
        ):
            raise ValueError(f"its picture {name} is not a file of the folder itself")
        data = read_bytes(path)
        if not _is_jpeg(data):
            raise ValueError(f"its picture {name} is not a JPEG")
        yield each, f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"


def _is_jpeg(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
            image.load()
    except Exception:  # decoders can raise anything
        return False
    return True
