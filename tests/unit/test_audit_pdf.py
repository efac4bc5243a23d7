"""report.pdf: complete in itself, the same bytes everywhere, and no study's words are run."""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import unicodedata
from functools import lru_cache
from pathlib import Path

import pytest
from pypdf import PdfReader
from pypdf.generic import IndirectObject
from tests.support.federation_evidence import federation, study_of
from typer.testing import CliRunner

from wardround.audit.bundle import bundle_bytes, evidence_of, write_bundle
from wardround.audit.derive import derive_report
from wardround.audit.pdf import _COVERED, printable, render_pdf
from wardround.audit.verify import verify_bytes
from wardround.canonical import Json, canonical_bytes
from wardround.cli.audit import app
from wardround.errors import BadInput

KINDS = ("dp", "missing", "none", "noised")
HOSTILE = '#panic("run") #sys.inputs ] } $x$ *b* _i_ `r` <l> @ref // c \\ "q" ~ -- = /*'

PURPOSE_LINES = (21, 29)

CHILD = """
import hashlib, json, sys
from pathlib import Path
from wardround.audit.pdf import render_pdf
assert "typst" not in sys.modules
print(hashlib.sha256(render_pdf(json.loads(Path(sys.argv[1]).read_bytes()))).hexdigest())
"""


@lru_cache(maxsize=8)
def report_bytes(kind: str) -> bytes:
    changes: Json = {
        "none": {"privacy": {"mechanism": "none", "epsilon": None, "delta": None}},
        "noised": {"evaluation": {"counts": "noised", "epsilon": 2.0, "bins": 16}},
    }.get(kind, {})
    lost = {"leiden": (1, "deadline")} if kind == "missing" else None
    fed = federation(study=study_of(rounds=3, changes=changes), lost=lost)
    parts = fed.parts(without=frozenset(lost or ()))
    return canonical_bytes(derive_report(evidence_of(parts)))


def report(kind: str) -> Json:
    value: Json = json.loads(report_bytes(kind))
    return value


@lru_cache(maxsize=8)
def pdf(kind: str) -> PdfReader:
    return opened(render_pdf(report(kind)))


def opened(content: bytes) -> PdfReader:
    return PdfReader(io.BytesIO(content), strict=True)


def words(reader: PdfReader, *, page: int | None = None) -> str:
    """The text as a reader of the paper has it, lines joined."""
    pages = reader.pages if page is None else [reader.pages[page]]
    return re.sub(r"\s+", " ", " ".join(each.extract_text() for each in pages))


def solid(text: str) -> str:
    """Without any white space: where a line breaks does not matter."""
    return re.sub(r"\s", "", text)


@pytest.mark.parametrize("kind", KINDS)
def test_the_label_is_the_first_page_and_holds_what_the_report_says(kind: str):
    value, first = report(kind), words(pdf(kind), page=0)
    assert value["guarantee"]["kind"] in first
    assert value["participation"]["headline"] in first
    for title in ("Who took part", "What left each hospital", "What is NOT protected"):
        assert title in first
    said = [value["guarantee"]["unit_in_words"], value["guarantee"]["mechanism_in_words"]]
    said += [value["guarantee"]["odds_in_words"], *value["guarantee"]["scope"]]
    for line in [*said, *value["not_protected"]]:
        assert solid(line) in solid(first)


@pytest.mark.parametrize("kind", KINDS)
def test_sections_a_to_i_follow_with_every_hazard_and_every_digest_in_full(kind: str):
    value, reader = report(kind), pdf(kind)
    rest = " ".join(words(reader, page=page) for page in range(1, len(reader.pages)))
    titles = ("Identity", "Guarantee", "Attack tests", "Security", "Evaluation", "Data")
    titles += ("For the data protection impact assessment", "Evidence", "Sign-off")
    places = [
        rest.index(f"{letter} {title}") for letter, title in zip("ABCDEFGHI", titles, strict=True)
    ]
    assert places == sorted(places)
    for hazard in value["hazards"]:
        assert solid(hazard["finding"]) in solid(rest)
    digests = [entry["fingerprint"] for entry in value["study"]["roster"]]
    digests += [value["study"]["digest"], value["study"]["coordinator_fingerprint"]]
    digests += [log[key] for log in value["logs"] for key in ("head", "root")]
    assert [digest for digest in digests if digest not in solid(rest)] == []


@pytest.mark.parametrize("lines", PURPOSE_LINES)
def test_a_card_that_fits_on_a_page_is_not_broken(lines: int):
    """Wherever it comes to lie: a longer purpose moves all that follows."""
    value = report("missing")
    value["study"]["purpose"] = "One risk model over several hospitals. " * 3 * lines
    reader = opened(render_pdf(value))
    pages = [words(reader, page=page) for page in range(len(reader.pages))]
    for first, last in (
        ("D Security", "then not asked"),
        ("H Evidence", "This file holds report.json"),
        ("I Sign-off", "Head of the study"),
    ):
        on = [number for number, page in enumerate(pages) if first in page]
        assert on == [number for number, page in enumerate(pages[1:], 1) if last in page]
        assert len(on) == 1


