"""What is handed over when a labeling is to run elsewhere: its locations, flags and ontology, never an image."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import tomli_w

from labeler.files.paths import is_uri
from labeler.models.kinds.autodistill import names_path
from ontologies import Ontology, write_ontology
from workflows.settings.engine import EngineConfig

DEFAULT_ADDRESS = "http://127.0.0.1:8265"  # of the Jobs API of a cluster on this machine
NAME = r"[a-z]([a-z0-9-]{0,34}[a-z0-9])?"  # KubeRay's RayCronJob allows no more, for what it appends


@dataclass(frozen=True)
class Submission:
    """A labeling that is to run elsewhere.

    Attributes:
        images, output: URIs, or paths.
        ontology: that of a file, which may be nowhere else; None for a list of words, which is one of the flags: as a
            file it would state that its classes have no ``min_score`` of their own.
        engine: of the ``label`` command there; None for its default.
        workers: how many there are to be and of what size.
        flags: the other flags of that command that were given, by the keys of configuration files.
    """

    images: str
    output: str
    ontology: Ontology | None
    engine: str | None
    workers: EngineConfig
    flags: Mapping[str, Any]

    def on_ray(self) -> Submission:
        """This by the Ray engine, unless another one was asked for."""
        return self if self.engine else replace(self, engine="ray")

    def located(self, place: Callable[[str], str]) -> Submission:
        """This with every location as ``place`` says that it is called where the job runs."""
        flags = dict(self.flags)
        for name in ("detector", "verify", "segmenter", "boxes", "tagger-model", "vocabulary", "labeler-env"):
            location = str(flags.get(name, ""))
            if location.startswith((".", "/", "~")) or os.path.exists(location):
                flags[name] = place(location)
        if arguments := flags.get("labeler-args"):
            flags["labeler-args"] = {
                name: place(text) if names_path(text) else text for name, text in arguments.items()
            }
        return replace(self, images=place(self.images), output=place(self.output), flags=flags)

    def write(self, folder: Path) -> None:
        """Put the configuration into ``folder``: ``job.toml`` and ``ontology.toml``."""
        (folder / "job.toml").write_text(tomli_w.dumps(self.flags), encoding="utf-8")
        if self.ontology:
            write_ontology(folder / "ontology.toml", self.ontology)

    def arguments(self, folder: str = "") -> list[str]:
        """What ``labeler label`` is told where ``write`` has written to ``folder``; "" is the working directory."""
        ontology = ["--ontology", os.path.join(folder, "ontology.toml")] if self.ontology else []
        engine = ["--engine", self.engine] if self.engine else []
        return [self.images, "-o", self.output, "--config", os.path.join(folder, "job.toml"), *ontology, *engine]


def absolute(location: str) -> str:
    """A path made absolute, since the job runs in another folder; a URI as it is."""
    return location if is_uri(location) else os.path.abspath(os.path.expanduser(location))


def name_for(output: str) -> str:
    """The same name for the same output, so that a second start meets the first."""
    last = re.sub(r"[^a-z0-9]+", "-", output.rstrip("/").rpartition("/")[2].lower()).strip("-")[:20].strip("-")
    return f"labeler-{last or 'job'}-{hashlib.sha256(output.encode()).hexdigest()[:6]}"
