from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from labeler.errors import LabelerError, ModelError, UsageError
from labeler.models.config import PRESETS, ModelConfig
from labeler.models.detectors.grounding_dino import GroundingDinoDetector
from labeler.models.detectors.omdet_turbo import OmDetTurboDetector
from labeler.models.detectors.owlv2 import Owlv2Detector
from labeler.models.identity import embedded_models, is_on_this_machine, model_identity
from labeler.models.labelers.grounded_sam import GroundedSamLabeler
from labeler.models.loading import load_detector, load_grounded_sam, load_segmenter
from labeler.models.runtime import Runtime
from labeler.models.segmenters.sam import SamSegmenter
from labeler.models.taggers.config import TaggingConfig
from labeler.models.taggers.loading import load_tagger
from tests.support.model_hub import model_hub
from tests.support.object_store import Proxy
from tests.support.tiny_models import DETECTORS, SEGMENTERS

Checkpoint = Callable[[str], Path]
KINDS = {
    "grounding_dino": GroundingDinoDetector,
    "mm_grounding_dino": GroundingDinoDetector,
    "owlv2": Owlv2Detector,
    "omdet_turbo": OmDetTurboDetector,
} | dict.fromkeys((*SEGMENTERS, "sam3_tracker"), SamSegmenter)


def config_for(folder: Path | str, **options: Any) -> ModelConfig:
    return ModelConfig(str(folder), str(folder), **{"device": "cpu"} | options)


def load(family: str, folder: Path | str, **options: Any) -> Any:
    return (load_detector if family in DETECTORS else load_segmenter)(config_for(folder, **options))


# --- what loads -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [*DETECTORS, *SEGMENTERS, "sam3_tracker"])
def test_every_family_loads_from_a_folder(family: str, checkpoint: Checkpoint) -> None:
    if family.startswith("edgetam"):
        pytest.importorskip("timm")
    model = load(family, checkpoint(family), batch_size=3, floor=0.2)
    assert type(model) is KINDS[family]
    assert model.runtime == Runtime("cpu", torch.float32, 3, 0.2)
    assert not model.model.training
    stored = load_file(checkpoint(family) / "model.safetensors")
    if family.startswith("sam3"):  # the names of its tracker, where the video model keeps it
        stored = {
            name.replace("tracker_model.", "")
            .replace("detector_model.vision_encoder.backbone.", "vision_encoder.backbone.")
            .replace("tracker_neck.", "vision_encoder.neck."): tensor
            for name, tensor in stored.items()
        }
        assert model.model.state_dict().keys() <= stored.keys()
    shared = {name: tensor for name, tensor in model.model.state_dict().items() if name in stored}
    assert len(shared) > 50
    assert all(torch.equal(tensor, stored[name]) for name, tensor in shared.items())


