"""Immutable versions of a dataset, for readers that must not see it change while they read.

    OUT/versions/3f9a2b1c4d5e6f70/…                 the dataset as it was published; the name begins its content digest
    OUT/versions/3f9a2b1c4d5e6f70/.files.parquet    its files, in the form of the ledger
    OUT/versions/latest                             a symbolic link to the version that was published last
    OUT/versions/.version.partial/…                 a version that is being made

A version appears whole, by a rename, and no file of it is ever written again. Images are hard links to those of the
dataset, where files are replaced and never written in place. Other files are copies, because people and tools edit
labels in place; while they stay the same, they are links to those of the version before.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from labeler.errors import RunError, UsageError
from labeler.files.images import digest_at
from labeler.files.local import PARTIAL
from labeler.files.storage import as_local
from workflows.dataset.file_names import shows_image
from workflows.dataset.folder_destination import sync
from workflows.dataset.ledger import Entry, read_ledger, to_table, write_ledger
from workflows.dataset.links import copy_file, link_file

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

VERSIONS = "versions"
LATEST = "latest"
FILES = ".files.parquet"
UNFINISHED, NEW_LATEST = f".version{PARTIAL}", f".{LATEST}{PARTIAL}"
DIGITS = 16
_NAME = re.compile(rf"[0-9a-f]{{{DIGITS}}}")


@dataclass(frozen=True)
class Version:
    """A version in ``path``; ``is_new`` if it was not there before."""

    path: Path
    is_new: bool


def check_versions(output: AnyPath) -> None:
    """Check that versions of the dataset in ``output`` can be published.

    Raises:
        UsageError: it is in a store.
        RunError: something else is in their place.
    """
    if (folder := as_local(output)) is None:
        raise UsageError(
            f"--version-datasets: {output} is in a store, where every version would be a full copy; write the dataset "
            "to a local folder, or use the versioning of the store"
        )
    versions = folder / VERSIONS
    if versions.is_symlink() or (versions.exists() and not versions.is_dir()):
        what = "a link" if versions.is_symlink() else "not a folder"
        raise RunError(f"{versions} is {what}; put a folder in its place")
    if os.path.lexists(versions / LATEST) and not (versions / LATEST).is_symlink():
        raise RunError(f"{versions / LATEST} is no link to a version; move it away")


def publish_version(output: Path, digest: str, files: Mapping[str, str], copies_images: bool) -> Version:
    """Publish the dataset in ``output``, which must be locked, as a version, and let ``latest`` be that one.

    Args:
        digest: of the content of the dataset. A version that has it is taken as it is.
        files: content digests of the files, by name.
        copies_images: versions have image files of their own.

    Raises:
        OSError: something else is in its place, or a file cannot be linked or copied. The next export tries again.
    """
    versions = output / VERSIONS
    path = versions / digest[:DIGITS]
    if is_new := not is_version(path):
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, "is no version that an export made; move it away", str(path))
        _make(output, path, files, copies_images)
    if latest_version(output) != path.name:
        new = versions / NEW_LATEST
        new.unlink(missing_ok=True)
        new.symlink_to(path.name, target_is_directory=True)
        os.replace(new, versions / LATEST)
    return Version(path, is_new)


def _make(output: Path, path: Path, files: Mapping[str, str], copies_images: bool) -> None:
    remove_unfinished(output)
    before = output / VERSIONS / LATEST
    known = _files_of(before)
    unfinished = path.with_name(UNFINISHED)
    digests, copied, folders = dict(files), list[Path](), set[Path]()
    for name in sorted(files):
        source, target, is_image = output / name, unfinished / name, shows_image(name)
        if target.parent not in folders:
            target.parent.mkdir(parents=True, exist_ok=True)
            folders.add(target.parent)
        if is_image and not copies_images:
            link_file(source, target, "symlink" if source.is_symlink() else "hard")
        elif known.get(name) != files[name] or not _linked(before / name, target):
            copy_file(source, target)
            if not is_image:  # trainers rewrite images that they find faulty
                target.chmod(target.stat().st_mode & ~0o222)
            digests[name] = digest_at(target)
            copied.append(target)
    unfinished.mkdir(parents=True, exist_ok=True)
    write_ledger(unfinished / FILES, to_table(Entry(name, "", digest) for name, digest in sorted(digests.items())))
    sync(copied)
    unfinished.rename(path)


def _files_of(version: Path) -> dict[str, str]:
    """Content digests of the files of a version, by name; empty if it is none."""
    with suppress(RunError):
        if (ledger := read_ledger(version / FILES)) is not None:
            names, digests = (ledger.table.column(each).to_pylist() for each in ("name", "digest"))
            return dict(zip(names, digests, strict=True))
    return {}


def _linked(source: Path, target: Path) -> bool:
    """Make ``target`` a hard link; returns whether that worked."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        return False
    return True


def is_version(path: Path) -> bool:
    return _NAME.fullmatch(path.name) is not None and not path.is_symlink() and (path / FILES).is_file()


def latest_version(output: Path) -> str:
    """The name of the version that was published last; empty if there is none."""
    try:
        name = os.readlink(output / VERSIONS / LATEST)
    except OSError:
        return ""
    return name if _NAME.fullmatch(name) and is_version(output / VERSIONS / name) else ""


def remove_unfinished(output: Path) -> None:
    """Delete what an export that was killed left of a version; ``output`` must be locked."""
    unfinished, link = output / VERSIONS / UNFINISHED, output / VERSIONS / NEW_LATEST
    if (output / VERSIONS).is_symlink() or not (output / VERSIONS).is_dir():  # a link may point anywhere
        return
    if unfinished.is_symlink():
        unfinished.unlink()
    elif unfinished.exists():
        shutil.rmtree(unfinished)
    link.unlink(missing_ok=True)


def links_in_versions(output: Path) -> Counter[int]:
    """How many files of versions have an inode of the file system of ``output``, by inode."""
    found = Counter[int]()
    device = output.stat().st_dev
    folders = [output / VERSIONS] if (output / VERSIONS).is_dir() else []
    while folders:
        folder = folders.pop()
        if folder.stat().st_dev != device:
            continue
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=False):
                    found[entry.inode()] += 1
    return found
