"""What to tell when nothing was accepted, at all or of a class: how the scores were distributed, and what to try."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from labeler.models.config import PRESETS
from labeler.quality import Judgement, effective_thresholds, judge, ranking_score
from labeler.quality_config import QualityConfig
from labeler.records import ImageRecord, Instance
from ontologies import ClassSpec
from workflows.dataset.judging import STEPS, Outcome, outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

CLASSES_NAMED = 5


@dataclass
class _OfClass:
    accepted: int
    scores: Counter[int]  # in steps

    @property
    def best(self) -> float:
        return max(self.scores) / STEPS


class CandidateTally:
    """Counts candidates and their scores, image by image.

    Args:
        config: the thresholds that judged them.
        classes: the ontology's classes, by class id.
    """

    def __init__(self, config: QualityConfig, classes: Sequence[ClassSpec]) -> None:
        self._config, self._classes = config, classes
        self._of_class = defaultdict[int, _OfClass](lambda: _OfClass(0, Counter()))
        self._images = 0
        self._reasons: Counter[str] = Counter()
        self._best: Instance | None = None
        # Every score is enough: who is accepted now is kept out by the score thresholds alone.
        self._lenient = replace(config, class_accept_scores={spec.name: 0.0 for spec in classes})

    def add(self, record: ImageRecord, judgements: Sequence[Judgement]) -> None:
        pairs = zip(record.instances, judgements, strict=True)
        self.count(1, Counter(outcome(*pair, self._config.score) for pair in pairs))
        if not self.accepted:
            self.look_for_best(record, judgements)

    def count(self, images: int, outcomes: Mapping[Outcome, int]) -> None:
        """Add ``images`` with these outcomes of their candidates. ``look_for_best`` takes those same images."""
        self._images += images
        for each, number in outcomes.items():
            if self._classes[each.class_id].removed:
                continue
            of_class = self._of_class[each.class_id]
            of_class.accepted += number * (each.verdict == "accept")
            of_class.scores[each.step] += number
            if each.reason:
                self._reasons[each.reason] += number

    def lines(self, floor: float, detector: str) -> list[str]:
        """What to tell; nothing if something of every class was accepted.

        Args:
            floor: detector score from which the records keep candidates.
            detector: the model, as ``ModelConfig`` names it.
        """
        if not self._images:
            return []
        if self.accepted:
            return self._of_single_classes()
        told = [*(self._distribution() if self._of_class else self._no_candidate(floor))]
        if self._best is not None:
            told.append(f"{self._flags(self._best, floor)} would accept the best of them, {self._shown(self._best)}")
        told.append("try other prompts or another --model; `labeler preview` draws the best rejected candidates")
        if detector == PRESETS["demo"].detector:
            told.append("--model demo knows only the coloured shapes of its own scenes; photos need another --model")
        return told

    @property
    def accepted(self) -> int:
        """The number of accepted candidates."""
        return sum(each.accepted for each in self._of_class.values())

    def _score(self, instance: Instance) -> float:
        return ranking_score(instance, self._config.score)

    def look_for_best(self, record: ImageRecord, judgements: Sequence[Judgement]) -> None:
        """Keep the best candidate that only its scores keep out; needed only if nothing was accepted."""
        if all(self._best and self._score(self._best) >= self._score(each) for each in record.instances):
            return
        by_hand: Mapping[int, Any] = {n: each.verdict for n, each in enumerate(judgements) if each.by_hand}
        without_scores = judge(record, self._lenient, self._classes, by_hand)
        ranked = [each for each, it in zip(record.instances, without_scores, strict=True) if it.verdict == "accept"]
        self._best = max([*ranked, *([self._best] if self._best else [])], key=self._score, default=None)

    def _distribution(self) -> list[str]:
        scores = sum((each.scores for each in self._of_class.values()), Counter[int]())
        count = scores.total()
        values = sorted(scores.elements())
        reason, of_reason = self._reasons.most_common(1)[0]
        return [
            f"nothing was accepted: of {count} candidate{_s(count)} in {self._images} image{_s(self._images)}, the "
            f"best has a {self._config.score} score of {values[-1] / STEPS:.2f}, the median is "
            f"{values[count // 2] / STEPS:.2f}; most common reason: {reason} ({of_reason})"
        ]

    def _no_candidate(self, floor: float) -> list[str]:
        return [
            f"nothing was accepted: the models found no candidate in {self._images} image{_s(self._images)}; with "
            f"--restart and a --floor below {floor:g}, more candidates are kept"
        ]

    def _of_single_classes(self) -> list[str]:
        lacking = [
            (spec.name, self._of_class.get(class_id))
            for class_id, spec in enumerate(self._classes)
            if not spec.removed and (class_id not in self._of_class or not self._of_class[class_id].accepted)
        ]
        if not lacking:
            return []
        lacking.sort(key=lambda each: -each[1].best if each[1] else 0)
        named = [
            f"{name} (best {self._config.score} score {found.best:.2f} of {found.scores.total()} candidate"
            f"{_s(found.scores.total())})"
            if found
            else f"{name} (no candidate)"
            for name, found in lacking[:CLASSES_NAMED]
        ]
        more = len(lacking) - len(named)
        return [f"nothing was accepted of {', '.join(named)}{f' and {more} more class{_es(more)}' if more else ''}"]

    def _flags(self, best: Instance, floor: float) -> str:
        """The flags that make the gate accept ``best``."""
        spec, ranking = self._classes[best.class_id], self._score(best)
        limits = effective_thresholds(self._config, spec)
        if spec.min_score is not None or spec.name in self._config.class_accept_scores:
            return f'--class-accept-score "{spec.name}={_below(min(best.score, ranking), floor)}"'
        flags = [
            f"{flag} {_below(score, floor)}"
            for flag, score, limit in (
                ("--accept-score", ranking, limits.accept_score),
                ("--min-score", best.score, limits.min_score),
                ("--min-joint-score", ranking, limits.min_joint_score),
            )
            if score < limit
        ]
        return " ".join(flags)

    def _shown(self, instance: Instance) -> str:
        name = self._classes[instance.class_id].name
        return f"{name} with a {self._config.score} score of {self._score(instance):.2f}"


def _below(score: float, floor: float) -> str:
    """A threshold that ``score`` passes, of few digits; not below the floor if the score is not."""
    for digits in (2, 3, 4):
        value = round(score, digits)
        if value > score:
            value = round(value - 10**-digits, digits)
        if value > 0:
            break
    return f"{max(value, floor) if score >= floor else value:.12g}"


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _es(count: int) -> str:
    return "" if count == 1 else "es"
