"""Labels against the truth: images are paired by name, classes by name or as told, and everything is measured in one
pass over the records."""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from labeler.errors import UsageError
from labeler.ground_truth import GroundTruth, GroundTruthInstance, pair_images
from labeler.metrics.measures import ImageMeasures, Measured, Measures
from labeler.quality import QualityConfig
from labeler.records import Instance
from workflows.dataset.labeled import Labeled
from workflows.settings.evaluation import EvaluationConfig as EvaluationConfig

WORST = 12
NAMES_SHOWN = 5


@dataclass(frozen=True)
class WorstImage:
    """An image with much wrong, and what to draw of it.

    Attributes:
        found: accepted instances, class ids of the truth.
    """

    image_id: str
    digest: str
    measures: ImageMeasures
    found: tuple[Instance, ...]
    true: tuple[GroundTruthInstance, ...]


@dataclass(frozen=True)
class Evaluation:
    """What came of it.

    Attributes:
        images: how many were compared; what follows was not.
        only_labeled, only_true: image names on one side.
        other_size: images whose truth is of another size.
        failed: images that could not be labeled; their objects count as missed.
        quality, include_review: what was accepted, or with ``include_review`` not rejected, counts as found.
        decided: instances of the compared images that people decided on.
        classes_only_labeled, classes_only_true: class names on one side.
        class_names, frequencies: as of the truth.
        image_scores: of the images that have one, in the order of the records.
        worst: images with the lowest score, the worst first.
    """

    config: EvaluationConfig
    semantic: bool
    images: int
    only_labeled: list[str]
    only_true: list[str]
    other_size: list[str]
    failed: list[str]
    quality: QualityConfig
    include_review: bool
    decided: int
    classes_only_labeled: list[str]
    classes_only_true: list[str]
    measured: Measured
    class_names: tuple[str, ...]
    frequencies: tuple[str, ...]
    image_scores: Sequence[float]
    worst: list[WorstImage]


def evaluate(labeled: Labeled, truth: GroundTruth, config: EvaluationConfig | None = None) -> Evaluation:
    """Measure ``labeled`` against ``truth``; memory grows by a few bytes an image and instance.

    Raises:
        UsageError: they have no image or no class in common, or the class map names what neither has.
    """
    config = config or EvaluationConfig()
    names = labeled.ontology.class_names
    class_ids = pair_classes(names, truth.class_names, config.class_map)
    wanted = {each for each in class_ids if each is not None}
    sizes = labeled.run.sizes()
    pairs = pair_images(sizes, (image.name for image in truth.images))
    if not pairs:
        raise UsageError(
            f"no image in common: {_some('labeled', list(sizes))}; "
            f"{_some('truth', [image.name for image in truth.images])}"
        )
    positions = {image.name: position for position, image in enumerate(truth.images)}
    measures = Measures(truth.class_names, config.measures, None if config.every_class else sorted(wanted))
    only_labeled: list[str] = []
    other_size: list[str] = []
    failed: list[str] = []
    scores = array("f")
    worst: list[tuple[float, int, int, WorstImage]] = []
    images = decided = 0
    counted = ("accept", "review") if labeled.export.include_review else ("accept",)
    for record, judgements in labeled.judged(config.by_hand):
        if record.image_id not in pairs:
            only_labeled.append(record.image_id)
            continue
        position = positions[pairs[record.image_id]]
        image = truth.images[position]
        if record.status == "error":
            failed.append(record.image_id)
        elif (record.width, record.height) != (image.width, image.height):
            other_size.append(record.image_id)
            continue
        found: list[Instance] = []
        accepted: list[bool] = []
        for instance, judgement in zip(record.instances, judgements, strict=True):
            decided += judgement.by_hand
            if judgement.by_hand and judgement.verdict == "reject":
                continue  # no candidate any more
            if (class_id := class_ids[instance.class_id]) is not None:
                found.append(replace(instance, class_id=class_id))
                accepted.append(judgement.verdict in counted)
        measured = measures.add(position, image, found, accepted)
        images += 1
        if measured.score is None:
            continue
        scores.append(measured.score)
        rank = (-measured.score, measured.misses + measured.extras, -images)
        if len(worst) < WORST or rank > worst[0][:3]:
            kept = tuple(each for each, is_kept in zip(found, accepted, strict=True) if is_kept)
            true = tuple(each for each in image.instances if config.every_class or each.class_id in wanted)
            item = (*rank, WorstImage(record.image_id, record.digest, measured, kept, true))
            (heapq.heappush if len(worst) < WORST else heapq.heapreplace)(worst, item)
    if not images:
        raise UsageError(f"every image in common is of another size in the truth: {_some('such as', other_size)}")
    labeled_too = set(pairs.values())
    return Evaluation(
        config=config,
        semantic=truth.semantic,
        images=images,
        only_labeled=only_labeled,
        only_true=[image.name for image in truth.images if image.name not in labeled_too],
        other_size=other_size,
        failed=failed,
        quality=labeled.export.quality,
        include_review=labeled.export.include_review,
        decided=decided,
        classes_only_labeled=[name for name, class_id in zip(names, class_ids, strict=True) if class_id is None],
        classes_only_true=[name for class_id, name in enumerate(truth.class_names) if class_id not in wanted],
        measured=measures.result(),
        class_names=truth.class_names,
        frequencies=truth.frequencies,
        image_scores=scores,
        worst=[item[-1] for item in sorted(worst, key=lambda item: item[:3], reverse=True)],
    )


def pair_classes(names: Sequence[str], true: Sequence[str], class_map: Mapping[str, str]) -> list[int | None]:
    """The class id in the truth of each of ``names``, or None.

    Names are one if they differ in nothing but case, underscores and spaces; several of ``names`` may be mapped to one
    class of the truth.

    Raises:
        UsageError: there is none in common, or ``class_map`` names a class that is not there.
    """
    ids = {_folded(name): class_id for class_id, name in reversed(list(enumerate(true)))}
    known = {_folded(name) for name in names}
    mapped: dict[str, int] = {}
    for ours, theirs in class_map.items():
        if _folded(ours) not in known:
            raise UsageError(f"--map {ours}={theirs}: nothing was labeled as {ours!r}; {_some('labeled', names)}")
        if _folded(theirs) not in ids:
            raise UsageError(f"--map {ours}={theirs}: the truth has no class {theirs!r}; {_some('truth', true)}")
        mapped[_folded(ours)] = ids[_folded(theirs)]
    ids |= mapped
    found = [ids.get(_folded(name)) for name in names]
    if all(class_id is None for class_id in found):
        raise UsageError(
            f"no class in common: {_some('labeled', names)}; {_some('truth', true)}; say which is which with "
            '--map "labeled=truth"'
        )
    return found


def _folded(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def _some(what: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN]) or "none"
    return f"{what} {shown}{f', … ({len(names)} in all)' if len(names) > NAMES_SHOWN else ''}"
