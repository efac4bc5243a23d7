"""Bundles whose members are not what they were: by whoever carried the file, without a key, and
by a coordinator that lists and signs them anew.
"""

import io
import json
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

from tests.support.federation_evidence import Federation, federation
from tests.support.forgeries import VICTIM, Forgery, honest, honest_bundle, honest_report

from wardround.audit import bundle
from wardround.audit.container import MANIFEST, MANIFEST_SIGNATURE, pack, unpack
from wardround.canonical import Json, canonical_bytes

Members = dict[str, bytes]
LOG, NOTE = f"logs/hospitals/{VICTIM}.jsonl", f"logs/hospitals/{VICTIM}.checkpoint"
COORDINATOR_LOG, COORDINATOR_NOTE = "logs/coordinator.jsonl", "logs/coordinator.checkpoint"
MEMBERS = (
    "study.json",
    "keys.json",
    "countersignatures.json",
    "report.json",
    "statement.dsse.json",
    "VERIFY.md",
    COORDINATOR_LOG,
    COORDINATOR_NOTE,
    LOG,
    NOTE,
)
SPELT = ("study.json", "keys.json", "countersignatures.json", "report.json", "statement.dsse.json")


def members() -> Members:
    return dict(unpack(honest_bundle()))


@lru_cache(maxsize=1)
def another_run() -> Mapping[str, bytes]:
    """The same hospitals and keys, one round more: every member but the guide is another."""
    fed = federation(rounds=1)
    report = honest_report().replace(b'"rounds_planned":2', b'"rounds_planned":1')
    return unpack(bundle.bundle_bytes(fed.parts(), report, identity=fed.coordinator.identity))


# --- carried: nobody signs anything again ---


def carried(
    name: str, change: Callable[[Members], bytes], verdict: str, code: str, place: str
) -> Forgery:
    return Forgery(name, lambda _: change(members()), verdict, code, place=place)


def with_member(name: str, change: Callable[[bytes], bytes]) -> Callable[[Members], bytes]:
    return lambda found: pack({**found, name: change(found[name])})


def flipped(where: float) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        at = round(where * (len(content) - 1))
        return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]

    return change


def gone(name: str) -> Callable[[Members], bytes]:
    return lambda found: pack({n: c for n, c in found.items() if n != name})


