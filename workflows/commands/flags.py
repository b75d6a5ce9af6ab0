"""Flags and configuration files: every flag of a command can stand in a TOML file, and the command line wins.

Flags have no defaults of their own: what is not given stays out, and the dataclasses that hold the settings
(``ModelConfig``, ``QualityConfig``, ``ExportConfig``, …) say the default, in one place. A dataset setting that is not
given is the one that the output folder remembers.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

from labeler.errors import UsageError
from labeler.formats.cutouts import BACKGROUNDS, FRAMES, CutoutConfig
from labeler.migrations import migrate
from labeler.models.config import DEVICES, PRECISIONS, PRESETS, ModelConfig
from labeler.models.tagging import FLAGS, TAGGERS, TaggingConfig, vocabulary_for
from labeler.quality import ClassThresholds, QualityConfig, Score
from labeler.sizes import shown
from ontologies import Ontology, read_ontology
from ontologies.vocabularies import VOCABULARIES
from workflows.settings.engine import EngineConfig
from workflows.settings.export import LINKS, SEGMENTATIONS, ExportConfig
from workflows.settings.job import LabelJob
from workflows.settings.resolved import check_class_names, check_floor

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

QUALITY_FLAGS = {
    "min_score": "reject below this detector score; overridden by the class's min_score",
    "min_joint_score": "reject below this joint score, or other --score",
    "accept_score": "accept from this joint score, or other --score, on; between the two an instance goes to review",
    "min_mask_score": "reject below this IoU estimate of the segmenter",
    "min_stability": "reject below this stability score",
    "min_area": "reject masks of fewer pixels",
    "max_area_share": "reject masks over this share of the image",
    "min_box_iou": "reject if the detector's box and the mask's agree less",
    "duplicate_iou": "reject the lesser of two masks of one class that overlap this much",
    "cross_class_iou": "reject the lesser of two masks of different classes that overlap this much",
    "contained_share": "reject a mask that lies this much inside a better one of its class",
}
CLASS_FLAGS = {
    "accept_score": "per-class --accept-score, which also overrides the class's min_score; repeat for each class",
    "min_mask_score": "per-class --min-mask-score",
    "min_stability": "per-class --min-stability",
    "duplicate_iou": "per-class --duplicate-iou",
}
JOB_FLAGS = (
    "shard_size",
    "restart",
    "retry_failed",
    "verify_content",
    "prune",
    "max_failures",
    "allow_failures",
    "sample",
    "tags_only",
    "overwrite_edits",
)
Settings = TypeVar("Settings", ModelConfig, QualityConfig, CutoutConfig, ExportConfig, EngineConfig, TaggingConfig)


def add_ontology_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what to look for")
    group.add_argument("--classes", metavar="TEXT", help='"dog, cat", or prompt=class: "puppy=dog, kitten=cat"')
    group.add_argument(
        "--ontology", metavar="FILE", help="TOML, YAML, JSON, a COCO file, an Ultralytics data.yaml, .txt"
    )


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("models")
    group.add_argument("--model", choices=PRESETS, help="preset (see `labeler models`; default: balanced)")
    group.add_argument("--detector", metavar="ID", help="hub id or folder, instead of the preset's")
    group.add_argument("--segmenter", metavar="ID", help="hub id or folder, instead of the preset's")
    group.add_argument("--device", metavar="|".join(DEVICES), help="where models run")
    group.add_argument("--precision", choices=PRECISIONS, help="auto: fp32 on CPU, bf16 on GPUs that have it")
    group.add_argument("--batch-size", type=int, metavar="N", help="images in one forward, at most")
    group.add_argument(
        "--prompts-per-caption", type=int, metavar="N", help="prompts in one forward; default: all that fit"
    )
    group.add_argument("--floor", type=float, metavar="P", help="keep raw candidates from this class score on")
    group.add_argument("--max-instances", type=int, metavar="N", help="raw candidates kept an image")
    group.add_argument(
        "--clean-share", type=float, metavar="P", help="remove specks and pinholes below this share; 0: off"
    )


def add_tagging_flags(parser: argparse.ArgumentParser, gate: bool) -> None:
    """The flags of a tagger; with ``gate``, of one that may stand before given classes."""
    text = "alone, images propose the classes; with classes, a gate before the detector" if gate else None
    group = parser.add_argument_group("tags", text)
    group.add_argument("--tagger", choices=TAGGERS, help="auto: SigLIP 2 over a vocabulary; for the demo, its detector")
    group.add_argument("--tagger-model", metavar="ID", help="hub id or folder; for ram the checkpoint file")
    group.add_argument("--vocabulary", metavar="LIST", help=f"{', '.join(VOCABULARIES)}, or a file, a word a line")
    group.add_argument("--tag-score", type=float, metavar="P", help="drop tags below this score")
    group.add_argument("--tag-tiles", type=int, metavar="N", help="look at N x N parts of an image too (vocabulary)")
    if gate:
        group.add_argument("--gate-below", type=float, metavar="P", help="ask for a class only where its tag scores P")


def add_class_flags(group: argparse._ActionsContainer) -> None:
    group.add_argument("--min-tag-count", type=int, metavar="N", help="images with a tag that make it a class")
    group.add_argument("--max-classes", type=int, metavar="N", help="the most frequent tags alone become classes")


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shard-size", type=int, metavar="N", help="images a record file (default: 64)")
    parser.add_argument("--restart", action="store_true", help="drop the records that are there; dataset settings stay")
    parser.add_argument("--retry-failed", action="store_true", help="take images again that failed before")
    parser.add_argument(
        "--verify-content",
        action="store_true",
        help="read every image to find changed ones; default: only those whose size, mtime or ctime differs",
    )
    parser.add_argument("--fast-scan", action="store_true", help=argparse.SUPPRESS)  # the default by now
    parser.add_argument("--prune", action="store_true", help="drop images that are gone from the input")
    parser.add_argument(
        "--max-failures",
        metavar="N|P%",
        help="stop with exit code 4 when more images fail: a number, or a percentage of the images to label",
    )
    parser.add_argument(
        "--allow-failures", action="store_true", help="exit with 0, not 1, when some images could not be labeled"
    )


def add_engine_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("engine")
    group.add_argument("--engine", choices=("auto", "local", "ray"), help="who labels; auto: Ray for several workers")
    group.add_argument("--address", metavar="HOST:PORT", help="of a Ray cluster (default: RAY_ADDRESS)")
    group.add_argument("--workers", type=int, metavar="N", help="processes with models; default: one a GPU")
    group.add_argument("--gpus-per-worker", type=float, metavar="N", help="1, 0.5, …; 0: models run on CPUs")
    group.add_argument("--cpus-per-worker", type=float, metavar="N", help="CPUs for one worker's models")


def add_quality_flags(parser: argparse.ArgumentParser) -> None:
    gate = parser.add_argument_group("quality gate (0 switches a filter off)")
    gate.add_argument(
        "--score", choices=get_args(Score), help="what ranks and accepts; joint: detector × mask (default)"
    )
    for name, text in QUALITY_FLAGS.items():
        kind = int if name == "min_area" else float
        gate.add_argument(f"--{name.replace('_', '-')}", type=kind, metavar="X", help=text)
    for name, text in CLASS_FLAGS.items():
        flag = f"--class-{name.replace('_', '-')}"
        gate.add_argument(flag, type=_class_value, action="append", metavar="NAME=X", help=text)


def add_export_flags(parser: argparse.ArgumentParser) -> None:
    add_quality_flags(parser)
    group = parser.add_argument_group("dataset", "the output folder remembers these settings and those of the gate")
    group.add_argument(
        "--defaults", action="store_true", help="forget what the folder remembers; flags given beside it still hold"
    )
    group.add_argument("--include-review", action=argparse.BooleanOptionalAction, help="write reviewable instances too")
    group.add_argument("--val-share", type=float, metavar="P", help="share of the images for validation")
    group.add_argument("--seed", type=int, metavar="N", help="of the split")
    group.add_argument(
        "--link", choices=LINKS, help="how images come into the dataset; with a URI, hard and symlink are copies"
    )
    add_edit_flags(group)
    add_class_flags(group)
    group.add_argument(
        "--formats", "--format", type=_names, metavar="LIST", help='of coco, yolo, cutouts; default: "coco,yolo"'
    )
    group.add_argument("--segmentation", choices=SEGMENTATIONS, help="how COCO holds masks")
    group = parser.add_argument_group("cut-outs (--format cutouts)")
    group.add_argument("--background", choices=BACKGROUNDS, help="behind the object (default: white)")
    group.add_argument("--smooth-radius", type=float, metavar="R", help="pixels in which its edge fades; 0: hard")
    group.add_argument("--frame", choices=FRAMES, help="crop to the object (the default), or the full image")
    group.add_argument("--margin", type=int, metavar="N", help="pixels around a crop")


def add_edit_flags(group: argparse._ActionsContainer) -> None:
    text = "replace files of the dataset that you edited; without it they are kept and named"
    group.add_argument("--overwrite-edits", action="store_true", help=text)


def add_images_flag(group: argparse._ActionsContainer) -> None:
    text = "the input, where it is a URI: a store is not asked for images unless you name it"
    group.add_argument("--images", metavar="URI", help=text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _class_value(text: str) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    try:
        if name.strip():
            return name.strip(), float(value)
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"expected NAME=X with a number X, not {shown(text)}")


def with_config_file(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> list[str]:
    """``arguments`` with those of the ``--config`` file before them, so that the command line wins.

    Raises:
        UsageError: the file cannot be read, or has a key that is no flag of the command.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--config")
    path = finder.parse_known_args(arguments)[0].config
    if path is None:
        return list(arguments)
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except RecursionError:
        raise UsageError(f"{path}: not valid TOML (nested too deep)") from None
    except ValueError as error:  # TOML's own, what is no UTF-8, and integers of more digits than Python reads
        raise UsageError(f"{path}: not valid TOML ({error})") from None
    content = migrate("config", content, path)
    content.pop("version", None)
    known = {option: action for action in parser._actions for option in action.option_strings}
    if "--class-accept-score" in known:
        content = _classes_flattened(content, path)
    anew = {argument.partition("=")[0].removeprefix("--") for argument in arguments if argument.startswith("--")}
    given = []
    for key, value in content.items():
        option = f"--{key.replace('_', '-')}"
        if option not in known or option in ("--config", "--help"):
            names = sorted(o[2:] for o in known if o.startswith("--") and not o.startswith("--no-"))
            raise UsageError(f"{path}: unknown key {shown(key)}; known keys: {', '.join(names)}")
        if {key, *arguments} >= {"classes", "--ontology"} or {key, *arguments} >= {"ontology", "--classes"}:
            continue  # the command line says it the other way
        if isinstance(value, dict) and option.removeprefix("--class-") in anew:
            continue  # given anew for all classes
        if isinstance(value, bool) != (known[option].nargs == 0):
            raise UsageError(f"{path}: key {key!r} must {'not ' if isinstance(value, bool) else ''}be true or false")
        of_classes = known[option].type is _class_value
        if of_classes and not isinstance(value, (dict, str)):
            raise UsageError(f"{path}: key {key!r} must be NAME=X, or a table of NAME = X, not {shown(value)}")
        items = value if isinstance(value, list) else value.values() if of_classes and isinstance(value, dict) else ()
        for item in items or [value]:
            _check_plain(item, key, path)
        if isinstance(value, bool):
            given += [option] if value else [no] if (no := f"--no-{option[2:]}") in known else []
        elif isinstance(value, dict):
            given += [f"{option}={name}={score}" for name, score in value.items()]
        elif isinstance(value, list):
            given.append(f"{option}={','.join(map(str, value))}")
        else:
            given.append(f"{option}={value}")
    return [arguments[0], *given, *arguments[1:]]


