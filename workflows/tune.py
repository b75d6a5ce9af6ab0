"""``labeler tune``: thresholds from a few images whose truth is known."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tomli_w
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from labeler.candidates import Candidates, collect
from labeler.errors import UsageError
from labeler.formats.truth import read_truth
from labeler.quality import QualityConfig
from labeler.storage import local_path, locate, write_bytes
from labeler.thresholds import Counts, Metric, Target, Thresholds, bootstrap_gain, cross_validated, fit
from labeler.truth import TrueImage, Truth, pair_images
from workflows.labeled import Labeled, open_labeled
from workflows.review_band import review_band

if TYPE_CHECKING:
    from labeler.storage import AnyPath

MIN_EXAMPLES, FOLDS = 20, 5
NAMES_SHOWN = 5
METRICS: tuple[Metric, ...] = ("f1", "precision", "recall")


@dataclass(frozen=True)
class TunedClass:
    """One row of what ``tune`` says.

    Attributes:
        accept_score: joint score from which its instances are accepted.
        before: with the thresholds in force.
        after: with thresholds fitted on other images (cross-validation); what to expect.
        fitted: with the thresholds found, on the images that they were found on.
        note: why the threshold is not the class's own; else empty.
    """

    name: str
    accept_score: float
    before: Counts
    after: Counts
    fitted: Counts
    note: str


@dataclass(frozen=True)
class Tuned:
    """Thresholds that suit the truth, and what they are worth.

    Attributes:
        quality: the whole gate.
        images: how many are both labeled and in the truth.
        before, after, fitted: as of ``TunedClass``, over all classes.
        gains: of ``f1``, ``precision`` and ``recall``: the expected gain, and its 95 % interval by a bootstrap over
            the images.
        unknown: classes of the truth that the ontology does not have.
    """

    quality: QualityConfig
    classes: tuple[TunedClass, ...]
    images: int
    labeled_only: int
    true_only: int
    folds: int
    before: Counts
    after: Counts
    fitted: Counts
    gains: Mapping[str, tuple[float, float, float]]
    unknown: tuple[str, ...]


def tune(
    output: AnyPath | Path | str,
    truth: Truth | AnyPath | Path | str,
    precision: float | None = None,
    class_map: Mapping[str, str] | None = None,
    min_examples: int = MIN_EXAMPLES,
    folds: int = FOLDS,
    seed: int = 0,
) -> Tuned:
    """The gate that suits ``truth`` best; nothing is written.

    Args:
        output: a labeled folder, or its URI.
        truth: of some of its images, or where it is.
        precision: each class is to reach this with the highest recall; None asks for the highest F1.
        class_map: names in the truth and the classes that they mean, where these are spelled otherwise.
        min_examples: a class of fewer true objects has no threshold of its own.
        folds: of the cross-validation.
        seed: of folds and bootstrap.

    Raises:
        UsageError: nothing can be learned from the truth, or the precision is out of reach.
        FormatError: the truth cannot be read, or is of other images.
    """
    labeled = open_labeled(locate(output))
    if not isinstance(truth, Truth):
        truth = read_truth(truth, labeled.run.sizes)
    candidates, unknown, missing = _beside(labeled, truth, class_map or {})
    images, examples = len(candidates.true), candidates.true.sum(axis=0)
    target, floor, quality = Target(precision), float(labeled.settings["model"]["floor"]), labeled.export.quality
    enough = examples >= min_examples
    thresholds, best_precision = fit(candidates, np.ones(images, np.bool_), target, quality, enough, floor)
    fitted = candidates.counts(thresholds.accepted(candidates))
    if not fitted[0].any():
        if best_precision == 0:
            raise UsageError("no candidate meets a true object (mask IoU 0.5); is this the truth of these images?")
        raise UsageError(f"precision {precision} cannot be reached on these images; the best is {best_precision:.3f}")
    before = candidates.counts(candidates.accepted)
    after = cross_validated(candidates, target, quality, enough, floor, folds, seed)
    names = labeled.ontology.class_names
    return Tuned(
        quality=_gate(quality, thresholds, names),
        classes=tuple(
            TunedClass(
                name,
                float(thresholds.accept_scores[class_id]),
                _total(before[:, :, class_id]),
                _total(after[:, :, class_id]),
                _total(fitted[:, :, class_id]),
                _note(
                    int(examples[class_id]),
                    min_examples,
                    bool(thresholds.own[class_id]),
                    precision,
                    _total(fitted[:, :, class_id]),
                ),
            )
            for class_id, name in enumerate(names)
        ),
        images=images,
        labeled_only=missing[0],
        true_only=missing[1],
        folds=min(folds, images),
        before=_total(before),
        after=_total(after),
        fitted=_total(fitted),
        gains={
            metric: (
                getattr(_total(after), metric) - getattr(_total(before), metric),
                *bootstrap_gain(before, after, metric, seed),
            )
            for metric in METRICS
        },
        unknown=unknown,
    )


def write_thresholds(path: Path, quality: QualityConfig, about: str) -> None:
    """Write ``quality`` as what ``labeler export --config`` reads, with ``about`` as a comment on top."""
    content = {name.replace("_", "-"): value for name, value in quality.to_dict().items()}
    of_classes = content.pop("class-accept-scores")
    if of_classes:
        content["class-accept-score"] = of_classes
    write_bytes(path, f"# {about}\n{tomli_w.dumps(content)}".encode())


def _beside(
    labeled: Labeled, truth: Truth, class_map: Mapping[str, str]
) -> tuple[Candidates, tuple[str, ...], tuple[int, int]]:
    """Candidates of the images that are both labeled and in ``truth``.

    Returns:
        Also the classes of the truth that are none here, and how many images are only labeled and only in the truth.
    """
    if truth.semantic:
        raise UsageError("this truth gives pixels a class but tells no objects apart; thresholds are tuned on objects")
    ontology = labeled.ontology
    if other := sorted(class_map.keys() - set(truth.class_names)):
        raise UsageError(f"--map: the truth has no class {other[0]!r}; it has {_some(truth.class_names)}")
    if other := sorted(set(class_map.values()) - set(ontology.class_names)):
        raise UsageError(f"--map: {other[0]!r} is no labeled class; these are {_some(ontology.class_names)}")
    class_ids = {_plain(name): class_id for class_id, name in enumerate(ontology.class_names)}
    of_true = [class_ids.get(_plain(class_map.get(name, name))) for name in truth.class_names]
    known = {class_id for class_id in of_true if class_id is not None}
    if not known:
        raise UsageError(
            f"no class of the truth ({_some(truth.class_names)}) is a labeled one ({_some(ontology.class_names)}); "
            "--map NAME=CLASS says what is what"
        )
    sizes = labeled.run.sizes()
    by_name = {image.name: image for image in truth.images}
    pairs = pair_images(sizes, by_name)
    if len(pairs) < 2:
        raise UsageError(
            f"{len(pairs) or 'no'} image of the truth ({_some(by_name)}) is a labeled one ({_some(sizes)}); "
            "two are the least, twenty better"
        )
    beside = (
        (record, _renumbered(by_name[pairs[record.image_id]], of_true))
        for record in labeled.records()
        if record.image_id in pairs
    )
    candidates = collect(beside, ontology.classes, labeled.export.quality, known)
    if not candidates.true.any():
        raise UsageError(f"the {len(pairs)} images of the truth hold no object of a labeled class; add some that do")
    unknown = tuple(name for name, class_id in zip(truth.class_names, of_true, strict=True) if class_id is None)
    return candidates, unknown, (len(sizes) - len(pairs), len(by_name) - len(pairs))


def _renumbered(image: TrueImage, of_true: list[int | None]) -> TrueImage:
    """``image`` with the ontology's class ids; what is of no class there is left out."""

    def renumber(class_ids: frozenset[int]) -> frozenset[int]:
        return frozenset(found for class_id in class_ids if (found := of_true[class_id]) is not None)

    kept = ((item, of_true[item.class_id]) for item in image.instances)
    return replace(
        image,
        instances=tuple(replace(item, class_id=class_id) for item, class_id in kept if class_id is not None),
        absent=None if image.absent is None else renumber(image.absent),
        not_exhaustive=renumber(image.not_exhaustive),
    )


