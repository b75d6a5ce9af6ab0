"""The review page in a browser: keys are pressed, and the decisions on disk are looked at."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labeler.files.images import read_image
from labeler.geometry.masks import mask_to_rle
from labeler.record_files import write_records
from labeler.records import ImageRecord, Instance
from tests.support.browser import LOW_CONTRAST
from tests.support.reviews import FAR, NEAR, SURE, labeled, on, queue_of, saved, serving
from workflows.dataset.decision_log import append_decisions
from workflows.review.server import ReviewServer
from workflows.run.folder import RunFolder

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-sync"

playwright = pytest.importorskip("playwright.sync_api")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return labeled(tmp_path, (SURE, NEAR, FAR), "a.png", "b.png")


class Page:
    """A page on a server, with what its console said."""

    def __init__(self, browser: Any, server: ReviewServer, **options: Any) -> None:
        self.page = browser.new_page(viewport={"width": 1000, "height": 700}, **options)
        self.faults: list[str] = []
        self.page.on("console", lambda message: self.faults.append(message.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("requestfailed", lambda request: self.faults.append(request.url))
        self.page.clock.install()
        self.page.goto(server.url)
        self.sees(0)

    def sees(self, number: int) -> None:
        """Wait until an instance is wholly shown."""
        self.page.wait_for_selector(f"body[data-number='{number}']")

    def looks(self) -> None:
        """As long as it takes to see what is there, on the page's clock."""
        self.page.clock.fast_forward(170)

    def press(self, keys: str, then: int | None = None) -> None:
        for key in keys.split():
            self.looks()
            self.page.keyboard.press(key)
        if then is not None:
            self.sees(then)

    def text(self, selector: str) -> str:
        return str(self.page.inner_text(selector))

    def says(self, text: str) -> None:
        self.page.wait_for_function(
            "text => document.getElementById('said').textContent === text", arg=text, timeout=10_000
        )

    def scale(self) -> float:
        return float(self.page.evaluate("document.querySelector('.stage g').transform.baseVal[1].matrix.a"))


def test_keys_decide(browser: Any, run: RunFolder) -> None:
    with serving(run) as server:
        page = Page(browser, server)
        assert (page.text(".class-name"), page.text(".state")) == ("dog", "to review: uncertain")
        assert page.text("#position") == "1 of 4"
        page.press("a", then=1)
        assert saved(run) == [on(NEAR)]
        assert page.text("#counts") == "1 accepted, 0 rejected"
        page.press("r", then=2)
        assert saved(run)[1:] == [on(NEAR, "reject", "b.png")]
        page.press("2", then=3)  # the second class
        assert saved(run)[2:] == [on(FAR, new_class="cat")]
        page.press("p", then=2)
        assert (page.text(".class-name"), page.text(".state")) == ("cat", "accepted by hand, labeled as dog")
        page.press("ArrowLeft", then=1)
        assert page.text(".state") == "rejected by hand"
        page.press("u", then=2)  # the last decision, wherever one looks
        assert page.text(".state") == "to review: uncertain"
        assert [each.verdict for each in saved(run)] == ["accept", "reject", "none"]
        page.press("n", then=3)
        page.press("ArrowRight")
        page.says("that was the last one")
        page.press("9 x Control+a Control+r Meta+a Alt+r Shift+F5")  # no such class; the browser's own keys
        page.press("l")
        page.page.keyboard.type("ca")
        assert page.page.locator("#choices option").all_inner_texts() == ["cat"]
        page.press("Enter", then=2)  # the first that is left
        assert saved(run)[-1] == on(FAR, image_id="b.png", new_class="cat")
        page.press("a")
        page.page.wait_for_selector("#done[open]")
        assert page.text("#done-text") == "3 accepted, 1 rejected, all saved."
        assert page.text("#done-command") == f"labeler export {run.output}"
        assert page.faults == []
        assert page.page.evaluate("document.getElementById('progress').position") == 1
    assert queue_of(run).progress()["next"] is None


def test_keys_each_act_on_an_instance_of_their_own(browser: Any, tmp_path: Path) -> None:
    run = labeled(tmp_path, (NEAR, FAR), *(f"{index:02d}.png" for index in range(10)))
    with serving(run) as server:
        page = Page(browser, server)
        for number, key in enumerate("ar" * 9 + "a", start=1):
            page.press(key, then=number)
        page.press("r")
        page.page.wait_for_selector("#done[open]")
        assert page.faults == []
    queue = queue_of(run)
    assert [queue.item(number)["decided"] for number in range(20)] == ["accept", "reject"] * 10


def test_nobody_decides_on_what_was_not_seen(browser: Any, run: RunFolder) -> None:
    """Keys hit in a rush, or while the server is slow, are meant for what is in view."""
    with serving(run) as server:
        page = Page(browser, server)
        page.looks()
        page.page.clock.pause_at(page.page.evaluate("Date.now()") / 1000 + 1)  # how slow this machine is does not count
        page.page.evaluate(
            "['a', 'a', 'r', '2'].forEach(key => document.dispatchEvent(new KeyboardEvent('keydown', { key })))"
        )
        page.sees(1)
        page.page.keyboard.press("a")
        page.press("n", then=2)
        assert saved(run) == [on(NEAR)]


def test_a_page_opened_again_goes_on_at_the_first_undecided(browser: Any, run: RunFolder) -> None:
    append_decisions(run, [on(NEAR)])
    with serving(run) as server:
        page = Page.__new__(Page)
        page.page = browser.new_page()
        page.page.goto(server.url)
        page.sees(1)
        page.press("n", then=2)
        page.page.reload()
        page.sees(2)


