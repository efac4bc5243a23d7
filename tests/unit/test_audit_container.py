"""The zip file of a bundle is read as if an enemy had made it."""

import io
import zipfile

import pytest

from wardround.audit.container import manifest_faults, manifest_of, pack, unpack
from wardround.errors import BadInput

MEMBERS = {"a.json": b"{}", "logs/coordinator.jsonl": b"one\n"}


def zipped(
    names: list[str], *, kind: int = zipfile.ZIP_STORED, comment: bytes = b"", size: int = 2
) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", kind) as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), b"x" * size, kind)
        archive.comment = comment
    return buffer.getvalue()


def twice() -> bytes:
    """Two members of one name, made by renaming the second in place."""
    return zipped(["a", "b"]).replace(b"b", b"a")


def test_members_come_back_and_the_bytes_are_always_the_same():
    packed = pack(MEMBERS)
    assert unpack(packed) == MEMBERS
    assert pack(dict(reversed(MEMBERS.items()))) == packed


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"PK\x05\x06", id="short"),
        pytest.param(pack(MEMBERS)[:-1], id="truncated"),
        pytest.param(pack(MEMBERS) + b"x", id="appended"),
        pytest.param(b"x" + pack(MEMBERS), id="prefixed"),
        pytest.param(zipped(["../../etc/passwd"]), id="path-up"),
        pytest.param(zipped(["/etc/passwd"]), id="absolute"),
        pytest.param(zipped(["a\\b"]), id="backslash"),
        pytest.param(zipped(["a..b"]), id="dots"),
        pytest.param(zipped(["folder/"]), id="folder"),
        pytest.param(twice(), id="twice"),
        pytest.param(zipped(["a"], comment=b"hello"), id="comment"),
        pytest.param(zipped(["a"]), id="other-attributes"),
        pytest.param(zipped(["a"], kind=zipfile.ZIP_DEFLATED, size=1 << 20), id="bomb"),
        pytest.param(zipped(["n" + str(i) for i in range(2101)]), id="too-many"),
    ],
)
def test_anything_but_the_one_form_is_refused(content: bytes):
    with pytest.raises(BadInput, match="bundle"):
        unpack(content)


def test_a_member_that_declares_more_than_it_stores_is_refused_before_it_is_read():
    packed = bytearray(pack({"a": b"1234"}))
    at = packed.rindex(b"PK\x01\x02") + 24  # the size, in the central directory (APPNOTE 4.3.12)
    packed[at : at + 4] = (1 << 30).to_bytes(4, "little")
    with pytest.raises(BadInput, match="1073741824 bytes declared"):
        unpack(bytes(packed))


@pytest.mark.parametrize("at", range(0, len(pack({"a": b"12"})), 3))
def test_no_byte_of_the_file_can_change_unseen(at: int):
    packed = bytearray(pack({"a": b"12"}))
    packed[at] ^= 0x01
    try:
        members = unpack(bytes(packed))
    except BadInput:
        return
    assert members != {"a": b"12"}
    assert pack(members) == bytes(packed)


def test_the_manifest_says_what_is_missing_added_or_changed():
    sealed = {**MEMBERS, "manifest.json": manifest_of(MEMBERS), "manifest.signature": b""}
    assert manifest_faults(sealed) == []
    changed = {**sealed, "a.json": b"[]", "b": b""}
    del changed["logs/coordinator.jsonl"]
    assert [name for name, _ in manifest_faults(changed)] == [
        "logs/coordinator.jsonl",
        "b",
        "a.json",
    ]


@pytest.mark.parametrize(
    "manifest",
    [
        b"{}",
        b'{"members":[],"schema":"wardround.bundle/2"}',
        b'{"members":[{"name":"a.json"}],"schema":"wardround.bundle/1"}',
        b'{"members":{},"schema":"wardround.bundle/1"}',
        b'{"members": [], "schema": "wardround.bundle/1"}',
    ],
)
def test_a_malformed_manifest_is_named(manifest: bytes):
    assert manifest_faults({"manifest.json": manifest})[0][0] == "manifest.json"
