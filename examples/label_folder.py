"""Label a folder of images, count what was found, and write the report.

    python examples/label_folder.py photos/ dataset/ "forklift, pallet"

This is what ``labeler label`` and ``labeler report`` do. Re-run it to resume, or to label new images.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console

from labeler.models.config import PRESETS, ModelConfig
from ontologies import Ontology
from workflows.commands.progress import ConsoleProgress
from workflows.dataset.labeled import open_labeled
from workflows.label import label
from workflows.reporting.report import report
from workflows.settings.job import LabelJob


def main(images: str, output: str, classes: str, preset: str = "balanced") -> None:
    models = PRESETS[preset]
    job = LabelJob(
        images=images,
        output=Path(output),
        ontology=Ontology.from_text(classes),
        model=ModelConfig(models.detector, models.segmenter),
    )
    progress = ConsoleProgress(Console())
    try:
        summary = label(job, progress)
    finally:
        progress.close()

    for name, verdicts in summary.dataset.verdicts.items():
        print(f"{name}: {verdicts['accept']} accepted, {verdicts['review']} to review, {verdicts['reject']} rejected")
    print(f"report: {report(open_labeled(job.output)).path}")


if __name__ == "__main__":
    main(*sys.argv[1:])
