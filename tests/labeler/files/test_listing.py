"""Finding images in trees made on the spot: in folders, and the same trees in stores."""

from __future__ import annotations

import logging
import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from labeler.errors import ImageError, UsageError
from labeler.files.image_formats import image_extensions
from labeler.files.images import read_image
from labeler.files.listing import find_images
from labeler.files.storage import locate, write_bytes
from tests.support.object_store import Bucket, Proxy, web_server


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"never opened")


def test_folder(tmp_path: Path) -> None:
    make(
        tmp_path,
        *("b.JPG", "a.jpg", "a.png", "sub/a.jpg", "sub/deep er/Käse 1.TiFf", "x.webp"),
        *("notes.txt", "labels.json", "paper.pdf", "drawing.eps", "data.h5", "noextension", "jpg"),
        *(".hidden.jpg", "._a.jpg", ".cache/a.jpg", "__MACOSX/a.jpg", "sub/.thumbs/a.jpg"),
    )
    (tmp_path / "folder.jpg").mkdir()
    found = find_images(tmp_path)
    assert found.root == tmp_path
    assert found.image_ids == ("a.jpg", "a.png", "b.JPG", "sub/a.jpg", "sub/deep er/Käse 1.TiFf", "x.webp")
    assert find_images(str(tmp_path) + "/") == found


def test_hidden_root_is_searched(tmp_path: Path) -> None:
    make(tmp_path, ".data/a.jpg")
    assert find_images(tmp_path / ".data").image_ids == ("a.jpg",)


@pytest.mark.parametrize(
    ("extension", "searched"),
    [
        *((name, True) for name in (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".ppm")),
        *((name, True) for name in (".mpo", ".jp2", ".tga", ".ico", ".pgm", ".psd")),
        *((name, False) for name in (".pdf", ".eps", ".ps", ".wmf", ".emf", ".mpg", ".h5", ".grib", ".bufr", ".txt")),
    ],
)
def test_extensions(extension: str, searched: bool) -> None:
    assert (extension in image_extensions()) == searched


def test_links_and_loops(tmp_path: Path) -> None:
    make(tmp_path, "real/a.jpg", "real/b/c.jpg")
    make(tmp_path / "elsewhere", "d.jpg")
    root = tmp_path / "in"
    root.mkdir()
    (tmp_path / "real").rename(root / "real")
    (root / "a_link").symlink_to(root / "real")  # sorts before the real folder, which still gives the ids
    (root / "real" / "up").symlink_to(root)
    (root / "real" / "b" / "self").symlink_to(".")
    (root / "out").symlink_to(tmp_path / "elsewhere")
    (root / "out2").symlink_to(tmp_path / "elsewhere")
    (root / "file.jpg").symlink_to(root / "real" / "a.jpg")
    (root / "dangling.jpg").symlink_to(root / "nowhere.jpg")
    (root / "itself.jpg").symlink_to(root / "itself.jpg")
    (root / "itself").symlink_to(root / "itself")
    found = find_images(root)
    assert found.image_ids == ("dangling.jpg", "file.jpg", "itself.jpg", "out/d.jpg", "real/a.jpg", "real/b/c.jpg")
    with pytest.raises(ImageError, match=r"^no such file or directory$"):
        read_image(found.root / "dangling.jpg")
    with pytest.raises(ImageError, match=r"^too many levels of symbolic links$"):
        read_image(found.root / "itself.jpg")


