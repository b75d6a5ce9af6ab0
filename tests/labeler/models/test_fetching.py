"""Downloading models ahead of a run, from a local server that speaks the hub's interface."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labeler.errors import ModelError, UsageError
from labeler.models import fetching
from labeler.models.fetching import fetch, needed_files
from labeler.models.identity import WEIGHTS
from tests.support.model_hub import COMMIT, model_hub

FETCH = """
import sys
from labeler.models import config
config.PRESETS["fast"] = config.Preset("someone/detector", "someone/segmenter", "")
from labeler.__main__ import main
sys.exit(main())
"""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    """Its address, and what it was asked for; its models are the embedded ones, and files that no loader reads."""
    models = {}
    for role in ("detector", "segmenter"):
        models[f"someone/{role}"] = folder = tmp_path_factory.mktemp(role)
        for path in (WEIGHTS / role).iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        for unread in ("pytorch_model.bin", "original.pt", "README.md", "model.onnx"):
            (folder / unread).write_bytes(b"not needed")
    with model_hub(models | {"someone/gated": models["someone/detector"]}, gated=("someone/gated",)) as served:
        yield served


def run(endpoint: str, home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    settings = {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", FETCH, "models", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | settings | variables)


def test_a_preset_into_a_folder(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    to = tmp_path / "models"
    done = run(hub[0], tmp_path / "home", "--fetch", "fast", "--to", str(to))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"to use them: --detector {to / 'detector'} --segmenter {to / 'segmenter'}"
    for role in ("detector", "segmenter"):  # byte for byte the embedded models, which load, and no file more
        assert contents_of(to / role) == contents_of(WEIGHTS / role)


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_one_model_into_the_cache_where_it_is_found(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    done = run(hub[0], tmp_path, "--fetch", "someone/segmenter")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "to use it: someone/segmenter"), done.stderr
    snapshot = tmp_path / "hub" / "models--someone--segmenter" / "snapshots" / COMMIT
    assert (snapshot / "model.safetensors").is_file()
    assert not (snapshot / "pytorch_model.bin").exists()


def test_a_model_that_is_not_there(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    done = run(hub[0], tmp_path, "--fetch", "someone/nothing")
    assert done.returncode == 2
    assert done.stderr.startswith("labeler: someone/nothing cannot be downloaded: the hub has no such model")
    assert done.stderr.count("\n") == 1


def test_a_gated_model(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    """Whether it is fetched ahead or named in a run, it is one line, told before anything is read or downloaded."""
    told = (
        f"is gated; ask for access on its page, {hub[0]}/someone/gated, then log in with `hf auth login` or set "
        "HF_TOKEN\n"
    )
    done = run(hub[0], tmp_path, "--fetch", "someone/gated", "--to", str(tmp_path / "models"))
    assert (done.returncode, done.stderr) == (2, f"labeler: someone/gated {told}")
    settings = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": hub[0], "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
    done = subprocess.run(
        [sys.executable, "-c", GATED], capture_output=True, text=True, env=os.environ | settings, cwd=tmp_path
    )
    assert done.stdout == f"detector 'someone/gated' {told}" * 3, done.stderr


GATED = """
from labeler.errors import ModelError
from labeler.models import checkpoints
from labeler.models.config import ModelConfig
from labeler.models.loading import load_sam3

def told(call, *arguments):
    try:
        call(*arguments)
    except ModelError as error:
        print(error)

config = ModelConfig("someone/gated", "", device="cpu")
told(checkpoints.check_available, "someone/gated", "detector")
told(load_sam3, config)
checkpoints.ask_hub = lambda name, revision: None  # the hub may say so as late as at the first file
told(load_sam3, config)
"""


def test_without_a_network(tmp_path: Path) -> None:
    done = run("http://127.0.0.1:9", tmp_path, "--fetch", "fast")  # no server listens on the discard port
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert "the hub does not answer" in done.stderr


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("fastest", UsageError, r"give a preset \(demo, fast, balanced, best, sam3\) or a hub id"),
        ("demo", UsageError, "ship with the package"),
        ("./folder", UsageError, "give a preset"),
        ("fast", ModelError, "HF_HUB_OFFLINE is set"),
    ],
)
def test_what_cannot_be_fetched(
    name: str, error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "may_fetch", lambda: False)
    with pytest.raises(error, match=message):
        fetch(name)


def test_a_folder_of_the_user_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "may_fetch", lambda: True)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("mine")
    with pytest.raises(UsageError, match="give another folder to --to"):
        fetch("someone/model", tmp_path)
    assert (tmp_path / "model" / "config.json").read_text() == "mine"


def test_a_full_disk_is_seen_before_the_download(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"GB free, and the model takes 1000000\.0 GB"):
        fetching._check_space(10**15, tmp_path / "not" / "there" / "yet")


@pytest.mark.parametrize(
    ("names", "needed"),
    [
        ("config.json model.safetensors pytorch_model.bin sam2.pt", "config.json model.safetensors"),
        ("config.json pytorch_model.bin flax_model.msgpack", "config.json pytorch_model.bin"),
        ("model.safetensors.index.json model-00001-of-00002.safetensors model.fp16.safetensors vocab.txt",
         "model.safetensors.index.json model-00001-of-00002.safetensors vocab.txt"),
        ("config.json onnx.onnx", ""),
    ],
)  # fmt: skip
def test_only_what_the_loader_reads(names: str, needed: str) -> None:
    assert set(needed_files(dict.fromkeys(names.split(), 1))) == set(needed.split())