def test_the_label_of_a_study_that_only_counts_says_why_nothing_was_evaluated():
    fed = federation(changes={"statistics": {"epsilon": 1.0}, "rounds": {"count": 0}})
    first = words(opened(render_pdf(derive_report(evidence_of(fed.parts())))), page=0)
    assert "No evaluation was opened in this run, since the study only counts." in first


def test_epsilon_is_printed_rounded_up_with_the_odds():
    guarantee, first = report("dp")["guarantee"], words(pdf("dp"), page=0)
    shown = float(re.findall(r"ε ([0-9.]+)", first)[0])
    assert guarantee["epsilon"]["value"] <= shown < guarantee["epsilon"]["value"] + 0.011
    assert f"50 → {guarantee['odds_percent']['value']:.0f} of 100" in first


def test_a_run_without_noise_says_so_on_every_page_and_names_no_epsilon():
    reader = pdf("none")
    assert "No epsilon exists" in words(reader, page=0)
    for page in range(len(reader.pages)):
        assert "NO FORMAL GUARANTEE" in words(reader, page=page)
    assert "FORMAL DP" not in words(reader)
    assert reader.metadata is not None
    assert str(reader.metadata.title).startswith("NO FORMAL GUARANTEE")


def test_who_was_missing_stands_above_the_verdicts():
    first = words(pdf("missing"), page=0)
    headline = "3 of 4 hospitals took part throughout; leiden was missing."
    assert first.index(headline) < first.index("Authentic")
    assert "leiden: round 2" in first


def test_a_report_that_was_not_verified_does_not_vouch_for_itself():
    first = words(pdf("dp"), page=0)
    assert "does not vouch for itself" in first
    assert "Authentic: not checked" in first


def test_a_guarantee_that_the_bundle_does_not_prove_is_called_claimed():
    fed = federation(rounds=1)
    verdicts = verify_bytes(bundle_bytes(fed.parts(), b"{}", identity=fed.coordinator.identity))
    first = words(opened(render_pdf(derive_report(evidence_of(fed.parts())), verdicts)), page=0)
    assert "Recomputed: NO" in first
    assert "report-differs" in first
    assert "CLAIMED, NOT PROVEN: FORMAL DP" in first


def test_the_signed_bytes_of_report_json_are_attached():
    assert pdf("missing").attachments == {"report.json": [report_bytes("missing")]}


def test_it_is_pdf_a_3a_and_every_font_is_in_it():
    reader = pdf("dp")
    metadata = reader.xmp_metadata
    assert metadata is not None
    xmp = metadata.stream.get_data().decode()
    assert "<pdfaid:part>3</pdfaid:part><pdfaid:conformance>A</pdfaid:conformance>" in xmp
    fonts = {
        str(font["/BaseFont"]).split("+")[1]: font["/DescendantFonts"][0].get_object()
        for page in reader.pages
        for font in map(IndirectObject.get_object, page["/Resources"]["/Font"].values())
    }
    assert fonts
    assert all(name.startswith(("LibertinusSerif", "DejaVuSansMono")) for name in fonts)
    for font in fonts.values():
        assert {"/FontFile2", "/FontFile3"} & set(font["/FontDescriptor"])


