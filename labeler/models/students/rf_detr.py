"""The default student: RF-DETR with masks (arXiv 2511.09554, Apache-2.0), trained by ``transformers.Trainer``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import (
    RfDetrConfig,
    RfDetrDinov2Config,
    RfDetrForInstanceSegmentation,
    RfDetrImageProcessor,
    TrainerCallback,
    TrainingArguments,
)

from labeler.errors import LabelerError, ModelError, UsageError
from labeler.models.checkpoints import load_checkpoint
from labeler.models.config import ModelConfig
from labeler.models.detectors.detector import Image
from labeler.models.devices import resolved_device
from labeler.models.students.config import TrainConfig
from labeler.models.students.found import LEAST_SCORE, instances_of
from labeler.models.students.rf_detr_batches import LabeledImages, collate
from labeler.models.students.student import Progress, Step, StudentData, TrainedModel
from labeler.records import Instance

RANDOM_SIZE = 320
RANDOM_RATE, TUNING_RATE = 1e-3, 1e-4
WARM_UP_STEPS, WARM_UP_SHARE = 100, 0.05  # whichever is more, but at most half of the steps
CLASS = "RfDetrForInstanceSegmentation"


class RfDetrStudent:
    """See ``Student``. The folder is a checkpoint of ``transformers``, which ``--detector`` takes."""

    def train(self, dataset: StudentData, config: TrainConfig, folder: Path, progress: Progress) -> TrainedModel:
        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        transformers.set_seed(config.seed)
        checkpoints = folder / "training" / "checkpoints"
        last = _last(checkpoints)
        if last is not None:
            # The Trainer would not find the weights: save_pretrained writes them under the names of their authors.
            model = RfDetrForInstanceSegmentation.from_pretrained(last)
            processor = RfDetrImageProcessor.from_pretrained(last)
        else:
            model, processor = _random(dataset, config) if config.is_random else _published(dataset, config)
        try:
            arguments = _arguments(config, len(dataset.train), checkpoints)
        except ImportError as error:  # the package was updated without its new dependency
            raise ModelError("--student rf-detr needs accelerate: pip install 'accelerate>=1.1'") from error
        trainer = _Trainer(
            model=model,
            args=arguments,
            train_dataset=LabeledImages(dataset.train, processor),
            data_collator=collate,
            processing_class=processor,
            callbacks=[_Told(progress)],
        )
        trainer.remove_callback(transformers.PrinterCallback)
        try:
            trainer.train(resume_from_checkpoint=last)
        except LabelerError:
            raise
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise ModelError(f"training failed: {reason:.300}; try a lower --learning-rate or --batch-size") from error
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        return _trained(model.eval(), processor, dataset.class_names, folder)

    def load(self, class_names: Sequence[str], config: TrainConfig, folder: Path) -> TrainedModel:
        models = ModelConfig(str(folder), "", device=config.device, precision="fp32")
        model, processor, _ = load_checkpoint(str(folder), "student", CLASS, ("rf_detr",), models)
        return _trained(model, processor, class_names, folder)


def _random(dataset: StudentData, config: TrainConfig) -> tuple[Any, Any]:
    """A small model with random weights, of 2 million parameters."""
    side = config.image_size or RANDOM_SIZE
    patch = 16 if side > 192 else 8
    backbone = RfDetrDinov2Config(
        hidden_size=128, num_hidden_layers=6, num_attention_heads=4, mlp_ratio=2, image_size=side,
        patch_size=patch, num_windows=2, out_indices=[3, 6],
    )  # fmt: skip
    settings = RfDetrConfig(
        backbone_config=backbone, d_model=128, decoder_ffn_dim=256, decoder_layers=2, decoder_n_points=4,
        decoder_self_attention_heads=4, decoder_cross_attention_heads=4, group_detr=5,
        num_queries=min(50, (side // patch) ** 2),  # at most one for each patch
        c2f_num_blocks=2, dropout=0.0, **_names(dataset),
    )  # fmt: skip
    _check_side(side, settings)
    return RfDetrForInstanceSegmentation(settings), RfDetrImageProcessor(size={"height": side, "width": side})


def _published(dataset: StudentData, config: TrainConfig) -> tuple[Any, Any]:
    """A checkpoint, with a new layer for the classes of the dataset.

    Raises:
        ModelError: it cannot be found or loaded, or is of another type.
    """
    source = config.weights or config.kind.weights
    models = ModelConfig(source, "", device=config.device, precision="fp32")
    model, processor, _ = load_checkpoint(source, "weights", CLASS, ("rf_detr",), models)
    settings = model.config
    if config.image_size is not None:
        processor.size = {"height": config.image_size, "width": config.image_size}
    if dict(settings.id2label) != _names(dataset)["id2label"]:
        settings = RfDetrConfig(**{**settings.to_dict(), **_names(dataset)})
        renewed = RfDetrForInstanceSegmentation(settings)
        fresh = renewed.state_dict()
        kept = {name: value for name, value in model.state_dict().items() if fresh[name].shape == value.shape}
        renewed.load_state_dict({**fresh, **kept})
        model = renewed
    size = processor.size
    if not (size.get("height") and size.get("height") == size.get("width")):
        raise ModelError(f"--weights {source}: its images have no fixed square size; add --image-size")
    _check_side(size["height"], settings)
    return model.train(), processor


def _names(dataset: StudentData) -> dict[str, Any]:
    return {
        "id2label": dict(enumerate(dataset.class_names)),
        "label2id": {name: class_id for class_id, name in enumerate(dataset.class_names)},
    }


def _check_side(side: int, settings: Any) -> None:
    step = settings.backbone_config.patch_size * settings.backbone_config.num_windows
    if side % step:
        near = max(step, round(side / step) * step)
        raise UsageError(f"--image-size {side}: these weights need a multiple of {step}, such as {near}")


def _last(checkpoints: Path) -> str | None:
    """The last checkpoint that is whole, if any: its state is written after everything else."""
    whole = [state.parent for state in checkpoints.glob("checkpoint-*/trainer_state.json")]
    return str(max(whole, key=lambda folder: int(folder.name.rpartition("-")[2]))) if whole else None


def _arguments(config: TrainConfig, images: int, checkpoints: Path) -> TrainingArguments:
    device = resolved_device(config.device)
    steps = math.ceil(images / config.batch_size) * config.epochs
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size,
        learning_rate=config.learning_rate or (RANDOM_RATE if config.is_random else TUNING_RATE),
        weight_decay=1e-4,
        lr_scheduler_type="cosine",
        warmup_steps=min(max(WARM_UP_STEPS, round(WARM_UP_SHARE * steps)), steps // 2),
        max_grad_norm=1.0,
        save_strategy="epoch",
        save_total_limit=1,
        logging_strategy="steps",
        logging_steps=1,
        seed=config.seed,
        use_cpu=device == "cpu",
        dataloader_pin_memory=device == "cuda",
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to=[],
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # labels are lists, which DataParallel cannot divide
    return arguments


class _Trainer(transformers.Trainer):  # type: ignore[misc]
    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, **options: Any) -> Any:
        """The model's loss. Of a batch without an object it is an empty tensor; then its classification loss."""
        loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **options)
        if loss.numel() != 1:
            parts = [value for name, value in outputs["loss_dict"].items() if name.startswith("loss_ce")]
            loss = torch.stack(parts).sum()
        return (loss, outputs) if return_outputs else loss


class _Told(TrainerCallback):  # type: ignore[misc]
    """Tells the progress."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self._progress(Step(state.epoch, args.num_train_epochs, float(logs["loss"])))


def _trained(model: Any, processor: Any, class_names: Sequence[str], folder: Path) -> TrainedModel:
    @torch.inference_mode()
    def find(image: Image) -> list[Instance]:
        inputs = processor(images=image, input_data_format="channels_last", return_tensors="pt").to(model.device)
        (found,) = processor.post_process_instance_segmentation(
            model(**inputs), threshold=LEAST_SCORE, target_sizes=[image.shape[:2]], return_binary_maps=True
        )
        segments = found["segments_info"]
        if not segments:
            return []
        masks = np.asarray(found["segmentation"].cpu().numpy(), dtype=np.bool_)
        scores, labels = ([each[key] for each in segments] for key in ("score", "label_id"))
        return instances_of(masks, scores, labels, class_names)

    return TrainedModel(str(folder), find)