def _check_plain(value: object, key: str, path: str) -> None:
    """Check that ``value`` can stand behind a flag.

    Raises:
        UsageError: it is no word and no number, or a number larger than TOML knows.
    """
    if not isinstance(value, (str, int, float)):
        raise UsageError(f"{path}: key {key!r} must be a word, a number, true or false, or a list")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise UsageError(f"{path}: key {key!r} cannot be {shown(value)}, which is no integer of 64 bits")


def _classes_flattened(content: dict[str, Any], path: str) -> dict[str, Any]:
    """``[class."dog"]`` tables as ``class-accept-score`` and so on, a table of classes each, as the flags are.

    Raises:
        UsageError: what stands under ``class`` is of another shape.
    """
    flat = {key: value for key, value in content.items() if key != "class"}
    of_classes = content.get("class", {})
    if not isinstance(of_classes, dict) or not all(isinstance(own, dict) for own in of_classes.values()):
        raise UsageError(f'{path}: thresholds of a class stand in a table of their own, such as [class."dog"]')
    for class_name, own in of_classes.items():
        for key, value in own.items():
            if (name := key.replace("-", "_")) not in CLASS_FLAGS:
                known = ", ".join(each.replace("_", "-") for each in CLASS_FLAGS)
                raise UsageError(f"{path}: unknown key {key!r} of class {class_name!r}; known keys: {known}")
            flag = f"class-{name.replace('_', '-')}"
            flat[flag] = {**flat.get(flag, {}), class_name: value}
    return flat


