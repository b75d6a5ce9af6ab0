"""The Ray engine on a real cluster of several nodes (on this machine, with GPUs in name only), and what can befall it.

Whatever happens, the record files are the local engine's, byte for byte.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

from labeler.errors import ModelError, RunError, UsageError
from labeler.record_files import read_records
from tests.support import stand_in
from tests.support.command_line import CLASSES, Run, labeler_command, write_scenes
from tests.support.ray_cluster import NODE
from tests.support.stand_in import (
    GOOD,
    KILLS,
    LOSES_DEVICE,
    RAISES,
    KilledWhileLoading,
    Silent,
    StandIn,
    TellsThreads,
    record_files,
    stand_in_job,
    write_images,
)
from workflows.engines import attendance
from workflows.label import LabelSummary, label
from workflows.settings.engine import EngineConfig

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow
TWO_WORKERS = EngineConfig("ray", workers=2, cpus_per_worker=1)


def run(
    images: Path, output: Path, labeler: StandIn, engine: EngineConfig = TWO_WORKERS
) -> tuple[LabelSummary, Silent]:
    progress = Silent()
    return label(stand_in_job(images, output, labeler, engine), progress), progress


def assert_whole(output: Path, ids: list[str], failed: dict[str, str] | None = None) -> None:
    """One record an image, no other failure than these, no note left behind."""
    records = list(read_records(sorted((output / "run" / "records").glob("*.parquet"))))
    assert [record.image_id for record in records] == ids
    assert {record.image_id: record.error for record in records if record.status == "error"} == (failed or {})
    assert not list((output / "run" / "attempts").glob("*"))


def local_records(images: Path, output: Path, labeler: StandIn | None = None) -> dict[str, bytes]:
    label(stand_in_job(images, output, labeler or StandIn()), Silent())
    return record_files(output)


def when(condition: Callable[[], bool], act: Callable[[], Any]) -> threading.Thread:
    """Act once, from another thread, as soon as the condition holds."""

    def wait() -> None:
        until(condition)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def lose_power(cluster: Any, node: Any) -> None:
    """All processes of a node at once; those of a removed one may live long enough to finish what they are at."""
    kill_with_children(node.all_processes["raylet"][0].process.pid)
    cluster.remove_node(node, allow_graceful=False)
    cluster.wait_for_nodes()  # until the cluster knows, since the next test counts nodes


def records_written(output: Path, count: int) -> Callable[[], bool]:
    return lambda: len(list((output / "run" / "records").glob("0*.parquet"))) >= count


def test_an_image_that_raises_and_one_that_cannot_be_read(cluster: Any, tmp_path: Path) -> None:
    ids = write_images(tmp_path / "images", [GOOD] * 9 + [RAISES] + [GOOD] * 9)
    (tmp_path / "images" / ids[3]).write_bytes(b"")
    summary, progress = run(tmp_path / "images", tmp_path / "ray", StandIn())
    assert_whole(
        tmp_path / "ray", ids, {ids[3]: "the file is empty", ids[9]: "labeling failed: ValueError: no such luck"}
    )
    assert record_files(tmp_path / "ray") == local_records(tmp_path / "images", tmp_path / "local")
    assert progress.said[0] == "starting 2 workers of 1 GPU and 1 CPU"
    assert not any("continuing with" in message for message in progress.said)  # one round did
    assert (summary.labeled.images, summary.labeled.objects, summary.labeled.splits) == (19, 17, 1)
    assert sorted(image_id for image_id, _ in summary.labeled.failures) == [ids[3], ids[9]]
    assert sum(summary.labeled.workers.values()) == 19
    assert summary.first_image is not None


def test_a_batch_that_does_not_fit_into_memory(cluster: Any, tmp_path: Path) -> None:
    ids = write_images(tmp_path / "images", [GOOD] * 12)
    summary, _ = run(tmp_path / "images", tmp_path / "ray", StandIn(most=1))
    assert_whole(tmp_path / "ray", ids)
    assert summary.labeled.splits == 6
    assert record_files(tmp_path / "ray") == local_records(tmp_path / "images", tmp_path / "local")


@pytest.mark.parametrize("width", [KILLS, LOSES_DEVICE])
def test_an_image_that_ends_its_process(cluster: Any, tmp_path: Path, width: int) -> None:
    ids = write_images(tmp_path / "images", [GOOD] * 9 + [width] + [GOOD] * 9)
    run(tmp_path / "images", tmp_path / "ray", StandIn())
    assert_whole(tmp_path / "ray", ids, {ids[9]: "crashed the worker"})
    if width == KILLS:  # the local engine, started again until it is through
        command = [sys.executable, stand_in.__file__, str(tmp_path / "images"), str(tmp_path / "local")]
        codes = [subprocess.run(command, timeout=60).returncode for _ in range(4)]
        assert codes == [-signal.SIGKILL] * 4
        assert subprocess.run(command, timeout=60).returncode == 0
        assert record_files(tmp_path / "ray") == record_files(tmp_path / "local")


def test_a_worker_killed_amid_a_shard(cluster: Any, tmp_path: Path) -> None:
    ids = write_images(tmp_path / "images", [GOOD] * 60)
    (tmp_path / "pids").mkdir()

    def kill_one() -> None:
        os.kill(int(next((tmp_path / "pids").iterdir()).name), signal.SIGKILL)

    killer = when(records_written(tmp_path / "ray", 3), kill_one)
    run(tmp_path / "images", tmp_path / "ray", StandIn(seconds=0.2, pids=tmp_path / "pids"))
    killer.join()
    assert len(list((tmp_path / "pids").iterdir())) == 3  # two workers, and the one in place of the dead
    assert_whole(tmp_path / "ray", ids)
    assert record_files(tmp_path / "ray") == local_records(tmp_path / "images", tmp_path / "local")


def test_a_shard_whose_report_got_lost_is_not_labeled_again(cluster: Any, tmp_path: Path) -> None:
    ids = write_images(tmp_path / "images", [GOOD] * 16)
    (tmp_path / "pids").mkdir()
    written = tmp_path / "ray" / "run" / "records" / "000000.parquet"
    labeler = StandIn(pids=tmp_path / "pids", dies_after=written)
    times: list[int] = []
    watcher = when(written.exists, lambda: times.append(written.stat().st_mtime_ns))
    summary, _ = run(tmp_path / "images", tmp_path / "ray", labeler, EngineConfig("ray", workers=1, cpus_per_worker=1))
    watcher.join()
    assert (tmp_path / "pids" / "dead").exists()
    assert written.stat().st_mtime_ns == times[0]
    assert summary.labeled.images == 16
    assert_whole(tmp_path / "ray", ids)


def test_a_node_lost_for_good(cluster: Any, tmp_path: Path) -> None:
    ids = write_images(tmp_path / "images", [GOOD] * 72)
    (tmp_path / "pids").mkdir()
    node = cluster.add_node(**NODE)

    def all_are_at_work() -> bool:
        return len(list((tmp_path / "pids").iterdir())) == 3

    remover = when(all_are_at_work, lambda: lose_power(cluster, node))
    three = EngineConfig("ray", workers=3, cpus_per_worker=1)
    labeler = StandIn(seconds=0.3, pids=tmp_path / "pids")
    run(tmp_path / "images", tmp_path / "ray", labeler, three)
    remover.join()
    assert_whole(tmp_path / "ray", ids)
    assert record_files(tmp_path / "ray") == local_records(tmp_path / "images", tmp_path / "local")


def test_the_last_node_with_room_lost(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attendance, "LOST_SECONDS", 3.0)
    ids = write_images(tmp_path / "images", [GOOD] * 72)
    node = cluster.add_node(**NODE | {"num_gpus": 2})
    when(records_written(tmp_path / "ray", 2), lambda: lose_power(cluster, node))
    with pytest.raises(RunError, match="no node has room any more for one of 1 worker of 2 GPUs"):
        run(tmp_path / "images", tmp_path / "ray", StandIn(seconds=0.3), EngineConfig("ray", gpus_per_worker=2))
    run(tmp_path / "images", tmp_path / "ray", StandIn())  # with what there is, it goes on
    assert_whole(tmp_path / "ray", ids)


def test_a_run_grows_and_shrinks_with_its_cluster(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three to four workers are asked for where there is room for two; a node comes, and goes again without a word."""
    monkeypatch.setattr(attendance, "LINE_SECONDS", 0.5)
    ids = write_images(tmp_path / "images", [GOOD] * 120)
    (tmp_path / "pids").mkdir()
    progress = Silent()

    def said(words: str) -> Callable[[], bool]:
        return lambda: any(words in message for message in progress.said)

    def at_work() -> int:
        return len(list((tmp_path / "pids").iterdir()))

    engine = EngineConfig("ray", address=cluster.address, workers="3-4", cpus_per_worker=1)
    job = stand_in_job(tmp_path / "images", tmp_path / "ray", StandIn(seconds=0.3, pids=tmp_path / "pids"), engine)
    with ThreadPoolExecutor(1) as aside:  # since only the main thread can add a node
        labeling = aside.submit(label, job, progress)
        until(said("2 of at least 3 workers are there; waiting for room on the cluster"))
        assert at_work() == 0  # nothing is labeled before three are there
        node = cluster.add_node(**NODE)
        until(lambda: at_work() == 3)
        lose_power(cluster, node)
        labeling.result()
    assert_whole(tmp_path / "ray", ids)
    assert record_files(tmp_path / "ray") == local_records(tmp_path / "images", tmp_path / "local")
    assert progress.said[:2] == [
        "starting 3 to 4 workers of 1 GPU and 1 CPU",
        "the cluster has room for 2 of at least 3 workers; waiting for it to grow",
    ]
    assert said("3 of up to 4 workers are there")()
    assert said("2 of at least 3 workers are there; waiting for room on the cluster; these go on")()


