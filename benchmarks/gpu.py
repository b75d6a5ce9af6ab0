"""Images a second on a GPU, from image files to instances, against the bare forward of the models and a plain loop.

    bash benchmarks/gpu.sh [--presets fast best] [--minutes 8]

Needs torch, transformers, numpy, OpenCV, pycocotools and pillow-heif; no model is downloaded (``full_size.py``). Ten
boxes an image reach the segmenter.

- ``images/s``: JPEG files to instances, as a worker does it.
- ``compile``: with the image encoders compiled, as by ``--compile``; compiling itself is not in the time.
- ``of bare``: that, against the forward passes of both models alone, on inputs that are already on the GPU; they are
  never compiled.
- ``plain loop``: images a second of a loop with the classes of transformers, one image after the other, without RLE.
- ``wait``: the share of time in which the models wait for files.
- ``peak``: memory of the GPU at most, in MiB.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np
import torch
import transformers
from full_size import MODELS, Models, build
from PIL import Image

from labeler.files.image_config import ImageConfig
from labeler.files.images import ImageFile
from labeler.models.compiling import compile_detector, compile_segmenter
from labeler.models.config import ModelConfig
from labeler.models.detectors.grounding_dino import GroundingDinoDetector
from labeler.models.devices import resolved_device, torch_dtype
from labeler.models.labelers.grounded_sam import GroundedSamLabeler
from labeler.models.labelers.labeler import Labeler
from labeler.models.labelers.on_device import labeler_on_device
from labeler.models.precision import lower_weights
from labeler.models.prompters.prompter import FixedPrompts
from labeler.models.runtime import Runtime
from labeler.models.segmenters.sam import SamSegmenter
from ontologies import Ontology
from workflows.run.batch_size import BatchSize
from workflows.run.labeling import LabeledBatch, Stages, label_batches
from workflows.run.shard import Shard

BOXES = 10
SIZES = {"640x480": (640, 480), "1080p": (1920, 1080), "4K": (3840, 2160)}
COLOURS = ("red", "blue", "green", "yellow")
SHAPES = ("circle", "square", "star", "ring", "heart")
READERS = 8


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    preset: str
    size: str
    classes: int
    precision: str
    batch: int
    compiled: bool = False


def cases(presets: list[str], batch: int) -> Iterator[Case]:
    """The most telling first, since time may run out."""
    for preset in presets:
        yield Case(preset, "640x480", 1, "bf16", batch)
        yield Case(preset, "640x480", 1, "bf16", batch, compiled=True)
        for size in ("1080p", "4K"):
            yield Case(preset, size, 20, "bf16", batch)
        yield Case(preset, "640x480", 20, "bf16", batch)
        yield Case(preset, "640x480", 1, "fp32", batch)
        yield Case(preset, "640x480", 1, "bf16", 1)
        yield Case(preset, "640x480", 1, "bf16", 4 * batch)


def prompts(count: int) -> tuple[str, ...]:
    return tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES)[:count]


def write_images(folder: Path, size: tuple[int, int], names: int = 64, images: int = 16) -> list[Path]:
    """JPEGs, each under several names."""
    rng = np.random.default_rng(0)
    paths = [folder / f"{size[0]}-{index:05d}.jpg" for index in range(names)]
    for index, path in enumerate(paths):
        if index >= images:
            os.link(paths[index % images], path)
            continue
        coarse = Image.fromarray(rng.integers(0, 256, (size[1] // 16, size[0] // 16, 3), dtype=np.uint8))
        coarse.resize(size, Image.Resampling.BICUBIC).save(path, quality=90)
    return paths


def labeler_of(models: Models, case: Case, device: str, path: Path) -> Labeler:
    """The labeler that a worker runs, with a candidate floor that about ``BOXES`` boxes of an image reach."""
    config = ModelConfig("", "", device, case.precision, case.batch, max_instances=BOXES)
    runtime = Runtime(resolved_device(device), torch_dtype(case.precision, device), case.batch, 1e-9)
    pixels = ImageFile(path).read().pixels
    detector = GroundingDinoDetector(models.detector, models.detector_processor, runtime)
    scores = detector.detect([pixels], [prompts(case.classes)])[0].scores
    runtime = replace(runtime, candidate_floor=float(np.sort(scores.max(1))[-2 * BOXES]))
    detector = GroundingDinoDetector(models.detector, models.detector_processor, runtime)
    segmenter = SamSegmenter(models.segmenter, models.segmenter_processor, runtime)
    if case.compiled:
        compile_detector(detector, models.detector, runtime, case.preset)
        compile_segmenter(segmenter, case.preset)
    return labeler_on_device(GroundedSamLabeler(detector, segmenter, runtime.candidate_floor, BOXES), config)


def files_to_instances(labeler: Labeler, paths: list[Path], case: Case, seconds: float) -> tuple[float, float, float]:
    """Images a second, the share of time waited for images, and instances an image, by the code of a worker."""
    stages = Stages(FixedPrompts(Ontology.from_text(", ".join(prompts(case.classes)))), labeler)
    folder, image_ids = paths[0].parent, tuple(path.name for path in paths)

    with (
        tempfile.TemporaryDirectory() as scratch,
        ThreadPoolExecutor(READERS) as readers,
        ThreadPoolExecutor(1) as writer,
    ):
        shards = (Shard(index, image_ids, Path(scratch) / "records" / f"{index}.parquet") for index in count())
        batches = label_batches(shards, folder, stages, BatchSize(case.batch), ImageConfig(), readers)
        objects: list[Future[int]] = []
        waited, images, started = 0.0, 0, time.perf_counter()
        for number, batch in enumerate(filter(None, batches)):
            objects.append(writer.submit(objects_of, batch))
            waited += batch.report.seconds["wait"]
            images += len(batch.records)
            if number == 1:  # warm
                objects.pop().result()
                objects.clear()
                waited, images, started = 0.0, 0, time.perf_counter()
            if number > 1 and time.perf_counter() - started > seconds:
                break
        found = sum(future.result() for future in objects)
        took = time.perf_counter() - started
        readers.shutdown(wait=False, cancel_futures=True)
    return images / took, waited / took, found / images


def objects_of(batch: LabeledBatch) -> int:
    """Waits for the masks, as the thread does that writes records."""
    return sum(len(record().instances) for record in batch.records.values())


def rate(step: Callable[[], int], seconds: float) -> float:
    """What ``step`` returns, a second; the GPU has done all of it."""
    step()
    synchronize()
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        done += step()
        synchronize()
    return done / (time.perf_counter() - started)


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def bare_rate(models: Models, case: Case, device: str, path: Path, seconds: float) -> float:
    """Images a second of both models' forward passes, on inputs that are on the device."""
    image = Image.open(path)
    text = ". ".join(prompts(case.classes)) + "."
    inputs = models.detector_processor(images=[image] * case.batch, text=[text] * case.batch, return_tensors="pt")
    boxes = [[[10.0, 10.0, 200.0, 200.0]] * BOXES] * case.batch
    prompted = models.segmenter_processor(images=[image] * case.batch, input_boxes=boxes, return_tensors="pt")
    inputs, prompted = inputs.to(device), prompted.to(device)
    dtype = torch_dtype(case.precision, device)

    @torch.inference_mode()
    def step() -> int:
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            models.detector(**inputs)
            models.segmenter(
                pixel_values=prompted["pixel_values"],
                input_boxes=prompted["input_boxes"].float(),
                multimask_output=False,
            )
        return case.batch

    return rate(step, seconds)


