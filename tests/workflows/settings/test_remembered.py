"""A run folder remembers its dataset settings: for every command, until a flag changes them."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from labeler.errors import RunError
from labeler.formats.cutout_config import CutoutConfig
from labeler.models.config import ModelConfig
from labeler.quality_config import QualityConfig
from ontologies import ClassSpec, Ontology
from tests.support.command_line import options_of
from tests.support.made_folder import write_labeled
from tests.support.stand_in import Silent, StandIn
from workflows.commands.cli import main
from workflows.label import label
from workflows.settings.export import ExportConfig
from workflows.settings.job import LabelJob
from workflows.settings.run_settings import DatasetSettings
from workflows.settings.text import changes, thresholds_in_force

CLASSES = ("dog", "cat")
NAMES = [f"{number:02d}.png" for number in range(12)]
CHANGED = "changed since the last run: "
Command = Callable[..., str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labeled(tmp_path_factory.mktemp("made"), NAMES, CLASSES, side=64)


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    """A labeled folder of which no dataset was written yet. Nothing in it has to be labeled."""
    shutil.copytree(made, tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def run(made: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command; what it prints is returned. One image of the folder could not be labeled: exit code 1, once."""

    def command(name: str, *arguments: object, code: int = 1) -> str:
        given = [str(each) for each in arguments]
        if name == "label":
            place = [str(made.parent / "images"), "-o", str(out), "--model", "demo", "--device", "cpu"]
            words = [] if "--ontology" in given else ["--classes", "dog, cat"]
        else:
            place, words = [str(out)], []
        assert main([name, *place, *words, *given]) in ((0, 1) if code == 1 else (code,))
        said = capsys.readouterr()
        assert "Traceback" not in said.err
        return said.out if code == 1 else said.err

    return command


def settings(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "run" / "run.json").read_text())
    return content


def remembered(out: Path) -> ExportConfig:
    return ExportConfig.from_dict(settings(out)["export"])


