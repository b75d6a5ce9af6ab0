"""Datasets from and to stores: the same files as a local export's, and nothing sent that is there already."""

from __future__ import annotations

import io
import json
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from PIL import Image

from labeler.errors import RunError
from labeler.files.image_table import ImageTable
from labeler.files.images import content_digest
from labeler.files.storage import locate, read_bytes, write_bytes
from labeler.record_files import read_records, write_records
from labeler.records import ImageRecord
from tests.support.object_store import Bucket, Proxy, files_below, web_server
from tests.support.run_folders import ONTOLOGY, instance
from tests.support.run_settings import run_settings
from workflows.dataset.export import export
from workflows.dataset.export_summary import ExportSummary
from workflows.run.folder import RunFolder
from workflows.settings.export import ExportConfig

IDS = ("a.png", "b/c d.png", "b/ü.png", "e.png", "f.png", "g.png")
NEVER = ("run/run.json", "run/lock", "run/ledger.parquet")  # the ledger holds what each place says of its files


def image(shade: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (60, 40), (shade, 0, 0)).save(stream, "BMP")  # of one size whatever the shade
    return stream.getvalue()


def make_run(root: Any, output: Any, ids: tuple[str, ...] = IDS) -> RunFolder:
    for shade, image_id in enumerate(ids):
        if isinstance(root, Path):
            (root / image_id).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(root / image_id, image(shade))
    run = RunFolder(output)
    with run.locked():
        run.begin(run_settings(root), restart=False)
        run.plan(ImageTable.of(pa.array(ids), pa.array([""] * len(ids))), shard_size=4)
    for shard in run.shards():
        digests = {image_id: content_digest(image(ids.index(image_id))) for image_id in shard.image_ids}
        records = [ImageRecord(i, 60, 40, digest, instances=(instance(0, 0.8, 0),)) for i, digest in digests.items()]
        write_records(shard.records_path, records)
    return run


def label_again(run: RunFolder, image_id: str, data: bytes) -> None:
    """The record of an image as if it had been labeled with another content."""
    for shard in run.shards():
        if image_id in shard.image_ids:
            records = list(read_records([shard.records_path]))
            new = [replace(r, digest=content_digest(data)) if r.image_id == image_id else r for r in records]
            write_records(shard.records_path, new)


def contents(output: Any) -> dict[str, bytes]:
    names = (name for name in files_below(output) if name not in NEVER and not name.endswith(".traits.json"))
    return {name: read_bytes(output / name) for name in names}


def place(kind: str, tmp_path: Path, bucket: Bucket) -> Any:
    name = uuid.uuid4().hex
    return {
        "folder": tmp_path / name,
        "s3": locate(f"{bucket.uri}/{name}"),
        "memory": locate(f"memory://{name}"),
    }[kind]


@pytest.mark.parametrize("output", ["folder", "s3", "memory"])
@pytest.mark.parametrize("root", ["folder", "s3", "memory"])
@pytest.mark.parametrize(
    "config",
    [ExportConfig(formats=("coco", "yolo", "cutouts", "hf")), ExportConfig(formats=("coco",), val_share=1.0)],
    ids=["all", "coco"],
)
def test_a_dataset_is_the_same_wherever_it_lies(
    root: str, output: str, config: ExportConfig, tmp_path: Path, bucket: Bucket
) -> None:
    sources, target = place(root, tmp_path, bucket), place(output, tmp_path, bucket)
    run = make_run(sources, target)
    local = make_run(tmp_path / "here", tmp_path / "local")
    for _ in range(2):
        made, expected = export(run, sources, ONTOLOGY, config), export(local, tmp_path / "here", ONTOLOGY, config)
        # files in a store are not looked at
        assert replace(made, sights=[], seen={}) == replace(expected, sights=[], seen={})
        assert contents(target) == contents(local.output)
    assert len([name for name in contents(target) if name.startswith("images/")]) == len(IDS)


