"""Reviewing by hand: the order, the server and who may talk to it, the kill in the middle, the way into the dataset."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import random
import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from labeler.decisions import Decision
from labeler.errors import UsageError
from labeler.files.images import read_image
from labeler.geometry.masks import mask_to_rle, rle_area
from labeler.record_files import read_records, write_records
from labeler.records import ImageRecord, Instance
from tests.support.command_line import Run, labeler_command
from tests.support.reviews import FAR, NEAR, POOR, SURE, labeled, on, places, queue_of, saved, serving
from tests.support.run_folders import ONTOLOGY, coco, instance
from workflows.dataset.decision_log import append_decisions, decisions_path
from workflows.dataset.export import export
from workflows.review.apply import apply_decisions
from workflows.review.server import ITEMS_PER_PAGE, MAX_BODY, ReviewServer
from workflows.run.folder import RunFolder
from workflows.settings.export import ExportConfig

# ---------------------------------------------------------------- the order


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        ("review", [15, 30]),
        ("accept", [0]),
        ("reject", [44]),
        ("all", [15, 30, 44, 0]),  # distances 0.003, 0.021; then 0.21, 0.42
    ],
)
def test_the_most_uncertain_come_first(verdict: str, expected: list[int], tmp_path: Path) -> None:
    run = labeled(tmp_path, (SURE, NEAR, FAR, POOR))
    assert places(queue_of(run, verdict)) == [("a.png", left) for left in expected]


def test_the_order_runs_through_all_images_and_an_object_comes_once(tmp_path: Path) -> None:
    run = labeled(tmp_path, (FAR, NEAR, FAR), "a.png", "b.png")
    assert places(queue_of(run)) == [("a.png", 15), ("b.png", 15), ("a.png", 30), ("b.png", 30)]


def test_classes_that_images_proposed(tmp_path: Path) -> None:
    """Records number instances by their own tags; decisions name the dataset's classes."""
    run = labeled(tmp_path, (), "a.png", "b.png")
    run.settings.write(replace(run.settings.read(), ontology=None))
    tagged = [("a.png", ("fox", "dog"), (NEAR,)), ("b.png", ("dog",), (NEAR, FAR))]
    write_records(
        run.records / "000000.parquet",
        [
            ImageRecord(
                image_id,
                60,
                40,
                read_image(tmp_path / "input" / image_id).digest,
                tags=tuple((tag, 1.0) for tag in tags),
                instances=found,
            )
            for image_id, tags, found in tagged
        ],
    )
    queue = queue_of(run)
    shown = [(item["image_id"], item["class"]) for item in map(queue.item, range(3))]
    assert shown == [("a.png", "fox"), ("b.png", "dog"), ("b.png", "dog")]
    queue.decide(1, "accept", "fox")
    assert apply_decisions(run.output, []).decided == {"accept": 1}
    assert {each["category_id"] for each in coco(run)["annotations"]} == {1}


def test_one_class_alone(tmp_path: Path) -> None:
    cat = instance(1, 0.65, 40)
    run = labeled(tmp_path, (SURE, cat))
    assert places(queue_of(run, "all", "cat")) == [("a.png", 40)]
    with pytest.raises(UsageError, match=r"cow: not a class of this dataset \(dog, cat\)"):
        queue_of(run, "all", "cow")


def test_what_a_rejected_one_hid_comes_last(tmp_path: Path) -> None:
    """Two masks of one object: once the better is rejected, the lesser would go into the dataset unseen."""
    run = labeled(tmp_path, (NEAR, instance(0, 0.32, 16), FAR))
    queue = queue_of(run)
    assert places(queue) == [("a.png", 15), ("a.png", 30)]
    queue.decide(0, "reject")
    assert places(queue) == [("a.png", 15), ("a.png", 30), ("a.png", 16)]
    assert queue.progress(0) == {"total": 3, "accepted": 0, "rejected": 1, "next": 1}
    assert sorted(places(queue_of(run))) == sorted(places(queue))  # and is there the next time


