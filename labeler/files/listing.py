"""Find images on this machine or in a store. No image is opened, unless its further frames are asked for.

A search yields images one by one; ``labeler.files.sorting`` puts them in order.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from labeler.errors import ImageError, UsageError
from labeler.files.frames import FRAME_EXTENSIONS, file_of, frame_id
from labeler.files.image_formats import image_extensions
from labeler.files.images import ImageFile
from labeler.files.parallel import in_order
from labeler.files.path_lists import read_path_list
from labeler.files.storage import absolute, as_local, info, locate, storage_of

if TYPE_CHECKING:
    from labeler.files.paths import AnyPath, FileInfo

logger = logging.getLogger(__name__)

LISTED_AT_ONCE = 256  # folders in a store
# What normally lies beside images: labels, lists, notes, and what systems and cameras add.
_BESIDE_IMAGES = frozenset(
    {".csv", ".htm", ".html", ".json", ".jsonl", ".md", ".parquet", ".rst", ".tsv", ".txt", ".xml", ".yaml", ".yml"}
    | {".cfg", ".ini", ".js", ".log", ".py", ".toml", ".aae", ".db", ".lnk", ".thm", ".url", ".xmp"}
)

Found = tuple[str, str | None]
"""An image id, and its stamp if listing told it."""


@dataclass(frozen=True, slots=True)
class ImageSource:
    """The images of one input.

    Attributes:
        root: an absolute path or a URI.
        image_ids: POSIX paths below ``root``, sorted, without duplicates.
        not_read: as in ``ImageSearch``, sorted.
    """

    root: AnyPath
    image_ids: tuple[str, ...]
    not_read: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class ImageSearch:
    """The images of one input as they are found.

    Attributes:
        root: an absolute path or a URI.
        found: POSIX paths below ``root``, in any order and perhaps repeated; to be read once. Each comes with its stamp
            if listing it told that, as in a store.
        not_read: how many files of which extension are left out since they are no images that can be read; complete
            once ``found`` was read. Labels, notes and hidden files are not among them.
    """

    root: AnyPath
    found: Iterator[Found]
    not_read: Counter[str] = field(default_factory=Counter)


def find_images(source: str | AnyPath, exclude: AnyPath | None = None) -> ImageSource:
    """The images of ``search_images``, all in memory."""
    search = search_images(source, exclude)
    image_ids = tuple(sorted({image_id for image_id, _ in search.found}))
    return ImageSource(search.root, image_ids, tuple(sorted(search.not_read.items())))


def search_images(source: str | AnyPath, exclude: AnyPath | None = None) -> ImageSearch:
    """The images that ``source`` names, selected by file extension; there may be none.

    A folder is searched only once, however many links point to it. Hidden files and folders are skipped. Folders that
    cannot be listed and names that are not UTF-8 are skipped with a warning.

    Args:
        source: one of the following, as a local path or a URI.

            - A folder, which is searched recursively. It is the root.
            - A file with any extension. The root is its folder.
            - A glob such as ``dir/**/*.jpg``. The root is the part before the first wildcard; a part that is the name
              of a folder, such as ``[2024] photos``, is taken as it is.
            - A ``.txt`` file with one path per line, relative to that file; ``#`` starts a comment. Paths may be in
              quotes and have backslashes. The root is the file's folder, or the common parent folder if a path lies
              outside it. Paths to missing files are kept, so that the run can report them. If the lines are URIs, all
              must be in one store.
        exclude: a folder to skip, such as an output folder inside the input.

    Raises:
        UsageError: nothing exists at ``source``, its root is ``exclude``, or the list cannot be read.
        OSError: the store cannot be reached or denies access.
    """
    if not str(source):
        raise UsageError("no input given; name a folder, a file, a glob or a .txt file of paths")
    path = locate(source)
    if local := as_local(path):
        path = absolute(Path(os.path.expanduser(local)))
    what = info(path)
    if what is not None and what.is_folder:
        return _searched(path, _walk(path, exclude))
    if what is not None:
        return _named(*read_path_list(path)) if path.suffix.lower() == ".txt" else _named(path.parent, [path.name])
    fixed = _first_wildcard(path)
    if not fixed:
        raise UsageError(f"{source}: no such file or folder")
    patterns = path.parts[fixed:]
    root = path.parents[len(patterns) - 1]
    if (there := info(root)) is None or not there.is_folder:
        raise UsageError(f"{source}: no such file or folder")
    depth = None if "**" in patterns else len(patterns)
    named = (file for file in _walk(root, exclude, depth) if _matches(file[0].split("/"), patterns))
    return _searched(root, named)


def with_further_frames(root: AnyPath, found: Iterable[Found]) -> Iterator[Found]:
    """``found`` and the further frames of their files. Files that may have some are opened."""

    def frames(image: Found) -> list[Found]:
        image_id, stamp = image
        if os.path.splitext(image_id)[1].lower() not in FRAME_EXTENSIONS:
            return [image]
        try:
            further = ImageFile(root / image_id).frames()
        except ImageError:
            return [image]  # labeling it will report why
        return [image, *((frame_id(image_id, number), stamp) for number in further)]

    return (each for images in in_order(frames, found) for each in images)


def _first_wildcard(path: AnyPath) -> int:
    """The index of the first part of a glob that has wildcards and is not the name of a folder; 0 if there is none."""
    for index, part in enumerate(path.parts):
        if not index or not set("*?[") & set(part):
            continue
        above = path.parents[len(path.parts) - index - 1]
        if index + 1 == len(path.parts) or (there := info(above / part)) is None or not there.is_folder:
            return index
    return 0


def stamps(root: AnyPath, image_ids: Sequence[str]) -> list[str]:
    """A stamp for each image that changes when its file does, see ``Storage.stamps``; empty for a missing file."""
    return storage_of(root).stamps(root, [file_of(image_id) for image_id in image_ids])


def _searched(root: AnyPath, files: Iterable[tuple[str, FileInfo]]) -> ImageSearch:
    """The images among ``files``, and the number of the others."""
    not_read: Counter[str] = Counter()
    tells_stamps = storage_of(root).is_remote

    def images() -> Iterator[Found]:
        for image_id, file in files:
            extension = os.path.splitext(image_id)[1].lower()
            if extension in image_extensions() and not file.is_special:
                yield image_id, file.stamp if tells_stamps else None
            elif file.is_special or extension not in _BESIDE_IMAGES:
                not_read[(extension or "without an extension") + " that is no regular file" * file.is_special] += 1

    return ImageSearch(root, _in_utf8(root, images()), not_read)


def _named(root: AnyPath, image_ids: Iterable[str]) -> ImageSearch:
    return ImageSearch(root, _in_utf8(root, ((image_id, None) for image_id in image_ids)))


def _in_utf8(root: AnyPath, found: Iterable[Found]) -> Iterator[Found]:
    for image in found:
        image_id = image[0]
        if image_id.isascii() or image_id.encode(errors="ignore").decode() == image_id:
            yield image
        else:
            logger.warning("%r: the name is not UTF-8; left out", os.fsencode(f"{root}/{image_id}"))


def _walk(root: AnyPath, exclude: AnyPath | None, depth: int | None = None) -> Iterator[tuple[str, FileInfo]]:
    """All files up to ``depth`` levels below ``root``, each with its POSIX path there.

    Real folders come before links to them.
    """
    storage = storage_of(root)
    seen = set() if exclude is None else {storage_of(exclude).identity(exclude)}
    if storage.identity(root) in seen:
        raise UsageError(f"{root}: input and output are the same folder; choose another output folder")

    def path(prefix: str) -> AnyPath:
        return root / prefix if prefix else root

    def entries_of(prefix: str) -> list[FileInfo]:
        entries = _entries(path(prefix))
        if prefix and any(entry.name == "run" for entry in entries) and info(path(prefix) / "run" / "run.json"):
            return []  # the output folder of an earlier run, which holds copies of images
        return entries

    folders, links = [""], list[str]()
    while folders or links:
        some = [folders.pop() for _ in range(min(len(folders), LISTED_AT_ONCE if storage.is_remote else 1))]
        some = [prefix for prefix in some or [links.pop(0)] if _is_new(storage.identity(path(prefix)), seen)]
        listed = in_order(entries_of, some) if storage.is_remote else map(entries_of, some)
        for prefix, entries in zip(some, listed, strict=True):
            yield from ((prefix + entry.name, entry) for entry in entries if not entry.is_folder)
            if depth is None or prefix.count("/") + 1 < depth:
                inner = sorted((entry.name, entry.is_link) for entry in entries if entry.is_folder)
                folders += (f"{prefix}{name}/" for name, is_link in inner if not is_link)
                links += (f"{prefix}{name}/" for name, is_link in inner if is_link)


def _entries(folder: AnyPath) -> list[FileInfo]:
    """The files and folders in ``folder`` that are not hidden; if it cannot be listed, none and a warning."""
    storage = storage_of(folder)
    try:
        return [entry for entry in storage.scan(folder) if not _is_left_out(entry.name)]
    except FileNotFoundError:
        return []  # deleted since its parent was listed
    except OSError as error:
        if storage.is_remote and not isinstance(error, PermissionError):
            raise
        logger.warning("%s: cannot be listed (%s); left out", folder, error.strerror)
        return []


def _is_new(item: str, seen: set[str]) -> bool:
    """Whether ``item`` was not in ``seen``; adds it."""
    is_new = item not in seen
    seen.add(item)
    return is_new


def _is_left_out(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _matches(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    """Whether path ``parts`` match the glob ``patterns``; ``**`` matches any number of folders."""
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_matches(parts[i:], patterns[1:]) for i in range(len(parts) + 1))
    fits = bool(parts) and (parts[0] == patterns[0] or fnmatchcase(parts[0], patterns[0]))
    return fits and _matches(parts[1:], patterns[1:])
