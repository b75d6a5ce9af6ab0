"""Which files a training reads: those of a labeled folder, or of one of its versions, which nothing changes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from workflows.dataset.versions import LATEST, VERSIONS, is_version, latest_version
from workflows.run.folder import RunFolder


@dataclass(frozen=True)
class Source:
    """What a training reads.

    Attributes:
        root: the labeled folder, absolute.
        version: the name of the version that is read; empty to read the files in ``root`` itself.
    """

    root: Path
    version: str = ""

    @property
    def folder(self) -> Path:
        return self.root / VERSIONS / self.version if self.version else self.root


def find_source(path: Path, begun: str | None = None) -> Source:
    """What ``path`` names: a labeled folder, a version, or ``latest``.

    ``latest`` is looked up once. It is also what a labeled folder stands for whose settings ask for versions.

    Args:
        begun: the version that a training to be resumed began with, which is taken in place of ``latest`` if it is
            there; empty if it began without one.
    """
    path = Path(os.path.abspath(path))
    in_versions = path.parent.name == VERSIONS
    asks_latest = in_versions and path.name == LATEST and latest_version(path.parents[1]) != ""
    if not asks_latest:
        real = path if in_versions and is_version(path) else path.resolve()
        if real.parent.name == VERSIONS and is_version(real):
            return Source(real.parents[1], real.name)
    root = path.parents[1] if asks_latest else path
    if begun is not None and (not begun or is_version(root / VERSIONS / begun)):
        return Source(root, begun)
    return Source(root, latest_version(root) if asks_latest or _has_versions(root) else "")


def _has_versions(root: Path) -> bool:
    """Whether exports of ``root`` publish versions."""
    run = RunFolder(root)
    return run.settings.path.exists() and run.settings.read(("ontology", "export")).export.version_datasets
