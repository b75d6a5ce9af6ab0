"""What the Ray engine costs over the local one, with a labeler that is free: CPU time, start-up and memory.

    python benchmarks/ray_overhead.py [--rows 10000 200000]

Each run is a process of its own with all that it starts. CPU time an image is the slope between the two numbers of
rows, so that starting is not in it. Two workers, 128 images a shard; rows are images.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ray_parts import MIB, NoModel, Reports, Tree, job, link_images

from workflows.label import label
from workflows.settings.engine import EngineConfig

ENGINES = {"local": EngineConfig("local"), "ray": EngineConfig("ray", workers=2, cpus_per_worker=1)}


def child(engine: str, images: Path, output: Path) -> None:
    summary = label(job(images, output, NoModel(), ENGINES[engine]), Reports())
    print(summary.first_image, summary.seconds["label"])


def measure(engine: str, images: Path, output: Path) -> tuple[float, Tree]:
    """Seconds to the first image, and what the processes took."""
    command = [sys.executable, __file__, "--child", engine, str(images), str(output)]
    env = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system"}  # as the command line does
    tree = Tree(subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env))
    if tree.wait():
        raise SystemExit(f"labeling with {engine} failed")
    assert tree.process.stdout is not None
    first, _ = tree.process.stdout.read().split()[-2:]
    return float(first), tree


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        return child(sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs=2, default=[10_000, 200_000])
    rows = parser.parse_args().rows
    print("engine     rows   first image s   all s   CPU s   driver MiB   all processes MiB")
    trees: dict[tuple[str, int], Tree] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for count in rows:
            images = link_images(Path(scratch, f"images{count}"), count)
            for engine in ENGINES:
                started = time.monotonic()
                first, tree = measure(engine, images, Path(scratch, f"{engine}{count}"))
                seconds = time.monotonic() - started
                trees[engine, count] = tree
                print(
                    f"{engine:6} {count:8}   {first:13.1f}   {seconds:5.1f}   {sum(tree.cpu.values()):5.1f}"
                    f"   {tree.driver_rss / MIB:10.0f}   {tree.total_pss / MIB:17.0f}",
                    flush=True,
                )
    few, many = rows
    cpu = {run: sum(tree.cpu.values()) for run, tree in trees.items()}
    local, ray = (1e3 * (cpu[engine, many] - cpu[engine, few]) / (many - few) for engine in ENGINES)
    print(f"CPU ms an image: local {local:.2f}, ray {ray:.2f}, added {ray - local:.2f}")
    for engine in ENGINES:
        growth = trees[engine, many].driver_rss / trees[engine, few].driver_rss
        print(f"driver memory of {engine} at {many} rows / at {few}: {growth:.2f}")
    return None


if __name__ == "__main__":
    main()