def ontology_from(options: dict[str, Any]) -> Ontology | None:
    """The ontology that the flags name, or None if they name none."""
    text, path = options.get("classes"), options.get("ontology")
    if text is not None and path is not None:
        raise UsageError("--classes and --ontology both say what to look for; give one of them")
    if path is not None:
        return read_ontology(path)
    return None if text is None else Ontology.from_text(text)


def model_from(options: dict[str, Any]) -> ModelConfig:
    preset = PRESETS[options.get("model", "balanced")]
    return override(ModelConfig(preset.detector, preset.segmenter), options)


def tagging_from(options: dict[str, Any], model: ModelConfig, ontology: Ontology | None) -> TaggingConfig | None:
    """Who tags, if the flags ask for that."""
    if not options.keys() & {"tagger", "gate_below"}:
        if given := options.keys() & {field.name for field in fields(TaggingConfig)}:
            raise UsageError(f"--{min(given).replace('_', '-')} is for a tagger; add --tagger auto")
        return None
    tagging = override(TaggingConfig(), {**options, "vocabulary": ()})
    kind = tagging.kind(model)
    for name in ("tagger_model", "vocabulary", "tag_score", "tag_tiles"):
        if name in options and name not in FLAGS[kind]:
            raise UsageError(f"--{name.replace('_', '-')} is not for the tagger {kind}; leave it out")
    if ontology is not None:
        for name, way_out in (("vocabulary", "leave it out"), ("tag_score", "take --gate-below")):
            if name in options:
                flag = f"--{name.replace('_', '-')}"
                raise UsageError(f"{flag}: with classes given, a tagger scores just these; {way_out}")
        return tagging
    if "gate_below" in options:
        raise UsageError("--gate-below is for given classes; add --classes or --ontology")
    return replace(tagging, vocabulary=vocabulary_for(tagging, model, options.get("vocabulary")))


