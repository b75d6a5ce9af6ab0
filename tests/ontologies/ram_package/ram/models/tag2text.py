import torch
from torch import nn

from .parts import TAGS, WIDTH, TaggingHead, VisualEncoder, add_tags, decide, load


class GroupWiseLinear(nn.Module):
    """A weight row for each tag: (B, tags, WIDTH) to (B, tags)."""

    def __init__(self):
        super().__init__()
        self.W = nn.Parameter(torch.zeros(1, len(TAGS), WIDTH))
        self.b = nn.Parameter(torch.zeros(1, len(TAGS)))

    def forward(self, x):
        return (self.W * x).sum(-1) + self.b


class Tag2Text(nn.Module):
    def __init__(self, image_size=384, vit="base", prompt="a picture of ", threshold=0.68, delete_tag_index=(2, 7)):
        super().__init__()
        assert vit == "swin_b"
        self.visual_encoder = VisualEncoder()
        self.label_embed = nn.Embedding(len(TAGS), WIDTH)
        self.tagging_head = TaggingHead()
        self.fc = GroupWiseLinear()
        self.prompt_length = len(prompt.split()) + 1
        add_tags(self, list(delete_tag_index))

    def generate(
        self,
        image,
        sample=False,
        num_beams=3,
        max_length=30,
        min_length=10,
        top_p=0.9,
        repetition_penalty=1.0,
        tag_input=None,
        return_tag_predict=False,
    ):
        if not self.prompt_length < max_length or min_length > max_length:
            raise ValueError(f"no room for a caption: {min_length} to {max_length} tokens")
        if tag_input is None:
            image_embeds = self.visual_encoder(image)
            labels = self.label_embed.weight.unsqueeze(0).repeat(len(image), 1, 1)
            atts = torch.ones(image_embeds.shape[:-1], dtype=torch.long, device=image.device)
            embeds = self.tagging_head(labels, image_embeds, atts, return_dict=False, mode="tagging")[0]
            tag_input = decide(self, self.fc(embeds))[1]
        captions = [f"{names} in a picture" for names in tag_input]
        return (captions, tag_input) if return_tag_predict else captions


def tag2text(pretrained="", **options):
    return load(Tag2Text(**options), pretrained) if pretrained else Tag2Text(**options)
