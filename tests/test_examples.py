"""The scripts in ``examples/``, run with the demo's weights on the demo's scenes."""

from __future__ import annotations

import json
import runpy
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labeler.demo.scenes import Scene, class_name, make_scene, scene_rng
from labeler.geometry.masks import rle_to_mask
from tests.support import ROOT
from workflows.commands.cli import main as labeler
from workflows.dataset.labeled import open_labeled

PAIRS = [
    ("red", "circle"),
    ("green", "star"),
    ("blue", "square"),
    ("yellow", "heart"),
    ("white", "ring"),
    ("purple", "crescent"),
]
CLASSES = [class_name(pair) for pair in PAIRS]


@pytest.fixture(scope="module")
def scenes() -> dict[str, Scene]:
    return {f"{index}.png": make_scene(scene_rng(3, index), pairs=PAIRS) for index in range(8)}


@pytest.fixture(scope="module")
def images(scenes: dict[str, Scene], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    for name, scene in scenes.items():
        Image.fromarray(scene.image).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def dataset(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("labeled") / "dataset"
    example("label_folder")(str(images), str(output), ", ".join(CLASSES), "demo")
    return output


def example(name: str) -> Callable[..., None]:
    """The ``main`` of a script, as Python loads it."""
    main: Callable[..., None] = runpy.run_path(str(ROOT / "examples" / f"{name}.py"))["main"]
    return main


def annotations(dataset: Path) -> Counter[str]:
    """Objects by class name, as the COCO files say."""
    counts: Counter[str] = Counter()
    for path in (dataset / "annotations").glob("instances_*.json"):
        content = json.loads(path.read_bytes())
        names = {each["id"]: each["name"] for each in content["categories"]}
        counts.update(names[each["category_id"]] for each in content["annotations"])
    return counts


def test_label_folder(dataset: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example("label_folder")(str(images), str(dataset), ", ".join(CLASSES), "demo")  # again: nothing is new
    printed = capsys.readouterr().out
    counts = annotations(dataset)
    assert sum(counts.values()) > 8
    for name, count in counts.items():
        assert f"{name}: {count} accepted" in printed
    assert (dataset / "report.html").stat().st_size > 10_000


def test_filter_records(dataset: Path, tmp_path: Path) -> None:
    before = open_labeled(dataset)
    at_border = {
        (record.image_id, index): min(x1, y1, record.width - x2, record.height - y2) <= 30
        for record in before.records()
        for index, (x1, y1, x2, y2) in enumerate(instance.box_xyxy for instance in record.instances)
    }
    accepted = accepted_in(dataset)
    assert {at_border[each] for each in accepted} == {True, False}

    example("filter_records")(str(dataset), str(tmp_path / "decisions.jsonl"), "30")
    assert len((tmp_path / "decisions.jsonl").read_text().splitlines()) == sum(at_border.values())
    assert labeler(["review", str(dataset), "--apply", str(tmp_path / "decisions.jsonl")]) == 0

    inside = {each for each in accepted if not at_border[each]}
    assert accepted_in(dataset) >= inside
    assert not any(at_border[each] for each in accepted_in(dataset))
    assert sum(annotations(dataset).values()) == len(accepted_in(dataset))


def accepted_in(dataset: Path) -> set[tuple[str, int]]:
    """Image and index of each accepted instance."""
    return {
        (record.image_id, index)
        for record, judgements in open_labeled(dataset).judged()
        for index, judgement in enumerate(judgements)
        if judgement.verdict == "accept"
    }


def test_own_detector(scenes: dict[str, Scene], images: Path, tmp_path: Path) -> None:
    """Most objects of a colour are found, and most of what is found is one."""
    example("own_detector")(str(images), str(tmp_path / "dataset"), "red, green, blue, yellow", "demo")
    labeled = open_labeled(tmp_path / "dataset")
    colours = labeled.ontology.class_names
    hits, found, true = 0, 0, 0
    for record, judgements in labeled.judged():
        scene = scenes[record.image_id]
        objects = [(pair[0], scene.mask(index)) for index, pair in enumerate(scene.pairs) if pair[0] in colours]
        masks = [
            (colours[instance.class_id], rle_to_mask(instance.rle))
            for instance, judgement in zip(record.instances, judgements, strict=True)
            if judgement.verdict == "accept"
        ]
        true, found = true + len(objects), found + len(masks)
        hits += sum(
            any(
                colour == name and np.count_nonzero(mask & shape) > 0.5 * np.count_nonzero(mask | shape)
                for name, mask in masks
            )
            for colour, shape in objects
        )
    assert hits > 0.5 * true, (hits, true)
    assert hits > 0.7 * found > 0, (hits, found)
