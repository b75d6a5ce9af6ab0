from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import DatasetCard as HubCard

from labeler.formats.dataset_card import CardModel, DatasetCard, card_text, dataset_digest
from labeler.formats.hugging_face import FOLDERS, METADATA, HuggingFaceWriter
from tests.support.labeled_image import boxes_mask, labeled_image, write_image

CARD = DatasetCard(
    "Shapes: on a table",
    "abc123",
    images={"train": 1200, "val": 30},
    instances={"cat": 2000, "großer | *Hund*": 5},
    models=[CardModel("detector", "IDEA-Research/grounding-dino-tiny", "apache-2.0"), CardModel("segmenter", "own.pt")],
    thresholds={"accept score": "0.35", "min score": "0.25 (cat: 0.4)"},
    metrics={"mask AP": 0.51234, "recall": 1.0},
    measured_on="truth.json",
    decided_by_hand=12,
    version="0.1.0",
)


def test_the_hub_reads_the_header() -> None:
    card = HubCard(card_text(CARD))
    assert card.data.to_dict() == {
        "pretty_name": "Shapes: on a table",
        "annotations_creators": ["machine-generated", "expert-generated"],
        "task_categories": ["image-segmentation", "object-detection"],
        "task_ids": ["instance-segmentation"],
        "size_categories": ["1K<n<10K"],
        "tags": ["labeler", "coco", "autodistill"],
    }
    assert HubCard(card_text(replace(CARD, license="cc-by-4.0"))).data.license == "cc-by-4.0"


def test_what_it_says() -> None:
    text = HubCard(card_text(CARD)).text
    for line in (
        "# Shapes: on a table",
        "1,230 images with 2,005 instances of 2 classes. Labeled automatically by labeler 0.1.0; a person decided on "
        "12 instances.",
        "Content digest: `abc123`",
        "| train | 1,200 |",
        "| großer \\| \\*Hund\\* | 5 |",
        "| detector | IDEA-Research/grounding-dino-tiny | apache-2.0 |",
        "| segmenter | own.pt | unknown |",
        "| min score | 0.25 (cat: 0.4) |",
        "Measured against truth.json.",
        "| mask AP | 0.512 |",
    ):
        assert line in text.splitlines()
    bare = card_text(DatasetCard("a", "b", {"train": 0}, {}))
    assert "not measured" in bare
    assert "## Models" not in bare
    assert card_text(CARD) == card_text(CARD)


@pytest.mark.parametrize(
    ("images", "size"),
    [
        (0, "n<1K"),
        (999, "n<1K"),
        (1000, "1K<n<10K"),
        (99_999, "10K<n<100K"),
        (100_000, "100K<n<1M"),
        (10**7, "10M<n<100M"),
    ],
)
def test_size_category(images: int, size: str) -> None:
    card = HubCard(card_text(replace(CARD, images={"train": images})))
    assert card.data.size_categories == [size]


@pytest.mark.parametrize("title", ["a\n---\nb: c", "x: [y", "'\"", "#", "🐈 <script>"])
def test_any_title_keeps_the_header_whole(title: str) -> None:
    text = card_text(replace(CARD, title=title))
    assert yaml.safe_load(text.split("---\n", 2)[1])["pretty_name"] == " ".join(title.split())
    assert "<script>" not in HubCard(text).text.replace("\\<", "")


def test_digest_is_of_names_and_content() -> None:
    files = [("a.txt", "1"), ("b.txt", "2")]
    assert dataset_digest(files) == dataset_digest(files[::-1])
    assert len({dataset_digest(each) for each in (files, [("a.txt", "2"), ("b.txt", "1")], files[:1], [])}) == 4
    assert dataset_digest([("a", "b\nc")]) != dataset_digest([("a", "b"), ("c", "")])


def test_load_dataset_follows_the_card(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.disable_progress_bars()
    for split, count in (("train", 3), ("val", 1)):
        folder = tmp_path / "data" / FOLDERS[split]
        folder.mkdir(parents=True)
        with HuggingFaceWriter(folder / METADATA, ["cat"]) as writer:
            for number in range(count):
                record = labeled_image(f"{number}.png", boxes_mask(20, 30, (1, 2, 10, 12)))
                write_image(folder / record.image_id, record)
                writer.add(record, record.image_id)
    card = replace(CARD, folders={FOLDERS[split]: f"{FOLDERS[split]}/**" for split in ("train", "val")})
    (tmp_path / "data" / "README.md").write_text(card_text(card), encoding="utf-8")
    found = datasets.load_dataset(str(tmp_path / "data"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(part) for split, part in found.items()} == {"train": 3, "validation": 1}
    assert found["validation"][0]["objects"]["bbox"] == [[1, 2, 9, 10]]
