"""Memory and time of the process that starts a run of ten million images, from sorting them to handing out shards.

    python benchmarks/ten_million.py [--images 10000000] [--shard-size 64] [--against COMMIT]

Needs the test extra and Linux. The images are names alone, as a search of a store would find them, folder after folder;
``benchmarks/listing.py`` measures a search. In place of an engine stands one that writes empty records. Everything else
is the code that ``labeler label`` runs before it writes the dataset. Three nights: one that ends when half of the
shards are done, one that resumes it, and one with nothing new. Each is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from two_versions import ROOT, unpacked

PACKAGES = ("labeler", "ontologies", "workflows", "tests/__init__.py", "tests/support")
IN_FOLDER = 1000  # images
NIGHTS = {"half": "plan, half of the shards done", "resume": "resume", "quiet": "nothing new"}


class Interrupted(Exception):
    """Ends the first night."""


def found(images: int) -> Iterator[tuple[str, str]]:
    """The images as a search of a store finds them: folder after folder, but not in order, each with its stamp."""
    folders = -(-images // IN_FOLDER)
    for folder in reversed(range(folders)):
        for number in range(folder * IN_FOLDER, min((folder + 1) * IN_FOLDER, images)):
            yield f"camera_{folder:05d}/frame_{number:09d}.jpg", f"{number}-{1.7e9 + number}"


def replace_listing(recording: Any, images: int) -> None:
    """Let ``workflows.recording`` find ``found``, in this version or an earlier one."""
    from labeler.files import listing
    from labeler.files.storage import locate

    root = locate("memory://all")
    if hasattr(listing, "ImageSearch"):
        recording.search_images = lambda *_, **__: listing.ImageSearch(root, found(images))
        return
    told = dict(found(images))
    ids = tuple(sorted(told))
    recording.find_images = lambda *_, **__: listing.ImageSource(root, ids)
    recording.stamps = lambda _, ids: [told[image_id] for image_id in ids]


def peak_mib() -> float:
    """The largest memory of this process since ``forget_peak``."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def write_empty_records(path: Path, image_ids: tuple[str, ...]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from labeler.record_files import SCHEMA

    count = len(image_ids)
    sides = pa.array([640] * count, pa.int32())
    texts = [pa.array([text] * count, pa.string()) for text in ("0" * 32, "ok", "")]
    lists = [pa.array([[]] * count, SCHEMA.field(name).type) for name in ("tags", "instances")]
    columns = [pa.array(image_ids, pa.string()), sides, sides, *texts, *lists]
    pq.write_table(pa.table(columns, schema=SCHEMA), path)


def run_night(night: str, images: int, shard_size: int, output: Path) -> None:
    """Prints the figures of one night."""
    from tests.support.stand_in import Silent, stand_in_job
    from workflows import recording
    from workflows.run.shards import ShardReport

    figures: dict[str, float] = {}
    marks = {"began": (time.perf_counter(), time.process_time())}

    def mark(name: str) -> None:
        marks[name] = time.perf_counter(), time.process_time()

    find = recording.is_within  # the first that is called with the images listed

    def listed(*arguments: Any) -> Any:
        if "listed" not in marks:
            mark("listed")
            figures["listing MiB"] = peak_mib()
            forget_peak()
        return find(*arguments)

    @contextmanager
    def engine(shards: Any, *_: Any) -> Iterator[Iterator[ShardReport]]:
        def label() -> Iterator[ShardReport]:
            for number, shard in enumerate(shards):
                if not number:
                    mark("first shard")
                if night == "half" and number == len(shards) // 2:
                    raise Interrupted
                write_empty_records(shard.records_path, shard.image_ids)
                yield ShardReport(images=len(shard.image_ids))

        with closing(label()) as reports:
            yield reports

    replace_listing(recording, images)
    recording.is_within = listed  # type: ignore[assignment]
    recording.local_engine = engine  # type: ignore[assignment]
    with (
        suppress(Interrupted),
        recording.recorded(stand_in_job("memory://all", output, shard_size=shard_size), Silent()),
    ):
        mark("all shards")
    mark("end")
    figures["driver MiB"] = peak_mib()
    until = "all shards" if night == "quiet" else "first shard"
    for name, (start, end) in {"listing": ("began", "listed"), "driver": ("listed", until)}.items():
        wall, cpu = (later - earlier for earlier, later in zip(marks[start], marks[end], strict=True))
        figures |= {f"{name} s": wall, f"{name} CPU s": cpu}
    print(json.dumps(figures))


def measured(tree: Path, night: str, options: argparse.Namespace, output: Path) -> dict[str, float]:
    command = [sys.executable, "-W", "ignore", __file__, "--night", night, "--output", str(output)]
    command += ["--images", str(options.images), "--shard-size", str(options.shard_size)]
    environment = {**os.environ, "PYTHONPATH": str(tree), "ARROW_DEFAULT_MEMORY_POOL": "system"}  # as the command has
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000_000)
    parser.add_argument("--shard-size", type=int, default=64)
    parser.add_argument("--against", metavar="COMMIT", help="the earlier version, measured in turn with this one")
    parser.add_argument("--night", choices=NIGHTS, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.night:
        run_night(options.night, options.images, options.shard_size, options.output)
        return
    with tempfile.TemporaryDirectory() as scratch:
        versions = {"now": ROOT}
        if options.against:
            versions["before"] = unpacked(options.against, Path(scratch, "before"))
        print("| night | version | sorting s (CPU) | MiB | driver s (CPU) | MiB |")
        print("|---|---|---|---|---|---|")
        for night, what in NIGHTS.items():
            for version, tree in versions.items():
                got = measured(tree, night, options, Path(scratch, f"output of {version}"))
                seconds = [f"{got[f'{part} s']:.1f} ({got[f'{part} CPU s']:.1f})" for part in ("listing", "driver")]
                listing, driver = (f"{got[f'{part} MiB']:.0f}" for part in ("listing", "driver"))
                print(f"| {what} | {version} | {seconds[0]} | {listing} | {seconds[1]} | {driver} |", flush=True)


if __name__ == "__main__":
    main()
