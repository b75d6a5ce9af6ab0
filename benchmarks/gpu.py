"""Images a second on a GPU, from image files to instances, against the bare forward of the models and a plain loop.

    bash benchmarks/gpu.sh [--presets fast best] [--minutes 8]
    bash benchmarks/gpu.sh --device cpu --small --batch 2 --seconds 0.1

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
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import torch
import transformers
from full_size import MODELS, Models, build
from gpu_cases import Budget, Case, cases
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
READERS = 8


def write_images(folder: Path, size: tuple[int, int], images: int, names: int = 64) -> list[Path]:
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
    scores = detector.detect([pixels], [case.prompts])[0].scores
    runtime = replace(runtime, candidate_floor=float(np.sort(scores.max(1))[-2 * BOXES]))
    detector = GroundingDinoDetector(models.detector, models.detector_processor, runtime)
    segmenter = SamSegmenter(models.segmenter, models.segmenter_processor, runtime)
    if case.compiled:
        compile_detector(detector, models.detector, runtime, case.preset)
        compile_segmenter(segmenter, case.preset)
    return labeler_on_device(GroundedSamLabeler(detector, segmenter, runtime.candidate_floor, BOXES), config)


def files_to_instances(labeler: Labeler, paths: list[Path], case: Case, seconds: float) -> tuple[float, float, float]:
    """Images a second, the share of time waited for images, and instances an image, by the code of a worker."""
    stages = Stages(FixedPrompts(Ontology.from_text(", ".join(case.prompts))), labeler)
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
    text = ". ".join(case.prompts) + "."
    inputs = models.detector_processor(images=[image] * case.batch, text=[text] * case.batch, return_tensors="pt")
    boxes = [[[10.0, 10.0, 200.0, 200.0]] * BOXES] * case.batch
    prompted = models.segmenter_processor(images=[image] * case.batch, input_boxes=boxes, return_tensors="pt")
    inputs, prompted = inputs.to(device), prompted.to(device)
    dtype = torch_dtype(case.precision, device)

    @torch.inference_mode()
    def step() -> int:
        with torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32):
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
    text = ". ".join(case.prompts) + "."
    dtype = torch_dtype(case.precision, device)
    numbers = iter(range(10**9))
    threshold = 0.0

    @torch.inference_mode()
    def step() -> int:
        nonlocal threshold
        image = Image.open(paths[next(numbers) % len(paths)]).convert("RGB")
        inputs = models.detector_processor(images=image, text=text, return_tensors="pt").to(device)
        with torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32):
            found = models.detector(**inputs)
        if not threshold:  # one that about twice as many boxes reach
            threshold = float(found.logits.float().sigmoid().amax(-1).sort().values[0, -2 * BOXES]) * 0.99
        (result,) = models.detector_processor.post_process_grounded_object_detection(
            found, inputs["input_ids"], threshold=threshold, text_threshold=threshold, target_sizes=[image.size[::-1]]
        )
        best = result["scores"].argsort(descending=True)[:BOXES]
        boxes = [[result["boxes"][best].float().tolist()]]
        prompted = models.segmenter_processor(images=image, input_boxes=boxes[0], return_tensors="pt").to(device)
        with torch.autocast(torch.device(device).type, dtype, enabled=dtype != torch.float32):
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


class Measurement:
    """Measures one case after the other; those in a row that can share their models do.

    Args:
        args: of the command line.
        scratch: a folder for images.
    """

    def __init__(self, args: argparse.Namespace, scratch: Path) -> None:
        self._args, self._scratch = args, scratch
        self._files: dict[str, list[Path]] = {}
        self._built: tuple[tuple[str, str, bool], Models] | None = None

    def row(self, case: Case) -> str:
        """The row of the table for ``case``."""
        device, seconds, cuda = self._args.device, self._args.seconds, is_cuda(self._args.device)
        if case.size not in self._files:
            self._files[case.size] = write_images(self._scratch, SIZES[case.size], 2 if self._args.small else 16)
        paths, models = self._files[case.size], self._models(case)
        bare = bare_rate(models, case, device, paths[0], seconds / 2)
        plain = float("nan") if self._args.no_plain else plain_rate(models, case, device, paths, seconds / 2)
        if cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        labeler = labeler_of(models, case, device, paths[0])
        images, wait, objects = files_to_instances(labeler, paths, case, seconds)
        peak = torch.cuda.max_memory_allocated() / 2**20 if cuda else float("nan")
        return (
            f"| {case} | {images:.1f} | {images / bare:.0%} | {plain:.1f} | {wait:.0%} | {peak:.0f} | {objects:.1f} |"
        )

    def forget(self) -> None:
        """Free the models, which a failure may have left in disorder."""
        self._built = None
        if is_cuda(self._args.device):
            torch.cuda.empty_cache()

    def _models(self, case: Case) -> Models:
        if self._built is None or self._built[0] != case.models:
            self._built = None  # its memory is free before the next ones are built
            models = build(case.preset, self._args.device, self._args.small)
            for model in (models.detector, models.segmenter):
                lower_weights(model, torch_dtype(case.precision, self._args.device))
            self._built = (case.models, models)
        return self._built[1]


def is_cuda(device: str) -> bool:
    return device.startswith("cuda")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", choices=[*MODELS], default=["fast", "original", "balanced", "best"])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    parser.add_argument("--minutes", type=float, default=8, help="cases that would probably end later are left out")
    parser.add_argument("--small", action="store_true", help="small models and images, to try this script on a CPU")
    parser.add_argument("--no-plain", action="store_true", help="leave the plain loop out")
    args = parser.parse_args()
    budget, failed, left_out = Budget(args.minutes), 0, []
    card = torch.cuda.get_device_name() if is_cuda(args.device) else "CPU"
    print(f"{card}, torch {torch.__version__}, transformers {transformers.__version__}, {READERS} reader threads\n")
    columns = "models images classes precision batch compile images/s of_bare plain_loop wait peak objects"
    print(f"| {' | '.join(columns.split()).replace('_', ' ')} |")
    print("| --- | --- | ---: | --- | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        measurement = Measurement(args, Path(scratch))
        for case in cases(args.presets, args.batch):
            if not budget.has_room(case):
                left_out.append(case)
                continue
            started = time.monotonic()
            try:
                print(measurement.row(case), flush=True)
            except Exception as error:  # such as a lack of memory; the other rows are still worth having
                print(f"| {case} | {type(error).__name__}: {' '.join(str(error).split()):.200} |", flush=True)
                failed += 1
                measurement.forget()
            budget.note(case, time.monotonic() - started)
    if left_out:
        print(f"\nleft out, since {args.minutes:g} minutes are too short:", *left_out, sep="\n")
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
