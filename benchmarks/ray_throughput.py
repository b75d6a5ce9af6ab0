"""Images a second of the Ray engine with the demo weights, against the local engine and a plain process pool.

    python benchmarks/ray_throughput.py [--images 600] [--workers 1 2]

All do the same work on the CPU, a core a worker. The rate is taken between the first and the last record file, so that
starting is in none of them; time to the first image is shown apart.
"""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow.parquet as pq
from label_throughput import write_scenes

from labeler.models.config import ModelConfig
from ontologies import Ontology
from workflows.engines.workers import WorkerConfig
from workflows.label import label
from workflows.run.shard import Shard
from workflows.run.shards import label_shards
from workflows.settings.engine import EngineConfig
from workflows.settings.job import LabelJob

SHARD = 16
DEMO = ModelConfig("embedded:detector", "embedded:segmenter", device="cpu")


class Nobody:
    def begin(self, *_: object) -> None: ...
    def stage(self, *_: object) -> None: ...
    def advance(self, *_: object) -> None: ...
    def say(self, *_: object) -> None: ...


def run_engine(images: Path, output: Path, classes: str, engine: EngineConfig) -> None:
    ontology = Ontology.from_text(classes)
    label(LabelJob(str(images), output, ontology, DEMO, shard_size=SHARD, engine=engine), Nobody())


def run_pool(images: Path, output: Path, classes: str, workers: int) -> None:
    ids = sorted(path.name for path in images.iterdir())
    records = output / "run" / "records"
    records.mkdir(parents=True)
    shards = [
        Shard(n, tuple(ids[start : start + SHARD]), records / f"{n:06d}.parquet")
        for n, start in enumerate(range(0, len(ids), SHARD))
    ]
    with multiprocessing.get_context("spawn").Pool(workers, _load, (images, classes)) as pool:
        for _ in pool.imap_unordered(_label, shards):
            pass


def _load(images: Path, classes: str) -> None:
    import torch

    torch.set_num_threads(1)
    _label.state = WorkerConfig(images, Ontology.from_text(classes), DEMO).load_stages(), images  # type: ignore[attr-defined]


def _label(shard: Shard) -> None:
    stages, root = _label.state  # type: ignore[attr-defined]
    for _ in label_shards([shard], root, stages, DEMO.images_per_pass):
        pass


def rate(output: Path) -> float:
    files = sorted((output / "run" / "records").glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    images = sum(pq.read_metadata(path).num_rows for path in files[1:])
    return images / (files[-1].stat().st_mtime - files[0].stat().st_mtime)


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        kind, workers, images, output, classes = sys.argv[2:]
        if kind == "pool":
            return run_pool(Path(images), Path(output), classes, int(workers))
        engine = EngineConfig(kind, workers=int(workers), cpus_per_worker=1)  # type: ignore[arg-type]
        return run_engine(Path(images), Path(output), classes, engine)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    args = parser.parse_args()
    rates: dict[tuple[str, int], float] = {}
    print("                  workers   images/s   first record after s")
    with tempfile.TemporaryDirectory() as scratch:
        images = Path(scratch, "scenes")
        classes = write_scenes(images, args.images)
        for kind, workers in [("local", 0), *((kind, n) for n in args.workers for kind in ("ray", "pool"))]:
            output = Path(scratch, f"{kind}{workers}")
            started = time.time()
            command = [
                sys.executable,
                "-W",
                "ignore",
                __file__,
                "--child",
                kind,
                str(workers or 1),
                str(images),
                str(output),
                classes,
            ]
            subprocess.run(command, check=True)
            rates[kind, workers] = rate(output)
            first = min(path.stat().st_mtime for path in (output / "run" / "records").glob("*.parquet")) - started
            name = {"local": "local, all cores", "ray": "ray", "pool": "plain Pool"}[kind]
            print(f"{name:16}  {workers or '':7}   {rates[kind, workers]:8.1f}   {first:20.1f}", flush=True)
    for workers in args.workers:
        ray = rates["ray", workers]
        print(
            f"ray with {workers}: {ray / rates['pool', workers]:.2f} of the plain Pool, "
            f"{ray / rates['local', 0]:.2f} of the local engine on all cores"
        )
    return None


if __name__ == "__main__":
    main()