def sent(proxy: Proxy) -> list[str]:
    """What was written or removed since the last call, less the run's own files."""
    names = [f"{method} {path.partition('/out/')[2]}" for method, path in proxy.log if method in ("PUT", "DELETE")]
    proxy.log.clear()
    return [name for name in names if " run/" not in name]


@pytest.mark.parametrize("link", ["hard", "symlink", "copy"])
def test_data_yaml_comes_last_and_nothing_is_sent_twice(
    link: str, bucket: Bucket, proxy: Proxy, tmp_path: Path
) -> None:
    root = locate(f"{bucket.uri}/in") if link == "hard" else tmp_path / "in"
    run = make_run(root, locate(f"{bucket.uri}/out"))
    sent(proxy)
    config = ExportConfig(link=link, val_share=0)
    export(run, root, ONTOLOGY, config)
    first = sent(proxy)
    assert len(first) == len(IDS) * 2 + 2 + 1 + 1
    assert first[-1] == "PUT data.yaml"
    content = yaml.safe_load(bucket.get("out/data.yaml"))
    assert (content["train"], "path" in content) == (
        "images/train",
        False,
    )  # relative: Ultralytics reads any copy of it
    export(run, root, ONTOLOGY, config)
    assert sent(proxy) == []
    write_bytes(root / "e.png", image(99))
    sent(proxy)
    export(run, root, ONTOLOGY, config)
    assert sent(proxy) == []  # the labels are those of the image as it was
    assert bucket.get("out/images/train/e.png") == image(3)
    label_again(run, "e.png", image(99))
    sent(proxy)
    export(run, root, ONTOLOGY, config)
    assert sent(proxy) == ["PUT images/train/e.png", "PUT README.md"]
    assert bucket.get("out/images/train/e.png") == image(99)


def test_what_an_earlier_export_left_goes(bucket: Bucket, tmp_path: Path) -> None:
    run = make_run(tmp_path / "in", locate(f"{bucket.uri}/out"))
    export(
        run, tmp_path / "in", ONTOLOGY, ExportConfig(val_share=0, formats=("coco", "yolo", "cutouts"), layout="nested")
    )
    assert len(bucket.contents("out/cutouts/")) == len(IDS)
    export(run, tmp_path / "in", ONTOLOGY, ExportConfig(val_share=1, formats=("coco",)), resplit=True)
    names = {name for name in bucket.contents("out/") if not name.startswith("run/")}
    annotations = {f"annotations/instances_{split}.json" for split in ("train", "val")}
    assert names == {f"images/val/{i}" for i in IDS} | annotations | {"README.md"}
    export(run, tmp_path / "in", ONTOLOGY, ExportConfig(link="none", formats=("yolo",)))
    names = {name.partition("/")[0] for name in bucket.contents("out/")}
    assert names == {"run", "labels", "README.md"}


def test_images_left_where_they_are_are_named_by_their_uri(bucket: Bucket) -> None:
    root = locate(f"{bucket.uri}/in")
    run = make_run(root, locate(f"{bucket.uri}/out"))
    export(run, root, ONTOLOGY, ExportConfig(link="none", val_share=0))
    named = [entry["file_name"] for entry in json.loads(bucket.get("out/annotations/instances_train.json"))["images"]]
    assert named == [f"{bucket.uri}/in/{image_id}" for image_id in IDS]
    assert not [name for name in bucket.contents("out/") if name.startswith("images/")]


def test_a_dataset_in_a_store_outlives_its_input(bucket: Bucket, tmp_path: Path) -> None:
    """Also in the folders of formats that have images of their own."""
    root = tmp_path / "in"
    run = make_run(root, locate(f"{bucket.uri}/out"))
    export(run, root, ONTOLOGY, ExportConfig(val_share=0, formats=("coco", "yolo", "hf"), layout="nested"))
    (root / "a.png").unlink()
    (root / "e.png").unlink()
    for folder in ("images/train", "hf/train"):
        bucket.remove(f"out/{folder}/e.png")
    summary = export(run, root, ONTOLOGY, ExportConfig(val_share=1, formats=("coco", "yolo", "hf")), resplit=True)
    assert summary.missing == ["e.png"]
    assert bucket.get("out/images/val/a.png") == image(0)
    assert bucket.get("out/hf/validation/a.png") == image(0)
    assert set(bucket.contents("out/images/")) == {f"val/{i}" for i in IDS if i != "e.png"}


