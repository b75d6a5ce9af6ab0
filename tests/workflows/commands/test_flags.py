from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from labeler.errors import UsageError
from labeler.formats.cutout_config import CutoutConfig
from labeler.models.config import ModelConfig
from labeler.models.kinds.sam3 import Sam3Kind
from labeler.quality_config import QualityConfig
from ontologies import Ontology
from tests.support.command_line import options_of
from workflows.commands.labeler_options import OntologyOptions
from workflows.settings.export import ExportConfig
from workflows.settings.job import LabelJob

LABEL = ["label", "images", "-o", "out"]
MODEL = ModelConfig("embedded:detector", "embedded:segmenter")


def export_of(arguments: list[str], remembered: ExportConfig | None = None) -> ExportConfig:
    """The dataset settings of a command line, where the folder remembers some."""
    changed: ExportConfig = options_of(arguments).dataset.given.of(remembered or ExportConfig())
    return changed


def test_what_is_not_given_has_the_default_of_its_settings() -> None:
    options = options_of([*LABEL, "--classes", "dog"])
    job = options.job()
    assert job == LabelJob(
        "images",
        Path("out"),
        Ontology.from_text("dog"),
        job.model,
        job.export,
        keep_min_scores=True,
        keep_floor=True,
    )
    assert job.model == ModelConfig(job.model.detector, job.model.segmenter)
    assert job.export(ExportConfig(seed=3)) == ExportConfig(seed=3)


def test_a_preset_is_for_its_labeler() -> None:
    for flags, message in (
        (["--labeler", "sam3", "--model", "fast"], "^--model fast is not for --labeler sam3; leave it out"),
        (
            ["--labeler", "grounded-sam", "--model", "sam3"],
            "^the preset sam3 is for the labeler sam3, not for ",
        ),
    ):
        with pytest.raises(UsageError, match=message):
            options_of([*LABEL, "--classes", "dog", *flags]).job()
    everything = options_of([*LABEL, "--everything", "--model", "sam3"]).job()
    assert (everything.model.detector, everything.model.segmenter) == ("", "facebook/sam3")


def test_sam3_is_one_model() -> None:
    job = options_of([*LABEL, "--classes", "dog", "--labeler", "sam3"]).job()
    assert (job.labeler, job.model.detector, job.model.segmenter) == (Sam3Kind(), "facebook/sam3", "")
    own = options_of([*LABEL, "--classes", "dog", "--labeler", "sam3", "--detector", "models/sam3"]).job()
    assert (own.model.detector, own.model.segmenter) == ("models/sam3", "")
    for flag, value in (("--segmenter", "facebook/sam2.1-hiera-tiny"), ("--prompts-per-caption", "3")):
        with pytest.raises(UsageError, match=f"^{flag} is not for --labeler sam3, which is one model; leave it out$"):
            options_of([*LABEL, "--classes", "dog", "--labeler", "sam3", flag, value]).job()


def test_cut_outs(tmp_path: Path) -> None:
    flags = ["--format", "coco,cutouts", "--background", "transparent", "--smooth-radius", "3", "--frame", "full"]
    export = export_of([*LABEL, *flags])
    assert export.formats == ("coco", "cutouts")
    assert export.cutouts == CutoutConfig("transparent", 3.0, "full", 0)
    path = tmp_path / "job.toml"
    path.write_text("format = 'cutouts'\nmargin = 4\n")
    export = export_of([*LABEL, "--config", str(path)])
    assert (export.formats, export.cutouts.margin) == (("cutouts",), 4)


