"""Mistakes that are told before the images are listed: here, the images are not even there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from labeler.errors import UsageError
from labeler.files.writable import check_writable
from tests.support.command_line import Run
from tests.support.made_folder import write_labeled
from workflows.engines.ray_cluster import check_address


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file where a folder should be, and folders that are no models."""
    folder = tmp_path_factory.mktemp("folders")
    (folder / "file").touch()
    contents = {
        "bert": {"model_type": "bert"},
        "no-weights": {"model_type": "sam"},
        "fixed": {"model_type": "rf_detr", "id2label": {"0": "white star", "1": "boat"}},
        "empty": None,
    }
    for name, content in contents.items():
        (folder / name).mkdir()
        if content:
            (folder / name / "config.json").write_text(json.dumps(content))
    (folder / "checkpoint.pth").touch()
    return folder


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--detector /no/such/folder", "detector '/no/such/folder': no such folder"),
        ("--detector embedded:nothing", "the embedded models are embedded:detector, embedded:segmenter"),
        ("--detector {}/empty", "that folder holds no config.json of a model"),
        ("--detector {}/bert", "is of type 'bert'; known types: grounding-dino"),
        ("--detector embedded:segmenter", "is of type 'sam2'; known types: grounding-dino"),
        ("--detector {}/fixed", "was trained on; did you mean 'white star'? Its classes: white star, boat"),
        ("--detector {}/none.pt", "none.pt': no such checkpoint file"),
        ("--labeler sam3 --detector {}/none.pt", "none.pt': no such folder"),
        ("--verify auto", "without confidences, such as Florence-2, and not for MM-Grounding-DINO and LLMDet; leave"),
        ("--segmenter {}/no-weights", "that folder holds no weights"),
        ("--segmenter nobody/nothing", "segmenter 'nobody/nothing' is not on this machine and could not be downloaded"),
        ("--tagger vocabulary --tagger-model {}/empty", "that folder holds no config.json of a model"),
        ("--tagger ram", "--tagger ram needs --tagger-model FILE"),
        ("--tagger ram --tagger-model {}/none.pth", "none.pth: no such file"),
        ("--tagger ram --tagger-model {}/checkpoint.pth", "--tagger ram needs the package ram; run `pip install"),
        ("--address head", "--address head: give HOST:PORT"),
        ("--address 127.0.0.1:9", "no Ray cluster answers at 127.0.0.1:9"),
        ("-o {}/file/out", "file is not a folder; choose another -o"),
    ],
)
def test_label(flags: str, says: str, folders: Path, tmp_path: Path, labeler: Run) -> None:
    given = flags.format(folders).split()
    output = () if "-o" in given else ("-o", tmp_path / "out")
    command = ("label", "/no/such/images", "--classes", "star", "--model", "demo", *output, *given)
    done = labeler(*command)
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_classes_that_the_masks_of_a_format_cannot_hold(tmp_path: Path, labeler: Run) -> None:
    many = ", ".join(f"thing {number}" for number in range(255))
    for classes, formats, says in (
        (many, "yolo,semantic,voc", "--formats voc,semantic: masks with a class per pixel hold 254 classes, not 255"),
        ("dog, background", "voc", "--formats voc: class 'background': labelmap.txt cannot hold the name"),
    ):
        command = ("/no/such/images", "--model", "demo", "-o", tmp_path / "out", "--classes", classes)
        done = labeler("label", *command, "--formats", formats)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert says in done.stderr
    out = write_labeled(tmp_path, ["0.png", "1.png"], ("dog", "cat"), side=64)
    assert labeler("export", out, "--formats", "voc").returncode == 1  # one of them could not be read
    done = labeler("label", tmp_path / "images", "-o", out, "--model", "demo", "--classes", f"dog, cat, {many}")
    assert done.returncode == 2
    assert "--formats voc: masks with a class per pixel hold 254 classes, not 257" in done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_device_that_is_not_there(tmp_path: Path, labeler: Run) -> None:
    command = ("/no/such/images", "--model", "demo", "--device", "cuda")
    for name, more in (("label", ("--classes", "star")), ("tag", ("--tagger", "auto"))):
        done = labeler(name, *command, *more, "-o", tmp_path / "out.toml")
        assert (done.returncode, done.stderr) == (
            2, "labeler: device 'cuda' is not on this machine; use --device cpu or --device auto\n"
        )  # fmt: skip


def test_files_that_tag_and_preview_cannot_write(folders: Path, labeler: Run) -> None:
    for name, path in (("tag", "proposed.toml"), ("preview", "sheet.png")):
        done = labeler(name, "/no/such/images", "--model", "demo", "--tagger", "auto", "-o", folders / "file" / path)
        assert done.returncode == 2
        assert "file is not a folder; choose another -o" in done.stderr


def test_other_settings_than_the_records_have(tmp_path: Path, labeler: Run) -> None:
    out = write_labeled(tmp_path, ["0.png"], ("dog", "cat"), side=64)
    (tmp_path / "images" / "0.png").unlink()  # else the missing image would be what is told
    settings = ("--model", "demo", "--classes", "dog, cat", "--prompts-per-caption", 1)
    done = labeler("label", tmp_path / "images", "-o", out, *settings)
    assert done.returncode == 2
    assert "was labeled with another prompts_per_caption" in done.stderr


def test_a_run_with_nothing_new_needs_no_cluster() -> None:
    check_address("127.0.0.1:9", connect=False)
    for address in ("http://head:8265", "head", ":6379", "head:99999", "head:port"):
        with pytest.raises(UsageError, match="give HOST:PORT"):
            check_address(address, connect=False)


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_writable(tmp_path / "new" / "folder")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="dangling is not a folder; choose another -o"):
        check_writable(tmp_path / "dangling" / "out")
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root, who may run this, can write everywhere
    with pytest.raises(UsageError, match="cannot be written to; choose another -o"):
        check_writable(tmp_path / "new")