def zipped(names: list[str], found: Members, **options: object) -> bytes:
    """As `pack` writes it, but for names given twice, another order, or these options."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
        warnings.simplefilter("ignore", UserWarning)
        for name in names:
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o100644 << 16
            for key, value in options.items():
                setattr(info, key, value)
            archive.writestr(info, found[name], info.compress_type)
    return buffer.getvalue()


def doubled(name: str) -> Callable[[Members], bytes]:
    return lambda found: zipped(sorted([*found, name]), found)


def declared_larger(found: Members) -> bytes:
    """The last member declares a gigabyte (APPNOTE 4.3.12)."""
    content = bytearray(pack(found))
    at = content.rindex(b"PK\x01\x02") + 24
    content[at : at + 4] = (1 << 30).to_bytes(4, "little")
    return bytes(content)


def spare_bytes(found: Members) -> bytes:
    """A hole between two members that no name leads to."""
    content = pack(found)
    return content[:-22] + b"hidden" + content[-22:]


def carried_members() -> Iterator[Forgery]:
    """Each member, damaged in each way."""
    ways: dict[str, Callable[[bytes], bytes]] = {
        "first byte": flipped(0.0),
        "a byte within": flipped(0.37),
        "last byte": flipped(1.0),
        "emptied": lambda _: b"",
        "halved": lambda content: content[: len(content) // 2],
        "one byte more": lambda content: content + b"\n",
    }
    for name in MEMBERS:
        for way, change in ways.items():
            act = with_member(name, change)
            yield carried(f"carried/{name}/{way}", act, "intact", "member-differs", name)
        if name not in {"VERIFY.md", "keys.json"}:
            act = with_member(name, lambda _, n=name: another_run()[n])
            yield carried(f"carried/{name}/of another run", act, "intact", "member-differs", name)
        yield carried(f"carried/{name}/gone", gone(name), "intact", "member-differs", name)
        malformed = ("intact", "container-malformed", "bundle")
        yield carried(f"carried/{name}/doubled", doubled(name), *malformed)


def carried_manifest() -> Iterator[Forgery]:
    """The manifest and its signature, without the key."""
    for name in (MANIFEST, MANIFEST_SIGNATURE):
        code, place = "container-malformed", "bundle"
        yield carried(f"carried/{name}/gone", gone(name), "intact", code, place)
        yield carried(f"carried/{name}/doubled", doubled(name), "intact", code, place)
        act = with_member(name, lambda _, n=name: another_run()[n])
        signature = ("authentic", "manifest-signature", MANIFEST_SIGNATURE)
        yield carried(f"carried/{name}/of another run", act, *signature)
    signed = {
        "zeros": lambda content: b"0" * (len(content) - 1) + b"\n",
        "no hex": lambda content: b"x" * (len(content) - 1) + b"\n",
        "upper case": lambda content: content.upper(),
        "no line end": lambda content: content[:-1],
        "a digit short": lambda content: content[1:],
        "another line": lambda content: content * 2,
    }
    for way, change in signed.items():
        act = with_member(MANIFEST_SIGNATURE, change)
        ok = way == "zeros"
        verdict = (
            ("authentic", "manifest-signature", MANIFEST_SIGNATURE)
            if ok
            else ("intact", "container-malformed", "bundle")
        )
        yield carried(f"carried/{MANIFEST_SIGNATURE}/{way}", act, *verdict)


def carried_files() -> Iterator[Forgery]:
    """The zip file itself."""
    ways: dict[str, Callable[[Members], bytes]] = {
        "empty": lambda _: b"",
        "text": lambda _: b"no bundle\n",
        "cut": lambda found: pack(found)[:-30],
        "bytes behind": lambda found: pack(found) + b"x",
        "bytes before": lambda found: b"x" + pack(found),
        "bytes between": spare_bytes,
        "a comment": lambda found: pack(found)[:-2] + b"\x05\x00hello",
        "another order": lambda found: zipped(sorted(found, reverse=True), found),
        "another date": lambda found: zipped(sorted(found), found, date_time=(2026, 3, 2, 8, 0, 0)),
        "an extra field": lambda found: zipped(sorted(found), found, extra=b"\x99\x99\x01\x00x"),
        "a member's comment": lambda found: zipped(sorted(found), found, comment=b"hello"),
        "packed": lambda found: zipped(sorted(found), found, compress_type=zipfile.ZIP_DEFLATED),
        "executable": lambda found: zipped(sorted(found), found, external_attr=0o100755 << 16),
        "a symbolic link": lambda found: zipped(sorted(found), found, external_attr=0o120777 << 16),
        "a larger size": declared_larger,
        "a path up": lambda found: pack({**found, "../keys.json": b"{}"}),
        "a full path": lambda found: pack({**found, "/keys.json": b"{}"}),
        "a folder": lambda found: pack({**found, "logs/": b""}),
        "an unknown member": lambda found: pack({**found, "notes.txt": b"x"}),
        "an unknown log": lambda found: pack({**found, "logs/extra.txt": b"x"}),
        "half a log": lambda found: pack({**found, "logs/hospitals/oslo.jsonl": b""}),
        "thousands of members": lambda _: pack({f"n{at}": b"" for at in range(2101)}),
    }
    for way, change in ways.items():
        place = ("intact", "container-malformed", "bundle")
        yield carried(f"carried/bundle.zip/{way}", change, *place)


# --- sealed again: a coordinator lists and signs what it changed ---


def resealed(found: Members) -> bytes:
    listed = {n: c for n, c in found.items() if n not in {MANIFEST, MANIFEST_SIGNATURE}}
    return bundle.sealed(listed, identity=honest().coordinator.identity)


def relisted(
    name: str, change: Callable[[bytes], bytes], what: str, verdict: str, code: str, place: str
) -> Forgery:
    def forge(fed: Federation) -> bytes:
        found = members()
        return resealed({**found, name: change(found[name])})

    return Forgery(f"resealed/{name}/{what}", forge, verdict, code, place=place)


def as_json(change: Callable[[Json], object]) -> Callable[[bytes], bytes]:
    def apply(content: bytes) -> bytes:
        value = json.loads(content)
        change(value)
        return canonical_bytes(value)

    return apply


def spellings() -> Iterator[Forgery]:
    """One value, written in another way: only RFC 8785 is read."""
    ways: dict[str, Callable[[bytes], bytes]] = {
        "a space": lambda content: content.replace(b":", b": ", 1),
        "a line end": lambda content: content + b"\n",
        "a byte order mark": lambda content: b"\xef\xbb\xbf" + content,
        "a key twice": lambda content: (
            content[:1] + content[1 : content.index(b":")] + b":0," + content[1:]
        ),
        "an escaped letter": lambda content: content.replace(b'"', b'"\\u0061', 1),
        "not JSON": lambda content: content[:-1],
    }
    codes = {
        "study.json": ("authentic", "study-signature", "study.json"),
        "report.json": ("recomputed", "report-malformed", "report.json"),
        "statement.dsse.json": ("authentic", "report-signature", "statement.dsse.json"),
    }
    for name in SPELT:
        due = codes.get(name, ("intact", "container-malformed", "bundle"))
        for way, change in ways.items():
            yield relisted(name, change, way, *due)
