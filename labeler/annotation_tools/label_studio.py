"""Review sets for Label Studio: tasks with predictions (https://labelstud.io/guide/predictions), and its masks.

``label_studio_reader`` reads its corrections. Masks have Label Studio's own run-length encoding, that of
``@thi.ng/rle-pack``, over the bytes of an RGBA image in row order; see ``label_studio_sdk.converter.brush``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np

from labeler.annotation_tools.corrections import SentImage
from labeler.geometry.masks import Rle, mask_to_rle, rle_to_mask
from labeler.sizes import checked_size

BRUSH, IMAGE = "mask", "image"  # names of tags in the labeling configuration
SCORE_DIGITS = 6
_RUN_BITS = (3, 4, 8, 16)  # bits of a run length, as Label Studio writes them
_LONGEST = 2**16


def rle_to_brush(rle: Rle) -> list[int]:
    """A mask as Label Studio's RLE: the same bytes as ``mask2rle`` of ``label_studio_sdk``.

    All four channels are 255 in the mask and 0 elsewhere.
    """
    flat = rle_to_mask(rle).ravel()
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    lengths = np.diff(np.append(starts, flat.size)) * 4
    bits = [f"{flat.size * 4:032b}{8 - 1:05b}", *(f"{size - 1:04b}" for size in _RUN_BITS)]
    for value, length in zip(flat[starts].tolist(), lengths.tolist(), strict=True):
        byte = "11111111" if value else "00000000"
        if length <= 256:
            size = next(place for place, width in enumerate(_RUN_BITS) if length <= 2**width)
            bits.append(f"1{size:02b}{length - 1:0{_RUN_BITS[size]}b}{byte}")
            continue
        whole, rest = divmod(length - 1, _LONGEST)
        bits += [f"111{_LONGEST - 1:016b}{byte}"] * whole
        bits.append(f"111{rest:016b}{byte}")
    text = "".join(bits)
    text += "0" * (8 - len(text) % 8)  # mask2rle also pads by a whole byte where no padding is needed
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))


def brush_to_rle(encoded: Sequence[int], width: int, height: int) -> Rle:
    """The mask in Label Studio's RLE: where alpha is at least one half. Alpha fades along strokes drawn by hand.

    Raises:
        ValueError: the RLE is cut short, or is of an image of another size.
    """
    width, height = checked_size(width, height)
    if not isinstance(encoded, (list, tuple)):  # bytes(n) would be n zeros
        raise ValueError("the RLE of a brush region is not a list of bytes")
    data = bytes(encoded)
    bits = f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}"
    place = 0

    def read(count: int) -> int:
        nonlocal place
        place += count
        if place > len(bits):
            raise ValueError("the RLE of a brush region is cut short")
        return int(bits[place - count : place], 2)

    if read(32) != width * height * 4:
        raise ValueError(f"the RLE of a brush region is not that of an image of {width} x {height} pixels")
    word = read(5) + 1
    run_bits = [read(4) + 1 for _ in range(4)]
    alpha = np.zeros(width * height, dtype=np.bool_)
    done, size = 0, alpha.size * 4
    while done < size:
        is_run, bits_of_length = read(1), run_bits[read(2)]
        end = done + read(bits_of_length) + 1
        if end > size:
            raise ValueError("the RLE of a brush region is longer than the image")
        # Alpha is every fourth value, at 3, 7, 11, …
        first, last = done // 4, end // 4
        if is_run:
            alpha[first:last] = read(word) >= 128
        else:
            alpha[first:last] = [read(word) >= 128 for _ in range(done, end)][3 - done % 4 :: 4]
        done = end
    return mask_to_rle(alpha.reshape(height, width))


def labeling_config(class_names: Sequence[str]) -> str:
    """The labeling configuration for a project with these tasks: a brush for each class."""
    labels = "\n".join(f"    <Label value={quoteattr(name)}/>" for name in class_names)
    return (
        f'<View>\n  <Image name="{IMAGE}" value="$image" zoom="true" zoomControl="true"/>\n'
        f'  <BrushLabels name="{BRUSH}" toName="{IMAGE}">\n{labels}\n  </BrushLabels>\n</View>\n'
    )


def write_label_studio(folder: Path, images: Iterable[SentImage], class_names: Sequence[str], url: str) -> None:
    """Write ``tasks.json`` and ``labeling_config.xml`` into ``folder``.

    Args:
        url: prefix of every image URL, such as ``/data/local-files/?d=set/images/``.
    """
    (folder / "labeling_config.xml").write_text(labeling_config(class_names), encoding="utf-8", newline="\n")
    with open(folder / "tasks.json", "w", encoding="ascii") as file:
        file.write("[")
        for number, image in enumerate(images):
            file.write((",\n" if number else "\n") + json.dumps(_task(image, url)))
        file.write("\n]\n")


def _task(image: SentImage, url: str) -> dict[str, Any]:
    result = [
        {
            "id": each.object_id,
            "type": "brushlabels",
            "from_name": BRUSH,
            "to_name": IMAGE,
            "original_width": image.width,
            "original_height": image.height,
            "image_rotation": 0,
            "score": round(each.score, SCORE_DIGITS),
            "value": {"format": "rle", "rle": rle_to_brush(each.rle), "brushlabels": [each.class_name]},
        }
        for each in image.instances
    ]
    score = round(min((each.score for each in image.instances), default=0.0), SCORE_DIGITS)
    prediction = {"model_version": "labeler", "score": score, "result": result}
    return {"data": {"image": url + quote(image.name)}, "predictions": [prediction]}
