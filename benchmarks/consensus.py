"""What the mirrored view is worth: demo scenes labeled once, and with ``--views mirror``.

    python benchmarks/consensus.py [--scenes 300] [--every-class]

Each scene is asked for what it shows and for four classes that it does not show, or for all 64. The gate runs with its
own settings, and a candidate that it does not reject counts by its joint score. Best F1 over all accept scores, recall
at the accept score that reaches precision 0.98, and the gain of each with a 95 % interval: scenes are drawn with
replacement, the same ones for both, and the accept scores are chosen anew for each draw. Last, the CPU time as a
multiple of that of one view.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from labeler.demo.scenes import PAIRS, class_name, make_scene, scene_ground_truth, scene_rng
from labeler.ground_truth import GroundTruth
from labeler.metrics.candidates import Candidates, CandidateTable
from labeler.models.config import PRESETS, ModelConfig
from labeler.models.kinds.consensus import ConsensusKind
from labeler.models.kinds.grounded_sam import GroundedSamKind
from labeler.models.kinds.kind import LabelerKind
from labeler.models.labelers.labeler import LabelRequest
from labeler.quality import judge
from labeler.quality_config import QualityConfig
from labeler.records import ImageRecord
from ontologies import ClassSpec, Ontology

FRESH_SEED = 40_000  # far from the training seeds
ABSENT, PRECISION, RESAMPLES = 4, 0.98, 2000
NAMES = [class_name(pair) for pair in PAIRS]
GATE = QualityConfig(min_score=0, min_joint_score=0, accept_score=0)


def candidates_of(
    kind: LabelerKind, config: ModelConfig, requests: Sequence[LabelRequest], truth: GroundTruth
) -> tuple[Candidates, float]:
    labeler = kind.load(config)
    labeler.label(requests[:1])  # the first call takes longer
    table, started = CandidateTable(range(len(NAMES)), len(NAMES), "joint"), time.process_time()
    found = [each for start in range(0, len(requests), 8) for each in labeler.label(requests[start : start + 8])]
    seconds = time.process_time() - started
    for request, image, instances in zip(requests, truth.images, found, strict=True):
        ids = [NAMES.index(name) for name in request.ontology.class_names]
        record = ImageRecord(image.name, image.width, image.height, "", instances=tuple(instances))
        judged = zip(instances, judge(record, GATE, request.ontology.classes), strict=True)
        table.add((replace(each, class_id=ids[each.class_id]) for each, it in judged if it.verdict == "accept"), image)
    return table.candidates(), seconds


def figures(candidates: Candidates, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """Best F1, and recall at ``PRECISION``; ``weights`` says how often each image counts."""
    order = np.argsort(-candidates.score, kind="stable")
    counted = weights[candidates.image[order]]
    true, accepted = np.cumsum(counted * candidates.correct[order]), np.cumsum(counted)
    objects = (candidates.objects.sum(axis=1) * weights).sum()
    reached = true >= PRECISION * accepted
    return np.array([(2 * true / (accepted + objects)).max(), (true * reached).max() / objects])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--every-class", action="store_true")
    args = parser.parse_args()
    preset = PRESETS["demo"]
    config = ModelConfig(preset.detector, preset.segmenter, device="cpu", floor=0.05)
    scenes = [make_scene(scene_rng(FRESH_SEED, index)) for index in range(args.scenes)]
    rng = np.random.default_rng(7)
    requests = []
    for scene in scenes:
        present = list(dict.fromkeys(map(class_name, scene.pairs)))
        others = [name for name in NAMES if name not in present]
        absent = others if args.every_class else rng.permutation(others)[:ABSENT]
        names = [str(name) for name in rng.permutation([*present, *absent])]
        requests.append(LabelRequest("", scene.image, Ontology(tuple(map(ClassSpec, names)))))
    truth = scene_ground_truth(scenes, [f"{index}.png" for index in range(args.scenes)], NAMES)
    kinds = (GroundedSamKind(), ConsensusKind(GroundedSamKind(), mirror=True))
    (one, seconds), (both, longer) = (candidates_of(kind, config, requests, truth) for kind in kinds)
    draws = rng.multinomial(args.scenes, np.full(args.scenes, 1 / args.scenes), RESAMPLES)
    gains = np.array([figures(both, each) - figures(one, each) for each in draws])
    every = np.ones(args.scenes, dtype=np.int64)
    low, high = np.quantile(gains, [0.025, 0.975], axis=0)
    for index, name in enumerate(("best F1", f"recall at precision {PRECISION}")):
        before, after = figures(one, every)[index], figures(both, every)[index]
        interval = f"{low[index]:+.3f} to {high[index]:+.3f}"
        print(f"{name}: {before:.3f} one view, {after:.3f} both views, {after - before:+.3f} ({interval})")
    print(f"{int(one.objects.sum())} objects; both views take {longer / seconds:.2f} times the CPU time of one")


if __name__ == "__main__":
    main()
