"""Images that propose their own classes: at the command line, with the embedded weights."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image

from labeler.demo.scenes import PAIRS, class_name
from labeler.files.images import read_image
from labeler.models.config import PRESETS, ModelConfig
from labeler.models.detectors.detector import Detector
from labeler.models.loading import load_detector
from labeler.records import ImageRecord
from ontologies import read_ontology
from ontologies.taggers import Tags
from ontologies.taggers.detector import DetectorTagger
from ontologies.taggers.ram import load_ram
from tests.support.command_line import Run, contents, write_scenes
from tests.support.samples import sample_of
from tests.support.tiny_taggers import RAM_PACKAGE, forget_ram, write_ram_weights
from workflows.run.folder import RunFolder

AUTO = ("--model", "demo", "--tagger", "auto", "--shard-size", 2, "--device", "cpu")
TAG = ("--model", "demo", "--shard-size", 2, "--device", "cpu")
NAMES = tuple(class_name(pair) for pair in PAIRS)


def records(out: Path) -> dict[str, ImageRecord]:
    return {record.image_id: record for record in RunFolder(out).labeled()}


def class_names(out: Path) -> tuple[str, ...]:
    classes = RunFolder(out).classes()
    assert classes is not None
    return classes.ontology.class_names


@pytest.fixture(scope="module")
def detector() -> Detector:
    return load_detector(ModelConfig(PRESETS["demo"].detector, "", device="cpu"))


def test_images_get_classes_that_nobody_named(scenes: Path, tmp_path: Path, labeler: Run, detector: Detector) -> None:
    out = tmp_path / "out"
    done = labeler("label", scenes, "-o", out, *AUTO)
    assert done.returncode == 0, done.stderr
    found = records(out)
    order: dict[str, None] = {}
    for name, record in found.items():
        best = detector.detect([read_image(scenes / name).pixels], [NAMES])[0].scores.max(axis=0, initial=0.0)
        expected = {tag: score for tag, score in zip(NAMES, best, strict=True) if score >= 0.3}
        assert dict(record.tags) == pytest.approx(expected, abs=1e-4)
        assert {record.tags[i.class_id][0] for i in record.instances} == {i.prompt for i in record.instances}
        order |= dict.fromkeys(tag for tag, _ in record.tags)
    data = yaml.safe_load((out / "data.yaml").read_text())
    assert list(data["names"].values()) == list(order)
    written = Counter[str]()
    for split in ("train", "val"):
        content = json.loads((out / "annotations" / f"instances_{split}.json").read_text())
        assert [category["name"] for category in content["categories"]] == list(order)
        written += Counter(content["categories"][a["category_id"] - 1]["name"] for a in content["annotations"])
    assert sum(written.values()) > 5


def test_more_images_move_no_class(scenes: Path, tmp_path: Path, labeler: Run) -> None:
    out = tmp_path / "out"
    assert labeler("label", scenes, "-o", out, *AUTO).returncode == 0
    before = class_names(out)
    write_scenes(scenes, range(100, 106))
    (scenes / "scene_100.png").rename(scenes / "a_first.png")  # before all others by name
    assert labeler("label", scenes, "-o", out, *AUTO).returncode == 0
    after = class_names(out)
    assert after[: len(before)] == before
    assert len(after) > len(before)
    rare = labeler("export", out, "--min-tag-count", 2)
    assert rare.returncode == 0, rare.stderr
    counts = Counter(tag for record in records(out).values() for tag, _ in record.tags)
    assert class_names(out) == tuple(name for name in after if counts[name] >= 2)
    assert labeler("export", out, "--min-tag-count", 1).returncode == 0  # and back: no tag was lost
    assert set(class_names(out)) == set(after)


def test_a_gate_keeps_what_it_does_not_rule_out(scenes: Path, tmp_path: Path, labeler: Run) -> None:
    classes = ("--classes", ", ".join(NAMES[:12]))
    options = ("--model", "demo", "--device", "cpu", *classes)
    assert labeler("label", scenes, "-o", tmp_path / "plain", *options).returncode == 0
    open_gate = labeler("label", scenes, "-o", tmp_path / "open", *options, "--tagger", "detector")
    assert open_gate.returncode == 0, open_gate.stderr
    plain, opened = records(tmp_path / "plain"), records(tmp_path / "open")
    assert {name: record.instances for name, record in plain.items()} == {n: r.instances for n, r in opened.items()}
    assert all({tag for tag, _ in record.tags} == set(NAMES[:12]) for record in opened.values())
    assert labeler("label", scenes, "-o", tmp_path / "gated", *options, "--gate-below", 0.5).returncode == 0
    for name, record in records(tmp_path / "gated").items():
        scores = dict(record.tags)
        assert scores == dict(opened[name].tags)
        asked = {instance.class_id for instance in record.instances}
        assert all(scores[NAMES[class_id]] >= 0.5 for class_id in asked)
        sure = {i.class_id for i in plain[name].instances if scores[NAMES[i.class_id]] >= 0.5}
        assert asked == sure


def test_an_ontology_is_proposed_and_labels_as_it_is(scenes: Path, tmp_path: Path, labeler: Run) -> None:
    path = tmp_path / "proposed.toml"
    done = labeler("tag", scenes, "-o", path, *TAG)
    assert done.returncode == 0, done.stderr
    tagged = [record.tags for record in records(tmp_path / "proposed.tags").values()]
    counts = Counter(tag for tags in tagged for tag, score in tags if score >= 0.3)
    assert len(counts) < len({tag for tags in tagged for tag, _ in tags})  # more is kept, for other thresholds
    proposed = read_ontology(path)
    assert set(proposed.class_names) == set(counts)
    assert [counts[name] for name in proposed.class_names] == sorted(counts.values(), reverse=True)
    assert f"in {counts[proposed.class_names[0]]} of 6 images" in path.read_text()
    again = labeler("tag", scenes, "-o", path, *TAG)
    assert "6 of 6 images are tagged already" in again.stdout
    fewer = labeler("tag", scenes, "-o", path, *TAG, "--tag-score", 0.6)  # no model is asked for that
    assert "6 of 6 images are tagged already" in fewer.stdout
    assert set(read_ontology(path).class_names) == {tag for tags in tagged for tag, score in tags if score >= 0.6}
    assert labeler("tag", scenes, "-o", path, *TAG).returncode == 0
    path.write_text(path.read_text() + "# edited\n")
    beside = labeler("tag", scenes, "-o", path, *TAG, "--max-classes", 1)
    assert "was edited, so it stays as it is" in beside.stdout
    assert path.read_text().endswith("# edited\n")
    assert read_ontology(tmp_path / "proposed.new.toml").class_names == proposed.class_names[:1]
    refused = labeler("export", tmp_path / "proposed.tags")
    assert refused.returncode == 2
    assert "holds tags alone" in refused.stderr
    (tmp_path / "words.txt").write_text("red circle\n")
    other = labeler("tag", scenes, "-o", path, *TAG, "--vocabulary", tmp_path / "words.txt")
    assert other.returncode == 2
    assert "was tagged with another vocabulary;" in other.stderr
    assert read_ontology(path) == proposed
    labeled = labeler("label", scenes, "-o", tmp_path / "out", "--model", "demo", "--ontology", path, "--device", "cpu")
    assert labeled.returncode == 0, labeled.stderr


def test_a_sample_stays_the_same(scenes: Path, tmp_path: Path, labeler: Run) -> None:
    done = labeler("tag", scenes, "-o", tmp_path / "few.toml", *TAG, "--sample", 3)
    assert done.returncode == 0, done.stderr
    assert "\n3 images tagged, " in done.stdout
    first = (tmp_path / "few.toml").read_text()
    assert labeler("tag", scenes, "-o", tmp_path / "few.toml", *TAG).returncode == 0
    assert "of 6 images" in (tmp_path / "few.toml").read_text()
    assert labeler("tag", scenes, "-o", tmp_path / "few.toml", *TAG, "--sample", 3).returncode == 0
    assert (tmp_path / "few.toml").read_text() == first  # not of all that was ever looked at
    ids = [f"{n:04d}.jpg" for n in range(1000)]
    sample = sample_of(ids, 100)
    smallest = sorted(ids, key=lambda image_id: hashlib.blake2b(image_id.encode(), digest_size=8).digest())[:100]
    assert sample == sorted(smallest)
    grown = sample_of([*ids, *(f"{n:04d}.png" for n in range(100))], 100)
    assert len(set(sample) & set(grown)) > 80
    assert sample_of(ids, 2000) == ids


def test_images_without_a_tag_stay_in(scenes: Path, tmp_path: Path, labeler: Run) -> None:
    Image.new("RGB", (64, 64), "grey").save(scenes / "nothing.png")
    done = labeler("label", scenes, "-o", tmp_path / "out", *AUTO)
    assert done.returncode == 0, done.stderr
    assert records(tmp_path / "out")["nothing.png"].tags == ()
    (label,) = (tmp_path / "out" / "labels").rglob("nothing.txt")
    assert label.read_text() == ""


@pytest.fixture
def ram_package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(RAM_PACKAGE))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(RAM_PACKAGE), os.environ.get("PYTHONPATH", "")]))
    yield
    forget_ram()


@pytest.mark.usefixtures("ram_package")
def test_ram_by_the_command(scenes: Path, tmp_path: Path, labeler: Run) -> None:
    weights = tmp_path / "ram_plus.pth"
    expected = load_ram(str(write_ram_weights("ram_plus", weights)))
    forget_ram()
    options = ("--model", "demo", "--device", "cpu", "--tagger-model", weights)
    done = labeler("tag", scenes, "-o", tmp_path / "ram.toml", *options)
    assert done.returncode == 0, done.stderr
    found = records(tmp_path / "ram.tags")
    assert {tag for record in found.values() for tag, _ in record.tags}
    for name, record in found.items():
        assert dict(record.tags) == pytest.approx(dict(expected.tag([read_image(scenes / name).pixels])[0]), abs=1e-5)
    # What RAM has no word for it cannot rule out.
    gate = ("--classes", f"{NAMES[0]}, {expected.vocabulary[0]}", "--gate-below", 1.0)
    gated = labeler("label", scenes, "-o", tmp_path / "gated", *options, *gate)
    assert gated.returncode == 0, gated.stderr
    assert "forward passes of the detector: 6 with the gate, 6 without it" in gated.stdout
    torch.save({**torch.load(weights), "more": 1}, weights)
    other = labeler("tag", scenes, "-o", tmp_path / "ram.toml", *options)
    assert other.returncode == 2
    assert "was tagged with another tagger_model;" in other.stderr


def test_an_image_that_cannot_be_tagged_is_no_empty_image(
    scenes: Path, tmp_path: Path, labeler: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = DetectorTagger.tag

    def tag_but_thin_ones(self: DetectorTagger, images: Sequence[NDArray[np.uint8]]) -> list[Tags]:
        if any(image.shape[1] == 1 for image in images):
            raise RuntimeError("the kernel size is larger than the input")
        return tag(self, images)

    monkeypatch.setattr(DetectorTagger, "tag", tag_but_thin_ones)
    Image.new("RGB", (1, 2000)).save(scenes / "thin.png")
    done = labeler("label", scenes, "-o", tmp_path / "out", *AUTO)
    assert done.returncode == 1
    assert "1 could not be labeled" in done.stdout
    assert "thin.png: tagging failed: " in done.stdout
    assert not list((tmp_path / "out" / "labels").rglob("thin.txt"))
    tagged = labeler("tag", scenes, "-o", tmp_path / "some.toml", *TAG)
    assert tagged.returncode == 1
    assert "of 6 images" in (tmp_path / "some.toml").read_text()
    none = labeler("tag", scenes / "thin.png", "-o", tmp_path / "none.toml", *TAG)
    assert none.returncode == 2
    assert "none of 1 images could be tagged (thin.png: tagging failed: " in none.stderr


@pytest.mark.slow
def test_on_ray_the_same(cluster: object, scenes: Path, tmp_path: Path, labeler: Run) -> None:
    assert labeler("label", scenes, "-o", tmp_path / "local", *AUTO).returncode == 0
    on_ray = labeler("label", scenes, "-o", tmp_path / "ray", *AUTO, "--engine", "ray", "--workers", 2)
    assert on_ray.returncode == 0, on_ray.stderr
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    proposals = []
    for engine in (("local",), ("ray", "--workers", 2)):
        path = tmp_path / f"{engine[0]}.toml"
        done = labeler("tag", scenes, "-o", path, *TAG, "--engine", *engine)
        assert done.returncode == 0, done.stderr
        proposals.append(path.read_text().replace(str(path), ""))
    assert proposals[0] == proposals[1]
    assert read_ontology(path).classes


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("label", "{in}", "-o", "{out}", "--model", "demo"), 2, "or --tagger auto"),
        (
            ("label", "{in}", "-o", "{out}", "--model", "demo", "--tagger", "oracle"),
            2,
            "--tagger must be one of auto, ",
        ),
        (("label", "{in}", "-o", "{out}", *AUTO, "--vocabulary", "none.txt"), 2, "no such vocabulary or file"),
        (("label", "{in}", "-o", "{out}", *AUTO, "--vocabulary", "{empty}"), 2, "there are no words in it"),
        (("label", "{in}", "-o", "{out}", *AUTO, "--vocabulary", "coco", "--classes", "x"), 2, "scores just these"),
        (("label", "{in}", "-o", "{out}", *AUTO, "--tag-score", "0.2", "--classes", "x"), 2, "take --gate-below"),
        (("label", "{in}", "-o", "{out}", *AUTO, "--gate-below", "0.2"), 2, "is for given classes"),
        (("label", "{in}", "-o", "{out}", *AUTO, "--tag-tiles", "2"), 2, "not for the tagger detector"),
        (("tag", "{in}", "-o", "{out}.toml", *TAG, "--tag-score", "0.01"), 2, "below what is kept of tags (0.1)"),
        (
            ("label", "{in}", "-o", "{out}", "--model", "demo", "--tag-score", "0.5", "--classes", "x"),
            2,
            "is for a tagger",
        ),
        (("label", "{in}", "-o", "{out}", *AUTO, "--tag-score", "2"), 2, "--tag-score must be a number from 0 to 1"),
        (("label", "{in}", "-o", "{out}", *AUTO, "--tag-score", "1"), 2, "no image has a tag to make a class of"),
        (
            ("label", "{in}", "-o", "{out}", *AUTO, "--max-classes", "0"),
            2,
            "--max-classes must be a whole number, 1 or more",
        ),
        (("label", "{in}", "-o", "{out}", "--model", "demo", "--tagger", "ram"), 2, "needs --tagger-model"),
        (
            ("label", "{in}", "-o", "{out}", *AUTO[:2], "--tagger", "ram", "--tagger-model", "./ram_plus.pth"),
            2,
            "./ram_plus.pth: no such file",
        ),
        (("tag", "{in}", "-o", "{out}", *TAG), 2, "ends in .toml"),
        (("tag", "{in}", "-o", "{out}.toml", *TAG, "--tag-score", "1"), 2, "no tag in 6 images"),
        (("tag", "{in}", "-o", "{out}.toml", *TAG, "--sample", "0"), 2, "--sample must be a whole number, 1 or more"),
        (("tag", "{in}", "-o", "{out}.toml", *TAG, "--synonyms", "none.toml"), 2, "none.toml"),
    ],
)
def test_mistakes_are_said_in_a_line(
    arguments: tuple[str, ...], code: int, said: str, scenes: Path, tmp_path: Path, labeler: Run
) -> None:
    (tmp_path / "empty.txt").write_text("# nothing\n")
    places = {"in": scenes, "out": tmp_path / "out", "empty": tmp_path / "empty.txt"}
    done = labeler(*(str(argument).format(**places) for argument in arguments))
    assert done.returncode == code, done.stdout + done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_repeats_in_a_vocabulary_are_one_line(scenes: Path, tmp_path: Path, labeler: Run) -> None:
    path = tmp_path / "words.txt"
    path.write_text("red circle\nblue square\n" + "Red circle\n" * 10_000)
    done = labeler("label", scenes, "-o", tmp_path / "out", *AUTO, "--vocabulary", path, "--tag-score", "0.05")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1
    assert "10000 words are repeated" in done.stderr


def test_words_longer_than_the_sweeping_detector_reads_are_refused(scenes: Path, tmp_path: Path, labeler: Run) -> None:
    path = tmp_path / "words.txt"
    path.write_text("red circle\n" + "red " * 300 + "circle\n")
    done = labeler("label", scenes, "-o", tmp_path / "out", *AUTO, "--vocabulary", path)
    assert done.returncode == 2
    assert "takes 301 tokens" in done.stderr
