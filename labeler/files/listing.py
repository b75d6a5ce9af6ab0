"""Which images there are, on this machine or in a store. Finding never opens an image."""

from __future__ import annotations

import logging
import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from labeler.errors import UsageError
from labeler.files.images import NOT_RASTER
from labeler.files.retries import retrying
from labeler.files.storage import absolute, in_order, info, is_uri, locate, read_bytes, scan

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath, FileInfo, StorePath

logger = logging.getLogger(__name__)

OF_CONTENT = "md5:"  # begins a stamp that is a checksum
NO_TIME = "-0.0"  # ends a stamp of a store that tells no time


@dataclass(frozen=True, slots=True)
class ImageSource:
    """The images of one input.

    Attributes:
        root: the input root: an absolute path, or a URI.
        image_ids: POSIX paths below ``root``, sorted, each once.
    """

    root: AnyPath
    image_ids: tuple[str, ...]


def find_images(source: str | AnyPath, exclude: AnyPath | None = None) -> ImageSource:
    """The images that ``source`` names, found by extension; none is opened, and there may be none.

    A folder is searched once however many links lead to it. Hidden files and folders are left out, and so are, with a
    warning, folders that cannot be listed and names that are not UTF-8.

    Args:
        source: a folder, searched recursively, which is the root then; a file of any extension (root: its folder);
            a glob such as ``dir/**/*.jpg`` (root: the part before the first wildcard); or a ``.txt`` file of paths,
            one a line, relative to that file, ``#`` for comments (root: its folder, or the common parent if an entry
            lies elsewhere). Listed paths are kept even if nothing is there, so that the run can report them. Each of
            these may be a URI, and so may the lines of the ``.txt`` file, all of one store then.
        exclude: a folder not to search, such as an output folder inside the input.

    Raises:
        UsageError: nothing is at ``source``, its root is ``exclude``, or the list cannot be read.
        OSError: the store cannot be reached or denies access.
    """
    if not str(source):
        raise UsageError("no input given; name a folder, a file, a glob or a .txt file of paths")
    path = locate(source)
    if isinstance(path, Path):
        path = absolute(Path(os.path.expanduser(path)))
    what = info(path)
    if what is not None and what.is_folder:
        return _image_source(path, _walk(path, exclude))
    if what is not None:
        return _listed(path) if path.suffix.lower() == ".txt" else _image_source(path.parent, [path.name])
    fixed = next((i for i, part in enumerate(path.parts) if set("*?[") & set(part)), 0)
    if not fixed:
        raise UsageError(f"{source}: no such file or folder")
    patterns = path.parts[fixed:]
    root = path.parents[len(patterns) - 1]
    if (there := info(root)) is None or not there.is_folder:
        raise UsageError(f"{source}: no such file or folder")
    depth = None if "**" in patterns else len(patterns)
    return _image_source(root, (i for i in _walk(root, exclude, depth) if _matches(i.split("/"), patterns)))


def stamps(root: AnyPath, image_ids: Sequence[str]) -> list[str]:
    """What tells a changed file without reading it; empty if it is not there.

    Of a file on this machine: size, mtime and ctime, the times in nanoseconds. Of an object in a store: its MD5 after
    ``OF_CONTENT`` where the store states one (equal stamps then mean equal content), else size and time.
    """
    if isinstance(root, Path):
        return [_local_stamp(f"{root}/{image_id}") for image_id in image_ids]
    folders = sorted({posixpath.dirname(image_id) for image_id in image_ids})
    wanted, found = set(image_ids), dict[str, str]()
    for folder, files in zip(
        folders, in_order(lambda name: _files(root / name if name else root), folders), strict=True
    ):
        for file in files:
            if (image_id := posixpath.join(folder, file.name)) in wanted:
                found[image_id] = stamp_of(file)
    return [found.get(image_id, "") for image_id in image_ids]


def stamp_of(file: FileInfo) -> str:
    """The stamp of a file in a store."""
    return f"{OF_CONTENT}{file.md5}" if file.md5 else f"{file.size}-{file.modified}"


def _local_stamp(path: str) -> str:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}-{status.st_ctime_ns}"


def _files(folder: AnyPath) -> list[FileInfo]:
    try:
        return [found for found in scan(folder) if not found.is_folder]
    except FileNotFoundError:
        return []


def image_extensions() -> frozenset[str]:
    """The file extensions searched for: lower case, with the dot, every raster format this Pillow opens."""
    Image.init()
    # A .mpo file is opened by the JPEG plugin, so Pillow does not list MPO among the formats it opens.
    readable = (Image.OPEN.keys() | {"MPO"}) - NOT_RASTER
    return frozenset(ext for ext, name in Image.registered_extensions().items() if name in readable)


def _image_source(root: AnyPath, image_ids: Iterable[str]) -> ImageSource:
    found = set(image_ids)
    for image_id in [i for i in found if i.encode(errors="ignore").decode() != i]:
        logger.warning("%r: the name is not UTF-8; left out", os.fsencode(f"{root}/{image_id}"))
        found.remove(image_id)
    return ImageSource(root, tuple(sorted(found)))


def _walk(root: AnyPath, exclude: AnyPath | None, depth: int | None = None) -> Iterator[str]:
    """Ids of the image files below ``root``, ``depth`` levels deep."""
    return _walk_folder(root, exclude, depth) if isinstance(root, Path) else _walk_store(root, exclude, depth)


