"""An earlier commit of this repository beside this version, for benchmarks that compare both in the same run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def unpacked(commit: str, folder: Path) -> Path:
    """``folder``, which is created, with the files of ``commit``."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "x", "-C", folder], input=archive, check=True)
    return folder


class Version:
    """A process that measures one version of the code: it answers each line with a line of JSON.

    Args:
        tree: the folder with that version.
        script: a benchmark of this version, and the arguments that make it answer lines.
    """

    def __init__(self, tree: Path, *script: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, *script],
            env={**os.environ, "PYTHONPATH": str(tree), "HF_HUB_OFFLINE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def measured(self, line: str = "") -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(line, file=self._process.stdin, flush=True)
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        self._process.communicate()