# ---------------------------------------------------------------- deciding


def test_decisions_are_on_disk_and_there_the_next_time(tmp_path: Path) -> None:
    run = labeled(tmp_path, (NEAR, FAR))
    queue = queue_of(run)
    queue.decide(0, "accept", "cat")
    assert saved(run) == [on(NEAR, new_class="cat")]
    queue.decide(1, "reject")
    assert saved(run)[1] == on(FAR, "reject")
    again = queue_of(run)
    assert [(again.item(n)["class"], again.item(n)["decided"]) for n in (0, 1)] == [
        ("cat", "accept"),
        ("dog", "reject"),
    ]
    assert again.progress() == {"total": 2, "accepted": 1, "rejected": 1, "next": None}


def test_undo_goes_back_step_by_step(tmp_path: Path) -> None:
    run = labeled(tmp_path, (NEAR, FAR))
    redrawn = on(NEAR, new_class="cat", new_rle=instance(0, 1, 5).rle)
    append_decisions(run, [redrawn])
    queue = queue_of(run)
    queue.decide(0, "reject")
    assert queue.item(0)["box"][0] == 5  # the mask that was drawn is not lost by a slip of the finger
    queue.decide(0, "accept", "dog")
    assert saved(run) == [on(NEAR, new_rle=redrawn.new_rle)]
    queue.decide(1, "accept")
    assert [queue.undo(), queue.undo(), queue.undo(), queue.undo()] == [1, 0, 0, None]
    assert [each for each in saved(run) if each.verdict != "none"] == [redrawn]
    assert [queue.item(n)["decided"] for n in (0, 1)] == ["accept", None]
    assert queue.progress()["next"] == 1


def test_a_new_word_on_another_models_mask_takes_the_old_back(tmp_path: Path) -> None:
    run = labeled(tmp_path, (NEAR,))
    old = on(instance(0, 1, 17))
    append_decisions(run, [old])
    queue = queue_of(run)
    assert queue.item(0)["decided"] == "accept"
    queue.decide(0, "reject")
    assert [each.verdict for each in saved(run)] == ["none", "reject"]
    queue.undo()
    assert [each for each in saved(run) if each.verdict != "none"] == [old]


def test_one_mask_under_two_classes_is_one_object_once_it_was_relabeled(tmp_path: Path) -> None:
    cat = instance(1, 0.31, 15)
    run = labeled(tmp_path, (NEAR, cat))
    queue = queue_of(run, "all")

    def shown() -> list[tuple[str, str | None]]:
        items = sorted(map(queue.item, range(len(queue))), key=lambda item: item["labeled_as"] != "dog")
        return [(item["class"], item["decided"]) for item in items]

    dog_item, cat_item = sorted((0, 1), key=lambda number: queue.item(number)["labeled_as"] != "dog")
    queue.decide(cat_item, "accept")
    queue.decide(dog_item, "accept", "cat")
    assert shown() == [("cat", "accept")] * 2
    summary = export(run, tmp_path / "input", ONTOLOGY, ExportConfig())
    assert [each["category_id"] for each in coco(run)["annotations"]] == [2]
    assert summary.decided == {"accept": 1, "reject": 1}
    for number in (cat_item, dog_item):  # whichever one turns to, it is this object
        queue.decide(number, "reject")
        assert shown() == [("cat", "reject")] * 2
        assert export(run, tmp_path / "input", ONTOLOGY, ExportConfig()).decided == {"reject": 2}
        assert coco(run)["annotations"] == []
        assert queue.undo() == number
        assert shown() == [("cat", "accept")] * 2
    queue.decide(cat_item, "accept", "dog")
    assert shown()[0] == ("dog", "accept")
    export(run, tmp_path / "input", ONTOLOGY, ExportConfig())
    assert [each["category_id"] for each in coco(run)["annotations"]] == [1]
    assert [queue.undo(), queue.undo(), queue.undo(), queue.undo()] == [cat_item, dog_item, cat_item, None]
    assert shown() == [("dog", None), ("cat", None)]
    assert apply_decisions(run.output, []).unmatched == []


