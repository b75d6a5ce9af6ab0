"""Nights with failing images: which failures are new, how many there may be, and what run/summary.json says of them."""

from __future__ import annotations

import json
import logging
import shlex
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from labeler.errors import RunError, UsageError
from labeler.files.storage import locate
from labeler.quality_config import QualityConfig
from tests.support import stand_in
from tests.support.command_line import write_scenes
from tests.support.object_store import Bucket
from tests.support.stand_in import GOOD, KILLS, RAISES, Silent, StandIn, stand_in_job, write_images
from workflows.commands.cli import main
from workflows.label import LabelSummary, label
from workflows.run.failures import FailureLedger, TooManyFailuresError
from workflows.run.folder import RunFolder
from workflows.run.shard_report import ShardReport
from workflows.settings.engine import EngineConfig
from workflows.settings.export import ExportConfig
from workflows.settings.job import LabelJob
from workflows.settings.limits import FailureLimit

DEMO = ("--model", "demo", "--device", "cpu", "--shard-size", "1", "--classes", "circle, star")


def job(tmp_path: Path, **more: Any) -> LabelJob:
    return replace(stand_in_job(tmp_path / "images", tmp_path / "out", StandIn()), **more)


def night(tmp_path: Path, **more: Any) -> LabelSummary:
    return label(job(tmp_path, **more), Silent())


