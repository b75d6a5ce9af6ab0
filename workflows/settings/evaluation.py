"""How a labeled folder is compared with ground truth, and how thresholds are looked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import get_args

from labeler.errors import UsageError
from labeler.metrics.measure_config import MeasureConfig
from labeler.quality_config import Score
from labeler.setting import check, setting


@dataclass(frozen=True)
class EvaluationConfig:
    """How labels are compared with ground truth.

    Attributes:
        class_map: classes of the labels -> classes of the ground truth, where the names differ.
        every_class: count classes of the ground truth that nothing was labeled with, as published tables do; else they
            are left out, and listed.
        by_hand: apply people's decisions, as the dataset does; else the models stand alone, as in published tables.
    """

    class_map: Mapping[str, str] = field(default_factory=dict)
    every_class: bool = False
    by_hand: bool = True
    measures: MeasureConfig = field(default_factory=MeasureConfig)


@dataclass(frozen=True)
class TuneConfig:
    """How thresholds are looked for.

    Attributes:
        precision: each class is to reach this with the highest recall; None asks for the highest F1.
        score: what is to rank and accept instances; None keeps the one in force.
        class_map: classes of the labels -> classes of the ground truth, where the names differ.
        min_examples: a class of fewer true objects has no thresholds of its own; of fewer in all, nothing is tuned.
        folds: of the cross-validation.
        seed: of folds and bootstrap.
    """

    precision: float | None = None
    score: Score | None = setting(
        None,
        "score that ranks and accepts instances",
        choices=get_args(Score),
        unset="the one in force",
    )
    class_map: Mapping[str, str] = field(default_factory=dict)
    min_examples: int = setting(20, "objects that a class needs to get its own thresholds", metavar="N", least=1)
    folds: int = setting(5, "number of cross-validation folds", metavar="K", least=2)
    seed: int = setting(0, "seed of the folds and the bootstrap", metavar="N", least=0)

    def __post_init__(self) -> None:
        check(self)
        if self.precision is not None and not 0 < self.precision <= 1:
            raise UsageError(f"the wanted precision must be above 0 and at most 1, not {self.precision}")
