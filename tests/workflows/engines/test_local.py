"""The local engine where a process can go on no more; Ray's is in test_ray_engine.py."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from labeler.errors import DeviceError
from labeler.record_files import read_records
from tests.support import ROOT
from tests.support.stand_in import GOOD, LOSES_DEVICE, RAISES, Silent, StandIn, stand_in_job, write_images
from workflows.label import label


def test_an_image_that_loses_the_device_is_left_out_in_the_end(tmp_path: Path) -> None:
    write_images(tmp_path / "images", [GOOD, GOOD, LOSES_DEVICE, GOOD, GOOD, RAISES])
    job = stand_in_job(tmp_path / "images", tmp_path / "out", StandIn())
    for _ in range(4):  # twice with others, twice alone
        with pytest.raises(DeviceError):
            label(job, Silent())
    label(job, Silent())
    errors = [record.error for record in read_records(sorted((tmp_path / "out/run/records").glob("*.parquet")))]
    assert errors == ["", "", "crashed the worker", "", "", "labeling failed: ValueError: no such luck"]
    assert not list((tmp_path / "out" / "run" / "attempts").iterdir())


@pytest.mark.parametrize("option", ["retry_failed", "restart"])
def test_a_new_try_forgets_what_died(tmp_path: Path, option: str) -> None:
    write_images(tmp_path / "images", [GOOD, GOOD, LOSES_DEVICE, GOOD])
    job = stand_in_job(tmp_path / "images", tmp_path / "out", StandIn())
    for _ in range(4):
        with pytest.raises(DeviceError):
            label(job, Silent())
    with pytest.raises(DeviceError):
        label(replace(job, **{option: True}), Silent())


def test_a_stop_leaves_no_note(tmp_path: Path) -> None:
    class Stopped(StandIn):
        def label(self, *_: object) -> list[list[object]]:  # type: ignore[override]
            raise KeyboardInterrupt

    write_images(tmp_path / "images", [GOOD] * 4)
    job = stand_in_job(tmp_path / "images", tmp_path / "out", Stopped())
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            label(job, Silent())
    assert not list((tmp_path / "out" / "run" / "attempts").iterdir())


def test_a_run_in_one_process_never_loads_ray(tmp_path: Path) -> None:
    write_images(tmp_path / "images", [GOOD] * 4)
    code = "import sys; from tests.support.stand_in import main; main(); assert not {'torch', 'ray'} & set(sys.modules)"
    command = [sys.executable, "-c", code, str(tmp_path / "images"), str(tmp_path / "out")]
    subprocess.run(command, check=True, cwd=ROOT, timeout=60)
