"""A headless Chromium for tests of pages: pages open from disk, and nothing may reach the network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]

# (text, contrast) of every text that is to be seen with a contrast below 4.5 against what is behind it.
LOW_CONTRAST = """() => {
      const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255)
        .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
      const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
      const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
          const colour = numbers(getComputedStyle(at).backgroundColor);
          if (colour.length === 3 || colour[3] > 0) return colour;
        }
        return [255, 255, 255];
      };
      const low = [];
      for (const element of document.querySelectorAll("body *")) {
        const text = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!text || !element.checkVisibility() || element.disabled) continue;
        const svg = element.closest("svg");
        const style = getComputedStyle(element);
        const [a, b] = [luminance(numbers(svg ? style.fill : style.color)), luminance(behind(element))];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < 4.5) low.push([element.textContent.slice(0, 40), contrast]);
      }
      return low;
    }"""


@contextmanager
def chromium() -> Iterator[Any]:
    """A playwright ``Browser``; the test is skipped where no Chromium is installed."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no {' or '.join(NAMES)} is installed to open the page in")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()