def test_a_worker_that_never_starts_ends_the_run(cluster: Any, tmp_path: Path) -> None:
    write_images(tmp_path / "images", [GOOD] * 8)
    job = replace(
        stand_in_job(tmp_path / "images", tmp_path / "ray", StandIn(), TWO_WORKERS), labeler=KilledWhileLoading()
    )
    with pytest.raises(ModelError, match="killed while they load the models"):
        label(job, Silent())
    assert not list((tmp_path / "ray" / "run" / "attempts").glob("*"))


def test_models_take_the_cpus_of_their_worker(cluster: Any, tmp_path: Path) -> None:
    write_images(tmp_path / "images", [GOOD] * 2)
    job = stand_in_job(tmp_path / "images", tmp_path / "ray", StandIn(), EngineConfig("ray", cpus_per_worker=2))
    label(replace(job, labeler=TellsThreads(told=tmp_path / "threads")), Silent())
    assert (tmp_path / "threads").read_text() == "2"


def test_a_mistake_is_the_same_line_as_in_one_process(cluster: Any, scenes: Path, tmp_path: Path, labeler: Run) -> None:
    (tmp_path / "model").mkdir()
    options = ("--model", "demo", "--classes", "circle", "--detector", tmp_path / "model", "--shard-size", 2)
    local = labeler("label", scenes, "-o", tmp_path / "local", *options, "--device", "cpu")
    on_ray = labeler("label", scenes, "-o", tmp_path / "ray", *options, "--device", "cpu", "--address", cluster.address)
    assert (on_ray.returncode, on_ray.stderr) == (2, local.stderr)
    assert on_ray.stderr.count("\n") == 1


