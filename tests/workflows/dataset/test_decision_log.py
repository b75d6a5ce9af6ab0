"""Decisions on disk, and a dataset that heeds them."""

from __future__ import annotations

import json
import logging
import uuid
from pathlib import Path
from typing import Any

import pandas
import pytest
from pycocotools import mask as coco_mask

from labeler.decisions import Decision
from labeler.errors import FormatError
from labeler.files.storage import locate, read_bytes
from labeler.instance_ids import InstanceId
from labeler.record_files import read_records, write_records
from labeler.records import ImageRecord, Instance
from tests.support.object_store import Bucket
from tests.support.run_folders import ONTOLOGY, coco, instance, make_run, write_labels
from tests.support.run_settings import run_settings
from workflows.dataset.decision_log import (
    append_decisions,
    by_image,
    decisions_path,
    read_decision_file,
    read_decisions,
)
from workflows.dataset.export import export
from workflows.dataset.labeled import open_labeled
from workflows.run.folder import RunFolder
from workflows.settings.export import ExportConfig

SURE, UNSURE, POOR = instance(0, 0.8, 0), instance(0, 0.31, 20), instance(0, 0.1, 40)


def on(item: Instance, verdict: Any = "accept", image_id: str = "a.png", **values: Any) -> Decision:
    return Decision(image_id, verdict, ONTOLOGY.class_names[item.class_id], item.rle, **values)


def added(name: str, item: Instance, image_id: str = "a.png") -> Decision:
    return Decision(image_id, "accept", None, None, name, item.rle)


@pytest.mark.parametrize("kind", ["folder", "s3", "memory"])
def test_what_is_appended_is_read(kind: str, tmp_path: Path, bucket: Bucket) -> None:
    name = uuid.uuid4().hex
    places = {"folder": tmp_path / "run", "s3": f"{bucket.uri}/{name}", "memory": f"memory://{name}"}
    run = RunFolder(locate(places[kind]))
    if isinstance(run.path, Path):
        run.path.mkdir(parents=True)
    assert read_decisions(run) == []
    first = [on(SURE), on(UNSURE, "reject", "ü b.png")]
    append_decisions(run, first)
    append_decisions(run, [])
    assert read_decisions(run) == first
    append_decisions(run, [on(SURE, "reject")])
    assert read_decisions(run) == [*first, on(SURE, "reject")]
    assert by_image(read_decisions(run)) == {"ü b.png": [first[1]], "a.png": [first[0], on(SURE, "reject")]}
    lines = read_bytes(decisions_path(run)).decode().splitlines()
    assert [json.loads(line)["verdict"] for line in lines] == ["accept", "reject", "reject"]  # one a line, all kept


@pytest.mark.parametrize("cut", [1, 20, 10**9])
def test_a_torn_line_is_named_and_costs_no_other(cut: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As a process leaves it that is killed while it writes; cut by one character, only the line's end is lost."""
    run = RunFolder(tmp_path)
    run.path.mkdir()
    append_decisions(run, [on(SURE), on(UNSURE)])
    path = run.path / "decisions.jsonl"
    whole = path.read_bytes()
    second = whole.index(b"\n") + 1
    path.write_bytes(whole[: max(len(whole) - cut, second + 3)])
    expected = [on(SURE), on(UNSURE)] if cut == 1 else [on(SURE)]
    with caplog.at_level(logging.WARNING):
        assert read_decisions(run) == expected
        append_decisions(run, [on(POOR)])
        assert read_decisions(run) == [*expected, on(POOR)]
    assert [record.getMessage().split(":")[0] for record in caplog.records] == (
        [] if cut == 1 else [f"{path}, line 2"] * 2
    )


def test_a_file_of_decisions_is_a_list_or_lines(tmp_path: Path) -> None:
    decisions = [on(SURE), added("cat", POOR)]
    rows = [each.to_row() for each in decisions]
    path = tmp_path / "decisions.json"
    for text in (json.dumps(rows, indent=1), "".join(json.dumps(row) + "\n" for row in rows), json.dumps(rows)):
        path.write_text(text)
        assert read_decision_file(path) == decisions


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[{]", "decisions.json: not valid JSON"),
        ('[{"verdict": "accept"}]', "decisions.json, entry 1: not a decision .*image_id"),
        ('\n{"verdict": "accept"}', "decisions.json, line 2: not a decision .*image_id"),
        ("torn", "decisions.json, line 1: not a decision"),
        ("[3]", "decisions.json, entry 1: not a decision"),
        ("3", "decisions.json, line 1: not a decision"),
    ],
)
def test_a_file_of_something_else_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "decisions.json"
    path.write_text(text)
    with pytest.raises(FormatError, match=message):
        read_decision_file(path)


