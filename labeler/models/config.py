"""The settings of the models, and the presets."""

from __future__ import annotations

import re
from dataclasses import dataclass

from labeler.errors import UsageError
from labeler.setting import check, setting

DEVICES = ("auto", "cpu", "mps", "cuda", "cuda:N")
GROUP = "models"
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
PROMPT_SCORES = ("mean", "max")
AUTO_BATCH = "auto"
DEFAULT_BATCH, LARGEST_AUTO_BATCH = 8, 64
LEAST_IMAGE_SIZE, MOST_IMAGE_SIZE = 32, 4096  # pixels
AUTO_VERIFIER = "auto"  # the model of the tagger ``vocabulary``


@dataclass(frozen=True)
class Preset:
    """Models that go together, by hub id, the kind of labeler that uses them, and what they are good for.

    Attributes:
        segmenter: empty where one model does all.
    """

    detector: str
    segmenter: str
    about: str
    labeler: str = "grounded-sam"

    @property
    def models(self) -> dict[str, str]:
        """Its models by the flag that names them, without ``--``."""
        named = {"detector": self.detector, "segmenter": self.segmenter}
        return {role: source for role, source in named.items() if source}


PRESETS = {
    "demo": Preset("embedded:detector", "embedded:segmenter", "coloured shapes only; ships with the package"),
    "fast": Preset("iSEE-Laboratory/llmdet_tiny", "facebook/sam2.1-hiera-tiny", "a laptop, or a first look"),
    "balanced": Preset(
        "openmmlab-community/mm_grounding_dino_base_all", "facebook/sam2.1-hiera-base-plus", "one GPU, good masks"
    ),
    "best": Preset("iSEE-Laboratory/llmdet_large", "facebook/sam2.1-hiera-large", "best labels, slowest"),
    "sam3": Preset("facebook/sam3", "", "words to masks in one model; gated", "sam3"),
}
DEFAULT_PRESET = "balanced"


@dataclass(frozen=True)
class ModelConfig:
    """Which models run, and how.

    Attributes:
        detector, segmenter: hub id (``owner/name`` or ``owner/name@revision``), folder, or ``embedded:…``; empty where
            the labeler has none.
        device: ``auto`` takes CUDA, then MPS, then the CPU.
        batch_size: with ``auto``, a run on CUDA doubles it while batches fit; elsewhere ``auto`` is the default.
        precision: ``auto`` is fp32 on CPU and MPS; on CUDA bf16 where the card has it, else fp16.
        prompts_per_caption: at most so many prompts in one forward of a grounding detector; None packs all that fit.
        prompt_score: what a grounding detector's scores of a prompt's tokens come to: their ``mean``, as in the COCO
            protocol, or their ``max``, as in Grounding DINO's demo code and in autodistill.
        verify: SigLIP or CLIP that scores the boxes of a detector without confidences, such as Florence-2; ``auto`` for
            that of the tagger ``vocabulary``; None leaves the scores at 1.0.
        detector_image_size: pixels of the shorter side that the detector scales images to, or of the square if it does
            not keep the aspect ratio; None for that of the checkpoint.
        segmenter_image_size: pixels of the side of the square that the segmenter works on.
        compile: run the parts that take most of the time by ``torch.compile``. This changes results by no more than
            another batch size or GPU does, so like these it is no part of what decides the records.
        floor: candidate floor. Labeling a new folder from the command line takes that of the model's family instead.
    """

    detector: str = setting(help="hub id or folder of the detector", metavar="ID", group=GROUP, unset="the preset's")
    segmenter: str = setting(help="hub id or folder of the segmenter", metavar="ID", group=GROUP, unset="the preset's")
    device: str = setting(
        "auto", "where the models run; auto: CUDA, else MPS, else CPU", metavar="|".join(DEVICES), group=GROUP
    )
    precision: str = setting(
        "auto", "auto: fp32 on CPUs, bf16 on GPUs that support it", choices=PRECISIONS, group=GROUP
    )
    batch_size: int | str = setting(
        DEFAULT_BATCH,
        f"maximum number of images per forward pass; auto: as many as fit into the GPU's memory, up to "
        f"{LARGEST_AUTO_BATCH}",
        metavar="N|auto",
        choices=(AUTO_BATCH,),
        group=GROUP,
        least=1,
    )
    prompts_per_caption: int | None = setting(
        None,
        "maximum number of prompts per forward pass of a grounding detector",
        metavar="N",
        group=GROUP,
        least=1,
        unset="as many as fit",
    )
    prompt_score: str = setting(
        "mean",
        "score of a prompt of a grounding detector: the mean over its tokens, or their max, as in its demo code",
        choices=PROMPT_SCORES,
        group=GROUP,
    )
    verify: str | None = setting(
        None,
        "score boxes of a detector without confidences (Florence-2) by this SigLIP or CLIP; auto: the tagger's model",
        metavar="auto|ID",
        group=GROUP,
        unset="their score is 1.0",
    )
    detector_image_size: int | None = setting(
        None,
        "scale images to this shorter side, in pixels, for the detector: fewer are faster, more find smaller objects",
        metavar="N",
        group=GROUP,
        least=LEAST_IMAGE_SIZE,
        most=MOST_IMAGE_SIZE,
        unset="as the checkpoint says",
    )
    segmenter_image_size: int | None = setting(
        None,
        "scale images to squares of this side, in pixels, for the segmenter",
        metavar="N",
        group=GROUP,
        least=LEAST_IMAGE_SIZE,
        most=MOST_IMAGE_SIZE,
        unset="as the checkpoint says",
    )
    compile: bool = setting(
        False,
        "compile the models for this machine (torch.compile): minutes once per process, then less time per image",
        group=GROUP,
    )
    floor: float = setting(
        0.1,
        "candidate floor: keep raw candidates with this class score or higher",
        metavar="P",
        group=GROUP,
        above=0,
        most=1,
    )
    max_instances: int = setting(300, "maximum number of raw candidates per image", metavar="N", group=GROUP, least=1)
    clean_share: float = setting(
        0.01,
        "remove specks and pinholes below this share of a mask; 0: keep them",
        metavar="P",
        group=GROUP,
        least=0,
        below=0.5,
    )

    def __post_init__(self) -> None:
        check(self)
        if not re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]+)?", self.device):
            raise UsageError(f"--device must be one of {', '.join(DEVICES)}, not {self.device!r}")

    @property
    def images_per_pass(self) -> int:
        """The batch size; the default, from which ``auto`` starts, if that is asked for."""
        return DEFAULT_BATCH if isinstance(self.batch_size, str) else self.batch_size
