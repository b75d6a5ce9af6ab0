"""Every command opens what the first version wrote, and makes of it what that version made."""

from __future__ import annotations

import json
import shutil
import threading
import tomllib
import urllib.request
import uuid
from pathlib import Path
from typing import Any

import pandas
import pytest

from labeler.files.storage import locate, scan, write_bytes
from labeler.migrations import migrate
from tests.support.frozen import DONE, FROZEN, MODELS, Frozen, digests, kept, manifest
from workflows.dataset.labeled import open_labeled
from workflows.review.queue import ReviewQueue
from workflows.review.server import ReviewServer

NEW_THRESHOLDS = {"group_share": 0.8, "min_agreement": 0.0}  # which the first version did not have

pytestmark = pytest.mark.skipif(not FROZEN.exists(), reason="tests/data is not part of the source distribution")


@pytest.fixture
def frozen(tmp_path: Path) -> Frozen:
    return Frozen.copied(tmp_path)


def verdicts(out: Path) -> dict[str, dict[str, int]]:
    """How many instances have which verdict, by class, read by pandas alone."""
    names = [each["name"] for each in json.loads((out / "run" / "classes.json").read_bytes())["classes"]]
    table = pandas.read_parquet(out / "run" / "verdicts.parquet")
    counts = table.groupby(["class_id", "verdict"]).size()
    return {name: counts[number].to_dict() for number, name in enumerate(names)}


def json_of(path: Path) -> Any:
    """Numbers to the last digits that platforms agree on."""
    return json.loads(path.read_bytes(), parse_float=lambda text: round(float(text), 6))


def test_the_copy_is_as_it_was_written(frozen: Frozen) -> None:
    for name in ("dataset", "tagged"):
        assert digests(frozen / name) == frozen.written[name]["sha256"]
        assert verdicts(frozen / name) == frozen.written[name]["verdicts"]


# ---------------------------------------------------------------- label and export


@pytest.mark.parametrize("age", ["as new as the checkout", "older than the records"])
def test_label_has_nothing_to_do(frozen: Frozen, age: str, caplog: pytest.LogCaptureFixture) -> None:
    if age == "older than the records":
        frozen.made_older()
    records, images = kept(frozen.out), manifest(frozen.out)
    decisions = (frozen.out / "run" / "decisions.jsonl").read_bytes()
    for _ in range(2):
        assert frozen.label() in DONE
        assert kept(frozen.out) == records
        assert manifest(frozen.out) == images
        assert (frozen.out / "run" / "decisions.jsonl").read_bytes() == decisions
        assert digests(frozen.out) == frozen.expected["dataset"]["sha256"]
        assert verdicts(frozen.out) == frozen.expected["dataset"]["verdicts"]
    assert not (frozen.out / "run" / "unusable").exists()
    assert [message for message in caplog.messages if "records" in message] == []


def test_label_with_tags_as_classes_has_nothing_to_do(frozen: Frozen) -> None:
    out = frozen / "tagged"
    records, images = kept(out), manifest(out)
    assert frozen.run("label", frozen / "images" / "nested", "-o", out, *MODELS.split()) == 0
    assert (kept(out), manifest(out)) == (records, images)
    assert digests(out) == frozen.expected["tagged"]["sha256"]
    classes = json.loads((out / "run" / "classes.json").read_bytes())["classes"]
    assert [each["name"] for each in classes] == frozen.expected["tagged"]["classes"]


def test_label_in_a_store_has_nothing_to_do(frozen: Frozen) -> None:
    out = locate(f"memory://{uuid.uuid4().hex}")
    for path in frozen.out.rglob("*"):
        if path.is_file() and path.name != "lock":
            write_bytes(out / path.relative_to(frozen.out).as_posix(), path.read_bytes())
    before = {
        found.name: (out / "run" / "records" / found.name).read_bytes() for found in scan(out / "run" / "records")
    }
    assert frozen.label(out=out) in DONE
    after = {found.name: (out / "run" / "records" / found.name).read_bytes() for found in scan(out / "run" / "records")}
    assert after == before
    local = frozen / "fetched"
    for name in frozen.expected["dataset"]["sha256"]:
        (local / name).parent.mkdir(parents=True, exist_ok=True)
        (local / name).write_bytes((out / name).read_bytes())
    assert digests(local) == frozen.expected["dataset"]["sha256"]


