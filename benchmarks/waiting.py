"""How long a GPU waits for everything around the models, measured without a GPU.

    python benchmarks/waiting.py [--against COMMIT] [--rate 5] [--images 96] [--cores 2]

In place of the two models stand stages that sleep as long as a GPU takes at ``--rate`` images a second, 1080p, 20
classes and 10 objects an image. The rest is the real code: JPEGs are decoded by reader threads, pixels are sent (to
another place in memory), scores become candidates, runs of masks are cleaned and encoded, records are written. Where a
GPU resizes images and upscales masks, the same calls run on tiny tensors, so that the CPU's share of them is spent.

- ``waits``: the share of time in which neither model runs. Other work on the machine adds to it.
- ``model thread``, ``other threads``: CPU seconds an image.
- ``waits, by CPU``: the share that the CPU seconds of the model thread alone would take. Other work on the machine
  does not disturb it.

With ``--against``, an earlier commit of this repository takes turns with this version.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from two_versions import ROOT, Version, unpacked

WIDTH, HEIGHT, OBJECTS, BATCH, DISTINCT = 1920, 1080, 10, 8, 16
SHARES = {"detector": 0.45, "encoder": 0.45, "decoder": 0.1}  # of the GPU's time for an image
QUERIES, TOKENS = 900, 256
WORDS = [
    f"{colour} {shape}"
    for colour in ("red", "blue", "green", "yellow")
    for shape in ("circle", "star", "ring", "cross", "moon")
]
PACKAGES = ("labeler", "ontologies", "workflows")
DEVICE = "cpu"  # stands in for a GPU
RATES = (20, 60)  # images a second, of GPUs whose need of cores is estimated


def write_images(folder: Path, count: int) -> list[str]:
    """JPEGs of 1080p with as many details as a photo; ``DISTINCT`` different ones under ``count`` names."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    names = [f"{index:05d}.jpg" for index in range(count)]
    for index, name in enumerate(names):
        if index >= DISTINCT:
            os.link(folder / names[index % DISTINCT], folder / name)
            continue
        coarse = Image.fromarray(rng.integers(0, 256, (HEIGHT // 16, WIDTH // 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.int16)
        pixels = (smooth + rng.normal(0, 4, smooth.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name, quality=90)
    return names


class Gpu:
    """Sleeps as long as a GPU works, and notes the CPU time around it."""

    def __init__(self, rate: float) -> None:
        self.seconds = {stage: share / rate for stage, share in SHARES.items()}
        self.marks: list[tuple[float, float, float]] = []  # wall, CPU of this thread, CPU of all, at each batch

    def mark(self) -> None:
        self.marks.append((time.perf_counter(), time.thread_time(), time.process_time()))

    def work(self, stage: str, images: int) -> None:
        time.sleep(self.seconds[stage] * images)


def stand_in_labeler(gpu: Gpu) -> Any:
    """Grounded SAM, whose models are ``gpu``."""
    import numpy as np
    import torch
    from transformers import GroundingDinoImageProcessor, GroundingDinoProcessor, Sam2ImageProcessor

    from labeler.demo.tiny_detector import demo_tokenizer
    from labeler.models.detectors.grounding_dino import GroundingDinoDetector
    from labeler.models.labelers.grounded_sam import GroundedSamLabeler
    from labeler.models.labelers.on_device import DeviceCheckedLabeler
    from labeler.models.runtime import Runtime
    from labeler.models.segmenters.encoding import MaskChunk, MaskEncoder, PendingMasks, stability, windows
    from labeler.models.segmenters.upscaling import axis, upscaled

    def send(image: Any, device: str) -> Any:
        return torch.from_numpy(image.copy())

    try:
        from labeler.models.uploads import UPLOADS

        UPLOADS._send = send
        pixels_of = UPLOADS.pixels
    except ImportError:  # earlier versions send an image for each model
        pixels_of = send

    class DeviceRuntime(Runtime):
        """Prepares images as for a GPU, but only a corner of them."""

        def processor_input(self, image: Any) -> dict[str, Any]:
            pixels = pixels_of(image, DEVICE)[:72, :128].permute(2, 0, 1)
            return {"images": pixels, "input_data_format": "channels_first", "return_tensors": "pt"}

    rng = np.random.default_rng(0)
    sides = rng.uniform(75, 350, (OBJECTS, 2))
    corners = rng.uniform(0, 1, (OBJECTS, 2)) * (np.array([WIDTH, HEIGHT]) - sides)
    centres = (corners + sides / 2) / (WIDTH, HEIGHT)
    found = torch.zeros(QUERIES, 4)
    found[:OBJECTS] = torch.from_numpy(np.concatenate([centres, sides / (WIDTH, HEIGHT)], axis=1)).float()
    logits = torch.full((QUERIES, TOKENS), -6.0)
    logits[torch.arange(OBJECTS), 1 + 3 * torch.arange(OBJECTS)] = 3.0

    class Backbone(torch.nn.Module):
        position_embedding = None

        def forward(self, pixels: Any, mask: Any) -> Any:
            features = pixels[:, :1, :1, :1]  # part of what DetectorModel sleeps for
            return [(features, features)], [features]

    class DetectorModel:
        model = SimpleNamespace(text_backbone=torch.nn.Identity(), backbone=Backbone())
        config = SimpleNamespace(max_text_len=TOKENS, text_config=SimpleNamespace(max_position_embeddings=512))

        def __call__(self, pixel_values: Any, **texts: Any) -> Any:
            images = len(pixel_values)
            gpu.work("detector", images)
            return SimpleNamespace(logits=logits.expand(images, -1, -1), pred_boxes=found.expand(images, -1, -1))

    def ellipses(boxes: Any) -> Any:
        """The chunk of masks that a GPU delivers for an image."""
        across, down, tops, lefts = [], [], [], []
        for left, top, right, bottom in boxes:
            across.append(np.linspace(-1, 1, int(right - left))[None])
            down.append(np.linspace(-1, 1, int(bottom - top))[:, None])
            tops.append(int(top))
            lefts.append(int(left))
        runs = [
            windows(torch.from_numpy(x**2 + y**2 < 1)[None], np.array([top]), np.array([left]))[0]
            for x, y, top, left in zip(across, down, tops, lefts, strict=True)
        ]
        return MaskChunk(range(len(boxes)), runs, [0.9] * len(boxes), [0.95] * len(boxes), (HEIGHT, WIDTH))

    class StandInSegmenter:
        def __init__(self) -> None:
            self.runtime = DeviceRuntime(DEVICE)
            self._processor = Sam2ImageProcessor(size={"height": 64, "width": 64})
            self._encoder = MaskEncoder(0.01)
            self._chunk: Any = None
            self._small = torch.ones(OBJECTS, 16, 16)
            self._axes = [axis(16, ((64, 64),), "cpu")] * 2

        def begin(self, images: Any, prompts: Any) -> list[Any]:
            for image in images:
                self._processor(**self.runtime.processor_input(image))
            gpu.work("encoder", len(images))
            gpu.work("decoder", len(images))
            pending = [PendingMasks(self._encoder) for _ in images]
            for masks, own in zip(pending, prompts, strict=True):
                for part in upscaled(self._small, self._axes, threshold=-1.0):
                    windows(part.values > 0, part.tops, part.lefts)
                    stability(part.values).tolist()
                self._chunk = self._chunk or ellipses(own.boxes_xyxy)
                assert len(self._chunk.windows) == len(own.boxes_xyxy) == OBJECTS
                masks.add(self._chunk)
            gpu.mark()
            return [masks.result for masks in pending]

        def segment(self, images: Any, prompts: Any) -> list[Any]:
            return [result() for result in self.begin(images, prompts)]

    tokenizer = demo_tokenizer()
    image_processor = GroundingDinoImageProcessor(size={"shortest_edge": 64, "longest_edge": 128})
    detector = GroundingDinoDetector(
        DetectorModel(), GroundingDinoProcessor(image_processor, tokenizer), DeviceRuntime(DEVICE)
    )
    labeler = DeviceCheckedLabeler(GroundedSamLabeler(detector, StandInSegmenter()), lambda: None)
    return replace(labeler, device=DEVICE) if hasattr(labeler, "device") else labeler


def serve(folder: Path, rate: float, images: int) -> None:
    """Labels all images for each line of the input."""
    import torch

    from labeler.models.prompters.prompter import FixedPrompts
    from ontologies import Ontology
    from workflows.run.shards import Shard, Stages, label_shards  # where earlier versions have them too

    torch.set_num_threads(1)
    names = [f"{index:05d}.jpg" for index in range(images)]
    for number, _ in enumerate(sys.stdin):
        gpu = Gpu(rate)
        stages = Stages(FixedPrompts(Ontology.from_text(", ".join(WORDS))), stand_in_labeler(gpu))
        records = folder / f"{os.getpid()}-{number}" / "run" / "records"
        records.mkdir(parents=True)
        shards = [
            Shard(first, tuple(names[first : first + 32]), records / f"{first}.parquet")
            for first in range(0, images, 32)
        ]
        reports = list(label_shards(shards, folder, stages, BATCH))
        assert [sum(report.objects for report in reports), sum(len(report.failures) for report in reports)] == [
            OBJECTS * images,
            0,
        ]
        # From the end of the second batch, when everything is under way, to the end of the last.
        done = BATCH * (len(gpu.marks) - 2)
        wall, own, every = ((end - begin) / done for begin, end in zip(gpu.marks[1], gpu.marks[-1], strict=True))
        seconds = {"wall": wall, "model_thread": own, "others": every - own}
        print(json.dumps(seconds), flush=True)


def print_table(results: dict[str, list[dict[str, float]]], rate: float) -> None:
    print("| version | waits | waits, by CPU | model thread | other threads |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, runs in results.items():
        wall, own, others = (min(run[key] for run in runs) for key in ("wall", "model_thread", "others"))
        print(
            f"| {name} | {1 - 1 / (rate * wall):.1%} | {own / (own + 1 / rate):.1%} "
            f"| {own * 1000:.1f} ms | {others * 1000:.1f} ms |"
        )
    own, others = (min(run[key] for run in results["now"]) for key in ("model_thread", "others"))
    print("\n| GPU | cores | of these, the model thread |\n| ---: | ---: | ---: |")
    for images in RATES:
        print(f"| {images} images/s | {images * (own + others):.1f} | {images * own:.2f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="COMMIT", help="an earlier version")
    parser.add_argument("--rate", type=float, default=5.0, help="images a second of the models alone")
    parser.add_argument("--images", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=2, help="the best of these counts")
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve, args.rate, args.images)
        return
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cores])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "images"
        folder.mkdir()
        write_images(folder, args.images)
        trees = {"now": ROOT}
        if args.against:
            trees[args.against] = unpacked(args.against, Path(scratch) / "before")
        script = (__file__, "--serve", str(folder), "--rate", str(args.rate), "--images", str(args.images))
        versions = {name: Version(tree, *script) for name, tree in trees.items()}
        results: dict[str, list[dict[str, float]]] = {name: [] for name in versions}
        for _ in range(args.rounds):
            for name, version in versions.items():
                results[name].append(version.measured("run"))
        for version in versions.values():
            version.close()
        print_table(results, args.rate)


if __name__ == "__main__":
    main()