def edit(out: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = settings(out)
    change(content)
    (out / "run" / "run.json").write_text(json.dumps(content))


def line(said: str, start: str) -> str:
    (found,) = [each.removeprefix(start) for each in said.splitlines() if each.startswith(start)]
    return found


def ontology_file(path: Path, **min_scores: float) -> Path:
    lines = []
    for name in CLASSES:
        lines += ["[[class]]", f'name = "{name}"']
        lines += [f"min_score = {min_scores[name]}"] if name in min_scores else []
    path.write_text("\n".join(lines))
    return path


def split_of(out: Path) -> dict[str, str]:
    return {path.name: path.parent.name for path in (out / "images").rglob("*.png")}


# ---------------------------------------------------------------- the rule


def test_the_nightly_run_keeps_what_export_set(out: Path, run: Command) -> None:
    assert CHANGED not in run("label"), "there was no dataset before"
    splits = split_of(out)
    said = run("export", "--accept-score", 0.7, "--val-share", 0.5, "--format", "coco")
    assert line(said, CHANGED) == "accept score 0.30 → 0.70; val share 0.20 → 0.50; formats coco,yolo → coco"
    assert "yolo will not be in the dataset any more; --format coco,yolo keeps it" in said
    verdicts = (out / "run" / "verdicts.parquet").read_bytes()

    said = run("label")
    assert CHANGED not in said
    assert "will not be" not in said
    assert line(said, "thresholds: ").startswith("accept score 0.70, ")
    assert (out / "run" / "verdicts.parquet").read_bytes() == verdicts
    assert split_of(out) == splits
    assert not (out / "labels").exists()

    said = run("label", "--val-share", 0, "--format", "yolo")
    assert line(said, CHANGED) == "val share 0.50 → 0.00; formats coco → yolo"
    assert "coco will not be in the dataset any more; --format coco,yolo keeps it" in said
    assert CHANGED not in run("export"), "what label was told holds for export, too"
    assert remembered(out) == ExportConfig(QualityConfig(accept_score=0.7), val_share=0, formats=("yolo",))


@pytest.mark.parametrize("command", ["label", "export"])
def test_every_setting_is_remembered_and_reset(command: str, out: Path, run: Command) -> None:
    flags = {
        "score": "detector", "min-score": 0.2, "min-joint-score": 0.15, "accept-score": 0.4, "min-mask-score": 0.4,
        "min-stability": 0.5, "min-area": 20, "max-area-share": 0.9, "min-box-iou": 0.2, "duplicate-iou": 0.7,
        "cross-class-iou": 0.8, "contained-share": 0.9, "group-share": 0.6, "class-accept-score": "dog=0.5",
        "min-agreement": 0.4,
        "val-share": 0.4, "seed": 7, "test-share": 0.1, "split-by": "folder", "link": "copy", "min-tag-count": 2,
        "max-classes": 9,
        "format": "cutouts,coco", "segmentation": "polygon",
        "background": "transparent", "smooth-radius": 1.0, "frame": "full", "margin": 3,
    }  # fmt: skip
    run("export")
    said = run(command, "--include-review", *(f"--{name}={value}" for name, value in flags.items()))
    expected = ExportConfig(
        QualityConfig(
            "detector", 0.2, 0.15, 0.4, 0.4, 0.5, 20, 0.9, 0.2, 0.7, 0.8, 0.9, 0.6, {"dog": 0.5}, 0.4
        ),
        True, 0.4, 7, "copy", ("cutouts", "coco"), "polygon", 2, 9, CutoutConfig("transparent", 1.0, "full", 3),
        0.1, "folder",
    )  # fmt: skip
    assert remembered(out) == expected
    assert line(said, CHANGED).count("→") == len(flags) + 1, "each is named"
    for each in ("label", "export"):
        assert CHANGED not in run(each)
        assert remembered(out) == expected

    said = run(command, "--defaults", "--seed", 9)
    assert remembered(out) == ExportConfig(seed=9), "what is given beside --defaults holds"
    assert "accept score of dog 0.50 → 0.30 (general)" in line(said, CHANGED)
    assert run("export", "--defaults")
    assert remembered(out) == ExportConfig()


def test_a_configuration_file_changes_what_it_names(out: Path, run: Command, tmp_path: Path) -> None:
    run("export", "--val-share", 0.5, "--class-accept-score", "cat=0.6")
    config = tmp_path / "job.toml"
    config.write_text("min-area = 40\ninclude_review = true\n")
    said = run("label", "--config", config)
    assert line(said, CHANGED) == "min area 16 → 40; include review no → yes"
    quality = QualityConfig(min_area=40, class_accept_scores={"cat": 0.6})
    assert remembered(out) == ExportConfig(quality, val_share=0.5, include_review=True)
    config.write_text("include-review = false\ndefaults = true\nseed = 3\n")
    run("label", "--config", config)
    assert remembered(out) == ExportConfig(seed=3)


def test_a_run_that_dies_keeps_its_flags(
    out: Path, made: Path, run: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its dataset is still the old one, so what the next run changes is told by that."""
    run("export")

    class Dies:
        def begin(self, images: int, already_labeled: int) -> None:
            raise KeyboardInterrupt

        def stage(self, doing: str, images: int = 0) -> None: ...
        def advance(self, report: object) -> None: ...
        def say(self, message: str) -> None: ...

    model = ModelConfig("embedded:detector", "embedded:segmenter", device="cpu")
    job = LabelJob(str(made.parent / "images"), out, Ontology.from_text("dog, cat"), model)
    with pytest.raises(KeyboardInterrupt):
        label(replace(job, export=lambda before: replace(before, val_share=0.6)), Dies())
    capsys.readouterr()
    assert remembered(out).val_share == 0.6
    assert line(run("label"), CHANGED) == "val share 0.20 → 0.60"
    assert CHANGED not in run("label")


def test_settings_without_which_no_dataset_can_be_written_are_not_kept(out: Path, run: Command, made: Path) -> None:
    run("export", "--val-share", 0.5)
    edit(out, lambda content: content.update(input=str(made / "nowhere")))
    content = settings(out)
    for path in (out / "images").rglob("*.png"):
        path.unlink()
    assert "none of the labeled images" in run("export", "--seed", 5, code=2)
    assert settings(out) == content


@pytest.mark.parametrize("command", ["label", "export"])
def test_mistakes_change_nothing(command: str, out: Path, run: Command) -> None:
    run("export", "--class-accept-score", "dog=0.5")
    before = settings(out)
    for flags, said in (
        (("--accept-score", 7), "--accept-score must be a number from 0 to 1"),
        (("--class-accept-score", "cow=0.5"), "'cow' is not among the classes (dog, cat)"),
        (
            ("--min-score", 0.01),
            "--min-score 0.01 is below the records' candidate floor of 0.1; raise it, or label ",
        ),
        (("--defaults", "--formats", "lvis"), "--formats must be one of"),
    ):
        assert said in run(command, *flags, code=2)
    assert settings(out) == before


def test_flags_are_checked_before_images_are_listed(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also against what is remembered: the place of the images does not exist."""
    edit(out, lambda content: content["export"]["quality"].update(min_score=0.15))
    there = ["label", str(out / "none"), "-o", str(out), "--classes", "dog, cat"]
    for flags, said in (
        (["--val-share", "2"], "--val-share must be"),
        (["--floor", "0.2"], "--min-score 0.15 is below"),
    ):
        assert main([*there, *flags]) == 2
        assert said in capsys.readouterr().err
    assert main([*there, "--floor", "0.2", "--min-score", "0.2"]) == 2
    assert "was labeled with another" in capsys.readouterr().err
    assert main([*there, "--floor", "0.2", "--min-score", "0.2", "--restart", "--model", "demo"]) == 2
    assert "no such file" in capsys.readouterr().err


def test_a_folder_with_a_higher_floor_and_threshold_goes_on(out: Path, run: Command) -> None:
    """The default min_score is below this floor, and so no part of what is checked."""

    def raise_floor(content: dict[str, Any]) -> None:
        content["passes"][0]["labeling"]["floor"] = content["model"]["floor"] = 0.4
        content["export"]["quality"]["min_score"] = 0.5

    edit(out, raise_floor)
    assert "min score 0.50" in line(run("label", "--floor", 0.4), "thresholds: ")


def test_review_keeps_the_settings(out: Path, run: Command, tmp_path: Path) -> None:
    run("export", "--accept-score", 0.6, "--val-share", 0.5)
    before = settings(out)
    (tmp_path / "decisions.json").write_text("[]")
    said = run("review", "--apply", tmp_path / "decisions.json")
    assert line(said, "thresholds: ").startswith("accept score 0.60, ")
    assert CHANGED not in said
    assert settings(out) == before
    edit(out, lambda content: content["export"].update(val_share=0.1))  # as a killed run leaves it
    assert line(run("review", "--apply", tmp_path / "decisions.json"), CHANGED) == "val share 0.50 → 0.10"


# ---------------------------------------------------------------- classes


def test_min_scores_stay_with_words_and_are_replaced_by_a_file(out: Path, run: Command, tmp_path: Path) -> None:
    assert CHANGED not in run("label", "--ontology", ontology_file(tmp_path / "a.toml", dog=0.4))
    said = run("label")  # --classes "dog, cat"
    assert CHANGED not in said
    assert "min score of dog 0.40" in line(said, "thresholds: ")
    said = run("export", "--ontology", ontology_file(tmp_path / "b.toml", cat=0.5))
    assert line(said, CHANGED) == "min score of dog 0.40 → 0.30 (general); min score of cat 0.30 (general) → 0.50"
    said = run("label", "--ontology", ontology_file(tmp_path / "c.toml"))
    assert line(said, CHANGED) == "min score of cat 0.50 → 0.30 (general)"
    for command in ("label", "export"):
        run("export", "--ontology", ontology_file(tmp_path / "b.toml", cat=0.5))
        assert line(run(command, "--defaults"), CHANGED) == "min score of cat 0.50 → 0.30 (general)"
    assert "min_score of class 'cat' 0.04 is below" in run(
        "label", "--ontology", ontology_file(tmp_path / "d.toml", cat=0.04), code=2
    )


def test_thresholds_follow_a_renamed_class_and_go_with_a_removed_one(out: Path, run: Command, tmp_path: Path) -> None:
    run("export", "--class-accept-score", "dog=0.5", "--class-accept-score", "cat=0.7")
    renamed = tmp_path / "renamed.toml"
    renamed.write_text('[[class]]\nname = "hound"\nprompts = ["dog"]\n[[class]]\nname = "cat"\n')
    said = run("label", "--ontology", renamed)
    assert CHANGED not in said
    assert remembered(out).quality.class_accept_scores == {"hound": 0.5, "cat": 0.7}
    renamed.write_text('[[class]]\nname = "cat"\n')
    said = run("label", "--ontology", renamed)
    assert line(said, CHANGED) == "accept score of hound 0.50 → 0.30 (general)"
    assert remembered(out).quality.class_accept_scores == {"cat": 0.7}


def test_a_restart_keeps_the_settings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Those of classes as far as the classes are the same."""
    (tmp_path / "in").mkdir()
    Image.new("RGB", (20, 20), (9, 9, 9)).save(tmp_path / "in" / "a.png")
    out = tmp_path / "out"
    ontology = Ontology((ClassSpec("bright", min_score=0.45), ClassSpec("dark", min_score=0.5)))
    quality = QualityConfig(class_accept_scores={"bright": 0.5, "dark": 0.6})
    model = ModelConfig("embedded:detector", "embedded:segmenter", device="cpu")
    job = LabelJob(str(tmp_path / "in"), out, ontology, model, ExportConfig(quality, seed=4), labeler=StandIn())
    assert label(job, Silent()).dataset.changed == ()
    again = replace(
        job, export=None, ontology=Ontology.from_text("bright, grey"), keep_min_scores=True, restart=True
    )  # fmt: skip
    assert label(again, Silent()).dataset.changed == (
        "min score of dark 0.50 → 0.30 (general)",
        "accept score of dark 0.60 → 0.30 (general)",
    )
    assert remembered(out) == ExportConfig(QualityConfig(class_accept_scores={"bright": 0.5}), seed=4)
    assert [each["min_score"] for each in settings(out)["ontology"]["classes"]] == [0.45, None]

    for content in ("{", '{"version": 0}'):
        (out / "run" / "run.json").write_text(content)
        with pytest.raises(RunError, match="--restart"):
            label(replace(again, restart=False), Silent())
        label(again, Silent())
        assert "the dataset settings that it held are lost" in caplog.messages[-1]
        assert remembered(out) == ExportConfig()


# ---------------------------------------------------------------- in Python


def test_settings_given_in_python_are_meant_whole(out: Path, made: Path, run: Command) -> None:
    run("export", "--val-share", 0.5, "--seed", 2)
    model = ModelConfig("embedded:detector", "embedded:segmenter", device="cpu")
    job = LabelJob(str(made.parent / "images"), out, Ontology.from_text("dog, cat"), model)
    for export, expected in (
        (None, ExportConfig(val_share=0.5, seed=2)),
        (lambda before: replace(before, seed=before.seed + 1), ExportConfig(val_share=0.5, seed=3)),
        (ExportConfig(seed=8), ExportConfig(seed=8)),
    ):
        summary = label(replace(job, export=export), Silent()).dataset
        assert remembered(out) == expected
    assert summary.changed == ("val share 0.50 → 0.20", "seed 3 → 8")


# ---------------------------------------------------------------- old and damaged folders


@pytest.mark.parametrize("command", ["label", "export"])
def test_folders_of_before(command: str, out: Path, run: Command) -> None:
    """Without ``published``, and without settings that came later."""
    run("export", "--accept-score", 0.6, "--val-share", 0.5)

    def age(content: dict[str, Any]) -> None:
        del content["published"], content["export"]["cutouts"], content["export"]["quality"]["class_accept_scores"]

    edit(out, age)
    said = run(command, "--val-share", 0.1)
    assert line(said, CHANGED) == "val share 0.50 → 0.10"
    assert remembered(out) == ExportConfig(QualityConfig(accept_score=0.6), val_share=0.1)
    assert settings(out)["published"] == {"export": settings(out)["export"], "min_scores": {}}


DAMAGED = [
    None, [], "x", {"quality": None}, {"quality": {"class_accept_scores": []}},
    {"quality": {"class_accept_scores": {"dog": {}}}},
    {"quality": {"accept_score": "high"}}, {"quality": {"accept": 0.5}}, {"cutouts": None},
    {"cutouts": {"margin": "x"}},
    {"cutouts": {"color": "red"}}, {"formats": None}, {"formats": "coco"}, {"formats": [1]}, {"formats": [["coco"]]},
    {"val_share": "0.5"}, {"val_share": True}, {"val_share": None}, {"seed": 1.5}, {"seed": "x"}, {"link": None},
    {"link": ["hard"]}, {"include_review": "no"}, {"max_classes": "9"}, {"min_tag_count": None}, {"later": 1},
    {"quality": {"class_accept_scores": {"dog": "x"}}}, {"quality": {"of_classes": {}}}, {"segmentation": 3},
]  # fmt: skip


def test_damaged_settings_are_one_line_and_can_be_reset(out: Path, run: Command) -> None:
    run("export")
    whole = settings(out)
    for content in DAMAGED:
        edit(out, lambda saved, content=content: saved.update(export=content))
        for command in ("label", "export"):
            said = run(command, code=2)
            assert said.count("\n") == 1
            assert re.search(
                r"run.json: the dataset settings are damaged \(.+\); reset them with `labeler export", said
            )
        assert settings(out) == {**whole, "export": content}
    edit(out, lambda saved: saved.update(export={"later": 1}))
    assert "the dataset settings are damaged (unknown setting 'later')" in run("report", code=2)
    run("label", "--defaults")
    assert remembered(out) == ExportConfig()
    edit(out, lambda saved: saved.update(export=None))
    run("export", "--defaults")
    assert remembered(out) == ExportConfig()


@pytest.mark.parametrize("damage", [{"ontology": {"classes": [5]}}, {"ontology": "x"}, {"model": None}, {"model": {}}])
def test_other_damage_is_one_line(damage: dict[str, Any], out: Path, run: Command) -> None:
    edit(out, lambda saved: saved.update(damage))
    said = run("export", code=2)
    assert re.fullmatch(
        r"labeler: \S+run.json is damaged \(.+\); put back .+ or label all again with --restart\n", said
    )


@pytest.mark.parametrize("published", [None, [], {"export": None}, {"export": {}, "min_scores": {"dog": "x"}}])
def test_a_damaged_memory_of_the_last_dataset_stops_nothing(
    published: object, out: Path, run: Command, caplog: pytest.LogCaptureFixture
) -> None:
    run("export")
    edit(out, lambda saved: saved.update(published=published))
    assert CHANGED not in run("export", "--seed", 3)
    (message,) = caplog.messages
    assert "changes since then are not listed" in message
    assert line(run("label", "--seed", 4), CHANGED) == "seed 3 → 4"


# ---------------------------------------------------------------- handed over, tuned


def test_only_given_flags_are_handed_over(tmp_path: Path) -> None:
    def handed(*flags: str) -> tuple[dict[str, Any], list[str]]:
        job = options_of(["submit", "s3://b/in", "-o", "s3://b/out", *flags]).submission()
        job.write(tmp_path)
        return tomllib.loads((tmp_path / "job.toml").read_text()), job.arguments(str(tmp_path))

    flags, arguments = handed("--classes", "dog, cat")
    assert flags == {"classes": "dog, cat"}
    assert "--ontology" not in arguments, "it would take the classes' min_score values away"
    flags, _ = handed("--classes", "dog, cat", "--val-share", "0.2", "--class-accept-score", "dog=0.3", "--defaults")
    assert flags == {"classes": "dog, cat", "val-share": 0.2, "class-accept-score": {"dog": 0.3}, "defaults": True}
    told = options_of(["label", *arguments])
    assert (told.dataset.defaults, told.wanted.classes) == (True, "dog, cat")
    assert told.dataset.given.values == {"val_share": 0.2, "class_accept_scores": {"dog": 0.3}}
    flags, arguments = handed("--ontology", str(ontology_file(tmp_path / "pets.toml", dog=0.4)), "--quiet")
    assert flags == {}
    assert arguments[-2:] == ["--ontology", str(tmp_path / "ontology.toml")]


def test_a_submission_does_not_judge_by_defaults() -> None:
    """The output may remember a min_score above the floor, which the default one is below."""
    line = ["submit", "s3://b/in", "-o", "s3://b/out", "--classes", "dog", "--floor", 0.4]
    assert options_of(line).submission().flags == {"classes": "dog", "floor": 0.4}


def test_the_top_value_of_tuned_thresholds_can_be_edited(out: Path, run: Command, tmp_path: Path) -> None:
    from workflows.commands.tune import write_thresholds

    path = tmp_path / "tuned.toml"
    write_thresholds(path, QualityConfig(accept_score=0.4, class_accept_scores={"cat": 0.5}), "made up")
    path.write_text(path.read_text().replace("accept-score = 0.4\n", "accept-score = 0.35\n"))
    run("export", "--config", path)
    assert remembered(out).quality == QualityConfig(accept_score=0.35, class_accept_scores={"cat": 0.5})
    run("label", "--config", path, "--accept-score", 0.6)
    assert remembered(out).quality == QualityConfig(accept_score=0.6), "it holds for all classes"


# ---------------------------------------------------------------- in words


def test_what_is_said() -> None:
    def made_with(**quality: Any) -> DatasetSettings:
        return DatasetSettings(ExportConfig(QualityConfig(**quality)))

    plain = made_with()
    assert thresholds_in_force(plain) == (
        "accept score 0.30, min joint score 0.20, min score 0.30, min mask score 0.50, min stability 0.60"
    )
    off = made_with(score="mask", accept_score=0.0, min_score=0, min_joint_score=0.123456, min_stability=0.0)
    assert (
        thresholds_in_force(off) == "accept score 0.00, min joint score 0.1235, min mask score 0.50, by the mask score"
    )
    many = made_with(class_accept_scores={f"c{n}": 0.5 for n in range(7)})
    assert thresholds_in_force(many).endswith(
        "; accept score of c0 0.50, c1 0.50, c2 0.50, c3 0.50, c4 0.50 and 2 more classes"
    )
    assert changes(None, plain) == changes(plain, plain) == ()
    assert changes(made_with(accept_score=0.3000001), plain) == ("accept score 0.3000001 → 0.3",)
    assert len(changes(plain, many)) == 6
    assert changes(plain, many)[5] == "accept score of 2 more classes"
    same = made_with(class_accept_scores={"dog": 0.3})
    assert changes(plain, same) == ("accept score of dog 0.30 (general) → 0.30",)
    limited = DatasetSettings(ExportConfig(max_classes=3))
    assert changes(plain, limited) == ("max classes none → 3",)


def test_saved_settings_are_read_as_they_were_written() -> None:
    quality = QualityConfig(min_score=0, class_accept_scores={"dog": 1})
    for config in (ExportConfig(), ExportConfig(quality, max_classes=4, val_share=1, formats=())):
        assert ExportConfig.from_dict(json.loads(json.dumps(asdict(config)))) == config
    assert ExportConfig.from_dict({}) == ExportConfig()