def _gate(quality: QualityConfig, thresholds: Thresholds, names: tuple[str, ...]) -> QualityConfig:
    """``quality`` with ``thresholds``. Its other scores must not reject what these accept."""
    return replace(
        quality,
        min_score=0.0,
        min_joint_score=min(quality.min_joint_score, float(thresholds.accept_scores.min())),
        accept_score=thresholds.accept_score,
        **thresholds.shared._asdict(),
        class_accept_scores=dict(zip(names, thresholds.accept_scores.tolist(), strict=True)),
    )


def _note(examples: int, least: int, own: bool, precision: float | None, fitted: Counts) -> str:
    if examples < least:
        return "too few: inherits" if examples else "none: inherits"
    if not own:
        return "no hit: inherits"
    return "" if fitted.found or precision is None else f"{precision:g} is out of reach: none"


def _total(counts: NDArray[np.int64]) -> Counts:
    hits, found, true = (int(each.sum()) for each in counts)
    return Counts(hits, found, true)


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join([*names[:NAMES_SHOWN], "…"] if len(names) > NAMES_SHOWN else names) or "none"


def add_tune_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("output", metavar="OUT", type=locate, help="a labeled folder, or its URI")
    parser.add_argument("--truth", metavar="T", help="COCO .json, YOLO data.yaml or mask images of some of its images")
    parser.add_argument(
        "-o", dest="tuned", type=local_path, required=True, metavar="FILE.toml", help="thresholds for export --config"
    )
    parser.add_argument(
        "--target",
        metavar="TARGET",
        help="f1 (default); precision=0.9: the most finds at that precision, each class by itself; review=200: without "
        "truth, thresholds that send about that many instances to review",
    )
    parser.add_argument(
        "--map", type=_mapped, action="append", metavar="NAME=CLASS", help="a class's name in the truth, if it differs"
    )
    parser.add_argument(
        "--min-examples",
        type=int,
        metavar="N",
        help=f"fewer objects: no threshold of its own (default: {MIN_EXAMPLES})",
    )
    parser.add_argument("--folds", type=int, metavar="K", help=f"of the cross-validation (default: {FOLDS})")
    parser.add_argument("--seed", type=int, metavar="N", help="of folds and bootstrap")