def test_pipes_are_not_listed(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert find_images(tmp_path).image_ids == ()
    with pytest.raises(ImageError, match=r"^not a regular file$"):
        read_image(tmp_path / "pipe.jpg")


def test_exclude(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "out/images/train/a.jpg", "output/b.jpg")
    assert find_images(tmp_path, exclude=tmp_path / "out").image_ids == ("a.jpg", "output/b.jpg")
    assert find_images(tmp_path, exclude=tmp_path / "not there yet").image_ids == (
        *("a.jpg", "out/images/train/a.jpg", "output/b.jpg"),
    )
    assert find_images(tmp_path / "**" / "*.jpg", exclude=tmp_path / "out").image_ids == ("a.jpg", "output/b.jpg")
    assert find_images(tmp_path / "out", exclude=tmp_path).image_ids == ("images/train/a.jpg",)
    with pytest.raises(UsageError, match="input and output are the same folder"):
        find_images(tmp_path, exclude=tmp_path / "output" / "..")


def test_single_file_of_any_extension(tmp_path: Path) -> None:
    make(tmp_path, "a.jpg", "scan.dat", ".hidden.jpg")
    for name in ("a.jpg", "scan.dat", ".hidden.jpg"):
        found = find_images(tmp_path / name)
        assert (found.root, found.image_ids) == (tmp_path, (name,))


@pytest.mark.parametrize(
    ("pattern", "root", "image_ids"),
    [
        ("*.jpg", "", ["a.jpg"]),
        ("*", "", ["a.jpg", "b.png"]),
        ("d/*.jpg", "d", ["1.jpg", "2.jpg"]),
        ("d/[1].jpg", "d", ["1.jpg"]),
        ("d/[!1].jpg", "d", ["2.jpg"]),
        ("d/?.jpg", "d", ["1.jpg", "2.jpg"]),
        ("*/*.jpg", "", ["d/1.jpg", "d/2.jpg"]),
        ("**/*.jpg", "", ["a.jpg", "d/1.jpg", "d/2.jpg", "d/e/3.jpg", "d/e/f/1.jpg"]),
        ("d/**/1.jpg", "d", ["1.jpg", "e/f/1.jpg"]),
        ("**/e/**/*.jpg", "", ["d/e/3.jpg", "d/e/f/1.jpg"]),
        ("d/**", "d", ["1.jpg", "2.jpg", "e/3.jpg", "e/f/1.jpg"]),
        ("d/../*.png", "", ["b.png"]),
        ("*.tif", "", []),
        ("nothing*/*.jpg", "", []),
    ],
)
def test_glob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, root: str, image_ids: list[str]) -> None:
    make(tmp_path, "a.jpg", "b.png", "c.txt", "d/1.jpg", "d/2.jpg", "d/e/3.jpg", "d/e/f/1.jpg", ".h/1.jpg")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for source in (pattern, tmp_path / pattern, f"~/{pattern}"):
        found = find_images(source)
        assert found.root == tmp_path / root
        assert list(found.image_ids) == image_ids


def test_names_with_wildcards_in_them_are_taken_as_they_are(tmp_path: Path) -> None:
    make(tmp_path, "shots [2024]/a.jpg", "what?.jpg")
    assert find_images(tmp_path / "shots [2024]").image_ids == ("a.jpg",)
    assert find_images(tmp_path / "what?.jpg").image_ids == ("what?.jpg",)


@pytest.mark.parametrize(
    ("pattern", "root", "image_ids"),
    [
        ("[2024] photos/*.jpg", "[2024] photos", ["a.jpg", "b.jpg"]),
        ("[2024] photos/**/*.jpg", "[2024] photos", ["a.jpg", "b.jpg", "[x]/c.jpg"]),
        ("[2024] photos/[x]/?.jpg", "[2024] photos/[x]", ["c.jpg"]),
        ("*/[x]/*.jpg", "", ["[2024] photos/[x]/c.jpg"]),
        ("set[12]/*.jpg", "", ["set1/d.jpg", "set2/e.jpg"]),
    ],
)
def test_globs_below_folders_with_wildcards_in_their_names(
    tmp_path: Path, pattern: str, root: str, image_ids: list[str]
) -> None:
    make(
        tmp_path, *("[2024] photos/a.jpg", "[2024] photos/b.jpg", "[2024] photos/[x]/c.jpg", "set1/d.jpg", "set2/e.jpg")
    )
    found = find_images(tmp_path / pattern)
    assert found.root == tmp_path / root
    assert sorted(found.image_ids) == sorted(image_ids)


def test_list_files_of_other_tools(tmp_path: Path) -> None:
    """Quotes, backslashes, and the encoding of PowerShell."""
    make(tmp_path, "a b.jpg", "sub/ä.png", r"odd\name.jpg", "'quoted'.jpg")
    lines = ['"a b.jpg"', r"sub\ä.png", r".\sub\gone.png", r"odd\name.jpg", "# none", "'quoted'.jpg"]
    ids = ("'quoted'.jpg", "a b.jpg", r"odd\name.jpg", "sub/gone.png", "sub/ä.png")
    for encoding in ("utf-8-sig", "utf-16"):
        (tmp_path / "list.txt").write_bytes("\r\n".join(lines).encode(encoding))
        assert find_images(tmp_path / "list.txt").image_ids == ids


def test_list_file(tmp_path: Path) -> None:
    make(tmp_path, "a b.jpg", "sub/ä.png", "odd.dat", "unlisted.jpg")
    text = f"\ufeff# pictures\r\n\r\n  a b.jpg  \r\nsub/ä.png\nsub/../a b.jpg\nmissing.jpg\n{tmp_path}/odd.dat\n"
    (tmp_path / "list.TXT").write_text(text, encoding="utf-8")
    found = find_images(tmp_path / "list.TXT")
    assert found.root == tmp_path
    assert found.image_ids == ("a b.jpg", "missing.jpg", "odd.dat", "sub/ä.png")


