"""Weights at the precision that a model computes in."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import nn

# Autocast runs these at the lower precision, and for that casts their weights in every forward pass.
CAST = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def lower_weights(model: Any, dtype: torch.dtype) -> None:
    """Cast the weights that ``torch.autocast`` would cast to ``dtype`` each time they are used, in place.

    Under autocast, the results keep their bits. Everything else stays in float32: norms, embeddings, parameters that a
    model uses by itself, and weights that two modules share. float32 changes nothing.
    """
    if dtype == torch.float32:
        return
    users = Counter(id(parameter) for module in model.modules() for parameter in module._parameters.values())
    for module in model.modules():
        if type(module) in CAST:
            for parameter in module._parameters.values():
                if parameter is not None and parameter.dtype == torch.float32 and users[id(parameter)] == 1:
                    parameter.data = parameter.data.to(dtype)
