"""How the Ray engine scales with workers, on a cluster whose GPUs are in name only.

    python benchmarks/ray_scaling.py [--workers 1 2 4 8 16 32] [--image-seconds 0.1] [--shards 10]
    python benchmarks/ray_scaling.py --against COMMIT [--free-workers 2] [--rounds 3]

The labeler sleeps for as long as a GPU would take; 128 images a shard, so many shards a worker. Efficiency is what the
workers do from their first image to their last report, against a labeler that never waits. At last a labeler that is
free gets shards of one image, which shows how many shards a second are given out at most. With ``--against``, only that
is measured, in turns with the code of an earlier commit of this repository.
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from ray_parts import NoModel, Reports, job, link_images
from two_versions import ROOT, unpacked

from workflows.label import label
from workflows.run.shards import ShardReport
from workflows.settings.engine import EngineConfig

SHARD = 128
GPUS_A_NODE = 8
FREE_SHARDS = 1000


class CountsCpu(Reports):
    """Counts the CPU time of this process and all that come of it, from the first report to the last."""

    def __init__(self) -> None:
        super().__init__()
        self._first, self.seconds = 0.0, 0.0

    def advance(self, report: ShardReport) -> None:
        super().advance(report)
        if len(self.came) == 1:
            self._first = _cpu_of_all()
        if len(self.came) == FREE_SHARDS:
            self.seconds = _cpu_of_all() - self._first


def _cpu_of_all() -> float:
    this = psutil.Process()
    return sum(sum(process.cpu_times()[:2]) for process in (this, *this.children(recursive=True)))


def compare(commit: str, workers: int, rounds: int) -> None:
    """Print shards per second of this version and of ``commit``."""
    with tempfile.TemporaryDirectory() as tree:
        unpacked(commit, Path(tree))
        pairs = [(_free_rate(ROOT, workers), _free_rate(Path(tree), workers)) for _ in range(rounds)]
    for place, what in enumerate(("shards a second", "CPU ms a shard, of all processes")):
        now, before = (statistics.median(pair[version][place] for pair in pairs) for version in range(2))
        print(f"{workers} workers, free labeler, {what}: {now:.2f}, before {before:.2f}")


def _free_rate(tree: Path, workers: int) -> tuple[float, float]:
    """Shards a second and CPU milliseconds a shard with the code in ``tree``, by this script."""
    command = [sys.executable, __file__, "--free", "--free-workers", str(workers)]
    env = {**os.environ, "PYTHONPATH": str(tree)}
    done = subprocess.run(command, env=env, cwd=tree, check=True, capture_output=True, text=True)
    figures = done.stdout.rpartition("labeler: ")[2].split()
    print(f"{tree.name}: {' '.join(figures)}", flush=True)
    return float(figures[0]), float(figures[4])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--image-seconds", type=float, default=0.1, help="of the labeler, an image")
    parser.add_argument("--shards", type=int, default=10, help="a worker")
    parser.add_argument("--against", metavar="COMMIT", help="an earlier version, to compare shards per second")
    parser.add_argument("--free-workers", type=int, default=2, help="of the labeler that is free")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--free", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.against:
        compare(args.against, args.free_workers, args.rounds)
        return

    import ray
    from ray.cluster_utils import Cluster

    if args.free:
        args.workers = [args.free_workers]
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False})
    for start in range(0, max(args.workers), GPUS_A_NODE):
        gpus = min(GPUS_A_NODE, max(args.workers) - start)
        cluster.add_node(num_cpus=gpus + 2, num_gpus=gpus, object_store_memory=10**8)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.CRITICAL)
    if not args.free:
        print("workers   images/s   efficiency   first image after s")
    with tempfile.TemporaryDirectory() as scratch:
        for workers in () if args.free else args.workers:
            images = link_images(Path(scratch, f"images{workers}"), workers * args.shards * SHARD)
            reports = Reports()
            engine = EngineConfig("ray", workers=workers, gpus_per_worker=1, cpus_per_worker=1)
            output = Path(scratch, f"out{workers}")
            sleeping = job(images, output, NoModel(args.image_seconds), engine, SHARD)
            summary = label(sleeping, reports)
            rate = reports.rate(sleeping.model.images_per_pass)
            efficiency = rate * args.image_seconds / workers
            print(f"{workers:7}   {rate:8.1f}   {efficiency:10.3f}   {summary.first_image:19.1f}", flush=True)
        for workers in [args.free_workers] if args.free else {1, max(args.workers)}:
            reports = CountsCpu()
            images = link_images(Path(scratch, f"single{workers}"), FREE_SHARDS)
            engine = EngineConfig("ray", workers=workers, gpus_per_worker=1, cpus_per_worker=1)
            label(job(images, Path(scratch, f"outsingle{workers}"), NoModel(), engine, shard_size=1), reports)
            begin, end = reports.came[0][0], reports.came[-1][0]
            rate, cpu = (len(reports.came) - 1) / (end - begin), 1e3 * reports.seconds / (len(reports.came) - 1)
            print(f"{workers} workers, free labeler: {rate:.0f} shards a second, {cpu:.2f} CPU ms a shard")
            time.sleep(1)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
