"""The Dockerfile agrees with the package that it installs. It is not built here, which would take gigabytes."""

from __future__ import annotations

import re
import shlex
import tomllib

from labeler import __version__
from tests.support import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
INSTRUCTIONS = [
    line.split(maxsplit=1)
    for line in re.sub(r"^\s*#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    if line.strip()
]
ARGUMENTS = dict(value.split("=", 1) for name, value in INSTRUCTIONS if name == "ARG")


def test_what_it_copies_exists_and_reaches_the_builder() -> None:
    copied = [
        source
        for name, value in INSTRUCTIONS
        if name == "COPY" and not value.startswith("--from")
        for source in value.split()[:-1]
    ]
    sent = [
        line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    ]
    assert sorted(copied) == sorted(sent)
    assert all((ROOT / path).exists() for path in copied)
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert set(wheel) | {PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]} < set(copied)


def test_versions_and_names_are_those_of_the_package() -> None:
    assert f"Programming Language :: Python :: {ARGUMENTS['PYTHON']}" in PROJECT["project"]["classifiers"]
    assert set(ARGUMENTS["EXTRAS"].split(",")) <= PROJECT["project"]["optional-dependencies"].keys()
    assert set(re.findall(r"labeler:([\d.]+)", DOCKERFILE)) == {__version__} == {PROJECT["project"]["version"]}
    assert ["ENTRYPOINT", '["labeler"]'] in INSTRUCTIONS
    assert "labeler" in PROJECT["project"]["scripts"]


def test_one_opencv_stays_and_the_user_is_not_root() -> None:
    (install,) = [value for name, value in INSTRUCTIONS if name == "RUN" and "uninstall" in value and "opencv" in value]
    _, removal, restored, _ = install.split("&&")
    assert {"opencv-python", "opencv-python-headless"} <= set(shlex.split(removal))
    assert shlex.split(restored)[-1] == "opencv-python-headless"
    users = [value for name, value in INSTRUCTIONS if name == "USER"]
    assert users[-1].isdecimal()  # Kubernetes refuses `runAsNonRoot` for a name
    assert users[-1] != "0"


def test_the_pages_install_pytorch_for_cpus_from_the_same_index() -> None:
    (index,) = set(re.findall(r"https://download\.pytorch\.org/\S+", DOCKERFILE))
    for page in ("README.md", "docs/guides/docker.md"):
        assert index in (ROOT / page).read_text(encoding="utf-8"), page