def test_of_equal_instances_the_one_that_the_gate_would_take_is_shown(tmp_path: Path) -> None:
    queue = queue_of(labeled(tmp_path, (instance(0, 0.31, 15), NEAR)))
    assert [queue.item(number)["scores"]["detector"] for number in range(len(queue))] == [pytest.approx(0.33)]


def test_nothing_is_decided_on_what_was_not_shown(tmp_path: Path) -> None:
    run = labeled(tmp_path, (NEAR,))
    queue = queue_of(run)
    instance_id = queue.item(0)["instance"]
    write_records(run.records / "000000.parquet", [ImageRecord("a.png", 60, 40, "d", instances=(FAR,))])
    with pytest.raises(UsageError, match="labeled again"):
        queue.decide(0, "accept", instance=instance_id)
    with pytest.raises(UsageError, match="cow"):
        queue.decide(0, "accept", "cow")
    with pytest.raises(IndexError):
        queue.decide(1, "accept")
    assert saved(run) == []


def test_the_outline_gives_the_mask_back(tmp_path: Path) -> None:
    """Two parts and a hole, filled by the even-odd rule along pixel edges."""
    mask = np.zeros((40, 60), dtype=bool)
    mask[5:25, 10:40] = True
    mask[10:15, 20:30] = False
    mask[30:33, 50:] = mask[39, 0] = True
    rle = mask_to_rle(mask)
    run = labeled(tmp_path, (Instance(0, "p", (10, 5, 40, 25), 0.33, 0.9, 0.9, rle_area(rle), rle),))
    outline = queue_of(run, "all").item(0)["outline"]
    lines = [
        np.array(line.replace("L", " ").split(), int).reshape(-1, 2)
        for line in outline.strip("M").replace("Z", "").split("M")
    ]
    assert len(lines) == 4
    # drawn eightfold, a pixel's middle is far from every edge
    canvas = np.zeros((320, 480), np.uint8)
    cv2.fillPoly(canvas, [line.astype(np.int32) * 8 for line in lines], 1)
    assert (canvas[4::8, 4::8].astype(bool) == mask).all()


# ---------------------------------------------------------------- the server


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return labeled(tmp_path, (SURE, NEAR, FAR, POOR), "a.png", "deep/b.png")


