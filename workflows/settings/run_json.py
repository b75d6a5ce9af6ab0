"""``run.json``: what a run folder's labels and dataset were made with. Read and written here alone."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from labeler.errors import FormatError, RunError
from labeler.files.storage import write_bytes
from labeler.migrations import read_json
from labeler.sizes import finite_number

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

_NUMBER = (int, float)
_NONE = type(None)


class RunJson:
    """The file ``run/run.json`` of the run folder ``output``."""

    def __init__(self, output: AnyPath) -> None:
        self.output = output
        self.path = output / "run" / "run.json"

    def read(self) -> dict[str, Any]:
        """The content of the file, of the shape that ``check_settings`` describes.

        Raises:
            RunError: this is no run folder, or the file is damaged or was written by a newer labeler.
        """
        try:
            settings = read_json("run.json", self.path)
            check_settings(settings)
        except FileNotFoundError:
            raise RunError(
                f"{self.output} holds no run (there is no {self.path}); label images into it first"
            ) from None
        except (FormatError, ValueError) as error:
            cause = str(error).removeprefix(f"{self.path}: ")
            raise RunError(
                f"{self.path} is damaged ({cause}); put back a copy of it, or label all again with --restart"
            ) from None
        return settings

    def write(self, settings: dict[str, Any]) -> None:
        write_bytes(self.path, encode_settings(settings))


def encode_settings(content: dict[str, Any]) -> bytes:
    """``content`` as ``run.json`` holds it.

    Raises:
        ValueError: it holds text that is no Unicode, or is nested too deep.
    """
    try:
        return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()
    except RecursionError:
        raise ValueError("nested too deep") from None


def check_settings(content: dict[str, Any]) -> None:
    """Check that ``content`` has what labeling writes into ``run.json``; unknown keys are left alone.

    Raises:
        ValueError: something is missing or of another type; the message names it.
    """
    encode_settings(content)  # commands write it back
    _check(content, "input", str)
    _check(content, "labeling", dict)
    if "tagging" in content["labeling"]:
        _check(content["labeling"], "tagging", dict, _NONE, of="labeling")
    _check(content, "model", dict)
    _check(content["model"], "floor", *_NUMBER, of="model")
    finite_number(content["model"]["floor"], "floor of model")
    _check(content, "ontology", dict, _NONE)
    if (ontology := content["ontology"]) is not None:
        _check_texts(ontology, "distractors", of="ontology")
        _check(ontology, "classes", list, of="ontology")
        for number, spec in enumerate(ontology["classes"], start=1):
            of = f"class {number} of ontology"
            if type(spec) is not dict:
                raise ValueError(f"{of} is {_kind(spec)}")
            _check(spec, "name", str, of=of)
            _check_texts(spec, "prompts", of=of)
            _check(spec, "min_score", *_NUMBER, _NONE, of=of)
    if "export" not in content:  # what it holds is checked by workflows.settings.dataset, which can reset it
        raise ValueError("export is missing")


def _check(content: dict[str, Any], name: str, *types: type, of: str = "") -> None:
    what = f"{name} of {of}" if of else name
    if name not in content:
        raise ValueError(f"{what} is missing")
    if type(content[name]) not in types:
        raise ValueError(f"{what} is {_kind(content[name])}")


def _check_texts(content: dict[str, Any], name: str, of: str) -> None:
    _check(content, name, list, of=of)
    if not all(type(text) is str for text in content[name]):
        raise ValueError(f"{name} of {of} must be text")


def _kind(value: object) -> str:
    """What a JSON value of the wrong type is, shortly."""
    if isinstance(value, (dict, list)):
        return "a table" if isinstance(value, dict) else "a list"
    return f"{value!r:.40}"
