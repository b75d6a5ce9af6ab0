"""The whole job on an S3 server: the same bytes as on a disk, whatever happens on the way."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labeler.demo.scenes import make_scene, scene_rng
from labeler.files.storage import locate, read_bytes, remove, write_bytes
from labeler.record_files import read_records
from tests.support import stand_in
from tests.support.command_line import CLASSES, Run, labeler_command, write_scenes
from tests.support.object_store import Bucket, Proxy
from tests.support.stand_in import Silent, stand_in_job
from workflows.label import LabelSummary, label

OPTIONS = ("--model", "demo", "--classes", CLASSES, "--shard-size", 2, "--device", "cpu")
# What names places, the times of files and those of the run, and what holds nothing.
OF_A_RUN = {"run/run.json", "run/images.parquet", "run/ledger.parquet", "run/summary.json", "run/lock"}


def upload(folder: Path, bucket: Bucket) -> None:
    with ThreadPoolExecutor(8) as pool:
        paths = [path for path in folder.rglob("*") if path.is_file()]
        list(pool.map(lambda path: bucket.put(f"in/{path.relative_to(folder)}", path.read_bytes()), paths))


def on_disk(output: Path) -> dict[str, bytes]:
    files = (path for path in output.rglob("*") if path.is_file())
    paths = {path.relative_to(output).as_posix(): path for path in files}
    return {name: path.read_bytes() for name, path in paths.items() if not is_left_out(name)}


def in_store(bucket: Bucket) -> dict[str, bytes]:
    return {name: data for name, data in bucket.contents("out/").items() if not is_left_out(name)}


def is_left_out(name: str) -> bool:
    """Files of one run, and the headers of images, which name digests as the place of the images has them."""
    return name in OF_A_RUN or name.endswith(".traits.json")


def run(images: str, output: str, shard_size: int = 4, prune: bool = False) -> LabelSummary:
    return label(stand_in_job(images, output, shard_size=shard_size, prune=prune), Silent())


def kill_in_the_middle(command: list[str], bucket: Bucket, records: int) -> None:
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(bucket.keys("out/run/records/")) < records:
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_kill_and_resume_and_export_at_the_command_line(bucket: Bucket, tmp_path: Path, labeler: Run) -> None:
    write_scenes(tmp_path / "scenes", range(10))
    upload(tmp_path / "scenes", bucket)
    command = ("label", f"{bucket.uri}/in", "-o", f"{bucket.uri}/out", *OPTIONS)
    kill_in_the_middle(labeler_command(*command), bucket, records=1)
    done_before = len(bucket.keys("out/run/records/"))
    assert done_before < 5
    assert "run/owner.json" in bucket.contents("out/")
    resumed = labeler(*command)
    assert resumed.returncode == 0, resumed.stderr
    assert f"{2 * done_before} of 10 images are labeled already" in resumed.stdout
    assert "ended unexpectedly" in resumed.stderr
    assert resumed.stderr.count("\n") == 1
    local = tmp_path / "local"
    assert labeler("label", tmp_path / "scenes", "-o", local, *OPTIONS).returncode == 0
    assert in_store(bucket) == on_disk(local)
    for output in (f"{bucket.uri}/out", local):
        done = labeler("export", output, "--val-share", "0.5", "--segmentation", "polygon")
        assert done.returncode == 0, done.stderr
    assert in_store(bucket) == on_disk(local)
    again = labeler(*command)
    assert again.returncode == 0
    assert "10 of 10 images are labeled already" in again.stdout
    assert again.stderr == ""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred small scenes, of two sizes and in three folders."""
    folder = tmp_path_factory.mktemp("images")
    scenes = [Image.fromarray(make_scene(scene_rng(5, index)).image) for index in range(20)]
    for index in range(100):
        path = folder / ("", "a", "b c")[index % 3] / f"{index:03d}.png"
        path.parent.mkdir(exist_ok=True)
        side = 24 + index % 2 * 12
        shaded = np.asarray(scenes[index % 20].resize((side, side))) // (1 + index % 3)
        Image.fromarray(shaded).save(path)
    return folder


