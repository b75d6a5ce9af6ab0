"""Images a second, share of the time the models are busy, and peak memory of ``labeler label`` with the demo weights.

    python benchmarks/label_throughput.py [--images 200 2000]

Each count is labeled by a command line of its own, models on the CPU; peak memory is that process's. With two counts
the ratio tells whether memory grows with the number of images.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from labeler.demo.scenes import SEEN_PAIRS, class_name, make_scene, scene_rng


def write_scenes(folder: Path, count: int) -> str:
    """Write ``count`` scenes of twelve kinds of object; the class list that asks for them is returned."""
    chosen = np.random.default_rng(1).permutation(len(SEEN_PAIRS))[:12]
    pairs = [SEEN_PAIRS[int(index)] for index in chosen]
    folder.mkdir(parents=True)
    for index in range(count):
        Image.fromarray(make_scene(scene_rng(31, index), pairs=pairs).image).save(folder / f"{index:05d}.png")
    return ", ".join(class_name(pair) for pair in pairs)


def measure(count: int, scratch: Path) -> tuple[float, float, float, float]:
    """Images/s of the whole command, images/s while labeling, busy share, peak MiB."""
    classes = write_scenes(scratch / f"scenes{count}", count)
    command = [sys.executable, "-m", "labeler", "label", str(scratch / f"scenes{count}")]
    command += ["-o", str(scratch / f"out{count}"), "--model", "demo", "--device", "cpu", "--classes", classes]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise SystemExit(f"labeling failed:\n{said}")
    stages = {name: float(value) for name, value in re.findall(r"(\w+(?: \(in label\))?) (\d+\.\d)", said)}
    return (
        count / seconds,
        count / stages["label"],
        stages["model (in label)"] / stages["label"],
        usage.ru_maxrss / 1024,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[200, 2000])
    args = parser.parse_args()
    print("images   images/s whole command   images/s labeling   models busy   peak MiB")
    peaks = []
    with tempfile.TemporaryDirectory() as scratch:
        for count in args.images:
            whole, labeling, busy, peak = measure(count, Path(scratch))
            peaks.append(peak)
            print(f"{count:6}   {whole:22.2f}   {labeling:17.2f}   {busy:11.2f}   {peak:8.0f}", flush=True)
    if len(peaks) > 1:
        print(f"peak memory at {args.images[-1]} images / at {args.images[0]}: {peaks[-1] / peaks[0]:.2f}")


if __name__ == "__main__":
    main()
