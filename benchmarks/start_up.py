"""CPU time that commands take to start, against an earlier commit of this repository, in the same run.

    python benchmarks/start_up.py --against COMMIT [--rounds 5] [--case NAME] [--imports]

Both versions take turns. Seconds are those of user and system together, so that other work on the machine disturbs
little. ``label`` has twelve scenes of the demo: labels the first of them, and finds nothing new in all of them. With
``--imports``, the modules of the current version that take longest to import are printed, as ``python -X importtime``
measures them.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from two_versions import ROOT, unpacked

from labeler.demo.scenes import make_scene, scene_rng

SCENES, MODULES_SHOWN = 12, 15
NOTHING_NEW, EXPORT, ONE_IMAGE = "label, nothing new", "export", "label, one image"


def run(tree: Path, arguments: Sequence[object], *, python: Sequence[str] = ()) -> tuple[float, str]:
    """CPU seconds of a command with the code in ``tree``, and what it wrote to the standard error."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *python, "-m", "labeler", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(tree)},
        cwd=tree,
        capture_output=True,
        text=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode not in (0, 2):
        raise SystemExit(f"{' '.join(map(str, arguments))} failed:\n{done.stderr}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stderr


def prepared(tree: Path, scratch: Path, case: str | None) -> dict[str, list[object]]:
    """The commands to measure, or one of them, with folders of ``tree``'s own below ``scratch``."""
    for folder, count in (("scenes", SCENES), ("one", 1)):
        (scratch / folder).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(make_scene(scene_rng(0, number)).image).save(scratch / folder / f"{number}.png")
    label = ["--model", "demo", "--classes", "circle"]
    labeled: list[object] = ["label", scratch / "scenes", "-o", scratch / "labeled", *label]
    commands: dict[str, list[object]] = {
        "labeler --help": ["--help"],
        "labeler label --help": ["label", "--help"],
        "labeler export --help": ["export", "--help"],
        "a wrong flag": ["label", "--no-such-flag"],
        NOTHING_NEW: labeled,
        EXPORT: ["export", scratch / "labeled"],
        ONE_IMAGE: ["label", scratch / "one", "-o", scratch / "fresh", *label, "--restart"],
    }
    chosen = {case: commands[case]} if case else commands
    if not chosen.keys().isdisjoint((NOTHING_NEW, EXPORT)):
        run(tree, labeled)
    return chosen


def slowest_imports(tree: Path, arguments: Sequence[object]) -> list[tuple[float, str]]:
    """(seconds with all that it imports, module) of the slowest third-party packages."""
    _, log = run(tree, arguments, python=["-X", "importtime"])
    rows = re.findall(r"^import time: +\d+ \| +(\d+) \| +(\S+)$", log, re.MULTILINE)
    packages = [(int(microseconds) / 1e6, module) for microseconds, module in rows if "." not in module]
    return sorted(packages, reverse=True)[:MODULES_SHOWN]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="COMMIT", required=True, help="the earlier version")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--case", metavar="NAME", help="measure this command alone, such as 'label, one image'")
    parser.add_argument("--imports", action="store_true", help="print what takes long to import")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        trees = {"now": ROOT, "before": unpacked(args.against, scratch / "earlier")}
        commands = {name: prepared(tree, scratch / name, args.case) for name, tree in trees.items()}
        print("| command | CPU s now | before | before / now |\n| --- | ---: | ---: | ---: |")
        for case in commands["now"]:
            rounds = [[run(tree, commands[name][case])[0] for name, tree in trees.items()] for _ in range(args.rounds)]
            now, before = (statistics.median(column) for column in zip(*rounds, strict=True))
            ratio = statistics.median(old / new for new, old in rounds)
            print(f"| {case} | {now:.2f} | {before:.2f} | {ratio:.2f} |", flush=True)
        shown = [case for case in (NOTHING_NEW, ONE_IMAGE) if args.imports and case in commands["now"]]
        for case in shown:
            print(f"\n{case}:")
            for seconds, module in slowest_imports(ROOT, commands["now"][case]):
                print(f"{seconds:8.2f} s   {module}")


if __name__ == "__main__":
    main()
