"""Masks drawn on the review page: a real browser, the demo segmenter, and scenes whose masks are known."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from labeler.demo.scenes import make_scene, scene_rng
from labeler.errors import ModelError, UsageError
from labeler.files.images import read_image
from labeler.geometry.masks import Rle, mask_iou, mask_to_rle, rle_area, rle_box_xyxy, rle_to_mask
from labeler.models.config import PRESETS, ModelConfig
from labeler.models.loading import load_segmenter
from labeler.record_files import write_records
from labeler.records import ImageRecord, Instance
from tests.support.browser import LOW_CONTRAST, chromium
from tests.support.command_line import run_in_process
from tests.support.reviews import labeled, queue_of, saved, serving
from tests.support.run_folders import coco
from workflows.review import assistant as assistant_module
from workflows.review import server as server_module
from workflows.review.apply import apply_decisions
from workflows.review.assistant import Assistant, Draft, PromptedSegmenter, _grown, _prompts
from workflows.review.server import ReviewServer
from workflows.run.folder import RunFolder

SCENE = make_scene(scene_rng(7, 1))
SHAPES = sorted((SCENE.mask(index) for index in range(len(SCENE.pairs))), key=lambda mask: -int(mask.sum()))
TRUTH, OTHER = (mask_to_rle(mask) for mask in SHAPES[:2])
HEIGHT, WIDTH = SHAPES[0].shape


@pytest.fixture(scope="module")
def segmenter() -> PromptedSegmenter:
    preset = PRESETS["demo"]
    return load_segmenter(ModelConfig(preset.detector, preset.segmenter, device="cpu"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as running:
        yield running


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """One scene, labeled ``dog`` with the left half of its largest shape, and an empty image."""
    run = labeled(tmp_path, (), "a.png", "b.png")
    for name in ("a.png", "b.png"):
        Image.fromarray(SCENE.image).save(tmp_path / "input" / name, compress_level=1 if name == "a.png" else 2)
    half = SHAPES[0].copy()
    half[:, int(rle_box_xyxy(TRUTH)[0] + (rle_box_xyxy(TRUTH)[2] - rle_box_xyxy(TRUTH)[0]) / 2) :] = False
    rle = mask_to_rle(half)
    found = Instance(0, "p", rle_box_xyxy(rle), 0.33, 0.9, 0.9, rle_area(rle), rle)
    digests = {name: read_image(tmp_path / "input" / name).digest for name in ("a.png", "b.png")}
    records = [
        ImageRecord(name, WIDTH, HEIGHT, digest, instances=(found,) if name == "a.png" else ())
        for name, digest in digests.items()
    ]
    write_records(run.records / "000000.parquet", records)
    return run


def overlap(rle: Rle | None, truth: Rle) -> float:
    return 0.0 if rle is None else float(mask_iou([rle], [truth])[0, 0])


class Page:
    """A page on a server, and what its console said."""

    def __init__(self, browser: Any, server: ReviewServer, width: int = 1000, **options: Any) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 700}, **options)
        self.faults: list[str] = []
        self.page.on("console", lambda message: self.faults.append(message.text))
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.goto(server.url)

    def waits(self, selector: str) -> None:
        self.page.wait_for_selector(selector, timeout=60_000)

    def has(self, drafts: int) -> None:
        self.waits(f"body[data-drafts='{drafts}']")

    def begin(self, key: str) -> None:
        self.waits("body[data-number]")
        self.page.keyboard.press(key)
        self.has(0)

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a place of the image is on the screen, as the browser has put the image."""
        box = self.page.locator(".stage img").bounding_box()
        return box["x"] + x * box["width"] / WIDTH, box["y"] + y * box["height"] / HEIGHT

    def click(self, x: float, y: float, button: str = "left") -> None:
        self.page.mouse.click(*self.place(x, y), button=button)

    def drag(self, box: tuple[float, float, float, float]) -> None:
        self.page.mouse.move(*self.place(*box[:2]))
        self.page.mouse.down()
        self.page.mouse.move(*self.place((box[0] + box[2]) / 2, box[3]))
        self.page.mouse.move(*self.place(*box[2:]))
        self.page.mouse.up()

    def says(self, text: str) -> None:
        self.page.wait_for_function("text => document.getElementById('said').textContent === text", arg=text)


