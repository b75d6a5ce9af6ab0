"""Ground truth and corrections with impossible sizes give one line, where ``pycocotools`` would hang or crash.

They are read in a separate process with little memory and a time limit, so that a reader that hangs, crashes or asks
for terabytes fails the test and not the test run.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labeler.errors import FormatError
from labeler.formats.ground_truth import read_ground_truth
from labeler.geometry.masks import mask_to_rle

READER = """
import json, resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (6 * 2**30, 6 * 2**30))
from labeler.errors import FormatError
from labeler.annotation_tools.corrected import read_corrected
from labeler.formats.ground_truth import read_ground_truth
for name, how in json.loads(sys.stdin.read()):
    try:
        {"truth": read_ground_truth, "corrected": read_corrected}[how](Path(name))
        print("read", flush=True)
    except FormatError as error:
        print(json.dumps(str(error)), flush=True)
"""
RLE = mask_to_rle(np.eye(20, 30, dtype=bool))
SQUARE = [[2, 2, 9, 2, 9, 9, 2, 9]]
COMPRESSED = {"size": [20, 30], "counts": RLE["counts"].decode()}
SIDES = ["0", "-5", "true", '"wide"', "null", "NaN", "Infinity", "1e999", "30.5", "1000000000", "9" * 400, "[30]"]


def answers(folder: Path, files: dict[str, tuple[str, str]]) -> dict[str, str]:
    """The result of reading each file; a case is a name, the text and the kind of reader."""
    for name, (text, _) in files.items():
        (folder / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", READER],
        input=json.dumps([(str(folder / name), how) for name, (_, how) in files.items()]),
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(files), f"{[*files][len(lines)]} ended the process: {done.stderr[-500:]}"
    return dict(zip(files, lines, strict=True))


def check(folder: Path, files: dict[str, tuple[str, str]]) -> None:
    """Check that every file is refused in one line that names it."""
    for name, answer in answers(folder, files).items():
        assert answer != "read", f"{name} was accepted"
        (line,) = json.loads(answer).splitlines()
        assert line.startswith(str(folder / name)), line
        assert len(line) < len(str(folder)) + 400


def coco(segmentation: Any = SQUARE, width: str = "30", height: str = "20", **annotation: Any) -> str:
    """An instances file with one object; sides are written as given, even if they are not valid JSON."""
    entry = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": segmentation, **annotation}
    return (
        f'{{"images": [{{"id": 1, "file_name": "a.png", "width": {width}, "height": {height}}}], '
        f'"categories": [{{"id": 1, "name": "dog"}}], "annotations": [{json.dumps(entry)}]}}'
    )


def test_coco(tmp_path: Path) -> None:
    files = {}
    for how in ("truth", "corrected"):
        for number, side in enumerate(SIDES):
            for what, segmentation in (("polygon", SQUARE), ("rle", COMPRESSED)):
                files[f"{how} width {number} {what}.json"] = coco(segmentation, width=side), how
                files[f"{how} height {number} {what}.json"] = coco(segmentation, height=side), how
        for number, segmentation in enumerate(
            [
                [[2, 2, 9, 2, 9, 1e9]],
                [[2, 2, 9, 2, 9, float("nan")]],
                [[2, 2, 9, 2, 9, 10**400]],
                [["2", "2", "9", "2", "9", "nine"]],
                [[[2, 2], [9, 2], [9, 9], [2, 9, 1, 1], [1, 1], [1, 2]]],
                {"size": [20, 30], "counts": 10**12},
                {"size": [20, 30], "counts": None},
                {"size": [20, 30], "counts": [10**400]},
                {"size": [20, 30], "counts": [True, 599]},
                {"size": [20, 30], "counts": [-1, 601]},
                {"size": [20, 30], "counts": [600.0]},
                {"size": [20, 30], "counts": COMPRESSED["counts"][:-1]},
                {"size": [20, 30], "counts": "o" * 9},
                {"size": [10**9, 10**9], "counts": COMPRESSED["counts"]},
                {"size": [20], "counts": COMPRESSED["counts"]},
                {"size": 600, "counts": COMPRESSED["counts"]},
            ]
        ):
            files[f"{how} segmentation {number}.json"] = coco(segmentation), how
    big = {"size": [10**9, 10**9], "counts": [10**18]}
    files["square.json"] = coco(big, width=str(10**9), height=str(10**9)), "truth"
    for number, value in enumerate([10**400, float("nan"), float("inf"), "wide", None, True]):
        files[f"bbox {number}.json"] = coco([], bbox=[1, 2, value, 4]), "truth"
    files["deep.json"] = "[" * 200_000, "truth"
    check(tmp_path, files)


def cvat(shape: str, width: str = "30", height: str = "20") -> str:
    image = f'<image id="1" name="a.png" width="{width}" height="{height}">{shape}</image>'
    return f'<?xml version="1.0"?><annotations><version>1.1</version>{image}</annotations>'


def cvat_mask(rle: str = "0, 100", left: str = "1", top: str = "1", width: str = "10", height: str = "10") -> str:
    return f'<mask label="dog" rle="{rle}" left="{left}" top="{top}" width="{width}" height="{height}"/>'


def test_cvat(tmp_path: Path) -> None:
    polygon = '<polygon label="dog" points="{}"/>'
    square = polygon.format("2,2;9,2;9,9;2,9")
    texts = []
    for side in ("0", "-5", "1000000000", "9" * 400, "30.5", "nan", ""):
        for shape in (cvat_mask(), square, ""):
            texts += [cvat(shape, width=side), cvat(shape, height=side), cvat(shape, side, side)]
        texts += [cvat(cvat_mask(**{key: side})) for key in ("width", "height")]
        texts += [cvat(cvat_mask(rle=f"0, 100, {side}"))] if side != "0" else []
    texts += [cvat(cvat_mask(left="-1")), cvat(cvat_mask(top=str(10**9))), cvat(cvat_mask(rle="0, -100, 200"))]
    texts += [cvat(cvat_mask(rle=", ".join(["9223372036854775807"] * 2 + ["102"])))]  # sums to 100 in 64 bits
    texts += [cvat(polygon.format(f"2,2;9,2;{far},9")) for far in ("1e9", "nan", "inf", "1e999")]
    check(tmp_path, {f"{number}.xml": (text, "corrected") for number, text in enumerate(texts)})


def label_studio(value: dict[str, Any], width: str = "30", height: str = "20") -> str:
    region = json.dumps({"id": "r", "type": "x", "value": value})[:-1]
    region = f'{region}, "original_width": {width}, "original_height": {height}}}'
    return f'[{{"id": 1, "data": {{"image": "/a.png"}}, "annotations": [{{"result": [{region}]}}]}}]'


def test_label_studio(tmp_path: Path) -> None:
    polygon = {"points": [[10, 10], [50, 10], [50, 50]], "polygonlabels": ["dog"]}
    brush = {"format": "rle", "rle": [0, 0, 9, 96, 57, 27, 252, 0], "brushlabels": ["dog"]}
    texts = []
    for side in SIDES:
        for value in (polygon, brush):
            texts += [
                label_studio(value, width=side),
                label_studio(value, height=side),
                label_studio(value, side, side),
            ]
    for encoded in (10**12, "abc", None, {}, [], [256], [-1], [10**400], [255] * 8):
        texts.append(label_studio(brush | {"rle": encoded}))
    for far in (1e9, float("nan"), float("inf"), 10**400, "x", None):
        texts.append(label_studio(polygon | {"points": [[10, 10], [50, 10], [50, far]]}))
    check(tmp_path, {f"{number}.json": (text, "corrected") for number, text in enumerate(texts)})


def test_valid_files_are_read(tmp_path: Path) -> None:
    files = {
        "polygon.json": (coco(), "truth"),
        "rle.json": (coco(COMPRESSED, area=5.5, bbox=[1, 2, 3, 4]), "truth"),
        "runs.json": (coco({"size": [20, 30], "counts": [100, 50, 450]}), "truth"),
        "float.json": (coco(width="30.0", height="20.0"), "corrected"),
        "text.json": (coco([["2", "2", "9", "2", "9", "9"]], width='"30"', height='"20.0"'), "truth"),
        "points.json": (coco([[[2, 2], [9, 2], [9, 9]]]), "truth"),
        "cvat.xml": (cvat(cvat_mask()), "corrected"),
        "task.json": (
            label_studio({"points": [[10, 10], [50, 10], [50, 50]], "polygonlabels": ["dog"]}),
            "corrected",
        ),
    }
    assert set(answers(tmp_path, files).values()) == {"read"}


def test_a_mask_image_that_is_not_finite(tmp_path: Path) -> None:
    values = np.zeros((4, 4), dtype=np.float32)
    values[1, 1] = np.nan
    Image.fromarray(values).save(tmp_path / "a.tiff")
    with pytest.raises(FormatError, match=r"a\.tiff: not a mask image .*not finite"):
        read_ground_truth(tmp_path)


def test_an_image_that_states_no_size_and_could_not_be_read(tmp_path: Path) -> None:
    """The size of a labeled image that could not be read is 0 x 0, which no ground truth can have."""
    text = coco().replace('"width": 30, "height": 20', '"license": 1')
    (tmp_path / "truth.json").write_text(text)
    with pytest.raises(
        FormatError, match=r"a\.png states no width and height, and the labeled image could not be read"
    ):
        read_ground_truth(tmp_path / "truth.json", lambda: {"a.png": (0, 0)})
    assert read_ground_truth(tmp_path / "truth.json", lambda: {"a.png": (30, 20)}).images[0].width == 30
