"""What passes and what lasts, by the errors that libraries raise; stores that fail, by a proxy that drops requests."""

from __future__ import annotations

import errno
import hashlib
import io
import os
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import botocore.exceptions
import httpx
import pytest
import s3fs
from fsspec.exceptions import FSTimeoutError
from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled
from PIL import Image

from labeler.errors import ImageError
from labeler.files import retries, storage, store
from labeler.files.images import HEAD_BYTES, ImageFile, image_size, read_image
from labeler.files.retries import may_pass, retrying
from tests.support.object_store import Bucket, Proxy, web_server


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "WAITS", (0.01, 0.02, 0.04, 0.08))


def png(side: int = 40, noise: bool = False) -> bytes:
    stream = io.BytesIO()
    image = Image.frombytes("RGB", (side, side), os.urandom(side * side * 3)) if noise else Image.new("RGB", (side, 9))
    image.save(stream, "PNG")
    return stream.getvalue()


def aws(code: str, status: int) -> botocore.exceptions.ClientError:
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return botocore.exceptions.ClientError(answer, "GetObject")


def http_error(status: int) -> aiohttp.ClientResponseError:
    return aiohttp.ClientResponseError(SimpleNamespace(real_url="http://x"), (), status=status)  # type: ignore[arg-type]


def caused(error: Exception, cause: Exception) -> Exception:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        *((OSError(number, os.strerror(number)), True) for number in (
            errno.ESTALE, errno.EIO, errno.ETIMEDOUT, errno.EAGAIN, errno.ECONNRESET, errno.EHOSTUNREACH, errno.EPIPE,
        )),
        *((OSError(number, os.strerror(number)), False) for number in (
            errno.ENOENT, errno.EACCES, errno.ENOSPC, errno.EROFS, errno.EISDIR, errno.EFBIG, errno.ENOTDIR,
        )),
        (aws("SlowDown", 503), True),
        (aws("NoSuchKey", 404), False),
        (aws("AccessDenied", 403), False),
        (caused(OSError(errno.EIO, "as s3fs has it"), aws("Unheard", 400)), False),
        (caused(OSError(errno.EBUSY, "as s3fs has it"), aws("SlowDown", 503)), True),
        (botocore.exceptions.EndpointConnectionError(endpoint_url="http://x"), True),
        (botocore.exceptions.ConnectionClosedError(endpoint_url="http://x"), True),
        (botocore.exceptions.NoCredentialsError(), False),
        (http_error(500), True),
        (http_error(429), True),
        (http_error(404), False),
        (aiohttp.ServerDisconnectedError(), True),
        (aiohttp.ClientPayloadError("cut short"), True),
        (httpx.ConnectError("refused"), True),
        (httpx.ReadTimeout("slow"), True),
        (TimeoutError(), True),
        (FSTimeoutError(), True),
        (OfflineModeIsEnabled("set so"), False),
        (LocalEntryNotFoundError("not in the cache"), False),
        (caused(OSError("we could not connect"), httpx.ConnectError("refused")), True),
        (caused(OSError("not in the cache"), LocalEntryNotFoundError("not in the cache")), False),
        (ValueError("no"), False),
        (ImportError("no"), False),
    ],
    ids=repr,
)  # fmt: skip
def test_what_passes(error: Exception, passes: bool) -> None:
    assert may_pass(error) is passes


def test_tries_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[Exception] = []

    def fail(error: Exception) -> None:
        raised.append(error)
        raise error

    for error, tries in ((OSError(errno.ESTALE, "stale"), 5), (OSError(errno.ENOENT, "gone"), 1)):
        raised.clear()
        with pytest.raises(OSError, match=r"stale|gone"):
            retrying(partial(fail, error))
        assert len(raised) == tries
    monkeypatch.setattr(retries, "PATIENCE", -1.0)  # as after a library that tried for long itself
    raised.clear()
    with pytest.raises(OSError, match="stale"):
        retrying(partial(fail, OSError(errno.ESTALE, "stale")))
    assert len(raised) == 1


