"""The file name of each image in the dataset: a path below ``images/SPLIT``; in the nested layout, the image's id.

YOLO has one label file per stem (``a.jpg`` and ``a.png`` share ``a.txt``), and finds it by replacing the last folder
``images`` with ``labels``. File systems limit the length of names, and a file and a folder cannot have the same name,
such as the label file ``foo.txt`` of ``foo.png`` beside a folder ``foo.txt/``. An image whose id conflicts with one of
these rules gets another name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

from labeler.files.frames import split_frame
from labeler.files.image_formats import image_extensions
from labeler.files.paths import suffix_of
from labeler.files.storage import NAME_BYTES
from labeler.formats import hugging_face, roboflow

LABEL_SUFFIX = ".txt"
CONVERTED = ".png"
_READ_BY_TRAINERS = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
_JPEG = frozenset({".jfif", ".jpe", ".mpo"})  # other names of JPEG files, which trainers do not list


class ImageForm(NamedTuple):
    """How a dataset has an image.

    Attributes:
        file_name: the path of its file below ``images/SPLIT``.
        other_name: that of the other form; the same if there is one form, or both have one name.
        convert: as a PNG, instead of its own bytes.
        cause: why it is converted, in a few words; empty if it is not.
    """

    file_name: str
    other_name: str
    convert: bool = False
    cause: str = ""

    @property
    def file_names(self) -> list[str]:
        """Each name once."""
        return list(dict.fromkeys((self.file_name, self.other_name)))


def dataset_suffix(image_id: str) -> str:
    """The suffix of the image's file in the dataset, one that trainers list."""
    name, frame = split_frame(image_id)
    suffix = suffix_of(name)
    if suffix.lower() in _READ_BY_TRAINERS and not frame:
        return suffix
    return ".jpg" if suffix.lower() in _JPEG and not frame else CONVERTED


def is_converted(image_id: str) -> bool:
    """Whether the dataset has the image as a PNG instead of its own bytes."""
    name, frame = split_frame(image_id)
    return frame > 0 or (dataset_suffix(image_id) == CONVERTED and suffix_of(name).lower() != CONVERTED)


def converted_name(name: str) -> str:
    """The name of an image's file once it is converted to PNG."""
    suffix = suffix_of(name)
    return name if suffix.lower() == CONVERTED else name.removesuffix(suffix) + CONVERTED


def names_unconverted(names: Mapping[str, str]) -> dict[str, str]:
    """The names that images have if only those are converted that ``is_converted`` names.

    Args:
        names: by image id, as a dataset has them; names that an image may not have any more are left out, since earlier
            versions kept every suffix.
    """
    found = {}
    for image_id, name in names.items():
        suffix, wanted = suffix_of(name), dataset_suffix(image_id)
        if suffix == wanted:
            found[image_id] = name
        elif suffix == CONVERTED:
            found[image_id] = name.removesuffix(CONVERTED) + wanted
    return found


def shows_image(name: str) -> bool:
    """Whether a file that an export wrote for an image is that image."""
    if name.startswith(("hf/", "roboflow/")):
        return not name.endswith((hugging_face.METADATA, roboflow.ANNOTATIONS))
    return name.startswith(("images/", "voc/JPEGImages/"))


class FileNames:
    """Assigns a unique file name to every image, in the folders of the input. An image keeps its name.

    Names do not differ only in case, since some file systems ignore case.

    Args:
        given: names assigned before, by image id.
        unchanged: ids of images whose name is their id.
    """

    def __init__(self, given: Mapping[str, str], unchanged: Collection[str] = frozenset()) -> None:
        self._given = names_unconverted(given)
        self._unchanged = names_unconverted({image_id: image_id for image_id in unchanged}).keys()
        self._labels: set[str] = set()  # label files, case-folded
        self._folders: set[str] = set()  # case-folded
        for names in (self._given.values(), self._unchanged):
            for name in names:
                self._take(name)

    def give(self, image_id: str) -> str:
        """The name for an image; call it once per image."""
        if image_id in self._unchanged:
            return image_id
        if image_id in self._given:
            return self._given[image_id]
        file, frame = split_frame(image_id)
        path, suffix = PurePosixPath(file), dataset_suffix(image_id)
        stem = f"{path.stem}_{frame:04d}" if frame else path.stem
        folder = ""
        for part in path.parent.parts:
            folder = self._folder(folder, "images_" if part == "images" else part)
        count, number = 1, ""
        longest = NAME_BYTES - max(len(suffix.encode()), len(LABEL_SUFFIX))
        while True:
            name = f"{folder}{_cut(stem, longest - len(number))}{number}{suffix}"
            if self._is_free(name):
                self._take(name)
                return name
            count += 1
            number = f"_{count}"

    def _folder(self, parent: str, part: str) -> str:
        """The path of the folder ``part`` in ``parent``, under another name if a file has its name."""
        part = _cut(part, NAME_BYTES)
        while self._is_file(f"{parent}{part}"):
            part = f"{_cut(part, NAME_BYTES - 1)}_"
        return f"{parent}{part}/"

    def _is_file(self, folder: str) -> bool:
        """Whether this is the path of a label file, or may be that of an image."""
        if folder.casefold() in self._labels:
            return True
        return PurePosixPath(folder).suffix.lower() in image_extensions() and _label_of(folder) in self._labels

    def _is_free(self, name: str) -> bool:
        label = _label_of(name)
        both = name.casefold(), converted_name(name).casefold()
        return label not in self._labels and self._folders.isdisjoint((label, *both))

    def _take(self, name: str) -> None:
        self._labels.add(_label_of(name))
        folder = name.rpartition("/")[0].casefold()
        while folder and folder not in self._folders:
            self._folders.add(folder)
            folder = folder.rpartition("/")[0]


def _label_of(name: str) -> str:
    """The label file of an image, case-folded."""
    path = PurePosixPath(name)
    return str(path.with_name(path.stem + LABEL_SUFFIX)).casefold()


def _cut(text: str, most: int) -> str:
    """``text``, cut to at most this many bytes of UTF-8."""
    return text.encode()[:most].decode(errors="ignore")
