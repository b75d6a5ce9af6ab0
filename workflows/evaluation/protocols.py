"""How published zero-shot tables are measured, so that their rows can be reproduced."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from labeler.errors import UsageError
from labeler.files.storage import is_uri, locate, read_bytes
from labeler.formats.ground_truth import read_ground_truth
from labeler.metrics.coco import LVIS_LIMIT
from workflows.dataset.labeled import open_labeled
from workflows.evaluation.evaluate import Evaluation, EvaluationConfig, evaluate
from workflows.evaluation.files import write_evaluation
from workflows.evaluation.tables import Rows, number

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

SET_KEYS = {"name", "output", "truth", "map"}


def config_for(protocol: str, config: EvaluationConfig | None = None) -> EvaluationConfig:
    """``config`` as the benchmark measures: ranked by detector score, every class of the truth counts, what people
    decided does not, and for LVIS the 300 best detections of an image."""
    config = config or EvaluationConfig()
    limit = LVIS_LIMIT if protocol == "lvis" else None
    measures = replace(config.measures, rank_by="detector", image_limit=limit)
    return replace(config, every_class=True, by_hand=False, measures=measures)


@dataclass(frozen=True)
class MeasuredSet:
    """One set of a benchmark of several."""

    name: str
    evaluation: Evaluation


def evaluate_sets(path: AnyPath) -> list[MeasuredSet]:
    """Measure each set that a TOML file lists, as SGinW does (Segmentation in the Wild, Zou et al. 2023: 25 sets).

    The figures of a set are left in its folder too.

    ::

        [[set]]
        name = "Airplane-Parts"                     # as the table shows it
        output = "labeled/airplane-parts"           # a labeled folder
        truth = "airplane-parts/valid/_annotations.coco.json"
        map = { jet = "airplane" }                  # labeled = truth, where class names differ

    Paths are relative to the file.

    Raises:
        UsageError: the file does not say that, or a set has no image or class in common with its truth.
        FormatError: a truth cannot be read.
    """
    found = []
    for each in _sets(path):
        name, below = each["name"], path.parent
        output, truth = (_below(below, each[key]) for key in ("output", "truth"))
        config = config_for("sginw", EvaluationConfig(each.get("map", {})))
        labeled = open_labeled(output)
        try:
            evaluation = evaluate(labeled, read_ground_truth(truth, labeled.run.sizes), config)
        except UsageError as error:
            raise UsageError(f"{path}: set {name}: {error}") from error
        write_evaluation(output / "evaluation", evaluation, labeled.image, str(truth), "sginw")
        found.append(MeasuredSet(name, evaluation))
    return found


def set_rows(sets: list[MeasuredSet]) -> Rows:
    """A line a set, and the mean over sets, which is the published figure."""
    rows = [["set", "images", "not compared", "failed", "classes not found", "mask AP", "box AP"]]
    for each in sets:
        of, total = each.evaluation, each.evaluation.measured.total
        left_out = len(of.only_true) + len(of.other_size)
        counts = [str(count) for count in (of.images, left_out, len(of.failed), len(of.classes_only_true))]
        rows.append([each.name, *counts, number(total.mask.ap), number(total.box.ap)])
    totals = [each.evaluation.measured.total for each in sets]
    mask = [each.mask.ap for each in totals if each.mask.ap is not None]
    box = [each.box.ap for each in totals if each.box.ap is not None]
    means = [number(fmean(values) if values else None) for values in (mask, box)]
    return [*rows, [f"mean of {len(sets)} sets", "", "", "", "", *means]]


def _sets(path: AnyPath) -> list[dict[str, Any]]:
    try:
        content = tomllib.loads(read_bytes(path).decode("utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); give a TOML file of sets") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid TOML ({error})") from None
    sets = content.get("set")
    if not isinstance(sets, list) or not sets:
        raise UsageError(f"{path}: lists no [[set]] with name, output and truth")
    for number_of_set, each in enumerate(sets, start=1):
        texts = isinstance(each, dict) and all(isinstance(each.get(key), str) for key in ("name", "output", "truth"))
        names = each.get("map", {}) if isinstance(each, dict) else {}
        mapped = isinstance(names, dict) and all(isinstance(value, str) for value in names.values())
        if not texts or not mapped or each.keys() - SET_KEYS:
            raise UsageError(f"{path}: set {number_of_set} must have name, output and truth, may have map, and no more")
    return sets


def _below(folder: AnyPath, place: str) -> AnyPath:
    return locate(place) if is_uri(place) or Path(place).is_absolute() else folder / place