def test_file_gives_flags_and_the_command_line_wins(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(
        'model = "fast"\nfloor = 0.2\nmin-area = 40\nval_share = 0.3\ninclude_review = true\nformats = ["coco"]\n'
        'classes = "dog, cat"\n'
    )
    line = [*LABEL, "--config", str(path), "--floor", "0.4", "--no-include-review"]
    job = options_of(line).job()
    assert job.model.floor == 0.4
    assert "llmdet_tiny" in job.model.detector
    export = export_of(line)
    assert (export.quality.min_area, export.val_share, export.formats) == (40, 0.3, ("coco",))
    assert not export.include_review
    assert job.ontology.class_names == ("dog", "cat")


def test_accept_scores_of_classes(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text('[class-accept-score]\ndog = 0.4\n"a=b, c" = 1\n')
    saved = ExportConfig(quality=QualityConfig(class_accept_scores={"cow": 0.5}))

    def scores(*arguments: str) -> Mapping[str, float]:
        return export_of(["export", "out", *arguments], saved).quality.class_accept_scores

    assert scores("--config", str(path), "--class-accept-score", "dog=0.6") == {"dog": 0.6, "a=b, c": 1.0}
    assert scores() == {"cow": 0.5}
    assert scores("--accept-score", "0.4") == {}


@pytest.mark.parametrize("given", [["--accept-score", "0.9"], ["--accept-score=0.9"]])
def test_a_threshold_on_the_line_wins_over_those_of_classes_in_the_file(given: list[str], tmp_path: Path) -> None:
    path = tmp_path / "tuned.toml"
    path.write_text('accept-score = 0.3\n[class.dog]\naccept-score = 0.4\n[class."big cat"]\naccept_score = 0.5\n')
    saved = ExportConfig(quality=QualityConfig(class_accept_scores={"cow": 0.5}))
    arguments = ["export", "out", "--config", str(path)]
    assert export_of(arguments, saved).quality.class_accept_scores == {"dog": 0.4, "big cat": 0.5}
    both = export_of([*arguments, *given], saved).quality
    assert (both.accept_score, both.class_accept_scores) == (0.9, {})
    own = export_of([*arguments, *given, "--class-accept-score", "dog=0.6"], saved).quality
    assert own.class_accept_scores == {"dog": 0.6}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[class]\ndog = 0.4", r'table of their own, such as \[class."dog"\]'),
        ("[class.dog]\nmin-score = 0.4", "unknown key 'min-score' of class 'dog'; known keys: accept-score$"),
        ("flor = 0.2", r"unknown key 'flor'; did you mean floor\?"),
        ("colour = 1", "unknown key 'colour'; see `labeler label --help`"),
        ("floor = ", "not valid TOML"),
        ("[floor]\na = 1", "'floor' must be a word, a number"),
        ('config = "other.toml"', "unknown key 'config'"),
        ("seed = true", "key 'seed' must not be true or false"),
        ("restart = 3", "key 'restart' must be true or false"),
        (f"min-area = {'9' * 400}", r"key 'min-area' cannot be 9{40}…, which is no integer of 64 bits"),
        (f"min-area = {'9' * 5000}", "not valid TOML"),
        (f"min-area = 0x{'f' * 5000}", "key 'min-area' cannot be a number of thousands of digits"),
        (f"shard-size = {'9' * 30}", "key 'shard-size' cannot be 9{30}, which is no integer of 64 bits"),
        (f"version = {'9' * 400}", r"written by a newer labeler \(version 9{40}…, this"),
        (f"version = 0x{'f' * 5000}", r"written by a newer labeler \(version a number of"),
        (f"formats = [0x{'f' * 5000}]", "key 'formats' cannot be a number of thousands of digits"),
        ("formats = " + "[" * 100_000, "not valid TOML"),
        ("formats = [['coco']]", "key 'formats' must be a word"),
        ("min-area" + ".a" * 2000 + " = 1", "not valid TOML: nested too deep"),
        ("class-accept-score.dog" + ".a" * 50 + " = 1", "key 'class-accept-score' must be a word"),
        ("class-accept-score = 0.5", "key 'class-accept-score' must be NAME=X, or a table of NAME = X, not 0.5"),
    ],
)
def test_wrong_files(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text(content)
    with pytest.raises(UsageError, match=said):
        options_of([*LABEL, "--config", str(path)])


@pytest.mark.parametrize("value", ["0.5", "=0.5", " =0.5", "dog=high", "dog"])
def test_a_class_value_names_its_class(value: str) -> None:
    with pytest.raises(UsageError, match=f"--class-accept-score: expected NAME=X with a number X, not {value!r}"):
        options_of([*LABEL, "--class-accept-score", value])


@pytest.mark.parametrize("size", [0, -1, 1_000_001, 10**30, 10**400])
def test_sizes_of_shards(size: int) -> None:
    with pytest.raises(UsageError, match="--shard-size must be a whole number from 1 to 1000000, not ") as caught:
        LabelJob("images", Path("out"), Ontology.from_text("dog"), MODEL, shard_size=size)
    assert len(str(caught.value)) < 120


def test_flags_without_a_value(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text("restart = false\nretry_failed = true\ninclude_review = false\n")
    options = options_of([*LABEL, "--config", str(path)])
    assert options.run.values == {"retry_failed": True}
    assert options.dataset.given.values == {"include_review": False}


def test_classes_on_the_line_win_over_an_ontology_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_text('ontology = "none.toml"\n')
    ontology = options_of([*LABEL, "--config", str(path), "--classes", "dog"]).wanted.read()
    assert ontology.class_names == ("dog",)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        options_of([*LABEL, "--config", str(tmp_path / "none.toml")])


def test_one_source_of_classes_only() -> None:
    with pytest.raises(UsageError, match="give one of them"):
        OntologyOptions("dog", "pets.toml").read()