def test_another_process_directory_clock_and_language_give_the_same_bytes(tmp_path: Path):
    (tmp_path / "value.json").write_bytes(report_bytes("dp"))
    here = hashlib.sha256(render_pdf(report("dp"))).hexdigest()
    environment = os.environ | {"TZ": "Asia/Tokyo", "LC_ALL": "C", "SOURCE_DATE_EPOCH": "86400"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, "value.json"],
        cwd=tmp_path,
        env=environment | {"HOME": str(tmp_path), "TYPST_FONT_PATHS": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == here
    other = report("dp")
    other["study"]["contact"] += "!"
    assert hashlib.sha256(render_pdf(other)).hexdigest() != here


def test_the_date_in_it_is_the_end_of_the_run():
    metadata = pdf("dp").metadata
    assert metadata is not None
    assert metadata.creation_date is not None
    closed = report("dp")["run"]["closed_at"]
    assert metadata.creation_date.strftime("%Y-%m-%dT%H:%M:%SZ") == closed


def filled(value: Json, text: str) -> Json:
    """The report with `text` wherever a person's words may stand."""
    value["study"] |= {"title": text, "purpose": text, "contact": text, "label": text}
    value["run"]["software"] = [text]
    value["study"]["roster"][0]["approved_by"] = text
    value["guarantee"]["epsilon"]["note"] = text
    value["guarantee"]["headline"] = value["participation"]["headline"] = text
    value["hazards"][0] |= {"title": text, "finding": text}
    place = {"log": text, "seq": 1}
    value["incidents"] = [{"what": text, "party": text, "reason": text, "place": place}]
    value["participation"]["absent"] = [{"hospital": text, "since": text, "reason": text}]
    return value


def test_nothing_of_a_study_is_run_and_all_of_it_is_shown():
    reader = opened(render_pdf(filled(report("dp"), HOSTILE)))
    assert reader.metadata is not None
    assert HOSTILE in str(reader.metadata.title)
    assert solid(words(reader)).count(solid(HOSTILE)) >= 12


def test_every_character_that_is_let_through_has_a_glyph_in_every_style():
    covered = [chr(code) for first, last in _COVERED for code in range(first, last + 1)]
    kept = [c for c in covered if printable(c) == c and c != "\N{NO-BREAK SPACE}"]
    assert len(kept) > 1900
    value, hazard = report("dp"), report("dp")["hazards"][0]
    for_bold = ["a".join(kept[at : at + 200]) for at in range(0, len(kept), 200)]
    value["hazards"] = [hazard | {"title": text, "finding": text} for text in for_bold]
    value["logs"] = [value["logs"][0] | {"head": text, "root": text} for text in for_bold]
    assert len(opened(render_pdf(value)).pages) > 4


@pytest.mark.parametrize("text", ["中文", "\u202eabc", "\x00\x1b[1m", "\ue000", "😀", "a\u200bb"])
def test_a_character_without_a_glyph_is_printed_as_its_number_and_attached_as_it_is(text: str):
    odd = [c for c in text if unicodedata.category(c)[0] == "C" or ord(c) > 0x4FF]
    reader = opened(render_pdf(filled(report("dp"), text)))
    first = words(reader, page=0)
    for character in odd:
        assert f"[U+{ord(character):04X}]" in first
        assert character not in first
    attached = json.loads(reader.attachments["report.json"][0])
    assert attached["study"]["title"] == text


def test_a_word_without_end_is_broken():
    text = printable("x" * 1000)
    assert max(map(len, text.split("\N{SOFT HYPHEN}"))) == 64
    assert "\N{SOFT HYPHEN}" not in printable("f" * 64)
    assert opened(render_pdf(filled(report("dp"), "x" * 1000)))


def test_thirty_hospitals_and_two_hundred_rounds_are_typeset():
    value = report("dp")
    names = [f"hospital-{number:02}" for number in range(30)]
    one = value["participation"]["attempts"][0]
    rounds = [
        one | {"round": number, "presence": dict.fromkeys(names, "sent")} for number in range(200)
    ]
    value["participation"] |= {"planned": names, "completed": names, "attempts": rounds}
    for key in ("outflow", "logs"):
        value[key] = value[key] * 10
    value["guarantee"]["hospitals"] *= 10
    assert names[-1] in words(opened(render_pdf(value)))


@pytest.mark.parametrize(
    "broken", [{"schema": "wardround.report/1"}, {"opened_at": "2026-13-40T25:00:00Z"}]
)
def test_what_is_no_report_is_refused(broken: Json):
    value = report("dp")
    value["run"] |= {"closed_at": None, **broken} if "opened_at" in broken else {}
    with pytest.raises(BadInput, match="report: "):
        render_pdf(value if "opened_at" in broken else broken)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    fed = federation(rounds=1)
    write_bundle(tmp_path / "bundle.zip", fed.parts(), identity=fed.coordinator.identity)
    return tmp_path / "bundle.zip"


def test_the_command_writes_it_beside_the_page_when_asked(bundle: Path, tmp_path: Path):
    out = tmp_path / "out"
    assert CliRunner().invoke(app, ["report", str(bundle), "--out", str(out)]).exit_code == 0
    assert not (out / "report.pdf").exists()
    words_given = ["report", str(bundle), "--out", str(out), "--pdf", "--json"]
    done = CliRunner().invoke(app, words_given)
    assert done.exit_code == 0
    assert json.loads(done.stdout)["report_pdf"] == str(out / "report.pdf")
    reader = opened((out / "report.pdf").read_bytes())
    assert "Recomputed: yes" in words(reader, page=0)
    assert reader.attachments["report.json"] == [(out / "report.json").read_bytes()]


def test_without_typst_the_extra_is_named_and_nothing_is_written(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "typst", None)
    done = CliRunner().invoke(app, ["report", str(bundle), "--out", str(tmp_path / "o"), "--pdf"])
    assert isinstance(done.exception, BadInput)
    assert "wardround[pdf]" in str(done.exception)
    assert not (tmp_path / "o").exists()
