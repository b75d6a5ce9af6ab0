"""The images of the input of a dataset."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from labeler.errors import RunError
from labeler.files.frames import file_of, file_path
from labeler.files.image_config import ImageConfig
from labeler.files.images import image_digest
from labeler.files.paths import FileInfo
from labeler.files.storage import info, is_in_another_store, scan, storage_of
from workflows.dataset.links import pair_of

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath


class Originals:
    """The images of the input.

    Args:
        root: the folder or URI of the input.
        verify: accept an image only if its content is what was labeled; used if the user did not name ``root``.
        refusal: why ``root`` must not be read; empty if it may.
        reading: how the images were read when they were labeled.
    """

    def __init__(
        self, root: AnyPath, verify: bool = False, refusal: str = "", reading: ImageConfig | None = None
    ) -> None:
        self.root = root
        self.reading = reading or ImageConfig()
        self.verify = verify
        self._refusal = refusal
        self._folder = lru_cache(maxsize=4)(self._list)

    @property
    def may_be_asked(self) -> bool:
        return not self._refusal

    def find(self, name: str) -> AnyPath | None:
        """The path of the image; None if it does not exist. A store is listed one folder at a time.

        Raises:
            RunError: ``root`` must not be read.
        """
        if self._refusal:
            raise RunError(self._refusal)
        name = file_of(name)
        folder, _, base = name.rpartition("/")
        path = self.root / name
        listed = self._folder(folder) if storage_of(self.root).is_remote else None
        file = info(path) if listed is None else listed.get(base)
        return None if file is None or file.is_folder else path

    def has(self, name: str, *digests: str) -> bool:
        """Whether the input is known to hold the image with one of these contents."""
        return not self._refusal and self.find(name) is not None and image_digest(self.root, name) in digests

    def is_linked(self, name: str, path: AnyPath) -> bool:
        """Whether a file on this machine is the image itself, by a link."""
        pair = pair_of(path, file_path(self.root, name))
        return pair is not None and pair.is_one_file

    def may_hold(self, name: str) -> bool:
        """Whether the image exists; True if ``root`` must not be read."""
        return bool(self._refusal) or self.find(name) is not None

    def _list(self, folder: str) -> dict[str, FileInfo] | None:
        """The files of a folder by name; None if the store does not list all of them."""
        if str(self.root).startswith(("http://", "https://")):
            return None
        try:
            return {file.name: file for file in scan(self.root / folder if folder else self.root)}
        except FileNotFoundError:
            return {}
        except PermissionError:
            return None


def may_be_asked(root: AnyPath, output: AnyPath) -> bool:
    """Whether an input that only a run folder names may be read: if it is local or in the store of the output."""
    return not is_in_another_store(root, output)


def refusal_of(root: AnyPath, output: AnyPath) -> str:
    """Why an input that only a run folder names is not read; empty if it may be."""
    if may_be_asked(root, output):
        return ""
    return (
        f"images are needed from {root}, which only {output}/run/run.json names; if you trust it, add --images {root}"
    )
