"""Milliseconds of the gate on a record of many instances, against an earlier commit in the same run.

    python benchmarks/gate.py --against COMMIT [--instances 900] [--rounds 15]

Ellipses of five classes lie on an image of 1920 x 1080 pixels, and all of them reach the filters of overlaps. Both
versions take turns; CPU milliseconds are counted, and the verdicts must be equal.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from two_versions import ROOT, Version, unpacked

from labeler.geometry.masks import mask_to_rle, rle_area, rle_box_xyxy
from labeler.quality import judge
from labeler.quality_config import QualityConfig
from labeler.records import ImageRecord, Instance
from ontologies import Ontology

WIDTH, HEIGHT, CLASSES = 1920, 1080, 5


def made_record(count: int) -> ImageRecord:
    rng = np.random.default_rng(1)
    instances = []
    for _ in range(count):
        canvas = np.zeros((HEIGHT, WIDTH), dtype=np.uint8)
        centre = (rng.uniform(60, WIDTH - 60), rng.uniform(60, HEIGHT - 60))
        cv2.ellipse(canvas, (centre, tuple(rng.uniform(16, 90, 2)), rng.uniform(0, 180)), (1,), thickness=-1)
        rle = mask_to_rle(canvas.view(np.bool_))
        class_id, score = int(rng.integers(CLASSES)), float(rng.uniform(0.5, 1))
        instances.append(Instance(class_id, "", rle_box_xyxy(rle), score, score, 0.98, rle_area(rle), rle))
    return ImageRecord("made.png", WIDTH, HEIGHT, "", instances=tuple(instances))


def serve(count: int) -> None:
    """Judges the record once for each line of the input."""
    record, config = made_record(count), QualityConfig()
    classes = Ontology.from_text(", ".join(f"kind {index}" for index in range(CLASSES))).classes
    for _ in sys.stdin:
        before = time.process_time()
        judged = judge(record, config, classes)
        milliseconds = 1000 * (time.process_time() - before)
        verdicts = [(each.verdict, each.reason) for each in judged]
        kept = sum(each.verdict != "reject" for each in judged)
        digest = hashlib.sha256(repr(verdicts).encode()).hexdigest()
        print(json.dumps({"ms": milliseconds, "kept": kept, "digest": digest}), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="COMMIT", default="HEAD", help="the earlier version")
    parser.add_argument("--instances", type=int, default=900)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.instances)
        return
    with tempfile.TemporaryDirectory() as folder:
        script = (__file__, "--serve", "--instances", str(args.instances))
        versions = [Version(tree, *script) for tree in (ROOT, unpacked(args.against, Path(folder)))]
        answers = [[version.measured() for version in versions] for _ in range(args.rounds)]
        for version in versions:
            version.close()
    now, before = (min(each[index]["ms"] for each in answers) for index in (0, 1))
    ratio = statistics.median(old["ms"] / new["ms"] for new, old in answers)
    same = len({each["digest"] for pair in answers for each in pair}) == 1
    print(
        f"{args.instances} instances, {answers[0][0]['kept']} kept: {now:.0f} ms now, {before:.0f} ms before, "
        f"{ratio:.1f} times as fast; verdicts {'equal' if same else 'DIFFER'}"
    )


if __name__ == "__main__":
    main()