def told(tmp_path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((tmp_path / "out" / "run" / "summary.json").read_text())
    return content


def counts(tmp_path: Path) -> tuple[int, int, int]:
    """The exit code, and how many failures were new and old, of the last run."""
    content = told(tmp_path)
    return content["exit_code"], content["failed"]["new"]["count"], content["failed"]["old"]["count"]


def dataset_of(tmp_path: Path) -> dict[str, bytes]:
    found = (path for path in (tmp_path / "out").rglob("*") if path.is_file() and "run" not in path.parts)
    return {str(path): path.read_bytes() for path in found}


def test_another_try_costs_no_image_its_labels(tmp_path: Path) -> None:
    """Labels of images that are gone, or never failed, stay as they are."""
    write_images(tmp_path / "images", [GOOD, RAISES, GOOD, GOOD])
    night(tmp_path, export=ExportConfig(link="copy"))
    before = {record.image_id: record for record in RunFolder(tmp_path / "out").labeled()}
    (tmp_path / "images" / "0000.png").unlink()
    again = night(tmp_path, retry_failed=True)
    assert again.labeled.images == 1
    assert {record.image_id: record for record in RunFolder(tmp_path / "out").labeled()} == before
    assert sum(again.dataset.images.values()) == 3


def test_a_reader_that_goes_away_does_not_end_the_run(tmp_path: Path) -> None:
    write_images(tmp_path / "images", [GOOD, GOOD])
    night(tmp_path)
    (tmp_path / "out" / "run" / "summary.json").unlink()
    export = f"{shlex.quote(sys.executable)} -m workflows.commands.cli export {shlex.quote(str(tmp_path / 'out'))}"
    command = f"({export} --accept-score 0.1; echo $? >&2) | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=100)
    assert done.stderr == "0\n"
    assert counts(tmp_path) == (0, 0, 0)


def test_a_failure_is_new_once(tmp_path: Path) -> None:
    write_images(tmp_path / "images", [GOOD, RAISES, GOOD, GOOD, GOOD])
    first = night(tmp_path)
    assert (first.run.exit_code, *first.dataset.new_failures[0]) == (
        1, "0001.png", "labeling failed: ValueError: no such luck",
    )  # fmt: skip
    assert counts(tmp_path) == (1, 1, 0)
    for _ in range(2):
        assert night(tmp_path).run.exit_code == 0
        assert counts(tmp_path) == (0, 0, 1)
    write_images(tmp_path / "images", [GOOD, RAISES, GOOD, GOOD, GOOD, GOOD, RAISES])  # one more
    assert night(tmp_path).dataset.new_failures[0][0] == "0006.png"
    assert counts(tmp_path) == (1, 1, 1)
    assert night(tmp_path, retry_failed=True).run.exit_code == 1  # they were tried by this run, and failed
    assert counts(tmp_path) == (1, 2, 0)
    assert night(tmp_path, allow_failures=True).run.exit_code == 0
    write_images(tmp_path / "images", [GOOD, GOOD, GOOD, GOOD, GOOD, GOOD, RAISES])
    night(tmp_path)
    assert counts(tmp_path) == (0, 0, 1)


def test_failures_may_be_allowed(tmp_path: Path) -> None:
    write_images(tmp_path / "images", [GOOD, RAISES])
    assert night(tmp_path, allow_failures=True).run.exit_code == 0
    assert counts(tmp_path) == (0, 1, 0)


def test_nothing_labeled_is_never_a_success(tmp_path: Path) -> None:
    write_images(tmp_path / "images", [RAISES])
    for _ in range(2):
        assert night(tmp_path, allow_failures=True).run.exit_code == 3


def test_what_a_killed_run_recorded_is_new_to_the_run_that_resumes(tmp_path: Path) -> None:
    write_images(tmp_path / "images", [GOOD, RAISES, GOOD, GOOD])
    night(tmp_path)
    write_images(tmp_path / "images", [GOOD, RAISES, GOOD, GOOD, GOOD, RAISES, GOOD, GOOD, KILLS])
    program = [sys.executable, stand_in.__file__, tmp_path / "images", tmp_path / "out"]
    records = tmp_path / "out" / "run" / "records"
    for _ in range(3):  # the shard may not have been written when the process was killed; later, it is alone
        if not (records / "000001.parquet").exists():
            assert subprocess.run(program, stderr=subprocess.DEVNULL).returncode == -9
    assert (records / "000001.parquet").exists()
    assert counts(tmp_path) == (1, 1, 0)  # of the first night
    write_images(tmp_path / "images", [GOOD, RAISES, GOOD, GOOD, GOOD, RAISES, GOOD, GOOD, GOOD])
    resumed = night(tmp_path, max_failures="20%")  # one of the five images taken up since the first night
    assert [name for name, _ in resumed.dataset.new_failures] == ["0005.png"]
    assert counts(tmp_path) == (1, 1, 1)
    assert night(tmp_path).run.exit_code == 0


class Stops(Silent):
    def advance(self, report: ShardReport) -> None:
        raise KeyboardInterrupt


def test_a_stopped_run_says_so_and_its_failures_stay_new(tmp_path: Path) -> None:
    write_images(tmp_path / "images", [RAISES, GOOD, GOOD, GOOD, GOOD])
    progress = Stops()
    with pytest.raises(KeyboardInterrupt):
        label(job(tmp_path), progress)
    content = told(tmp_path)
    assert (content["exit_code"], content["error"], content["images"]["found"]) == (130, "stopped", 5)
    assert [line for line in progress.said if line.startswith("summary: command=label exit_code=130 found=5")]
    assert main(["export", str(tmp_path / "out")]) == 1  # reported by this one
    assert counts(tmp_path) == (1, 1, 0)
    assert main(["export", str(tmp_path / "out")]) == 0
    assert night(tmp_path).run.exit_code == 0
    assert counts(tmp_path) == (0, 0, 1)


@pytest.mark.parametrize("limit", ["3", "42%"])
def test_a_run_with_too_many_failures_stops_early_and_is_made_up_for(tmp_path: Path, limit: str) -> None:
    images = tmp_path / "images"
    write_images(images, [GOOD, RAISES, GOOD, GOOD])
    night(tmp_path)
    before = dataset_of(tmp_path)
    write_images(images, [GOOD, RAISES, GOOD, GOOD, GOOD, *[RAISES] * 6, GOOD, GOOD])
    tried = []

    class Watches(Silent):
        def advance(self, report: ShardReport) -> None:
            tried.append(report.images)

    with pytest.raises(TooManyFailuresError, match=rf"6 of 9 images failed, more than --max-failures {limit} allows"):
        label(job(tmp_path, max_failures=limit), Watches())
    assert tried == [4, 4]  # 3 failures in the first shard; the third, of one image, was not waited for
    assert dataset_of(tmp_path) == before
    assert counts(tmp_path) == (4, 6, 0)
    assert told(tmp_path)["images"]["labeled"] == 8
    with pytest.raises(TooManyFailuresError):  # nothing has changed: no success at the second attempt
        night(tmp_path, max_failures=limit)
    write_images(images, [GOOD, RAISES, *[GOOD] * 11])  # the cause is gone, and the stamps with it
    assert night(tmp_path, max_failures=limit).run.exit_code == 0
    assert counts(tmp_path) == (0, 0, 1)
    assert sum(map(bool, RunFolder(tmp_path / "out").labeled())) == 13
    assert len(dataset_of(tmp_path)) > len(before)


def test_images_that_failed_in_an_outage_are_tried_again_though_their_files_are_the_same(tmp_path: Path) -> None:
    write_images(tmp_path / "images", [GOOD, *[RAISES] * 5])
    with pytest.raises(TooManyFailuresError):
        night(tmp_path, max_failures="50%")
    done = label(stand_in_job(tmp_path / "images", tmp_path / "out", StandIn(healthy=True)), Silent())
    assert (done.run.exit_code, done.labeled.images, done.dataset.failures) == (0, 7 - 2, [])


@pytest.mark.parametrize(
    ("text", "failures", "images", "exceeded"),
    [
        ("0", 0, 10, False), ("0", 1, 10, True), ("20", 20, 10**6, False), ("20", 21, 10**6, True),
        ("5%", 5, 100, False), ("5%", 6, 100, True), ("0.5%", 1, 200, False), ("0%", 1, 10**6, True),
        ("100%", 10, 10, False), ("5%", 0, 0, False), ("5%", 1, 0, True),
    ],
)  # fmt: skip
def test_limits(text: str, failures: int, images: int, exceeded: bool) -> None:
    assert FailureLimit.parse(text).is_exceeded(failures, images) == exceeded


@pytest.mark.parametrize("text", ["", "%", "-1", "1.5", "101%", "nan%", "-1%", "five", "٣"])
def test_what_is_no_limit_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give a number of images, such as 20, or a percentage, such as 5%"):
        job(tmp_path, max_failures=text)


def test_failures_of_writing_the_dataset_are_new_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_images(tmp_path / "images", [GOOD, GOOD, GOOD, GOOD])
    night(tmp_path)  # with hard links, so that the dataset's file changes with the input's
    write_images(tmp_path / "images", [GOOD + 5, GOOD, GOOD, GOOD])
    cut_out = ("export", str(tmp_path / "out"), "--format", "coco,cutouts", "--max-area-share", "0")
    assert main([*cut_out]) == 1
    assert "0000.png: the image has changed since it was labeled" in capsys.readouterr().out
    assert main([*cut_out]) == 0
    said = capsys.readouterr().out
    assert "1 image failed in earlier runs" in said
    assert counts(tmp_path) == (0, 0, 1)
    line = next(line for line in said.splitlines() if line.startswith("summary: "))
    figures = dict(word.split("=") for word in line.removeprefix("summary: ").split())
    assert figures == {
        "command": "export", "exit_code": "0", "found": "4", "labeled": "0", "train": figures["train"],
        "val": figures["val"], "test": "0", "accept": "3", "review": "0", "reject": "0",
        "leaks": "0", "failed_new": "0", "failed_old": "1",
    }  # fmt: skip
    decisions = tmp_path / "decisions.json"
    decisions.write_text("[]")
    assert main(["review", str(tmp_path / "out"), "--apply", str(decisions)]) == 0
    assert (told(tmp_path)["command"], counts(tmp_path)) == ("review", (0, 0, 1))


def test_listed_images_that_are_missing_are_new_once(tmp_path: Path) -> None:
    write_images(tmp_path / "images", [GOOD, GOOD])
    listed = tmp_path / "list.txt"
    listed.write_text("images/0000.png\nimages/0001.png\nimages/never.png\n")
    assert night(tmp_path, images=str(listed)).run.exit_code == 1
    assert night(tmp_path, images=str(listed)).run.exit_code == 0
    for path in (tmp_path / "images" / "0001.png", next((tmp_path / "out" / "images").rglob("images_0001.png"))):
        path.unlink()  # labeled once, and gone since
    gone = night(tmp_path, images=str(listed))
    assert (gone.run.exit_code, gone.dataset.new_failures) == (1, [("images/0001.png", "no such file")])
    assert main(["export", str(tmp_path / "out")]) == 0  # to which it is merely gone
    assert night(tmp_path, images=str(listed)).run.exit_code == 0
    assert counts(tmp_path) == (0, 0, 2)
    with_limit = night(tmp_path, images=str(listed), max_failures="0")
    assert with_limit.run.exit_code == 0
    (tmp_path / "images" / "0000.png").rename(tmp_path / "images" / "never.png")
    next((tmp_path / "out" / "images").rglob("images_0000.png")).unlink()
    too_many = night(tmp_path, images=str(listed), max_failures="0")
    assert (too_many.run.exit_code, len(too_many.dataset.images)) == (4, 1)
    assert counts(tmp_path)[0] == 4
    assert night(tmp_path, images=str(listed)).run.exit_code == 1  # what failed a run stays new


def test_a_list_of_a_missing_and_a_broken_image_names_both(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    listed = tmp_path / "list.txt"
    listed.write_text("images/broken.png\nimages/never.png\n")
    nothing = night(tmp_path, images=str(listed))
    assert nothing.run.exit_code == 3
    broken, never = nothing.dataset.new_failures
    assert (broken[0], never) == ("images/broken.png", ("images/never.png", "no such file"))
    assert night(tmp_path, images=str(listed)).run.exit_code == 3


@pytest.mark.parametrize("left", [None, "{", '{"failed": 3, "pending": [], "retry": false}'])
def test_without_knowledge_of_earlier_runs_failures_are_new_once(tmp_path: Path, left: str | None) -> None:
    write_images(tmp_path / "images", [GOOD, RAISES])
    night(tmp_path)
    path = tmp_path / "out" / "run" / "reported.json"
    path.unlink()
    if left is not None:
        path.write_text(left)
    assert [night(tmp_path).run.exit_code for _ in range(2)] == [1, 0]
    path.unlink()
    write_images(tmp_path / "images", [GOOD, RAISES, RAISES])
    assert night(tmp_path, max_failures="1").run.exit_code == 1  # of the one new image
    assert counts(tmp_path) == (1, 2, 0)
    path.unlink()
    assert [main(["export", str(tmp_path / "out")]) for _ in range(2)] == [1, 0]
    assert night(tmp_path).run.exit_code == 0


@pytest.mark.parametrize(
    "text",
    [
        *("[]", "null", "[" * 100_000, '{"pending": [0], "retry": false}', '{"pending": [' + "9" * 5000 + "]}"),
        *(
            f'{{"failed": [], "pending": {pending}, "retry": false}}'
            for pending in ("[1e400]", "[99999999999999999999]", "[-1]", "[NaN]", "[true]", '["0"]', "[[0]]", "0")
        ),
        *(f'{{"failed": {failed}, "pending": [], "retry": false}}' for failed in ('["\\ud800"]', "[1]", '"ab"')),
    ],
)
def test_a_damaged_note_of_reported_failures_is_named_and_replaced(
    text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "run" / "reported.json"
    path.parent.mkdir()
    path.write_text(text)
    ledger = FailureLedger(RunFolder(tmp_path))
    assert (ledger.failed, ledger.pending, ledger.retry) == (set(), set(), False)
    assert [each.getMessage() for each in caplog.records] == [f"{path} is damaged; failures may be reported once more"]
    ledger.close(["a.png"])
    assert json.loads(path.read_text()) == {"failed": ["a.png"], "pending": [], "retry": False}


def test_what_the_summary_says(tmp_path: Path) -> None:
    write_images(tmp_path / "images", [GOOD] * 7 + [RAISES])
    config = ExportConfig(QualityConfig(max_area_share=0, accept_score=0.4), val_share=0.5)
    began = datetime.now(UTC).replace(microsecond=0)
    summary = night(tmp_path, export=config, max_failures="50%")
    content = told(tmp_path)
    records = list(RunFolder(tmp_path / "out").labeled())
    started, ended = (datetime.fromisoformat(content[name]) for name in ("started", "ended"))
    assert began <= started <= ended <= datetime.now(UTC)
    assert (content["version"], content["command"], content["labeler"]) == (1, "label", version("autodistill-labeler"))
    assert content["asked"] == {
        "input": str(tmp_path / "images"), "classes": ["thing"], "tagger": None, "detector": "embedded:detector",
        "segmenter": "embedded:segmenter", "detector_image_size": None, "segmenter_image_size": None,
        "max_failures": "50%", "allow_failures": False,
    }  # fmt: skip
    files = {split: len(list((tmp_path / "out" / "images" / split).iterdir())) for split in ("train", "val")}
    assert {name: content["images"][name] for name in ("found", "labeled", "train", "val")} == {
        "found": len(records), "labeled": 8, **files,
    }  # fmt: skip
    assert content["instances"] == {"accept": 7, "review": 0, "reject": 0}
    assert content["failed"]["new"]["first"] == [
        {"image": "0007.png", "error": "labeling failed: ValueError: no such luck"}
    ]
    assert (content["engine"], content["workers"], content["error"], content["exit_code"]) == ("local", 1, None, 1)
    assert (content["thresholds"]["accept_score"], content["thresholds"]["max_area_share"]) == (0.4, 0)
    assert content["seconds"].keys() == {"load", "label", "export", "total"}
    assert content["seconds"]["total"] >= content["seconds"]["label"] > 0
    words = shlex.split(summary.run.line())
    assert words[0] == "summary:"
    assert {"failed_new=1", "failed_old=0", "exit_code=1", "labeled=8"} <= set(words)


def test_a_refused_run_writes_no_summary_and_a_failed_one_does(tmp_path: Path) -> None:
    write_images(tmp_path / "images", [GOOD, GOOD])
    night(tmp_path)
    before = (tmp_path / "out" / "run" / "summary.json").read_bytes()
    with pytest.raises(RunError, match="was labeled with another floor"):
        night(tmp_path, model=replace(job(tmp_path).model, floor=0.3))
    assert (tmp_path / "out" / "run" / "summary.json").read_bytes() == before
    for path in [*(tmp_path / "images").iterdir(), *(tmp_path / "out" / "images").rglob("*.png")]:
        path.unlink()
    assert main(["export", str(tmp_path / "out")]) == 2
    assert told(tmp_path)["error"].startswith("none of the labeled images is below")
    assert counts(tmp_path) == (2, 0, 0)


def test_a_summary_that_cannot_be_written_fails_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_images(tmp_path / "images", [GOOD])
    (tmp_path / "out" / "run" / "summary.json").mkdir(parents=True)
    with caplog.at_level(logging.WARNING):
        assert night(tmp_path).run.exit_code == 0
    assert [message.partition(":")[0] for message in caplog.messages] == [str(tmp_path / "out/run/summary.json")]


def test_codes_at_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    write_scenes(images, [0])
    for name in ("bad.png", "torn.png"):
        (images / name).write_bytes(b"no image")
    command = ["label", str(images), "-o", str(out), *DEMO]
    assert main([*command, "--max-failures", "1"]) == 4
    output = capsys.readouterr()
    assert output.err.count("\n") == 1
    assert "2 of 3 images failed, more than --max-failures 1 allows (bad.png: " in output.err
    assert "summary: command=label exit_code=4 found=3" in output.out
    assert not (out / "data.yaml").exists()
    assert main([*command, "--max-failures", "67%"]) == 1
    assert "2 could not be labeled" in capsys.readouterr().out
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "2 images failed in earlier runs" in said
    assert "bad.png" not in said
    assert main([*command, "--max-failures", "half"]) == 2
    tag = ["tag", str(images), "-o", str(tmp_path / "proposed.toml"), *DEMO[:6]]
    assert [main([*tag, "--max-failures", "1"]), main(tag), main(tag)] == [4, 1, 0]
    assert "2 images failed in earlier runs" in capsys.readouterr().out
    content = json.loads((tmp_path / "proposed.tags" / "run" / "summary.json").read_text())
    assert (content["command"], content["exit_code"], content["failed"]["old"]["count"]) == ("tag", 0, 2)


def test_the_same_in_a_store(tmp_path: Path, bucket: Bucket) -> None:
    write_images(tmp_path / "images", [GOOD, RAISES])
    out = locate(f"{bucket.uri}/out")
    codes = [night(tmp_path, output=out).run.exit_code for _ in range(2)]
    assert codes == [1, 0]
    content = json.loads(bucket.contents("out/")["run/summary.json"])
    assert (content["exit_code"], content["failed"]["old"]["first"][0]["image"]) == (0, "0001.png")


@pytest.mark.slow
def test_the_same_on_ray(cluster: object, tmp_path: Path) -> None:
    engine = EngineConfig("ray", workers=1, gpus_per_worker=0, cpus_per_worker=1)
    write_images(tmp_path / "images", [GOOD, RAISES, GOOD, GOOD, RAISES])
    with pytest.raises(TooManyFailuresError):
        night(tmp_path, engine=engine, max_failures="1")
    assert counts(tmp_path) == (4, 2, 0)
    assert night(tmp_path, engine=engine, max_failures="2").run.exit_code == 1
    content = told(tmp_path)
    assert (content["engine"], content["workers"], counts(tmp_path)) == ("ray", 1, (1, 2, 0))
    assert night(tmp_path, engine=engine).run.exit_code == 0