def test_one_new_image_is_labeled_and_no_other(frozen: Frozen) -> None:
    """What is found in it is what the first version found in the same picture."""
    shutil.copyfile(frozen / "images" / "late.png", frozen / "images" / "zz new.png")
    records, images = kept(frozen.out), manifest(frozen.out)
    assert frozen.label() in DONE
    after = kept(frozen.out)
    (added,) = after.keys() - records.keys()
    assert {name: after[name] for name in records} == records
    assert manifest(frozen.out) == [*images, ("zz new.png", 3, False)]
    (new,) = pandas.read_parquet(frozen.out / "run" / "records" / added).to_dict("records")
    rows = pandas.read_parquet(frozen.out / "run" / "records").set_index("image_id")
    assert new["digest"] == rows.loc["late.png", "digest"]
    assert [each["prompt"] for each in new["instances"]] == [
        each["prompt"] for each in rows.loc["late.png", "instances"]
    ]
    sums = frozen.expected["dataset"]["sha256"]
    found = digests(frozen.out)
    assert {name for name in sums if found.get(name) != sums[name]} <= {
        "annotations/instances_train.json", "annotations/instances_val.json", "run/verdicts.parquet"
    }  # fmt: skip


def test_images_that_are_gone_stay_in_the_dataset(frozen: Frozen) -> None:
    """Their names there are not those of the input."""
    for name in ("a.png", "images/b.png"):
        (frozen / "images" / name).unlink()
    assert frozen.label() in DONE
    assert digests(frozen.out) == frozen.expected["dataset"]["sha256"]


@pytest.mark.parametrize("flags", [[], ["--config", "tuned.toml"]])
def test_export_writes_the_same_dataset(frozen: Frozen, flags: list[str]) -> None:
    records = kept(frozen.out)
    flags = [str(frozen / flag) if flag.endswith(".toml") else flag for flag in flags]
    assert frozen.run("export", frozen.out, *flags) in DONE
    assert kept(frozen.out) == records
    assert digests(frozen.out) == frozen.expected["dataset"]["sha256"]


def test_export_with_another_threshold(frozen: Frozen) -> None:
    """What the gate accepted is accepted from that score on and under review below; what people decided stays."""
    path = frozen.out / "run" / "verdicts.parquet"
    assert frozen.run("export", frozen.out) in DONE
    before = pandas.read_parquet(path)
    assert frozen.run("export", frozen.out, "--accept-score", 0.7) in DONE
    after = pandas.read_parquet(path)
    same = ["image_id", "instance", "class_id", "joint_score", "decided_by"]
    assert after[same].equals(before[same])
    decided = before["decided_by"] == "person"
    assert after[decided].equals(before[decided])
    accepted = (before["verdict"] == "accept") & ~decided
    high = before["joint_score"] >= 0.7
    assert set(after["verdict"][accepted & high]) == {"accept"}
    assert set(after["verdict"][accepted & ~high]) == {"review"}
    assert frozen.run("export", frozen.out, "--config", frozen / "tuned.toml") in DONE
    assert digests(frozen.out) == frozen.expected["dataset"]["sha256"]


# ---------------------------------------------------------------- figures


def test_evaluate_gives_the_same_figures(frozen: Frozen) -> None:
    path = frozen.out / "evaluation" / "evaluation.json"
    before = migrate("evaluation.json", json_of(path), path)
    path.unlink()
    assert frozen.run("evaluate", frozen.out, "--truth", frozen / "truth.json") == 0
    after = json_of(path)
    assert after["not_compared"].pop("ambiguous") == []  # unknown to the first version
    for name, value in NEW_THRESHOLDS.items():
        assert after["settings"]["quality"].pop(name) == value
    for name in ("settings", "decided", "images", "not_compared", "all", "classes", "single_object", "image_score"):
        assert after[name] == before[name], name


def test_report_shows_all_classes_and_the_old_evaluation(frozen: Frozen) -> None:
    assert frozen.run("report", frozen.out, "--samples", 1) == 0
    page = (frozen.out / "report.html").read_text("utf-8")
    for text in (*frozen.expected["dataset"]["classes"], "truth.json", "data:image/jpeg;base64", "broken.png"):
        assert text in page


