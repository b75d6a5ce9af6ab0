"""``RamTagger`` with a stand-in for the package ``ram``, compared with the stand-in's inference."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from ontologies import OntologyError
from ontologies.taggers.ram import KINDS, RamTagger, load_ram
from tests.support.tiny_models import make_image
from tests.support.tiny_taggers import RAM_PACKAGE, forget_ram, write_ram_weights

IMAGES = [make_image(40 + 9 * seed, 64 - 5 * seed, seed) for seed in range(5)]


@pytest.fixture(autouse=True)
def no_ram() -> Iterator[None]:
    """Forget the package ``ram`` that a test imports."""
    yield
    forget_ram()


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(RAM_PACKAGE))


def pixels_of(tagger: RamTagger, image: Any) -> torch.Tensor:
    return tagger.transform(PIL.Image.fromarray(image)).unsqueeze(0)


def own_answer(kind: str, tagger: RamTagger, image: Any) -> set[str]:
    import ram

    infer = ram.inference_tag2text if kind == "tag2text" else ram.inference_ram
    answer = infer(pixels_of(tagger, image), tagger.model)[0]
    return set(filter(None, (answer if isinstance(answer, str) else answer[0]).split(" | ")))


@torch.no_grad()
def own_scores(model: Any, pixels: torch.Tensor) -> np.ndarray:
    """The scores of one image, computed from the public parts of the model."""
    embeds = model.visual_encoder(pixels)
    if hasattr(model, "image_proj"):
        embeds = model.image_proj(embeds)
        labels = model.labels(embeds)
    else:
        labels = model.label_embed.weight.unsqueeze(0)
    hidden = model.tagging_head(labels, embeds, None, return_dict=False, mode="tagging")[0]
    return 1 / (1 + np.exp(-model.fc(hidden).flatten().double().numpy()))


@pytest.mark.parametrize("kind", KINDS)
def test_tags_are_the_models_own(kind: str, package: None, tmp_path: Path) -> None:
    tagger = load_ram(str(write_ram_weights(kind, tmp_path / "weights.pth")), kind, batch_size=2)
    tagged = tagger.tag(IMAGES)
    assert [{name for name, _ in tags} for tags in tagged] == [own_answer(kind, tagger, image) for image in IMAGES]
    assert len({tuple(name for name, _ in tags) for tags in tagged}) > 1, "all alike show nothing"
    for image, tags in zip(IMAGES, tagged, strict=True):
        assert [score for _, score in tags] == sorted((score for _, score in tags), reverse=True)
        scores = own_scores(tagger.model, pixels_of(tagger, image))
        for name, score in tags:
            assert score == pytest.approx(
                scores[tagger.model.tag_list == name].max(), abs=1e-5
            )  # float32, in another batch


@pytest.mark.parametrize("kind", KINDS)
def test_threads_do_not_see_each_others_scores(kind: str, package: None, tmp_path: Path) -> None:
    tagger = load_ram(str(write_ram_weights(kind, tmp_path / "weights.pth")), kind)
    expected = [tagger.tag([image])[0] for image in IMAGES * 4]
    slow = tagger.model.visual_encoder.register_forward_hook(lambda *_: time.sleep(0.01))
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda image: tagger.tag([image])[0], IMAGES * 4)) == expected
    slow.remove()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_behind(kind: str, package: None, tmp_path: Path) -> None:
    tagger = load_ram(str(write_ram_weights(kind, tmp_path / "weights.pth")), kind)
    assert tagger.tag([]) == []
    assert tagger.tag(IMAGES[:1]) == tagger.tag(IMAGES[:1])
    assert not tagger.model.fc._forward_hooks


def test_deleted_tags_give_no_name_and_no_score(package: None, tmp_path: Path) -> None:
    """The second "train" is deleted and has a higher score; the score of the first one counts."""
    tagger = load_ram(str(write_ram_weights("tag2text", tmp_path / "weights.pth")), "tag2text")
    with torch.no_grad():
        tagger.model.fc.W.zero_()
        tagger.model.fc.b[:] = torch.tensor([[1.0, -9, 5, -9, -9, 3.0, -9, 5]])
    (tags,) = tagger.tag(IMAGES[:1])
    assert tags == [("train", pytest.approx(1 / (1 + np.exp(-3.0))))]

    tagger.model.delete_tag_index = [5]
    (tags,) = RamTagger(tagger.model, tagger.transform).tag(IMAGES[:1])
    assert dict(tags)["train"] == pytest.approx(1 / (1 + np.exp(-1.0)))
    assert set(dict(tags)) == {"train", "back", "two"}


def test_no_tag_at_all(package: None, tmp_path: Path) -> None:
    tagger = load_ram(str(write_ram_weights("ram", tmp_path / "weights.pth")), "ram")
    tagger.model.class_threshold[:] = 1.0
    assert tagger.tag(IMAGES) == [[]] * len(IMAGES)


def test_loading_keeps_warnings_and_prints_nothing(
    package: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_ram_weights("ram_plus", tmp_path / "weights.pth")
    for name in [name for name in sys.modules if name.split(".")[0] == "ram"]:
        del sys.modules[name]
    filters = list(warnings.filters)
    capsys.readouterr()
    load_ram(str(path))
    assert warnings.filters == filters
    assert capsys.readouterr().out == ""


def say(checkpoint: Path, kind: str = "ram_plus") -> str:
    with pytest.raises(OntologyError) as raised:
        load_ram(str(checkpoint), kind)
    (line,) = str(raised.value).splitlines()
    return line


def test_a_missing_package_gives_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if not Path(entry, "ram").exists()])
    (tmp_path / "weights.pth").touch()
    line = say(tmp_path / "weights.pth")
    assert "pip install git+https://github.com/xinyu1205/recognize-anything.git" in line


@pytest.mark.parametrize(
    "code", ["from transformers.modeling_utils import apply_chunking_to_forward_", "import fairscale_"]
)
def test_a_package_that_does_not_import_gives_one_line(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site" / "ram").mkdir(parents=True)
    (tmp_path / "site" / "ram" / "__init__.py").write_text(code)
    (tmp_path / "weights.pth").touch()
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    line = say(tmp_path / "weights.pth")
    assert code.split()[-1] in line
    assert "pip install" not in line


def test_bad_checkpoints_give_one_line(package: None, tmp_path: Path) -> None:
    assert "absent.pth: no such file" in say(tmp_path / "absent.pth")
    (tmp_path / "text.pth").write_text("no checkpoint")
    assert "text.pth: cannot be loaded as ram_plus" in say(tmp_path / "text.pth")
    torch.save({"weights": {}}, tmp_path / "other.pth")
    assert "other.pth: cannot be loaded" in say(tmp_path / "other.pth")
    assert "cannot be loaded as ram_plus: " in say(write_ram_weights("ram", tmp_path / "ram.pth"))
    assert "known taggers: ram_plus, ram, tag2text" in say(tmp_path / "ram.pth", "rem")


class Evil:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.path, "ran")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_checkpoint_runs_no_code(
    kind: str, zipped: bool, package: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if ``torch.load`` runs code by default, as before torch 2.6."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    path, marker = write_ram_weights(kind, tmp_path / "weights.pth"), tmp_path / "ran.txt"
    state = torch.load(path, weights_only=True)
    torch.save(state | {"more": Evil(marker)}, path, _use_new_zipfile_serialization=zipped)
    assert f"cannot be loaded as {kind}: it is not a checkpoint, or it contains more than weights" in say(path, kind)
    assert not marker.exists()
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    assert load_ram(str(path), kind).tag(IMAGES[:1])
