"""Images of more than 8 bits: what trainers make of their files, as OpenCV reads them, and how pictures show them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from labeler.files.image_config import ImageConfig, Intensity
from labeler.files.images import ImageFile
from tests.support.stand_in import Silent, stand_in_job
from workflows.dataset.labeled import open_labeled
from workflows.drawing.sheets import CELL, write_sheet
from workflows.label import label
from workflows.run.reading import kept_deep_line, reading_figures

RAMP = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
INSIDE = slice(40, CELL // 2 - 20), slice(40, CELL - 40)  # of a cell of a sheet, off the outline of the bright half


@pytest.mark.parametrize(("intensity", "is_darker"), [("auto", True), ("percentile", True), ("full", False)])
def test_12_bits_in_16(intensity: Intensity, is_darker: bool, tmp_path: Path) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    Image.fromarray(RAMP).save(images / "deep.png")
    Image.fromarray((RAMP >> 4).astype(np.uint8)).save(images / "plain.png")
    Image.fromarray(RAMP).save(images / "other.pgm", format="PPM")  # the dataset has it as an 8-bit PNG
    reading = ImageConfig(intensity)
    done = label(stand_in_job(images, out, reading=reading), Silent()).labeled
    (file,) = out.glob("images/*/deep.png")
    as_labeled = ImageFile(images / "deep.png", config=reading).read()
    for_trainers = cv2.imread(str(file))
    assert (np.abs(for_trainers.astype(int) - as_labeled.pixels).max() > 1) == is_darker
    assert kept_deep_line(done)[:27] == ("1 image of more than 8 bits" if is_darker else "")
    assert reading_figures({}, done)["kept_deep"] == is_darker

    labeled = open_labeled(out)
    assert (labeled.image("deep.png", as_labeled.digest).pixels == as_labeled.pixels).all()
    judged = [each for each in labeled.judged() if each[0].image_id == "deep.png"]
    write_sheet(judged, labeled.root, ["thing"], tmp_path / "sheet.png", reading=labeled.settings.reading)
    cell = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB"))[INSIDE]
    shown = cv2.resize(as_labeled.pixels, (CELL, CELL), interpolation=cv2.INTER_CUBIC)[INSIDE]
    assert np.abs(cell.astype(int) - shown).mean() < 3