def test_more_than_there_is(cluster: Any, tmp_path: Path) -> None:
    write_images(tmp_path / "images", [GOOD] * 40)
    for engine, said in (
        (EngineConfig("ray", workers=3, gpus_per_worker=1), "Ray has 2 GPUs on 3 nodes, room for 2"),
        (EngineConfig("ray", workers=9, gpus_per_worker=0), "Ray has 4 CPUs to give on 3 nodes, room for 4"),
    ):
        with pytest.raises(UsageError, match=said):
            run(tmp_path / "images", tmp_path / "ray", StandIn(), engine)


def test_folders_that_a_node_does_not_see(cluster: Any, tmp_path: Path) -> None:
    """A node in a mount namespace of its own, where the output is another folder."""
    write_images(tmp_path / "images", [GOOD] * 8)
    (tmp_path / "ray").mkdir()
    hide = f"mount -t tmpfs none {tmp_path / 'ray'}"
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-m", "sh", "-c", hide]).returncode:
        pytest.skip("needs the right to mount")
    start = f"{hide} && exec ray start --address {cluster.address} --num-cpus 1 --num-gpus 0 --block"
    before = len(cluster_nodes())
    with subprocess.Popen(
        ["unshare", "-m", "sh", "-c", start], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as node:
        try:
            deadline = time.monotonic() + 60
            while len(cluster_nodes()) == before:
                assert node.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.1)
            with pytest.raises(UsageError, match=f"{tmp_path / 'ray'} is not visible to node .* such as NFS"):
                run(tmp_path / "images", tmp_path / "ray", StandIn())
        finally:
            kill_with_children(node.pid)
    deadline = time.monotonic() + 60
    while len(cluster_nodes()) > before:  # or the next test would ask it
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert not list((tmp_path / "ray" / "run").glob("seen-by-all*"))