def test_list_file_of_images_elsewhere(tmp_path: Path) -> None:
    make(tmp_path, "lists/near.jpg", "data/x/1.jpg", "data/y/1.jpg")
    listing = tmp_path / "lists" / "list.txt"
    listing.write_text(f"../data/x/1.jpg\n{tmp_path}/data/y/1.jpg\n")
    found = find_images(listing)
    assert (found.root, found.image_ids) == (tmp_path / "data", ("x/1.jpg", "y/1.jpg"))
    listing.write_text("../data/x/1.jpg\nnear.jpg\n")
    found = find_images(listing)
    assert (found.root, found.image_ids) == (tmp_path, ("data/x/1.jpg", "lists/near.jpg"))
    listing.write_text("# none yet\n")
    assert find_images(listing).image_ids == ()


def test_what_cannot_be_meant(tmp_path: Path) -> None:
    utf16 = tmp_path / "utf16.txt"
    utf16.write_bytes("a.jpg\n".encode("utf-16-le"))  # without a mark of its order
    cases = [
        (tmp_path / "missing", "no such file or folder"),
        (tmp_path / "missing.txt", "no such file or folder"),
        (tmp_path / "missing" / "*.jpg", "no such file or folder"),
        ("", "no input given"),
        (utf16, "save it as UTF-8"),
    ]
    for source, message in cases:
        with pytest.raises(UsageError, match=message) as caught:
            find_images(source)
        assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_listed_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path, "a.jpg", "locked/b.jpg", "open/c.jpg")
    scandir = os.scandir

    def refuse(path: Path) -> object:
        if path.name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root may list everything, so no chmod would do
    with caplog.at_level(logging.WARNING):
        assert find_images(tmp_path).image_ids == ("a.jpg", "open/c.jpg")
    assert "locked: cannot be listed (Permission denied); left out" in caplog.text


def test_names_that_are_not_utf8_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    make(tmp_path, "a.jpg")
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.jpg")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    with caplog.at_level(logging.WARNING):
        assert find_images(tmp_path).image_ids == ("a.jpg",)
    assert "not UTF-8" in caplog.text


# ---------------------------------------------------------------- in stores

TREE = (
    *("b.JPG", "a.jpg", "a.png", "sub/a.jpg", "sub/deep er/Käse #1.TiFf", "sub/deep er/x/y.png", "x.webp", "c::d.jpg"),
    *("notes.txt", "labels.json", "paper.pdf", "noextension", "jpg", ".hidden.jpg", ".cache/a.jpg", "__MACOSX/a.jpg"),
    *("out/run/run.json", "out/images/train/a.jpg", "run/a.jpg", "sub/run/b.jpg"),
)


@pytest.fixture(params=["s3", "memory"])
def store(request: pytest.FixtureRequest) -> Any:
    if request.param == "memory":
        return locate(f"memory://{uuid.uuid4().hex}")
    return locate(f"{request.getfixturevalue('bucket').uri}/in put")


@pytest.mark.parametrize(
    "pattern",
    ["", "/", "/*.jpg", "/*", "/**/*.png", "/sub/**", "/sub/?.jpg", "/**/run/*.jpg", "/*/*.jpg", "/[a-b].*", "/*.tif"],
)
def test_a_store_is_searched_as_a_folder_is(store: Any, tmp_path: Path, pattern: str) -> None:
    make(tmp_path, *TREE)
    for name in TREE:
        write_bytes(store / name, b"never opened")
    local, remote = find_images(f"{tmp_path}{pattern}"), find_images(f"{store}{pattern}")
    assert remote.image_ids == local.image_ids
    assert str(remote.root) == str(store) + str(local.root).removeprefix(str(tmp_path))
    assert len(find_images(tmp_path).image_ids) == 10


def test_the_output_in_a_store_is_not_searched(store: Any, tmp_path: Path) -> None:
    for name in ("a.jpg", "out/images/train/a.jpg", "output/b.jpg"):
        write_bytes(store / name, b"")
    assert find_images(str(store), exclude=store / "out").image_ids == ("a.jpg", "output/b.jpg")
    assert find_images(str(store), exclude=tmp_path).image_ids == ("a.jpg", "out/images/train/a.jpg", "output/b.jpg")
    assert find_images(store / "out", exclude=store).image_ids == ("images/train/a.jpg",)
    with pytest.raises(UsageError, match="input and output are the same folder"):
        find_images(f"{store}/", exclude=store)


