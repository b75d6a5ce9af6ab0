"""What goes by the score that the gate ranks by, beside the gate: the order of review, the report's lines."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

from labeler.quality_config import QualityConfig
from tests.support.made_folder import write_labeled
from tests.support.reviews import FAR, NEAR, labeled, places, queue_of
from workflows.dataset.labeled import open_labeled
from workflows.reporting.report import report
from workflows.settings.export import ExportConfig

CLASSES = ("ring", "star")


def test_uncertain_is_what_the_ranking_score_says(tmp_path: Path) -> None:
    """Joint scores are 0.297 and 0.279, both under review; detector scores 0.33 and 0.31, both accepted."""
    run = labeled(tmp_path, (NEAR, FAR))
    for score, expected in (("joint", [15, 30]), ("detector", [30, 15])):
        quality = QualityConfig(score=score)  # type: ignore[arg-type]
        run.settings.write(replace(run.settings.read(), export=ExportConfig(quality=quality)))
        assert places(queue_of(run, "all")) == [("a.png", left) for left in expected]


def test_the_gates_lines_are_in_the_histogram_of_its_score(tmp_path: Path) -> None:
    opened = open_labeled(write_labeled(tmp_path / "labeled", [f"{n}.png" for n in range(20)], CLASSES))
    for score, name in (("joint", "joint_score"), ("detector", "score"), ("mask", "mask_score")):
        quality = QualityConfig(score=score, class_accept_scores={CLASSES[1]: 0.41})  # type: ignore[arg-type]
        path = tmp_path / f"{score}.html"
        report(replace(opened, export=replace(opened.export, quality=quality)), path, samples=2)
        text = path.read_text(encoding="utf-8")
        content = re.search(r'id="data">(.*?)</script>', text)
        assert content is not None
        assert json.loads(content[1])["ranking"] == score
        figures = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
        with_line = [figure for figure in figures if "accept ≥ 0.3" in figure]
        assert len(with_line) == 1
        titles = {"joint_score": "Joint score", "score": "Detector score", "mask_score": "Mask score"}
        assert f"Histogram: {titles[name]}" in with_line[0]
        assert '<td class="number">0.41</td>' in text, "of the class"