def _walk_folder(root: Path, exclude: AnyPath | None, depth: int | None) -> Iterator[str]:
    """Real folders come before links to them."""
    seen = {os.path.realpath(exclude)} if isinstance(exclude, Path) else set()
    if os.path.realpath(root) in seen:
        raise UsageError(f"{root}: input and output are the same folder; choose another output folder")
    extensions = image_extensions()
    folders, links = [""], list[str]()
    while folders or links:
        prefix = folders.pop() if folders else links.pop(0)
        here = os.path.join(root, prefix)
        if (real := os.path.realpath(here)) in seen:
            continue
        seen.add(real)
        try:
            files, inner, linked = retrying(partial(_list_folder, here, extensions))
        except OSError as error:
            logger.warning("%s: cannot be listed (%s); left out", here, error.strerror)
            continue
        if prefix and os.path.exists(os.path.join(here, "run", "run.json")):
            continue  # an earlier output inside the input, with copies of the images
        yield from (prefix + name for name in files)
        if depth is None or prefix.count("/") + 1 < depth:
            folders += (f"{prefix}{name}/" for name in inner)
            links += (f"{prefix}{name}/" for name in linked)


def _list_folder(folder: str, extensions: frozenset[str]) -> tuple[list[str], list[str], list[str]]:
    """Names of the image files, of the folders, and of the links to folders, the latter two sorted."""
    files, folders, links = list[str](), list[str](), list[str]()
    with os.scandir(folder) as listing:
        for entry in listing:
            if _is_left_out(entry.name):
                continue
            linked = entry.is_symlink()
            if os.path.isdir(entry.path) if linked else entry.is_dir():  # DirEntry.is_dir raises for a link to itself
                (links if linked else folders).append(entry.name)
            elif os.path.splitext(entry.name)[1].lower() in extensions and (linked or entry.is_file()):
                files.append(entry.name)
    return files, sorted(folders), sorted(links)


def _walk_store(root: StorePath, exclude: AnyPath | None, depth: int | None) -> Iterator[str]:
    """Level by level, several folders at once; of each, nothing but names is kept."""
    excluded = str(exclude).rstrip("/")
    if str(root).rstrip("/") == excluded:
        raise UsageError(f"{root}: input and output are the same folder; choose another output folder")
    extensions = image_extensions()

    def list_folder(prefix: str) -> tuple[list[str], list[str]]:
        here = root / prefix if prefix else root
        files, folders = list[str](), list[str]()
        try:
            for entry in scan(here):
                if entry.is_folder:
                    folders.append(entry.name)
                elif os.path.splitext(entry.name)[1].lower() in extensions and not _is_left_out(entry.name):
                    files.append(prefix + entry.name)
        except PermissionError as error:
            logger.warning("%s: cannot be listed (%s); left out", here, error.strerror)
        except FileNotFoundError:
            pass  # gone since its parent was listed
        if prefix and "run" in folders and info(here / "run" / "run.json"):
            return [], []  # an earlier output inside the input, with copies of the images
        kept = [name for name in folders if not _is_left_out(name) and str(here / name) != excluded]
        return files, [f"{prefix}{name}/" for name in kept]

    level = [""]
    while level:
        below = list[str]()
        for files, folders in in_order(list_folder, level):
            yield from files
            below += folders
        level = below if depth is None or level[0].count("/") + 1 < depth else []


def _is_left_out(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _matches(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    """Whether path ``parts`` match glob ``patterns``; ``**`` stands for any number of folders."""
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_matches(parts[i:], patterns[1:]) for i in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], patterns[0]) and _matches(parts[1:], patterns[1:])


def _listed(path: AnyPath) -> ImageSource:
    try:
        text = read_bytes(path).decode("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    if "\0" in text:
        raise UsageError(f"{path}: not a list of paths in UTF-8; save it as UTF-8 text, one path a line")
    lines = [line for line in map(str.strip, text.split("\n")) if line and not line.startswith("#")]
    if not isinstance(path, Path) or any(map(is_uri, lines)):
        return _listed_in_store(path, lines)
    entries = [Path(os.path.abspath(path.parent / os.path.expanduser(line))) for line in lines]
    root = path.parent
    if not all(entry.is_relative_to(root) for entry in entries):
        try:
            root = Path(os.path.commonpath([entry.parent for entry in entries]))
        except ValueError as error:  # several drives
            raise UsageError(f"{path}: the paths share no folder; put the images on one drive") from error
    return _image_source(root, (entry.relative_to(root).as_posix() for entry in entries))


def _listed_in_store(path: AnyPath, lines: Sequence[str]) -> ImageSource:
    """Lines that are URIs, or lie in the folder of a list that is in a store itself."""
    home = str(path.parent) if not isinstance(path, Path) else ""
    if not home and not all(map(is_uri, lines)):
        raise UsageError(f"{path}: lists both URIs and files of this machine; make a list of each")
    split = [(line if is_uri(line) else f"{home.rstrip('/')}/{line}").partition("://") for line in lines]
    entries = [posixpath.normpath(rest) for _, _, rest in split]
    base = home.partition("://")[2].rstrip("/")
    schemes = {scheme for scheme, _, _ in split} or {home.partition("://")[0]}
    if not base or not all(entry.startswith(f"{base}/") for entry in entries):
        try:
            base = posixpath.commonpath([posixpath.dirname(entry) for entry in entries])
        except ValueError:
            base = ""
    if len(schemes) > 1 or not base:
        raise UsageError(f"{path}: the URIs share no folder; make a list for each store")
    root = locate(f"{schemes.pop()}://{base}")
    return _image_source(root, (entry.removeprefix(f"{base}/") for entry in entries))
