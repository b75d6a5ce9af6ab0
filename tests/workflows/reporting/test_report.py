"""``labeler report``: the file, and the page as a reader has it, in a real browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from PIL import Image

import workflows.reporting.report as module
from labeler.decisions import Decision
from labeler.errors import RunError
from labeler.files.storage import locate, read_bytes
from labeler.geometry.masks import mask_to_rle, rle_to_mask
from labeler.instance_ids import InstanceId
from labeler.quality import VERDICTS
from labeler.record_files import read_records, write_records
from tests.support.browser import LOW_CONTRAST, chromium
from tests.support.command_line import Run
from tests.support.made_folder import FAILURE, write_labeled
from tests.support.object_store import Bucket
from workflows.dataset.decision_log import append_decisions
from workflows.dataset.export import export
from workflows.dataset.labeled import open_labeled
from workflows.reporting.report import report
from workflows.reporting.tallies import SCORE_EDGES

CLASSES = ("ring", "star", '<b>bold</b> & "quoted"', "</script><script>alert(1)</script>")
NAMES = [f"cam {index % 3}/it's <i>{index:03d}.png" for index in range(120)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labeled(tmp_path_factory.mktemp("labeled"), NAMES, CLASSES)


@pytest.fixture(scope="module")
def page_path(folder: Path) -> Path:
    summary = report(open_labeled(folder), samples=12)
    assert summary.path == folder / "report.html"
    assert summary.images == len(NAMES)
    assert summary.size == summary.path.stat().st_size
    return folder / "report.html"


# ---------------------------------------------------------------- the file


def test_equal_input_gives_equal_bytes_and_a_seed_shows_others(folder: Path, page_path: Path, tmp_path: Path) -> None:
    labeled = open_labeled(folder)
    report(labeled, tmp_path / "again.html", samples=12)
    assert (tmp_path / "again.html").read_bytes() == page_path.read_bytes()
    report(labeled, tmp_path / "other.html", samples=12, seed=1)
    assert shown_keys(tmp_path / "other.html") != shown_keys(page_path)


def shown_keys(path: Path) -> set[str]:
    content = re.search(r'id="data">(.*?)</script>', path.read_text(encoding="utf-8"))
    assert content is not None
    return {f"{row['image_id']} {row['decision']['instance']}" for row in json.loads(content[1])["instances"]}


def test_ids_are_unique_and_nothing_is_loaded_from_elsewhere(page_path: Path) -> None:
    text = page_path.read_text(encoding="utf-8")
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids)) > 100
    assert set(re.findall(r'url\(#([^)]+)|xlink:href="#([^"]+)', text)) != set()
    for pair in re.findall(r'url\(#([^)]+)\)|xlink:href="#([^"]+)"', text):
        assert pair[0] + pair[1] in ids
    assert not re.search(r'(?:src|href|action)="(?!data:|#)', text)
    assert "@import" not in text


def test_a_file_is_kept_small_by_fewer_pictures_of_every_kind(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labeled = open_labeled(folder)
    without = report(labeled, tmp_path / "none.html", samples=1)
    monkeypatch.setattr(module, "PICTURE_BYTES", 400_000)
    small = report(labeled, tmp_path / "small.html", samples=1000)
    assert small.shown > len(CLASSES) * len(VERDICTS) == without.shown
    assert small.size < without.size + 400_000 + 3000 * small.shown  # of text a card
    rows = json.loads(re.search(r'id="data">(.*?)</script>', (tmp_path / "small.html").read_text())[1])  # type: ignore[index]
    assert len({(row["class"], row["verdict"]) for row in rows["instances"]}) == len(CLASSES) * len(VERDICTS)


def test_an_object_has_one_card_and_a_decision_on_it_holds(tmp_path: Path) -> None:
    """Two classes on one mask; relabeled, then labeled anew with other models, and rejected in the report."""
    out = write_labeled(tmp_path, ["0.png", "1.png", "2.png"], CLASSES)
    (path,) = (out / "run" / "records").iterdir()
    records = list(read_records([path]))
    found = next(item for item in records[1].instances if item.class_id == 0)
    twins = (found, replace(found, class_id=1), replace(found, score=0.05))
    write_records(path, [records[0], replace(records[1], instances=twins), records[2]])
    labeled = open_labeled(out)
    before = mask_to_rle(np.roll(rle_to_mask(found.rle), 1, axis=0))
    append_decisions(labeled.run, [Decision("1.png", "accept", CLASSES[0], before, CLASSES[1])])
    report(labeled)
    content = re.search(r'id="data">(.*?)</script>', (out / "report.html").read_text(encoding="utf-8"))
    assert content is not None
    (shown,) = json.loads(content[1])["instances"]
    assert (shown["image_id"], shown["class"], shown["labeled_as"], shown["verdict"]) == (
        "1.png",
        CLASSES[1],
        CLASSES[0],
        "accept",
    )
    decision = Decision.from_row({**shown["decision"], "verdict": "reject"})
    assert decision.instance == InstanceId(records[1].digest, 0)
    append_decisions(labeled.run, [decision])
    summary = export(labeled.run, labeled.root, labeled.ontology, labeled.export)
    assert (summary.decided, summary.unmatched) == ({"reject": 3}, [])
    assert sum(each["accept"] for each in summary.verdicts.values()) == 0


def test_images_that_are_gone_or_changed_are_said_to_be(tmp_path: Path) -> None:
    out = write_labeled(tmp_path, [f"{index}.png" for index in range(5)], CLASSES)
    (tmp_path / "images" / "1.png").unlink()
    Image.fromarray(np.zeros((320, 320, 3), np.uint8)).save(tmp_path / "images" / "2.png")
    report(open_labeled(out), samples=100)
    text = (out / "report.html").read_text(encoding="utf-8")
    assert text.count('class="note">the image is gone<') == 12
    assert text.count('class="note">the image has changed since it was labeled<') == 12
    assert text.count('<li class="card" data-index') == 36


def test_an_image_gone_from_the_input_is_taken_from_the_dataset(tmp_path: Path) -> None:
    out = write_labeled(tmp_path, [f"{index}.png" for index in range(4)], CLASSES)
    labeled = open_labeled(out)
    export(labeled.run, labeled.root, labeled.ontology, labeled.export)
    (tmp_path / "images" / "1.png").unlink()
    report(labeled)
    assert "the image is gone" not in (out / "report.html").read_text(encoding="utf-8")


def test_a_labeled_folder_in_a_store(tmp_path: Path, bucket: Bucket) -> None:
    out = write_labeled(tmp_path, [f"{index}.png" for index in range(4)], CLASSES)
    for path in (path for path in out.rglob("*") if path.is_file()):
        bucket.put(path.relative_to(tmp_path).as_posix(), path.read_bytes())
    report(open_labeled(out), tmp_path / "local.html")
    summary = report(open_labeled(locate(f"{bucket.uri}/dataset")))
    assert str(summary.path) == f"{bucket.uri}/dataset/report.html"
    assert read_bytes(summary.path) == (tmp_path / "local.html").read_bytes()


def test_nothing_labeled_yet(tmp_path: Path, labeler: Run) -> None:
    out = write_labeled(tmp_path, ["0.png"], CLASSES)
    for path in (out / "run" / "records").iterdir():
        path.unlink()
    with pytest.raises(RunError, match="no image is labeled yet"):
        report(open_labeled(out))
    for arguments, says in (
        ((out, "--samples", 0), "--samples must be a whole number, 1 or more"),
        ((tmp_path,), "holds no run"),
    ):
        done = labeler("report", *arguments)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert says in done.stderr


def test_the_command_and_a_damaged_evaluation(tmp_path: Path, labeler: Run) -> None:
    out = write_labeled(tmp_path, [f"{index}.png" for index in range(4)], CLASSES)
    page = tmp_path / "pages" / "page.html"
    done = labeler("report", out, "-o", page, "--samples", 2)
    assert done.returncode == 0, done.stderr
    assert str(page) in done.stdout
    assert page.exists()
    assert not (out / "report.html").exists()
    (out / "evaluation").mkdir()
    (out / "evaluation" / "evaluation.json").write_text("{")
    done = labeler("report", out)
    assert done.returncode == 2
    assert "evaluation.json is damaged" in done.stderr
    (out / "evaluation" / "evaluation.json").write_text('{"version": 0}')
    with pytest.raises(RunError, match=r"version 0 cannot be read\); evaluate again"):
        report(open_labeled(out))


# ---------------------------------------------------------------- the page


@dataclass
class Opened:
    """A page in the browser, and all that it complained of or asked for."""

    page: Any
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def opened(browser: Any, page_path: Path) -> Iterator[Opened]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    opened = Opened(context.new_page())
    listen(opened)
    opened.page.goto(page_path.as_uri())
    yield opened
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith(("data:", "blob:"))] == [page_path.as_uri()]
    context.close()


def listen(opened: Opened) -> None:
    opened.page.on("console", lambda message: opened.complaints.append(message.text))
    opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
    opened.page.on("request", lambda request: opened.requests.append(request.url))


def rows_of(page: Any, selector: str) -> list[list[str]]:
    """The texts of a table's body, hidden or not."""
    script = "rows => rows.map(row => [...row.cells].map(cell => cell.textContent.trim()))"
    rows: list[list[str]] = page.locator(f"{selector} tbody tr").evaluate_all(script)
    return rows


