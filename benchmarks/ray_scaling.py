"""How the Ray engine scales with workers, on a cluster whose GPUs are in name only.

    python benchmarks/ray_scaling.py [--workers 1 2 4 8 16 32] [--image-seconds 0.1] [--shards 10]

The labeler sleeps for as long as a GPU would take; 128 images a shard, so many shards a worker. Efficiency is what the
workers do from their first image to their last report, against a labeler that never waits. At last a labeler that is
free gets shards of one image, which shows how many shards a second Ray gives out at most.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from pathlib import Path

from ray_parts import NoModel, Reports, job, link_images

from workflows.label import label
from workflows.settings.engine import EngineConfig

SHARD = 128
GPUS_A_NODE = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    parser.add_argument("--image-seconds", type=float, default=0.1, help="of the labeler, an image")
    parser.add_argument("--shards", type=int, default=10, help="a worker")
    args = parser.parse_args()

    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False})
    for start in range(0, max(args.workers), GPUS_A_NODE):
        gpus = min(GPUS_A_NODE, max(args.workers) - start)
        cluster.add_node(num_cpus=gpus + 2, num_gpus=gpus, object_store_memory=10**8)
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.CRITICAL)
    print("workers   images/s   efficiency   first image after s")
    with tempfile.TemporaryDirectory() as scratch:
        for workers in args.workers:
            images = link_images(Path(scratch, f"images{workers}"), workers * args.shards * SHARD)
            reports = Reports()
            engine = EngineConfig("ray", workers=workers, gpus_per_worker=1, cpus_per_worker=1)
            output = Path(scratch, f"out{workers}")
            sleeping = job(images, output, NoModel(args.image_seconds), engine, SHARD)
            summary = label(sleeping, reports)
            rate = reports.rate(sleeping.model.images_per_pass)
            efficiency = rate * args.image_seconds / workers
            print(f"{workers:7}   {rate:8.1f}   {efficiency:10.3f}   {summary.first_image:19.1f}", flush=True)
        for workers in {1, max(args.workers)}:
            reports = Reports()
            images = link_images(Path(scratch, f"single{workers}"), 3000)
            engine = EngineConfig("ray", workers=workers, gpus_per_worker=1, cpus_per_worker=1)
            label(job(images, Path(scratch, f"outsingle{workers}"), NoModel(), engine, shard_size=1), reports)
            begin, end = reports.came[0][0], reports.came[-1][0]
            print(f"{workers} workers, free labeler: {(len(reports.came) - 1) / (end - begin):.0f} shards a second")
            time.sleep(1)
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