def inner_point(mask: Any) -> tuple[float, float]:
    """The middle of the pixel that is farthest from the edge of a shape."""
    import cv2

    distance = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(int(distance.argmax()), distance.shape)
    return float(x) + 0.5, float(y) + 0.5


def test_a_mask_is_fixed_and_an_object_is_drawn(browser: Any, run: RunFolder, segmenter: PromptedSegmenter) -> None:
    with serving(run, load=lambda: segmenter) as server:
        page = Page(browser, server)
        page.begin("e")
        outline = page.page.locator(".stage .outline")
        before = outline.get_attribute("d")
        page.page.keyboard.press("0")  # the whole image
        page.click(*inner_point(SHAPES[0]))
        page.has(1)
        page.click(*inner_point(SHAPES[0]), button="right")
        page.has(2)
        assert page.page.locator(".point.added").count() == page.page.locator(".point.removed").count() == 1
        page.page.keyboard.press("u")
        page.page.keyboard.press("Control+z")
        page.has(0)
        assert outline.get_attribute("d") == before
        page.page.keyboard.press("Escape")
        page.waits("body:not([data-drawing])")
        assert saved(run) == []

        page.begin("e")
        page.page.keyboard.press("0")
        page.drag(rle_box_xyxy(TRUTH))
        page.has(1)
        assert outline.get_attribute("d") != before
        page.page.keyboard.press("Enter")
        page.waits("#done[open]")
        (fixed,) = saved(run)
        assert (fixed.verdict, fixed.class_name, fixed.new_class) == ("accept", "dog", None)
        assert overlap(fixed.new_rle, TRUTH) >= 0.7
        page.page.keyboard.press("Escape")

        page.begin("d")
        page.drag(rle_box_xyxy(OTHER))
        page.has(1)
        page.page.select_option("#drawing-class", "cat")
        page.page.click("#drawing-save")
        page.says("saved: cat added")
        page.has(0)
        assert page.page.locator(".other").count() == 2
        page.page.keyboard.press("u")  # with no mask drawn, the last decision
        page.says("taken back: the last decision")
        page.has(0)
        assert [each.verdict for each in saved(run)] == ["accept", "none"]
        page.page.keyboard.press("n")  # an image without any instance
        page.waits("body[data-drawing='1']")
        page.has(0)
        page.drag(rle_box_xyxy(OTHER))
        page.has(1)
        page.page.select_option("#drawing-class", "cat")
        page.page.click("#drawing-save")
        page.says("saved: cat added")
        assert page.faults == []
    added = saved(run)[-1]
    assert (added.image_id, added.class_name, added.new_class) == ("b.png", None, "cat")
    assert apply_decisions(run.output, []).unmatched == []
    truths = {1: TRUTH, 2: OTHER}
    annotations = coco(run)["annotations"]
    assert sorted(each["category_id"] for each in annotations) == [1, 2]
    for each in annotations:
        segmentation: Any = each["segmentation"]
        polygons = segmentation if isinstance(segmentation, dict) else None
        rle = polygons or coco_mask.merge(coco_mask.frPyObjects(segmentation, HEIGHT, WIDTH))
        if isinstance(rle["counts"], list):
            rle = coco_mask.frPyObjects(rle, HEIGHT, WIDTH)
        assert coco_mask.iou([rle], [dict(truths[int(str(each["category_id"]))])], [0])[0, 0] >= 0.7


