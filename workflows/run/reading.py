"""What users are told about how their images were read: what was left out, scaled or converted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from labeler.models.kinds.kind import LabelerKind
from labeler.models.kinds.tiled import tiles_of

if TYPE_CHECKING:
    from workflows.run.shard_report import ShardReport

_KINDS = {
    "camera RAW": ".3fr .arw .cr2 .cr3 .dng .erf .kdc .nef .nrw .orf .pef .raf .raw .rw2 .rwl .sr2 .srf .srw .x3f",
    "video": ".3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .webm .wmv",
    "document": ".ai .doc .docx .eps .indd .pdf .ppt .pptx .ps",
    "drawing": ".cdr .dxf .emf .svg .svgz .wmf",
    "medical": ".dcm .dicom .mha .mhd .nii .nrrd",
    "layered": ".kra .psb .xcf",
    "high dynamic range": ".exr .hdr .jxr",
    "JPEG XL": ".jxl",
    "data": ".h5 .hdf5 .mat .npy .npz",
    "archive": ".7z .gz .rar .tar .tgz .zip",
}
_KIND_OF = {extension: kind for kind, extensions in _KINDS.items() for extension in extensions.split()}


def not_read_line(not_read: Mapping[str, int]) -> str:
    """The files of the input that are not read, by extension: known kinds of images and films first."""
    ordered = sorted(not_read.items(), key=lambda each: (each[0] not in _KIND_OF, -each[1], each[0]))
    named = [f"{count} {name}" + (f" ({_KIND_OF[name]})" if name in _KIND_OF else "") for name, count in ordered]
    more = f" and {len(named) - 12} more kinds" if len(named) > 12 else ""
    return f"not read: {', '.join(named[:12])}{more}; convert what is an image to JPEG or PNG"


def reading_lines(done: ShardReport) -> Iterator[str]:
    """What happened to the images that were read in this run."""
    if done.scaled:
        kinds = ", ".join(f"{name} ({count})" for name, count in done.scaled.most_common())
        images = _images(done.scaled.total())
        yield f"{images} of more than 8 bits per channel scaled from {kinds}; --intensity changes that"
    if done.further_frames:
        images = _images(done.with_frames)
        yield f"{done.further_frames} further pages or frames of {images} not read; --frames all labels them, too"


def kept_deep_line(done: ShardReport) -> str:
    """What trainers make of images that were scaled for labeling; empty if there are none."""
    if not done.kept_deep:
        return ""
    return (
        f"{_images(done.kept_deep)} of more than 8 bits per channel keep their bytes in the dataset, and trainers that "
        "expect 8 bits read them darker than they were labeled, or not at all; convert them to 8-bit PNG in another "
        "folder, and label that"
    )


def untiled_line(done: ShardReport, labeler: LabelerKind) -> str:
    """That tiles were asked for in vain, since no image is large enough; empty if that is not so."""
    tiles = tiles_of(labeler)
    if tiles is None or not 0 < done.longest_side < tiles.least_side:
        return ""
    return (
        f"--tile {tiles.asked}: only images with a side of {tiles.least_side} pixels or more are divided, and the "
        f"longest here has {done.longest_side}, so all were labeled whole only"
        + ("" if tiles.size is None else "; choose a smaller tile")
    )


def reading_figures(not_read: Mapping[str, int], done: ShardReport) -> dict[str, Any]:
    """The same for ``summary.json``."""
    return {
        "not_read": dict(not_read),
        "scaled": dict(done.scaled),
        "kept_deep": done.kept_deep,
        "frames_not_read": done.further_frames,
    }


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"
