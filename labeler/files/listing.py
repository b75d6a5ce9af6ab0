"""Find images on this machine or in a store. No image is opened, unless its further frames are asked for."""

from __future__ import annotations

import codecs
import logging
import os
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from labeler.errors import ImageError, UsageError
from labeler.files.credentials import is_signed, without_secrets
from labeler.files.documents import read_limited
from labeler.files.frames import FRAME_EXTENSIONS, file_of, frame_id
from labeler.files.image_formats import image_extensions
from labeler.files.images import ImageFile
from labeler.files.parallel import in_order
from labeler.files.paths import is_uri
from labeler.files.storage import absolute, as_local, info, locate, locate_beside, storage_of

if TYPE_CHECKING:
    from labeler.files.paths import AnyPath, FileInfo

logger = logging.getLogger(__name__)

MAX_LIST_BYTES = 2**30  # of a .txt file of paths
LISTED_AT_ONCE = 256  # folders in a store
# What normally lies beside images: labels, lists, notes, and what systems and cameras add.
_BESIDE_IMAGES = frozenset(
    {".csv", ".htm", ".html", ".json", ".jsonl", ".md", ".parquet", ".rst", ".tsv", ".txt", ".xml", ".yaml", ".yml"}
    | {".cfg", ".ini", ".js", ".log", ".py", ".toml", ".aae", ".db", ".lnk", ".thm", ".url", ".xmp"}
)


@dataclass(frozen=True, slots=True)
class ImageSource:
    """The images of one input.

    Attributes:
        root: an absolute path or a URI.
        image_ids: POSIX paths below ``root``, sorted, without duplicates.
        not_read: how many files of which extension are left out since they are no images that can be read; sorted.
            Labels, notes and hidden files are not among them.
    """

    root: AnyPath
    image_ids: tuple[str, ...]
    not_read: tuple[tuple[str, int], ...] = ()


def find_images(source: str | AnyPath, exclude: AnyPath | None = None) -> ImageSource:
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
        return _listed(path) if path.suffix.lower() == ".txt" else _image_source(path.parent, [path.name])
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


def further_frames(root: AnyPath, image_ids: Iterable[str]) -> tuple[str, ...]:
    """``image_ids`` and those of the further frames of their files, sorted. Files that may have some are opened."""

    def frames(image_id: str) -> list[int]:
        if os.path.splitext(image_id)[1].lower() not in FRAME_EXTENSIONS:
            return []
        try:
            return ImageFile(root / image_id).frames()
        except ImageError:
            return []  # labeling it will report why

    ids = list(image_ids)
    found = zip(ids, in_order(frames, ids), strict=True)
    return tuple(sorted([*ids, *(frame_id(image_id, number) for image_id, numbers in found for number in numbers)]))


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


def _searched(root: AnyPath, files: Iterable[tuple[str, bool]]) -> ImageSource:
    """The images among ``files`` that a search found, and the number of the others."""
    not_read: Counter[str] = Counter()

    def images() -> Iterator[str]:
        for image_id, is_special in files:
            extension = os.path.splitext(image_id)[1].lower()
            if extension in image_extensions() and not is_special:
                yield image_id
            elif is_special or extension not in _BESIDE_IMAGES:
                not_read[(extension or "without an extension") + " that is no regular file" * is_special] += 1

    source = _image_source(root, images())
    return replace(source, not_read=tuple(sorted(not_read.items())))


def _image_source(root: AnyPath, image_ids: Iterable[str]) -> ImageSource:
    unique = set(image_ids)
    for image_id in [i for i in unique if i.encode(errors="ignore").decode() != i]:
        logger.warning("%r: the name is not UTF-8; left out", os.fsencode(f"{root}/{image_id}"))
        unique.remove(image_id)
    return ImageSource(root, tuple(sorted(unique)))


def _walk(root: AnyPath, exclude: AnyPath | None, depth: int | None = None) -> Iterator[tuple[str, bool]]:
    """(path, whether it is a pipe or the like) of all files up to ``depth`` levels below ``root``, with a POSIX path.

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
            yield from ((prefix + entry.name, entry.is_special) for entry in entries if not entry.is_folder)
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


def _listed(path: AnyPath) -> ImageSource:
    try:
        data = read_limited(path, MAX_LIST_BYTES)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    is_utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # as PowerShell writes
    text = data.decode("utf-16" if is_utf16 else "utf-8-sig", errors="replace" if is_utf16 else "surrogateescape")
    if "\0" in text:
        raise UsageError(f"{path}: not a list of paths in UTF-8; save it as UTF-8 text, one path per line")
    lines = [_unquoted(line) for line in map(str.strip, text.split("\n")) if line and not line.startswith("#")]
    if (local := as_local(path)) is None or any(map(is_uri, lines)):
        return _listed_in_store(path, lines)
    root = local.parent
    entries = [_listed_path(root, line) for line in lines]
    if not all(entry.is_relative_to(root) for entry in entries):
        try:
            root = Path(os.path.commonpath([entry.parent for entry in entries]))
        except ValueError as error:  # the paths are on several Windows drives
            raise UsageError(f"{path}: the paths share no folder; put the images on one drive") from error
    return _image_source(root, (entry.relative_to(root).as_posix() for entry in entries))


def _unquoted(line: str) -> str:
    return line[1:-1] if len(line) > 2 and line[0] == line[-1] and line[0] in "\"'" else line


def _listed_path(root: Path, line: str) -> Path:
    """The absolute path that a line names; backslashes part folders, unless a file has them in its name."""
    path = Path(os.path.abspath(root / os.path.expanduser(line)))
    if "\\" not in line or os.path.exists(path):
        return path
    return Path(os.path.abspath(root / os.path.expanduser(line.replace("\\", "/"))))


def _listed_in_store(path: AnyPath, lines: Sequence[str]) -> ImageSource:
    """The images of a list of URIs, or of a list that is in a store itself."""
    if (signed := next(filter(is_signed, lines), None)) is not None:
        raise UsageError(
            f"{path}: lists signed URLs ({without_secrets(signed)}), whose signatures would be kept with the labels; "
            "download the images, or name their folder and let the store's own credentials open it"
        )
    home = str(path.parent) if storage_of(path).is_remote else ""
    if not home and not all(map(is_uri, lines)):
        raise UsageError(f"{path}: lists both URIs and files of this machine; write one list for each")
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
        raise UsageError(f"{path}: the URIs share no folder; write one list for each store")
    root = locate_beside(f"{schemes.pop()}://{base}", path)
    return _image_source(root, (entry.removeprefix(f"{base}/") for entry in entries))