def test_clicks_are_pixels_of_the_image_however_the_picture_is_scaled(
    browser: Any, run: RunFolder, segmenter: PromptedSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_SIDE", 100)  # the browser gets less than a third of the image
    with serving(run, load=lambda: segmenter) as server:
        page = Page(browser, server)
        page.begin("e")
        assert page.page.evaluate("document.querySelector('.stage img').naturalWidth") == 100
        for count, keys in enumerate(("", "0", "+ + +"), start=1):
            for key in keys.split():
                page.page.keyboard.press(key)
            stage = page.page.locator(".stage").bounding_box()
            x, y = round(stage["x"] + stage["width"] / 2 + 7), round(stage["y"] + stage["height"] / 2 - 5)
            (left, top), (right, bottom) = page.place(0, 0), page.place(WIDTH, HEIGHT)
            with page.page.expect_request("**/masks") as asked:
                page.page.mouse.click(x, y)
            sent = asked.value.post_data_json
            assert sent["point"][0] == pytest.approx((x - left) * WIDTH / (right - left), abs=0.01)
            assert sent["point"][1] == pytest.approx((y - top) * HEIGHT / (bottom - top), abs=0.01)
            page.has(count)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_works_by_touch_and_keyboard(
    scheme: str, browser: Any, run: RunFolder, segmenter: PromptedSegmenter
) -> None:
    with serving(run, load=lambda: segmenter) as server:
        page = Page(browser, server, 360, has_touch=True, color_scheme=scheme)
        page.waits("body[data-number]")
        page.page.tap("text=Fix the mask")
        page.has(0)
        page.page.tap("#removes")
        stage = page.page.locator(".stage").bounding_box()
        page.page.touchscreen.tap(stage["x"] + stage["width"] / 2, stage["y"] + stage["height"] / 2)
        page.has(1)
        assert page.page.locator(".point.removed").count() == 1
        page.page.focus(".stage")
        page.page.keyboard.press("ArrowRight")  # the cross appears
        page.page.keyboard.press("Space")
        page.has(2)
        assert page.page.locator(".point.added").count() == 1
        for keys in ("b", *["ArrowRight"] * 3, *["ArrowDown"] * 3, "b"):
            page.page.keyboard.press(keys)
        page.has(3)
        assert page.page.locator(".prompt-box").count() == 1
        assert page.page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.page.evaluate(LOW_CONTRAST) == []
        page.page.tap("#drawing-cancel")
        page.waits("body:not([data-drawing])")
        page.page.tap("text=Draw an object")
        page.has(0)
        assert page.page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.faults == []


def test_loading_is_shown_and_so_is_what_goes_wrong(browser: Any, run: RunFolder, segmenter: PromptedSegmenter) -> None:
    loaded = threading.Event()

    def slow() -> PromptedSegmenter:
        loaded.wait(60)
        raise ModelError("segmenter 'x' cannot be loaded: it is damaged\nmore")

    with serving(run, load=slow) as server:
        page = Page(browser, server)
        page.waits("body[data-number]")
        page.page.keyboard.press("e")
        page.page.wait_for_selector("text=Loading the segmenter")
        loaded.set()
        page.page.wait_for_selector("text=segmenter 'x' cannot be loaded: it is damaged")
        page.page.keyboard.press("Escape")
        page.waits("body:not([data-drawing])")


def ask(server: ReviewServer, path: str, content: Any = None) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    body = None if content is None else json.dumps(content).encode()
    headers = {"Content-Type": "application/json"}
    connection.request("GET" if body is None else "POST", f"/{server.token}/{path}", body, headers)
    answer = connection.getresponse()
    status, data = answer.status, json.loads(answer.read())
    connection.close()
    return status, data


def test_requests_that_cannot_be_meant_get_one_line(
    run: RunFolder, segmenter: PromptedSegmenter, tmp_path: Path
) -> None:
    with serving(run, load=lambda: segmenter) as server:
        while not ask(server, "assist?image=0")[1]["ready"]:
            pass
        point = {"image": 0, "point": [5, 5], "label": 1}
        for content, status in (
            ({**point, "point": [WIDTH + 1, 5]}, 409),
            ({**point, "label": 0}, 409),  # nothing to remove from
            ({**point, "label": 2}, 400),
            ({**point, "point": [5]}, 400),
            ({**point, "image": -1}, 400),
            ({**point, "image": 2}, 404),
            ({**point, "item": 0, "image": 1}, 400),
            ({**point, "draft": 99}, 409),
            ({"image": 0, "box": [5, 5, 5, 9]}, 409),
            ({"image": 0, "box": [WIDTH + 1, 5, WIDTH + 9, 9]}, 409),
            ({"image": 0, "box": [0, 0, True, 9]}, 400),
        ):
            found, answer = ask(server, "masks", content)
            assert (found, "\n" in answer["error"]) == (status, False), content
        draft = ask(server, "masks", {"image": 0, "box": [*rle_box_xyxy(TRUTH)]})[1]["draft"]
        assert ask(server, "objects", {"image": 1, "draft": draft, "class": "cat"})[0] == 409  # of another image
        assert ask(server, "objects", {"image": 0, "draft": draft, "class": "cow"})[0] == 409
        (tmp_path / "input" / "b.png").unlink()
        assert ask(server, "masks", {**point, "image": 1}) == (404, {"error": "the image is gone"})
        assert saved(run) == []
    with serving(run) as server:  # without --assist
        assert ask(server, "masks", point)[0] == ask(server, "objects?image=0")[0] == 404


def test_an_image_is_embedded_once_while_it_is_kept(
    run: RunFolder, segmenter: PromptedSegmenter, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = []

    class Counting:
        decode = staticmethod(segmenter.decode)

        def encode(self, image: Any) -> Any:
            encoded.append(image.shape)
            return segmenter.encode(image)

    box = rle_box_xyxy(TRUTH)
    for most, expected in ((assistant_module.EMBEDDING_BYTES, 2), (1, 3)):  # with 1, the last one alone is kept
        monkeypatch.setattr(assistant_module, "EMBEDDING_BYTES", most)
        encoded.clear()
        drawer = Assistant(queue_of(run), Counting)
        while not drawer.is_loaded:
            pass
        drafts = [drawer.draft(drawer.from_box(image, box), image) for image in (0, 0, 1, 0)]
        assert len(encoded) == expected
        assert all(draft.rle == drafts[0].rle for draft in drafts)  # both images show the same scene


def test_what_the_segmenter_is_asked() -> None:
    """Box, points and the mask before; the box grows to the points on the object, not to those beside it."""
    rle = mask_to_rle(np.pad(np.ones((10, 10), np.bool_), 20))  # 20 to 30 in an image of 50
    fix = Draft(0, "d", rle_box_xyxy(rle), ((40.0, 25.0, 1), (5.0, 5.0, 0)), rle)
    assert _grown(fix, 50, 50) == (20, 20, 40, 30)
    prompts = _prompts(fix)
    assert prompts.boxes_xyxy is not None
    assert prompts.points_xy is not None
    assert prompts.point_labels is not None
    assert prompts.points_xy.tolist() == [[[40, 25], [5, 5]]]
    assert prompts.point_labels.tolist() == [[1, 0]]
    assert (prompts.masks, prompts.multimask) == ([rle], False)
    assert _prompts(Draft(0, "d", points=((1.0, 1.0, 1),))).multimask  # one point may mean a part or the whole
    with pytest.raises(UsageError, match=r"the point \(51, 5\) lies outside the image of 50 x 50 pixels"):
        _grown(Draft(0, "d", points=((51.0, 5.0, 1),)), 50, 50)


def test_an_object_drawn_on_an_instance_of_its_class_corrects_it(run: RunFolder) -> None:
    queue = queue_of(run)
    image, shown = queue.mask(0)
    wider = rle_to_mask(shown).copy()
    wider[0, 0] = True
    queue.add(image, queue.digest(image), "cat", mask_to_rle(wider))  # of another class: another object
    queue.add(image, queue.digest(image), "dog", mask_to_rle(wider))
    added, corrected = saved(run)
    assert (added.class_name, added.new_class) == (None, "cat")
    assert (corrected.class_name, corrected.new_class, corrected.rle) == ("dog", None, shown)
    assert corrected.new_rle == mask_to_rle(wider)
    assert queue.item(0)["decided"] == "accept"
    assert [queue.undo(), queue.undo(), queue.undo()] == [-1, -1, None]
    assert [each.verdict for each in saved(run)] == ["none", "none"]
    assert queue.item(0)["decided"] is None
    with pytest.raises(UsageError, match="labeled again"):
        queue.add(image, "0" * 32, "dog", shown)


def test_the_segmenter_must_be_there_before_the_page_opens(run: RunFolder, tmp_path: Path) -> None:
    for arguments, said in (
        (("--segmenter", "embedded:none"), "the embedded models are"),
        (("--segmenter", "embedded:detector"), "known types"),
        (("--model", "demo", "--device", "cuda:9"), "is not on this machine"),
    ):
        done = run_in_process("review", run.output, "--assist", "--no-open", *arguments)
        assert (done.returncode, said in done.stderr, done.stderr.count("\n")) == (2, True, 1), done.stderr
