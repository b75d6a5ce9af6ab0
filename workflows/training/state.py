"""What ``OUT/training/training.json`` holds: what a student is trained with, and what came of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from labeler.errors import FormatError, RunError
from labeler.files.storage import write_bytes
from labeler.migrations import VERSIONS, read_json
from labeler.models.students.config import TrainConfig
from workflows.training.data import Dataset

NAME = "training.json"
FREE = ("device",)  # settings that may change when training is resumed


@dataclass(frozen=True)
class State:
    """A training, begun or done.

    Attributes:
        settings: of ``TrainConfig``, by name.
        fingerprint: of the dataset, see ``workflows.training.data.fingerprint_of``.
        dataset_version: the name of the version of the dataset that is read; empty if it is the dataset itself.
        done: the model is trained.
        results: by what was measured, see ``Measured.to_json``.
    """

    dataset: str
    settings: Mapping[str, Any]
    fingerprint: str
    class_names: tuple[str, ...]
    dataset_version: str = ""
    done: bool = False
    results: Mapping[str, Any] = field(default_factory=dict)


def new_state(dataset: Dataset, config: TrainConfig) -> State:
    source = dataset.source
    return State(str(source.root), asdict(config), dataset.fingerprint, dataset.data.class_names, source.version)


def read_state(folder: Path) -> State | None:
    """The state in ``folder``; None if no training began there.

    Raises:
        RunError: it is damaged, or of a newer version.
    """
    path = folder / NAME
    if not path.exists():
        return None
    try:
        content = read_json("training.json", path)
        settings, results = content["settings"], content["results"]
        if not (isinstance(settings, dict) and isinstance(results, dict)):
            raise TypeError("'settings' and 'results' must be objects")
        return State(
            str(content["dataset"]), settings, str(content["fingerprint"]), tuple(map(str, content["class_names"])),
            str(content["dataset_version"]), content["done"] is True, results,
        )  # fmt: skip
    except (FormatError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged ({error}); add --restart to train anew") from None


def write_state(folder: Path, state: State) -> None:
    content = {"version": VERSIONS["training.json"], **asdict(state)}
    write_bytes(folder / NAME, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def check_same(output: Path, saved: State, now: State) -> None:
    """Refuse to resume a training that began with something else.

    Raises:
        RunError: it did.
    """
    way = "add --restart to train anew, or choose another folder with -o"
    for name, value in now.settings.items():
        if name not in FREE and saved.settings.get(name) != value:
            flag = f"--{name.replace('_', '-')}"
            raise RunError(f"{output} began with {flag} {saved.settings.get(name)}, not {value}; {way}")
    if saved.dataset != now.dataset:
        raise RunError(f"{output} is trained on {saved.dataset}, not on {now.dataset}; {way}")
    if saved.dataset_version != now.dataset_version:
        before, asked = (_version_in_words(each.dataset_version) for each in (saved, now))
        raise RunError(f"{output} is trained on {before} of {now.dataset}, not on {asked}; {way}")
    if saved.fingerprint != now.fingerprint:
        raise RunError(
            f"{now.dataset} was exported again since the training in {output} began; {way} (with "
            "`labeler export --version-datasets`, a training keeps the version that it began with)"
        )


def _version_in_words(name: str) -> str:
    return f"version {name}" if name else "the folder itself"