def test_torn_and_foreign_records_are_labeled_again_and_nothing_else(cluster: Any, tmp_path: Path) -> None:
    ids = write_images(tmp_path / "images", [GOOD] * 20)
    run(tmp_path / "images", tmp_path / "ray", StandIn())
    records = tmp_path / "ray" / "run" / "records"
    whole = record_files(tmp_path / "ray")
    (records / "000001.parquet").write_bytes(whole["000001.parquet"][:-50])
    (records / "000003.parquet").write_bytes(whole["000000.parquet"])
    times = {path.name: path.stat().st_mtime_ns for path in records.iterdir()}
    summary, _ = run(tmp_path / "images", tmp_path / "ray", StandIn())
    assert summary.labeled.images == 8
    assert_whole(tmp_path / "ray", ids)
    assert record_files(tmp_path / "ray") == whole == local_records(tmp_path / "images", tmp_path / "local")
    kept = {path.name: path.stat().st_mtime_ns for path in records.iterdir()}
    assert {name for name in times if times[name] == kept[name]} == whole.keys() - {"000001.parquet", "000003.parquet"}


def test_a_run_with_nothing_new_starts_no_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "images", [GOOD] * 8)
    local_records(tmp_path / "images", tmp_path / "out")

    def started(*_: object) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr("workflows.recording.ray_engine", started)
    summary, _ = run(tmp_path / "images", tmp_path / "out", StandIn(), EngineConfig("ray", address="127.0.0.1:9"))
    assert (summary.labeled.images, sum(summary.dataset.images.values())) == (0, 8)


def cluster_nodes() -> list[Any]:
    return [node for node in ray.nodes() if node["Alive"]]


def worker_of(pid: int) -> psutil.Process:
    return next(p for p in psutil.Process(pid).children(recursive=True) if "ray::RayWorker" in "".join(p.cmdline()))


def kill_with_children(pid: int) -> None:
    process = psutil.Process(pid)
    for each in (*process.children(recursive=True), process):
        each.kill()