def test_an_export_with_no_image_left_changes_nothing_in_a_store(bucket: Bucket, tmp_path: Path) -> None:
    run = make_run(tmp_path / "in", locate(f"{bucket.uri}/out"))
    export(run, tmp_path / "in", ONTOLOGY, ExportConfig(link="none"))
    before = bucket.contents()
    with pytest.raises(RunError, match="none of the labeled images"):
        export(run, tmp_path / "moved", ONTOLOGY, ExportConfig())
    assert bucket.contents() == before


def test_unchanged_images_are_not_fetched_again(bucket: Bucket, proxy: Proxy, tmp_path: Path) -> None:
    root = locate(f"{bucket.uri}/in")
    run = make_run(root, tmp_path / "out")
    proxy.log.clear()
    first = export(run, root, ONTOLOGY, ExportConfig())
    assert proxy.count("GET", "/in/") == len(IDS)
    assert export(run, root, ONTOLOGY, ExportConfig()) == first
    export(run, root, ONTOLOGY, ExportConfig(val_share=0.9), resplit=True)  # these are moved here
    assert proxy.count("GET", "/in/") == len(IDS)
    write_bytes(root / "g.png", image(99) + b"longer")
    export(run, root, ONTOLOGY, ExportConfig(val_share=0), resplit=True)
    assert proxy.count("GET", "/in/") == len(IDS)
    assert (tmp_path / "out" / "images" / "train" / "g.png").read_bytes() == image(5)
    label_again(run, "g.png", image(99) + b"longer")
    export(run, root, ONTOLOGY, ExportConfig(val_share=0))
    assert proxy.count("GET", "/in/") == len(IDS) + 1
    assert (tmp_path / "out" / "images" / "train" / "g.png").read_bytes() == image(99) + b"longer"


def test_a_store_that_fails_in_the_middle_leaves_the_old_data_yaml_and_the_next_export_mends_it(
    bucket: Bucket, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labeler.files.retries.WAITS", (0.01,))
    run = make_run(tmp_path / "in", locate(f"{bucket.uri}/out"))
    proxy.fail = lambda method, path, before: "busy" if method == "PUT" and "instances_val" in path else ""
    with pytest.raises(OSError, match=r"instances_val\.json") as caught:
        export(run, tmp_path / "in", ONTOLOGY, ExportConfig())
    assert caught.value.filename == f"{bucket.uri}/out/annotations/instances_val.json"
    assert "data.yaml" not in bucket.contents("out/")
    proxy.fail = lambda method, path, before: ""
    export(run, tmp_path / "in", ONTOLOGY, ExportConfig())
    local = make_run(tmp_path / "in", tmp_path / "local")
    export(local, tmp_path / "in", ONTOLOGY, ExportConfig())
    assert contents(run.output) == contents(local.output)


def test_a_list_of_web_addresses(tmp_path: Path) -> None:
    """A web server need not list what it holds, so each image is asked for by itself."""
    run = make_run(tmp_path / "in", tmp_path / "out")
    (tmp_path / "in" / "e.png").unlink()
    with web_server(tmp_path) as web:
        summary: ExportSummary = export(run, locate(f"{web}/in"), ONTOLOGY, ExportConfig())
    assert summary.missing == ["e.png"]
    assert sum(summary.images.values()) == len(IDS) - 1
    assert {path.read_bytes() for path in (run.output / "images").rglob("*.png")} == {image(n) for n in (0, 1, 2, 4, 5)}
