"""This project against autodistill-grounded-sam, a plain loop with transformers, and Ultralytics' SAM.

    python benchmarks/peers.py [--images 2] [--classes 1 5 20] [--environment FOLDER]

Makes a virtual environment that also sees the packages of this Python, installs the peers there, and runs in it. The
models have few layers and random weights (``peer_models.py``), the same for all. First, the parity with the original
code of Grounding DINO and SAM: logits, boxes and masks. Then CPU seconds an image on one thread, in turns; about ten
boxes an image reach the segmenters. A ratio above 1 says how many times longer the peer takes.
"""

from __future__ import annotations

import argparse
import os
import site
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
PEERS = ("autodistill-grounded-sam==0.1.2", "autodistill", "roboflow", "scikit-learn", "ultralytics")
SIZE = (640, 480)
BOXES = 10
SAMPLED_WORDS = 3  # that the threshold of autodistill is found with
COLOURS, SHAPES = ("red", "blue", "green", "yellow", "purple"), ("circle", "square", "star", "ring")
WORDS = [f"{colour} {shape}" for colour in COLOURS for shape in SHAPES]

Image = NDArray[np.uint8]


def enter_environment(folder: Path) -> None:
    """Run this script again in an environment of its own. What this Python has is not installed anew."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        (packages,) = folder.glob("lib/python*/site-packages")
        (packages / "parent.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS], check=True)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "YOLO_AUTOINSTALL": "false"}
    command = [python, __file__, *sys.argv[1:], "--inside"]
    raise SystemExit(subprocess.run(command, env=environment | {"OMP_NUM_THREADS": "1"}).returncode)


def images(count: int) -> list[Image]:
    import cv2

    rng = np.random.default_rng(0)
    coarse = [rng.integers(0, 256, (12, 16, 3), dtype=np.uint8) for _ in range(count)]
    return [np.asarray(cv2.resize(each, SIZE, interpolation=cv2.INTER_CUBIC)) for each in coarse]


class Peers:
    """All four, on the weights in ``folder``."""

    def __init__(self, folder: Path) -> None:
        import peer_models as models
        import torch
        from autodistill_grounded_sam import GroundedSAM
        from groundingdino.util.inference import Model
        from segment_anything import SamPredictor
        from transformers import AutoModelForMaskGeneration, AutoModelForZeroShotObjectDetection, AutoProcessor
        from ultralytics.models.sam import Predictor

        from labeler.models.config import ModelConfig
        from labeler.models.loading import load_detector, load_segmenter

        torch.set_num_threads(1)
        models.write_checkpoints(folder)
        paths = str(folder / "detector"), str(folder / "segmenter")
        config = ModelConfig(*paths, device="cpu", floor=1e-6, max_instances=BOXES, clean_share=0)
        self.detector, self.segmenter = load_detector(config), load_segmenter(config)
        self.plain_detector = AutoModelForZeroShotObjectDetection.from_pretrained(paths[0]).eval()
        self.plain_segmenter = AutoModelForMaskGeneration.from_pretrained(paths[1]).eval()
        self.processors = AutoProcessor.from_pretrained(paths[0]), AutoProcessor.from_pretrained(paths[1])
        dino: Any = Model.__new__(Model)  # its constructor reads a checkpoint file
        dino.model, dino.device = models.original_detector(folder), "cpu"
        self.autodistill: Any = GroundedSAM.__new__(GroundedSAM)  # this one downloads
        self.autodistill.grounding_dino_model = dino
        self.autodistill.sam_predictor = SamPredictor(models.original_segmenter(folder))
        self.autodistill.text_threshold = 0.0
        self.ultralytics: Any = Predictor(
            overrides={"conf": 0.0, "task": "segment", "mode": "predict", "imgsz": 1024, "verbose": False}
            | {"save": False, "device": "cpu"}
        )  # fmt: skip
        self.ultralytics.setup_model(model=models.ultralytics_segmenter(folder), verbose=False)

    def compared(self, image: Image, words: Sequence[str]) -> list[tuple[float, int]]:
        """CPU seconds and objects of this project, autodistill, and the plain loop."""
        return [seconds(each, image, words) for each in (self.labeler, self.original, self.plain)]

    def labeler(self, image: Image, words: Sequence[str]) -> int:
        from labeler.models.labelers.grounded_sam import GroundedSamLabeler
        from labeler.models.labelers.labeler import LabelRequest
        from ontologies import ClassSpec, Ontology

        labeler = GroundedSamLabeler(self.detector, self.segmenter, 1e-6, BOXES)
        ontology = Ontology(tuple(ClassSpec(word) for word in words))
        return len(labeler.label([LabelRequest("", image, ontology)])[0])

    def original(self, image: Image, words: Sequence[str]) -> int:
        from autodistill.detection import CaptionOntology

        self.autodistill.ontology = CaptionOntology({word: word for word in words})
        return len(self.autodistill.predict(np.ascontiguousarray(image[..., ::-1])))

    def plain(self, image: Image, words: Sequence[str]) -> int:
        import torch

        detecting, segmenting = self.processors
        with torch.no_grad():
            inputs = detecting(images=image, text=". ".join(words) + ".", return_tensors="pt")
            found = self.plain_detector(**inputs)
            (result,) = detecting.post_process_grounded_object_detection(
                found, inputs["input_ids"], threshold=0.0, text_threshold=1.0, target_sizes=[image.shape[:2]]
            )
            best = result["scores"].argsort(descending=True)[:BOXES]
            prompted = segmenting(images=image, input_boxes=[result["boxes"][best].tolist()], return_tensors="pt")
            outputs = self.plain_segmenter(
                pixel_values=prompted["pixel_values"],
                input_boxes=prompted["input_boxes"].float(),
                multimask_output=False,
            )
        masks = segmenting.image_processor.post_process_masks(
            outputs.pred_masks, prompted["original_sizes"], prompted["reshaped_input_sizes"]
        )
        return len(masks[0])

    def set_threshold(self, image: Image, words: Sequence[str]) -> None:
        """Let about ``BOXES`` boxes reach the segmenter of autodistill, which has no limit."""
        import torch

        dino, scores = self.autodistill.grounding_dino_model, []
        some = words[:: max(1, len(words) // SAMPLED_WORDS)]
        for word in some:
            pixels = dino.preprocess_image(image_bgr=np.ascontiguousarray(image[..., ::-1]))
            with torch.no_grad():
                logits = dino.model(pixels[None], captions=[f"{word} ."])["pred_logits"]
            scores.append(logits[0].sigmoid().amax(1))
        self.autodistill.box_threshold = float(
            torch.cat(scores).sort(descending=True).values[BOXES * len(some) // len(words)]
        )


def parity(peers: Peers, image: Image) -> None:
    """Print how far logits, boxes and masks are from those of the original code."""
    import torch

    from labeler.geometry.masks import rle_to_mask
    from labeler.models.segmenters.segmenter import SegmentPrompts

    dino = peers.autodistill.grounding_dino_model
    pixels = dino.preprocess_image(image_bgr=np.ascontiguousarray(image[..., ::-1]))[None]
    words = tuple(WORDS[:5])
    (caption,) = peers.detector._captions(words)  # type: ignore[attr-defined]
    with torch.inference_mode():
        theirs = dino.model(pixels, captions=[" . ".join(words) + " ."])
        ((_, _, logits, boxes),) = peers.detector._forward(pixels, [(0, caption)])  # type: ignore[attr-defined]
    length = len(caption.token_ids)
    expected = theirs["pred_logits"][0, :, :length]
    off = (logits[:, :length] - expected).abs()
    print(f"logits of Grounding DINO: {off[expected.isfinite()].max():.1e} off, at most", flush=True)
    scale = torch.tensor(SIZE * 2)
    print(f"its boxes: {((boxes - theirs['pred_boxes'][0]) * scale).abs().max():.1e} pixels off, at most")
    corners = some_boxes()
    ours = [rle_to_mask(mask.rle) for mask in peers.segmenter.segment([image], [SegmentPrompts.of_boxes(corners)])[0]]
    predictor = peers.autodistill.sam_predictor
    predictor.set_image(image)
    originals = [predictor.predict(box=box, multimask_output=False)[0][0] for box in corners]
    overlaps = [(mine & its).sum() / max((mine | its).sum(), 1) for mine, its in zip(ours, originals, strict=True)]
    print(
        f"masks of SAM: IoU {min(overlaps):.4f}, at least; {sum(map(int, (m.sum() for m in ours)))} pixels\n",
        flush=True,
    )


def some_boxes() -> NDArray[np.float32]:
    """``BOXES`` boxes, float32 xyxy."""
    corners = np.random.default_rng(1).uniform(0.05, 0.95, (BOXES, 2, 2)) * SIZE
    return np.concatenate([corners.min(1), corners.max(1) + 4], 1).astype(np.float32)


def seconds(label: Callable[[Image, Sequence[str]], int], image: Image, words: Sequence[str]) -> tuple[float, int]:
    before = time.process_time()
    count = label(image, words)
    return time.process_time() - before, count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--classes", type=int, nargs="*", default=[1, 5, 20], help="none: SAM alone")
    parser.add_argument("--environment", type=Path, default=Path("build/peers"), help="folder of the environment")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if not args.inside:
        enter_environment(args.environment.absolute())
    from peer_segmenters import compare_segmenters  # which needs what the environment has

    pictures = images(args.images)
    with tempfile.TemporaryDirectory() as folder:
        peers = Peers(Path(folder))
        parity(peers, pictures[0])
        print("| classes | labeler | autodistill | plain loop | autodistill / labeler | plain / labeler | objects |")
        print(f"{'| ---: ' * 6}| --- |", flush=True)
        for count in args.classes:
            words = WORDS[:count]
            peers.set_threshold(pictures[0], words)
            runs = [peers.compared(image, words) for image in pictures]
            ours, original, plain = (median(run[peer][0] for run in runs) for peer in range(3))
            objects = " / ".join(f"{np.mean([run[peer][1] for run in runs]):.0f}" for peer in range(3))
            print(
                f"| {count} | {ours:.2f} | {original:.2f} | {plain:.2f} | {original / ours:.2f} | {plain / ours:.2f} "
                f"| {objects} |",
                flush=True,
            )
        compare_segmenters(peers.segmenter, peers.ultralytics, pictures, some_boxes())


if __name__ == "__main__":
    main()
