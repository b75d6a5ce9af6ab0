"""``labeler preview``: one sheet, the same images every time, and nothing left behind."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from labeler.errors import ImageError, UsageError
from labeler.files.images import image_size, read_image
from labeler.geometry.masks import mask_to_rle, rle_area, rle_box_xyxy
from labeler.models.config import ModelConfig
from labeler.quality import Judgement
from labeler.quality_config import QualityConfig
from labeler.records import ImageRecord, Instance
from ontologies import Ontology
from tests.support.command_line import CLASSES, Run
from tests.support.samples import sample_of
from tests.support.stand_in import Silent, StandIn
from workflows.drawing.sheets import CAPTION, CELL, COLUMNS, LEGEND, write_sheet
from workflows.reporting.preview import preview
from workflows.settings.export import ExportConfig
from workflows.settings.job import LabelJob


def a_job(images: Path, sample: int | None = 8, **quality: float) -> LabelJob:
    model = ModelConfig("embedded:detector", "embedded:segmenter", device="cpu")
    export = ExportConfig(quality=QualityConfig(**quality))  # type: ignore[arg-type]
    return LabelJob(str(images), Path(), Ontology.from_text("bright"), model, export, sample=sample, labeler=StandIn())


def cells_of(path: Path) -> list[np.ndarray]:
    sheet = np.asarray(Image.open(path).convert("RGB"))
    assert sheet[-LEGEND:].min() < 100  # the legend
    sheet = sheet[:-LEGEND]
    rows, columns = sheet.shape[0] // (CELL + CAPTION), sheet.shape[1] // CELL
    assert sheet.shape[:2] == (rows * (CELL + CAPTION), columns * CELL)
    return [
        sheet[row * (CELL + CAPTION) : (row + 1) * (CELL + CAPTION), column * CELL : (column + 1) * CELL]
        for row in range(rows)
        for column in range(columns)
    ]


def plain(path: Path, side: int = CELL) -> np.ndarray:
    return np.asarray(cv2.resize(read_image(path).pixels, (side, side), interpolation=cv2.INTER_CUBIC))


def test_the_sheet_shows_the_images_that_a_sample_takes(scenes: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in scenes.iterdir())
    summary = preview(a_job(scenes, sample=5, min_score=0.5, accept_score=0.0), tmp_path / "sheet.png", Silent())
    assert summary.images == 5
    assert summary.verdicts == {"accept": 5}
    cells = cells_of(tmp_path / "sheet.png")
    assert len(cells) == 2 * COLUMNS
    for name, cell in zip(sample_of(names, 5), cells, strict=False):
        original = plain(scenes / name)
        changed = np.abs(cell[:CELL].astype(int) - original).max(axis=2) > 8
        bright = plain(scenes / name).mean(axis=2) > read_image(scenes / name).pixels.mean()
        edge = cv2.morphologyEx(bright.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)) > 0
        assert changed[edge].mean() > 0.8  # the outline runs around what is bright
        assert changed[bright].mean() < 0.5  # whose colour is still to be seen
        assert cell[CELL:].min() < 100  # a caption
    for cell in cells[5:]:
        assert cell.min() == 255
    preview(a_job(scenes, sample=5, min_score=0.5, accept_score=0.0), tmp_path / "again.png", Silent())
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "sheet.png").read_bytes()


def test_accepted_and_review_are_outlined_and_the_best_rejected_are_dashed(tmp_path: Path) -> None:
    grey = np.full((320, 320, 3), 90, np.uint8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    scale = CELL / 320

    def instance(left: int, top: int, score: float = 0.5) -> Instance:
        mask = np.zeros((320, 320), np.bool_)
        mask[top : top + 40, left : left + 40] = True
        rle = mask_to_rle(mask)
        return Instance(0, "box", rle_box_xyxy(rle), score, 0.5, 0.5, rle_area(rle), rle)

    placed = {
        (20, 60): Judgement("accept"),
        (120, 60): Judgement("review", "uncertain"),
        (220, 60): Judgement("reject", "low score"),  # the best but one
        (222, 62): Judgement("reject", "low score"),  # at the same place
        (20, 200): Judgement("reject", "too small"),  # the best
        (120, 200): Judgement("reject", "duplicate"),  # a duplicate is not drawn
        (220, 200): Judgement("reject", "low score"),  # the worst
    }
    scores = dict(zip(placed, (0.9, 0.5, 0.4, 0.3, 0.45, 0.44, 0.1), strict=True))
    record = ImageRecord("grey.png", 320, 320, "", instances=tuple(instance(*at, scores[at]) for at in placed))

    def drawn(rejected: int) -> np.ndarray:
        write_sheet([(record, list(placed.values()))], tmp_path, ["box"], tmp_path / "sheet.png", rejected)
        (cell,) = cells_of(tmp_path / "sheet.png")
        return cell[:CELL].astype(int)

    def share(pixels: np.ndarray, left: int, top: int, margin: int = 0) -> float:  # in the object, off its edge
        x1, y1, x2, y2 = (round(each * scale) for each in (left, top, left + 40, top + 40))
        return float(pixels[y1 + margin : y2 - margin, x1 + margin : x2 - margin].mean())

    picture = drawn(rejected=2)
    coloured = picture.max(axis=2) > 150  # neither the grey image nor the dark casing of the lines
    assert 0 < share(coloured, 120, 60) < share(coloured, 20, 60) < 0.3  # the accepted one's line is thicker
    for at in ((220, 60), (20, 200)):
        assert 0.2 < share(coloured, *at) / share(coloured, 20, 60) < 0.8  # half of a line is drawn
    assert share(coloured, 220, 200) == share(coloured, 120, 200) == 0  # the worst, and a duplicate
    changed = np.abs(picture - 90).max(axis=2) > 8
    assert {share(changed, *at, margin=12) for at in placed} == {0.0}  # no fill: the objects keep their colour
    for left, top in ((20, 60), (120, 60), (220, 60), (20, 200)):  # the names
        assert changed[round((top - 14) * scale) : round(top * scale) - 4, round(left * scale) :][:, :60].any()
    review = picture[round(60 * scale) :, round(120 * scale) :][:60, :60].reshape(-1, 3)
    assert (review[:, 0] > review[:, 2] + 100).any()  # amber, not blue: RGB and not BGR
    without = np.abs(drawn(rejected=0) - 90).max(axis=2) > 8
    assert not without[:, round(200 * scale) :].any()
    assert not without[round(140 * scale) :].any()


def test_what_to_try_is_said_when_nothing_was_accepted(scenes: Path, tmp_path: Path) -> None:
    strict = preview(a_job(scenes, accept_score=0.99), tmp_path / "sheet.png", Silent())
    (flag, *_) = [line for line in strict.nothing_accepted if "would accept the best" in line]
    score = float(flag.split()[1])
    assert flag.startswith("--accept-score")
    assert preview(a_job(scenes, accept_score=score), tmp_path / "sheet.png", Silent()).verdicts["accept"] > 0


def test_a_large_image_is_shrunk_before_it_is_drawn_on(tmp_path: Path) -> None:
    """Else names and lines of a photograph would be too thin to see."""
    (tmp_path / "images").mkdir()
    pixels = np.zeros((900, 3000, 3), np.uint8)
    pixels[300:600, 1000:2000] = 250
    Image.fromarray(pixels).save(tmp_path / "images" / "wide.png")
    preview(a_job(tmp_path / "images"), tmp_path / "sheet.jpg", Silent())
    assert image_size(tmp_path / "sheet.jpg") == (CELL, CELL + CAPTION + LEGEND)
    (cell,) = cells_of(tmp_path / "sheet.jpg")
    name = cell[: CELL // 2 - 28, 150:330].astype(int)  # above the object
    assert (np.ptp(name, axis=2) > 60).sum() > 500


def test_an_image_that_cannot_be_read_is_shown_as_such(scenes: Path, tmp_path: Path) -> None:
    (scenes / "torn.jpg").write_bytes(b"no image")
    summary = preview(a_job(scenes, sample=None), tmp_path / "sheet.png", Silent())
    assert summary.images == 7
    assert [image_id for image_id, _ in summary.failures] == ["torn.jpg"]
    with pytest.raises(ImageError):
        read_image(scenes / "torn.jpg")
    with pytest.raises(UsageError, match=r"-o .*sheet\.pdf: the sheet is a picture"):
        preview(a_job(scenes), tmp_path / "sheet.pdf", Silent())


@pytest.fixture
def run(tmp_path: Path, labeler: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command in ``tmp_path``, with temporary files in ``scratch``."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setenv("RAY_TMPDIR", str(scratch))
    monkeypatch.chdir(tmp_path)
    return partial(labeler, "preview")


def test_the_command_leaves_the_sheet_and_nothing_else(scenes: Path, tmp_path: Path, run: Run) -> None:
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    done = run(scenes, "--classes", CLASSES, "--model", "demo", "--device", "cpu", "--images", 3)
    assert done.returncode == 0, done.stderr
    assert "rejected in 3 images; preview.png" in done.stdout
    assert "preview.png" in done.stdout
    assert {path for path in tmp_path.rglob("*") if path.is_file()} - before == {tmp_path / "preview.png"}
    left = {path.name for path in (tmp_path / "scratch").iterdir()}
    assert not {name for name in left if name.startswith(("labeler", "ray"))}
    assert len(cells_of(tmp_path / "preview.png")) == 3


def test_what_is_wrong_is_said_in_a_line(scenes: Path, tmp_path: Path, run: Run) -> None:
    for arguments, says in (
        ((scenes, "--model", "demo"), "say what to look for"),
        (
            (scenes, "--model", "demo", "--classes", "star", "--images", 0),
            "--images must be a whole number from 1 to 100",
        ),
        ((tmp_path / "scratch", "--model", "demo", "--classes", "star"), "no image found"),
    ):
        done = run(*arguments)
        assert done.returncode in (2, 3)
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert says in done.stderr
    assert not (tmp_path / "preview.png").exists()
