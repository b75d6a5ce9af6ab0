"""A class more, a class less, another name, another labeler: what is asked, and what the dataset has."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from labeler.models.config import ModelConfig
from labeler.records import instance_ids
from ontologies import Ontology
from tests.support.stand_in import FindsEach, Silent, record_files, stand_in_job, write_images
from workflows.label import LabelSummary, label
from workflows.run.folder import RunFolder
from workflows.settings.export import ExportConfig

EVERYTHING = ExportConfig(val_share=0, formats=("coco", "yolo"))


class Folder:
    """A labeled folder of six images that is labeled again and again."""

    def __init__(self, tmp_path: Path) -> None:
        self.images, self.out, self.log = tmp_path / "images", tmp_path / "out", tmp_path / "asked.txt"
        self.ids = write_images(self.images, range(40, 46))
        self.said: list[str] = []

    def label(
        self, classes: str, named: str = "first", kind: type[FindsEach] = FindsEach, **settings: Any
    ) -> LabelSummary:
        progress, labeler = Silent(), kind(named=named, asked=self.log)
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


def _ids(folder: Folder) -> list[object]:
    return [each for record in RunFolder(folder.out).labeled() for each in instance_ids(record)]
