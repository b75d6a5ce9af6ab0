"""What the README and the docs promise is there: flags, links and paths."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from functools import cache

from tests.support import ROOT
from workflows.commands.cli import main as labeler

PATHS = {*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "benchmarks" / "README.md"} - {
    ROOT / "CHANGELOG.md"
}
PAGES = {path: path.read_text(encoding="utf-8") for path in sorted(PATHS)}
COMMANDS = (
    "demo", "preview", "tag", "label", "export", "evaluate", "tune", "report", "review", "train", "submit", "models"
)  # fmt: skip
COMMAND = re.compile(rf"\blabeler ({'|'.join(COMMANDS)})\b")
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
OTHERS = {"--all-extras", "--local-dir", "--quiet", "--strict", "--torch-backend", "--upgrade"}  # of other programs


@cache
def flags_of(command: str) -> frozenset[str]:
    """As ``labeler COMMAND --help`` lists them."""
    with redirect_stdout(io.StringIO()) as printed:
        labeler([command, "--help"])
    return frozenset(FLAG.findall(printed.getvalue()))


def all_flags() -> frozenset[str]:
    return frozenset().union(*map(flags_of, COMMANDS))


def test_commands_have_the_flags_that_the_pages_give_them() -> None:
    checked = 0
    for path, text in PAGES.items():
        for block in re.findall(r"```(?:bash)?\n(.*?)```", text, re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                line = re.sub(r"\s#.*", "", line)
                if match := COMMAND.search(line):
                    flags = set(FLAG.findall(line[match.end() :].partition("|")[0]))
                    assert flags <= flags_of(match[1]), f"{path}: {line}"
                    checked += len(flags)
    assert checked > 30


def test_flags_in_the_text_exist() -> None:
    for path, text in PAGES.items():
        prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        for code in re.findall(r"`([^`]+)`", prose):
            if not code.startswith(("pip", "uv", "mkdocs", "python", "pytest")):
                assert set(FLAG.findall(code)) <= all_flags() | OTHERS, f"{path}: {code}"


def test_links_and_paths_lead_somewhere() -> None:
    for path, text in PAGES.items():
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (path.parent / target).exists(), f"{path}: {target}"
        for name in re.findall(
            r"`((?:labeler|workflows|ontologies|tests|benchmarks|docs|examples|\.ci)/[\w./-]*)`", text
        ):
            assert (ROOT / name).exists(), f"{path}: {name}"


def test_the_readme_stays_short() -> None:
    lines = PAGES[ROOT / "README.md"].splitlines()
    assert len(lines) <= 150
    assert any(line.startswith("pip install '.[test]' --quiet && pytest") for line in lines)
