"""What the summary says of the tools that read a dataset, against what they read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import supervision as sv
from PIL import Image

from tests.support.run_folders import ONTOLOGY, make_run, write_labels
from workflows.dataset.export import export
from workflows.run.folder import RunFolder
from workflows.settings.export import ExportConfig

NAMES = ["a.png", "sub/b.jpg", "sub/tiny.png", "film.gif", "deep.tif"]
YOLO = {"Ultralytics", "supervision (YOLO)", "RF-DETR (YOLO)"}


@pytest.fixture
def labeled(tmp_path: Path) -> tuple[RunFolder, Path]:
    run, root = make_run(tmp_path, NAMES, ())
    Image.new("RGB", (60, 9)).save(root / "sub" / "tiny.png")
    Image.fromarray(np.full((40, 60), 3000, np.uint16)).save(root / "deep.tif")
    write_labels(run, root, NAMES, ())
    return run, root


@pytest.mark.parametrize("layout", ["flat", "nested"])
def test_tools_see_what_the_summary_says(layout: str, labeled: tuple[RunFolder, Path]) -> None:
    run, root = labeled
    config = ExportConfig(val_share=0, formats=("yolo", "coco"), layout=layout)
    summary = export(run, root, ONTOLOGY, config)
    data = run.output / "images" / "train", run.output / "labels" / "train", run.output / "data.yaml"
    assert summary.seen["supervision (YOLO)"] == len(sv.DetectionDataset.from_yolo(*map(str, data)))
    assert summary.seen["Ultralytics"] == 4
    assert summary.seen.keys() > YOLO
    lines = "\n".join(summary.sights)
    assert "Ultralytics sees 4 of 5 images (1 smaller than 10 pixels); other than labeled: 1 high byte of 16" in lines
    assert ("supervision (YOLO) sees 3 of 5 images (2 in a subfolder)" in lines) == (layout == "nested")
    again = export(run, root, ONTOLOGY, config)
    assert (again.sights, again.seen) == (summary.sights, summary.seen)


def test_edited_and_damaged_images_are_looked_at(labeled: tuple[RunFolder, Path]) -> None:
    run, root = labeled
    config = ExportConfig(val_share=0, formats=("hf",), link="copy")
    assert export(run, root, ONTOLOGY, config).seen == {"datasets": 5}
    (run.output / "images" / "train" / "a.png").write_bytes(b"no image")
    for path in (run.path / "export-cache").glob("*.traits.json"):
        path.write_text('{"sub/b.jpg": 1, "deep.tif": [1, 2]}')
    summary = export(run, root, ONTOLOGY, config)
    assert summary.edited == ["images/train/a.png"]
    assert summary.seen == {"datasets": 4}
    assert "(1 cannot be read)" in summary.sights[0]


def test_no_tool_is_named_where_the_dataset_has_no_images(labeled: tuple[RunFolder, Path]) -> None:
    run, root = labeled
    summary = export(run, root, ONTOLOGY, ExportConfig(link="none"))
    assert (summary.sights, summary.seen) == ([], {})
    assert export(run, root, ONTOLOGY, ExportConfig(formats=("cutouts",))).sights == []