def test_tune_finds_the_same_thresholds(frozen: Frozen, tmp_path: Path) -> None:
    new = tmp_path / "new.toml"
    assert frozen.run("tune", frozen.out, "--truth", frozen / "truth.json", "--min-examples", 1, "-o", new) == 0
    found, expected = tomllib.loads(new.read_text("utf-8")), frozen.expected["tuned_again"]
    for name in frozen.expected["dataset"]["classes"]:  # a class without a table has the general thresholds
        accept = [{**each, **each.get("class", {}).get(name, {})}["accept-score"] for each in (found, expected)]
        assert accept[0] == accept[1]
    for each in (found, expected):
        each.pop("class", None)
    for name, value in NEW_THRESHOLDS.items():
        assert found.pop(name.replace("_", "-")) == value
    assert found == expected


# ---------------------------------------------------------------- review


@pytest.mark.parametrize(
    ("flag", "file", "then"), [("--apply", "decisions.json", "after_apply"), ("--from", "returned_2.xml", "after_from")]
)
def test_review_takes_decisions_in(frozen: Frozen, flag: str, file: str, then: str) -> None:
    path = frozen.out / "run" / "decisions.jsonl"
    before = path.read_text("utf-8")
    assert frozen.run("review", frozen.out, flag, frozen / file) in DONE
    after = path.read_text("utf-8")
    assert after.startswith(before)
    assert [json.loads(line) for line in after[len(before) :].splitlines()] == frozen.expected[then]["decisions"]
    assert digests(frozen.out) == frozen.expected[then]["sha256"]


def test_review_sends_a_third_set_and_keeps_the_others(frozen: Frozen, tmp_path: Path) -> None:
    sent = frozen.out / "run" / "sent"
    before = {path.name: path.read_bytes() for path in sent.iterdir()}
    assert frozen.run("review", frozen.out, "--to", "cvat", "-o", tmp_path / "set", "--verdict", "not-rejected") == 0
    after = {path.name: path.read_bytes() for path in sent.iterdir()}
    assert after.keys() == {*before, "000003.json"}
    assert {name: after[name] for name in before} == before
    counts = frozen.expected["dataset"]["verdicts"].values()
    wanted = sum(each.get("accept", 0) + each.get("review", 0) for each in counts)
    assert sum(len(image["instances"]) for image in json.loads(after["000003.json"])["images"]) == wanted
    decisions = (frozen.out / "run" / "decisions.jsonl").read_text("utf-8")
    assert frozen.run("review", frozen.out, "--from", frozen / "returned_2.xml") in DONE  # of the second set
    new = (frozen.out / "run" / "decisions.jsonl").read_text("utf-8").removeprefix(decisions)
    assert [json.loads(line) for line in new.splitlines()] == frozen.expected["after_from"]["decisions"]


def test_the_review_page_opens(frozen: Frozen) -> None:
    with ReviewServer(ReviewQueue(open_labeled(frozen.out), ("review", "accept"))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            session, items = (
                json.loads(urllib.request.urlopen(server.url + name).read()) for name in ("session", "items?start=0")
            )
            picture = urllib.request.urlopen(f"{server.url}images/{items['items'][0]['image']}").read()
        finally:
            server.shutdown()
            thread.join()
    counts = frozen.expected["dataset"]["verdicts"].values()
    assert session["total"] == sum(each.get("review", 0) + each.get("accept", 0) for each in counts)
    assert 0 < session["accepted"] <= frozen.expected["dataset"]["decided_by_person"]["accept"]
    assert picture.startswith(b"\xff\xd8")


# ---------------------------------------------------------------- tag


def test_tag_has_nothing_to_do(frozen: Frozen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(frozen.folder)  # the proposal names itself as it was asked for
    records, proposed = kept(frozen / "proposed.tags"), (frozen / "proposed.toml").read_bytes()
    assert frozen.run("tag", frozen / "images", "-o", "proposed.toml", "--model", "demo") in DONE
    assert kept(frozen / "proposed.tags") == records
    assert (frozen / "proposed.toml").read_bytes() == proposed
    assert not (frozen / "proposed.new.toml").exists()
