"""``--labeler module:class``: any ``DetectionBaseModel`` of autodistill."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import distribution, packages_distributions
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from labeler.errors import ModelError, UsageError
from labeler.models.config import ModelConfig
from labeler.models.identity import model_identity
from labeler.models.kinds.grounded_sam import segmenter_identity
from labeler.models.kinds.kind import NeededModel
from labeler.models.loading import SEGMENTER_TYPES
from ontologies.documents import DocumentError, parse_json

if TYPE_CHECKING:
    from labeler.models.labelers.labeler import Labeler

EXAMPLE = "autodistill_grounded_sam:GroundedSAM"
WORDS: Mapping[str, Any] = {"True": True, "False": False, "None": None}  # as Python writes them


@dataclass(frozen=True)
class AutodistillKind:
    """See ``labeler.models.labelers.autodistill``.

    Attributes:
        path: ``module:class``.
        arguments: of the class, as (name, text): JSON, or else text. A path becomes absolute.
        prompts: what the model is first made for; it does not decide the records.
        bgr_fix: give the SAM of ``autodistill_grounded_sam`` RGB, as it expects, and not BGR, as that package does.
        names_segmenter: the user chose the segmenter, so it must be there. Otherwise it is loaded when it is needed.
        environment: what Ray installs for the workers, as JSON, if anything; then the package may be there alone.
    """

    kind: ClassVar[str] = "autodistill"
    about: ClassVar[str] = "any DetectionBaseModel of autodistill; --labeler MODULE:CLASS names it"
    flags: ClassVar[tuple[str, ...]] = ("--labeler-args", "--no-bgr-fix", "--labeler-env", "--segmenter")

    path: str
    arguments: tuple[tuple[str, str], ...] = ()
    prompts: tuple[str, ...] = ("object",)
    bgr_fix: bool = True
    names_segmenter: bool = False
    environment: str = ""

    def __post_init__(self) -> None:
        if not is_class_path(self.path):
            raise UsageError(f"--labeler {self.path} is no MODULE:CLASS, such as {EXAMPLE}")
        if "ontology" in dict(self.arguments):
            raise UsageError("--labeler-args: the ontology comes from --classes or --ontology")
        object.__setattr__(self, "arguments", tuple((name, _absolute(text)) for name, text in self.arguments))

    def models(self, config: ModelConfig) -> Iterator[NeededModel]:
        if self.names_segmenter:
            yield NeededModel(config.segmenter, "segmenter", SEGMENTER_TYPES)

    def identity(self, config: ModelConfig) -> dict[str, Any]:
        return {
            "labeler": self.kind,
            "labeler_class": self.path,
            "labeler_args": [f"{name}={_argument_identity(text)}" for name, text in sorted(self.arguments)],
            "labeler_package": self.environment or _package(self.path),
            "bgr_fix": self.bgr_fix,
            **(segmenter_identity(config) if config.segmenter else {}),
        }

    def check(self) -> None:
        """Check the class and its arguments; its package is imported.

        Raises:
            ModelError: there is no such class, or it does not take the arguments.
        """
        if not self.environment:
            _module_spec(self.path)
            from labeler.models.labelers.autodistill import check_arguments

            check_arguments(self.path, self._values)

    def load(self, config: ModelConfig) -> Labeler:
        from labeler.models.labelers.autodistill import AutodistillLabeler
        from labeler.models.labelers.on_device import labeler_on_device
        from labeler.models.loading import load_segmenter

        labeler = AutodistillLabeler(
            self.path,
            self._values,
            self.prompts,
            lambda: load_segmenter(config),
            candidate_floor=config.floor,
            max_instances=config.max_instances,
            clean_share=config.clean_share,
            bgr_fix=self.bgr_fix,
        )
        return labeler_on_device(labeler, config)

    @property
    def _values(self) -> dict[str, Any]:
        return {name: argument_value(text) for name, text in self.arguments}


def is_class_path(text: str) -> bool:
    """Whether ``text`` has the form ``module:class``."""
    name = r"[^\W\d]\w*"
    return re.fullmatch(rf"{name}(\.{name})*:{name}", text) is not None


def argument_value(text: str) -> Any:
    """The value of an argument: JSON, ``True``, ``False`` and ``None`` as in Python, or else text."""
    if text in WORDS:
        return WORDS[text]
    try:
        return parse_json(text)
    except DocumentError:
        return text


def names_path(text: str) -> bool:
    """Whether the value of an argument is a path, as its form or a file of that name shows."""
    is_text = argument_value(text) == text
    return is_text and (text.startswith(("./", "../", "~/")) or os.path.isfile(text))


def _absolute(text: str) -> str:
    return os.path.abspath(os.path.expanduser(text)) if names_path(text) else text


def _argument_identity(text: str) -> str:
    """``text``; for a file, such as a checkpoint, the digest of its content."""
    value = argument_value(text)
    is_file = isinstance(value, str) and os.path.isfile(value)
    return model_identity(value) if is_file else json.dumps(value, sort_keys=True)


def _package(path: str) -> str:
    """Name and version of the package that holds a class, or the digest of its module's file; nothing is imported.

    Raises:
        ModelError: there is no such module.
    """
    spec = _module_spec(path)
    module = path.partition(":")[0]
    top = module.partition(".")[0]
    holders = [distribution(name) for name in sorted(set(_holders().get(top, ())))]
    # Some distributions hold a stray package, such as ``tests``, that another one of its name stands before.
    if own := [each for each in holders if Path(spec.origin or "").is_relative_to(str(each.locate_file("")))]:
        return ", ".join(f"{each.name} {each.version}" for each in own)
    if spec.origin and os.path.isfile(spec.origin):
        return f"blake2b:{hashlib.blake2b(Path(spec.origin).read_bytes(), digest_size=16).hexdigest()}"
    return module


@cache
def _holders() -> Mapping[str, list[str]]:
    return packages_distributions()  # reads the files of every distribution


def _module_spec(path: str) -> ModuleSpec:
    """Where the module of a class is; nothing is imported.

    Raises:
        ModelError: there is no such module.
    """
    module = path.partition(":")[0]
    top = module.partition(".")[0]
    spec = _spec(module)
    if spec is None:
        raise ModelError(
            f"--labeler {path}: there is no module {module} here; `pip install {top.replace('_', '-')}`, or see "
            "--labeler-env"
        )
    return spec


def _spec(module: str) -> ModuleSpec | None:
    top, *parts = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    name = top
    for part in parts:
        if spec is None or spec.submodule_search_locations is None:
            return None
        name = f"{name}.{part}"
        spec = PathFinder.find_spec(name, list(spec.submodule_search_locations))
    return spec
