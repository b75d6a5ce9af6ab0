"""What commands import. Time is not measured: it is the imports that take it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.command_line import run_in_process, write_scenes
from workflows.commands.cli import COMMANDS
from workflows.run.exit_codes import OK, USAGE

# All that help pages, and refusals of flags, may import from other projects.
FOR_HELP = frozenset({"tomli_w", "yaml"})
# All that commands may import to write a dataset. pyarrow imports pandas wherever that is installed.
FOR_DATASETS = FOR_HELP | {
    "PIL", "cloudpickle", "cv2", "dateutil", "filelock", "numpy", "pandas", "pillow_heif", "pyarrow", "pycocotools",
    "pytz", "rich", "six",
}  # fmt: skip
OF_PROJECT = frozenset({"labeler", "ontologies", "workflows"})
RUN = """
import json, sys
before = set(sys.modules)
from labeler.__main__ import main
codes = [main(arguments) for arguments in json.loads(sys.argv[1])]
packages = {name.partition(".")[0] for name in set(sys.modules) - before}
print(json.dumps([codes, sorted(packages - sys.stdlib_module_names)]), file=sys.stderr)
"""


def imported_by(*commands: Sequence[object]) -> tuple[list[int], set[str]]:
    """Exit codes of commands in a process of their own, and which packages of other projects it imported."""
    lines = json.dumps([[str(argument) for argument in command] for command in commands])
    done = subprocess.run([sys.executable, "-c", RUN, lines], capture_output=True, text=True, check=True, cwd=ROOT)
    codes, packages = json.loads(done.stderr.splitlines()[-1])
    of_compilers = {name for name in packages if name.startswith(("_", "cython"))}
    return codes, set(packages) - OF_PROJECT - of_compilers


@pytest.fixture(scope="module")
def labeled(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    """A command that has labeled two scenes."""
    folder = tmp_path_factory.mktemp("labeled")
    write_scenes(folder / "scenes", range(2))
    command = ["label", folder / "scenes", "-o", folder / "out", "--model", "demo", "--classes", "circle"]
    assert run_in_process(*command).returncode == OK
    return command


def test_help_pages_and_wrong_flags() -> None:
    pages = [["--help"], *([name, "--help"] for name in COMMANDS)]
    codes, packages = imported_by(*pages, ["label", "--no-such-flag"], ["no-such-command"])
    assert codes == [OK] * len(pages) + [USAGE] * 2
    assert packages <= FOR_HELP


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_label_with_nothing_new(labeled: list[object], device: str) -> None:
    """Not even torch is asked whether there is such a device."""
    codes, packages = imported_by([*labeled, "--device", device])
    assert codes == [OK]
    assert packages <= FOR_DATASETS


def test_export(labeled: list[object]) -> None:
    output = Path(str(labeled[3]))
    codes, packages = imported_by(["export", output, "--accept-score", "0.4"])
    assert codes == [OK]
    assert packages <= FOR_DATASETS
