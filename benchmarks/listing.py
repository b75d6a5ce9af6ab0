"""Seconds and memory from a folder of many images to the shards of a run: list, plan, write the manifest, read it back.

python benchmarks/listing.py [--images 1000000] [--folders 1000]
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from labeler.files.listing import search_images
from labeler.files.sorting import sorted_images
from workflows.run.folder import RunFolder


def make_files(root: Path, images: int, folders: int) -> None:
    """Files of one byte, evenly over the folders."""
    for folder in range(folders):
        below = root / f"camera_{folder:04d}"
        below.mkdir(parents=True)
        for index in range(folder, images, folders):
            (below / f"frame_{index:08d}.jpg").write_bytes(b"x")


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(root: Path, output: Path, shard_size: int) -> None:
    print(f"before: {peak_mib():.0f} MiB")
    run = RunFolder(output)
    with run.locked():
        for name in ("plan", "plan again"):
            started = time.perf_counter()
            images = sorted_images(root, search_images(root).found)
            seconds = time.perf_counter() - started
            print(f"list and sort {len(images)} images: {seconds:.1f} s, {peak_mib():.0f} MiB at most")
            started = time.perf_counter()
            run.plan(images, shard_size)
            print(f"{name}: {time.perf_counter() - started:.1f} s, {peak_mib():.0f} MiB at most")
        started = time.perf_counter()
        shards = sum(1 for _ in run.waiting())
        print(f"{shards} shards: {time.perf_counter() - started:.1f} s, {peak_mib():.0f} MiB at most")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--folders", type=int, default=1000)
    parser.add_argument("--shard-size", type=int, default=64)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure / "images", options.measure / "out", options.shard_size)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        started = time.perf_counter()
        make_files(folder / "images", options.images, options.folders)
        print(f"{options.images} files in {options.folders} folders made in {time.perf_counter() - started:.0f} s")
        # In a process of its own, so that what made the files is not counted.
        arguments = ["--measure", str(folder), "--shard-size", str(options.shard_size)]
        subprocess.run([sys.executable, __file__, *arguments], check=True)


if __name__ == "__main__":
    main()