def test_the_outline_lies_on_the_object_at_any_zoom(browser: Any, tmp_path: Path) -> None:
    """The mask is the image's one bright part: inside the outline's box the screen is bright, outside dark."""
    run = labeled(tmp_path, ())
    pixels = np.zeros((400, 600, 3), np.uint8)
    pixels[150:170, 200:215] = 255
    Image.fromarray(pixels).save(tmp_path / "input" / "a.png")
    digest = read_image(tmp_path / "input" / "a.png").digest
    item = Instance(0, "p", (200, 150, 215, 170), 0.33, 0.9, 0.9, 300, mask_to_rle(pixels[:, :, 0] > 0))
    write_records(run.records / "000000.parquet", [ImageRecord("a.png", 600, 400, digest, instances=(item,))])
    with serving(run) as server:
        page = Page(browser, server)
        scales = []
        for keys in ("", "0", "+ + +", "- -"):
            page.press(keys)
            scales.append(page.scale())
            box = page.page.locator(".stage .outline").bounding_box()  # with a line of two pixels, one on each side
            assert box["width"] - 2 == pytest.approx(15 * scales[-1], abs=0.01)
            assert box["height"] - 2 == pytest.approx(20 * scales[-1], abs=0.01)
            page.press("o")
            assert not page.page.locator(".stage svg").is_visible()
            shown = np.asarray(Image.open(_screenshot(page, tmp_path)).convert("L")).astype(int)
            page.press("o")
            assert page.page.locator(".stage svg").is_visible()
            left, top = round(box["x"]) + 1, round(box["y"]) + 1
            right, bottom = round(box["x"] + box["width"]) - 1, round(box["y"] + box["height"]) - 1
            gap = max(2, round(scales[-1]))  # a pixel: between the two the browser blends
            middle, centre = (top + bottom) // 2, (left + right) // 2
            assert shown[middle, left + gap] > 200 > 60 > shown[middle, left - gap]
            assert shown[middle, right - gap] > 200 > 60 > shown[middle, right + gap]
            assert shown[top + gap, centre] > 200 > 60 > shown[top - gap, centre]
        assert scales[0] == 8  # the object large, with its surroundings
        assert scales[1] == pytest.approx(664 / 600, rel=1e-3)  # the whole image
        assert scales[2] == pytest.approx(scales[1] * 1.25**3)
        assert scales[3] == pytest.approx(scales[2] / 1.25**2)
        page.page.mouse.move(300, 300)
        page.page.mouse.wheel(0, -200)
        page.page.wait_for_function(
            f"() => document.querySelector('.stage g').transform.baseVal[1].matrix.a > {scales[3]}"
        )
        before = page.page.locator(".stage .outline").bounding_box()
        page.page.mouse.down()
        page.page.mouse.move(340, 290)
        page.page.mouse.up()
        after = page.page.locator(".stage .outline").bounding_box()
        assert (after["x"] - before["x"], after["y"] - before["y"]) == (
            pytest.approx(40, abs=0.01),
            pytest.approx(-10, abs=0.01),
        )
        assert page.faults == []


def _screenshot(page: Page, folder: Path) -> Path:
    page.page.screenshot(path=folder / "shot.png")
    return folder / "shot.png"


def test_what_is_not_saved_is_told_and_drops_what_was_pressed_behind_it(browser: Any, run: RunFolder) -> None:
    with serving(run) as server:
        page = Page(browser, server)
        write_records(run.records / "000000.parquet", [ImageRecord("a.png", 60, 40, "d", instances=(FAR,) * 3)])
        page.press("a a a")
        page.page.wait_for_selector("#problem:visible")
        assert "Not saved: the images were labeled again" in page.text("#problem")
        assert saved(run) == []
    page.press("a a a a a a a")  # answered as long as the browser holds connections, six at most
    page.page.wait_for_function("() => document.getElementById('problem').textContent.includes('does not answer')")


def test_an_image_that_is_gone_can_be_decided_all_the_same(browser: Any, run: RunFolder, tmp_path: Path) -> None:
    (tmp_path / "input" / "a.png").unlink()
    with serving(run) as server:
        page = Page(browser, server)
        assert "cannot be shown" in page.text(".message")
        page.press("r", then=1)
        assert not page.page.locator(".message").is_visible()
        assert saved(run) == [on(NEAR, "reject")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_the_window_and_focus_shows(width: int, scheme: str, browser: Any, run: RunFolder) -> None:
    with serving(run) as server:
        page = Page(browser, server, color_scheme=scheme)
        page.page.set_viewport_size({"width": width, "height": 740})
        assert page.page.evaluate("document.documentElement.scrollWidth") <= width
        ground = page.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (max(map(int, ground[4:-1].split(","))) < 60) == (scheme == "dark")
        for name in (".actions .accept", ".actions .reject"):
            assert page.page.locator(name).is_visible()
        assert page.page.evaluate(LOW_CONTRAST) == []
        page.press("Tab")
        page.press("Tab")
        style = page.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert style != "none"
        page.page.focus(".actions .reject")
        page.press("Enter", then=1)  # a button by the keyboard
        assert saved(run) == [on(NEAR, "reject")]
        page.press("p", then=0)
        assert page.page.locator(".actions .reject").get_attribute("aria-pressed") == "true"
        for key in ("?", "Escape", "l"):
            page.press(key)
            assert page.page.evaluate(LOW_CONTRAST) == [], key
