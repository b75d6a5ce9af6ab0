"""Images a second and how busy the GPU is, with architectures of full size, against batch sizes and precisions.

    python benchmarks/gpu_throughput.py [--size tiny] [--batch-sizes 1 4 8 16] [--precisions fp32 bf16] [--images 200]

One process labels JPEG images of 1280 × 960 with a Grounding DINO and a SAM 2 of the size of a preset's. Their weights
are random, which costs the same as trained ones; the floor is set so that about ten boxes an image reach SAM.

``models wait`` is the share of time in which the models have no image to work on; ``GPU busy`` is what nvidia-smi says.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import (
    BertConfig,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
    Sam2Config,
    Sam2HieraDetConfig,
    Sam2ImageProcessor,
    Sam2Model,
    Sam2Processor,
    Sam2VisionConfig,
    SwinConfig,
    logging,
)

from labeler.demo.tiny_detector import demo_tokenizer
from labeler.files.images import read_image
from labeler.models.config import ModelConfig
from labeler.models.loading import load_detector
from ontologies import Ontology
from workflows.label import label
from workflows.run.shards import ShardReport
from workflows.settings.engine import EngineConfig
from workflows.settings.job import LabelJob

BOXES = 10
CLASSES = "red circle, blue square, green star, yellow ring, red heart, blue cross, green triangle, yellow crescent"
# As in the published checkpoints: Swin-T with Hiera-T, Swin-L with Hiera-L.
SWINS = {
    "tiny": {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24], "window_size": 7},
    "large": {"embed_dim": 192, "depths": [2, 2, 18, 2], "num_heads": [6, 12, 24, 48], "window_size": 12},
}
HIERAS = {
    "tiny": Sam2VisionConfig(backbone_config=Sam2HieraDetConfig()),
    "large": Sam2VisionConfig(
        backbone_config=Sam2HieraDetConfig(
            hidden_size=144,
            num_attention_heads=2,
            blocks_per_stage=[2, 6, 36, 4],
            embed_dim_per_stage=[144, 288, 576, 1152],
            num_attention_heads_per_stage=[2, 4, 8, 16],
            window_size_per_stage=[8, 4, 16, 8],
            global_attention_blocks=[23, 33, 43],
            window_positional_embedding_background_size=[7, 7],
        ),
        backbone_channel_list=[1152, 576, 288, 144],
    ),
}


def write_models(size: str, folder: Path) -> None:
    torch.manual_seed(0)
    logging.disable_progress_bar()
    tokenizer = demo_tokenizer()
    swin = SwinConfig(out_indices=[2, 3, 4], **SWINS[size])
    text = BertConfig(vocab_size=len(tokenizer))
    detector = MMGroundingDinoForObjectDetection(MMGroundingDinoConfig(backbone_config=swin, text_config=text))
    detector.save_pretrained(folder / "detector")
    GroundingDinoProcessor(GroundingDinoImageProcessor(), tokenizer).save_pretrained(folder / "detector")
    Sam2Model(Sam2Config(vision_config=HIERAS[size])).save_pretrained(folder / "segmenter")
    Sam2Processor(Sam2ImageProcessor()).save_pretrained(folder / "segmenter")


def write_images(folder: Path, count: int) -> None:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (60, 80, 3), dtype=np.uint8))
        coarse.resize((1280, 960), Image.Resampling.BICUBIC).save(folder / f"{index:05d}.jpg", quality=90)


def floor_for_boxes(config: ModelConfig, image: Path) -> float:
    """The class score that ``BOXES`` boxes of the image exceed."""
    prompts = tuple(prompt for prompt, _ in Ontology.from_text(CLASSES).prompts)
    scores = load_detector(config).detect([read_image(image).pixels], [prompts])[0].scores.max(axis=1)
    return float(np.sort(scores)[-BOXES - 1 :].mean())


class Utilisation:
    """Progress that asks nvidia-smi some times a second, from the first shard's end to that of the block."""

    def __init__(self) -> None:
        self._command = shutil.which("nvidia-smi")
        self._values: list[float] = []
        self._over = threading.Event()
        self._started = threading.Event()

    def begin(self, *_: object) -> None: ...
    def stage(self, *_: object) -> None: ...
    def say(self, *_: object) -> None: ...
    def advance(self, report: ShardReport) -> None:
        self._started.set()  # the models are loaded and warm

    def __enter__(self) -> Utilisation:
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while self._command and not self._over.wait(0.2):
            if self._started.is_set():
                query = [self._command, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-i", "0"]
                self._values.append(float(subprocess.run(query, capture_output=True, text=True, check=True).stdout))

    def mean(self) -> float:
        return float(np.mean(self._values)) if self._values else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=[*SWINS], default="tiny")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--device", default="cuda")
    args = parser.parse_args()
    cuda = args.device == "cuda"
    print("precision   batch   images/s   models wait   GPU busy   peak GPU MiB")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_models(args.size, folder)
        write_images(folder / "images", args.images)
        for precision in args.precisions:
            for batch_size in args.batch_sizes:
                config = ModelConfig(
                    *(str(folder / role) for role in ("detector", "segmenter")),
                    device=args.device, precision=precision, batch_size=batch_size, floor=1e-6,
                )  # fmt: skip
                floor = floor_for_boxes(config, folder / "images" / "00000.jpg")
                config = ModelConfig(config.detector, config.segmenter, args.device, precision, batch_size, floor=floor)
                output = folder / f"{precision}{batch_size}"
                engine = EngineConfig("local")
                if cuda:
                    torch.cuda.reset_peak_memory_stats()
                with Utilisation() as watched:
                    summary = label(
                        LabelJob(str(folder / "images"), output, Ontology.from_text(CLASSES), config, engine=engine),
                        watched,
                    )
                seconds = summary.seconds["label"]
                waited = summary.labeled.seconds["wait"] / seconds
                peak = torch.cuda.max_memory_allocated() / 2**20 if cuda else float("nan")
                print(
                    f"{precision:9}   {batch_size:5}   {summary.labeled.images / seconds:8.2f}   {waited:11.1%}   "
                    f"{watched.mean():7.0f} %   {peak:12.0f}",
                    flush=True,
                )
                print(f"            candidates an image: {summary.labeled.objects / summary.labeled.images:.1f}")


if __name__ == "__main__":
    main()
