"""``GroundedSAM``, an autodistill model that replaces ``autodistill_grounded_sam.GroundedSAM``.

Coordinates of files and URLs are those of the EXIF-corrected image, as ``cv2.imread`` reads it; arrays and PIL images
are taken as they are.
"""

from __future__ import annotations

import glob
import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from rich.progress import track

from labeler.errors import ImageError, UsageError
from labeler.files.credentials import without_secrets
from labeler.files.download import DownloadLimits, download
from labeler.files.images import decode_image, read_image
from labeler.files.pixels import to_rgb
from labeler.formats.autodistill import to_detections, write_data_yaml, write_image
from labeler.models.config import PRESETS, ModelConfig
from labeler.models.labelers.labeler import LabelRequest
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

Pixels = npt.NDArray[np.uint8]
DECODE_THREADS = 4
DOWNLOADS = DownloadLimits()


class GroundedSAM(DetectionBaseModel):  # type: ignore[misc]  # autodistill is not typed
    """Grounding DINO finds boxes, SAM turns them into masks, and the quality gate keeps the good ones.

    Args:
        ontology: autodistill's ``CaptionOntology``. Several prompts may name the same class. ``set_ontology`` changes
            it later.
        box_threshold: minimum detector score of a box, the mean over its prompt's tokens. It may be changed later. It
            overrides ``quality.min_score``; if it is lower than that, the gate's joint thresholds are lowered in
            proportion.
        text_threshold: accepted for compatibility, without effect. It has none in the original either, where it selects
            the tokens of a label that is then overwritten.
        model: one of ``labeler.models.config.PRESETS``.
        detector, segmenter: hub id or folder of another model than the preset's.
        device, precision, batch_size, prompts_per_caption: see ``ModelConfig``.
        quality: the gate's other thresholds. Only accepted instances are returned.

    Raises:
        OntologyError: ``ontology`` is not a valid caption ontology.
        UsageError: an argument is out of its range.
        ModelError: a model cannot be found or loaded.
    """

    def __init__(
        self,
        ontology: CaptionOntology,
        box_threshold: float = 0.35,
        text_threshold: float = 0.25,
        *,
        model: str = "balanced",
        detector: str | None = None,
        segmenter: str | None = None,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int = 8,
        prompts_per_caption: int | None = None,
        quality: QualityConfig | None = None,
    ) -> None:
        from_caption_ontology(ontology)
        for name, value in (("box_threshold", box_threshold), ("text_threshold", text_threshold)):
            if not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise UsageError(f"{name} must be a number from 0 to 1, not {value!r}")
        if model not in PRESETS:
            raise UsageError(f"model must be one of {', '.join(PRESETS)}, not {model!r}; a hub id goes to detector=")
        config = ModelConfig(
            detector or PRESETS[model].detector,
            segmenter or PRESETS[model].segmenter,
            device=device,
            precision=precision,
            batch_size=batch_size,
            prompts_per_caption=prompts_per_caption,
            floor=0.01,  # the lowest box_threshold that has an effect
        )
        self.ontology = ontology
        self.box_threshold = box_threshold
        self.text_threshold = text_threshold
        self.quality = quality or QualityConfig()
        self.batch_size = batch_size
        self.labeler = load_grounded_sam(config)

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
        return self._as_autodistill(self._predict([_pixels(input)], ontology)[0], ontology)

    def sahi_predict(self, input: str | os.PathLike[str] | Pixels | Image.Image) -> sv.Detections:
        """As ``predict``, but on overlapping tiles of 640 pixels, with ``InferenceSlicer`` of supervision."""
        ontology = from_caption_ontology(self.ontology)
        return self._as_autodistill(self._predict_tiles(_pixels(input), ontology), ontology)

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
        paths = _find(input_folder, extension)
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
        labeler = replace(self.labeler, candidate_floor=max(self.box_threshold, self.labeler.candidate_floor))
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


def _pixels(source: Any) -> Pixels:
    """The pixels of anything that ``predict`` takes, uint8 ``(H, W, 3)``, RGB."""
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3 or not source.size:
            raise UsageError(f"expected a BGR array, uint8 (H, W, 3), not {source.dtype} {source.shape}")
        return np.ascontiguousarray(source[:, :, ::-1])
    if not isinstance(source, (str, os.PathLike, Image.Image)):
        raise UsageError(f"expected a path, URL, array or PIL image, not {type(source).__name__}")
    try:
        if isinstance(source, Image.Image):
            source.load()
            return to_rgb(source)[0]
        if str(source).startswith(("http://", "https://")):
            return decode_image(download(str(source), DOWNLOADS)).pixels
        return read_image(os.fspath(source)).pixels
    except Exception as error:  # decoders can raise anything
        what = "the PIL image" if isinstance(source, Image.Image) else os.fspath(source)
        cause = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{without_secrets(str(what))}: {without_secrets(cause)}") from error


def _find(folder: str, extension: str) -> list[str]:
    """The image files, as autodistill's own ``label`` finds them, sorted.

    Raises:
        UsageError: there are none, or two would share a label file.
    """
    if not os.path.isdir(folder):
        raise UsageError(f"{folder}: no such folder")
    paths = sorted(path for path in glob.glob(f"{glob.escape(os.fspath(folder))}/*{extension}") if os.path.isfile(path))
    if not paths:
        raise UsageError(f"{folder}: no file here ends in {extension!r}; give another extension=")
    stems: dict[str, str] = {}
    for path in paths:
        if (other := stems.setdefault(Path(path).stem, path)) != path:
            raise UsageError(f"{other} and {path} would share one label file; rename one, or give one extension=")
    return paths


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
            ahead.append([(path, readers.submit(_pixels, path)) for path in paths[start : start + size]])
            if len(ahead) > 1:
                yield list(readable(ahead.popleft()))
        yield from (list(readable(batch)) for batch in ahead)
