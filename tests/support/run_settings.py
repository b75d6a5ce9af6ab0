"""Settings of run folders that are written by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ontologies import Ontology
from workflows.settings.export import ExportConfig
from workflows.settings.run_settings import RunSettings


def run_settings(
    root: object = "/",
    ontology: Ontology | None = None,
    export: ExportConfig | None = None,
    floor: float = 0.05,
    labeling: Mapping[str, Any] | None = None,
) -> RunSettings:
    """What a run folder keeps of a labeling of the images below ``root``; ``labeling`` is what decides the records."""
    return RunSettings(str(root), labeling or {}, ontology, {"floor": floor}, export or ExportConfig())