def ask(
    server: ReviewServer, path: str, content: Any = None, method: str = "", token: str | None = None, **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers; the path as it stands, behind the token."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    connection._encode_request = str.encode  # type: ignore[attr-defined] also what is not ASCII
    body = content if content is None or isinstance(content, bytes) else json.dumps(content).encode()
    if body is not None:
        headers = {"Content-Type": "application/json", **headers}
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(
        method or ("GET" if body is None else "POST"),
        f"/{server.token if token is None else token}/{path}",
        body,
        headers,
    )
    answer = connection.getresponse()
    data = answer.read(), dict(answer.getheaders())
    connection.close()
    return answer.status, *data


def test_items_come_in_pages_and_decisions_are_saved(run: RunFolder) -> None:
    with serving(run) as server:
        session = json.loads(ask(server, "session")[1])
        assert session == {
            "classes": ["dog", "cat"],
            "output": str(run.output),
            "total": 4,
            "accepted": 0,
            "rejected": 0,
            "next": 0,
        }
        items = json.loads(ask(server, "items?start=1")[1])["items"]
        assert [(item["number"], item["image_id"]) for item in items] == [
            (1, "deep/b.png"),
            (2, "a.png"),
            (3, "deep/b.png"),
        ]
        assert items[0]["scores"]["joint"] == pytest.approx(0.297)
        assert (items[0]["verdict"], items[0]["reason"], items[0]["decided"]) == ("review", "uncertain", None)
        content = {"item": 1, "instance": items[0]["instance"], "verdict": "accept", "class": "cat"}
        answer = json.loads(ask(server, "decisions", content)[1])
        assert (answer["item"]["class"], answer["item"]["decided"], answer["progress"]["next"]) == ("cat", "accept", 2)
        assert saved(run) == [on(NEAR, image_id="deep/b.png", new_class="cat")]
        assert json.loads(ask(server, "undo", {})[1])["item"]["decided"] is None
        assert json.loads(ask(server, "undo", {})[1])["item"] is None


def test_a_page_is_small_however_many_there_are(tmp_path: Path) -> None:
    run = labeled(tmp_path, (NEAR, FAR), *(f"{index}.png" for index in range(50)))
    with serving(run) as server:
        assert len(json.loads(ask(server, "items?start=0")[1])["items"]) == ITEMS_PER_PAGE
        assert len(json.loads(ask(server, "items?start=96")[1])["items"]) == 4
        assert json.loads(ask(server, "items?start=100")[1])["items"] == []
        assert len(ask(server, "session")[1]) < 1000


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF", "PNG"])
def test_images_are_sent_upright_as_jpeg_whatever_they_are(file_format: str, run: RunFolder, tmp_path: Path) -> None:
    pixels = np.zeros((60, 40, 3), np.uint8)
    pixels[:30] = (255, 0, 0)  # on its side: turned by a quarter, the red half is on the right
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "input" / "a.png"
    Image.fromarray(pixels).save(path, file_format, exif=exif)
    with serving(run) as server:
        status, body, _ = ask(server, "images/0")
        assert (status, "has changed since it was labeled" in json.loads(body)["error"]) == (404, True)
    (record, *others) = read_records([run.records / "000000.parquet"])
    records = [replace(record, digest=read_image(path).digest), *others]
    write_records(run.records / "000000.parquet", records)
    with serving(run) as server:
        status, body, headers = ask(server, "images/0")
    assert (status, headers["Content-Type"]) == (200, "image/jpeg")
    sent = np.asarray(Image.open(io.BytesIO(body)))
    assert sent.shape == (40, 60, 3)
    assert sent[20, 50, 0] > 200 > 100 > sent[20, 10, 0]


def test_an_image_that_is_gone_is_shown_from_the_dataset(run: RunFolder, tmp_path: Path) -> None:
    export(run, tmp_path / "input", ONTOLOGY, ExportConfig())
    (tmp_path / "input" / "deep" / "b.png").unlink()
    with serving(run) as server:
        assert ask(server, "images/1")[0] == 200
        for split in ("train", "val"):
            (run.output / "images" / split / "deep_b.png").unlink(missing_ok=True)
        status, body, _ = ask(server, "images/1")
        assert status == 404
        assert "the image is gone" in json.loads(body)["error"]
        assert ask(server, "items?start=1")[0] == 200


def test_it_listens_on_loopback_alone(run: RunFolder) -> None:
    with serving(run) as server:
        assert server.socket.getsockname() == ("127.0.0.1", server.server_port)
        connection = http.client.HTTPConnection("127.0.0.2", server.server_port, timeout=5)
        with pytest.raises(OSError, match="refused"):  # another address of this machine
            connection.connect()
        assert ask(server, "", Host=f"localhost:{server.server_port}")[0] == 200


DECISION = {"item": 0, "instance": "", "verdict": "accept", "class": None}


@pytest.mark.parametrize("path", ["", "session", "items?start=0", "images/0", "review.js"])
@pytest.mark.parametrize(
    "wrong",
    [
        {"token": "guess"},
        {"token": ""},
        {"token": "ü"},
        {"Host": "evil.example"},
        {"Host": "127.0.0.1"},
        {"Host": ""},
    ],
    ids=str,
)
def test_strangers_see_nothing(wrong: dict[str, str], path: str, run: RunFolder) -> None:
    with serving(run) as server:
        status, body, _ = ask(server, path, **wrong)
    assert status == 403
    assert json.loads(body).keys() == {"error"}
    assert server.token not in body.decode()


@pytest.mark.parametrize(
    ("path", "content", "headers", "status"),
    [
        ("decisions", DECISION, {"token": "guess"}, 403),
        ("undo", {}, {"token": "guess"}, 403),
        ("decisions", DECISION, {"Host": "evil.example"}, 403),
        ("decisions", DECISION, {"Origin": "https://evil.example"}, 403),
        ("decisions", DECISION, {"Origin": "null"}, 403),
        ("decisions", DECISION, {"Content_Type": "text/plain"}, 415),
        ("decisions", DECISION, {"Content_Type": "application/x-www-form-urlencoded"}, 415),
        ("decisions", b"x" * (MAX_BODY + 1), {}, 413),
        ("decisions", DECISION, {"Content_Length": "-1"}, 413),
        ("decisions", b"{", {}, 400),
        ("decisions", [], {}, 400),
        ("decisions", {**DECISION, "item": "0"}, {}, 400),
        ("decisions", {**DECISION, "item": True}, {}, 400),
        ("decisions", {**DECISION, "instance": None}, {}, 400),
        ("decisions", {**DECISION, "verdict": "review"}, {}, 400),
        ("decisions", {**DECISION, "class": 3}, {}, 400),
        ("decisions", {**DECISION, "class": "cow"}, {}, 409),
        ("decisions", {**DECISION, "instance": "another"}, {}, 409),
        ("decisions", {**DECISION, "item": 4}, {}, 404),
        ("decisions", {**DECISION, "item": -1}, {}, 404),
        ("session", {}, {}, 404),
        ("upload", {}, {}, 404),
        ("decisions", DECISION, {"method": "PUT"}, 501),
        ("decisions", DECISION, {"method": "DELETE"}, 501),
    ],
)
def test_nothing_is_decided_by_what_is_no_decision(
    path: str, content: Any, headers: dict[str, str], status: int, run: RunFolder
) -> None:
    with serving(run) as server:
        assert ask(server, path, content, **headers)[0] == status
        assert ask(server, "session")[0] == 200  # and the server goes on
    assert saved(run) == []


@pytest.mark.parametrize(
    "path",
    [
        "../review.js",
        "../../../../etc/passwd",
        "..%2f..%2f..%2fetc%2fpasswd",
        "%2e%2e/%2e%2e/etc/passwd",
        "images/../../../etc/passwd",
        "images/..%2f..%2f..%2fetc%2fpasswd",
        "images//etc/passwd",
        "images/a.png",
        "images/deep/b.png",
        "images/-1",
        "images/2",
        "images/99999999999999999999",
        "images/²",
        "images/0/",
        "images",
        "review.html",
        "report.html",
        "/",
        "items?start=-1",
        "items?start=x",
        "..\\..\\run.json",
        "run/run.json",
    ],
)
def test_there_is_no_path_out(path: str, run: RunFolder) -> None:
    with serving(run) as server:
        status, body, _ = ask(server, path)
    assert status == 404, body


def test_headers_shut_out_what_the_page_does_not_need(run: RunFolder) -> None:
    with serving(run) as server:
        answers = [
            ask(server, path) for path in ("", "review.js", "instance.js", "page.css", "session", "images/0", "nothing")
        ]
    for _, _, headers in answers:
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert "Access-Control-Allow-Origin" not in headers
    assert b"://" not in answers[0][1]  # nothing comes from elsewhere


def test_two_pages_have_two_tokens_and_a_taken_port_is_told(run: RunFolder) -> None:
    with serving(run) as server, pytest.raises(UsageError, match=f"--port {server.server_port}: .*in use"):
        ReviewServer(queue_of(run), server.server_port)
    with serving(run) as first, serving(run) as second:
        assert first.token != second.token
        assert len(first.token) >= 32


# ---------------------------------------------------------------- the command


@contextlib.contextmanager
def reviewing(run: RunFolder, *flags: str) -> Iterator[tuple[subprocess.Popen[str], str, int, str]]:
    """The command as a user starts it: its process, host, port and token."""
    command = labeler_command("review", run.output, "--no-open", *flags)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            address = next(filter(None, (re.search(r"http://([^:]+):(\d+)/(\S+)/", line) for line in process.stdout)))
            yield process, address[1], int(address[2]), address[3]
        finally:
            process.kill()


def many_instances(shapes: list[tuple[int, int]]) -> tuple[Instance, ...]:
    """Of one image, all under review."""
    found = []
    for left, width in shapes:
        mask = np.zeros((40, 60), dtype=bool)
        mask[5:25, left : left + width] = True
        rle = mask_to_rle(mask)
        found.append(Instance(0, "p", (left, 5, left + width, 25), 0.33, 0.9, 0.95, rle_area(rle), rle))
    return tuple(found)


@pytest.mark.slow
def test_a_thousand_decisions_survive_a_kill(tmp_path: Path) -> None:
    """Killed at a random moment behind the thousandth answer: what was acknowledged is there, and reviewing goes on."""
    shapes = [(left, width) for left in range(0, 40, 2) for width in (8, 16)]
    run = labeled(tmp_path, (), "a.png")
    found = many_instances(shapes)
    records = [ImageRecord(f"{index:03d}.png", 60, 40, "d", instances=found) for index in range(50)]
    write_records(run.records / "000000.parquet", records)
    acknowledged: list[int] = []
    with reviewing(run, "--verdict", "all") as (process, host, port, token):
        connection = http.client.HTTPConnection(host, port, timeout=60)
        chance = random.Random(port)
        with contextlib.suppress(OSError, http.client.HTTPException):
            for number in range(len(records) * len(found)):
                content = {"item": number, "instance": "", "verdict": ("accept", "reject")[number % 2], "class": None}
                headers = {"Content-Type": "application/json"}
                connection.request("POST", f"/{token}/decisions", json.dumps(content), headers)
                answer = json.loads(connection.getresponse().read())
                acknowledged.append(answer["item"]["number"])
                if len(acknowledged) == 1000:
                    threading.Timer(chance.uniform(0, 0.2), process.kill).start()
        assert process.wait(60) == -9
    assert 1000 <= len(acknowledged) < len(records) * len(found)
    queue = queue_of(run, "all")
    for number in acknowledged:
        assert queue.item(number)["decided"] == ("accept", "reject")[number % 2]
    lost = len(saved(run)) - len(acknowledged)
    assert 0 <= lost <= 1  # the one under way may be there too
    queue.decide(len(acknowledged) + 1, "accept")
    assert len(saved(run)) == len(acknowledged) + lost + 1


def test_ctrl_c_ends_it_and_says_how_to_go_on(run: RunFolder) -> None:
    with reviewing(run) as (process, host, port, token):
        connection = http.client.HTTPConnection(host, port, timeout=60)
        connection.request("POST", f"/{token}/decisions", json.dumps(DECISION), {"Content-Type": "application/json"})
        assert connection.getresponse().status == 200
        process.terminate()
        out, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert "1 accepted, 0 rejected of 4" in out
    assert f"labeler export {run.output}" in out


def rows(*decisions: Decision) -> list[dict[str, Any]]:
    return [decision.to_row() for decision in decisions]


@pytest.mark.parametrize("as_lines", [True, False])
def test_applied_decisions_make_the_dataset(as_lines: bool, run: RunFolder, labeler: Run, tmp_path: Path) -> None:
    lost = on(instance(1, 1, 0), "reject", "deep/b.png")
    given = rows(on(SURE, "reject"), on(POOR, new_class="cat"), lost)
    path = tmp_path / "decisions.json"
    path.write_text("\n".join(map(json.dumps, given)) if as_lines else json.dumps(given))
    first = labeler("review", run.output, "--apply", path)
    assert (first.returncode, first.stderr) == (0, "")
    assert "decided by hand: 2 (1 accepted, 1 rejected)" in first.stdout
    assert "1 decisions fit no object any more:\n  deep/b.png: reject cat at 0,5 to 15,25" in first.stdout
    content = coco(run)
    names = {image["id"]: image["file_name"] for image in content["images"]}
    boxes = {(names[each["image_id"]], each["category_id"], each["bbox"][0]) for each in content["annotations"]}
    assert boxes == {("a.png", 2, 44), ("deep_b.png", 1, 0)}
    kept = decisions_path(run).read_bytes()
    again = labeler("review", run.output, "--apply", path)
    assert again.stdout == first.stdout
    assert decisions_path(run).read_bytes() == kept
    assert coco(run) == content


def test_the_latest_word_is_applied_again_after_another(run: RunFolder) -> None:
    given = [on(SURE), on(NEAR), on(SURE, "reject")]
    apply_decisions(run.output, given)
    assert saved(run) == given[1:]
    append_decisions(run, [on(SURE, "accept")])
    assert apply_decisions(run.output, given).decided == {"accept": 1, "reject": 1}


@pytest.mark.parametrize(
    ("content", "flags", "said"),
    [
        (
            rows(on(SURE), on(NEAR, new_class="cow")),
            (),
            "labeler: a.png: class 'cow' is not in this dataset (dog, cat)",
        ),
        ([{"verdict": "accept"}], (), "entry 1: not a decision ('image_id' is missing)"),
        (rows(on(SURE)), ("--port", "0"), "labeler: --apply opens no page: leave out --port"),
        (rows(on(SURE)), ("--class", "dog"), "labeler: --apply opens no page: leave out --class"),
    ],
)
def test_what_cannot_be_applied_is_refused_whole(
    content: Any, flags: tuple[str, ...], said: str, run: RunFolder, labeler: Run, tmp_path: Path
) -> None:
    path = tmp_path / "decisions.json"
    path.write_text(json.dumps(content))
    answer = labeler("review", run.output, "--apply", path, *flags)
    assert answer.returncode == 2
    assert said in answer.stderr
    assert len(answer.stderr.splitlines()) == 1
    assert not decisions_path(run).exists()


def test_a_folder_without_labels_or_doubts_is_told(tmp_path: Path, labeler: Run) -> None:
    answer = labeler("review", tmp_path / "nothing")
    assert (answer.returncode, len(answer.stderr.splitlines())) == (2, 1)
    assert not (tmp_path / "nothing").exists()
    answer = labeler("review", labeled(tmp_path, (SURE,)).output)
    assert answer.returncode == 0
    assert "nothing to show; --verdict all shows every instance" in answer.stdout


def test_what_the_page_decided_is_what_the_dataset_has(run: RunFolder, tmp_path: Path) -> None:
    queue = queue_of(run, "all")
    expected = set()
    for number, verdict in enumerate(("accept", "reject", "accept", "accept", "reject", "accept", "reject", "reject")):
        item = queue.item(number)
        queue.decide(number, verdict, "cat" if number == 2 else None)  # type: ignore[arg-type]
        if verdict == "accept":
            name = item["image_id"].replace("/", "_")  # as the dataset calls it
            expected.add((name, 2 if number == 2 else 1, *item["box"][:2], item["area"]))
    summary = export(run, tmp_path / "input", ONTOLOGY, ExportConfig())
    assert (summary.decided, summary.unmatched) == ({"accept": 4, "reject": 4}, [])
    content = coco(run)
    names = {image["id"]: image["file_name"] for image in content["images"]}
    assert expected == {
        (names[each["image_id"]], each["category_id"], *each["bbox"][:2], int(coco_mask.area(each["segmentation"])))
        for each in content["annotations"]
    }
