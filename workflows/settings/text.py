"""The dataset settings in words, for the summary of a run: the thresholds in force, and what has changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from labeler.formats.split_config import SplitRule
from workflows.settings.resolved import Settled
from workflows.settings.run_settings import DatasetSettings

THRESHOLDS = ("accept_score", "min_joint_score", "min_score", "min_mask_score", "min_stability", "min_agreement")
PER_CLASS = ("min_score", "accept_score")
CLASSES_SHOWN = 5


def unknown_family_line(labeler: str, model: str, floor: float) -> str:
    """What to tell where the defaults are those for any model."""
    of = f"{model} (labeler {labeler})" if model else f"the labeler {labeler}"
    return (
        f"the model family of {of} is not known: candidates are kept from a score of {floor:g}, and the gate starts "
        "from the general thresholds; preview shows whether they suit, --floor and --accept-score change them"
    )


def thresholds_in_force(settings: DatasetSettings) -> str:
    """The main thresholds of the gate and those of single classes, in one line; filters that are off are left out."""
    quality = settings.export.quality
    general = [
        f"{_words(name)} {_text(value)}"
        for name in THRESHOLDS
        if (value := getattr(quality, name)) or name == "accept_score"
    ]
    if quality.score != "joint":
        general.append(f"by the {quality.score} score")
    per_class = []
    for name in PER_CLASS:
        if own := _per_class(settings, name):
            shown = [f"{class_name} {_text(value)}" for class_name, value in list(own.items())[:CLASSES_SHOWN]]
            more = len(own) - len(shown)
            per_class.append(f"{_words(name)} of {', '.join(shown)}{f' and {more} more classes' if more else ''}")
    return "; ".join([", ".join(general), *per_class])


def thresholds(settings: DatasetSettings) -> dict[str, str]:
    """The thresholds of the gate that are in force, by name; those of single classes last."""
    quality = settings.export.quality
    values = {name: getattr(quality, name) for name in THRESHOLDS}
    shown = {_words(name): _text(value) for name, value in values.items() if value or name == "accept_score"}
    per_class = {
        f"{_words(name)} of {class_name}": _text(value)
        for name in PER_CLASS
        for class_name, value in _per_class(settings, name).items()
    }
    return {"score": quality.score, **shown, **per_class}


def changes(before: DatasetSettings | None, now: DatasetSettings) -> tuple[str, ...]:
    """Each setting that differs, such as ``accept score 0.30 → 0.70``; nothing if ``before`` is not known."""
    if before is None:
        return ()
    old, new = _flat(before), _flat(now)
    general = [f"{name} {_change(old[name], value)}" for name, value in new.items() if old[name] != value]
    return (*general, *_changes_per_class(before, now))


def changed_split_flags(before: DatasetSettings | None, now: DatasetSettings) -> tuple[str, ...]:
    """The flags of what divides images and differs; none if ``before`` is not known."""
    if before is None:
        return ()
    old, new = before.export, now.export
    changed = (each.name for each in fields(SplitRule) if getattr(old, each.name) != getattr(new, each.name))
    return tuple(f"--{name.replace('_', '-')}" for name in changed)


def dropped_formats(settled: Settled) -> str | None:
    """What to tell before the files of formats that are not asked for any more leave the dataset."""
    old, new = settled.published.export.formats if settled.published else (), settled.export.formats
    if not (gone := [name for name in old if name not in new]):
        return None
    them = "them" if len(gone) > 1 else "it"
    both = ",".join(dict.fromkeys([*old, *new]))
    return f"{' and '.join(gone)} will not be in the dataset any more; --format {both} keeps {them}"


def _flat(settings: DatasetSettings) -> dict[str, Any]:
    """Every setting that is not of single classes, by its name in words."""
    export = settings.export
    named = {_words(each.name): getattr(export.quality, each.name) for each in fields(export.quality)}
    named |= {_words(each.name): getattr(export, each.name) for each in fields(export)}
    named |= {f"cut-out {_words(each.name)}": getattr(export.cutouts, each.name) for each in fields(export.cutouts)}
    return {name: value for name, value in named.items() if name not in ("class accept scores", "quality", "cutouts")}


def _per_class(settings: DatasetSettings, name: str) -> Mapping[str, float]:
    """The classes' own values of the threshold ``name``, by class name."""
    return settings.min_scores if name == "min_score" else settings.export.quality.class_accept_scores


def _changes_per_class(before: DatasetSettings, now: DatasetSettings) -> Iterator[str]:
    for name in PER_CLASS:
        old, new = _per_class(before, name), _per_class(now, name)
        differing = [each for each in dict.fromkeys([*old, *new]) if old.get(each) != new.get(each)]
        for class_name in differing[:CLASSES_SHOWN]:
            was, holds = (
                own[class_name] if class_name in own else f"{_text(getattr(settings.export.quality, name))} (general)"
                for own, settings in ((old, before), (new, now))
            )
            yield f"{_words(name)} of {class_name} {_change(was, holds)}"
        if (more := len(differing) - CLASSES_SHOWN) > 0:
            yield f"{_words(name)} of {more} more classes"


def _words(name: str) -> str:
    return name.replace("_", " ")


def _change(before: Any, now: Any) -> str:
    numbers = [f"{value:.4g}" for value in (before, now) if isinstance(value, float)]
    if len(numbers) == 2 and numbers[0] == numbers[1]:  # they differ behind the digits that are shown
        return f"{before} → {now}"
    return f"{_text(before)} → {_text(now)}"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ",".join(value) or "none"
    if isinstance(value, float):
        return text if float(text := f"{value:.2f}") == value else f"{value:.4g}"
    return "none" if value is None else str(value)
