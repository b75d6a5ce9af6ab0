"""``workflows → labeler → ontologies``, never the other way; heavy libraries only where they are needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("workflows", "labeler", "ontologies")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
FORBIDDEN = {"ontologies": {"labeler", "workflows"}, "labeler": {"workflows"}, "workflows": set()}
MODEL_MODULES = {
    "labeler/detectors.py",
    "labeler/segmenters.py",
    "labeler/checkpoints.py",
    "labeler/models.py",
    "labeler/demo/losses.py",
    "labeler/demo/scene_pool.py",
    "labeler/demo/tiny_detector.py",
    "labeler/demo/tiny_segmenter.py",
    "labeler/demo/train.py",
    "ontologies/taggers/language.py",
    "ontologies/taggers/ram.py",
    "ontologies/taggers/vocabulary.py",
}
OWNERS = {
    "torch": MODEL_MODULES,
    "torchvision": MODEL_MODULES,
    "transformers": MODEL_MODULES,
    "huggingface_hub": {"labeler/checkpoints.py"},
    "ram": {"ontologies/taggers/ram.py"},
    "cv2": {"labeler/opencv.py"},
    "ray": {"workflows/engines.py", "workflows/submit.py"},
    "fsspec": {"labeler/storage.py"},
    "upath": {"labeler/storage.py"},
    "autodistill": {"labeler/plugin.py", "labeler/labelers.py", "labeler/formats/autodistill.py"},
}
HEAVY = ("torch", "transformers", "autodistill", "ray", "huggingface_hub", "supervision", "fsspec", "upath", "cv2")


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import in a file, wherever it stands."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            yield node.lineno, ".".join(filter(None, (above, node.module)))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("__import__", "importlib.import_module"):
            (name, *_) = node.args
            yield node.lineno, ast.literal_eval(name) if isinstance(name, ast.Constant) else ast.unparse(name)


def test_there_is_something_to_check() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in MODULES} == set(PACKAGES)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_directions(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    package = name.split("/")[0]
    for line, module in imported(path):
        top = module.split(".")[0]
        assert top not in FORBIDDEN[package], f"{name}:{line}: {package} must not import {module}"
        assert top not in ("tests", "benchmarks", "conftest", "tiny_models"), f"{name}:{line}: {module} is not shipped"
        assert name in OWNERS.get(top, {name}), f"{name}:{line}: {top} belongs in {', '.join(sorted(OWNERS[top]))}"


@pytest.mark.parametrize(
    ("text", "modules"),
    [
        ("import labeler.geometry.masks as m, ray", ["labeler.geometry.masks", "ray"]),
        ("from labeler import models", ["labeler"]),
        ("from . import records", ["workflows"]),
        ("from ..labeler import masks", ["labeler"]),
        ("from .records import x", ["workflows.records"]),
        ("def f():\n    import torch", ["torch"]),
        ("import importlib\nimportlib.import_module('ray')", ["importlib", "ray"]),
    ],
)
def test_imports_are_seen(text: str, modules: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    (tmp_path / "workflows").mkdir()
    path = tmp_path / "workflows" / "module.py"
    path.write_text(text)
    assert [module for _, module in imported(path)] == modules


@pytest.mark.parametrize(
    "statement",
    [
        "import labeler",
        "import ontologies",
        "import labeler.models.loading, labeler.records, labeler.quality, labeler.files.images, labeler.geometry.masks",
        "import labeler.formats.coco, labeler.formats.yolo",
        "import workflows.commands.cli",
    ],
)
def test_imports_stay_light(statement: str) -> None:
    code = f"{statement}; import sys; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout.split() == []
