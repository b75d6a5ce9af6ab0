"""The same answers from a folder, an S3 server and fsspec's memory."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from labeler.errors import UsageError
from labeler.files import store
from labeler.files.images import file_digest
from labeler.files.parallel import in_order
from labeler.files.paths import FileInfo, is_uri
from labeler.files.storage import (
    copy,
    info,
    is_within,
    local_path,
    locate,
    read_bytes,
    remove,
    scan,
    storage_of,
    write_bytes,
)
from tests.support.object_store import Bucket


@pytest.fixture(params=["folder", "s3", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """An empty place of each kind."""
    if request.param == "folder":
        return tmp_path
    if request.param == "memory":
        return locate(f"memory://{uuid.uuid4().hex}")
    return locate(f"{request.getfixturevalue('bucket').uri}/below")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (read_bytes, file_digest):
        with pytest.raises(OSError, match=r"not a regular file: '.*pipe'"):
            read(tmp_path / "pipe")
        with pytest.raises(IsADirectoryError):
            read(tmp_path)
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "none")


# ---------------------------------------------------------------- places


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        *((text, True) for text in ("s3://b/x", "gs://b", "hf://datasets/a/b", "memory://x", "file:///x", "S3A://b/x")),
        *((text, False) for text in ("", "x", "/x/y", "C:\\x", "C://x", "s3:/b/x", "x/s3://b", "://x", "~/x")),
    ],
)
def test_uris(text: str, uri: bool) -> None:
    assert is_uri(text) is uri


def test_local_places_are_plain_paths() -> None:
    for place in ("/data/x", Path("/data/x"), "file:///data/x"):
        assert locate(place) == Path("/data/x")
        assert type(locate(place)) is type(Path())
    assert locate("x") == Path("x")
    path = locate("memory://x")
    assert locate(path) is path


def test_demo_needs_a_local_path() -> None:
    assert local_path("x/y") == Path("x/y")
    with pytest.raises(UsageError, match=r"^s3://b/x: only a local path is accepted here"):
        local_path("s3://b/x")


@pytest.mark.parametrize(("uri", "package"), [("gs://b/x", "gcsfs"), ("az://b/x", "adlfs"), ("abfs://b/x", "adlfs")])
def test_a_missing_package_is_named(uri: str, package: str) -> None:
    if find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(UsageError, match=rf"^{uri}: needs the package {package}; run: pip install {package}$"):
        locate(uri)


def test_a_missing_package_at_the_command_line() -> None:
    code = (
        "import sys; sys.modules.update(s3fs=None, huggingface_hub=None)\n"
        "from workflows.commands.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    for uri, package in (("s3://b/x", "s3fs"), ("hf://datasets/a/b", "huggingface_hub")):
        command = [sys.executable, "-c", code, "label", uri, "-o", "out", "--classes", "dog", "--model", "demo"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 2
        assert done.stderr == f"labeler: {uri}: needs the package {package}; run: pip install {package}\n"


def test_credentials_from_fsspecs_own_settings(bucket: Bucket) -> None:
    bucket.put("a", b"data")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"FSSPEC_S3_ENDPOINT_URL": bucket.endpoint, "FSSPEC_S3_KEY": "test", "FSSPEC_S3_SECRET": "test"}
    code = "import sys; from labeler.files.storage import locate, read_bytes; print(read_bytes(locate(sys.argv[1])))"
    command = [sys.executable, "-c", code, f"{bucket.uri}/a"]
    assert subprocess.run(command, capture_output=True, text=True, env=environment).stdout == "b'data'\n"


@pytest.mark.parametrize("uri", ["foo://b/x", "sftp://host/x", "s3://"])
def test_what_cannot_be_a_place_is_said_in_a_line(uri: str, bucket: Bucket) -> None:
    if uri == "s3://":
        assert info(locate(uri)) is not None  # the list of buckets
        return
    with pytest.raises(UsageError, match=rf"^{uri}: \S") as caught:
        locate(uri)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "folder", "within"),
    [
        ("s3://b/x/y", "s3://b/x", True),
        ("s3://b/x", "s3://b/x/", True),
        ("s3://b/x", "s3://b", True),
        ("s3://b/xy", "s3://b/x", False),
        ("s3://b", "s3://b/x", False),
        ("memory://x/y", "memory://x", True),
        ("/x/y", "/x", True),
        ("/xy", "/x", False),
        ("/b/x", "s3://b", False),
        ("s3://b/x", "/", False),
    ],
)
def test_within(path: str, folder: str, within: bool) -> None:
    assert is_within(locate(path), locate(folder)) is within


# ---------------------------------------------------------------- files


def test_a_file_is_written_read_and_removed(place: Any) -> None:
    path = place / "a b" / "ünï#1?.bin"
    if isinstance(place, Path):
        path.parent.mkdir()
    assert info(path) is None
    for data in (b"0123456789", b"", b"9876543210"):
        write_bytes(path, data)
        assert read_bytes(path) == data
        found = info(path)
        assert found is not None
        assert (found.name, found.is_folder, found.size) == ("ünï#1?.bin", False, len(data))
    assert [read_bytes(path, 2), read_bytes(path, 0, 3), read_bytes(path, -4), read_bytes(path, 0, 99)] == [
        *(b"76543210", b"987", b"3210", b"9876543210")
    ]
    assert [found.name for found in scan(path.parent)] == ["ünï#1?.bin"]  # no temporary file stays
    for _ in range(2):
        remove(path)
    assert info(path) is None


def test_what_is_not_there(place: Any) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        read_bytes(place / "none")
    assert caught.value.filename in (str(place / "none"), place / "none")
    assert caught.value.strerror
    assert "\n" not in caught.value.strerror
    with pytest.raises(FileNotFoundError):
        list(scan(place / "none"))
    assert info(place / "none") is None


def test_a_file_is_made_only_where_there_is_none(place: Any) -> None:
    create = storage_of(place).create
    assert create(place / "lock", b"first")
    assert not create(place / "lock", b"second")
    assert read_bytes(place / "lock") == b"first"


def test_one_of_many_makes_a_file(bucket: Bucket) -> None:
    path = locate(f"{bucket.uri}/lock")
    assert sum(in_order(lambda number: storage_of(path).create(path, str(number).encode()), range(20))) == 1


def test_listing(place: Any) -> None:
    names = ["a.txt", "b/c.txt", "b/d/e.txt", "f g/ü.txt"]
    for name in names:
        if isinstance(place, Path):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(place / name, name.encode())
    found = {entry.name: entry for entry in scan(place)}
    assert {name: entry.is_folder for name, entry in found.items()} == {"a.txt": False, "b": True, "f g": True}
    assert found["a.txt"].size == (None if isinstance(place, Path) else 5)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_links_and_pipes_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for name, target in (("to folder", "folder"), ("to file", "file"), ("nowhere", "none"), ("itself", "itself")):
        (tmp_path / name).symlink_to(target)
    found = {entry.name: (entry.is_folder, entry.is_link, entry.is_special) for entry in scan(tmp_path)}
    assert found == {
        "folder": (True, False, False),
        "file": (False, False, False),
        "pipe": (False, False, True),
        "to folder": (True, True, False),
        "to file": (False, True, False),
        "nowhere": (False, True, False),
        "itself": (False, True, False),
    }


def test_an_object_that_stands_for_its_folder_is_no_file(bucket: Bucket) -> None:
    for key in ("below/", "below/x/", "below/x/a.txt"):
        bucket.put(key, b"")
    assert [entry.name for entry in scan(locate(f"{bucket.uri}/below"))] == ["x"]
    assert [entry.name for entry in scan(locate(f"{bucket.uri}/below/x"))] == ["a.txt"]


def test_copies_between_places(bucket: Bucket, tmp_path: Path) -> None:
    data = os.urandom(3000)
    memory = locate(f"memory://{uuid.uuid4().hex}/x")
    places = [tmp_path / "x", locate(f"{bucket.uri}/x"), memory, locate(f"{bucket.uri}/y"), tmp_path / "y", memory]
    places[0].write_bytes(data)
    for source, target in pairwise(places):
        copy(source, target)
        assert read_bytes(target) == data
    with pytest.raises(FileNotFoundError):
        copy(locate(f"{bucket.uri}/none"), memory)
    assert read_bytes(memory) == data


def test_a_bucket_that_is_not_there_is_not_made(bucket: Bucket) -> None:
    with pytest.raises(FileNotFoundError, match="bucket does not exist"):
        write_bytes(locate("s3://no-such-bucket/x/y"), b"")


@pytest.mark.filterwarnings("ignore:UPath .mounted. filesystem")
def test_folders_are_made_where_a_store_has_them(tmp_path: Path) -> None:
    class Mounted(LocalFileSystem):
        protocol = "mounted"

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return str(super()._strip_protocol(path.removeprefix("mounted://")))

    fsspec.register_implementation("mounted", Mounted, clobber=True)
    path = locate(f"mounted://{tmp_path}/new/folder/a")
    write_bytes(path, b"data")
    assert (tmp_path / "new" / "folder" / "a").read_bytes() == b"data"


def test_of_several_writers_each_writes_whole_files(tmp_path: Path) -> None:
    path = tmp_path / ("a" * 250)
    contents = [bytes([writer]) * 500_000 for writer in range(4)]

    def write(content: bytes) -> bool:
        write_bytes(path, content)
        return path.read_bytes() in contents

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(write, contents * 20))
    assert list(tmp_path.iterdir()) == [path]


def test_md5_is_that_of_the_content(bucket: Bucket, tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"x" * 3_000_000)
    copy(path, locate(f"{bucket.uri}/a"))
    found = info(locate(f"{bucket.uri}/a"))
    assert found is not None
    assert found.md5 == hashlib.md5(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("entry", "md5"),
    [
        ({"ETag": '"900150983cd24fb0d6963f7d28e17f72"'}, "900150983cd24fb0d6963f7d28e17f72"),
        ({"ETag": '"900150983cd24fb0d6963f7d28e17f72-3"'}, ""),  # in parts: no MD5 of the whole
        ({"md5Hash": "kAFQmDzST7DWlj99KOF/cg=="}, "900150983cd24fb0d6963f7d28e17f72"),  # Google
        ({"content_settings": type("", (), {"content_md5": bytearray(b"\x90\x01")})}, "9001"),  # Azure
        ({}, ""),
    ],
)
def test_how_stores_state_a_checksum(entry: dict[str, Any], md5: str) -> None:
    assert store._md5(entry) == md5


@pytest.mark.parametrize(
    ("entry", "stamp"),
    [
        (FileInfo("x", False, size=5, modified=7.5), "5-7.5"),
        (FileInfo("x", False, size=5, modified=7.5, md5="9001"), "md5:9001"),
    ],
)
def test_the_stamp_of_an_object(entry: FileInfo, stamp: str) -> None:
    assert entry.stamp == stamp


def test_lines_are_added_behind_a_torn_one(place: Any) -> None:
    append = storage_of(place).append_lines
    append(place / "log", b"1\n2\n")
    append(place / "log", b"3\n")
    assert read_bytes(place / "log") == b"1\n2\n3\n"
    write_bytes(place / "log", b"1\n2")
    append(place / "log", b"3\n")
    assert read_bytes(place / "log") == b"1\n2\n3\n"


def test_results_keep_their_order_and_the_first_failure_is_raised() -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.02 if item == 0 else 0)
        if item == 40:
            raise ValueError("forty")
        return item * 2

    assert list(in_order(slow_first, range(40))) == list(range(0, 80, 2))
    with pytest.raises(ValueError, match="forty"):
        list(in_order(slow_first, range(60)))
