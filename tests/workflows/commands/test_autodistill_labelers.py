"""``labeler label --labeler module:class`` with autodistill models that find the bright pixels."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from labeler.geometry.masks import rle_to_mask
from labeler.models.config import ModelConfig
from labeler.models.labelers.labeler import LabelRequest
from labeler.models.loading import load_segmenter
from labeler.models.segmenters.segmenter import SegmentPrompts
from labeler.record_files import read_records
from labeler.records import ImageRecord
from ontologies import ClassSpec, Ontology
from tests.support.autodistill_model import RAISES
from tests.support.command_line import Run

MODELS = "tests.support.autodistill_model"
LOCAL = ("--engine", "local", "--device", "cpu")
BLUE, RED = (0, 0, 255), (255, 0, 0)
INSIDE = (slice(6, 16), slice(4, 18))  # rows and columns of the bright rectangle


def pixels(width: int, colour: tuple[int, int, int] = BLUE) -> NDArray[np.uint8]:
    """A rectangle of that colour on black, RGB."""
    image = np.zeros((30, width, 3), np.uint8)
    image[INSIDE] = colour
    return image


def write(folder: Path, *images: NDArray[np.uint8]) -> Path:
    folder.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index}.png")
    return folder


def records_of(output: Path) -> list[ImageRecord]:
    return list(read_records(sorted((output / "run" / "records").glob("*.parquet"))))


def settings_of(output: Path) -> dict[str, Any]:
    return dict(json.loads((output / "run" / "run.json").read_text())["labeling"])


def test_masks_of_the_model_are_kept(tmp_path: Path, labeler: Run) -> None:
    images = write(tmp_path / "in", pixels(32), pixels(40, RED), pixels(RAISES), pixels(36))
    command = (
        "label", images, "-o", tmp_path / "out", "--classes", "dog, tabby=cat", "--labeler", f"{MODELS}:BrightMasks",
        "--labeler-args", "confidence=0.5", *LOCAL,
    )  # fmt: skip
    done = labeler(*command)
    assert done.returncode == 1, done.stderr
    first, red, raised, last = records_of(tmp_path / "out")
    for record, width in ((first, 32), (last, 36)):
        (found,) = record.instances
        assert (found.class_id, found.prompt, found.score, found.box_xyxy) == (1, "tabby", 0.5, (4, 6, 18, 16))
        assert (found.mask_score, found.stability) == (1.0, 1.0)
        assert (rle_to_mask(found.rle) == (pixels(width)[:, :, 2] > 0)).all()
    assert (red.status, red.instances) == ("ok", ()), "blue is the first channel, as in cv2.imread"
    assert raised.error == "labeling failed: ValueError: no such luck"
    settings = settings_of(tmp_path / "out")
    assert settings["labeler_class"] == f"{MODELS}:BrightMasks"
    assert settings["labeler_args"] == ["confidence=0.5"]
    assert settings["bgr_fix"] is True
    assert settings["labeler_package"].startswith("blake2b:"), "no distribution holds the module, so its file counts"
    for changed in (("--labeler-args", "confidence=0.6"), ("--no-bgr-fix",), ("--labeler", f"{MODELS}:BrightBoxes")):
        other = labeler(*command, *changed)
        assert other.returncode == 2
        assert other.stderr.count("\n") == 1
        assert records_of(tmp_path / "out")[0] == first


def test_boxes_go_through_the_segmenter(scenes: Path, tmp_path: Path, labeler: Run) -> None:
    done = labeler(
        "label", scenes, "-o", tmp_path / "out", "--classes", "shape", "--labeler", f"{MODELS}:BrightBoxes",
        "--labeler-args", "confidence=None", "--segmenter", "embedded:segmenter", *LOCAL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    segmenter = load_segmenter(ModelConfig("", "embedded:segmenter", device="cpu"))
    records = records_of(tmp_path / "out")
    assert len(records) == 6
    for record in records:
        (found,) = record.instances
        image = np.array(Image.open(scenes / record.image_id).convert("RGB"))
        ((expected,),) = segmenter.segment([image], [SegmentPrompts.of_boxes(np.array([found.box_xyxy], np.float32))])
        assert found.score == 1.0, "the model gives no confidence"
        assert (found.rle, found.area) == (expected.rle, expected.area)
        assert found.mask_score == pytest.approx(expected.mask_score, abs=1e-6)
    assert done.stderr.count("no confidence") == 1


def test_answers_that_cannot_be_used_become_error_records(tmp_path: Path, labeler: Run) -> None:
    images = write(tmp_path / "in", *(pixels(width) for width in range(40, 50)))
    done = labeler(
        "label", images, "-o", tmp_path / "out", "--classes", "dog, cat", "--labeler", f"{MODELS}:WrongAnswers", *LOCAL,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    records = records_of(tmp_path / "out")
    assert [record.error.removeprefix("labeling failed: ValueError: ") for record in records] == [
        "",
        "the model gave boxes that are not 1 x 4 finite numbers",
        "the model gave a class_id [2], not a position among the 2 prompts",
        "the model gave boxes without one class_id each",
        "the model gave confidences that are not numbers from 0 to 1",
        "the model gave confidences that are not numbers from 0 to 1",
        f"{MODELS}:WrongAnswers gave masks of shape (1, 15, 46), not (1, 30, 46)",
        "the model gave a class_id [0.5], not a position among the 2 prompts",
        "the model calls class 1 horse, not cat: its classes are fixed",
        "",
    ]


@pytest.mark.parametrize("name", ["BrightMasks", "FixedAtStart"])
def test_each_image_is_searched_for_its_own_prompts(name: str) -> None:
    from labeler.models.kinds.autodistill import AutodistillKind

    kind = AutodistillKind(f"{MODELS}:{name}", prompts=("dog",))
    loaded = kind.load(ModelConfig("", "", device="cpu"))
    ontologies = [Ontology.from_text(text) for text in ("dog", "dog, cat", "owl")]
    # A distractor is written down as nothing, whatever finds it.
    ontologies.append(Ontology((ClassSpec("dog"),), ("statue",)))
    answers = loaded.label([LabelRequest("", pixels(32), ontology) for ontology in ontologies])
    assert [[(each.prompt, each.class_id) for each in answer] for answer in answers] == [
        [("dog", 0)], [("cat", 1)], [("owl", 0)], [],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--labeler no_such_package:Model", "there is no module no_such_package here; `pip install no-such-package`"),
        (f"--labeler {MODELS}_s:Model", f"there is no module {MODELS}_s here"),
        (f"--labeler {MODELS}:Nothing", f"the module {MODELS} has no Nothing"),
        (f"--labeler {MODELS}:NoModel", f"{MODELS}:NoModel is no DetectionBaseModel of autodistill"),
        ("--labeler autodistill.detection:DetectionBaseModel", "is abstract; name a class that predicts"),
        (f"--labeler {MODELS}:", "is no MODULE:CLASS, such as autodistill_grounded_sam:GroundedSAM"),
        (f"--labeler {MODELS}:BrightMasks --labeler-args size=3", "unexpected keyword argument 'size'; it takes: "),
        (f"--labeler {MODELS}:BrightMasks --labeler-args size", "--labeler-args: expected KEY=VALUE, not 'size'"),
        (f"--labeler {MODELS}:BrightMasks --labeler-args ontology=1", "the ontology comes from --classes"),
        (f"--labeler {MODELS}:BrightMasks --detector embedded:detector", "--detector is not for --labeler"),
        (f"--labeler {MODELS}:BrightMasks --segmenter /no/such", "segmenter '/no/such': no such folder"),
        ("--labeler-args confidence=1", "--labeler-args is for an autodistill model; add --labeler MODULE:CLASS"),
        ("--labeler autodistill", "name the class, such as autodistill_grounded_sam:GroundedSAM"),
        ("--labeler-env {\"env_vars\":{}} --engine ray", "--labeler-env is for an autodistill model; add --labeler"),
        ("--no-bgr-fix", "--no-bgr-fix is for an autodistill model; add --labeler MODULE:CLASS"),
        ("--labeler-env {\"env_vars\":{}} --engine local", "--labeler-env is for the workers of Ray; add --engine ray"),
        ("--labeler-env [1] --engine ray", "--labeler-env [1]: cannot be read (No such file or directory)"),
        ("--labeler-env {\"pip\": --engine ray", "--labeler-env: "),
    ],
)  # fmt: skip
def test_mistakes_are_told_before_images_are_listed(flags: str, says: str, tmp_path: Path, labeler: Run) -> None:
    done = labeler("label", "/no/such/images", "-o", tmp_path / "out", "--classes", "dog", *flags.split())
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert says in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_model_that_cannot_be_made(tmp_path: Path, labeler: Run) -> None:
    images = write(tmp_path / "in", pixels(32))
    done = labeler(
        "label", images, "-o", tmp_path / "out", "--classes", "dog", "--labeler", f"{MODELS}:CannotBeMade", *LOCAL
    )
    assert done.returncode == 2
    assert f"--labeler {MODELS}:CannotBeMade cannot be made: RuntimeError: no weights here and a second" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_only_a_run_folder_names_is_never_loaded(
    tmp_path: Path, labeler: Run, checkpoint: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The class, the file among its arguments and the segmenter are loaded if a flag names them, and not else."""
    code, here, away = tmp_path / "code", tmp_path / "here", tmp_path / "away"
    code.mkdir()
    here.mkdir()
    (code / "their_model.py").write_text(
        f"from pathlib import Path\nfrom {MODELS} import BrightBoxes\nPath({str(tmp_path)!r}, 'ran').touch()\n"
        "class Theirs(BrightBoxes):\n    def __init__(self, ontology, weights):\n        super().__init__(ontology)\n"
        "        Path(weights).read_text()\n"
    )
    (here / "weights.pt").write_text("1")
    shutil.copytree(checkpoint("sam"), here / "sam")
    monkeypatch.syspath_prepend(str(code))
    images, output = write(tmp_path / "in", pixels(32)), tmp_path / "out"
    named = ("--labeler", "their_model:Theirs")
    weights = ("--labeler-args", f"weights={here / 'weights.pt'}")
    segmenter = ("--segmenter", here / "sam")
    label = ("label", images, "-o", output, "--classes", "dog", *LOCAL)
    assert labeler(*label, *named, *weights, *segmenter).returncode == 0
    whole = records_of(output)
    assert whole[0].instances
    Image.fromarray(pixels(50)).save(images / "new.png")
    here.rename(away)  # so that whatever opens a file there fails
    sys.modules.pop("their_model")
    (tmp_path / "ran").unlink()
    again = labeler(*label, "--model", "demo")
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "was labeled with another labeler" in again.stderr
    for command in ("export", "report"):
        done = labeler(command, output)
        assert done.returncode == 0, done.stderr
    assert "their_model:Theirs" in (output / "report.html").read_text()
    assert not (tmp_path / "ran").exists()
    unnamed = labeler(*label, *named, "--labeler-args", "weights=1", "--segmenter", "embedded:segmenter")
    assert (unnamed.returncode, unnamed.stderr.count("\n")) == (2, 1)
    assert "was labeled with another labeler_args and segmenter" in unnamed.stderr
    assert records_of(output) == whole
    away.rename(here)
    assert labeler(*label, *named, *weights, *segmenter).returncode == 0
    assert len(records_of(output)) == 2
