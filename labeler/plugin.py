"""``GroundedSAM``, an autodistill model that replaces ``autodistill_grounded_sam.GroundedSAM``.

Coordinates of files and URLs are those of the EXIF-corrected image, as ``cv2.imread`` reads it; arrays and PIL images
are taken as they are.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from rich.progress import track

from labeler.errors import ImageError, UsageError
from labeler.files.given_images import Pixels, find_by_extension, pixels_of
from labeler.formats.autodistill import to_detections, write_data_yaml, write_image
from labeler.models.compiling import check_compile
from labeler.models.config import DEFAULT_BATCH, PRESETS, ModelConfig
from labeler.models.families import GENERAL, Family, check_prompt_score, check_verify, family_of
from labeler.models.image_sizes import check_image_sizes
from labeler.models.kinds.grounded_sam import GroundedSamKind
from labeler.models.kinds.kind import LabelerKind
from labeler.models.kinds.kinds import made_kind, preset_models
from labeler.models.labelers.grounded_sam import GroundedSamLabeler
from labeler.models.labelers.labeler import Labeler, LabelRequest
from labeler.models.loading import load_grounded_sam
from labeler.opencv import opencv
from labeler.quality import judge
from labeler.quality_config import QualityConfig
from labeler.records import ImageRecord
from ontologies import Ontology, from_caption_ontology

try:
    import roboflow
    import supervision as sv
    from autodistill.detection import CaptionOntology, DetectionBaseModel
    from autodistill.detection.detection_base_model import NmsSetting
except ImportError:
    opencv()  # supervision imports OpenCV; if that is the cause, this says so in one line
    raise

logger = logging.getLogger(__name__)

DECODE_THREADS = 4
LEAST_FLOOR = 0.01  # the lowest box_threshold that has an effect


class _Unset(float):
    """The default of an argument, where model families on other scales have their own."""


class GroundedSAM(DetectionBaseModel):  # type: ignore[misc]  # autodistill is not typed
    """Grounding DINO finds boxes, SAM turns them into masks, and the quality gate keeps the good ones.

    Any other kind of labeler can take their place.

    Args:
        ontology: autodistill's ``CaptionOntology``. Several prompts may name the same class. ``set_ontology`` changes
            it later.
        box_threshold: minimum detector score of a box. It may be changed later. It overrides ``quality.min_score``; if
            it is lower than that, the gate's joint thresholds are lowered in proportion. Where it is not given, models
            that score on another scale than Grounding DINO have the one of their family, see
            ``labeler.models.families``.
        text_threshold: accepted for compatibility, without effect. It has none in the original either, where it selects
            the tokens of a label that is then overwritten.
        model: one of ``labeler.models.config.PRESETS``.
        detector, segmenter: hub id or folder of another model than the preset's.
        labeler: another kind of labeler than the preset's: its name, as ``--labeler`` takes it, or any ``LabelerKind``.
        device, precision, batch_size, prompts_per_caption, prompt_score, verify, detector_image_size,
            segmenter_image_size, compile: see ``ModelConfig``. autodistill's own ``GroundedSAM`` has the
            ``prompt_score`` ``max``.
        quality: the gate's other thresholds; by default those of the model's family. Only accepted instances are
            returned.

    Raises:
        OntologyError: ``ontology`` is not a valid caption ontology.
        UsageError: an argument is out of its range.
        ModelError: a model cannot be found or loaded.
    """

    def __init__(
        self,
        ontology: CaptionOntology,
        box_threshold: float = _Unset(0.35),
        text_threshold: float = 0.25,
        *,
        model: str = "balanced",
        detector: str | None = None,
        segmenter: str | None = None,
        labeler: str | LabelerKind | None = None,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int | str = DEFAULT_BATCH,
        prompts_per_caption: int | None = None,
        prompt_score: str = "mean",
        verify: str | None = None,
        detector_image_size: int | None = None,
        segmenter_image_size: int | None = None,
        compile: bool = False,
        quality: QualityConfig | None = None,
    ) -> None:
        from_caption_ontology(ontology)
        for name, value in (("box_threshold", box_threshold), ("text_threshold", text_threshold)):
            if not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise UsageError(f"{name} must be a number from 0 to 1, not {value!r}")
        if model not in PRESETS:
            raise UsageError(f"model must be one of {', '.join(PRESETS)}, not {model!r}; a hub id goes to detector=")
        kind = made_kind(labeler or PRESETS[model].labeler)
        of_preset = preset_models(kind, model)
        config = ModelConfig(
            detector or of_preset[0],
            segmenter or of_preset[1],
            device=device,
            precision=precision,
            batch_size=batch_size,
            prompts_per_caption=prompts_per_caption,
            prompt_score=prompt_score,
            verify=verify,
            detector_image_size=detector_image_size,
            segmenter_image_size=segmenter_image_size,
            compile=compile,
            floor=LEAST_FLOOR,
        )
        family = family_of(kind, config)
        check_prompt_score(kind, config, family)
        check_verify(kind, config, family)
        check_image_sizes(kind, config)
        check_compile(kind, config)
        self.labeler = _loaded(kind, config, family)
        family = family_of(kind, config)  # a model that had to be downloaded now tells what it is
        if isinstance(box_threshold, _Unset) and not family.scores_tokens and family is not GENERAL:
            box_threshold = family.quality.min_score
        self.ontology = ontology
        self.box_threshold = float(box_threshold)
        self.text_threshold = text_threshold
        self.quality = quality or family.quality
        self.batch_size = config.images_per_pass

    def predict(self, input: str | os.PathLike[str] | Pixels | Image.Image) -> sv.Detections:
        """The accepted instances of one image, best detector score first.

        Args:
            input: path, URL, uint8 array ``(H, W, 3)`` in BGR, or PIL image of any mode. A download may take 200 MB and
                60 seconds.

        Returns:
            ``xyxy`` contains the detector's boxes, ``mask`` bool ``(n, H, W)``, and ``confidence`` the detector's
            scores. The class of an instance is ``ontology.classes()[class_id]``. If several prompts name a class,
            ``class_id`` is the index of the first of them. ``data`` contains ``class_name``, ``mask_score``,
            ``stability`` and ``joint_score``.

        Raises:
            ImageError: the image cannot be read.
            UsageError: ``input`` is none of the above.
        """
        ontology = from_caption_ontology(self.ontology)
        return self._as_autodistill(self._predict([pixels_of(input)], ontology)[0], ontology)

    def sahi_predict(self, input: str | os.PathLike[str] | Pixels | Image.Image) -> sv.Detections:
        """As ``predict``, but on overlapping tiles of 640 pixels, with ``InferenceSlicer`` of supervision."""
        ontology = from_caption_ontology(self.ontology)
        return self._as_autodistill(self._predict_tiles(pixels_of(input), ontology), ontology)

    def label(
        self,
        input_folder: str,
        extension: str = ".jpg",
        output_folder: str | None = None,
        human_in_the_loop: bool = False,
        roboflow_project: str | None = None,
        roboflow_tags: Sequence[str] = ("autodistill",),
        sahi: bool = False,
        record_confidence: bool = False,
        nms_settings: NmsSetting = NmsSetting.NONE,
    ) -> sv.DetectionDataset:
        """Label the images of a folder, and write the dataset in autodistill's layout.

        For the layout see ``labeler.formats.autodistill``. This differs from autodistill's own method in that images
        keep their names and bytes, small masks are kept and written exactly, copies of one image are in one split, an
        image's split is the same in every run, and files that cannot be read are skipped with a warning. As in
        autodistill, files of an earlier call stay in ``output_folder``; their images keep their splits.

        Args:
            input_folder: the folder; subfolders are not searched.
            extension: the end of the names of image files.
            output_folder: None for ``input_folder`` + ``_labeled``.
            human_in_the_loop: upload the dataset to ``roboflow_project``.
            roboflow_project: see ``human_in_the_loop``.
            roboflow_tags: without effect, as in autodistill.
            sahi: see ``sahi_predict``.
            record_confidence: also write ``confidence-<name>.txt`` next to the labels, with a line per object.
            nms_settings: suppress the lower-scored of two masks with an IoU above 0.5, within each class or across
                classes.

        Returns:
            The dataset, with masks as ``CompactMask``. ``classes`` lists each class once, as in ``data.yaml``.

        Raises:
            UsageError: there are no such images, or two would share a label file.
            ImageError: no image can be read.
        """
        if nms_settings not in list(NmsSetting):
            known = ", ".join(setting.value for setting in NmsSetting)
            raise UsageError(f"nms_settings must be one of {known}, not {nms_settings!r}")
        paths = find_by_extension(input_folder, extension)
        output = Path(output_folder if output_folder is not None else f"{input_folder}_labeled")
        ontology = from_caption_ontology(self.ontology)
        annotations: dict[str, sv.Detections] = {}
        batches = _read_ahead(paths, self.batch_size)
        for batch in track(batches, "Labeling images", total=-(-len(paths) // self.batch_size)):
            images = [pixels for _, pixels in batch]
            predicted = [self._predict_tiles(p, ontology) for p in images] if sahi else self._predict(images, ontology)
            for (path, _), detections in zip(batch, predicted, strict=True):
                if nms_settings != NmsSetting.NONE:
                    detections = detections.with_nms(class_agnostic=nms_settings == NmsSetting.CLASS_AGNOSTIC)
                annotations[path] = detections
                labels = write_image(output, Path(path), detections)
                if record_confidence:
                    self._record_confidence_in_files(str(labels.parent), [labels.name], {labels.name: detections})
        if not annotations:
            raise ImageError(f"{input_folder}: no file that ends in {extension!r} can be read as an image")
        write_data_yaml(output, ontology.class_names)
        if human_in_the_loop:
            roboflow.login()
            roboflow.Roboflow().workspace().upload_dataset(str(output), project_name=roboflow_project)
        return sv.DetectionDataset(list(ontology.class_names), list(annotations), annotations)

    def _predict(self, images: Sequence[Pixels], ontology: Ontology) -> list[sv.Detections]:
        """The accepted instances of RGB images, with compact masks and class ids of ``ontology``."""
        labeler = self.labeler
        if isinstance(labeler, GroundedSamLabeler):  # boxes that are dropped need no masks
            labeler = replace(labeler, candidate_floor=max(self.box_threshold, labeler.candidate_floor))
        quality = self.quality
        if self.box_threshold < quality.min_score:
            share = self.box_threshold / quality.min_score
            accept_score, min_joint_score = quality.accept_score * share, quality.min_joint_score * share
            quality = replace(quality, accept_score=accept_score, min_joint_score=min_joint_score)
        classes = [replace(each, min_score=self.box_threshold) for each in ontology.classes]
        predicted = []
        for image, candidates in zip(
            images, labeler.label([LabelRequest("", image, ontology) for image in images]), strict=True
        ):
            height, width = image.shape[:2]
            record = ImageRecord("", width, height, "", instances=tuple(candidates))
            judged = zip(candidates, judge(record, quality, classes), strict=True)
            accepted = [instance for instance, judgement in judged if judgement.verdict == "accept"]
            predicted.append(to_detections(accepted, (height, width), ontology.class_names))
        return predicted

    def _predict_tiles(self, image: Pixels, ontology: Ontology) -> sv.Detections:
        slicer = sv.InferenceSlicer(
            lambda tiles: self._predict([np.ascontiguousarray(tile) for tile in tiles], ontology),
            batch_size=max(self.batch_size, 2),  # with 1, the slicer passes a tile instead of a list of tiles
        )
        detections = slicer(image)
        return detections if len(detections) else to_detections([], image.shape[:2], ontology.class_names)

    def _as_autodistill(self, detections: sv.Detections, ontology: Ontology) -> sv.Detections:
        """Dense masks, and class ids that are indices in autodistill's ``classes()``, which repeats names."""
        names = [" ".join(name.split()) for name in self.ontology.classes()]
        indices = np.array([names.index(name) for name in ontology.class_names])
        detections.class_id = indices[detections.class_id]
        detections.mask = np.asarray(detections.mask)
        return detections


def _loaded(kind: LabelerKind, config: ModelConfig, family: Family) -> Labeler:
    """The labeler; Grounded SAM as it is, since a single image is then labeled on all CPU cores."""
    if isinstance(kind, GroundedSamKind):
        return load_grounded_sam(config)
    return kind.load(replace(config, floor=family.floor))


def _read_ahead(paths: Sequence[str], size: int) -> Iterator[list[tuple[str, Pixels]]]:
    """Batches of paths and RGB pixels; the next batch is decoded meanwhile. Files that cannot be read are skipped."""

    def readable(batch: list[tuple[str, Future[Pixels]]]) -> Iterator[tuple[str, Pixels]]:
        for path, future in batch:
            try:
                yield path, future.result()
            except ImageError as error:
                logger.warning("%s; skipped", error)

    with ThreadPoolExecutor(DECODE_THREADS) as readers:
        ahead: deque[list[tuple[str, Future[Pixels]]]] = deque()
        for start in range(0, len(paths), size):
            ahead.append([(path, readers.submit(pixels_of, path)) for path in paths[start : start + size]])
            if len(ahead) > 1:
                yield list(readable(ahead.popleft()))
        yield from (list(readable(batch)) for batch in ahead)
