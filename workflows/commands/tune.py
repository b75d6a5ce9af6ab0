"""``labeler tune``: thresholds found from a few images with ground truth."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labeler.errors import UsageError
from labeler.files.storage import local_path, locate
from labeler.setting import setting
from workflows.commands.evaluate import BOXES_AS_MASKS, CLASS_MAP, GROUND_TRUTH, class_map_from
from workflows.commands.export import OUT
from workflows.commands.options import Command, Outcome, changes
from workflows.settings.changes import Changes
from workflows.settings.evaluation import TuneConfig

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from labeler.files.storage import AnyPath
    from labeler.quality_config import QualityConfig
    from workflows.commands.terminal import Terminal
    from workflows.evaluation.tune import Tuned, TunedClass

NAMES_SHOWN, CLASSES_SHOWN = 5, 40


@dataclass(frozen=True, kw_only=True)
class TuneOptions:
    output: AnyPath = setting(help=OUT, metavar="OUT", positional=True, parse=locate)
    tuned: Path = setting(
        help="file of thresholds to write, for `labeler export --config`",
        metavar="FILE.toml",
        names=("-o",),
        parse=local_path,
    )
    ground_truth: str | None = setting(
        None,
        f"ground truth for some of the images: {GROUND_TRUTH}",
        metavar="PATH",
        aliases=("--truth",),
        unset="none",
    )
    target: str = setting(
        "f1",
        "f1; precision=0.9 for the highest recall at that precision, per class; or review=200 to leave about 200 "
        "instances to review, which needs no ground truth",
        metavar="TARGET",
    )
    class_map: str = setting("", CLASS_MAP, metavar="TEXT", names=("--map",), unset="same names")
    boxes_as_masks: bool = setting(False, BOXES_AS_MASKS)
    config: Changes[TuneConfig] = changes(TuneConfig)


def run_tune(options: TuneOptions, console: Terminal) -> Outcome:
    from labeler.formats.ground_truth import read_ground_truth
    from workflows.dataset.labeled import open_labeled
    from workflows.evaluation.review_band import review_band
    from workflows.evaluation.tune import tune

    path, target = options.tuned, options.target
    if path.suffix != ".toml":
        raise UsageError(f"-o {path}: thresholds are written as TOML; give it a name that ends in .toml")
    kind, number = target_from(target)
    export_command = f"labeler export {shlex.quote(str(options.output))} --config {shlex.quote(str(path))}"
    if kind == "review":
        _check_no_ground_truth(options)
        band = review_band(open_labeled(options.output), int(number))
        about = f"{band.reviewed} instances to review (wanted: {band.wanted}), {band.accepted} accepted"
        quality = band.quality
        console.print(
            f"{about}; {quality.score} score {quality.min_joint_score:.3f} to {quality.accept_score:.3f}",
            highlight=False,
        )
        write_thresholds(path, quality, about)
        return Outcome(line=f"written: {path}; now: {export_command}")
    if options.ground_truth is None:
        raise UsageError(
            "--ground-truth is missing: give it for some of the images; only --target review=N works without it"
        )
    config = options.config.of(
        TuneConfig(
            precision=number if kind == "precision" else None,
            class_map=class_map_from(options.class_map),
        )
    )
    labeled = open_labeled(options.output)
    truth = read_ground_truth(options.ground_truth, labeled.run.sizes, options.boxes_as_masks)
    tuned = tune(labeled, truth, config)
    print_tuned(console, tuned)
    about = f"{target} on {tuned.images} images: F1 {tuned.total.before.f1:.3f}, {tuned.total.expected.f1:.3f} expected"
    # Instances under review would stay in the dataset, where the thresholds were not tuned to have them.
    write_thresholds(path, tuned.quality, about, {"include-review": False} if tuned.review_counted else {})
    advice = f"now: {export_command}"
    if not tuned.gain_expected:
        advice = "the thresholds in force are as good or better; keep them"
    return Outcome(line=f"written: {path}; {advice}")


def _check_no_ground_truth(options: TuneOptions) -> None:
    """Refuse flags of a target that needs ground truth.

    Raises:
        UsageError: there is one.
    """
    given = [f"--{name.replace('_', '-')}" for name in options.config.values]
    given += ["--ground-truth"] if options.ground_truth is not None else []
    given += ["--map"] if options.class_map else []
    given += ["--boxes-as-masks"] if options.boxes_as_masks else []
    if given:
        raise UsageError(f"--target review uses scores alone; leave {min(given)} out")


def target_from(text: str) -> tuple[str, float]:
    """``f1``, ``precision`` or ``review``, and its number.

    Raises:
        UsageError: it is none of these.
    """
    kind, _, value = text.partition("=")
    if text == "f1":
        return kind, 0
    try:
        number = float(value)
        if (kind == "precision" and 0 < number <= 1) or (kind == "review" and number >= 1 and number == int(number)):
            return kind, number
    except (ValueError, OverflowError):
        pass
    raise UsageError(f"--target {text}: write f1, precision=0.9 (above 0, at most 1) or review=200 (a whole number)")


def write_thresholds(path: Path, quality: QualityConfig, about: str, more: Mapping[str, Any] | None = None) -> None:
    """Write ``quality`` and ``more`` as TOML for ``labeler export --config``, below ``about`` as a comment."""
    import tomli_w

    from labeler.files.storage import write_bytes

    content = {name.replace("_", "-"): value for name, value in quality.to_dict().items()} | dict(more or {})
    if scores := content.pop("class-accept-scores"):
        content["class"] = {name: {"accept-score": score} for name, score in scores.items()}
    write_bytes(path, f"# {about}\n{tomli_w.dumps(content)}".encode())


def print_tuned(console: Terminal, tuned: Tuned) -> None:
    """The table, what is expected, and what was left out."""
    from workflows.evaluation.tables import print_rows

    def say(text: str) -> None:
        console.print(text, highlight=False, markup=False)

    config, quality, total = tuned.config, tuned.quality, tuned.total
    figures = ["F1 now", "expected", "here"] if config.precision is None else ["precision", "recall"]
    rows = [["class", "objects", "accept", *figures, ""], *(_row(each, config.precision) for each in tuned.classes)]
    print_rows(console, [*rows, _row(total, config.precision)], CLASSES_SHOWN, bold_last=True)
    notes = {
        "few examples": f"few examples: fewer than {config.min_examples} objects; the common accept score applies",
        "no match": "no match: no candidate matches an object; the common accept score applies",
        "out of reach": f"out of reach: no score reaches precision {config.precision}; nothing is accepted",
    }
    for note in notes.keys() & {each.note for each in tuned.classes}:
        say(notes[note])
    if config.precision is not None:
        say("precision and recall: now → expected")
    if tuned.without_truth:
        say(f"{tuned.without_truth} classes without ground truth; the common accept score applies")
    say(
        f"all classes: {quality.score} score {quality.accept_score:g}, mask score {quality.min_mask_score:g}, "
        f"stability {quality.min_stability:g}, duplicates from IoU {quality.duplicate_iou:g}, of another class from "
        f"{quality.cross_class_iou:g}" + (f", agreement {quality.min_agreement:g}" if quality.min_agreement else "")
    )
    for metric, (gain, low, high) in tuned.gains.items():
        now, expected, here = (getattr(counts, metric) for counts in (total.before, total.expected, total.fitted))
        say(
            f"{metric.replace('f1', 'F1')}: {now:.3f} now, {expected:.3f} expected, {gain:+.3f} (95 % interval "
            f"{low:+.3f} to {high:+.3f}); {here:.3f} on these images"
        )
    left_out = (
        (tuned.only_labeled, "have no ground truth"),
        (tuned.only_true, "are in the ground truth only"),
        (tuned.other_size, "have another size in the ground truth"),
        (tuned.ambiguous, "have a name that fits several"),
    )
    say(
        f"{tuned.images} images{_alike(tuned)}, {min(config.folds, tuned.groups)}-fold cross-validation"
        + "".join(f"; {count} images {why}" for count, why in left_out if count)
    )
    for note in tuned.ground_truth_notes:
        say(f"ground truth: {note}")
    if names := tuned.classes_only_true:
        more = f", … ({len(names)})" if len(names) > NAMES_SHOWN else ""
        say(f"classes of the ground truth that nothing was labeled with: {_line(names[:NAMES_SHOWN])}{more}")
    if tuned.review_counted:
        say("instances under review are in the dataset now, and count; with these thresholds they are left out")
    if config.precision is not None and total.expected.precision < config.precision:
        say(f"expected precision {total.expected.precision:.3f} is below the wanted {config.precision:g}")
    if not tuned.gain_expected:
        say("no gain is expected on other images")
    elif config.precision is None and tuned.gains["f1"][1] <= 0:
        say("the gain is not certain; ground truth of more images would tell")


def _alike(tuned: Tuned) -> str:
    """Says that some images count as one; empty if all are different."""
    if tuned.groups == tuned.images:
        return ""
    return f" ({tuned.groups} different ones; copies and frames of one file stay in one fold)"


def _row(of: TunedClass, precision: float | None) -> list[str]:
    if precision is None:
        figures = [f"{counts.f1:.3f}" for counts in (of.before, of.expected, of.fitted)]
    else:
        figures = [
            f"{getattr(of.before, name):.3f} → {getattr(of.expected, name):.3f}" for name in ("precision", "recall")
        ]
    return [_line(of.names), str(of.fitted.objects), f"{of.accept_score:.3f}", *figures, of.note]


def _line(names: Sequence[str]) -> str:
    """``names`` in one line, whatever characters they have."""
    return " ".join(", ".join(names).split())


COMMAND = Command(
    TuneOptions,
    run_tune,
    examples=(
        "labeler tune dataset --ground-truth truth.json -o tuned.toml",
        "labeler tune dataset --ground-truth truth.json -o tuned.toml --target precision=0.9",
        "labeler tune dataset -o band.toml --target review=200",
    ),
    first=("output", "tuned", "ground_truth", "target", "class_map", "config"),
)