def plain_rate(models: Models, case: Case, device: str, paths: list[Path], seconds: float) -> float:
    """Images a second of a plain loop with the classes of transformers."""
    text = ". ".join(prompts(case.classes)) + "."
    dtype = torch_dtype(case.precision, device)
    numbers = iter(range(10**9))
    threshold = 0.0

    @torch.inference_mode()
    def step() -> int:
        nonlocal threshold
        image = Image.open(paths[next(numbers) % len(paths)]).convert("RGB")
        inputs = models.detector_processor(images=image, text=text, return_tensors="pt").to(device)
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            found = models.detector(**inputs)
        if not threshold:  # one that about twice as many boxes reach
            threshold = float(found.logits.float().sigmoid().amax(-1).sort().values[0, -2 * BOXES]) * 0.99
        (result,) = models.detector_processor.post_process_grounded_object_detection(
            found, inputs["input_ids"], threshold=threshold, text_threshold=threshold, target_sizes=[image.size[::-1]]
        )
        best = result["scores"].argsort(descending=True)[:BOXES]
        boxes = [[result["boxes"][best].float().tolist()]]
        prompted = models.segmenter_processor(images=image, input_boxes=boxes[0], return_tensors="pt").to(device)
        with torch.autocast(device, dtype, enabled=dtype != torch.float32):
            outputs = models.segmenter(
                pixel_values=prompted["pixel_values"],
                input_boxes=prompted["input_boxes"].float(),
                multimask_output=False,
            )
        sizes = [prompted["original_sizes"].cpu()]
        if "reshaped_input_sizes" in prompted:
            sizes.append(prompted["reshaped_input_sizes"].cpu())
        models.segmenter_processor.image_processor.post_process_masks(outputs.pred_masks.float().cpu(), *sizes)
        return 1

    return rate(step, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", choices=[*MODELS], default=["fast", "original", "balanced", "best"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    parser.add_argument("--minutes", type=float, default=8, help="cases that begin later are left out")
    parser.add_argument("--small", action="store_true", help="models with few layers, to try this script on a CPU")
    parser.add_argument("--no-plain", action="store_true", help="leave the plain loop out")
    args = parser.parse_args()
    begun = time.monotonic()
    cuda = args.device.startswith("cuda")
    card = torch.cuda.get_device_name() if cuda else "CPU"
    print(f"{card}, torch {torch.__version__}, transformers {transformers.__version__}, {READERS} reader threads\n")
    columns = "models images classes precision batch compile images/s of_bare plain_loop wait peak objects"
    print(f"| {' | '.join(columns.split()).replace('_', ' ')} |")
    print("| --- | --- | ---: | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        files: dict[str, list[Path]] = {}
        built: tuple[tuple[str, str, bool], Models] | None = None
        for case in cases(args.presets, args.batch):
            if time.monotonic() - begun > 60 * args.minutes:
                print(f"\nleft out from here on, after {args.minutes:g} minutes: {case}")
                break
            paths = files.setdefault(case.size, [])
            paths += [] if paths else write_images(Path(scratch), SIZES[case.size])
            key = (case.preset, case.precision, case.compiled)
            if built is None or built[0] != key:
                built = None
                built = (key, build(case.preset, args.device, args.small))
                for model in (built[1].detector, built[1].segmenter):
                    lower_weights(model, torch_dtype(case.precision, args.device))
            models = built[1]
            bare = bare_rate(models, case, args.device, paths[0], args.seconds / 2)
            plain = float("nan") if args.no_plain else plain_rate(models, case, args.device, paths, args.seconds / 2)
            if cuda:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            labeler = labeler_of(models, case, args.device, paths[0])
            images, wait, objects = files_to_instances(labeler, paths, case, args.seconds)
            peak = torch.cuda.max_memory_allocated() / 2**20 if cuda else float("nan")
            print(
                f"| {case.preset} | {case.size} | {case.classes} | {case.precision} | {case.batch} "
                f"| {'on' if case.compiled else 'off'} | {images:.1f} | {images / bare:.0%} | {plain:.1f} | {wait:.0%} "
                f"| {peak:.0f} | {objects:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