def visible(page: Any) -> list[dict[str, Any]]:
    """The instances whose cards are to be seen, in their order."""
    script = """() => {
      const rows = JSON.parse(document.getElementById("data").textContent).instances;
      return [...document.querySelectorAll("#cards > li")].filter((card) => !card.hidden)
        .map((card) => rows[card.dataset.index])
        .map((row) => ({
          key: `${row.image_id} ${row.decision.instance}`, image: row.image_id, class: row.class_id,
          verdict: row.verdict, joint: row.scores.joint, area: row.area,
        }));
    }"""
    found: list[dict[str, Any]] = page.evaluate(script)
    return found


@pytest.mark.slow
def test_numbers_are_those_of_the_parquet_files(opened: Opened, folder: Path) -> None:
    """Counted by DuckDB from the records and from the verdicts that an export writes."""
    labeled = open_labeled(folder)
    export(labeled.run, labeled.root, labeled.ontology, labeled.export)
    duckdb.sql(
        f"""create or replace table found as
        select r.image_id, r.width, r.height, v.verdict, v.reason, i.* from (
          select image_id, width, height, generate_subscripts(instances, 1) - 1 as place, unnest(instances) as i
          from read_parquet('{folder}/run/records/*.parquet')
        ) r join read_parquet('{folder}/run/verdicts.parquet') v on r.image_id = v.image_id and r.place = v.instance"""
    )
    page = opened.page

    def stat(name: str) -> int:
        return int(page.locator(f"[data-stat={name}]").inner_text().replace(",", ""))

    def one(query: str) -> Any:
        return duckdb.sql(query).fetchall()[0][0]

    assert stat("instances") == one("select count(*) from found") > 1000
    for verdict in VERDICTS:
        assert stat(verdict) == one(f"select count(*) from found where verdict = '{verdict}'") > 0
    accepted = one("select count(distinct image_id) from found where verdict = 'accept'")
    failed = one(f"select count(*) from read_parquet('{folder}/run/records/*.parquet') where status = 'error'")
    assert stat("accepted-images") == accepted
    assert stat("failed") == failed == 1
    assert stat("without") == len(NAMES) - accepted - failed > 0

    by_class = duckdb.sql(
        """select class_id, count(*) filter (verdict = 'accept'), count(*) filter (verdict = 'review'),
        count(*) filter (verdict = 'reject'), count(*), count(distinct image_id) filter (verdict = 'accept'),
        avg(score::double * mask_score) filter (verdict = 'accept') from found group by class_id order by class_id"""
    ).fetchall()
    expected = [[CLASSES[row[0]], *map(str, row[1:6]), f"{row[6]:.3f}"] for row in by_class]
    assert [row[:7] for row in rows_of(page, "#class-table")] == expected

    reasons = duckdb.sql("select reason, count(*) from found where reason != '' group by reason").fetchall()
    assert {row[0]: int(row[2]) for row in rows_of(page, "#reasons")} == dict(reasons)

    columns = {
        "joint_score": "score::double * mask_score",
        "score": "score",
        "mask_score": "mask_score",
        "stability": "stability",
    }
    for name, column in columns.items():
        values = duckdb.sql(f"select verdict, ({column})::double from found").fetchall()
        counts = [np.histogram([value for of, value in values if of == v], SCORE_EDGES)[0] for v in VERDICTS]
        wanted = [
            [f"{low:.4g}", f"{high:.4g}", *map(str, bin_counts)]
            for low, high, bin_counts in zip(SCORE_EDGES, SCORE_EDGES[1:], np.transpose(counts).tolist(), strict=False)
            if sum(bin_counts)
        ]
        assert rows_of(page, f"[data-histogram={name}]") == wanted
    sides = one("select count(*) from found where (box_xyxy[3]-box_xyxy[1])*(box_xyxy[4]-box_xyxy[2]) >= 64*64")
    rows = rows_of(page, "[data-histogram=box_sides]")
    assert sum(sum(map(int, row[2:])) for row in rows if float(row[0]) >= 64) == sides > 0
    shares = one("select count(*) from found where area / (width * height) >= 0.01")
    rows = rows_of(page, "[data-histogram=mask_shares]")
    assert sum(sum(map(int, row[2:])) for row in rows if float(row[0]) >= 0.01) == shares > 0
    assert sum(int(row[2]) for row in rows_of(page, "[data-histogram=objects]")) == len(NAMES) - failed
    assert rows_of(page, "#failures") == [[NAMES[-1], FAILURE]]


