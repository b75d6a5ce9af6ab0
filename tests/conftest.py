"""Fixtures for all tests."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1]))  # behind the installed packages, which are what is tested
# Read when torch is loaded, also by the processes that tests start. Threads that spin for work would take as long as
# the tiny models themselves, and many times as long on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# These change what "auto" chooses, what a missing model is called, and which Ray is used. Tests set them themselves.
for _name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "RAY_ADDRESS"):
    os.environ.pop(_name, None)

os.fsync = lambda fd: None  # no test pulls the plug, and the disk may be busy

from tests.support.object_store import ENVIRONMENT, Bucket, Proxy, s3_server
from tests.support.tiny_models import write_checkpoint


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family's tiny checkpoint, written when first asked for. Never write into it."""
    folders: dict[str, Path] = {}

    def folder_of(family: str) -> Path:
        if family not in folders:
            folders[family] = tmp_path_factory.mktemp(family)
            write_checkpoint(family, folders[family])
        return folders[family]

    return folder_of


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """An empty bucket of an S3 on this machine, which this process and those it starts take for S3."""
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": s3_endpoint}.items():
        monkeypatch.setenv(name, value)
    _forget_connections()
    yield Bucket(f"test-{uuid.uuid4().hex[:12]}", s3_endpoint)
    _forget_connections()


@pytest.fixture
def proxy(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy on the way to ``bucket``, which fails as told; botocore's own retries are off, so as to test ours."""
    proxy = Proxy(bucket.endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    yield proxy
    proxy.close()


def _forget_connections() -> None:
    """fsspec keeps a file system as long as its arguments stay the same, and the endpoint is none of these."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
