"""``--boxes FILE``: the boxes are given, and a segmenter turns each into a mask."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from labeler.errors import UsageError
from labeler.files.storage import absolute, locate
from labeler.image_pairs import find_pairs
from labeler.models.config import ModelConfig
from labeler.models.kinds.grounded_sam import segmenter_identity
from labeler.models.kinds.kind import NeededModel
from labeler.models.loading import SEGMENTER_TYPES
from ontologies import ClassSpec, Ontology

if TYPE_CHECKING:
    from labeler.models.labelers.labeler import Labeler


SHOWN = 3


@dataclass(frozen=True)
class BoxesKind:
    """Masks for the boxes of a COCO file, a YOLO dataset or Pascal VOC files.

    Attributes:
        file: absolute path or URI; ``of`` makes it so.
        digest: of the boxes in it.
        renamed: image id -> name in the file, for images that have another name there.
    """

    kind: ClassVar[str] = "boxes"
    about: ClassVar[str] = "the boxes are given, a segmenter turns each into a mask"
    flags: ClassVar[tuple[str, ...]] = ("--boxes", "--segmenter", "--segmenter-image-size", "--compile")

    file: str
    digest: str
    renamed: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, file: str) -> BoxesKind:
        """The kind for the boxes in ``file``.

        Raises:
            FormatError: see ``read_given_boxes``.
        """
        from labeler.formats.given_boxes import read_given_boxes  # imports NumPy, for which help does not wait

        source = str(absolute(locate(file)))
        return cls(source, read_given_boxes(source).digest)

    def classes(self, wanted: Ontology | None) -> Ontology:
        """The classes of the file, or those of ``wanted``, whose prompts must be classes of the file.

        Raises:
            UsageError: a prompt is not a class of the file.
            OntologyError: the file's class names cannot be those of a dataset.
        """
        from labeler.formats.given_boxes import as_prompt, boxes_with_digest
        from labeler.ground_truth import class_key

        names = boxes_with_digest(self.file, self.digest).class_names
        if wanted is None:
            return Ontology(tuple(ClassSpec(name, (as_prompt(name),)) for name in names))
        known = {class_key(as_prompt(name)) for name in names}
        for prompt, _ in wanted.prompts:
            if class_key(prompt) not in known:
                near = difflib.get_close_matches(prompt, names, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"it has {_some(names)}"
                raise UsageError(f"--boxes {self.file}: has no class {prompt!r}; {hint}")
        return wanted

    def models(self, config: ModelConfig) -> Iterator[NeededModel]:
        yield NeededModel(config.segmenter, "segmenter", SEGMENTER_TYPES)

    def identity(self, config: ModelConfig) -> dict[str, Any]:
        return {"labeler": self.kind, "box_file": self.digest, **segmenter_identity(config)}

    def fitted(self, image_ids: Sequence[str]) -> tuple[BoxesKind, list[str]]:
        """See ``labeler.models.kinds.kind.fitted``.

        Raises:
            UsageError: no image has boxes, or it is not clear which of several images some boxes are of.
        """
        from labeler.formats.given_boxes import boxes_with_digest

        boxes = boxes_with_digest(self.file, self.digest)
        pairs = find_pairs(image_ids, boxes.images)
        if pairs.ambiguous:
            raise UsageError(
                f"--boxes {self.file}: it is not clear which boxes are those of {_some(pairs.ambiguous)}; write paths "
                "below the image folder into the file"
            )
        if not pairs.names:
            raise UsageError(
                f"--boxes {self.file}: names none of the {len(image_ids)} images; it names {_some(list(boxes.images))}"
            )
        notes = list(boxes.notes)
        if lacking := [image_id for image_id in image_ids if image_id not in pairs.names]:
            notes.append(f"{_images(lacking)} not named in {self.file}, which is a failure ({_some(lacking)})")
        if unused := boxes.images.keys() - pairs.names.values():
            notes.append(f"{_images(unused)} named in {self.file} but not in the input ({_some(sorted(unused))})")
        return replace(self, renamed={ours: theirs for ours, theirs in pairs.names.items() if ours != theirs}), notes

    def load(self, config: ModelConfig) -> Labeler:
        from labeler.formats.given_boxes import boxes_with_digest
        from labeler.models.labelers.boxes import BoxLabeler
        from labeler.models.labelers.on_device import labeler_on_device
        from labeler.models.loading import load_segmenter

        boxes = boxes_with_digest(self.file, self.digest)
        return labeler_on_device(BoxLabeler(boxes, self.renamed, load_segmenter(config)), config)


def _images(names: Collection[str]) -> str:
    return "1 image is" if len(names) == 1 else f"{len(names)} images are"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