@pytest.mark.slow
def test_pictures_show_and_text_is_text(opened: Opened) -> None:
    page = opened.page
    page.evaluate("Promise.all([...document.querySelectorAll('main img')].map(image => image.decode()))")
    widths = page.evaluate("[...document.querySelectorAll('main img')].map(image => image.naturalWidth)")
    assert len(widths) > 100
    assert min(widths) > 0
    assert page.evaluate("[...document.querySelectorAll('main img')].every(image => image.alt.length > 10)")
    assert page.locator("#cards .outline").count() == page.locator("#cards > li").count()
    assert page.locator("b").count() == 0  # names of classes and images are no markup
    assert page.locator("#cards strong", has_text=CLASSES[2]).count() > 0
    labels = page.locator("svg.plot text").all_text_contents()
    assert any("accept ≥ 0.3" in label for label in labels)


@pytest.mark.slow
def test_filters_and_sorting(opened: Opened) -> None:
    page = opened.page
    total = page.locator("#cards > li").count()
    assert f"{total} of {total} shown" in page.locator("#count").inner_text()
    assert len(visible(page)) == 60
    for verdict in VERDICTS:
        page.locator(f".segments label:has([value={verdict}])").click()
        assert {each["verdict"] for each in visible(page)} == {verdict}
    page.locator(".segments label:has([value=''])").click()
    page.locator("[name=class]").select_option(label=CLASSES[1])
    of_class = visible(page)
    assert {each["class"] for each in of_class} == {1}
    assert len(of_class) == 36  # 12 of each verdict
    page.locator("[name=low]").fill("0.25")
    page.locator("[name=high]").fill("0.5")
    within = visible(page)
    assert within == [each for each in of_class if 0.25 <= each["joint"] <= 0.5] != []
    page.locator("[name=low]").fill("0.999")
    assert visible(page) == []
    assert page.locator("#nothing").is_visible()
    page.locator("[name=low]").fill("")
    page.locator("[name=high]").fill("")
    for sort, key in (
        ("joint", lambda each: -each["joint"]),
        ("joint-up", lambda each: each["joint"]),
        ("uncertain", lambda each: abs(each["joint"] - 0.3)),
        ("area", lambda each: -each["area"]),
    ):
        page.locator("[name=sort]").select_option(sort)
        shown = visible(page)
        assert [key(each) for each in shown] == sorted(map(key, of_class))
    page.locator("[name=outlines]").uncheck()
    assert page.locator("#cards svg:visible").count() == 0
    page.locator("[name=class]").select_option("")
    page.locator("#more").click()
    assert len(visible(page)) == 120
    page.locator("#class-table thead button", has_text="Accepted").click()
    counts = [int(row[1]) for row in rows_of(page, "#class-table")]
    assert counts == sorted(counts, reverse=True)
    page.locator("#class-table thead button", has_text="Class").click()
    assert [row[0] for row in rows_of(page, "#class-table")] != list(CLASSES)