def test_the_dataset_is_what_a_person_made_of_it(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.png", "b.png"], (SURE, UNSURE, POOR))
    redrawn, new = instance(0, 1, 30), instance(0, 1, 12)
    append_decisions(
        run,
        [
            on(SURE, "reject"),
            on(UNSURE, new_class="cat", new_rle=redrawn.rle),
            on(POOR),
            added("dog", new),
            on(SURE, image_id="gone.png"),
            on(new, image_id="b.png"),
            on(POOR, "none", image_id="b.png"),
            on(POOR, "none", image_id="gone.png"),
        ],
    )
    summary = export(run, root, ONTOLOGY, ExportConfig(val_share=0))
    content = coco(run)
    (identity,) = (image["id"] for image in content["images"] if image["file_name"] == "a.png")
    found = {
        (each["category_id"], tuple(each["bbox"]), round(each["score"], 3))
        for each in content["annotations"]
        if each["image_id"] == identity
    }
    assert found == {
        (2, (30, 5, 15, 20), 1),
        (1, (40, 5, 15, 20), 0.09),
        (1, (12, 5, 15, 20), 1),
    }
    written = next(
        e["segmentation"] for e in content["annotations"] if e["image_id"] == identity and e["category_id"] == 2
    )
    assert (coco_mask.decode(written) == coco_mask.decode(redrawn.rle)).all()
    labels = (run.output / "labels" / "train" / "a.txt").read_text().splitlines()
    assert sorted(line.split()[0] for line in labels) == ["0", "0", "1"]
    assert summary.decided == {"accept": 3, "reject": 1}
    assert summary.unmatched == [on(new, image_id="b.png"), on(SURE, image_id="gone.png")]
    assert summary.verdicts["cat"] == {"accept": 1}
    assert summary.reasons["by hand"] == 1
    verdicts = pandas.read_parquet(run.path / "verdicts.parquet").query("image_id == 'a.png'")
    assert list(verdicts["decided_by"]) == ["person"] * 4
    assert list(verdicts["verdict"]) == ["reject", "accept", "accept", "accept"]
    assert set(pandas.read_parquet(run.path / "verdicts.parquet").query("image_id == 'b.png'")["decided_by"]) == {
        "gate"
    }


def test_decisions_outlive_labeling_with_other_models(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.png"], (SURE, UNSURE, POOR))
    append_decisions(run, [on(SURE, "reject"), on(UNSURE), on(POOR)])
    # the masks of other models: one shifted by one of 15 columns, one by eight, and one that is new
    others = (instance(0, 0.5, 1), instance(0, 0.31, 28), instance(1, 0.9, 40))
    write_records(run.records / "000000.parquet", [ImageRecord("a.png", 60, 40, "other", instances=others)])
    summary = export(run, root, ONTOLOGY, ExportConfig())
    assert summary.decided == {"reject": 1}
    assert summary.unmatched == [on(UNSURE), on(POOR)]
    assert [each["bbox"] for each in coco(run)["annotations"]] == [[40, 5, 15, 20]]


def test_copies_and_renamed_images_are_decided_on_separately(tmp_path: Path) -> None:
    """A decision names its image: it does not hold for another image with the same bytes and ids."""
    run, root = make_run(tmp_path, ["a.png", "b.png"], (SURE,))
    digests = {record.image_id: record.digest for record in read_records(run.record_paths())}
    assert digests["a.png"] == digests["b.png"]
    decision = on(SURE, "reject", instance=InstanceId(digests["a.png"], 0))
    append_decisions(run, [decision])

    def accepted() -> list[object]:
        content = coco(run)
        names = {image["id"]: image["file_name"] for image in content["images"]}
        return sorted(names[each["image_id"]] for each in content["annotations"])  # type: ignore[type-var]

    summary = export(run, root, ONTOLOGY, ExportConfig(val_share=0))
    assert (accepted(), summary.decided, summary.unmatched) == (["b.png"], {"reject": 1}, [])
    (root / "a.png").rename(root / "c.png")
    write_labels(run, root, ["b.png", "c.png"], (SURE,))
    summary = export(run, root, ONTOLOGY, ExportConfig(val_share=0))
    assert (accepted(), summary.decided, summary.unmatched) == (["b.png", "c.png"], {}, [decision])
    (root / "c.png").rename(root / "a.png")  # the decision was kept for it
    write_labels(run, root, ["a.png", "b.png"], (SURE,))
    summary = export(run, root, ONTOLOGY, ExportConfig(val_share=0))
    assert (accepted(), summary.decided, summary.unmatched) == (["b.png"], {"reject": 1}, [])


def test_an_opened_folder_shows_what_a_person_made_of_it(tmp_path: Path) -> None:
    run, root = make_run(tmp_path, ["a.png"], (SURE, UNSURE))
    run.settings.write(run_settings(root, ONTOLOGY))
    append_decisions(run, [on(SURE, "reject"), on(UNSURE, new_class="cat")])
    ((record, judgements),) = open_labeled(run.output).judged()
    assert [item.class_id for item in record.instances] == [0, 1]
    assert [(each.verdict, each.by_hand) for each in judgements] == [("reject", True), ("accept", True)]
    assert next(open_labeled(run.output).records()).instances[1].class_id == 0
