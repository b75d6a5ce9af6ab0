"""Where a dataset is put together: images come in one by one, and the whole takes the old one's place at the end.

``LocalDataset`` is built beside the old one and moved into its place. ``StoreDataset`` sends images as they come, less
those that are there already, and the rest at the end; then it removes what the old dataset had and this one has not,
and ``data.yaml`` comes last. Both have annotations, labels and cut-outs written into ``building``, a folder of this
machine.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from labeler.storage import REQUESTS, FileInfo, copy, in_order, info, is_unchanged, md5_of, remove, scan, walk
from workflows.run_folder import DATASET_ENTRIES, RunFolder

if TYPE_CHECKING:
    from labeler.storage import AnyPath, StorePath

SPLITS = ("train", "val")


@dataclass(frozen=True, slots=True)
class FoundImage:
    path: AnyPath
    info: FileInfo


class Dataset(Protocol):
    """A dataset in the making; left before it is finished, the old one stays.

    Attributes:
        building: where annotations, labels, cut-outs, ``data.yaml`` and ``verdicts.parquet`` are written.
    """

    building: Path

    def find_image(self, image_id: str, file_name: str) -> FoundImage | None:
        """The image in the input, else in the dataset as it is now; a failed one was never in that."""
        ...

    def add_image(self, image: FoundImage, name: str) -> None:
        """Bring an image in under a POSIX path below the dataset."""
        ...

    def finish(self) -> None: ...
    def __enter__(self) -> Dataset: ...
    def __exit__(self, *_: object) -> None: ...


def new_dataset(run: RunFolder, root: AnyPath, link: str) -> Dataset:
    """The dataset of ``run`` from the images below ``root``; ``link`` is that of ``ExportConfig``."""
    if isinstance(run.output, Path):
        return LocalDataset(run.output, root, link)
    return StoreDataset(run.output, root)


class LocalDataset:
    def __init__(self, output: Path, root: AnyPath, link: str) -> None:
        self.building = output / "run" / "building"
        self._output = output
        self._link = link
        self._originals = _Files(root)
        self._old = [_Files(output / "images" / split) for split in SPLITS]
        self._copies = _Copies()
        shutil.rmtree(self.building, ignore_errors=True)
        _make_folders(self.building)

    def find_image(self, image_id: str, file_name: str) -> FoundImage | None:
        return self._originals.find(image_id) or self._find_old(file_name)

    def _find_old(self, file_name: str) -> FoundImage | None:
        return next(filter(None, (old.find(file_name) for old in self._old)), None)

    def add_image(self, image: FoundImage, name: str) -> None:
        target = self.building / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(image.path, Path):
            link_file(image.path, target, self._link)
            return
        old = self._find_old(name.partition("/")[2].partition("/")[2])
        if old is not None and isinstance(old.path, Path) and is_unchanged(image.info, old.info):
            link_file(old.path, target, "hard")  # the old name goes when the dataset is swapped in
        else:
            self._copies.start(image.path, target)

    def finish(self) -> None:
        self._copies.wait()
        for name in DATASET_ENTRIES:
            old, new = self._output / name, self.building / name
            if old.is_dir() and not old.is_symlink():
                shutil.rmtree(old)
            else:
                old.unlink(missing_ok=True)
            if new.exists() and (new.is_file() or any(path.is_file() or path.is_symlink() for path in new.rglob("*"))):
                os.replace(new, old)
        os.replace(self.building / "verdicts.parquet", self._output / "run" / "verdicts.parquet")

    def __enter__(self) -> LocalDataset:
        return self

    def __exit__(self, *_: object) -> None:
        self._copies.stop()
        shutil.rmtree(self.building, ignore_errors=True)


class StoreDataset:
    def __init__(self, output: StorePath, root: AnyPath) -> None:
        self.building = Path(tempfile.mkdtemp(prefix="labeler-"))
        self._output = output
        self._originals = _Files(root)
        self._old = _Files(output)
        self._copies = _Copies()
        self._wanted: set[str] = set()
        _make_folders(self.building)

    def find_image(self, image_id: str, file_name: str) -> FoundImage | None:
        old = (self._old.find(f"images/{split}/{file_name}") for split in SPLITS)
        return self._originals.find(image_id) or next(filter(None, old), None)

    def add_image(self, image: FoundImage, name: str) -> None:
        self._wanted.add(name)
        old = self._old.find(name)
        if old is None or not (old.path == image.path or is_unchanged(image.info, old.info)):
            self._copies.start(image.path, self._output / name)

    def finish(self) -> None:
        for name in self._built():
            self._wanted.add(name)
            source, old = self.building / name, self._old.find(name)
            if old is None or not old.info.md5 or old.info.md5 != md5_of(source):
                self._copies.start(source, self._output / name)
        self._copies.start(self.building / "verdicts.parquet", self._output / "run" / "verdicts.parquet")
        self._copies.wait()
        for _ in in_order(remove, self._left_over()):
            pass
        if (self.building / "data.yaml").exists():
            copy(self.building / "data.yaml", self._output / "data.yaml")
        else:
            remove(self._output / "data.yaml")

    def _built(self) -> Iterator[str]:
        """Annotations, labels and cut-outs, by POSIX path."""
        for folder, _, names in os.walk(self.building):
            if Path(folder) != self.building:
                below = Path(folder).relative_to(self.building).as_posix()
                yield from (f"{below}/{name}" for name in names)

    def _left_over(self) -> Iterator[StorePath]:
        """What the old dataset had and this one has not."""
        for entry in ("images", "labels", "annotations", "cutouts"):
            for name in walk(self._output / entry):
                if f"{entry}/{name}" not in self._wanted:
                    yield self._output / entry / name

    def __enter__(self) -> StoreDataset:
        return self

    def __exit__(self, *_: object) -> None:
        self._copies.stop()
        shutil.rmtree(self.building, ignore_errors=True)


class _Files:
    """The files below a folder, asked for one at a time; a store is asked for a folder at a time."""

    def __init__(self, root: AnyPath) -> None:
        self._root = root
        self._folder = lru_cache(maxsize=4)(self._list)

    def find(self, name: str) -> FoundImage | None:
        folder, _, base = name.rpartition("/")
        path = self._root / name
        listed = None if isinstance(path, Path) else self._folder(folder)
        found = info(path) if listed is None else listed.get(base)
        return None if found is None or found.is_folder else FoundImage(path, found)

    def _list(self, folder: str) -> dict[str, FileInfo] | None:
        """By name; None if the store does not tell all that it holds."""
        if not isinstance(self._root, Path) and self._root.protocol in ("http", "https"):
            return None
        try:
            return {found.name: found for found in scan(self._root / folder if folder else self._root)}
        except FileNotFoundError:
            return {}
        except PermissionError:
            return None


class _Copies:
    """Files under way, several at once; what fails is raised by a later call."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(REQUESTS)
        self._running: deque[Future[None]] = deque()

    def start(self, source: AnyPath, target: AnyPath) -> None:
        self._running.append(self._pool.submit(copy, source, target))
        while len(self._running) > 4 * REQUESTS:
            self._running.popleft().result()

    def wait(self) -> None:
        while self._running:
            self._running.popleft().result()

    def stop(self) -> None:
        self._pool.shutdown(cancel_futures=True)


def _make_folders(building: Path) -> None:
    for split in SPLITS:
        for folder in ("images", "labels"):
            (building / folder / split).mkdir(parents=True)
    for folder in ("annotations", "cutouts"):
        (building / folder).mkdir()


def link_file(source: Path, target: Path, link: str) -> None:
    """Bring a file in by ``link``, as of ``ExportConfig``; where there are no hard links, by a copy."""
    if link == "symlink":
        target.symlink_to(source.resolve())
        return
    if link == "hard":
        try:
            os.link(source.resolve(), target)
            return
        except OSError:
            pass  # another file system, or one without hard links: copy
    copy(source, target)
