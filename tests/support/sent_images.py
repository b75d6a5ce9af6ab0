"""A review set as it goes to a tool."""

from __future__ import annotations

from labeler.annotation_tools.corrections import SentImage, SentInstance
from labeler.decisions import Decision
from labeler.geometry.masks import mask_to_rle
from tests.support.hard_masks import HARD_MASKS, Mask, random_masks

CLASSES = ["cat", 'großer "Hund" & <co>']


def sent_image(name: str, *masks: Mask) -> SentImage:
    """The instances are of the two classes in turn, of scores 0.25, 0.26, …"""
    height, width = masks[0].shape
    instances = tuple(
        SentInstance(
            f"0a1b2c3d-{name}{index}",
            Decision(f"folder/{name}", "accept", CLASSES[index % 2], mask_to_rle(mask)),
            0.25 + index / 100,
        )
        for index, mask in enumerate(masks)
    )
    return SentImage(f"folder/{name}", name, width, height, instances)


def hard_images() -> list[SentImage]:
    """Every mask with what is left of its image, if anything."""
    masks = [*HARD_MASKS.values(), *random_masks(20)]
    pairs = ([mask, ~mask] if not mask.all() else [mask] for mask in masks)
    return [sent_image(f"{number} ü.png", *pair) for number, pair in enumerate(pairs)]