def test_a_single_image_and_a_list_in_a_store(store: Any, tmp_path: Path) -> None:
    for name in ("a.jpg", "sub/scan.dat", "other/x.png"):
        write_bytes(store / name, b"")
    found = find_images(f"{store}/sub/scan.dat")
    assert (str(found.root), found.image_ids) == (f"{store}/sub", ("scan.dat",))
    listing = f"# pictures\n../a.jpg\n sub/scan.dat\nmissing.jpg\n{store}/sub/../sub/scan.dat\n"
    write_bytes(store / "list.txt", listing.replace("../a.jpg", "a.jpg").encode())
    found = find_images(f"{store}/list.txt")
    assert (str(found.root), found.image_ids) == (str(store), ("a.jpg", "missing.jpg", "sub/scan.dat"))
    write_bytes(store / "sub" / "list.txt", b"../a.jpg\nscan.dat\n")
    found = find_images(f"{store}/sub/list.txt")
    assert (str(found.root), found.image_ids) == (str(store), ("a.jpg", "sub/scan.dat"))
    write_bytes(store / "empty.txt", b"# none yet\n")
    assert find_images(f"{store}/empty.txt").image_ids == ()
    here = tmp_path / "list.txt"
    here.write_text(f"{store}/sub/scan.dat\n{store}/other/x.png\n")
    found = find_images(here)
    assert (str(found.root), found.image_ids) == (str(store), ("other/x.png", "sub/scan.dat"))


def test_lists_that_cannot_be_meant(bucket: Bucket, tmp_path: Path) -> None:
    here = tmp_path / "list.txt"
    for text, said in (
        ("s3://b/a.jpg\na.jpg\n", "lists both URIs and files of this machine"),
        ("s3://b/a.jpg\nmemory://b/a.jpg\n", "the URIs share no folder"),
        ("s3://b/a.jpg\ns3://c/a.jpg\n", "the URIs share no folder"),
        ("foo://b/a.jpg\n", "foo://b"),
    ):
        here.write_text(text)
        with pytest.raises(UsageError, match=said) as caught:
            find_images(here)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{bucket}/none", "no such file or folder"),
        ("{bucket}/none/*.jpg", "no such file or folder"),
        ("{bucket}/none.txt", "no such file or folder"),
        ("s3://no-such-bucket/x", "no such file or folder"),
    ],
)
def test_nothing_there_in_a_store(bucket: Bucket, source: str, said: str) -> None:
    bucket.put("a.jpg", b"")
    with pytest.raises(UsageError, match=said):
        find_images(source.format(bucket=bucket.uri))


def test_a_folder_of_a_store_that_is_closed_is_left_out(
    bucket: Bucket, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    for key in ("in/a.jpg", "in/closed/b.jpg", "in/open/c.jpg"):
        bucket.put(key, b"")
    proxy.fail = lambda method, path, before: "denied" if "closed" in path else ""
    with caplog.at_level(logging.WARNING):
        assert find_images(f"{bucket.uri}/in").image_ids == ("a.jpg", "open/c.jpg")
    assert "in/closed: cannot be listed (Access Denied); left out" in caplog.text
    proxy.fail = lambda method, path, before: "denied"
    with pytest.raises(PermissionError):
        find_images(f"{bucket.uri}/in")


def test_a_listing_of_many_pages(bucket: Bucket) -> None:
    names = [f"{index:05d}.jpg" for index in range(1010)]  # a page has 1000
    for name in names:
        bucket.put(f"in/{name}", b"")
    assert find_images(f"{bucket.uri}/in").image_ids == tuple(sorted(names))


def test_the_listings_of_a_web_server(tmp_path: Path) -> None:
    make(tmp_path, "in/a.jpg", "in/sub/b.png", "in/sub/notes.txt", "in/.hidden/c.jpg", "other/d.jpg")
    with web_server(tmp_path) as web:
        for source in (f"{web}/in/", f"{web}/in"):
            found = find_images(source)
            assert found.image_ids == ("a.jpg", "sub/b.png")
            assert str(found.root / "sub/b.png") == f"{web}/in/sub/b.png"
        found = find_images(f"{web}/in/a.jpg")
        assert (str(found.root), found.image_ids) == (f"{web}/in", ("a.jpg",))
        assert find_images(f"{web}/").image_ids == ("in/a.jpg", "in/sub/b.png", "other/d.jpg")
        with pytest.raises(UsageError, match="no such file or folder"):
            find_images(f"{web}/none")