def _mapped(text: str) -> tuple[str, str]:
    name, equals, class_name = text.partition("=")
    if not (equals and name.strip() and class_name.strip()):
        raise argparse.ArgumentTypeError(f"expected NAME=CLASS, not {text!r}")
    return name.strip(), class_name.strip()


def run_tune(options: dict[str, Any], console: Console) -> int:
    """The ``tune`` command."""
    path, target, truth = options["tuned"], options.get("target", "f1"), options.get("truth")
    if path.suffix != ".toml":
        raise UsageError(f"-o {path}: thresholds are written as TOML; give it a name that ends in .toml")
    kind, _, value = target.partition("=")
    if kind == "review":
        if truth is not None:
            raise UsageError("--target review goes by scores alone; leave --truth out")
        if not value.isdecimal() or not int(value):
            raise UsageError(f"--target {target}: say how many instances to review, as in review=200")
        band = review_band(options["output"], int(value))
        write_thresholds(path, band.quality, f"{band.found} instances to review, {band.accepted} accepted")
        console.print(
            f"{band.found} instances to review (wanted: {band.wanted}), {band.accepted} accepted; joint score from "
            f"{band.quality.min_joint_score:.4g} to {band.quality.accept_score:.4g}",
            highlight=False,
        )
    else:
        precision = _precision(target)
        if truth is None:
            raise UsageError("--truth is missing: the labels of some of the images; only --target review=N needs none")
        given = {name: options[name] for name in ("min_examples", "folds", "seed") if name in options}
        if given.get("min_examples", 1) < 1 or given.get("folds", 2) < 2:
            raise UsageError("--min-examples must be 1 or more and --folds 2 or more")
        tuned = tune(options["output"], truth, precision, dict(options.get("map", ())), **given)
        write_thresholds(
            path,
            tuned.quality,
            f"tuned for {target} on {tuned.images} images: F1 {tuned.before.f1:.3f} -> {tuned.after.f1:.3f} expected",
        )
        _print_tuned(console, tuned)
    console.print(
        f"written: {path}; now: labeler export {options['output']} --config {path}", highlight=False, markup=False
    )
    return 0


def _precision(target: str) -> float | None:
    """The wanted precision; None for ``f1``."""
    if target == "f1":
        return None
    kind, _, value = target.partition("=")
    try:
        if kind == "precision" and 0 < float(value) <= 1:
            return float(value)
    except ValueError:
        pass
    raise UsageError(f"--target {target}: write f1, precision=0.9 (above 0, 1 at most) or review=200")


def _print_tuned(console: Console, tuned: Tuned) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("class")
    for name in ("examples", "threshold", "F1 now", "F1 expected"):
        table.add_column(name, justify="right")
    table.add_column("")
    for each in tuned.classes:
        scores = (f"{counts.f1:.3f}" if counts.true else "–" for counts in (each.before, each.after))
        table.add_row(escape(each.name), str(each.after.true), f"{each.accept_score:.3f}", *scores, each.note)
    scores = (f"{counts.f1:.3f}" for counts in (tuned.before, tuned.after))
    table.add_row("all", str(tuned.after.true), f"{tuned.quality.accept_score:.3f}", *scores, style="bold")
    console.print(table)
    for name, title in (("f1", "F1"), ("precision", "precision"), ("recall", "recall")):
        gain, low, high = tuned.gains[name]
        before, after = getattr(tuned.before, name), getattr(tuned.after, name)
        console.print(
            f"{title} {before:.3f} → {after:.3f} expected: {gain:+.3f} (95 % interval {low:+.3f} to {high:+.3f})",
            highlight=False,
        )
    quality = tuned.quality
    console.print(
        f"for all classes: mask score {quality.min_mask_score:g}, stability {quality.min_stability:g}, duplicates from "
        f"IoU {quality.duplicate_iou:g}, of another class from {quality.cross_class_iou:g}",
        highlight=False,
    )
    console.print(
        f"measured on {tuned.images} images by {tuned.folds}-fold cross-validation; {tuned.labeled_only} more are "
        f"labeled, {tuned.true_only} more in the truth",
        highlight=False,
    )
    if tuned.unknown:
        console.print(f"in the truth alone: {_some(tuned.unknown)}", highlight=False, markup=False)
    if tuned.gains["f1"][1] <= 0 and tuned.gains["precision"][1] <= 0:
        console.print("no sure gain: more images with truth would tell", highlight=False)
