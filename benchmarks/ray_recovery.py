"""What a fault costs a Ray run: seconds over an undisturbed one, and images that went through the models again.

    python benchmarks/ray_recovery.py [--images 4000] [--image-seconds 0.02]

The faults really happen, to a labeler without a model on a cluster of three nodes with a GPU each in name only; 64
images a shard. Seconds include finding the fault out, new processes and, for the last, a new Ray.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
from ray_parts import NoModel, Reports, job, link_images

from workflows.label import label
from workflows.settings.engine import EngineConfig

SHARD = 64
NODE = {"num_cpus": 2, "num_gpus": 1, "object_store_memory": 10**8}


def child(images: Path, output: Path, labeler: NoModel) -> None:
    engine = EngineConfig("ray", workers=2, cpus_per_worker=1)
    label(job(images, output, labeler, engine, SHARD), Reports())


def after_some_shards(output: Path, act: Callable[[], Any]) -> None:
    """Act from another thread once ten record files are there."""

    def wait() -> None:
        while len(list((output / "run" / "records").glob("0*.parquet"))) < 10:
            time.sleep(0.05)
        act()

    threading.Thread(target=wait, daemon=True).start()


def kill_everything(command: list[str], output: Path) -> None:
    """Start, kill the process with all that came of it amid the run, and start again."""
    process = subprocess.Popen(command)
    killed = threading.Event()

    def kill() -> None:
        root = psutil.Process(process.pid)
        for each in (*root.children(recursive=True), root):
            each.kill()
        killed.set()

    after_some_shards(output, kill)
    killed.wait()
    process.wait()
    subprocess.run(command, check=True)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        images, output, log, seconds = sys.argv[2:]
        return child(Path(images), Path(output), NoModel(float(seconds), Path(log)))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4000)
    parser.add_argument("--image-seconds", type=float, default=0.02)
    args = parser.parse_args()

    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 4, "include_dashboard": False})
    nodes = [cluster.add_node(**NODE) for _ in range(3)]
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.CRITICAL)
    with tempfile.TemporaryDirectory() as scratch:
        good = link_images(Path(scratch, "good"), args.images)
        one_odd = link_images(Path(scratch, "odd"), args.images, odd=args.images // 2)

        def run(name: str, images: Path, labeler: NoModel, disturb: Callable[[Path, Path], Any] | None = None) -> float:
            log, output = Path(scratch, f"{name} log"), Path(scratch, name)
            log.mkdir()
            started = time.monotonic()
            if name.startswith("everything"):
                command = [sys.executable, __file__, "--child", str(images), str(output), str(log)]
                command.append(str(args.image_seconds))
                kill_everything(command, output) if disturb else subprocess.run(command, check=True)
            else:
                if disturb:
                    after_some_shards(output, lambda: disturb(output, log))
                engine = EngineConfig("ray", workers=3, cpus_per_worker=1)
                label(job(images, output, replace(labeler, log=log), engine, SHARD), Reports())
            seconds = time.monotonic() - started
            again = sum(path.stat().st_size for path in log.iterdir()) - args.images
            print(f"{name:40} {seconds:7.1f} s   {again:6} images again", flush=True)
            return seconds

        def kill_a_worker(_: Path, log: Path) -> None:
            os.kill(int(next(log.iterdir()).name), signal.SIGKILL)

        model = NoModel(args.image_seconds)
        run("the first on this Ray", good, model)
        undisturbed = run("undisturbed", good, model)
        faults = {
            "an image raises": run("an image raises", one_odd, replace(model, odd="raise")),
            "an image kills its process": run("an image kills its process", one_odd, replace(model, odd="kill")),
            "batches exceed memory": run("batches exceed memory", good, replace(model, most=4)),
            "a worker killed": run("a worker killed", good, model, kill_a_worker),
            "a node lost": run(
                "a node lost", good, model, lambda *_: cluster.remove_node(nodes[0], allow_graceful=False)
            ),
        }
        ray.shutdown()
        cluster.shutdown()
        whole = run("everything, not killed", good, model)
        killed = run("everything killed and started again", good, model, lambda *_: None)
    for name, seconds in faults.items():
        print(f"{name}: {seconds - undisturbed:+.1f} s, {seconds / undisturbed:.2f} of an undisturbed run")
    print(f"everything killed and started again: {killed - whole:+.1f} s, {killed / whole:.2f} of an undisturbed run")
    return None


if __name__ == "__main__":
    main()
