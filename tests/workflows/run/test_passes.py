"""A class more, a class less, another name, another labeler: what is asked, and what the dataset has."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from labeler.decisions import Decision
from labeler.errors import RunError
from labeler.models.config import ModelConfig
from labeler.records import Instance, instance_ids
from ontologies import Ontology
from tests.support import killed_passes
from tests.support.command_line import Run, options_of
from tests.support.stand_in import RAISES, FindsEach, Silent, record_files, stand_in_job, write_images
from workflows.dataset.decision_log import append_decisions
from workflows.dataset.labeled import open_labeled
from workflows.label import LabelSummary, label
from workflows.review.queue import ReviewQueue
from workflows.run.folder import RunFolder
from workflows.settings.engine import EngineConfig
from workflows.settings.export import ExportConfig

EVERYTHING = ExportConfig(val_share=0, formats=("coco", "yolo"))
COPIED = ExportConfig(val_share=0, link="copy")


class Folder:
    """A labeled folder of six images that is labeled again and again."""

    def __init__(self, tmp_path: Path) -> None:
        self.images, self.out, self.log = tmp_path / "images", tmp_path / "out", tmp_path / "asked.txt"
        self.ids = write_images(self.images, range(40, 46))
        self.said: list[str] = []

    def label(
        self,
        classes: str,
        named: str = "first",
        kind: type[FindsEach] = FindsEach,
        healthy: bool = True,
        **settings: Any,
    ) -> LabelSummary:
        progress, labeler = Silent(), kind(named=named, asked=self.log, healthy=healthy)
        given = {"ontology": Ontology.from_text(classes), "export": EVERYTHING} | settings
        job = stand_in_job(self.images, self.out, labeler, **given)
        self.log.write_text("")
        done = label(job, progress)
        self.said = progress.said
        return done

    def asked(self) -> Counter[str]:
        """How many images were asked for which prompts since the last call of ``label``."""
        return Counter(line.partition(" ")[2] for line in self.log.read_text().splitlines())

    def categories(self) -> dict[str, int]:
        return {each["name"]: each["id"] for each in self._coco()["categories"]}

    def labels(self) -> Counter[str]:
        """Annotations by the name of their class."""
        names = {class_id: name for name, class_id in self.categories().items()}
        return Counter(names[each["category_id"]] for each in self._coco()["annotations"])

    def _coco(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.out / "annotations" / "instances_train.json").read_bytes())
        return content


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_only_a_new_class_is_asked_and_the_old_records_stay(folder: Folder) -> None:
    folder.label("dog, cat")
    assert folder.asked() == {"dog cat": 6}
    before, ids = record_files(folder.out), {str(each) for each in _ids(folder)}
    done = folder.label("bird, cat, dog")  # in any order
    assert folder.asked() == {"bird": 6}
    assert "asking 1 new prompt (bird) of 6 images" in folder.said
    assert done.run.images["labeled"] == 6
    after = record_files(folder.out)
    assert {name: after[name] for name in before} == before
    assert sorted(after.keys() - before.keys()) == ["pass-1-000000.parquet", "pass-1-000001.parquet"]
    assert folder.categories() == {"dog": 1, "cat": 2, "bird": 3}
    assert folder.labels() == {"dog": 6, "cat": 6, "bird": 6}
    assert ids <= {str(each) for each in _ids(folder)}
    folder.label("cat, dog, bird")
    assert not folder.asked()
    folder.label("cat, dog, bird", restart=True)
    assert folder.asked() == {"cat dog bird": 6}
    assert sorted(record_files(folder.out)) == ["000000.parquet", "000001.parquet"]
    assert folder.categories() == {"cat": 1, "dog": 2, "bird": 3}


class Unloadable(FindsEach):
    """What must not be loaded."""

    def load(self, config: ModelConfig) -> FindsEach:
        raise AssertionError("no model is needed")


def test_removing_and_renaming_need_no_model(folder: Folder) -> None:
    folder.label("dog, cat, bird")
    before = record_files(folder.out)
    folder.label("bird, cat=tom", kind=Unloadable)
    assert record_files(folder.out) == before
    assert folder.categories() == {"dog": 1, "tom": 2, "bird": 3}  # a removed class keeps its place
    assert folder.labels() == {"tom": 6, "bird": 6}
    assert any("removed: dog" in line for line in folder.said)
    assert any("'cat' is called 'tom' now" in line for line in folder.said)
    folder.label("fish, cat=tom, bird")
    assert folder.asked() == {"fish": 6}
    assert folder.categories() == {"dog": 1, "tom": 2, "bird": 3, "fish": 4}  # an id is not used again
    folder.label("fish, cat=tom, bird, dog", kind=Unloadable)
    assert folder.labels() == {"dog": 6, "tom": 6, "bird": 6, "fish": 6}
    assert any("back among the classes: dog" in line for line in folder.said)


def test_another_prompt_is_asked_for_its_class_alone(folder: Folder) -> None:
    folder.label("dog, cat")
    folder.label("dog, tabby=cat")
    assert folder.asked() == {"tabby": 6}
    assert folder.labels() == {"dog": 6, "cat": 6}
    assert {each.prompt for record in RunFolder(folder.out).labeled() for each in record.instances} == {"dog", "tabby"}
    folder.label("dog, cat, tabby=cat")
    assert not folder.asked()
    assert folder.labels() == {"dog": 6, "cat": 12}


def test_another_labeler_is_refused_unless_it_is_to_be_added(folder: Folder) -> None:
    folder.label("dog, cat")
    with pytest.raises(RunError, match=r"another named;.*--restart.*--add-pass"):
        folder.label("dog, cat", "second")
    folder.label("dog, cat, bird", "second", add_pass="new")
    assert folder.asked() == {"bird": 6}
    folder.label("dog, cat, bird", "second", add_pass="all")
    assert folder.asked() == {"dog cat": 6}
    folder.label("dog, cat, bird", "second", add_pass="all")
    assert not folder.asked()
    found = Counter(f"{each.prompt} {each.origin and each.origin[0]}" for each in _instances(folder))
    assert found == {"dog 0": 6, "cat 0": 6, "bird 1": 6, "dog 2": 6, "cat 2": 6}
    assert folder.labels() == {"dog": 6, "cat": 6, "bird": 6}  # judged together: what both found is one object


def test_a_labeler_that_is_not_named_does_not_run_and_what_lacks_is_said(folder: Folder) -> None:
    folder.label("dog, cat")
    folder.label("dog, cat, bird", "second", add_pass="new")
    write_images(folder.images / "new", [50])
    folder.label("dog, cat, bird")
    assert folder.asked() == {"dog cat": 1}
    assert any(line.startswith("1 labeled image lacks the labels of bird: name its labeler") for line in folder.said)
    assert folder.labels() == {"dog": 7, "cat": 7, "bird": 6}
    folder.label("dog, cat, bird", "second")
    assert folder.asked() == {"bird": 1}
    assert not any("lack" in line for line in folder.said)
    assert folder.labels() == {"dog": 7, "cat": 7, "bird": 7}


def test_an_image_that_fails_in_one_pass_has_failed(folder: Folder) -> None:
    write_images(folder.images / "new", [RAISES])
    folder.label("dog, cat")
    done = folder.label("dog, cat, bird", healthy=False)
    assert [image for image, _ in done.dataset.new_failures] == ["new/0000.png"]
    assert folder.labels() == {"dog": 6, "cat": 6, "bird": 6}
    done = folder.label("dog, cat, bird, fish", healthy=False)
    assert folder.asked() == {"fish": 6}  # not of what has failed before
    assert not done.dataset.new_failures
    folder.label("dog, cat, fish")
    assert folder.asked() == {"fish": 1}  # it failed on birds, for which nobody asks any more
    assert folder.labels() == {"dog": 7, "cat": 7, "fish": 7}
    folder.label("dog, cat, bird, fish", retry_failed=True)
    assert folder.labels() == {"dog": 7, "cat": 7, "bird": 7, "fish": 7}


def test_a_changed_image_is_asked_in_every_pass_and_one_that_is_gone_in_none(folder: Folder) -> None:
    folder.label("dog, cat", export=COPIED)
    folder.label("dog, cat, bird", export=COPIED)
    Image.new("RGB", (60, 30)).save(folder.images / folder.ids[2])
    (folder.images / folder.ids[0]).unlink()
    folder.label("dog, cat, bird, fish", export=COPIED)
    assert folder.asked() == {"dog cat": 1, "bird": 1, "fish": 5}
    assert folder.labels() == {"dog": 6, "cat": 6, "bird": 6, "fish": 5}
    assert any(line.startswith("1 labeled image lacks the labels of fish") for line in folder.said)
    shapes = {tuple(each.rle["size"]) for each in _instances(folder)}
    assert (30, 60) in shapes


def test_what_people_decided_follows_a_renamed_class_and_waits_for_a_removed_one(folder: Folder) -> None:
    folder.label("dog, cat")
    run = RunFolder(folder.out)
    record = next(run.labeled())
    dog, cat = sorted(record.instances, key=lambda each: each.class_id)
    reject = Decision(record.image_id, "reject", "dog", dog.rle)
    other = Decision(record.image_id, "accept", "cat", cat.rle, "dog")
    append_decisions(run, [reject, other])
    folder.label("dog=hound, cat, bird")
    labeled = open_labeled(folder.out)
    (decided, judgements) = next(iter(labeled.decided()))
    names = [labeled.ontology.class_names[each.class_id] for each in decided.record.instances]
    verdicts = {(name, each.prompt): verdict.verdict for name, each, verdict in
                zip(names, decided.record.instances, judgements, strict=True)}  # fmt: skip
    assert verdicts == {("hound", "dog"): "reject", ("hound", "cat"): "accept", ("bird", "bird"): "accept"}
    folder.label("cat, bird")
    assert folder.labels() == {"cat": 5, "bird": 6}  # the cat that a person called a dog is none
    assert ReviewQueue(open_labeled(folder.out)).choices == ("cat", "bird")
    folder.label("dog=hound, cat, bird")
    assert folder.labels() == {"hound": 6, "cat": 5, "bird": 6}


def test_export_renames_and_removes_classes_but_asks_nothing(folder: Folder, labeler: Run, tmp_path: Path) -> None:
    folder.label("dog, cat")
    folder.label("dog, cat, bird")
    file = tmp_path / "classes.json"
    file.write_text('{"bird": "birdie", "cat": "cat"}')
    done = labeler("export", folder.out, "--ontology", file)
    assert done.returncode == 0, done.stderr
    assert "removed: dog" in done.stdout
    assert folder.categories() == {"dog": 1, "cat": 2, "birdie": 3}
    assert folder.labels() == {"cat": 6, "birdie": 6}
    file.write_text('{"fish": "fish"}')
    assert "asks for other prompts" in labeler("export", folder.out, "--ontology", file).stderr
    assert options_of(["label", "x", "-o", "y", "--classes", "a", "--add-pass", "new"]).job().add_pass == "new"


@pytest.mark.slow
def test_a_kill_at_any_change_loses_nothing(tmp_path: Path) -> None:
    program = [sys.executable, killed_passes.__file__, str(tmp_path), "41"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] > 5
    assert found["differing"] == []


def test_on_ray_the_same_bytes(folder: Folder, tmp_path: Path, cluster: object) -> None:
    folder.label("dog, cat")
    folder.label("dog, cat, bird")
    (tmp_path / "ray").mkdir()
    other = Folder(tmp_path / "ray")
    other.label("dog, cat")
    other.label("dog, cat, bird", engine=EngineConfig("ray", workers=2, cpus_per_worker=1))
    assert other.asked() == {"bird": 6}
    assert record_files(other.out) == record_files(folder.out)


def _instances(folder: Folder) -> list[Instance]:
    return [each for record in RunFolder(folder.out).labeled() for each in record.instances]


def _ids(folder: Folder) -> list[object]:
    return [each for record in RunFolder(folder.out).labeled() for each in instance_ids(record)]
