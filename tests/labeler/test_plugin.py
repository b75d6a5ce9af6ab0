"""The autodistill model, compared with the labeler that it wraps, and used in autodistill's own classes."""

from __future__ import annotations

import copy
import functools
import http.server
import inspect
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import supervision as sv
import yaml
from autodistill.classification import ClassificationBaseModel
from autodistill.core.composed_detection_model import ComposedDetectionModel
from autodistill.detection import CaptionOntology, DetectionBaseModel
from autodistill.detection.detection_base_model import NmsSetting
from PIL import Image
from supervision.detection.compact_mask import CompactMask

from labeler import GroundedSAM
from labeler.demo.scenes import class_name, make_scene, scene_rng
from labeler.errors import ImageError, ModelError, UsageError
from labeler.formats.autodistill import to_detections, write_image
from labeler.formats.splits import in_validation
from labeler.geometry.masks import rle_to_mask
from labeler.models.labelers.labeler import LabelRequest
from labeler.quality import judge
from labeler.quality_config import QualityConfig
from labeler.records import ImageRecord, Instance
from ontologies import ClassSpec, Ontology, OntologyError

# The gate accepts everything, because these tests are about the conversion of detections.
OPEN = QualityConfig.from_dict(
    {name: 0 for name, value in QualityConfig().to_dict().items() if value and name != "score"}
)
SCENES = [make_scene(scene_rng(4711, index)) for index in range(5)]
NAMES = sorted({class_name(pair) for scene in SCENES[:2] for pair in scene.pairs})[:6]
EMPTY_SCENE = np.full((120, 200, 3), 127, dtype=np.uint8)


@pytest.fixture(scope="module")
def model() -> GroundedSAM:
    ontology = CaptionOntology({name: name.replace(" ", "-") for name in NAMES})
    return GroundedSAM(ontology, box_threshold=0.2, model="demo", device="cpu", batch_size=2, quality=OPEN)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "yard"
    path.mkdir()
    for index, scene in enumerate(SCENES):
        Image.fromarray(scene.image).save(path / f"scene {index}.png")
    return path


def changed(model: GroundedSAM, **attributes: Any) -> GroundedSAM:
    other = copy.copy(model)
    for name, value in attributes.items():
        setattr(other, name, value)
    return other


def bgr(image: Any) -> Any:
    return image[:, :, ::-1]


def assert_equal(a: sv.Detections, b: sv.Detections) -> None:
    assert len(a)
    assert a.data["class_name"].tolist() == b.data["class_name"].tolist()
    np.testing.assert_allclose(a.xyxy, b.xyxy, atol=1e-3)
    np.testing.assert_allclose(a.confidence, b.confidence, atol=1e-5)
    assert np.array_equal(np.asarray(a.mask), np.asarray(b.mask))


# --- the signature


@pytest.mark.slow
def test_arguments_are_those_of_the_original() -> None:
    original = pytest.importorskip("autodistill_grounded_sam").GroundedSAM
    theirs = inspect.signature(original).parameters
    ours = inspect.signature(GroundedSAM).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    assert all(ours[name].default == theirs[name].default for name in theirs)
    assert all(ours[name].kind is ours[name].KEYWORD_ONLY for name in list(ours)[len(theirs) :])
    assert list(inspect.signature(original.predict).parameters) == list(
        inspect.signature(GroundedSAM.predict).parameters
    )


