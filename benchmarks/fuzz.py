"""Damaged and hostile files: each must be read or be refused in one line, in bounded time and memory.

    python benchmarks/fuzz.py [--files 20000] [--seed 0] [--only images,annotations,archives,runs]

Needs the test extra. Takes a sample of every kind of file that labeler reads, changes it at random, and reads it in a
process with limits. Prints one row per kind, and on stderr the number of each file that failed; the same number and
seed make the same file again (``--at images:1234 --keep FOLDER`` writes it).
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import matplotlib.figure  # noqa: F401 with the next ones: imported here, not anew by every child
import pandas  # noqa: F401
import pyarrow.dataset  # noqa: F401
from fuzz_inputs import annotation_samples, archives, image_samples, make_run, mutated
from PIL import Image

from labeler.annotation_tools.corrected import read_corrected
from labeler.errors import LabelerError
from labeler.files.images import read_image
from labeler.formats.ground_truth import read_ground_truth
from labeler.opencv import opencv
from ontologies import OntologyError
from ontologies.sources import read_ontology
from tests.support.command_line import linked_copy, run_in_process

SECONDS, MEMORY = 20, 2**31  # for one file
SHARES = {"images": 0.5, "annotations": 0.35, "archives": 0.1, "runs": 0.05}  # the last take a command each
SEVERAL_LINES = 12  # a command names up to this many files that it could not use


@dataclass(frozen=True)
class Kind:
    """One kind of input: ``samples`` to change, and ``read``, which gets the path of a changed one."""

    samples: list[Path]
    read: Callable[[Path, Random], str]
    top: Path | None = None  # the folder that is copied around the changed file


@dataclass
class Row:
    kind: str
    results: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        cells = [self.results[name] for name in ("read", "refused", "traceback", "crash", "hang")]
        return f"| {self.kind} | {sum(cells):,} | " + " | ".join(f"{cell:,}" for cell in cells) + " |"


def _image(path: Path, _: Random) -> str:
    read_image(path)
    return "read"


def _annotation(path: Path, _: Random) -> str:
    results = []
    for read in (lambda: read_ontology(path), lambda: read_corrected(path), lambda: read_ground_truth(path)):
        try:
            read()
            results.append("read")
        except (LabelerError, OntologyError) as error:
            if "\n" in str(error):
                raise AssertionError(f"several lines: {error}") from error
            results.append("refused")
    return "read" if "read" in results else "refused"


def _archive(path: Path, _: Random) -> str:
    read_corrected(path)
    return "read"


def _run(path: Path, random: Random) -> str:
    top = path
    while top.name != "out":
        top = top.parent
    commands = (("export", top), ("export", top, "--val-share", "0.5"), ("report", top))
    done = run_in_process(*random.choice(commands))
    if "Traceback" in done.stderr or done.stderr.count("\n") > SEVERAL_LINES:
        raise AssertionError(done.stderr)
    return "refused" if done.returncode else "read"


def make_kinds(scratch: Path) -> dict[str, Kind]:
    for name in ("images", "annotations", "runs"):
        (scratch / name).mkdir()
    images, annotations = image_samples(scratch / "images"), annotation_samples(scratch / "annotations")
    out = make_run(scratch / "runs")
    run_in_process("report", out)
    run = [path for path in sorted(out.rglob("*")) if path.is_file()]
    own = [path for path in run if path.relative_to(out).parts[0] == "run"]
    return {
        "images": Kind(images, _image),
        "annotations": Kind(annotations, _annotation),
        "archives": Kind(archives(annotations, scratch / "archives"), _archive),
        "runs": Kind(own * 4 + run, _run, scratch / "runs"),
    }


def place(kind: Kind, name: str, number: int, seed: int, folder: Path) -> tuple[Path, Random]:
    """Write the changed file ``number`` below ``folder``."""
    random = Random(f"{seed} {name} {number}")
    sample = random.choice(kind.samples)
    changed = mutated(sample.read_bytes(), random, sample.name)
    path = folder / sample.name
    if kind.top:
        linked_copy(kind.top, folder / "copy")
        path = folder / "copy" / sample.relative_to(kind.top)
        path.unlink()  # a hard link to the sample
    path.write_bytes(changed)
    return path, random


def attempt(kind: Kind, name: str, number: int, seed: int, scratch: Path) -> str:
    folder = Path(tempfile.mkdtemp(dir=scratch))
    try:
        path, random = place(kind, name, number, seed, folder)
        signal.alarm(SECONDS)
        return kind.read(path, random)
    except (LabelerError, OntologyError) as error:
        return "refused" if "\n" not in str(error) else f"traceback {number} several lines: {error!r}"
    except BaseException:
        return f"traceback {number} " + " / ".join(traceback.format_exc().splitlines()[-3:])
    finally:
        signal.alarm(0)
        shutil.rmtree(folder, ignore_errors=True)


def run_kind(kind: Kind, name: str, count: int, seed: int, scratch: Path) -> Row:
    """Read ``count`` files in child processes; a child that dies is followed by one that begins behind its file."""
    row, number = Row(name), 0
    while number < count:
        read, write = os.pipe()
        if (child := os.fork()) == 0:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders in C warn there
            limit = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE") + MEMORY
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            for each in range(number, min(count, number + 500)):
                result = attempt(kind, name, each, seed, scratch).replace("\n", " ")[:500]
                os.write(write, f"{result}\n".encode(errors="replace"))
            os._exit(0)
        os.close(write)
        with os.fdopen(read, errors="replace") as lines:
            for line in lines:
                result = line.split()[0]
                row.results[result] += 1
                number += 1
                if result == "traceback":
                    print(f"{name}: {line.strip()}", file=sys.stderr, flush=True)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            result = "hang" if status == -signal.SIGALRM else "crash"
            print(f"{name}: {result} {number} (exit {status})", file=sys.stderr, flush=True)
            row.results[result] += 1
            number += 1
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(SHARES))
    parser.add_argument("--at", help="KIND:NUMBER of one file to write into --keep")
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    Image.init()
    opencv()
    with tempfile.TemporaryDirectory() as made:
        scratch = Path(made)
        kinds = make_kinds(scratch)
        if args.at:
            name, _, number = args.at.partition(":")
            args.keep.mkdir(parents=True)
            print(place(kinds[name], name, int(number), args.seed, args.keep)[0])
            return
        print("| files | changed | read | refused in one line | tracebacks | crashes | hangs |")
        print("|---|---:|---:|---:|---:|---:|---:|")
        for name in args.only.split(","):
            print(run_kind(kinds[name], name, round(args.files * SHARES[name]), args.seed, scratch), flush=True)


if __name__ == "__main__":
    main()
