"""Seconds of ``export`` and ``label`` after start-up when little is new, and of a full export.

    python benchmarks/nights.py [--images 2000] [--many 100000] [--against COMMIT] [--rounds 3]

The labeled folder is that of ``quality_loop.py``: ten candidates an image, made without models. With ``--against``, an
earlier commit works on a copy of it; both versions take turns. Wall seconds and CPU seconds, those of started processes
among them, do not count interpreter start and imports. ``--many`` is the number of images, with one candidate each, of
a second folder, where nothing is new; its figures are extrapolated to a million.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from two_versions import ROOT, Version, unpacked

NEWER = ("dataset_shards", "layout", "image_files", "simplify", "min_part", "version_datasets")
CASES = {
    "full export": ("forget", "export"),
    "export, nothing new": ("export",),
    "label, nothing new": ("label",),
    "export, one new image": ("add", "export"),
}


def plan(run: Any, images: Path, ids: Any) -> None:
    """Plan shards of 64 images with this version of the code or an earlier one."""
    import pyarrow as pa

    from labeler.files.listing import stamps

    columns = pa.array(ids, pa.string()), pa.array(stamps(images, ids), pa.string())
    try:
        from labeler.files.image_table import ImageTable
    except ImportError:  # versions that held all images in memory
        run.plan(*columns, 64)
    else:
        run.plan(ImageTable.of(*columns), 64)


def add_image(folder: Path, image_id: str) -> None:
    """Add an image and its record, as ``labeler label`` leaves them."""

    from labeler.files.images import content_digest
    from labeler.files.listing import find_images
    from labeler.record_files import read_records, write_records
    from labeler.records import ImageRecord
    from workflows.run.folder import RunFolder

    run, images = RunFolder(folder / "labeled"), folder / "images"
    (images / image_id).write_bytes(next(images.iterdir()).read_bytes() + image_id.encode())
    ids = find_images(images).image_ids
    instances = next(read_records(run.record_paths())).instances
    with run.locked():
        plan(run, images, ids)
        for shard in run.waiting():
            digest = content_digest((images / image_id).read_bytes())
            write_records(shard.records_path, [ImageRecord(image_id, 640, 480, digest, instances=instances)])


def make_many(folder: Path, count: int) -> None:
    """A labeled folder of ``count`` small images with one candidate each; no dataset."""
    import numpy as np

    from labeler.files.images import content_digest
    from labeler.geometry.masks import mask_to_rle
    from labeler.models.config import ModelConfig
    from labeler.record_files import write_records
    from labeler.records import ImageRecord, Instance
    from ontologies import Ontology
    from workflows.run.folder import RunFolder
    from workflows.settings.job import LabelJob
    from workflows.settings.of_job import settings_of

    images, output = folder / "images", folder / "labeled"
    mask = np.zeros((48, 64), bool)
    mask[10:30, 10:40] = True
    found = (Instance(0, "thing", (10.0, 10.0, 40.0, 30.0), 0.9, 0.9, 0.9, 600, mask_to_rle(mask)),)
    ids = [f"{number // 1000:04d}/{number:07d}.png" for number in range(count)]
    digests = {}
    for image_id in ids:
        (images / image_id).parent.mkdir(parents=True, exist_ok=True)
        (images / image_id).write_bytes(image_id.encode())  # exports do not decode images
        digests[image_id] = content_digest(image_id.encode())
    job = LabelJob(
        str(images), output, Ontology.from_text("thing"), ModelConfig("embedded:detector", "embedded:segmenter")
    )
    run = RunFolder(output)
    with run.locked():
        run.begin(settings_of(job, images), restart=False)
        plan(run, images, ids)
        for shard in run.shards():
            records = [ImageRecord(each, 64, 48, digests[each], instances=found) for each in shard.image_ids]
            write_records(shard.records_path, records)


def cpu() -> float:
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in spent)


def serve(folder: Path, counts_reads: bool) -> None:
    """Does what the lines of the input ask for, and answers with what it took."""
    import pandas  # noqa: F401 pyarrow imports it, where it is installed

    import workflows.commands.console
    import workflows.commands.export
    import workflows.commands.label
    import workflows.commands.progress
    import workflows.dataset.reexport
    import workflows.label  # noqa: F401
    from labeler.__main__ import main as command
    from labeler.opencv import opencv

    opencv()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    read = 0

    def notice(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal read
        read += event == "open" and f"{folder}/images/" in str(arguments[0])

    if counts_reads:  # which takes time
        sys.addaudithook(notice)
    output, names = folder / "labeled", ", ".join(f"kind {index}" for index in range(20))
    label = ["label", str(folder / "images"), "-o", str(output), "--classes", names]
    label += ["--detector", "embedded:detector", "--segmenter", "embedded:segmenter"]
    for number, line in enumerate(sys.stdin):
        doing, read = line.strip(), 0
        wall, before = time.perf_counter(), cpu()
        if doing == "add":
            add_image(folder, f"new-{number}.jpg")
        elif doing == "forget":
            shutil.rmtree(output / "run" / "export-cache", ignore_errors=True)
        else:
            code = command(label if doing == "label" else ["export", str(output)])
            assert code == 0, code
        answer = {"wall": time.perf_counter() - wall, "cpu": cpu() - before, "read": read}
        print(json.dumps(answer | {"mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}), file=answers)
        answers.flush()


def forget_newer_settings(run_json: Path) -> None:
    """Leave out settings that have their default, and that earlier versions refuse."""
    content = json.loads(run_json.read_text())
    for settings in (content["export"], (content.get("published") or {}).get("export", {})):
        for name in NEWER:
            settings.pop(name, None)
    run_json.write_text(json.dumps(content))


def forget_dataset(output: Path) -> None:
    """Leave the records alone, since earlier versions refuse files that they do not write."""
    for path in (*output.iterdir(), output / "run" / "ledger.parquet", output / "run" / "export-cache"):
        if path.name != "run":
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def compare(folder: Path, trees: dict[str, Path], rounds: int) -> None:
    for name in trees:
        own = shutil.copytree(folder, folder.with_name(f"of_{name}"))
        forget_newer_settings(own / "labeled" / "run" / "run.json")
        forget_dataset(own / "labeled")
    shutil.rmtree(folder)  # so that the copies of the images become the input of the copies
    versions = {
        name: Version(tree, __file__, "--serve", str(folder.with_name(f"of_{name}"))) for name, tree in trees.items()
    }
    for version in versions.values():
        version.measured("label")
    print("| | " + " | ".join(f"{name}: wall s | CPU s" for name in versions) + " |")
    print("| --- |" + " ---: |" * 2 * len(versions))
    for case, doings in CASES.items():
        taken: dict[str, list[dict[str, Any]]] = {name: [] for name in versions}
        for _ in range(rounds):
            for name, version in versions.items():
                taken[name].append([version.measured(doing) for doing in doings][-1])
        cells = [statistics.median(each[what] for each in taken[name]) for name in versions for what in ("wall", "cpu")]
        print(f"| {case} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |", flush=True)
    for version in versions.values():
        version.close()


def many(folder: Path, count: int) -> None:
    make_many(folder, count)
    version = Version(ROOT, __file__, "--serve", str(folder), "--count-reads")
    full, nothing = version.measured("export"), version.measured("export")
    for name, taken in (("full export", full), ("nothing new", nothing)):
        print(
            f"{count} images, {name}: {taken['wall']:.1f} s, {taken['cpu']:.1f} CPU s, {taken['read']} image files "
            f"read, peak {taken['mib']:.0f} MiB; a million: {taken['cpu'] / 60 * 1e6 / count:.1f} CPU minutes",
            flush=True,
        )
    version.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--many", type=int, default=100_000, help="0 leaves that part out")
    parser.add_argument("--against", metavar="COMMIT", help="the earlier version")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--count-reads", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve, args.count_reads)
        return
    with tempfile.TemporaryDirectory() as temporary:
        scratch, trees = Path(temporary), {"now": ROOT}
        if args.against:
            trees["before"] = unpacked(args.against, scratch / "tree")
        if args.images:
            from quality_loop import make_labeled

            make_labeled(scratch / "data", args.images)
            compare(scratch / "data", trees, args.rounds)
        if args.many:
            many(scratch / "many", args.many)


if __name__ == "__main__":
    main()