@pytest.mark.parametrize("method", ["label", "sahi_predict", "set_ontology"])
def test_methods_are_those_of_the_base(method: str) -> None:
    theirs = inspect.signature(getattr(DetectionBaseModel, method)).parameters
    ours = inspect.signature(getattr(GroundedSAM, method)).parameters
    assert list(ours) == list(theirs)
    for name, parameter in theirs.items():
        same = list if name == "roboflow_tags" else lambda value: value
        assert same(ours[name].default) == same(parameter.default), name
    assert issubclass(GroundedSAM, DetectionBaseModel)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"ontology": {"dog": "dog"}}, OntologyError, "expected a CaptionOntology, not dict"),
        ({"ontology": CaptionOntology({"a dog. a cat": "pet"})}, OntologyError, "contains '.'"),
        ({"box_threshold": 35}, UsageError, "box_threshold must be a number from 0 to 1, not 35"),
        ({"text_threshold": None}, UsageError, "text_threshold must be a number from 0 to 1, not None"),
        ({"model": "huge"}, UsageError, "model must be one of demo, fast, balanced, best, sam3, not 'huge'"),
        ({"batch_size": 0}, UsageError, "--batch-size must be auto or a whole number, 1 or more"),
        ({"device": "tpu"}, UsageError, "device must be one of"),
        ({"detector": "embedded:nothing"}, ModelError, "the embedded models are"),
    ],
)
def test_construction_refuses(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        GroundedSAM(**{"ontology": CaptionOntology({"dog": "dog"}), "model": "demo", "device": "cpu"} | arguments)
    assert "\n" not in str(caught.value)


# --- predict


def raw(model: GroundedSAM, image: Any, quality: QualityConfig = OPEN) -> list[Instance]:
    """The labeler's candidates at its candidate floor, passed through the gate with the box threshold as min_score."""
    ontology = Ontology(tuple(ClassSpec(name.replace(" ", "-"), (name,)) for name in NAMES))
    instances = model.labeler.label([LabelRequest("", image, ontology)])[0]
    record = ImageRecord("x", image.shape[1], image.shape[0], "", instances=tuple(instances))
    judged = judge(record, replace(quality, min_score=model.box_threshold), ontology.classes)
    return [i for i, judgement in zip(instances, judged, strict=True) if judgement.verdict == "accept"]


def test_predict_is_the_labeler_behind_the_gate(model: GroundedSAM) -> None:
    image = SCENES[0].image
    expected = raw(model, image)
    found = model.predict(bgr(image))
    assert len(found) == len(expected) > 0
    assert found.mask.dtype == bool
    assert found.mask.shape == (len(found), *image.shape[:2])
    for index, instance in enumerate(expected):
        np.testing.assert_allclose(found.xyxy[index], instance.box_xyxy, atol=1e-3)
        assert np.array_equal(found.mask[index], rle_to_mask(instance.rle))
        assert model.ontology.classes()[found.class_id[index]] == found.data["class_name"][index]
        assert found.class_id[index] == instance.class_id
        for name in ("mask_score", "stability", "joint_score"):
            assert found.data[name][index] == pytest.approx(getattr(instance, name), abs=1e-5)
    np.testing.assert_allclose(found.confidence, [instance.score for instance in expected], atol=1e-5)
    assert (found.confidence >= model.box_threshold).all()


def test_thresholds_of_the_gate_decide(model: GroundedSAM) -> None:
    image = SCENES[0].image
    middle = float(np.median([instance.mask_score for instance in raw(model, image)]))
    quality = replace(OPEN, min_mask_score=middle)
    found = changed(model, quality=quality).predict(bgr(image))
    assert len(found) == len(raw(model, image, quality)) < len(raw(model, image))
    assert not len(changed(model, box_threshold=1.0).predict(bgr(image)))


def test_a_lower_box_threshold_reaches_past_the_joint_thresholds(model: GroundedSAM) -> None:
    instance = raw(model, SCENES[0].image)[0]
    threshold = instance.score * 0.9
    joint = replace(OPEN, min_score=1.0, accept_score=min(1.0, 0.99 * instance.joint_score / threshold))
    found = changed(model, quality=joint, box_threshold=threshold).predict(bgr(SCENES[0].image))
    assert found.confidence[0] == pytest.approx(instance.score, abs=1e-5)


def test_arrays_are_bgr_and_pil_images_rgb(model: GroundedSAM, tmp_path: Path) -> None:
    image = SCENES[0].image
    path = tmp_path / "scene.png"
    Image.fromarray(image).save(path)
    expected = model.predict(bgr(image))
    for source in (cv2.imread(str(path)), Image.fromarray(image), Image.open(path), str(path), path):
        assert_equal(model.predict(source), expected)
    swapped = model.predict(image)
    assert len(swapped) != len(expected) or not np.allclose(swapped.confidence, expected.confidence, atol=1e-3)


@pytest.mark.parametrize("mode", ["RGBA", "P", "L", "LA", "1", "CMYK", "I;16", "F"])
def test_pil_images_of_any_mode(model: GroundedSAM, mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(SCENES[0].image)
    grey = np.asarray(image.convert("L"))
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 257)
    elif mode == "F":
        image = Image.fromarray(grey.astype(np.float32) / 255)
    else:
        image = image.convert(mode)
    assert image.mode == mode
    found = model.predict(image)
    assert found.mask.shape[1:] == (320, 320)
    if mode == "RGBA":
        assert_equal(found, model.predict(bgr(SCENES[0].image)))
    if mode in ("L", "I;16", "F"):
        assert len(found) == len(model.predict(np.repeat(grey[:, :, None], 3, axis=2)))


def test_files_are_exif_corrected_and_pil_images_are_not(model: GroundedSAM, tmp_path: Path) -> None:
    path = tmp_path / "turned.png"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(SCENES[0].image)[:300]).save(path, exif=exif)
    upright = cv2.imread(str(path))
    assert upright.shape == (320, 300, 3)
    assert_equal(model.predict(str(path)), model.predict(upright))
    assert_equal(model.sahi_predict(str(path)), model.sahi_predict(upright))
    assert model.predict(Image.open(path)).mask.shape[1:] == (300, 320)


