"""COCO files and WebDataset in parts, against the same dataset in one file per split."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pycocotools.coco import COCO

from labeler.errors import RunError
from labeler.files.image_table import ImageTable
from labeler.files.images import content_digest
from labeler.files.listing import stamps
from labeler.record_files import write_records
from labeler.records import ImageRecord
from tests.support.run_folders import ONTOLOGY, instance
from tests.support.run_settings import run_settings
from workflows.dataset import shared_files
from workflows.dataset.export import export
from workflows.run.folder import RunFolder
from workflows.settings.export import ExportConfig

NAMES = [f"a.b/{number:02d}.png" for number in range(12)] + ["turned.gif"]
WHOLE = ExportConfig(formats=("coco", "webdataset"), layout="nested")
PARTS = ExportConfig(formats=("coco", "webdataset"), dataset_shards=4, layout="nested")


@pytest.fixture(scope="module")
def labeled(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, Path]:
    folder = tmp_path_factory.mktemp("parts")
    run, root = RunFolder(folder / "out"), folder / "in"
    with run.locked():
        run.begin(run_settings(root), restart=False)
        add(run, root, NAMES)
    return run, root


def add(run: RunFolder, root: Path, names: list[str]) -> None:
    """Images and records as `label` leaves them; those that are there stay."""
    for number, name in enumerate(names):
        if not (root / name).exists():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((40, 60, 3), number, np.uint8)).save(root / name)
    run.plan(ImageTable.of(pa.array(names, pa.string()), pa.array(stamps(root, names), pa.string())), shard_size=5)
    for shard in run.waiting():
        records = []
        for image_id in shard.image_ids:
            found = tuple(instance(number % 2, 0.9, 9 * number) for number in range(len(image_id) % 4))
            digest = content_digest((root / image_id).read_bytes())
            records.append(ImageRecord(image_id, 60, 40, digest, instances=found))
        write_records(shard.records_path, records)


def coco_content(paths: list[Path]) -> dict[str, list[Any]]:
    """The annotations without ids, by image name."""
    content = {}
    for path in paths:
        coco = COCO(path)
        for image in coco.loadImgs(coco.getImgIds()):
            found = coco.loadAnns(coco.getAnnIds(image["id"]))
            assert image["file_name"] not in content
            content[image["file_name"]] = [{**each, "id": 0, "image_id": 0} for each in found]
    return content


def samples(paths: list[Path]) -> dict[str, tuple[bytes, list[Any]]]:
    """(image file, annotations) by image id."""
    content = {}
    for path in paths:
        with tarfile.open(path) as tar:
            members = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
        for name, data in members.items():
            if name.endswith(".json"):
                sample = json.loads(data)
                content[sample["image_id"]] = (members[name.replace(".json", ".png")], sample["annotations"])
    return content


def test_the_parts_together_hold_what_the_whole_files_hold(labeled: tuple[RunFolder, Path]) -> None:
    run, root = labeled
    export(run, root, ONTOLOGY, WHOLE)
    coco, tars = run.output / "annotations", run.output / "webdataset"
    assert sorted(path.name for path in tars.iterdir()) == ["train.tar", "val.tar"]
    whole = {split: coco_content([coco / f"instances_{split}.json"]) for split in ("train", "val")}
    every = samples(list(tars.iterdir()))
    assert every.keys() == set(NAMES)
    for split, images in whole.items():
        for name, expected in images.items():
            image_id = NAMES[-1] if name == "turned.png" else name
            image, in_sample = every[image_id]
            assert image == (run.output / "images" / split / name).read_bytes()
            assert [{**each, "id": 0, "image_id": 0} for each in in_sample] == expected
    export(run, root, ONTOLOGY, PARTS)
    for split in ("train", "val"):
        paths = [coco / f"instances_{split}-{part:05d}-of-00004.json" for part in range(4)]
        assert coco_content(paths) == whole[split]
        assert sum(bool(coco_content([path])) for path in paths) > 1
    assert len(list(coco.iterdir())) == len(list(tars.iterdir())) == 8  # and the whole files are gone
    assert samples(list(tars.iterdir())) == every


def test_images_that_stay_where_they_are_are_in_the_samples(labeled: tuple[RunFolder, Path]) -> None:
    run, root = labeled
    export(run, root, ONTOLOGY, PARTS)
    before = samples(list((run.output / "webdataset").iterdir()))
    export(run, root, ONTOLOGY, ExportConfig(formats=("webdataset",), link="none"))
    assert not (run.output / "images").exists()
    assert samples(list((run.output / "webdataset").iterdir())) == before  # the GIF as the PNG of a dataset


def test_a_new_image_changes_its_part_alone(labeled: tuple[RunFolder, Path]) -> None:
    run, root = labeled
    export(run, root, ONTOLOGY, PARTS)
    paths = [*run.output.glob("annotations/*"), *run.output.glob("webdataset/*")]
    before = {path: path.stat().st_ino for path in paths}
    export(run, root, ONTOLOGY, PARTS)
    assert {path: path.stat().st_ino for path in paths} == before
    with run.locked():
        add(run, root, [*NAMES, "new.png"])
    export(run, root, ONTOLOGY, PARTS)
    changed = [path for path in paths if path.stat().st_ino != before[path]]
    assert [path.suffix for path in changed] == [".json", ".tar"]
    assert "new.png" in samples(changed[1:])


def test_few_files_are_open_at_once(labeled: tuple[RunFolder, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    run, root = labeled
    export(run, root, ONTOLOGY, PARTS)
    paths = [*run.output.glob("annotations/*"), *run.output.glob("webdataset/*")]
    before = {path: path.read_bytes() for path in paths}
    for path in paths:
        path.unlink()
    monkeypatch.setattr(shared_files, "FILES_AT_ONCE", 3)
    export(run, root, ONTOLOGY, PARTS)
    assert {path: path.read_bytes() for path in paths} == before


def test_a_coco_file_that_nobody_could_read_is_refused(
    labeled: tuple[RunFolder, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, root = labeled
    export(run, root, ONTOLOGY, WHOLE)
    before = sorted(run.output.glob("annotations/*"))
    monkeypatch.setattr(shared_files, "MOST_ANNOTATIONS", 7)
    with pytest.raises(RunError, match=r"a COCO file would hold \d+ annotations, .* add --dataset-shards 3 or more"):
        export(run, root, ONTOLOGY, WHOLE)
    assert sorted(run.output.glob("annotations/*")) == before
    export(run, root, ONTOLOGY, ExportConfig(formats=("webdataset",)))  # no COCO file
    export(run, root, ONTOLOGY, ExportConfig(formats=("coco",), dataset_shards=16))