@pytest.mark.slow
def test_decisions_by_keyboard_alone(opened: Opened, folder: Path, tmp_path: Path) -> None:
    """Accept, reject, relabel and take back, by keys; the exported file is what the program reads."""
    page = opened.page
    assert page.locator("#export").is_disabled()
    page.locator("[name=outlines]").focus()
    shown = visible(page)
    columns = page.evaluate("getComputedStyle(document.getElementById('cards')).gridTemplateColumns.split(' ').length")
    for _ in range(3):  # past the two buttons, of which one or both are disabled
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "thumb":
            break
    page.keyboard.press("a")  # on the first, and on to the second
    page.keyboard.press("r")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.locator("#large").is_visible()
    assert page.locator("#position").inner_text() == f"{3 + columns} of {page.locator('#cards > li').count()}"
    assert page.evaluate("document.querySelector('#large img').naturalWidth") > 0
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("l")
    page.keyboard.type("</script")
    page.keyboard.press("Enter")  # and on to the next
    assert page.locator("#position").inner_text().startswith(f"{3 + columns} of ")
    page.keyboard.press("Escape")
    assert not page.locator("#large").is_visible()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("a")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("u")
    with page.expect_download() as download:
        page.locator("#export").focus()
        page.keyboard.press("Enter")
    download.value.save_as(tmp_path / "decisions.json")
    assert download.value.suggested_filename == "decisions.json"
    decisions = [Decision.from_row(row) for row in json.loads((tmp_path / "decisions.json").read_text("utf-8"))]

    def described(decision: Decision) -> tuple[str, str, str | None, str | None]:
        return decision.image_id, decision.verdict, decision.class_name, decision.new_class

    assert [decision.verdict for decision in decisions] == ["reject", "accept", "accept"]
    first, second, moved = shown[0], shown[1], shown[1 + columns]
    assert {described(decision) for decision in decisions} == {
        (first["image"], "accept", CLASSES[first["class"]], None),
        (second["image"], "reject", CLASSES[second["class"]], None),
        (moved["image"], "accept", CLASSES[moved["class"]], CLASSES[3]),
    }
    records = {record.image_id: record for record in read_records(sorted((folder / "run" / "records").iterdir()))}
    for decision in decisions:
        masks = [(CLASSES[i.class_id], i.rle) for i in records[decision.image_id].instances]
        assert (decision.class_name, decision.rle) in masks

    page.reload()  # what was decided is still there
    assert "3 decided" in page.locator("#count").inner_text()
    page.locator("[name=decided]").select_option("yes")
    assert {each["key"] for each in visible(page)} == {first["key"], second["key"], moved["key"]}
    page.on("dialog", lambda dialog: dialog.accept())
    page.locator("#clear").click()
    page.locator("[name=decided]").select_option("no")
    assert page.locator(".decided").count() == 0
    opened.requests.pop()  # the reload


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_themes_and_contrast(browser: Any, page_path: Path, scheme: str) -> None:
    """Text has a contrast of 4.5 against what is behind it, in both themes, by the system's wish and by the switch."""
    context = browser.new_context(color_scheme=scheme)
    page = context.new_page()
    page.goto(page_path.as_uri())
    background = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(background)
    assert page.evaluate(LOW_CONTRAST) == []
    page.locator("#theme").click()
    after = page.evaluate(background)
    assert before != after
    assert page.evaluate(LOW_CONTRAST) == []
    page.reload()
    assert page.evaluate(background) == after
    dark = before if scheme == "dark" else after
    assert max(map(int, re.findall(r"\d+", dark)[:3])) < 40
    bars = page.locator("svg.plot path[style*='--accept']").first
    assert bars.evaluate("bar => getComputedStyle(bar).fill") != "rgb(0, 0, 0)"
    page.locator("#cards .thumb:visible").first.click()
    for key in ("a", "p", "r", "p", "?"):  # decided cards, decided instances, and the help
        page.keyboard.press(key)
        assert page.evaluate(LOW_CONTRAST) == [], key
    context.close()


