"""Names that contain control characters, on terminals and in logs."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from rich.table import Table

from tests.support.command_line import Run, run_in_process
from workflows.commands.messages import OneLine, printable
from workflows.commands.terminal import Terminal

HOSTILE = "a\x1b[31m\x07\n\r\t\x00b\x9b2J\u202egnp.exe\u2066\u2028\ud83d"


@pytest.mark.parametrize("text", ["plain.png", "ä ß 猫 👩‍👩‍👧 שלום — …", "a\\b", ""])
def test_what_can_be_read_stays(text: str) -> None:
    assert printable(text) == text


def test_what_a_terminal_would_obey_is_escaped() -> None:
    assert printable(HOSTILE) == (
        r"a\x1b[31m\x07\n\r\t\x00b\x9b2J\u202egnp.exe\u2066\u2028\ud83d"
    )  # fmt: skip
    everything = printable("".join(map(chr, range(0x11000))))
    bad = {character for character in everything if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")}
    overrides = {each for each in everything if unicodedata.bidirectional(each) in ("LRE", "RLE", "LRO", "RLO", "PDF")}
    isolates = {each for each in everything if unicodedata.bidirectional(each) in ("LRI", "RLI", "FSI", "PDI")}
    assert (bad, overrides, isolates) == (set(), set(), set())


def test_the_terminal_and_the_log_escape_and_keep_their_own_colours() -> None:
    console = Terminal()
    console.file = io.StringIO()
    table = Table(box=None)
    table.add_column("class")
    table.add_row(HOSTILE)
    for shown in (HOSTILE, table):
        console.print(shown, markup=False, highlight=False)
    console.always(HOSTILE)
    lines = console.file.getvalue().splitlines()
    assert [line.strip() for line in lines] == [printable(HOSTILE), "class", printable(HOSTILE), printable(HOSTILE)]
    coloured = Terminal()
    coloured._force_terminal = True
    with coloured.capture() as capture:
        coloured.print("\x1b[5mname", style="bold", highlight=False)
    assert "\\x1b[5mname" in capture.get()
    record = logging.LogRecord("x", logging.WARNING, "", 0, "%s", (HOSTILE,), None)
    assert OneLine("labeler: %(message)s").format(record) == f"labeler: {printable(HOSTILE)}"


def test_errors_of_a_command_are_one_line(tmp_path: Path, labeler: Run) -> None:
    done = labeler("report", tmp_path / "no\nsuch\x1b[31m")
    assert done.returncode == 2
    assert "no\\nsuch\\x1b[31m" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_summary_escapes_file_names(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a\x1b[31m\n\u202e.png").write_bytes(b"no image")
    command = ("--classes", "star", "--model", "demo", "--device", "cpu")
    done = run_in_process("label", tmp_path / "images", "-o", tmp_path / "out", *command)
    assert done.returncode == 3
    assert "a\\x1b[31m\\n\\u202e.png" in done.stdout
    assert not {"\x1b", "\u202e"} & set(done.stdout + done.stderr)


def test_an_encoding_that_lacks_a_character_does_not_end_a_command() -> None:
    code = "import sys; from workflows.commands.cli import _set_up_streams; _set_up_streams(); print('猫…')"
    ascii_only = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=ascii_only)
    assert done.stdout == b"\\u732b\\u2026\n", done.stderr