@pytest.fixture
def url(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_url(model: GroundedSAM, url: str) -> None:
    assert_equal(model.predict(f"{url}/scene%200.png"), model.predict(bgr(SCENES[0].image)))
    with pytest.raises(ImageError, match=r"/missing\.png: "):
        model.predict(f"{url}/missing.png")
    with pytest.raises(ImageError, match=r"/missing\.png\?w=9: File not found") as caught:
        model.predict(f"{url.replace('//', '//me:hush@')}/missing.png?w=9&X-Amz-Signature=hush&sig=hush")
    assert "hush" not in str(caught.value)


def test_empty_detections_can_be_merged(model: GroundedSAM) -> None:
    strict = changed(model, box_threshold=1.0)
    nothing, something = strict.predict(EMPTY_SCENE), model.predict(bgr(SCENES[0].image))
    for found in (nothing, strict.sahi_predict(EMPTY_SCENE)):
        assert found.is_empty()
        assert found.xyxy.shape == (0, 4)
        assert found.mask.shape == (0, 120, 200)
        assert found.class_id.dtype == something.class_id.dtype
        assert set(found.data) == set(something.data)
        assert_equal(sv.Detections.merge([found, something]), something)
        assert len(found.with_nms()) == len(found[found.confidence > 0.5]) == 0


@pytest.mark.parametrize(
    ("source", "error", "words"),
    [
        ("missing.jpg", ImageError, "missing.jpg: no such file"),
        (__file__, ImageError, r"test_plugin\.py: "),
        (np.zeros((4, 4), np.uint8), UsageError, r"expected a BGR array, uint8 \(H, W, 3\), not uint8 \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), UsageError, r"not uint8 \(4, 4, 4\)"),
        (np.zeros((4, 4, 3)), UsageError, "not float64"),
        (np.zeros((0, 4, 3), np.uint8), UsageError, r"\(0, 4, 3\)"),
        (None, UsageError, "not NoneType"),
        (b"bytes", UsageError, "not bytes"),
    ],
)
def test_predict_refuses(model: GroundedSAM, source: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        model.predict(source)
    assert "\n" not in str(caught.value)


def test_several_prompts_for_one_class(model: GroundedSAM, folder: Path) -> None:
    """Class ids are indices in ``classes()``, so that it gives the right names; the dataset has each class once."""
    halves = {name: "first" if index < 3 else " second  half " for index, name in enumerate(NAMES)}
    double = changed(model, ontology=CaptionOntology(halves))
    assert double.ontology.classes() == ["first"] * 3 + [" second  half "] * 3
    found = [double.predict(str(path)) for path in sorted(folder.iterdir())]
    ids = np.concatenate([detections.class_id for detections in found])
    assert set(ids) == {0, 3}
    names = np.concatenate([detections.data["class_name"] for detections in found])
    assert names.tolist() == ["first" if class_id == 0 else "second half" for class_id in ids]

    dataset = double.label(str(folder), ".png")
    assert dataset.classes == ["first", "second half"]
    assert yaml.safe_load(Path(f"{folder}_labeled/data.yaml").read_text())["names"] == dataset.classes
    assert [a.class_id.tolist() for a in dataset.annotations.values()] == [(f.class_id // 3).tolist() for f in found]
    assert (
        dataset.annotations[f"{folder}/scene 0.png"].data["class_name"].tolist() == found[0].data["class_name"].tolist()
    )


def test_set_ontology(model: GroundedSAM) -> None:
    other = copy.copy(model)
    other.set_ontology(CaptionOntology({NAMES[-1]: "thing"}))
    assert set(other.predict(bgr(SCENES[0].image)).data["class_name"]) <= {"thing"}


# --- inside autodistill


class Brightness(ClassificationBaseModel):  # type: ignore[misc]
    def __init__(self, ontology: CaptionOntology) -> None:
        self.ontology = ontology

    def predict(self, input: str) -> sv.Classifications:
        bright = float(np.asarray(Image.open(input).convert("L")).mean()) > 127
        return sv.Classifications(class_id=np.array([0, 1]), confidence=np.array([bright, not bright], dtype=float))


def test_inside_composed_detection_model(
    model: GroundedSAM, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # autodistill writes a temp.jpeg
    composed = ComposedDetectionModel(
        detection_model=model, classification_model=Brightness(CaptionOntology({"bright": "bright", "dark": "dark"}))
    )
    path = str(folder / "scene 0.png")
    found, alone = composed.predict(path), model.predict(path)
    assert set(found.class_id) <= {0, 1}
    assert np.array_equal(found.xyxy, alone.xyxy)
    assert np.array_equal(found.mask, alone.mask)


def test_sahi_predict_on_one_tile_is_predict_without_overlaps(model: GroundedSAM) -> None:
    image = bgr(SCENES[0].image)
    expected = model.predict(image).with_nms(0.5)
    assert_equal(model.sahi_predict(image), expected)
    assert_equal(DetectionBaseModel.sahi_predict(model, image), expected)


def test_sahi_predict_finds_in_every_tile(model: GroundedSAM) -> None:
    wide = np.concatenate([scene.image for scene in (*SCENES[:2], *SCENES[:2])], axis=1)
    by_base = DetectionBaseModel.sahi_predict(model, np.ascontiguousarray(bgr(wide)))
    for batch_size in (1, 3):
        found = changed(model, batch_size=batch_size).sahi_predict(bgr(wide))
        assert isinstance(found.mask, np.ndarray)
        assert found.mask.shape == (len(found), 320, 1280)
        assert_equal(found, by_base)
        # Masks are inside their boxes.
        assert all(
            mask[:, int(x1) : int(x2) + 1].any() for mask, (x1, _, x2, _) in zip(found.mask, found.xyxy, strict=True)
        )
        assert found.xyxy[:, 0].min() < 640 < found.xyxy[:, 2].max()


# --- label


def test_label_returns_what_predict_finds_in_compact_masks(model: GroundedSAM, folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    dataset = model.label(str(folder), extension=".png", output_folder=str(folder.parent / "out"))
    assert isinstance(dataset, sv.DetectionDataset)
    assert dataset.classes == model.ontology.classes()
    assert dataset.image_paths == [f"{folder}/scene {index}.png" for index in range(5)]
    for path, image, annotation in dataset:
        expected = model.predict(image)
        assert isinstance(annotation.mask, CompactMask)
        assert sum(rle.nbytes for rle in annotation.mask._rles) < expected.mask.nbytes / 10 or not len(expected)
        assert len(annotation) == len(expected)
        if len(expected):
            assert_equal(annotation, expected)
        name = Path(path).name
        split = "valid" if in_validation(blake2b(before[name], digest_size=16).hexdigest(), 0.2, 0) else "train"
        assert (folder.parent / "out" / split / "images" / name).read_bytes() == before[name]
        assert (folder.parent / "out" / split / "labels" / name).with_suffix(".txt").exists()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_copies_are_in_one_split_and_an_image_stays_in_its_split(tmp_path: Path) -> None:
    out, nothing = tmp_path / "out", to_detections([], (8, 8), NAMES)

    def split_of(name: str, value: int) -> str:
        Image.new("RGB", (8, 8), (value, 0, 0)).save(tmp_path / name)
        write_image(out, tmp_path / name, nothing)
        (place,) = out.glob(f"*/images/{name}")
        assert place.read_bytes() == (tmp_path / name).read_bytes()
        assert (place.parents[1] / "labels" / name).with_suffix(".txt").exists()
        return place.parts[-3]

    splits = {(n, value): split_of(f"{n} {value}.png", value) for n in range(3) for value in range(20)}
    assert set(splits.values()) == {"train", "valid"}
    assert all(splits[n, value] == splits[0, value] for n, value in splits)
    moved = next(value for value in range(20) if splits[0, value] != splits[0, 0])
    assert split_of("0 0.png", moved) == splits[0, 0]


def test_labels_read_back_by_supervision_and_ultralytics(model: GroundedSAM, folder: Path) -> None:
    verify_image_label = pytest.importorskip("ultralytics.data.utils").verify_image_label
    out = folder.parent / "out"
    Image.fromarray(EMPTY_SCENE).save(folder / "flat.png")
    dataset = model.label(str(folder), ".png", str(out))
    content = yaml.safe_load((out / "data.yaml").read_text())
    assert content["nc"] == len(content["names"]) == len(NAMES)
    seen = 0
    for split, key in (("train", "train"), ("valid", "val")):
        images, labels = out / split / "images", out / split / "labels"
        assert content[key] == str(images)
        read = sv.DetectionDataset.from_yolo(str(images), str(labels), str(out / "data.yaml"), force_masks=True)
        assert read.classes == dataset.classes
        for path, image, annotation in read:
            seen += 1
            expected = dataset.annotations[f"{folder}/{Path(path).name}"]
            assert annotation.class_id.tolist() == expected.class_id.tolist()
            label = labels / f"{Path(path).stem}.txt"
            result = verify_image_label((path, str(label), "", False, content["nc"], 0, 0, False))
            assert (result[5], result[8]) == (0, 0), result[9]  # neither missing nor corrupt
            for index, mask in enumerate(np.asarray(expected.mask)):
                assert iou(np.asarray(annotation.mask)[index], mask) > 0.9
            if len(result[3]) == len(expected):  # Ultralytics drops equal lines
                for segment in result[3]:
                    drawn = ultralytics_mask(segment, image.shape[:2])
                    assert max(iou(drawn, mask) for mask in np.asarray(expected.mask)) > 0.9
    assert seen == 6


def iou(a: Any, b: Any) -> float:
    return float((a & b).sum() / max((a | b).sum(), 1))


def ultralytics_mask(segment: Any, size: tuple[int, int]) -> Any:
    """As ``ultralytics.data.utils.polygon2mask``: scaled, truncated to whole pixels, filled."""
    canvas = np.zeros(size, dtype=np.uint8)
    cv2.fillPoly(canvas, [(segment * size[::-1]).astype(np.int32)], color=1)
    return canvas.astype(bool)


def test_the_same_folder_gives_the_same_files(model: GroundedSAM, folder: Path) -> None:
    def content() -> dict[str, bytes]:
        return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}

    out = folder.parent / "out"
    model.label(str(folder), ".png", str(out))
    first = content()
    model.label(str(folder), ".png", str(out))
    assert content() == first
    shutil.rmtree(out)
    changed(model, batch_size=5).label(str(folder), ".png", str(out))
    assert content().keys() == first.keys()


def test_label_with_sahi(model: GroundedSAM, tmp_path: Path) -> None:
    (tmp_path / "wide").mkdir()
    wide = np.concatenate([scene.image for scene in SCENES[:4]], axis=1)
    Image.fromarray(wide).save(tmp_path / "wide" / "wide.png")
    Image.fromarray(EMPTY_SCENE).save(tmp_path / "wide" / "flat.png")
    dataset = model.label(str(tmp_path / "wide"), ".png", sahi=True)
    annotation = dataset.annotations[f"{tmp_path}/wide/wide.png"]
    assert isinstance(annotation.mask, CompactMask)
    assert_equal(annotation, model.sahi_predict(bgr(wide)))


def test_confidences_are_written_next_to_the_labels(model: GroundedSAM, folder: Path) -> None:
    dataset = model.label(str(folder), ".png", record_confidence=True)
    for path, annotation in dataset.annotations.items():
        (labels,) = Path(f"{folder}_labeled").glob(f"*/labels/{Path(path).stem}.txt")
        written = (labels.parent / f"confidence-{labels.name}").read_text().split()
        assert len(written) == len(labels.read_text().splitlines()) == len(annotation)
        np.testing.assert_allclose([float(value) for value in written], annotation.confidence, atol=1e-6)


def test_nms_settings(model: GroundedSAM, folder: Path) -> None:
    alone: dict[str, sv.Detections] = {}
    for setting in (*NmsSetting, "class_agnostic"):
        for path, image, annotation in model.label(str(folder), ".png", nms_settings=setting):
            if path not in alone:
                alone[path] = model.predict(image)
            expected = alone[path]
            if setting != NmsSetting.NONE:
                expected = expected.with_nms(class_agnostic=setting == NmsSetting.CLASS_AGNOSTIC)
            assert annotation.class_id.tolist() == expected.class_id.tolist(), setting
            np.testing.assert_allclose(annotation.confidence, expected.confidence, atol=1e-5, err_msg=str(setting))


def test_human_in_the_loop_uploads_the_folder(
    model: GroundedSAM, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []

    class Roboflow:
        def workspace(self) -> Roboflow:
            return self

        def upload_dataset(self, path: str, project_name: str) -> None:
            assert Path(path, "data.yaml").exists()
            calls.append((path, project_name))

    monkeypatch.setattr("roboflow.login", lambda: calls.append("login"))
    monkeypatch.setattr("roboflow.Roboflow", Roboflow)
    model.label(str(folder), ".png", human_in_the_loop=True, roboflow_project="yards")
    assert calls == ["login", (f"{folder}_labeled", "yards")]


def test_a_bad_file_is_skipped_with_a_warning(
    model: GroundedSAM, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("bad 1.png", "bad 2.png", "bad 3.png"):  # more than a batch
        (folder / name).write_bytes(b"no image")
    (folder / "sub.png").mkdir()
    dataset = model.label(str(folder), ".png")
    assert [Path(path).name for path in dataset.image_paths] == [f"scene {index}.png" for index in range(5)]
    messages = [record.getMessage() for record in caplog.records if record.name == "labeler.plugin"]
    assert len(messages) == 3
    assert messages[0].startswith(f"{folder}/bad 1.png: ")
    assert messages[0].endswith("; skipped")


def test_one_image_gives_a_dataset_that_ultralytics_takes(model: GroundedSAM, folder: Path) -> None:
    for index in range(1, 5):
        (folder / f"scene {index}.png").unlink()
    model.label(str(folder), ".png")
    content = yaml.safe_load(Path(f"{folder}_labeled/data.yaml").read_text())
    assert content["train"] == content["val"]
    assert os.listdir(content["train"]) == ["scene 0.png"]
    for split in ("train", "valid"):
        assert {"images", "labels"} == set(os.listdir(f"{folder}_labeled/{split}"))


def test_labeling_a_dataset_again_in_place_keeps_its_images(model: GroundedSAM, folder: Path) -> None:
    out = folder.parent / "out"
    model.label(str(folder), ".png", str(out))
    before = {path: path.read_bytes() for path in (out / "train" / "images").iterdir()}
    model.label(str(out / "train" / "images"), ".png", str(out))
    assert {path: path.read_bytes() for path in (out / "train" / "images").iterdir()} == before


def test_an_old_link_is_replaced_and_not_written_through(model: GroundedSAM, folder: Path) -> None:
    out = folder.parent / "out"
    model.label(str(folder), ".png", str(out))
    (image,) = out.glob("*/images/scene 0.png")
    precious = folder.parent / "precious.png"
    precious.write_bytes(b"precious")
    image.unlink()
    os.link(precious, image)
    model.label(str(folder), ".png", str(out))
    assert precious.read_bytes() == b"precious"
    assert image.read_bytes() == (folder / "scene 0.png").read_bytes()


def test_label_refuses(model: GroundedSAM, folder: Path) -> None:
    def refused(error: type[Exception], words: str, *arguments: Any, **options: Any) -> None:
        with pytest.raises(error, match=words) as caught:
            model.label(*arguments, **options)
        assert "\n" not in str(caught.value)

    refused(UsageError, "nowhere: no such folder", str(folder / "nowhere"))
    refused(UsageError, "no file here ends in '.jpg'; give another extension=", str(folder))
    refused(UsageError, "nms_settings must be one of no_nms, class_specific", str(folder), ".png", nms_settings="soft")
    (folder / "a.jpg").write_bytes(b"no image")
    refused(ImageError, "no file that ends in '.jpg' can be read", str(folder))
    (folder / "a.png").write_bytes(b"no image")
    refused(UsageError, "a.jpg and .*a.png would share one label file", str(folder), "")


def test_a_folder_with_wildcards_in_its_name(model: GroundedSAM, folder: Path) -> None:
    odd = folder.rename(folder.parent / "yard [2024]*")
    assert len(model.label(odd, ".png")) == 5  # type: ignore[arg-type]
    assert Path(f"{odd}_labeled/data.yaml").exists()
