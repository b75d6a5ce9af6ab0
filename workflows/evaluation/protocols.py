"""The protocols of published zero-shot benchmarks, so that their tables can be reproduced."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from labeler.errors import UsageError
from labeler.files.documents import read_limited
from labeler.files.paths import is_uri
from labeler.files.storage import locate
from labeler.formats.ground_truth import read_ground_truth
from labeler.metrics.coco import LVIS_LIMIT
from ontologies.documents import DocumentError, parse_toml
from workflows.dataset.labeled import open_labeled
from workflows.evaluation.evaluate import Evaluation, evaluate
from workflows.evaluation.files import write_evaluation
from workflows.evaluation.tables import Rows, number
from workflows.settings.evaluation import EvaluationConfig

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

SET_KEYS = {"name", "output", "ground_truth", "map"}


def config_for(protocol: str, config: EvaluationConfig | None = None) -> EvaluationConfig:
    """``config``, changed to what the benchmark prescribes.

    Candidates are ranked by detector score, every class of the ground truth counts, people's decisions do not count,
    and LVIS takes the 300 best detections per image.
    """
    config = config or EvaluationConfig()
    limit = LVIS_LIMIT if protocol == "lvis" else None
    measures = replace(config.measures, rank_by="detector", image_limit=limit)
    return replace(config, every_class=True, by_hand=False, measures=measures)


@dataclass(frozen=True)
class MeasuredSet:
    """One dataset of a benchmark that has several."""

    name: str
    evaluation: Evaluation


def evaluate_sets(path: AnyPath) -> list[MeasuredSet]:
    """Evaluate each dataset that a TOML file lists, and write each evaluation into its labeled folder.

    This is how SGinW (Segmentation in the Wild, 25 sets; Zou et al. 2023, arXiv 2212.11270) is measured. The file::

        [[set]]
        name = "Airplane-Parts"                     # shown in the table
        output = "labeled/airplane-parts"           # a labeled folder
        ground_truth = "airplane-parts/valid/_annotations.coco.json"
        map = { jet = "airplane" }                  # labeled class = class of the ground truth, if names differ

    Paths are relative to the file.

    Raises:
        UsageError: the file has another content, or a set has no image or class in common with its ground truth.
        FormatError: a ground truth cannot be read.
    """
    evaluated = []
    for each in _sets(path):
        name, below = each["name"], path.parent
        output, source = (_below(below, each[key]) for key in ("output", "ground_truth"))
        config = config_for("sginw", EvaluationConfig(each.get("map", {})))
        labeled = open_labeled(output)
        try:
            evaluation = evaluate(labeled, read_ground_truth(source, labeled.run.sizes), config)
        except UsageError as error:
            raise UsageError(f"{path}: set {name}: {error}") from error
        write_evaluation(output / "evaluation", evaluation, labeled.image, str(source), "sginw")
        evaluated.append(MeasuredSet(name, evaluation))
    return evaluated


def set_rows(sets: list[MeasuredSet]) -> Rows:
    """A row per set, and the mean over sets, which is the published figure."""
    rows = [["set", "images", "not compared", "failed", "classes not labeled", "mask AP", "box AP"]]
    for each in sets:
        result, total = each.evaluation, each.evaluation.measured.total
        left_out = len(result.only_in_ground_truth) + len(result.other_size)
        counts = (result.images, left_out, len(result.failed), len(result.classes_only_in_ground_truth))
        rows.append([each.name, *map(str, counts), number(total.mask.ap), number(total.box.ap)])
    totals = [each.evaluation.measured.total for each in sets]
    mask = [each.mask.ap for each in totals if each.mask.ap is not None]
    box = [each.box.ap for each in totals if each.box.ap is not None]
    means = [number(fmean(values) if values else None) for values in (mask, box)]
    return [*rows, [f"mean of {len(sets)} sets", "", "", "", "", *means]]


def _sets(path: AnyPath) -> list[dict[str, Any]]:
    try:
        content = parse_toml(read_limited(path))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); give a TOML file that lists sets") from None
    except DocumentError as error:
        raise UsageError(f"{path}: {error}") from None
    sets = content.get("set")
    if not isinstance(sets, list) or not sets:
        raise UsageError(f"{path}: no sets in it; list each as [[set]] with name, output and ground_truth")
    return [
        _checked_set(content, f"{path}: set {number_of_set}") for number_of_set, content in enumerate(sets, start=1)
    ]


def _checked_set(content: Any, where: str) -> dict[str, Any]:
    if isinstance(content, dict) and "truth" in content:  # the key's name in older files
        content = {**content, "ground_truth": content["truth"]}
        del content["truth"]
    texts = isinstance(content, dict) and all(isinstance(content.get(key), str) for key in SET_KEYS - {"map"})
    names = content.get("map", {}) if isinstance(content, dict) else {}
    mapped = isinstance(names, dict) and all(isinstance(value, str) for value in names.values())
    if not texts or not mapped or content.keys() - SET_KEYS:
        raise UsageError(f"{where} must have name, output and ground_truth; it may have map, and no other key")
    return dict(content)


def _below(folder: AnyPath, path: str) -> AnyPath:
    """``path``, taken as relative to ``folder`` unless it is a URI or absolute."""
    return locate(path) if is_uri(path) or Path(path).is_absolute() else folder / path
