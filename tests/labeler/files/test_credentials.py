"""Passwords and signatures of URIs: the store gets them, and nothing that is kept or shown has them."""

from __future__ import annotations

import base64
import json
import logging
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from labeler.errors import UsageError
from labeler.files.credentials import without_secrets
from labeler.files.listing import find_images
from labeler.files.storage import locate, locate_beside, read_bytes
from tests.support.command_line import run_in_process, write_scenes
from tests.support.object_store import Bucket
from tests.support.stand_in import Silent, stand_in_job
from workflows.label import label
from workflows.settings.export import ExportConfig


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://KEY:SECRET@bucket/a", "s3://bucket/a"),
        ("sftp://me:SECRET@host:22/a", "sftp://me@host:22/a"),
        ("sftp://me@host/a", "sftp://me@host/a"),
        ("https://SECRET@host/a", "https://host/a"),
        ("https://me:SECRET@host/a?b=c", "https://host/a?b=c"),
        ("abfs://container@account.dfs.core.windows.net/a", "abfs://container@account.dfs.core.windows.net/a"),
        ("github://organisation:repository@main/a", "github://organisation:repository@main/a"),
        ("hf://datasets/a/b@main/c", "hf://datasets/a/b@main/c"),
        ("https://h/a.png?X-Amz-Credential=SECRET%2F1&X-Amz-Signature=SECRET&id=4", "https://h/a.png?id=4"),
        ("https://h/a.png?sv=2020&sr=c&sp=r&se=2030&sig=SECRET", "https://h/a.png"),
        ("https://h/a?sp=4&page=2", "https://h/a?sp=4&page=2"),
        ("https://h/a?access_token=SECRET#x", "https://h/a"),
        ("no access to 'https://u:SECRET@h/a' (s3://k:SECRET@b), see", "no access to 'https://h/a' (s3://b), see"),
        ("C:\\a@b, a:b@c and user@example.org", "C:\\a@b, a:b@c and user@example.org"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
    assert without_secrets(shown) == shown


def test_s3_gets_key_and_secret_of_its_uri(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.put("a/b.txt", b"found")
    uri = bucket.uri.replace("s3://", "s3://KEY:SE%2FCRET@")
    path = locate(f"{uri}/a") / "b.txt"
    assert str(path) == f"{bucket.uri}/a/b.txt"
    assert read_bytes(path) == b"found"
    assert {name: path.storage_options[name] for name in ("key", "secret")} == {"key": "KEY", "secret": "SE/CRET"}  # type: ignore[union-attr]
    beside = locate_beside(f"{bucket.uri}/c", path)
    assert beside.storage_options == path.storage_options  # type: ignore[union-attr]
    assert locate_beside("s3://another/c", path).storage_options != path.storage_options  # type: ignore[union-attr]


class Guarded(SimpleHTTPRequestHandler):
    """Answers those alone who know password or signature."""

    def do_GET(self) -> None:
        expected = "Basic " + base64.b64encode(b"me:SECRET").decode()
        signed = parse_qs(urlsplit(self.path).query).get("X-Amz-Signature") == ["SE/CRET+="]
        if self.headers.get("Authorization") != expected and not signed:
            self.send_error(403)
            return
        super().do_GET()

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None: ...


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Host and port of a web server with ``images``."""
    folder = tmp_path_factory.mktemp("web")
    write_scenes(folder / "images", [1])
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0),
        lambda *given: Guarded(*given, directory=str(folder)),  # type: ignore[arg-type]
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "uri",
    ["http://me:SECRET@{}/images/scene_001.png", "http://{}/images/scene_001.png?X-Amz-Signature=SE%2FCRET%2B%3D"],
)
def test_nothing_that_a_run_leaves_has_the_secret(
    uri: str, guarded: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    uri, out, said = uri.format(guarded), tmp_path / "out", Silent()
    job = stand_in_job(uri, out, export=ExportConfig(link="none", formats=("coco",)))
    with caplog.at_level(logging.DEBUG, "workflows"):
        assert label(job, said).labeled.images == 1
        assert label(job, said).labeled.images == 0  # resumed
    told = [*said.said, caplog.text]
    for command in (("export", out, "--images", uri.removesuffix("/scene_001.png")), ("report", out)):
        run = run_in_process(*command, "-v")
        told += [run.stdout, run.stderr]
    for path in out.rglob("*"):
        told += [str(path), path.read_bytes().decode("latin-1") if path.is_file() else ""]
    assert len(told) > 20
    for text in told:
        assert "SECRET" not in text
        assert "SE/CRET" not in text
        assert "SE%2FCRET" not in text
    assert json.loads((out / "run" / "run.json").read_text())["input"] == f"http://{guarded}/images"
    images = [image for path in (out / "annotations").iterdir() for image in json.loads(path.read_text())["images"]]
    assert {image["file_name"] for image in images} == {f"http://{guarded}/images/scene_001.png"}


def test_messages_have_no_secret(guarded: str, tmp_path: Path) -> None:
    for uri in (f"http://me:SECRETS@{guarded}/images/a.png", f"http://{guarded}/images/a.png?token=SECRETS"):
        run = run_in_process("label", uri, "-o", tmp_path / "out", "--model", "demo", "--classes", "ring")
        assert run.returncode == 2
        assert "SECRETS" not in run.stdout + run.stderr
        assert guarded in run.stderr


def test_signed_urls_in_a_list_are_refused(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(
        "https://h/a.png?X-Amz-Signature=SECRET\nhttps://h/b.png?X-Amz-Signature=SECRET\n"
    )
    with pytest.raises(UsageError, match=r"list\.txt: lists signed URLs \(https://h/a\.png\), whose"):
        find_images(tmp_path / "list.txt")
