"""Draw the pictures of the README and the docs from the demo's scenes and weights.

    python docs/pictures.py              # docs/images/labels.jpg, report.png and review.png

The first is drawn here: scenes above, and below them the outlines of what the demo accepts. An outline leaves the
colours of an object as they are. The other two are screenshots, taken with the installed Chromium.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Page, sync_playwright

from labeler.files.images import read_image
from labeler.geometry.masks import rle_to_mask
from labeler.records import Instance
from workflows.commands.cli import main as labeler
from workflows.dataset.labeled import open_labeled

PICTURES = Path(__file__).parent / "images"
SHOWN = ("scene_0008.png", "scene_0029.png", "scene_0018.png", "scene_0036.png")
SIDE, GAP = 400, 8  # pixels of a scene, and between scenes
COLOURS = 256  # of a screenshot: a third of the bytes
Pixels = NDArray[np.uint8]


def outlined(pixels: Pixels, instances: list[Instance], class_names: tuple[str, ...]) -> Pixels:
    """uint8 RGB ``(SIDE, SIDE, 3)``: ``pixels`` with the outline, class and joint score of each instance."""
    scale = SIDE / pixels.shape[1]
    canvas = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    for instance in instances:
        mask = cv2.resize(rle_to_mask(instance.rle).astype(np.uint8) * 255, (SIDE, SIDE))
        contours, _ = cv2.findContours((mask >= 128).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, contours, -1, (0, 0, 0), 5, cv2.LINE_AA)
        cv2.drawContours(canvas, contours, -1, (255, 255, 255), 2, cv2.LINE_AA)
    picture = Image.fromarray(canvas)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    for instance in instances:
        text = f"{class_names[instance.class_id]} {instance.joint_score:.2f}"
        left, top, right, _ = (value * scale for value in instance.box_xyxy)
        width = draw.textlength(text, font)
        x = float(np.clip((left + right - width) / 2, 5, SIDE - width - 5))
        y = float(np.clip(top - 22, 3, SIDE - 22))
        draw.rounded_rectangle((x - 5, y - 2, x + width + 5, y + 19), 4, fill=(20, 22, 26))
        draw.text((x, y), text, "white", font)
    return np.asarray(picture)


def draw_labels(output: Path) -> None:
    """The picture at the top of the README, from the demo's folder ``output``."""
    labeled = open_labeled(output / "dataset")
    columns = {}
    for record, judgements in labeled.judged():
        if record.image_id in SHOWN:
            pairs = zip(record.instances, judgements, strict=True)
            accepted = [instance for instance, judgement in pairs if judgement.verdict == "accept"]
            pixels = read_image(output / "scenes" / record.image_id).pixels
            scene = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
            space = np.full((GAP, SIDE, 3), 255, np.uint8)
            columns[record.image_id] = np.vstack(
                [scene, space, outlined(pixels, accepted, labeled.ontology.class_names)]
            )
    space = np.full((2 * SIDE + GAP, GAP, 3), 255, np.uint8)
    parts = [part for name in SHOWN for part in (columns[name], space)][:-1]
    Image.fromarray(np.hstack(parts)).save(PICTURES / "labels.jpg", quality=90, optimize=True)


def screenshots(output: Path) -> None:
    """The report and the review page of the demo's dataset."""
    review = subprocess.Popen(
        [sys.executable, "-m", "labeler", "review", str(output / "dataset"), "--no-open"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
            page = browser.new_page(viewport={"width": 1200, "height": 760})
            page.goto((output / "dataset" / "report.html").as_uri())
            shorten = "path => { document.body.innerHTML = document.body.innerHTML.replaceAll(path, 'scenes') }"
            page.evaluate(shorten, str(output / "scenes"))
            take(page, "report.png")
            page.goto(address_in(review))
            page.wait_for_timeout(1500)
            take(page, "review.png")
            browser.close()
    finally:
        review.terminate()
        review.wait()


def address_in(review: subprocess.Popen[str]) -> str:
    """The address that ``labeler review`` prints."""
    assert review.stdout
    for line in review.stdout:
        for word in line.split():
            if word.startswith("http://"):
                return word
    raise SystemExit("labeler review printed no address")


def take(page: Page, name: str) -> None:
    page.screenshot(path=PICTURES / name)
    picture = Image.open(PICTURES / name).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(PICTURES / name, optimize=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "demo"
        labeler(["demo", "-o", str(output)])
        PICTURES.mkdir(exist_ok=True)
        draw_labels(output)
        screenshots(output)


if __name__ == "__main__":
    main()