@pytest.mark.slow
def test_a_phone_scrolls_down_only_and_print_has_no_tools(browser: Any, page_path: Path) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(page_path.as_uri())
    widths = "[document.documentElement.scrollWidth, document.documentElement.clientWidth, innerWidth]"
    assert page.evaluate(widths) == [390, 390, 390]
    page.locator("#cards .thumb:visible").first.tap()
    assert page.locator("#large").is_visible()
    assert page.evaluate("document.querySelector('#large').getBoundingClientRect().right") <= 390
    page.locator("#large [data-key=a]").tap()
    page.locator("#close").tap()
    assert page.locator(".decided").count() == 1
    page.emulate_media(media="print")
    assert not page.locator("#tools").is_visible()
    assert not page.locator("nav").first.is_visible()
    assert page.locator("#cards img:visible").count() == 60
    context.close()


@pytest.mark.slow
def test_without_scripts_all_is_there_but_the_tools(browser: Any, page_path: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_path.as_uri())
    assert page.locator("#cards > li:visible").count() == len(CLASSES) * len(VERDICTS) * 12
    assert not page.locator("#tools").is_visible()
    assert not page.locator("#export").is_visible()
    context.close()


@pytest.mark.slow
def test_what_an_evaluation_left_is_shown(browser: Any, tmp_path: Path, labeler: Run) -> None:
    """Names of images and classes are those of a hostile folder here too."""
    out = write_labeled(tmp_path, NAMES[:12], CLASSES)
    truth = {"images": [], "annotations": [], "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES)]}
    for number, record in enumerate(read_records(sorted((out / "run" / "records").iterdir()))):
        if record.status == "error":
            continue
        name = {"id": number, "file_name": record.image_id, "width": record.width, "height": record.height}
        truth["images"].append(name)
        for instance in record.instances[::2]:
            rle = {"size": instance.rle["size"], "counts": instance.rle["counts"].decode()}
            box, area = [0, 0, 1, 1], instance.area
            place = {"id": len(truth["annotations"]) + 1, "image_id": number, "category_id": instance.class_id}
            truth["annotations"].append({**place, "segmentation": rle, "bbox": box, "area": area, "iscrowd": 0})
    truth["annotations"][0]["area"] = None
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    assert labeler("evaluate", out, "--truth", tmp_path / "truth.json").returncode == 0
    report(open_labeled(out))
    content = json.loads((out / "evaluation" / "evaluation.json").read_text(encoding="utf-8"))
    context = browser.new_context(viewport={"width": 390, "height": 844})
    opened = Opened(context.new_page())
    listen(opened)
    page = opened.page
    page.goto((out / "report.html").as_uri())
    rows = rows_of(page, "#ground-truth-classes")
    assert [row[0] for row in rows] == [each["name"] for each in content["classes"]] == list(CLASSES)
    for row, each in zip(rows, content["classes"], strict=True):
        measures = each["precision"], each["recall"], each["f1"], each["overlap"]["iou"], each["mask"]["ap"]
        assert [row[i] for i in (3, 4, 5, 8, 11)] == [f"{measure:.3f}" for measure in measures]
    tiles = page.locator("#ground-truth-all dd").all_inner_texts()
    assert tiles[0] == f"{content['all']['mask']['ap']:.3f}"
    assert page.locator("#ground-truth figure svg text", has_text="Score per image").count() == 1
    page.evaluate("Promise.all([...document.querySelectorAll('main img')].map(image => image.decode()))")
    assert page.locator("#stale").count() == 0
    note = page.locator("#ground-truth [role=note]").inner_text()
    assert note == "Ground truth: 1 annotation with an area that is no number: measured instead (1)."
    assert page.locator("#worst img").count() == sum(bool(each["picture"]) for each in content["worst"]) > 5
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert opened.complaints == []
    assert [url for url in opened.requests if not url.startswith("data:")] == [(out / "report.html").as_uri()]
    assert labeler("export", out, "--accept-score", 0.9).returncode == 1  # one image is broken
    report(open_labeled(out))
    page.reload()
    assert "evaluate again" in page.locator("#stale").inner_text()
    context.close()
