import torch
from torch import nn

from .parts import TAGS, WIDTH, load
from .ram import RAM

DESCRIPTIONS = 3


class RAM_plus(RAM):
    """Each tag has several descriptions, weighed by the image."""

    def __init__(self, **options):
        super().__init__(**options)
        self.label_embed = nn.Parameter(torch.zeros(len(TAGS) * DESCRIPTIONS, WIDTH))

    def labels(self, image_embeds):
        whole = nn.functional.normalize(image_embeds[:, 0], dim=-1)
        weights = (whole @ self.label_embed.T).view(len(whole), -1, DESCRIPTIONS).softmax(2)
        weighed = (weights.unsqueeze(-1) * self.label_embed.view(-1, DESCRIPTIONS, WIDTH)).sum(2)
        return torch.relu(self.wordvec_proj(weighed))

    def generate_tag(self, image):
        return super().generate_tag(image)


def ram_plus(pretrained="", **options):
    return load(RAM_plus(**options), pretrained) if pretrained else RAM_plus(**options)
