"""What the image files of a dataset are called: all in one folder, or in the folders of the input."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from labeler.errors import RunError
from labeler.files.frames import file_of
from labeler.formats.flat_names import FlatFileNames
from workflows.dataset.destination import Destination
from workflows.dataset.file_names import FileNames, dataset_suffix, names_unconverted
from workflows.dataset.ledger import Ledger, names_given


class ImageNames(Protocol):
    """Assigns a unique file name to every image; an image keeps its name from export to export."""

    def give(self, image_id: str) -> str:
        """The path of an image below ``images/SPLIT``; call it once per image."""


class FlatNames:
    """``ImageNames`` without folders; ``given`` are those of the dataset by image id."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._names = FlatFileNames(names_unconverted(given))

    def give(self, image_id: str) -> str:
        return self._names.give(image_id, dataset_suffix(image_id))


def image_names(ledger: Ledger, destination: Destination, layout: str | None) -> tuple[ImageNames, Collection[str]]:
    """The names of images in the layout of the dataset that is there, or else in ``layout``.

    Args:
        layout: ``flat`` or ``nested``; None is that of the dataset, or ``flat`` if there is none.

    Returns:
        The names that images have with their own bytes, and the ids of images that the dataset has under the name of
        a PNG instead.

    Raises:
        RunError: the dataset has the other layout.
    """
    given, unchanged = names_given(ledger)
    found = _layout_of(given, unchanged)
    if found and layout and found != layout:
        if _has_files(ledger, destination):
            raise RunError(
                f"{destination.path('images')} has the {found} layout, and names stay; without --layout, it keeps "
                f"them. For --layout {layout}, first move images and labels to another place (the records stay)"
            )
        given, unchanged, found = {}, set(), None
    own = names_unconverted(given)
    converted = {image_id for image_id, name in own.items() if name != given[image_id]}
    if (found or layout or "flat") == "nested":
        return FileNames(own, unchanged), converted
    return FlatNames({**{image_id: image_id for image_id in unchanged}, **own}), converted


def _layout_of(given: Mapping[str, str], unchanged: Iterable[str]) -> str | None:
    """The layout that images of subfolders have; None if there are none."""
    if any("/" in image_id for image_id in unchanged):
        return "nested"
    nested = ("/" in name for image_id, name in given.items() if "/" in file_of(image_id))
    is_nested = next(nested, None)
    return None if is_nested is None else "nested" if is_nested else "flat"


def _has_files(ledger: Ledger, destination: Destination) -> bool:
    names = ledger.table.column("name").to_pylist()
    return any(destination.stamp(name) for name in names if name.startswith(("images/", "labels/")))