@pytest.mark.slow
def test_a_hundred_images_from_a_store_to_a_store(bucket: Bucket, images: Path, tmp_path: Path) -> None:
    upload(images, bucket)
    command = [sys.executable, stand_in.__file__, f"{bucket.uri}/in", f"{bucket.uri}/out"]
    kill_in_the_middle(command, bucket, records=6)
    done_before = len(bucket.keys("out/run/records/"))
    resumed = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout == f"{4 * done_before} of 100\n"
    assert 6 <= done_before < 25
    run(str(images), str(tmp_path / "local"))
    found = in_store(bucket)
    assert found == on_disk(tmp_path / "local")
    assert len([name for name in found if name.startswith("images/")]) == 100


def test_a_store_that_stumbles_leaves_no_mark(
    bucket: Bucket, proxy: Proxy, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labeler.files.retries.WAITS", (0.01, 0.02, 0.04))
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(images.glob("*.png"))[:12]:
        (few / path.name).write_bytes(path.read_bytes())
    upload(few, bucket)
    proxy.fail = lambda method, path, before: ("busy", "", "drop", "")[before % 4] if sum(path.encode()) % 3 else ""
    run(f"{bucket.uri}/in", f"{bucket.uri}/out", shard_size=4)
    run(str(few), str(tmp_path / "local"), shard_size=4)
    assert in_store(bucket) == on_disk(tmp_path / "local")
    assert proxy.log != []


@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_torn_and_foreign_records_are_mended_by_the_next_run(
    kind: str, bucket: Bucket, images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted(images.glob("*.png"))[:12]:
        (few / path.name).write_bytes(path.read_bytes())
    output = str(tmp_path / "out") if kind == "folder" else f"{bucket.uri}/out"
    whole = run(str(few), output, shard_size=3)
    dataset = on_disk(tmp_path / "out") if kind == "folder" else in_store(bucket)
    assert caplog.messages == []
    records = locate(output) / "run" / "records"
    for name, data in {
        "000001.parquet": read_bytes(records / "000001.parquet")[:-99],
        "000002.parquet": read_bytes(records / "000000.parquet"),
        "000003.parquet": b"dear diary",
        "notes.txt": b"dear diary",
    }.items():
        write_bytes(records / name, data)
    mended = run(str(few), output, shard_size=3)
    whole.dataset.thresholds = mended.dataset.thresholds  # only the first run says which defaults it started from
    assert (mended.labeled.images, mended.dataset) == (9, whole.dataset)
    assert len(caplog.messages) == 7  # two foreign files; three that cannot be used, and where each was moved
    remove(records / "notes.txt")
    left = on_disk(tmp_path / "out") if kind == "folder" else in_store(bucket)
    unusable = {name for name in left if name.startswith("run/unusable/")}
    assert len(unusable) == 3
    assert {name: data for name, data in left.items() if name not in unusable} == dataset


def test_images_out_of_reach_are_error_records(
    bucket: Bucket, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labeler.files.retries.WAITS", (0.01,))
    for index in range(6):
        Image.new("RGB", (20, 20), (40 * index, 0, 0)).save(tmp_path / f"{index}.png")
    upload(tmp_path, bucket)
    causes = {"1.png": "busy", "3.png": "denied"}  # the header is asked for, then the pixels
    proxy.fail = lambda method, path, before: causes.get(path.rpartition("/")[2], "") if "/in/" in path else ""
    listed = bucket.uri + "/list.txt"
    bucket.put("list.txt", "".join(f"in/{name}.png\n" for name in (*range(6), "gone")).encode())
    summary = run(listed, str(tmp_path / "out"), shard_size=3)
    records = list(read_records(sorted((tmp_path / "out" / "run" / "records").glob("*.parquet"))))
    errors = {record.image_id: record.error for record in records if record.status == "error"}
    assert errors == {
        "in/1.png": "service Unavailable",
        "in/3.png": "access Denied",
        "in/gone.png": "the specified key does not exist.",
    }
    assert [record.image_id for record in records if record.status == "ok"] == [f"in/{n}.png" for n in (0, 2, 4, 5)]
    assert {name for name, _ in summary.dataset.failures} == set(errors)
    assert sum(summary.dataset.images.values()) == 4


def test_the_next_night_reads_only_what_is_new_or_another(
    bucket: Bucket, proxy: Proxy, images: Path, tmp_path: Path
) -> None:
    few = {path.name: path.read_bytes() for path in sorted(images.glob("*.png"))[:12]}
    first, second, third, fourth = list(few)[:4]
    places = f"{bucket.uri}/in", f"{bucket.uri}/out"
    for name, data in few.items():
        bucket.put(f"in/{name}", data)
    run(*places, shard_size=5)
    where = {key.rpartition("/")[2]: key for key in bucket.keys("out/images/")}
    few[first] = few[second]
    few["new.png"] = few.pop(third)
    bucket.remove(f"in/{third}")
    for name in (first, "new.png", fourth):  # the last as it was
        bucket.put(f"in/{name}", few[name])
    proxy.log.clear()
    summary = run(*places, shard_size=5, prune=True)
    assert summary.labeled.images == 2
    read = {path.rpartition("/in/")[2] for method, path in proxy.log if method == "GET" and "/in/" in path}
    assert read == {first, "new.png"}
    now = {key.rpartition("/")[2]: key for key in bucket.keys("out/images/")}
    assert now.keys() == few.keys()
    assert {name: now[name] for name in where if name != third} == {n: k for n, k in where.items() if n != third}
    for name, data in few.items():
        (tmp_path / name).write_bytes(data)
    run(str(tmp_path), str(tmp_path / "fresh"), shard_size=20)
    fresh = on_disk(tmp_path / "fresh")
    written = in_store(bucket)
    assert {name for name in fresh if not name.startswith("run/")} == {name for name in written if name[:4] != "run/"}
    for name in fresh:
        if name.startswith(("images/", "labels/")):
            assert written[name] == fresh[name]
    proxy.log.clear()
    assert run(*places, shard_size=5, prune=True).labeled.images == 0
    assert not [path for method, path in proxy.log if method == "GET" and "/in/" in path]


def test_a_second_run_on_an_output_in_a_store_is_refused(bucket: Bucket, images: Path, labeler: Run) -> None:
    holder = (
        "import sys; from labeler.files.storage import locate; from workflows.run.folder import RunFolder\n"
        "with RunFolder(locate(sys.argv[1])).locked(): print('held', flush=True); sys.stdin.read()"
    )
    bucket.put("in/a.png", (images / "000.png").read_bytes())
    process = subprocess.Popen(
        [sys.executable, "-c", holder, f"{bucket.uri}/out"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    refused = labeler("label", f"{bucket.uri}/in", "-o", f"{bucket.uri}/out", *OPTIONS)
    assert refused.returncode == 2
    assert f"{bucket.uri}/out is in use by another run (process {process.pid} on " in refused.stderr
    assert refused.stderr.count("\n") == 1
    process.communicate()
    assert locate(f"{bucket.uri}/out/run/owner.json").exists() is False


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("label", "{bucket}/none", "-o", "{tmp}/out", *OPTIONS), 2, "no such file or folder"),
        (("label", "{bucket}/*.jpg", "-o", "{tmp}/out", *OPTIONS), 3, "no image found"),
        (("label", "{bucket}", "-o", "s3://no-such-bucket/out", *OPTIONS), 2, "bucket does not exist"),
        (("label", "{bucket}/in", "-o", "{bucket}", *OPTIONS), 2, "lies in the output folder"),
        (("export", "{bucket}/in"), 2, "holds no run"),
        (("demo", "-o", "{bucket}/demo"), 2, "only a local path is accepted here"),
    ],
)
def test_mistakes_are_said_in_a_line(
    arguments: tuple[str, ...], code: int, said: str, bucket: Bucket, tmp_path: Path, labeler: Run
) -> None:
    bucket.put("in/a.png", b"")
    done = labeler(*(str(argument).format(bucket=bucket.uri, tmp=tmp_path) for argument in arguments))
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert bucket.keys() == ["in/a.png"]
