"""Faults that need processes of their own: Ray workers and drivers, stores, clocks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from fault_parts import Tally, count, count_records, differences, digests

from labeler.errors import LabelerError
from labeler.files import retries
from tests.support.fault_child import Outcome
from tests.support.object_store import ENVIRONMENT, Bucket, Proxy, s3_server
from tests.support.ray_cluster import ray_cluster
from tests.support.stand_in import GOOD, Silent, StandIn, stand_in_job, write_images
from workflows.label import label
from workflows.settings.engine import EngineConfig

STORE_IMAGES = 10
SHARDS_BETWEEN_KILLS = (1, 2, 4, 8, 16, 32)
IMAGES_PER_KILL = 48  # 12 shards, a little more than those between two kills on average
CLOCKS = (-86_400, -3_600, -200, 200, 3_600, 86_400)  # seconds


def main() -> int:
    """Label IMAGES into OUT: ``fault_processes.py IMAGES OUT SECONDS_PER_BATCH CLOCK_OFFSET [RAY_ADDRESS]``."""
    images, output, seconds, offset, *address = sys.argv[1:]
    now = time.time
    time.time = lambda: now() + float(offset)
    retries.WAITS = (0.01,) * 8
    engine = EngineConfig("ray", workers=2, cpus_per_worker=1, address=address[0]) if address else None
    try:
        label(stand_in_job(images, output, StandIn(float(seconds)), engine), Silent())
    except (LabelerError, OSError) as error:
        print(f"labeler: {error}", file=sys.stderr)
        return 2
    return 0


def start(images: Path | str, output: Path | str, seconds: float = 0.0, offset: int = 0, *address: str) -> Any:
    command = [sys.executable, __file__, str(images), str(output), str(seconds), str(offset), *address]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def end(process: Any, seconds: float = 300) -> Outcome:
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return Outcome(-signal.SIGKILL, process.communicate()[0], hung=True)
    return Outcome(process.returncode, said)


def undisturbed(images: Path, output: Path) -> dict[str, str]:
    label(stand_in_job(images, output), Silent())
    return digests(output)


def ray_workers(scratch: Path, kills: int) -> Tally:
    """Kill a worker whenever some more shards are written, in one long run.

    The more they are, the larger are the blocks of shards that workers have: up to 16 shards, and read ahead.
    """
    tally, random = Tally("label, Ray: a worker killed"), Random(0)
    ids = write_images(scratch / "many", [GOOD] * (kills * IMAGES_PER_KILL))
    pids, output = scratch / "pids", scratch / "workers"
    pids.mkdir()
    records = output / "run" / "records"
    over = threading.Event()

    def kill() -> None:
        at = 2
        while not over.wait(0.05):
            written = len(list(records.glob("0*.parquet")))
            alive = [path for path in pids.iterdir() if Path("/proc", path.name).exists()]
            if written >= at and alive and tally.tries < kills:
                newest = max(alive, key=lambda path: path.stat().st_mtime)
                os.kill(int(newest.name), signal.SIGKILL)
                newest.unlink()  # another process may get the id
                tally.tries += 1
                at = written + random.choice(SHARDS_BETWEEN_KILLS)

    killer = threading.Thread(target=kill)
    killer.start()
    with ray_cluster():
        engine = EngineConfig("ray", workers=2, cpus_per_worker=1)
        label(stand_in_job(scratch / "many", output, StandIn(0.02, pids=pids), engine), Silent())
    over.set()
    killer.join()
    differences(output, undisturbed(scratch / "many", scratch / "many local"), f"after {tally.tries} kills", tally)
    count_records(output, ids, tally)
    return tally


def ray_drivers(scratch: Path, tries: int) -> Tally:
    """Kill the process that started the run, each time when another number of shards is written."""
    tally = Tally("label, Ray: the command killed")
    ids = write_images(scratch / "some", [GOOD] * 240)  # 60 shards, in blocks of up to 7
    wanted = undisturbed(scratch / "some", scratch / "some local")
    with ray_cluster() as cluster:
        for number in range(tries):
            output = scratch / f"driver {number}"
            process = start(scratch / "some", output, 0.05, 0, cluster.address)
            while process.poll() is None and len(list(output.glob("run/records/0*.parquet"))) <= number * 7 % 50:
                time.sleep(0.02)
            process.kill()
            tally.tries += end(process).code == -signal.SIGKILL
            _finish(end(start(scratch / "some", output, 0, 0, cluster.address)), output, ids, wanted, tally)
    return tally


def _finish(outcome: Outcome, output: Path, ids: list[str], wanted: dict[str, str], tally: Tally) -> None:
    count(outcome, tally)
    differences(output, wanted, output.name, tally)
    count_records(output, ids, tally)


class Store:
    """A bucket behind a proxy that may fail; ``fetched`` copies what a run left there to a folder."""

    def __init__(self, endpoint: str, number: int, images: Path) -> None:
        self.proxy = Proxy(endpoint)
        self.bucket = Bucket(f"bucket-{number}", endpoint)
        for path in images.iterdir():
            self.bucket.put(f"in/{path.name}", path.read_bytes())
        os.environ["AWS_ENDPOINT_URL"] = self.proxy.endpoint
        self.places = f"{self.bucket.uri}/in", f"{self.bucket.uri}/out"

    def fetched(self, folder: Path) -> Path:
        for name, data in self.bucket.contents("out/").items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return folder


def _with_stores(
    scratch: Path, name: str, tries: int, disturb: Callable[[Store, Random, Path], Iterator[Outcome]]
) -> Tally:
    tally = Tally(name)
    images = scratch / "for the store"
    ids = write_images(images, [GOOD] * STORE_IMAGES)
    wanted = undisturbed(images, scratch / f"{name} local")
    os.environ.update(ENVIRONMENT)
    with s3_server() as endpoint:
        for number in range(tries):
            store = Store(endpoint, number, images)
            outcome = None
            for outcome in disturb(store, Random(number), scratch):
                count(outcome, tally)
            tally.tries += 1
            store.proxy.fail = lambda method, path, before: ""
            if outcome is None or outcome.code:
                count(end(start(*store.places)), tally)
            output = store.fetched(scratch / f"{name} {number}")
            differences(output, wanted, output.name, tally)
            count_records(output, ids, tally)
            store.proxy.close()
    return tally


def store_stumbles(scratch: Path, tries: int) -> Tally:
    """One request in eight is refused (503), dropped, or done with its answer lost."""

    def disturb(store: Store, random: Random, _: Path) -> Iterator[Outcome]:
        store.proxy.fail = lambda method, path, before: random.choice(("busy", "drop", "lose", *[""] * 21))
        yield end(start(*store.places))

    return _with_stores(scratch, "label, S3: requests fail", tries, disturb)


def store_kills(scratch: Path, tries: int) -> Tally:
    """The process is killed at a request to write or delete, each time another one."""

    def disturb(store: Store, random: Random, _: Path) -> Iterator[Outcome]:
        at, writes = random.randrange(1, 40), 0
        process = start(*store.places)

        def fail(method: str, path: str, before: int) -> str:
            nonlocal writes
            writes += method in ("PUT", "POST", "DELETE")
            if writes == at:
                process.kill()
            return ""

        store.proxy.fail = fail
        yield end(process)

    return _with_stores(scratch, "label, S3: killed", tries, disturb)


def clocks(scratch: Path) -> Iterator[Tally]:
    """A second run, on a host with another clock, begins beside a living one: it must be refused."""
    images = scratch / "for clocks"
    ids = write_images(images, [GOOD] * 12)
    wanted = undisturbed(images, scratch / "clocks local")
    for place in ("disk", "S3"):
        tally = Tally(f"label, {place}: another clock starts a second run")
        os.environ.update(ENVIRONMENT)
        with s3_server() as endpoint:
            for number, offset in enumerate(CLOCKS):
                output = scratch / f"clock {place} {number}"
                store = Store(endpoint, number, images)
                places: tuple[Path | str, Path | str] = (images, output) if place == "disk" else store.places
                first = start(*places, 3.0)  # it is still alive when the second one has started
                while first.poll() is None and not _is_held(store, output, place):
                    time.sleep(0.05)
                second = end(start(*places, 0, offset))
                count(second, tally)
                tally.tries += 1
                tally.differing += second.code != 2 or "in use" not in second.said
                outcome = end(first)
                tally.differing += outcome.code != 0
                _finish(outcome, output if place == "disk" else store.fetched(output), ids, wanted, tally)
                store.proxy.close()
        yield tally


def _is_held(store: Store, output: Path, place: str) -> bool:
    if place == "disk":
        return (output / "run" / "owner.json").exists()
    return any(key.endswith("owner.json") for key in store.bucket.keys("out/"))


if __name__ == "__main__":
    sys.exit(main())
