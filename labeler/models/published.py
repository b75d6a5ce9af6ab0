"""Sizes and licences of published checkpoints, as `labeler models` lists them."""

from __future__ import annotations

from dataclasses import dataclass

ARCHITECTURE = "parameters of the architecture, as transformers builds it, times 4 bytes"
SAM2 = "parameters in the SAM 2 repository times 4 bytes"
ZOO = "FiftyOne's model zoo"


@dataclass(frozen=True)
class Published:
    """What is published about a checkpoint.

    Attributes:
        megabytes: size of the download, rounded.
        size_from: where the size is from.
        licence: of the weights.
        gated: it can be downloaded only with an account that has accepted its licence.
    """

    megabytes: int
    size_from: str
    licence: str
    gated: bool = False

    def __str__(self) -> str:
        return f"about {self.size}, {self.licence}{', gated' if self.gated else ''}"

    @property
    def size(self) -> str:
        return f"{self.megabytes / 1000:.1f} GB" if self.megabytes >= 100 else f"{self.megabytes} MB"


PUBLISHED = {
    "embedded:detector": Published(4, "ships with the package", "Apache-2.0"),
    "embedded:segmenter": Published(3, "ships with the package", "Apache-2.0"),
    "iSEE-Laboratory/llmdet_tiny": Published(700, ZOO, "Apache-2.0"),
    "iSEE-Laboratory/llmdet_large": Published(1400, ZOO, "Apache-2.0"),
    "openmmlab-community/mm_grounding_dino_base_all": Published(
        900, ARCHITECTURE, "see its page (MMDetection, where it was trained: Apache-2.0)"
    ),
    "facebook/sam2.1-hiera-tiny": Published(200, SAM2, "Apache-2.0"),
    "facebook/sam2.1-hiera-base-plus": Published(300, SAM2, "Apache-2.0"),
    "facebook/sam2.1-hiera-large": Published(900, SAM2, "Apache-2.0"),
    "facebook/sam3": Published(3400, ARCHITECTURE, "SAM License", gated=True),
}