def export_from(options: dict[str, Any], base: ExportConfig | None = None) -> ExportConfig:
    """``base``, by default the default settings, with those that the flags change."""
    base = base or ExportConfig()
    options = {**options, "of_classes": _of_classes(options, base.quality)}
    quality, cutouts = override(base.quality, options), override(base.cutouts, options)
    return override(replace(base, quality=quality, cutouts=cutouts), options)


def _of_classes(options: dict[str, Any], base: QualityConfig) -> dict[str, ClassThresholds]:
    """The classes' own thresholds; a general one that is given anew holds for all but those that are given with it."""
    of_classes = {name: asdict(own) for name, own in base.of_classes.items()}
    for key in CLASS_FLAGS:
        if options.keys() & {key, f"class_{key}"}:
            for own in of_classes.values():
                own[key] = None
        for name, value in options.get(f"class_{key}", ()):
            of_classes.setdefault(name, {})[key] = value
    own_thresholds = {name: ClassThresholds(**own) for name, own in of_classes.items()}
    return {name: own for name, own in own_thresholds.items() if own != ClassThresholds()}


def job_from(options: dict[str, Any]) -> LabelJob:
    """What the flags of ``label`` ask for.

    Raises:
        UsageError: a flag cannot be meant.
    """
    ontology, model = ontology_from(options), model_from(options)
    job = LabelJob(
        images=options["images"],
        output=options["output"],
        ontology=ontology,
        model=model,
        export=export_from(options) if options.get("defaults") else partial(export_from, options),
        tagging=tagging_from(options, model, ontology),
        engine=override(EngineConfig(), options),
        keep_min_scores="classes" in options and not options.get("defaults"),
        **{name: options[name] for name in JOB_FLAGS if name in options},
    )
    # What the output remembers is known where the job runs; until then, what is given can be checked by itself.
    check_floor(model.floor, override(QualityConfig(min_score=0), options), ontology)
    check_class_names(export_from(options).quality, ontology)
    return job


def override(settings: Settings, options: dict[str, Any]) -> Settings:
    """``settings`` with those of ``options`` that are fields of it."""
    names = {field.name for field in fields(settings)}
    return replace(settings, **{name: value for name, value in options.items() if name in names})