def test_a_stale_handle_of_a_network_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No such file system is here, so what the operating system answers is put in its place."""
    path = tmp_path / "a.png"
    path.write_bytes(png())
    stat, failures = os.stat, [errno.ESTALE, errno.EIO, errno.EAGAIN, errno.ETIMEDOUT]

    def flaky(*arguments: Any, **options: Any) -> os.stat_result:
        if failures:
            raise OSError(failures[0], os.strerror(failures.pop(0)))
        return stat(*arguments, **options)

    monkeypatch.setattr(os, "stat", flaky)
    assert read_image(path).pixels.shape == (9, 40, 3)
    failures += [errno.ESTALE] * 2
    assert image_size(path) == (40, 9)
    failures += [errno.EACCES]
    with pytest.raises(ImageError, match=r"^permission denied$"):
        read_image(path)
    assert failures == []
    failures += [errno.EIO] * 5
    with pytest.raises(ImageError, match=r"^input/output error$"):
        read_image(path)


@pytest.mark.parametrize("failure", ["drop", "busy"])
def test_a_store_that_is_briefly_out_of_reach(failure: str, bucket: Bucket, proxy: Proxy) -> None:
    data = png(200, noise=True)
    assert len(data) > HEAD_BYTES
    bucket.put("large.png", data)
    bucket.put("small.png", png())
    proxy.fail = lambda method, path, before: failure if before < 3 else ""
    for name, size in (("large", (200, 200)), ("small", (40, 9))):
        image = ImageFile(storage.locate(f"{bucket.uri}/{name}.png"))
        assert image.size() == size
        assert image.read().digest == hashlib.blake2b(bucket.get(f"{name}.png"), digest_size=16).hexdigest()
    storage.write_bytes(storage.locate(f"{bucket.uri}/new"), b"written")
    assert bucket.get("new") == b"written"
    assert proxy.count("PUT", "/new") == 4


def test_one_request_for_a_small_image_and_two_for_a_large_one(bucket: Bucket, proxy: Proxy) -> None:
    bucket.put("large.png", png(200, noise=True))
    bucket.put("small.png", png())
    for name in ("large", "small"):
        image = ImageFile(storage.locate(f"{bucket.uri}/{name}.png"))
        image.size()
        image.read()
    assert proxy.log == [("GET", f"/{bucket.name}/{name}.png") for name in ("large", "large", "small")]


def test_missing_and_denied_are_not_asked_again(bucket: Bucket, proxy: Proxy) -> None:
    bucket.put("there.png", png())
    proxy.fail = lambda method, path, before: "denied" if "there" in path else ""
    for name, cause in (("there", "access Denied"), ("missing", "the specified key does not exist.")):
        with pytest.raises(ImageError, match=f"^{cause}$"):
            read_image(f"{bucket.uri}/{name}.png")
        assert proxy.count("GET", name) == 1


def test_a_store_out_of_reach_for_good(bucket: Bucket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy.fail = lambda method, path, before: "busy"
    with pytest.raises(ImageError) as caught:
        read_image(f"{bucket.uri}/a.png")
    assert "\n" not in str(caught.value)
    assert proxy.count("GET", "a.png") == 5
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nobody listens on the discard port
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(ImageError, match="could not connect to the endpoint"):
        read_image(f"{bucket.uri}/a.png")


def test_a_store_that_does_not_answer_is_given_up(
    bucket: Bucket, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "REQUEST_SECONDS", 1.0)
    monkeypatch.setattr(retries, "WAITS", (0.01,))
    proxy.fail = lambda method, path, before: "hang"
    with pytest.raises(ImageError, match=r"^connection timed out$"):
        read_image(f"{bucket.uri}/a.png")
    assert proxy.count("GET", "a.png") in (1, 2)  # making the first connection takes its time, too


def test_a_web_server_that_drops_connections(tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(png(200, noise=True))
    with web_server(tmp_path) as web:
        proxy = Proxy(web)
        proxy.fail = lambda method, path, before: ("drop", "busy", "")[min(before, 2)]
        path = storage.locate(f"{proxy.endpoint}/large.png")
        image = ImageFile(path)
        assert image.size() == (200, 200)
        assert image.read().pixels.shape == (200, 200, 3)
        assert proxy.count("GET", "large.png") == 3  # the server sent all of it when asked for the header
        assert storage.info(storage.locate(f"{proxy.endpoint}/none.png")) is None
        proxy.fail = lambda method, path, before: "drop"
        with pytest.raises(OSError, match=r"(?i)disconnect"):  # and not "no such file", as fsspec has it
            storage.info(path)
        proxy.close()
