"""``labeler preview``: a few images labeled and drawn on one sheet, the quick look before the long run."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from labeler.errors import UsageError
from labeler.files.writable import check_writable
from workflows.dataset.labeled import open_labeled
from workflows.dataset.nothing_accepted import CandidateTally
from workflows.recording import Progress, recorded
from workflows.settings.engine import EngineConfig
from workflows.settings.job import LabelJob
from workflows.settings.pages import PREVIEW_IMAGES, PREVIEW_MOST

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class PreviewSummary:
    """What a preview found.

    Attributes:
        verdicts: instances by verdict.
        failures: (image id, error).
        nothing_accepted: what to tell where nothing was accepted, at all or of a class.
    """

    path: Path
    images: int
    verdicts: Counter[str]
    failures: list[tuple[str, str]]
    nothing_accepted: list[str]


def preview(job: LabelJob, path: Path, progress: Progress) -> PreviewSummary:
    """Label the images of ``job``, in this process, and write one sheet of them; nothing else stays.

    Args:
        job: its output is not used; ``sample`` says how many images.

    Raises:
        UsageError: ``path`` is not that of a picture; and what ``label`` raises.
    """
    if (job.sample or PREVIEW_IMAGES) > PREVIEW_MOST:
        raise UsageError(
            f"--images {job.sample} are too many for one sheet; take {PREVIEW_MOST} or fewer, or label them all"
        )
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"-o {path}: the sheet is a picture; give it a name that ends in {', '.join(SUFFIXES)}")
    check_writable(path.parent)
    from workflows.drawing.sheets import BEST_REJECTED, write_sheet

    with tempfile.TemporaryDirectory(prefix="labeler-") as folder:
        job = replace(job, output=Path(folder, "run"), engine=EngineConfig("local"))
        with recorded(job, progress):
            pass
        labeled = open_labeled(job.output)
        judged = list(labeled.judged())
        names, score = labeled.ontology.class_names, labeled.export.quality.score
        write_sheet(judged, labeled.root, names, path, BEST_REJECTED, score, labeled.settings.reading)
    tally = CandidateTally(labeled.export.quality, labeled.ontology.classes)
    for record, judgements in judged:
        tally.add(record, judgements)
    verdicts = Counter[str](judgement.verdict for _, judgements in judged for judgement in judgements)
    failures = [(record.image_id, record.error) for record, _ in judged if record.status == "error"]
    told = tally.lines(labeled.settings.floor, job.model.detector)
    return PreviewSummary(path, len(judged), verdicts, failures, told)