def test_the_same_dataset_as_in_one_process_after_kill_9_of_everything(tmp_path: Path, labeler: Run) -> None:
    """By the command line with the embedded weights, on a Ray of its own."""
    scenes = tmp_path / "scenes"
    write_scenes(scenes, range(16))
    options = ("--model", "demo", "--classes", CLASSES, "--shard-size", 2, "--device", "cpu")
    command = ("label", scenes, "-o", tmp_path / "ray", *options, "--engine", "ray", "--workers", 1)
    records = tmp_path / "ray" / "run" / "records"
    process = subprocess.Popen(labeler_command(*command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 180
    while len(list(records.glob("0*.parquet"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    kill_with_children(process.pid)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in records.glob("0*.parquet")}
    assert len(done) < 8
    resumed = subprocess.Popen(labeler_command(*command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    killer = when(records_written(tmp_path / "ray", len(done) + 1), lambda: worker_of(resumed.pid).kill())
    said, warned = resumed.communicate(timeout=300)
    killer.join()
    assert resumed.returncode == 0
    assert "ended unexpectedly; resuming from where it stopped" in warned
    assert warned.count("\n") == 1
    assert f"\n{2 * len(done)} of 16 images are labeled already\n" in said
    assert "raylet" not in said  # Ray's own words about the dead worker stay in its logs
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert_whole(tmp_path / "ray", sorted(path.name for path in scenes.iterdir()))
    assert labeler("label", scenes, "-o", tmp_path / "local", *options).returncode == 0
    assert record_files(tmp_path / "ray") == record_files(tmp_path / "local")


@pytest.mark.parametrize(("number", "by"), [(signal.SIGINT, ""), (signal.SIGTERM, " by SIGTERM")])
def test_a_stop_is_clean_and_says_how_to_go_on(cluster: Any, tmp_path: Path, number: signal.Signals, by: str) -> None:
    scenes = tmp_path / "scenes"
    write_scenes(scenes, range(60))  # some seconds' work, for the signal to come in
    command = labeler_command(
        *("label", scenes, "-o", tmp_path / "ray", "--model", "demo", "--classes", CLASSES, "--shard-size", 1),
        *("--address", cluster.address, "--device", "cpu", "--workers", 1),
    )
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not list((tmp_path / "ray" / "run" / "records").glob("0*.parquet")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error == f"labeler: stopped{by}; re-run the same command to resume\n"
    assert not list((tmp_path / "ray" / "run" / "attempts").glob("*"))


def test_an_address_where_no_cluster_is(scenes: Path, tmp_path: Path, labeler: Run) -> None:
    def at(address: str) -> tuple[int, str]:
        done = labeler(
            *("label", scenes, "-o", tmp_path / "out", "--model", "demo", "--classes", "circle", "--address", address)
        )
        return done.returncode, done.stderr

    def answer() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(100)
            connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

    assert at("127.0.0.1:9") == (2, "labeler: no Ray cluster answers at 127.0.0.1:9: Connection refused\n")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        silent = f"127.0.0.1:{listening.getsockname()[1]}"
        assert at(silent) == (2, f"labeler: no Ray cluster answers at {silent}: timed out\n")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=answer, daemon=True).start()
        other = f"127.0.0.1:{listening.getsockname()[1]}"
        assert at(other) == (2, f"labeler: no Ray cluster answers at {other}: something else is there\n")


def test_an_environment_reaches_the_workers(cluster: Any, tmp_path: Path, labeler: Run) -> None:
    (tmp_path / "images").mkdir()
    for index in range(2):
        Image.new("RGB", (30, 20), (0, 0, 200)).save(tmp_path / "images" / f"{index}.png")
    (tmp_path / "environment.toml").write_text('[env_vars]\nLABELER_TEST_CONFIDENCE = "0.625"\n')
    done = labeler(
        "label", tmp_path / "images", "-o", tmp_path / "out", "--classes", "sky", "--shard-size", 1, "--engine", "ray",
        "--workers", 1, "--cpus-per-worker", 1, "--device", "cpu",
        "--labeler", "tests.support.autodistill_model:TellsEnvironment",
        "--labeler-env", tmp_path / "environment.toml",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    records = list(read_records(sorted((tmp_path / "out" / "run" / "records").glob("*.parquet"))))
    assert [[found.score for found in record.instances] for record in records] == [[0.625]] * 2
    assert "LABELER_TEST_CONFIDENCE" not in os.environ
