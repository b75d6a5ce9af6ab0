"""Stands in for the package ``ram`` (recognize-anything): its layout, signatures and rules, on models of a few weights.

So does what is rough in it: warnings silenced, printing while loading, tensors that ``Module.to`` does not move.
"""

from .inference import inference_ram, inference_tag2text
from .transform import get_transform

__all__ = ["get_transform", "inference_ram", "inference_tag2text"]
