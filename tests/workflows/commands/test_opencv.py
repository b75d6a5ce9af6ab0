"""The command line on a machine where OpenCV cannot be imported, as without libGL."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.made_folder import write_labeled

CAUSE = "libGL.so.1: cannot open shared object file: No such file or directory"
# Each command prints its exit code and what it wrote to stderr.
SCRIPT = """
import contextlib, io, json, sys
from workflows.commands.cli import main
answers = []
for arguments in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        code = main(arguments)
    answers.append([code, said.getvalue()])
try:
    import labeler.plugin
except Exception as error:
    answers.append([type(error).__name__, str(error)])
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_labeled(tmp_path_factory.mktemp("labeled"), ["a.png", "b.png", "c.png"], ("ring", "star"))


def test_what_needs_no_opencv_works_and_the_rest_says_one_line(folder: Path, tmp_path: Path) -> None:
    stub = tmp_path / "stub" / "cv2" / "__init__.py"
    stub.parent.mkdir(parents=True)
    stub.write_text(f"raise ImportError({CAUSE!r})\n")
    paths = os.pathsep.join([str(stub.parents[1]), str(ROOT)])
    out = str(folder)
    works = [["--help"], ["export", "--help"], ["models"], ["export", out, "--format", "coco"]]
    fails = [["export", out, "--format", "coco,yolo"], ["report", out, "-o", str(tmp_path / "page.html")]]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(works + fails)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": paths},
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout.splitlines()[-1])
    # One image of the folder could not be read when it was labeled: exit code 1.
    assert [code for code, _ in answers] == [0, 0, 0, 1, 2, 2, "LabelerError"]
    for (_, said), command in zip(answers, works, strict=False):
        assert CAUSE not in said, command
    for _, said in answers[len(works) :]:
        (line,) = said.strip().splitlines()
        assert CAUSE in line
        assert "pip install opencv-python-headless" in line
        assert "apt-get install libgl1" in line
