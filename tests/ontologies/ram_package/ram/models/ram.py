import numpy as np
import torch
from torch import nn

from .parts import CHINESE, TAGS, WIDTH, TaggingHead, VisualEncoder, add_tags, decide, load


class RAM(nn.Module):
    def __init__(self, image_size=384, vit="base", threshold=0.68, delete_tag_index=()):
        super().__init__()
        assert vit == "swin_l"
        self.visual_encoder = VisualEncoder()
        self.image_proj = nn.Linear(WIDTH, WIDTH)
        self.wordvec_proj = nn.Linear(WIDTH, WIDTH)
        self.label_embed = nn.Parameter(torch.zeros(len(TAGS), WIDTH))
        self.tagging_head = TaggingHead()
        self.fc = nn.Linear(WIDTH, 1)
        self.tag_list_chinese = np.array(CHINESE)
        add_tags(self, list(delete_tag_index))

    def labels(self, image_embeds):
        return torch.relu(self.wordvec_proj(self.label_embed)).unsqueeze(0).repeat(len(image_embeds), 1, 1)

    def generate_tag(self, image, threshold=0.68, tag_input=None):
        image_embeds = self.image_proj(self.visual_encoder(image))
        atts = torch.ones(image_embeds.shape[:-1], dtype=torch.long, device=image.device)
        embeds = self.tagging_head(self.labels(image_embeds), image_embeds, atts, return_dict=False, mode="tagging")[0]
        chosen, english = decide(self, self.fc(embeds).squeeze(-1))
        return english, [" | ".join(self.tag_list_chinese[row]) for row in chosen]


def ram(pretrained="", **options):
    return load(RAM(**options), pretrained) if pretrained else RAM(**options)
