"""What is handed over when a labeling is to run elsewhere: its place, its flags and its ontology, never an image."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from labeler.files.storage import is_uri
from ontologies import Ontology, write_ontology

NAME = r"[a-z]([a-z0-9-]{0,34}[a-z0-9])?"  # KubeRay's RayCronJob allows no more, for what it appends


@dataclass(frozen=True)
class Submission:
    """A labeling that is to run elsewhere.

    Attributes:
        images, output: URIs, or absolute paths as the place of the run has them.
        ontology: that of a file, which may be nowhere else; None for a list of words, which is one of the flags.
        engine: of the ``label`` command there; None for its default.
        flags: the other flags of that command, by name.
    """

    images: str
    output: str
    ontology: Ontology | None
    engine: str | None
    flags: dict[str, Any]

    def write(self, folder: Path) -> None:
        """Put the configuration into ``folder``: ``job.toml`` and ``ontology.toml``."""
        # Values of single classes are pairs on the command line, and a table in the file.
        named = {
            name.replace("_", "-"): dict(value) if name.startswith("class_") else value
            for name, value in self.flags.items()
        }
        (folder / "job.toml").write_text(tomli_w.dumps(named), encoding="utf-8")
        if self.ontology:
            write_ontology(folder / "ontology.toml", self.ontology)

    def arguments(self, folder: str = "") -> list[str]:
        """What ``labeler label`` is told where ``write`` has written to ``folder``; "" is the working directory."""
        ontology = ["--ontology", os.path.join(folder, "ontology.toml")] if self.ontology else []
        engine = ["--engine", self.engine] if self.engine else []
        return [self.images, "-o", self.output, "--config", os.path.join(folder, "job.toml"), *ontology, *engine]


def submission_from(options: dict[str, Any], ontology: Ontology | None, place: Callable[[str], str]) -> Submission:
    """What the flags of ``label`` in ``options`` ask for.

    Args:
        ontology: the one that ``options`` name by a file; None for a list of words, which would state as a file that
            its classes have no ``min_score`` of their own.
        place: says what a location is called where the job runs.
    """
    named_apart = ("images", "output", "engine", "config", "ontology")
    flags = {name: value for name, value in options.items() if name not in named_apart}
    for name in ("detector", "segmenter", "tagger_model", "vocabulary"):
        location = str(flags.get(name, ""))
        if location.startswith((".", "/", "~")) or os.path.exists(location):
            flags[name] = place(location)
    images, output = place(str(options["images"])), place(str(options["output"]))
    return Submission(images, output, ontology, options.get("engine"), flags)


def absolute(location: str) -> str:
    """A path made absolute, since the job runs in another folder; a URI as it is."""
    return location if is_uri(location) else os.path.abspath(os.path.expanduser(location))


def name_for(output: str) -> str:
    """The same name for the same output, so that a second start meets the first."""
    last = re.sub(r"[^a-z0-9]+", "-", output.rstrip("/").rpartition("/")[2].lower()).strip("-")[:20].strip("-")
    return f"labeler-{last or 'job'}-{hashlib.sha256(output.encode()).hexdigest()[:6]}"