def test_half_precision_weights_are_read_as_fp32(checkpoint: Checkpoint, tmp_path: Path) -> None:
    shutil.copytree(checkpoint("sam"), tmp_path / "half")
    weights = tmp_path / "half" / "model.safetensors"
    save_file({name: tensor.half() for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    rewritten(dtype="float16")(tmp_path / "half")
    assert {parameter.dtype for parameter in load("sam", tmp_path / "half").model.parameters()} == {torch.float32}


def test_both_models_of_a_labeler(checkpoint: Checkpoint) -> None:
    config = ModelConfig(
        str(checkpoint("mm_grounding_dino")), str(checkpoint("sam")), device="cpu", floor=0.3, max_instances=7
    )
    labeler = load_grounded_sam(config)
    assert isinstance(labeler, GroundedSamLabeler)
    assert (labeler.candidate_floor, labeler.max_instances) == (0.3, 7)


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("auto", torch.float32), ("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_precision_on_the_cpu(precision: str, dtype: torch.dtype, checkpoint: Checkpoint) -> None:
    assert load("sam", checkpoint("sam"), precision=precision).runtime.dtype == dtype


# --- configuration --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"device": "tpu"}, "--device must be one of auto, cpu, mps, cuda, cuda:N, not 'tpu'"),
        ({"device": ""}, "--device must be"),
        ({"device": "CPU"}, "--device must be"),
        ({"device": "auto:1"}, "--device must be"),
        ({"device": "cpu:x"}, "--device must be"),
        ({"device": "cuda:"}, "--device must be"),
        ({"device": "cuda:-1"}, "--device must be"),
        ({"precision": "fp8"}, "--precision must be one of auto, fp32, bf16, fp16, not 'fp8'"),
        ({"batch_size": 0}, "--batch-size must be auto or a whole number, 1 or more, not 0"),
        ({"max_instances": 0}, "--max-instances must be a whole number, 1 or more, not 0"),
        ({"prompts_per_caption": 0}, "--prompts-per-caption must be a whole number, 1 or more, not 0"),
        ({"floor": 0.0}, "--floor must be a number above 0 and at most 1, not 0.0"),
        ({"floor": 1.1}, "--floor must be"),
        ({"floor": float("nan")}, "--floor must be"),
        ({"clean_share": 0.5}, "--clean-share must be a number from 0 to below 0.5, not 0.5"),
        ({"clean_share": -0.1}, "--clean-share must be"),
    ],
)
def test_wrong_configuration(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        ModelConfig("a", "b", **options)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "options",
    [{"device": device} for device in ("auto", "cpu", "mps", "cuda", "cuda:0", "cuda:12")]
    + [{"batch_size": 1, "max_instances": 1, "prompts_per_caption": 1, "floor": 1.0, "clean_share": 0.0}],
)
def test_right_configuration(options: dict[str, Any]) -> None:
    ModelConfig("a", "b", **options)


@pytest.mark.parametrize(
    ("device", "gpus"), [("cuda", 0), ("cuda:0", 0), ("mps", 0), ("cuda:1", 1), ("cuda:12", 2), ("mps", 1)]
)
def test_a_device_that_is_not_there(
    device: str, gpus: int, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for family in ("owlv2", "sam"):
        with pytest.raises(UsageError) as caught:
            load(family, checkpoint(family), device=device)
        assert str(caught.value) == f"device {device!r} is not on this machine; use --device cpu or --device auto"


def test_auto_takes_the_cpu_where_there_is_nothing_better(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert load("sam", checkpoint("sam"), device="auto").runtime.device == "cpu"


# --- what does not load ---------------------------------------------------------------------------------------------


def assert_one_line(error: LabelerError, *parts: str) -> None:
    text = str(error)
    assert "\n" not in text
    assert all(part in text for part in parts), text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("/no/such/folder", "no such folder"),
        ("./nothing", "no such folder"),
        ("~/nothing-at-all", "no such folder"),
        ("a/b/c", "no such folder"),
        ("..\\models", "no such folder"),
        (str(Path(__file__)), "no such folder"),
        ("embedded:nothing", "the embedded models are embedded:detector, embedded:segmenter"),
        ("embedded:", "the embedded models are embedded:detector, embedded:segmenter"),
        ("embedded:..", "the embedded models are embedded:detector, embedded:segmenter"),
        ("", "names no model; add --"),
        ("@main", "neither a folder nor a hub id (owner/name)"),
        ("a model", "neither a folder nor a hub id (owner/name)"),
        ("owner/", "neither a folder nor a hub id (owner/name)"),
    ],
)
def test_no_such_model(source: str, message: str) -> None:
    for family, role in (("owlv2", "detector"), ("sam", "segmenter")):
        with pytest.raises(ModelError) as caught:
            load(family, source)
        assert_one_line(caught.value, role, repr(source), message)
    assert not is_on_this_machine(source)


@pytest.mark.parametrize(("family", "role"), [("sam", "detector"), ("owlv2", "segmenter")])
def test_a_model_in_the_wrong_role(family: str, role: str, checkpoint: Checkpoint) -> None:
    loader = load_detector if role == "detector" else load_segmenter
    with pytest.raises(ModelError) as caught:
        loader(config_for(checkpoint(family)))
    assert_one_line(caught.value, f"{role} {str(checkpoint(family))!r} is of type {family!r}; known types: ")


def cut(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:100])


