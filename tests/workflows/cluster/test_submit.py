"""``labeler submit`` on a real Ray head, which this module starts for itself, with token authentication on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT
from tests.support.command_line import CLASSES, contents, labeler_command, write_scenes

DEMO = ("--model", "demo", "--classes", CLASSES, "--device", "cpu", "--engine", "local")
pytestmark = pytest.mark.slow


@dataclass
class Head:
    """A running Ray head. While ``hold`` exists its labeler waits; while ``die`` does, it is killed."""

    address: str
    token: str
    bin: Path
    env: dict[str, str]

    @property
    def hold(self) -> Path:
        return self.bin / "hold"

    @property
    def die(self) -> Path:
        return self.bin / "die"

    def command(self, *arguments: object) -> list[str]:
        return [*labeler_command("submit", *arguments), "--address", self.address]

    def submit(self, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        options = {"env": self.env, **options}
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=300, **options)

    def api(self, path: str, method: str = "GET") -> Any:
        request = urllib.request.Request(self.address + path, method=method)
        request.add_header("Authorization", f"Bearer {self.token}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def wait_for(self, run: str, *statuses: str) -> None:
        deadline = time.monotonic() + 180
        while (status := self.api(f"/api/jobs/{run}")["status"]) not in statuses:
            assert time.monotonic() < deadline, status
            time.sleep(0.2)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    folder, port = tmp_path_factory.mktemp("head"), free_port()
    labeler = folder / "labeler"
    labeler.write_text(
        f"#!/bin/sh\nwhile [ -e {folder}/hold ]; do sleep 0.1; done\n"
        f'[ -e {folder}/die ] && kill -9 $$\nexec {sys.executable} -m workflows.commands.cli "$@"\n'
    )
    labeler.chmod(0o755)
    token = "the-token-of-this-cluster-and-no-other"
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env |= {
        "HOME": str(folder), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }  # fmt: skip
    session = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # Ray's sockets lie below it, and their paths must be short
    start = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats",
        f"--temp-dir={session}", f"--port={free_port()}", f"--dashboard-port={port}", "--dashboard-host=127.0.0.1",
        f"--ray-client-server-port={free_port()}", "--dashboard-agent-listen-port=0", "--num-cpus=3",
        "--object-store-memory=100000000",
    ]  # fmt: skip
    log = open(folder / "head.log", "wb")  # noqa: SIM115 - it lives as long as the process
    process = subprocess.Popen(
        start, stdout=log, stderr=log, env={**env, "PATH": f"{folder}:/usr/bin:/bin"}, start_new_session=True
    )
    running = Head(f"http://127.0.0.1:{port}", token, folder, env)
    try:
        deadline = time.monotonic() + 180
        while True:
            try:
                running.api("/api/version")
                break
            except OSError:
                assert process.poll() is None, (folder / "head.log").read_text()
                assert time.monotonic() < deadline, (folder / "head.log").read_text()
                time.sleep(0.5)
        yield running
    finally:
        process.terminate()  # it takes what it started with it
        process.wait(timeout=120)
        log.close()
        shutil.rmtree(session, ignore_errors=True)


@pytest.fixture
def scene_folder(tmp_path: Path) -> Path:
    write_scenes(tmp_path / "scenes", range(2))
    return tmp_path


def test_the_same_labeling_as_here(head: Head, scene_folder: Path) -> None:
    (scene_folder / "job.toml").write_text('formats = ["coco"]\naccept_score = 0.3\n')
    job = ("scenes", *DEMO[:-2], "--config", "job.toml", "--accept-score", "0.35")
    done = head.submit(*job, "-o", "out", cwd=scene_folder)  # on Ray's workers, as is its default
    assert done.returncode == 0, done.stderr + done.stdout
    assert "labeling 2 images" in done.stdout
    assert "starting 1 worker of 1 CPU" in done.stdout
    assert done.stderr.count("\n") == 1, done.stderr
    assert f"must see {scene_folder / 'scenes'} and {scene_folder / 'out'}" in done.stderr
    subprocess.run(labeler_command("label", *job, "-o", "here"), cwd=scene_folder, env=head.env, check=True)
    assert contents(scene_folder / "out") == contents(scene_folder / "here")
    there, here = (json.loads((scene_folder / out / "run" / "run.json").read_text()) for out in ("out", "here"))
    assert there == here

    again = head.submit(*job, "-o", "out", cwd=scene_folder)
    assert again.returncode == 0, again.stderr
    assert "2 of 2 images are labeled already" in again.stdout
    assert "labeling 2 images" not in again.stdout  # a log of its own


@pytest.mark.parametrize(("scenes", "code"), [([0], 1), ([], 3), (None, 2)])
def test_exit_codes_are_those_of_the_job(scenes: list[int] | None, code: int, head: Head, tmp_path: Path) -> None:
    images = tmp_path / "images"
    if scenes is not None:
        write_scenes(images, scenes)
    if scenes:
        (images / "torn.png").write_bytes(b"no image")
    done = head.submit(images, "-o", tmp_path / "out", *DEMO)
    assert done.returncode == code, done.stderr + done.stdout
    assert "Traceback" not in done.stderr + done.stdout


def test_one_job_of_a_name_at_a_time(head: Head, scene_folder: Path) -> None:
    job = (scene_folder / "scenes", "-o", scene_folder / "out", *DEMO, "--name", "nightly")
    head.hold.touch()
    try:
        first = head.submit(*job, "--no-wait")
        second = head.submit(*job)
    finally:
        head.hold.unlink()
    assert (first.returncode, first.stdout) == (0, "nightly-1\n"), first.stderr
    assert second.returncode == 2
    assert second.stderr.count("\n") == 1, second.stderr
    assert "nightly-1 is under way" in second.stderr
    head.wait_for("nightly-1", "SUCCEEDED")
    assert (scene_folder / "out" / "data.yaml").exists()
    third = head.submit(*job, "--no-wait")
    assert (third.returncode, third.stdout) == (0, "nightly-2\n"), third.stderr
    head.wait_for("nightly-2", "SUCCEEDED")


def test_of_two_starts_at_once_one_is_refused(head: Head, scene_folder: Path) -> None:
    blind = (  # as if each had looked before the other began
        "import sys; from ray.job_submission import JobSubmissionClient; from workflows.commands.cli import main\n"
        "JobSubmissionClient.list_jobs = lambda client: []\nsys.exit(main(sys.argv[1:]))"
    )
    job = (scene_folder / "none", "-o", scene_folder / "out", *DEMO, "--name", "twice", "--no-wait")
    command = [sys.executable, "-c", blind, *head.command(*job)[3:]]
    starts = [subprocess.run(command, env=head.env, capture_output=True, text=True, timeout=300) for _ in range(2)]
    assert [start.returncode for start in starts] == [0, 2]
    assert starts[1].stderr.count("\n") == 1, starts[1].stderr
    assert "twice-1 is under way" in starts[1].stderr


def following(head: Head, *job: object) -> subprocess.Popen[str]:
    """A process that follows the log of a job, which is held."""
    process = subprocess.Popen(
        head.command(*job), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=head.env
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


def test_the_job_goes_on_without_its_follower(head: Head, scene_folder: Path) -> None:
    head.hold.touch()
    try:
        process = following(head, scene_folder / "scenes", "-o", scene_folder / "out", *DEMO, "--name", "left")
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    finally:
        head.hold.unlink()
    assert process.returncode == 130
    assert error.count("\n") == 2, error  # that it started, and this:
    assert f"left-1 goes on without being followed; to stop it: ray job stop left-1 --address {head.address}" in error
    head.wait_for("left-1", "SUCCEEDED")


def test_a_stopped_job(head: Head, scene_folder: Path) -> None:
    head.hold.touch()
    try:
        process = following(head, scene_folder / "scenes", "-o", scene_folder / "out", *DEMO, "--name", "stopped")
        head.wait_for("stopped-1", "RUNNING")
        head.api("/api/jobs/stopped-1/stop", method="POST")
        _, error = process.communicate(timeout=120)
    finally:
        head.hold.unlink()
    assert process.returncode == 130
    assert "stopped-1 was stopped" in error


def test_a_job_that_is_killed(head: Head, scene_folder: Path) -> None:
    head.die.touch()
    try:
        done = head.submit(scene_folder / "scenes", "-o", scene_folder / "out", *DEMO, "--name", "killed")
    finally:
        head.die.unlink()
    assert done.returncode == 128 + signal.SIGKILL, done.stderr
    assert "killed-1 broke off with exit code" in done.stderr


def test_a_cluster_without_labeler(head: Head, scene_folder: Path) -> None:
    labeler = head.bin / "labeler"
    away = labeler.rename(head.bin / "away")
    try:
        done = head.submit(scene_folder / "scenes", "-o", scene_folder / "out", *DEMO, "--name", "bare")
    finally:
        away.rename(labeler)
    assert done.returncode == 2
    assert "bare-1: the cluster has no labeler command; install autodistill-labeler==" in done.stderr


def test_a_cut_connection_loses_and_repeats_nothing(head: Head, scene_folder: Path) -> None:
    impatient = (
        "import sys; from workflows.cluster import submit; from workflows.commands.cli import main\n"
        "submit.QUIET_SECONDS = submit.RETRY_SECONDS = 0.5; sys.exit(main(sys.argv[1:]))"
    )
    job = (scene_folder / "scenes", "-o", scene_folder / "out", *DEMO, "--name", "cut")
    command = [sys.executable, "-c", impatient, *head.command(*job)[3:]]
    done = subprocess.run(command, env=head.env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == head.api("/api/jobs/cut-1/logs")["logs"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"RAY_AUTH_TOKEN": "another"}, "does not take the token; set RAY_AUTH_MODE=token"),
        ({"RAY_AUTH_MODE": "disabled"}, "does not take the token; set RAY_AUTH_MODE=token"),
        ({"RAY_ADDRESS": "http://127.0.0.1:1"}, "http://127.0.0.1:1: no Ray cluster answers"),
        ({"RAY_API_SERVER_ADDRESS": "http://none.invalid:8265"}, "http://none.invalid:8265: no Ray cluster answers"),
    ],
)
def test_no_way_in_is_one_line(changed: dict[str, str], said: str, head: Head, scene_folder: Path) -> None:
    command = labeler_command("submit", scene_folder / "scenes", "-o", scene_folder / "out", *DEMO)
    env = {**head.env, "RAY_ADDRESS": head.address, **changed}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert said in done.stderr
    assert not done.stdout


def test_the_command_line_names_the_cluster_before_the_environment(head: Head, scene_folder: Path) -> None:
    env = {**head.env, "RAY_ADDRESS": "http://127.0.0.1:1", "RAY_API_SERVER_ADDRESS": "http://127.0.0.1:1"}
    done = head.submit(scene_folder / "none", "-o", scene_folder / "out", *DEMO, "--no-wait", env=env)
    assert done.returncode == 0, done.stderr
