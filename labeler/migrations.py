"""Converts files of earlier versions to the names of this version.

Serialized names (JSON keys, Parquet columns, keys of ``tuned.toml``) change only here. To change one, raise the number
of its kind of file in ``VERSIONS``, and add to ``STEPS`` how to convert the version before::

    VERSIONS["records"] = 2
    STEPS["records", 1] = lambda row, where: {"image_id": row.pop("image"), **row}

Parquet files state their version in the footer, and JSON and TOML files under the key ``version``. A file that states
none has version 1, the first. ``tests/data`` contains files of that version, which every command must read.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from labeler.errors import FormatError, RunError
from labeler.files.documents import load_json
from labeler.sizes import shown
from ontologies.documents import DocumentError

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

logger = logging.getLogger(__name__)

VERSIONS = {
    "run.json": 3,
    "images.parquet": 1,  # a row
    "records": 2,  # a row
    "classes.json": 1,
    "splits.parquet": 1,  # a row
    "decisions": 2,  # a row of decisions.jsonl, and of any file that review --apply reads
    "review set": 2,  # run/sent/*.json
    "evaluation.json": 2,
    "training.json": 1,
    "config": 2,  # TOML for --config, such as tuned.toml
}
NO_LONGER_PER_CLASS = ("min_mask_score", "min_stability", "duplicate_iou")
warn_once = cache(logger.warning)  # a command reads some files several times


def _run_json_2(content: dict[str, Any], where: object) -> dict[str, Any]:
    """Per-class thresholds become accept scores; see ``_export_2``."""
    ontology, published = content.get("ontology"), content.get("published")
    classes = ontology.get("classes") if isinstance(ontology, dict) else None
    specs = [spec for spec in classes if isinstance(spec, dict)] if isinstance(classes, list) else []
    export, dropped = _export_2(content.get("export"), {spec.get("name"): spec.get("min_score") for spec in specs})
    _warn_of(dropped, where)
    content = {**content, "export": export} if "export" in content else content
    if isinstance(published, dict) and isinstance(min_scores := published.get("min_scores", {}), dict):
        content = {**content, "published": {**published, "export": _export_2(published.get("export"), min_scores)[0]}}
    return content


def _run_json_3(content: dict[str, Any], where: object) -> dict[str, Any]:
    """Version 3 lists the labeling passes. Before, there was one, of all prompts."""
    if not isinstance(ontology := content.get("ontology"), dict) or "labeling" not in content:
        return {**content, "passes": []}  # the classes come from tags, or the file is damaged
    return {**content, "passes": [{"labeling": content["labeling"], "ontology": ontology}]}


def _evaluation_2(content: dict[str, Any], where: object) -> dict[str, Any]:
    settings = content.get("settings")
    return {**content, "settings": _export_2(settings, {})[0]} if isinstance(settings, dict) else content


def _config_2(content: dict[str, Any], where: object) -> dict[str, Any]:
    """Per-class thresholds other than accept scores are left out."""
    plain = {key.replace("-", "_"): value for key, value in content.items()}
    of_flags = [(f"class_{name}", plain[f"class_{name}"]) for name in NO_LONGER_PER_CLASS if f"class_{name}" in plain]
    dropped = [f"{flag.replace('_', '-')} {value}" for flag, value in of_flags]
    kept = {key: value for key, value in content.items() if key.replace("-", "_") not in dict(of_flags)}
    if isinstance(tables := content.get("class"), dict) and all(isinstance(own, dict) for own in tables.values()):
        kept["class"] = {}
        for class_name, own in tables.items():
            gone = {key: value for key, value in own.items() if key.replace("-", "_") in NO_LONGER_PER_CLASS}
            dropped += [
                f"{key} {value} of {class_name!r}"
                for key, value in gone.items()
                if value != plain.get(key.replace("-", "_"))
            ]
            kept["class"][class_name] = {key: value for key, value in own.items() if key not in gone}
    _warn_of(dropped, where)
    return kept


def _export_2(export: Any, min_scores: Mapping[Any, Any]) -> tuple[Any, list[str]]:
    """``export`` with per-class accept scores alone, and what no longer applies; damaged content stays as it is.

    In version 1, a class also had its own mask score, stability and duplicate IoU. A class whose ``min_score`` was
    below the common one had a lower accept score in proportion; it gets that as its own.
    """
    quality = export.get("quality") if isinstance(export, dict) else None
    if not isinstance(quality, dict) or not isinstance(of_classes := quality.get("of_classes", {}), dict):
        return export, []
    if not all(isinstance(own, dict) for own in of_classes.values()):
        return export, []
    new = {name: value for name, value in quality.items() if name != "of_classes"}
    dropped = [
        f"{name} {own[name]} of {class_name!r}"
        for class_name, own in of_classes.items()
        for name in NO_LONGER_PER_CLASS
        if own.get(name) not in (None, new.get(name))
    ]
    scores = {name: own["accept_score"] for name, own in of_classes.items() if own.get("accept_score") is not None}
    accept, joint, least = (new.get(name) for name in ("accept_score", "min_joint_score", "min_score"))
    if all(type(each) in (int, float) for each in (accept, joint, least, *scores.values())) and accept:
        for name, own_min in min_scores.items():
            if name not in scores and type(own_min) in (int, float) and own_min < least:
                scores[name] = accept * (own_min / least)
        if export.get("include_review") is True:
            lower = [name for name, own in scores.items() if own < accept and joint]
            dropped += [f"review of {name!r} below {min(joint, scores[name]):g}" for name in lower]
    return {**export, "quality": {**new, "class_accept_scores": scores}}, dropped


def _warn_of(dropped: Sequence[str], where: object) -> None:
    if dropped:
        shown = ", ".join(dropped[:5]) + (f" and {len(dropped) - 5} more" if len(dropped) > 5 else "")
        warn_once(f"{where}: a class can have its own accept score only; no longer in force: {shown}")


def _decision_2(row: dict[str, Any], where: object) -> dict[str, Any]:
    """Version 2 names the instance by its id."""
    return {"instance": None, **row}


def _review_set_2(content: dict[str, Any], where: object) -> dict[str, Any]:
    """Version 2 has the class and mask of the record and, apart from these, what people had changed them to."""
    for image in content["images"]:
        for each in image["instances"]:
            each.update(instance=None, new_class=None, new_counts=None)
    return content


def _record_2(row: dict[str, Any], where: object) -> dict[str, Any]:
    """Version 2 has the agreement of views and labelers; before, there was one view of one labeler."""
    return {**row, "instances": [{**each, "agreement": 1.0} for each in row["instances"]]}


Step = Callable[[dict[str, Any], object], dict[str, Any]]
STEPS: dict[tuple[str, int], Step] = {
    ("run.json", 1): _run_json_2,
    ("run.json", 2): _run_json_3,
    ("evaluation.json", 1): _evaluation_2,
    ("config", 1): _config_2,
    ("decisions", 1): _decision_2,
    ("review set", 1): _review_set_2,
    ("records", 1): _record_2,
}
"""By kind and the version a step starts from: content of that version, and its file to name, to content of the next."""
CHANGED_COLUMNS: Mapping[tuple[str, int], frozenset[str]] = {("records", 1): frozenset({"instances"})}
"""Of a step of Parquet files, the columns that it adds or changes; a step that is not listed may change any."""


def check_version(kind: str, version: object, where: object) -> int:
    """``version`` as a number, if files of that version can be read.

    Args:
        where: the file, for the message.

    Raises:
        RunError: the version is newer than this labeler.
        FormatError: it is not a version number, or a conversion step is missing.
    """
    if type(version) is not int:
        raise FormatError(f"{where}: {shown(version)} is not a version number")
    if version > VERSIONS[kind]:
        raise RunError(
            f"{where} was written by a newer labeler (version {shown(version)}, this one reads up to "
            f"{VERSIONS[kind]}); update labeler"
        )
    for number in range(version, VERSIONS[kind]):
        if (kind, number) not in STEPS:
            raise FormatError(f"{where}: files of version {shown(version)} cannot be read")
    return version


def is_unchanged(kind: str, version: int, column: str) -> bool:
    """Whether a column of a Parquet file is today as it was in ``version``, so that it can be read as it is."""
    steps = [(kind, number) for number in range(version, VERSIONS[kind])]
    return all(step in CHANGED_COLUMNS and column not in CHANGED_COLUMNS[step] for step in steps)


def footer_version(metadata: Mapping[bytes, bytes] | None) -> object:
    """The version that a Parquet footer states: a number, or text if it is not one; None if it states none."""
    stated = (metadata or {}).get(b"labeler.schema_version", b"").decode(errors="replace")
    return int(stated) if re.fullmatch("[0-9]{1,9}", stated) else stated or None


def migrate(kind: str, content: dict[str, Any], where: object, version: object = None) -> dict[str, Any]:
    """``content``, converted to this version.

    Args:
        where: the file, for the message.
        version: the version of ``content``; None for the one that it states under ``version``.

    Raises:
        RunError, FormatError: see ``check_version``.
    """
    if version is None:
        version = content.get("version", 1)
    first, last = check_version(kind, version, where), VERSIONS[kind]
    try:
        for number in range(first, last):
            content = STEPS[kind, number](content, where)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"{where}: damaged, not a file of version {first} ({error!r})") from error
    return {**content, "version": last} if "version" in content else content


def read_json(kind: str, path: AnyPath) -> dict[str, Any]:
    """The JSON object in the file at ``path``, converted to this version.

    Raises:
        RunError: the file is newer than this labeler.
        FormatError: the file is damaged, or contains something else.
        OSError: the file cannot be read.
    """
    return migrate(kind, read_object(path), path)


def read_object(path: AnyPath) -> dict[str, Any]:
    """The JSON object in the file at ``path``, not converted. All its text is valid Unicode.

    Raises:
        FormatError: the file is damaged, or contains something else.
        OSError: the file cannot be read.
    """
    try:
        content = load_json(path)
        json.dumps(content, ensure_ascii=False).encode()  # fails on half a surrogate pair, which JSON may contain
    except DocumentError as error:
        raise FormatError(f"{path}: {error}") from None
    except UnicodeEncodeError:
        raise FormatError(f"{path}: not valid JSON: half a surrogate pair in a text") from None
    if not isinstance(content, dict):
        raise FormatError(f"{path}: not a JSON object")
    return content
