"""What the three models share."""

import os
import warnings

import numpy as np
import torch
from torch import nn

warnings.filterwarnings("ignore")

WIDTH = 8
TAGS = ("train", "dog", "back", "cat", "sky", "train", "tree", "two")
CHINESE = tuple(f"{name}*" for name in TAGS)
THRESHOLDS = (0.5, 0.45, 0.3, 0.5, 0.55, 0.5, 0.4, 0.3)


class VisualEncoder(nn.Module):
    """(B, 3, S, S) to (B, 1 + 16, WIDTH), a token for the whole image first."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Conv2d(3, WIDTH, 1))

    def forward(self, image):
        tokens = self.patches(image).flatten(2).transpose(1, 2)
        return torch.cat([tokens.mean(1, keepdim=True), tokens], dim=1)


class TaggingHead(nn.Module):
    """One cross-attention from tags to image tokens."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, encoder_embeds, encoder_hidden_states, encoder_attention_mask, return_dict, mode):
        assert mode == "tagging"
        assert not return_dict
        image = encoder_hidden_states
        return (self.attention(encoder_embeds, image, image)[0], None)


def decide(model, logits):
    """Rows of "name | name", by the model's thresholds, without the deleted tags."""
    chosen = (torch.sigmoid(logits) > model.class_threshold.to(logits.device)).cpu().numpy()
    chosen[:, model.delete_tag_index] = False
    return chosen, [" | ".join(model.tag_list[row]) for row in chosen]


def add_tags(model, delete_tag_index):
    model.tag_list = np.array(TAGS)
    model.num_class = len(TAGS)
    model.class_threshold = torch.tensor(THRESHOLDS)
    model.delete_tag_index = delete_tag_index


def load(model, path):
    if not os.path.isfile(path):
        raise RuntimeError("checkpoint url or path is invalid")
    model.load_state_dict(torch.load(path, map_location="cpu")["model"], strict=False)
    print("load checkpoint from", path)
    return model
