"""What a vocabulary's size costs: embedding it once, and tagging an image with it.

    python benchmarks/vocabulary_cost.py [--words 50 500 5000] [--images 64] [--size small]

SigLIP on the CPU, small or (``base``) of the size of ``google/siglip-base-patch16-224``. Its weights are random, which
costs the same.
"""

from __future__ import annotations

import argparse
import math
import statistics
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


ROUNDS = 5


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
    # As a trained SigLIP has them: most words score next to nothing, and are not reported.
    model.logit_scale.data.fill_(math.log(117))
    model.logit_bias.data.fill_(-16)
    processor = Processor()
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (480, 640, 3), dtype=np.uint8) for _ in range(args.images)]
    print("words   embedded in s   ms an image")
    taggers, embedded = [], []
    for count in args.words:
        words = [f"thing {number}" for number in range(count)]
        started = time.perf_counter()
        embeddings = embed_texts(model, processor, words)
        embedded.append(time.perf_counter() - started)
        taggers.append(VocabularyTagger(model, processor, words, embeddings))
    times: list[list[float]] = [[] for _ in taggers]
    for round_ in range(ROUNDS + 1):  # in turns, so that all see the same machine; the first warms up
        for tagger, found in zip(taggers, times, strict=True):
            started = time.perf_counter()
            tagger.tag(images)
            if round_:
                found.append(1e3 * (time.perf_counter() - started) / len(images))
    costs = [statistics.median(found) for found in times]
    for row in zip(args.words, embedded, costs, strict=True):
        print("{:5}   {:13.1f}   {:11.1f}".format(*row))
    print(f"an image with {args.words[-1]} words / with {args.words[0]}: {costs[-1] / costs[0]:.2f}")


if __name__ == "__main__":
    main()
