"""What a vocabulary's size costs: embedding it once, and tagging an image with it.

    python benchmarks/vocabulary_cost.py [--words 50 500 5000] [--images 64] [--size small]

SigLIP on the CPU, small or (``base``) of the size of ``google/siglip-base-patch16-224``. Its weights are random, which
costs the same.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel

from labeler.demo.tiny_detector import demo_tokenizer
from ontologies.taggers.vocabulary import VocabularyTagger, embed_texts

SIZES = {
    "base": {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072},
    "small": {"hidden_size": 192, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 768},
}


class Processor:
    def __init__(self) -> None:
        self.image_processor = SiglipImageProcessor(size={"height": 224, "width": 224})
        self.tokenizer = demo_tokenizer()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, nargs="+", default=[50, 500, 5000])
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--size", choices=SIZES, default="small")
    args = parser.parse_args()
    torch.manual_seed(0)
    model = SiglipModel(SiglipConfig(text_config=SIZES[args.size], vision_config=SIZES[args.size])).eval()
    processor = Processor()
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (480, 640, 3), dtype=np.uint8) for _ in range(args.images)]
    print("words   embedded in s   ms an image")
    costs = []
    for count in args.words:
        words = [f"thing {number}" for number in range(count)]
        started = time.perf_counter()
        embeddings = embed_texts(model, processor, words)
        embedded = time.perf_counter() - started
        tagger = VocabularyTagger(model, processor, words, embeddings)
        tagger.tag(images[:2])
        started = time.perf_counter()
        tagger.tag(images)
        costs.append(1e3 * (time.perf_counter() - started) / len(images))
        print(f"{count:5}   {embedded:13.1f}   {costs[-1]:11.1f}", flush=True)
    print(f"an image with {args.words[-1]} words / with {args.words[0]}: {costs[-1] / costs[0]:.2f}")


if __name__ == "__main__":
    main()
