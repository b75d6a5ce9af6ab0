"""Tiny SigLIP, SigLIP 2 and CLIP models with random weights, and weights for the stand-in of ``ram``."""

from __future__ import annotations

import string
import sys
from pathlib import Path
from typing import Any

import torch

SIDE = 32
RAM_PACKAGE = Path(__file__).parents[1] / "ontologies" / "ram_package"  # goes on sys.path
IMAGE_KINDS = ("siglip", "siglip2", "clip")


def _tokenizer(length: int, ends: bool) -> Any:
    """A tokenizer with a token per character, and the end-of-text token that CLIP needs."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"<pad>": 0, "<end>": 1, "<unk>": 2}
    for character in string.ascii_letters + string.digits + " .,-":
        vocabulary[character] = len(vocabulary)
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    if ends:
        tokenizer.post_processor = processors.TemplateProcessing(single="$A <end>", special_tokens=[("<end>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<end>", unk_token="<unk>", model_max_length=length
    )


def _vision(**more: Any) -> dict[str, Any]:
    return {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64, **more}


def tiny_contrastive(kind: str) -> tuple[Any, Any]:
    """(model, processor) with random weights, the same every time."""
    import transformers as t

    text = {**_vision(), "vocab_size": 80, "max_position_embeddings": 48}
    image = {"size": {"height": SIDE, "width": SIDE}}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        if kind == "siglip":
            config = t.SiglipConfig(text_config=text, vision_config=_vision(image_size=SIDE, patch_size=8))
            model: Any = t.SiglipModel(config)
            image_processor: Any = t.SiglipImageProcessor(**image)
        elif kind == "siglip2":
            vision = _vision(num_patches=16, patch_size=8)
            model = t.Siglip2Model(t.Siglip2Config(text_config=text, vision_config=vision))
            image_processor = t.Siglip2ImageProcessor(patch_size=8, max_num_patches=16)
        else:
            config = t.CLIPConfig(
                text_config={**text, "eos_token_id": 1, "bos_token_id": 2, "pad_token_id": 0},
                vision_config=_vision(image_size=SIDE, patch_size=8),
                projection_dim=24,
            )
            model = t.CLIPModel(config)
            image_processor = t.CLIPImageProcessor(
                size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
            )
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                torch.nn.init.normal_(parameter, std=0.3)
    processor = {"siglip": t.SiglipProcessor, "siglip2": t.Siglip2Processor, "clip": t.CLIPProcessor}[kind]
    return model.eval(), processor(image_processor, _tokenizer(48, kind == "clip"))


def write_ram_weights(kind: str, path: Path, seed: int = 5) -> Path:
    from ram import models

    from ontologies.taggers.ram import KINDS

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = getattr(models, kind)(vit=KINDS[kind])
        state = {name: torch.randn_like(values) * 1.5 for name, values in model.state_dict().items()}
    torch.save({"model": state}, path)
    return path


def forget_ram() -> None:
    """Forget the package ``ram`` that a test imported, so that later ones do not find it."""
    for name in [name for name in sys.modules if name.split(".")[0] == "ram"]:
        del sys.modules[name]
