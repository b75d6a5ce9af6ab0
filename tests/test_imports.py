"""Who may import whom: packages, rooms and files; heavy libraries only where they are needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.support import ROOT

# A package imports only those that stand behind it here.
PACKAGES = ("workflows", "labeler", "ontologies")
# A room of a package imports only those in lower lines, and not its neighbours of the same line.
ROOMS = {
    "workflows": (
        "commands",
        "cluster",
        "label tag",
        "review reporting",
        "training",
        "evaluation",
        "recording",
        "asked",
        "dataset",
        "engines",
        "run",
        "drawing",
        "settings",
    ),
    "labeler": (
        "plugin",
        "demo",
        "models",
        "annotation_tools",
        "formats",
        "metrics",
        "quality decided ground_truth",
        "gate_candidates groups",
        "record_files",
        "decisions records",
        "instance_ids",
        "record_checks migrations",
        "files",
        "masks",
        "geometry",
        "opencv quality_config",
        "setting",
        "own_packages",
        "errors sizes image_pairs",
    ),
}
CONSOLE_ENTRY = "labeler.__main__"  # the one module that imports upward
MODEL_ROOMS = ("labeler/models/", "labeler/demo/", "ontologies/taggers/")
# Which files may import a library, wherever in the file.
OWNERS = {
    "torch": MODEL_ROOMS,
    "torchvision": MODEL_ROOMS,
    "transformers": MODEL_ROOMS,
    "huggingface_hub": ("labeler/models/",),
    "ultralytics": ("labeler/models/quiet_ultralytics.py", "labeler/models/students/ultralytics.py"),
    "rfdetr": ("labeler/models/students/rfdetr_package.py",),
    "ram": ("ontologies/taggers/ram.py",),
    "tomllib": ("ontologies/documents.py",),
    "cv2": ("labeler/opencv.py",),
    "ray": ("workflows/engines/", "workflows/cluster/"),
    "fsspec": ("labeler/files/store.py",),
    "upath": ("labeler/files/paths.py", "labeler/files/store.py"),
    "autodistill": (
        "labeler/plugin.py",
        "labeler/formats/autodistill.py",
        "labeler/models/labelers/autodistill.py",
        "labeler/models/students/autodistill.py",
    ),
}
HEAVY = ("torch", "transformers", "autodistill", "ray", "huggingface_hub", "supervision", "fsspec", "upath", "cv2")
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
}


def imported(text: str, package: str, modules: Mapping[str, object]) -> Iterator[tuple[int, str]]:
    """(line, module) of every import in a file, wherever it stands.

    Args:
        package: the one that the file is in.
        modules: names of modules, to tell ``from a import module`` from ``from a import name``.
    """
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            above = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            source = ".".join(filter(None, (above, node.module)))
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                yield node.lineno, inner if inner in modules else source
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("__import__", "importlib.import_module"):
            (name, *_) = node.args
            yield node.lineno, ast.literal_eval(name) if isinstance(name, ast.Constant) else ast.unparse(name)


def imports_of(name: str) -> list[tuple[int, str]]:
    path = FILES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return [
        (line, module) for line, module in imported(path.read_text(encoding="utf-8"), package, FILES) if module != name
    ]


def line_of(module: str) -> int:
    """The line of ``ROOMS`` that a module stands in."""
    package, room = module.split(".")[:2]
    return next(index for index, line in enumerate(ROOMS[package]) if room in line.split())


MODULES = sorted(set(FILES) - {CONSOLE_ENTRY})


def test_every_room_is_in_the_list() -> None:
    for package, lines in ROOMS.items():
        found = {
            path.stem for path in (ROOT / package).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()
        }
        assert found - {"__init__", "__main__"} == {room for line in lines for room in line.split()}


def wrong_imports(name: str) -> Iterator[str]:
    package = name.split(".")[0]
    path = FILES[name].relative_to(ROOT).as_posix()
    for line, module in imports_of(name):
        top = module.split(".")[0]
        if top in ("tests", "benchmarks"):
            yield f"{path}:{line}: {module} is not shipped"
        if top in OWNERS and not path.startswith(OWNERS[top]):
            yield f"{path}:{line}: {top} belongs in {', '.join(OWNERS[top])}"
        if top not in PACKAGES:
            continue
        if PACKAGES.index(package) > PACKAGES.index(top):
            yield f"{path}:{line}: {package} must not import {module}"
        if package == top and package in ROOMS and name.count(".") and module.count("."):
            same_room = name.split(".")[1] == module.split(".")[1]
            if not same_room and line_of(name) >= line_of(module):
                yield f"{path}:{line}: {name} must not import {module}"


def test_directions() -> None:
    assert [wrong for name in MODULES for wrong in wrong_imports(name)] == []


def test_texts_of_others_are_parsed_in_one_place() -> None:
    parsers = ("json.load(", "json.loads(", "yaml.load(", "yaml.safe_load(")
    found = {FILES[name].relative_to(ROOT).as_posix() for name in FILES if any(map(source_of(name).count, parsers))}
    assert found == {
        "ontologies/documents.py",
        "workflows/reporting/report.py",
    }  # that parses its own


def source_of(name: str) -> str:
    return FILES[name].read_text(encoding="utf-8")


def test_no_cycle_between_files() -> None:
    graph = {name: {module for _, module in imports_of(name) if module in FILES} for name in FILES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize(
    ("text", "modules"),
    [
        ("import labeler.masks as m, ray", ["labeler.masks", "ray"]),
        ("from labeler import models, nothing", ["labeler.models", "labeler"]),
        ("from . import records", ["workflows.run"]),
        ("from ..settings import export", ["workflows.settings"]),
        ("from .records import x", ["workflows.run.records"]),
        ("def f():\n    import torch", ["torch"]),
        ("if TYPE_CHECKING:\n    import torch", ["torch"]),
        ("import importlib\nimportlib.import_module('ray')", ["importlib", "ray"]),
    ],
)
def test_imports_are_seen(text: str, modules: list[str]) -> None:
    assert [module for _, module in imported(text, "workflows.run", {"labeler.models": 0})] == modules


@pytest.mark.parametrize(
    "statement",
    [
        "import labeler",
        "import ontologies",
        "import labeler.models.config, labeler.models.loading, labeler.records, labeler.quality, labeler.files.images",
        "import labeler.formats.coco, labeler.formats.yolo",
        "import workflows.commands.cli",
    ],
)
def test_imports_stay_light(statement: str) -> None:
    code = f"{statement}; import sys; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout.split() == []


def test_test_modules_import_no_other() -> None:
    """What they share is in ``tests/support``."""
    for path in (ROOT / "tests").rglob("test_*.py"):
        for line, module in imported(path.read_text(encoding="utf-8"), "tests", {}):
            assert not module.split(".")[-1].startswith("test_"), f"{path.relative_to(ROOT)}:{line}: {module}"
