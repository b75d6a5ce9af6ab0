"""Archives that are damaged, or built to harm who reads them; and what annotation tools write."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path

import pytest

from labeler.annotation_tools import archives
from labeler.annotation_tools.corrected import read_corrected
from labeler.annotation_tools.cvat import read_cvat
from labeler.errors import FormatError

COCO = json.dumps({"images": [], "annotations": [], "categories": []})
SUFFIXES = (".xml", ".json")


def zipped(*files: tuple[str, bytes | str], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files:
            archive.writestr(name, content)
    return buffer.getvalue()


def changed(data: bytes, signature: bytes, offset: int, field: bytes) -> bytes:
    """``data`` with ``field`` at ``offset`` behind the last ``signature``."""
    at = data.rindex(signature) + offset
    return data[:at] + field + data[at + len(field) :]


def encrypted() -> bytes:
    data = zipped(("a.json", COCO))
    return changed(changed(data, b"PK\1\2", 8, b"\1\0"), b"PK\3\4", 6, b"\1\0")


def overlapping() -> bytes:
    """Two entries whose content is the same bytes of the archive."""
    data = zipped(("a.json", COCO), ("b.txt", COCO))
    return changed(data, b"PK\1\2", 42, struct.pack("<L", 0))


def zip64_with_an_absurd_list() -> bytes:
    data = zipped(("a.json", COCO))
    at = data.rindex(b"PK\5\6")
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, 2**40, 0)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
    return data[:at] + record + locator + data[at:]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (zipped(("a.json", b" " * 40_000_000)), "'a.json' in it unpacks to more than 200 times its size"),
        (changed(zipped(("a.json", COCO)), b"PK\1\2", 24, b"\xff\xff\xff\x7f"), "'a.json' in it is larger than 1024"),
        (changed(zipped(("a.json", COCO)), b"PK\1\2", 24, b"\1\0\0\0"), "damaged zip archive (Bad CRC-32"),
        (zipped(("a.json", COCO), ("b/A.XML", "<a/>")), "2 XML or JSON files in it"),
        (zipped(("a.txt", COCO)), "no XML or JSON files in it"),
        (zipped(("a.zip", zipped(("a.json", COCO)))), "no XML or JSON files in it"),
        (zipped(("../a.json", COCO)), "names a file outside itself, '../a.json'"),
        (zipped(("/etc/a.json", COCO)), "names a file outside itself, '/etc/a.json'"),
        (zipped(("C:\\a.json", COCO)), "names a file outside itself"),
        (zipped(("a.json", COCO), compression=zipfile.ZIP_LZMA), "'a.json' in it is compressed in a rare way"),
        (encrypted(), "'a.json' in it is encrypted"),
        (changed(zipped(("a.json", COCO)), b"PK\5\6", 12, b"\xff\xff\xff\x7f"), "a list of files of more than 64 MiB"),
        (zip64_with_an_absurd_list(), "a list of files of more than 64 MiB"),
        (changed(zipped(("a.json", COCO)), b"PK\1\2", 0, b"PK\1\3"), "a damaged zip archive"),
        (changed(zipped(("a.json", COCO)), b"PK\1\2", 42, b"\xff\xff\xff\x7f"), "a damaged zip archive"),
        (changed(zipped(("a.json", COCO * 99)), b"PK\3\4", 60, b"\xff" * 20), "a damaged zip archive"),
        (b"PK\5\6" + bytes(18), "no XML or JSON files in it"),
    ],
)
def test_hostile_archives(data: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / "export.zip"
    path.write_bytes(data)
    with pytest.raises(FormatError) as refused:
        read_corrected(path)
    assert says in str(refused.value)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)
    with pytest.raises(FormatError):  # as from a store
        archives.read_only_entry(io.BytesIO(data), SUFFIXES)


def test_what_a_tool_writes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "export.zip"
    path.write_bytes(zipped(("annotations/a.json", COCO), ("images/1.jpg", b"")))
    assert archives.read_only_entry(path, SUFFIXES) == COCO.encode()
    assert read_corrected(path) == []


def test_overlapping_entries_unpack_one_file_at_most() -> None:
    assert archives.read_only_entry(io.BytesIO(overlapping()), SUFFIXES) == COCO.encode()


LAUGHS = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f'<!DOCTYPE x [<!ENTITY a0 "ha">{LAUGHS}]><annotations>&a9;</annotations>', "not valid XML: it has"),
        ('<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><annotations>&a;</annotations>', "document type"),
        (f'<!DOCTYPE x [<!ENTITY a "{"a" * 99_999}">]><annotations>{"&a;" * 999}</annotations>', "document type"),
        ('<!DOCTYPE annotations SYSTEM "http://127.0.0.1:9/x.dtd"><annotations/>', "document type"),
        ("<a>" * 100_000, "not valid XML"),
        ('<?xml version="1.0" encoding="x"?><annotations/>', "not valid XML"),
    ],
)
def test_hostile_xml(text: str, says: str) -> None:
    with pytest.raises(FormatError, match=says):
        read_cvat(text.encode())
    with pytest.raises(FormatError, match=says):
        read_cvat(text.encode("utf-16"))


def test_xml_nested_deep() -> None:
    assert read_cvat(("<annotations>" + "<a>" * 100_000 + "</a>" * 100_000 + "</annotations>").encode()) == []
