"""The thresholds of the quality gate; ``labeler.quality`` applies them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal, get_args

from labeler.errors import UsageError
from labeler.setting import PER_CLASS, check, setting

Score = Literal["joint", "detector", "mask"]
GROUP = "quality gate"


def _threshold(default: float | None, help: str, *names: str) -> Any:
    return setting(default, help, names=names, metavar="X", group=GROUP, least=0, most=1)


@dataclass(frozen=True, slots=True)
class ClassThresholds:
    """A class's own values for those of ``QualityConfig``; None leaves the general one."""

    accept_score: float | None = _threshold(
        None,
        "--accept-score of one class, which also overrides its min_score; repeat for each class",
        "--class-accept-score",
    )
    min_mask_score: float | None = _threshold(None, "--min-mask-score of one class", "--class-min-mask-score")
    min_stability: float | None = _threshold(None, "--min-stability of one class", "--class-min-stability")
    duplicate_iou: float | None = _threshold(None, "--duplicate-iou of one class", "--class-duplicate-iou")


@dataclass(frozen=True, slots=True)
class QualityConfig:
    """Thresholds of the gate; 0 switches any of them off. The defaults suit Grounding DINO with SAM.

    Attributes:
        score: what overlapping instances are ranked by, and what ``min_joint_score`` and ``accept_score`` are compared
            with: ``joint`` (detector × mask), ``detector`` or ``mask``.
        min_score: detector score; a class's own ``min_score`` takes its place. Classic Grounding DINO pipelines put
            the box threshold at 0.35, but on the best token; the mean over a prompt's tokens is a little lower.
        min_joint_score: joint score (or other ``score``) below which an instance is rejected.
        accept_score: joint score (or other ``score``) from which an instance is accepted; between the two it goes to
            review. Both are lowered in proportion for a class whose own ``min_score`` is below the general one.
        min_mask_score: the segmenter's IoU estimate.
        min_stability: SAM's stability score.
        min_area: pixels of the mask.
        max_area_share: mask area as a share of the image; a mask of nearly all of it is mostly a failed box.
        min_box_iou: IoU of the detector's box and the mask's tight box.
        duplicate_iou: mask IoU from which the lesser of two instances of one class is a duplicate.
        cross_class_iou: the same for two instances of different classes.
        contained_share: share of a mask inside a better one of its class, from which it is taken for a part of that.
        of_classes: by class name, what is its own. With its own ``accept_score`` its ``min_score`` is not heeded, and
            one below the general ``accept_score`` lowers ``min_score`` and ``min_joint_score`` in proportion.
    """

    score: Score = setting(
        "joint",
        "score that ranks and accepts instances; joint: detector × mask",
        group=GROUP,
        choices=get_args(Score),
    )
    min_score: float = _threshold(0.30, "reject below this detector score; a class's min_score overrides it")
    min_joint_score: float = _threshold(0.20, "reject below this joint score (or other --score)")
    accept_score: float = _threshold(
        0.30,
        "accept from this joint score (or other --score); what is not rejected below it goes to review",
    )
    min_mask_score: float = _threshold(0.50, "reject below this IoU estimate of the segmenter")
    min_stability: float = _threshold(0.60, "reject below this stability score")
    min_area: int = setting(16, "reject masks with fewer pixels", metavar="N", group=GROUP, least=0)
    max_area_share: float = _threshold(0.95, "reject masks that cover more than this share of the image")
    min_box_iou: float = _threshold(0.30, "reject if the detector's box and the mask's box have a lower IoU")
    duplicate_iou: float = _threshold(0.80, "reject the lower-scored of two masks of one class with this IoU or more")
    cross_class_iou: float = _threshold(
        0.90, "reject the lower-scored of two masks of different classes with this IoU or more"
    )
    contained_share: float = _threshold(
        0.95, "reject a mask if this share of it lies inside a higher-scored mask of its class"
    )
    of_classes: Mapping[str, ClassThresholds] = field(default_factory=dict, metadata={PER_CLASS: ClassThresholds})

    def __post_init__(self) -> None:
        """Check types and ranges.

        Raises:
            UsageError: a value is of the wrong type or out of its range; the message names its flag.
        """
        check(self)
        for class_name, own in self.of_classes.items():
            check(own, of=class_name)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> QualityConfig:
        """The inverse of ``to_dict``; what is left out keeps its default.

        Raises:
            UsageError: an unknown name, or a value out of its range.
        """
        known, of_class = [field.name for field in fields(cls)], [field.name for field in fields(ClassThresholds)]
        of_classes = values.get("of_classes", {})
        for names, allowed in ((values, known), *((own, of_class) for own in of_classes.values())):
            for name in names:
                if name not in allowed:
                    raise UsageError(f"quality: unknown setting {name!r}; known are {', '.join(allowed)}")
        return cls(**{**values, "of_classes": {name: ClassThresholds(**own) for name, own in of_classes.items()}})

    def to_dict(self) -> dict[str, Any]:
        """Plain values by name, as JSON can hold them."""
        return asdict(self)

    def with_changes(self, given: Mapping[str, Any]) -> QualityConfig:
        """This with other values.

        A common value that is given overrides those of single classes, except those that are given with it.

        Args:
            given: values by field name, and those of single classes under ``class_accept_score`` and so on, by class
                name.

        Raises:
            UsageError: a value is of the wrong type or out of its range.
        """
        of_classes = {name: asdict(own) for name, own in self.of_classes.items()}
        for each in fields(ClassThresholds):
            of_this = given.get(f"class_{each.name}", {})
            if each.name in given or of_this:
                for own in of_classes.values():
                    own[each.name] = None
            for class_name, value in of_this.items():
                of_classes.setdefault(class_name, {})[each.name] = value
        thresholds = {name: ClassThresholds(**own) for name, own in of_classes.items()}
        thresholds = {name: own for name, own in thresholds.items() if own != ClassThresholds()}
        common = {each.name: given[each.name] for each in fields(self) if each.name in given}
        return replace(self, **common, of_classes=thresholds)
