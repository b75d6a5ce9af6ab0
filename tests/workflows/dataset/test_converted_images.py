"""Images that a dataset has as PNG, since trainers cannot read the originals, over the life of the dataset."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from tests.support.command_line import run_in_process
from tests.support.stand_in import Silent, stand_in_job
from workflows.label import label
from workflows.settings.export import ExportConfig

COUNT = 8


def files_of(out: Path) -> dict[str, Path]:
    """The image files of a dataset, by name; each with its label in the same split."""
    found = sorted((out / "images").rglob("*.png"))
    files = {path.name: path for path in found}
    assert len(files) == len(found), "an image is in two splits"
    labels = {path.relative_to(out / "labels").with_suffix(".png") for path in (out / "labels").rglob("*.txt")}
    assert labels == {path.relative_to(out / "images") for path in found}
    return files


def test_the_life_of_converted_images(tmp_path: Path) -> None:
    images, out = tmp_path / "in", tmp_path / "out"
    images.mkdir()
    for number in range(COUNT):
        Image.new("RGB", (30, 20), (number * 20, 7, 200)).save(images / f"{number}.gif")
    label(stand_in_job(images, out, export=ExportConfig(val_share=0.3, link="copy")), Silent())
    first = files_of(out)
    assert len(first) == COUNT
    contents = {name: path.read_bytes() for name, path in first.items()}

    run_in_process("export", out, "--val-share", "0.9", "--resplit")
    second = files_of(out)
    assert {name: path.read_bytes() for name, path in second.items()} == contents
    moved = [name for name in second if second[name] != first[name]]
    assert moved

    edited = moved[0]
    Image.new("RGB", (30, 20), "white").save(second[edited])
    contents[edited] = second[edited].read_bytes()
    done = run_in_process("export", out, "--val-share", "0.1", "--resplit")
    third = files_of(out)
    assert third[edited] == second[edited]
    assert {name: path.read_bytes() for name, path in third.items()} == contents
    assert any(third[name] != second[name] for name in third)
    assert edited in done.stdout + done.stderr

    for original in images.iterdir():
        original.unlink()
    run_in_process("export", out, "--val-share", "0.5", "--resplit")
    assert {name: path.read_bytes() for name, path in files_of(out).items()} == contents