def removed(*names: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return remove


def rewritten(**changes: Any) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return rewrite


def lacking(count: int) -> Callable[[Path], None]:
    """Remove some weights, which transformers would silently replace by random numbers."""

    def lack(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        for name in sorted(weights)[:count]:
            del weights[name]
        save_file(weights, folder / "model.safetensors", {"format": "pt"})

    return lack


def misshapen(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights[min(weights)] = torch.zeros(3, 3, 3)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


@pytest.mark.parametrize(
    ("family", "harm", "message"),
    [
        ("mm_grounding_dino", removed("model.safetensors"), "no file named model.safetensors"),
        ("mm_grounding_dino", removed("config.json"), "model_type"),
        ("mm_grounding_dino", removed("processor_config.json"), "processor"),
        ("mm_grounding_dino", removed(*TOKENIZER), "are the tokenizer's files missing?"),
        ("mm_grounding_dino", removed("tokenizer.json"), "are the tokenizer's files missing?"),
        ("owlv2", removed(*TOKENIZER), "okenizer"),
        ("omdet_turbo", removed("tokenizer.json"), "okenizer"),
        ("mm_grounding_dino", cut("config.json"), "not a valid JSON file"),
        ("mm_grounding_dino", cut("processor_config.json"), "not a valid JSON file"),
        ("mm_grounding_dino", cut("tokenizer.json"), ""),
        ("mm_grounding_dino", cut("model.safetensors"), "header"),
        ("mm_grounding_dino", rewritten(model_type="no-such-type"), "no-such-type"),
        ("mm_grounding_dino", rewritten(num_queries="many"), "num_queries"),
        ("mm_grounding_dino", lacking(5), "the weights do not fit config.json"),
        ("mm_grounding_dino", misshapen, "the weights do not fit config.json"),
        ("mm_grounding_dino", rewritten(d_model=64), "the weights do not fit config.json"),
        ("sam", removed("model.safetensors"), "no file named model.safetensors"),
        ("sam", removed("processor_config.json"), "processor"),
        ("sam", cut("config.json"), "not a valid JSON file"),
        ("sam", cut("model.safetensors"), "header"),
        ("sam", rewritten(vision_config="none"), "vision_config"),
        ("sam", lacking(1), "the weights do not fit config.json"),
        ("sam", misshapen, "the weights do not fit config.json"),
        ("sam2_video", lacking(1), "the weights do not fit config.json"),
    ],
)
def test_a_broken_folder(
    family: str, harm: Callable[[Path], None], message: str, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(checkpoint(family), folder)
    harm(folder)
    with pytest.raises(ModelError) as caught:
        load(family, folder)
    role = "detector" if family in DETECTORS else "segmenter"
    assert_one_line(caught.value, f"{role} {str(folder)!r} cannot be loaded: ", message)


# --- the hub and its cache, without a network -----------------------------------------------------------------------

WITHOUT_NETWORK = """
import json, sys
from labeler.models.identity import is_on_this_machine, model_identity
from labeler.errors import LabelerError
from labeler.models.config import ModelConfig
from labeler.models.loading import load_segmenter

for source in sys.argv[1:]:
    try:
        answer = type(load_segmenter(ModelConfig("embedded:detector", source, device="cpu"))).__name__
    except LabelerError as error:
        answer = f"{type(error).__name__}: {error}"
    print(json.dumps([source, answer, is_on_this_machine(source), model_identity(source)]))
"""


def cache_model(folder: Path, cache: Path, name: str, files: set[str] | None = None) -> str:
    """Put a model into a hub cache as a download does; returns its commit."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    root = cache / f"models--{name.replace('/', '--')}"
    snapshot = root / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(commit)
    for path in folder.iterdir():
        if files is None or path.name in files:
            shutil.copy(path, snapshot)
    return commit


@pytest.mark.parametrize("setting", [{}, {"HF_HUB_OFFLINE": "1"}], ids=["unreachable", "offline"])
def test_without_a_network(setting: dict[str, str], checkpoint: Checkpoint, tmp_path: Path) -> None:
    cache = tmp_path / "hub"
    commit = cache_model(checkpoint("sam"), cache, "someone/whole")
    cache_model(checkpoint("sam"), cache, "someone/half", {"config.json"})
    cache_model(checkpoint("owlv2"), cache, "someone/other")
    sources = ["someone/whole", f"someone/whole@{commit}", "someone/half", "someone/other", "someone/nothing@v1"]
    # No server listens on the discard port.
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:9"} | setting
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_NETWORK, *sources], capture_output=True, text=True, check=True, env=environment
    )
    assert "Retrying" not in run.stderr
    assert [json.loads(line) for line in run.stdout.splitlines()] == [
        ["someone/whole", "SamSegmenter", True, "someone/whole"],
        [sources[1], "SamSegmenter", True, sources[1]],
        [
            "someone/half",
            "ModelError: segmenter 'someone/half' is not on this machine and could not be downloaded; on a "
            "machine with a network, run `labeler models --fetch someone/half --to models`, then copy models/half "
            "here and give it as --segmenter",
            False,
            "someone/half",
        ],
        [
            "someone/other",
            "ModelError: segmenter 'someone/other' is of type 'owlv2'; known types: sam, sam_hq, sam2, sam2_video, "
            "edgetam, edgetam_video, sam3_tracker, sam3_video",
            True,
            "someone/other",
        ],
        [
            "someone/nothing@v1",
            "ModelError: segmenter 'someone/nothing@v1' is not on this machine and could not be downloaded; on "
            "a machine with a network, run `labeler models --fetch someone/nothing@v1 --to models`, then copy "
            "models/nothing here and give it as --segmenter",
            False,
            "someone/nothing@v1",
        ],
    ]


@pytest.mark.slow
def test_a_hub_that_stumbles(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with model_hub({"someone/model": checkpoint("sam")}) as (address, _):
        proxy = Proxy(address)
        proxy.fail = lambda method, path, before: (
            "drop" if not before and ("/api/" in path or "/config.j" in path) else ""
        )
        environment = os.environ | {"HF_HOME": str(tmp_path), "HF_ENDPOINT": proxy.endpoint, "HF_HUB_DISABLE_XET": "1"}
        command = [sys.executable, "-c", WITHOUT_NETWORK, "someone/model"]
        run = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert run.returncode == 0, run.stderr
        assert json.loads(run.stdout)[1:3] == ["SamSegmenter", True], run.stdout
        assert proxy.count("GET", "/api/models/someone/model") >= 2
        proxy.close()


def test_a_disk_that_stumbles(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    monkeypatch.setattr("labeler.files.retries.WAITS", (0.01, 0.01))
    read, failures = transformers.AutoConfig.from_pretrained, [errno.ESTALE, errno.EIO]

    def stumble(*arguments: Any, **options: Any) -> Any:
        if failures:
            raise OSError(failures[0], os.strerror(failures.pop(0)))
        return read(*arguments, **options)

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", stumble)
    assert type(load("sam", checkpoint("sam"))) is SamSegmenter
    failures += [errno.EIO] * 3
    with pytest.raises(ModelError) as caught:
        load("sam", checkpoint("sam"))
    assert_one_line(caught.value, "cannot be loaded: ", "Input/output error")
    failures.append(errno.EACCES)
    with pytest.raises(ModelError, match="Permission denied"):
        load("sam", checkpoint("sam"))
    assert failures == []


# --- identity -------------------------------------------------------------------------------------------------------


def flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda folder: None, True),
        (lambda folder: flip_last_byte(folder / "model.safetensors"), False),
        (rewritten(note=1), False),
        (lambda folder: flip_last_byte(folder / "tokenizer.json"), False),
        (lambda folder: flip_last_byte(folder / "processor_config.json"), False),
        (lambda folder: (folder / "config.json").rename(folder / "config2.json"), False),
        (removed("tokenizer_config.json"), False),
        (lambda folder: (folder / "README.md").write_text("about"), True),
        (lambda folder: (folder / ".cache").mkdir(), True),
        (lambda folder: os.utime(folder / "model.safetensors", (1, 1)), True),
    ],
    ids=["nothing", "weights", "config", "tokenizer", "processor", "name", "removed", "readme", "folder", "time"],
)
def test_identity_of_a_folder_is_its_content(
    change: Callable[[Path], None], same: bool, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    first, second = checkpoint("owlv2"), tmp_path / "elsewhere"
    shutil.copytree(first, second)
    change(second)
    assert (model_identity(str(first)) == model_identity(str(second))) is same
    assert model_identity(str(first)).startswith("blake2b:")


def test_embedded_models() -> None:
    assert embedded_models() == ["embedded:detector", "embedded:segmenter"]
    assert len({model_identity(source) for source in embedded_models()}) == 2
    assert all(is_on_this_machine(source) for source in embedded_models())
    assert (PRESETS["demo"].detector, PRESETS["demo"].segmenter) == tuple(embedded_models())


def test_a_folder_is_on_this_machine(checkpoint: Checkpoint) -> None:
    assert is_on_this_machine(str(checkpoint("sam")))


OWN_CODE = """
from pathlib import Path
Path({marker!r}).write_text("ran")
from transformers import PretrainedConfig
class EvilConfig(PretrainedConfig):
    model_type = "grounding-dino"
"""


@pytest.mark.parametrize("role", ["detector", "segmenter", "tagger-model"])
def test_code_that_a_checkpoint_brings_is_never_run(role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even if the user would agree when ``transformers`` asks; without a terminal, nothing waits for an answer."""
    folder, marker = tmp_path / "checkpoint", tmp_path / "ran.txt"
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({"model_type": "evil", "auto_map": {"AutoConfig": "evil.EvilConfig", "AutoModel": "evil.Evil"}})
    )
    (folder / "evil.py").write_text(OWN_CODE.format(marker=str(marker)))
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    loaders: dict[str, Callable[[], object]] = {
        "detector": lambda: load_detector(config_for(folder)),
        "segmenter": lambda: load_segmenter(config_for(folder)),
        "tagger-model": lambda: load_tagger(TaggingConfig("vlm", str(folder)), config_for("embedded:detector"), None),
    }
    with pytest.raises(ModelError) as raised:
        loaders[role]()
    assert_one_line(raised.value, role, str(folder), "needs code of its own, which is never run")
    assert not marker.exists()


def test_a_known_type_with_code_beside_it_is_loaded_without_that(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder, marker = tmp_path / "checkpoint", tmp_path / "ran.txt"
    shutil.copytree(checkpoint(DETECTORS[0]), folder)
    content = json.loads((folder / "config.json").read_text())
    content["auto_map"] = {"AutoConfig": "evil.EvilConfig", "AutoModelForZeroShotObjectDetection": "evil.Evil"}
    (folder / "config.json").write_text(json.dumps(content))
    (folder / "evil.py").write_text(OWN_CODE.format(marker=str(marker)))
    load_detector(config_for(folder))
    assert not marker.exists()
