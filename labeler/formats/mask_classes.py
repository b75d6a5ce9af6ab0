"""Which class each colour of mask images means: reads the files that say it, and writes ``labelmap.txt``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from labeler.errors import FormatError, UsageError
from labeler.files.storage import info, read_bytes

if TYPE_CHECKING:
    from labeler.files.storage import AnyPath

LABEL_MAP = "labelmap.txt"
CLASSES_CSV = "_classes.csv"
BACKGROUND = "background"
BINARY_CLASS = "object"
MOST = 254  # the largest value of a class in a mask; 0 is the background, and readers ignore 255


def mask_classes(folder: AnyPath) -> tuple[list[str], dict[int, int] | None, str]:
    """Class names, the class id of each colour (None for binary masks), and the name of the file that names them."""
    if info(folder / CLASSES_CSV) is not None:
        return *_read_classes_csv(folder / CLASSES_CSV), CLASSES_CSV
    for path in (folder / LABEL_MAP, folder.parent / LABEL_MAP):
        if info(path) is not None:
            return *_read_label_map(path), LABEL_MAP
    return [BINARY_CLASS], None, ""


def label_map(class_names: Sequence[str], colours: Sequence[Sequence[int]]) -> str:
    """The content of ``labelmap.txt``, as CVAT and datumaro write it: a line per class, in the order of the class ids.

    Args:
        colours: r, g, b of the background, then of each class.

    Raises:
        UsageError: a name is that of the background, or cannot be in the file.
    """
    check_mask_classes(class_names)
    named = zip([BACKGROUND, *class_names], colours, strict=False)
    lines = [f"{name}:{','.join(map(str, colour))}::" for name, colour in named]
    return "".join(f"{line}\n" for line in ["# label:color_rgb:parts:actions", *lines])


def check_mask_classes(class_names: Sequence[str]) -> None:
    """Refuse classes that masks with a class per pixel, or their label map, cannot hold.

    Raises:
        UsageError: there are too many, or a name is that of the background or cannot be in the file.
    """
    check_count(len(class_names))
    for name in class_names:
        if ":" in name or name.startswith("#") or len(name.splitlines()) != 1 or name.casefold() == BACKGROUND:
            raise UsageError(
                f"class {name!r}: {LABEL_MAP} cannot hold the name {BACKGROUND!r}, nor one with a colon, a line break "
                "or a # in front; rename the class"
            )


def check_count(classes: int) -> None:
    """Raises UsageError if there are more classes than masks can tell apart."""
    if classes > MOST:
        raise UsageError(f"masks with a class per pixel hold {MOST} classes, not {classes}; use another format")


def _read_label_map(path: AnyPath) -> tuple[list[str], dict[int, int]]:
    """Class names, and colour (``0xRRGGBB``) -> class id, with -1 for the background."""
    entries = []
    for where, line in _lines(path):
        name, _, rest = line.partition(":")
        try:
            red, green, blue = map(int, rest.partition(":")[0].split(","))
            if not name.strip() or not all(0 <= value <= 255 for value in (red, green, blue)):
                raise ValueError
        except ValueError:
            raise FormatError(f"{where}: expected name:r,g,b:: with values from 0 to 255") from None
        entries.append((where, name.strip(), red << 16 | green << 8 | blue))
    return _numbered(entries)


def _read_classes_csv(path: AnyPath) -> tuple[list[str], dict[int, int]]:
    """As ``_read_label_map``, from lines ``value, name`` below a heading; a value is a grey colour."""
    entries = []
    for where, line in list(_lines(path))[1:]:
        value, _, name = line.partition(",")
        if not value.strip().isdecimal() or int(value) > 255 or not name.strip():
            raise FormatError(f"{where}: expected a pixel value from 0 to 255, a comma and the name of a class")
        entries.append((where, name.strip(), int(value) * 0x010101))
    return _numbered(entries)


def _lines(path: AnyPath) -> Iterator[tuple[str, str]]:
    """The lines that are neither empty nor comments, each with file and number."""
    try:
        lines = read_bytes(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: not a text file ({error})") from error
    for number, line in enumerate(map(str.strip, lines), start=1):
        if line and not line.startswith("#"):
            yield f"{path}:{number}", line


def _numbered(entries: Sequence[tuple[str, str, int]]) -> tuple[list[str], dict[int, int]]:
    """Class names, and colour -> class id, of entries (where, name, colour); black is the background by default."""
    names: list[str] = []
    colours: dict[int, int] = {}
    for where, name, colour in entries:
        if colour in colours:
            raise FormatError(f"{where}: an earlier line has the same colour; give each class its own")
        is_background = name.casefold() == BACKGROUND
        colours[colour] = -1 if is_background else len(names)
        names += [] if is_background else [name]
    return names, {0: -1, **colours}
