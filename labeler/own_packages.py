"""Notices that another package stands in the place of ``workflows`` or ``ontologies``.

Both are plain words, and other projects use them as well: ``llama-index-workflows`` installs a ``workflows``, and many
repositories have such a folder. Python imports whichever comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.machinery import PathFinder
from pathlib import Path

from labeler.errors import UsageError

DISTRIBUTION = "autodistill-labeler"
OWN_PACKAGES = ("workflows", "ontologies")
MARK = f'DISTRIBUTION = "{DISTRIBUTION}"'  # stands in the __init__.py of each of them
INSTALLED = Path(__file__).resolve().parents[1]  # the folder that holds all packages of this project


def check_own_packages(search: Sequence[str] | None = None) -> None:
    """Look for this project's packages, and import nothing.

    Args:
        search: folders to search; None for ``sys.path``.

    Raises:
        UsageError: another project's package, or another version of labeler, would be imported in their place, or one
            of them is damaged.
    """
    for name in OWN_PACKAGES:
        spec = PathFinder.find_spec(name, search)
        if spec is None or spec.origin is None:  # a folder without __init__.py is found last
            raise UsageError(
                f"{INSTALLED / name} is incomplete: {name}/__init__.py is missing; run `pip install --force-reinstall "
                f"--no-deps {DISTRIBUTION}`, or the same with your checkout in place of the name"
            )
        found = Path(spec.origin).resolve()
        marked = MARK in found.read_text(encoding="utf-8", errors="replace")
        if found.parent != INSTALLED / name:
            if marked and _same_code(found.parents[1]):  # such as the checkout that was installed
                continue
            raise UsageError(_in_front(name, found, marked))
        if not marked:
            raise UsageError(
                f"{found} is of {_owner(name)}, which has replaced labeler's own file; install labeler into a virtual "
                "environment of its own"
            )


def _same_code(other: Path) -> bool:
    """Whether the folder ``other`` holds all packages of this project, with the same code."""
    return all(_code(other / package) == _code(INSTALLED / package) for package in ("labeler", *OWN_PACKAGES))


def _code(package: Path) -> dict[Path, bytes]:
    return {path.relative_to(package): path.read_bytes() for path in package.rglob("*.py")}


def _in_front(name: str, found: Path, other_version: bool) -> str:
    entry = found.parent.parent if found.name == "__init__.py" else found.parent
    way = (
        "install labeler into a virtual environment of its own"
        if entry.name in ("site-packages", "dist-packages")
        else f"run labeler from another folder, or take {entry} out of PYTHONPATH"
    )
    if other_version:
        return f"{found} is of another version of labeler and is found before the installed one, in {entry}; {way}"
    return f"{found} is not labeler's {name!r} but is found before it, in {entry}; {way}"


def _owner(name: str) -> str:
    """The distributions that install a package of this name, besides this project."""
    from importlib.metadata import packages_distributions  # slow to import, and only needed for this message

    others = sorted(set(packages_distributions().get(name, [])) - {DISTRIBUTION})
    return " and ".join(others) or "another project"
