"""A folder without patients: whole or not at all, looked at by a person, reported in counts."""

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import generate_uid
from tests.support.dicom_files import CANARIES, CANARY, CANARY_UID, content, ct_slice
from tests.support.dicom_files import with_canaries as planted
from tests.unit.test_deidentify import ASKED, every_keyword
from typer.testing import CliRunner

from wardround.cli.main import app
from wardround.errors import BadInput, VerificationFailed
from wardround_client.data import deidentify_folder as module
from wardround_client.data.deidentify_folder import Attestation, deidentify_folder, read_report
from wardround_client.data.deidentify_keys import Pseudonyms, pseudonyms_of
from wardround_client.data.deidentify_sheet import Sheet, read_sheet, write_contact_sheet

KEY = Pseudonyms(b"k" * 32)
RANDOM = np.random.default_rng(6)


def noise(shape=(8, 8)):
    return RANDOM.integers(-1000, 1000, shape).astype(np.int16)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / f"source {CANARY}"
    folder.mkdir()
    return folder


def put(folder, **files):
    for name, file in files.items():
        (folder / f"{name}-{CANARY}").write_bytes(
            file if isinstance(file, bytes) else content(file)
        )


def clean(**elements):
    return ct_slice(noise(), BurnedInAnnotation="NO", **elements)


def looked_at(source, tmp_path, *, left_out=()):
    sheet, _ = write_contact_sheet(source, tmp_path / "sheet")
    return Attestation(
        by="Ada Example",
        at="2026-11-23T00:00:00+00:00",
        looked_at=len(sheet.numbers),
        sheet=read_sheet(tmp_path / "sheet"),
        left_out=frozenset(left_out),
    )


def left_behind(tmp_path):
    return sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("out"))


def test_what_is_no_image_is_left_out_and_counted_by_reason(source, tmp_path):
    twice = clean(PatientID="P2")
    put(
        source,
        good=clean(),
        same=twice,
        again=twice,
        text=b"CANARY is no DICOM",
        cut=content(clean())[:300],
        burned=ct_slice(BurnedInAnnotation="YES"),
        report=clean(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33"),
    )
    (source / "link").symlink_to(source / f"good-{CANARY}")
    report = deidentify_folder(source, tmp_path / "out", pseudonyms=KEY)
    assert (report.written, len(report.patients), report.attested) == (2, 2, 0)
    assert report.left_out == {
        "has the SOPInstanceUID of another file": 1,
        "is not a DICOM file": 1,
        "is a DICOM file without an image": 1,
        "says that something is written into its pixels": 1,
        "is of another kind than CT, CR, DX, MG and MR images": 1,
    }
    assert len(list((tmp_path / "out").rglob("*.dcm"))) == 2
    assert left_behind(tmp_path) == ["out", "out.json"]


def test_only_the_owner_can_read_what_is_written(source, tmp_path):
    put(source, a=clean())
    deidentify_folder(source, tmp_path / "out", pseudonyms=KEY)
    looked_at(source, tmp_path)
    for path in [*(tmp_path / "out").rglob("*"), *(tmp_path / "sheet").iterdir()]:
        assert path.stat().st_mode & 0o077 == 0, path.name
    assert (tmp_path / "out.json").stat().st_mode & 0o077 == 0


def test_images_that_do_not_say_it_need_somebody_who_looked(source, tmp_path):
    put(source, a=clean(), b=ct_slice(noise()), c=ct_slice(noise()))
    with pytest.raises(BadInput, match="2 images do not say whether something is written"):
        deidentify_folder(source, tmp_path / "out", pseudonyms=KEY)
    assert left_behind(tmp_path) == []
    seen = looked_at(source, tmp_path, left_out=[2])
    put(source, later=ct_slice(noise()))
    report = deidentify_folder(source, tmp_path / "out", pseudonyms=KEY, attestation=seen)
    assert (report.written, report.attested) == (2, 1)
    assert report.left_out == {
        "has something written into its pixels, as a person saw": 1,
        "is not on the contact sheet": 1,
    }
    written = pydicom.dcmread(next((tmp_path / "out").rglob("*.dcm")))
    assert written.BurnedInAnnotation == "NO"


def test_the_report_is_sealed_and_says_who_looked(source, tmp_path):
    put(source, b=ct_slice(noise()))
    seen = looked_at(source, tmp_path)
    deidentify_folder(source, tmp_path / "out", pseudonyms=KEY, attestation=seen)
    sealed = (tmp_path / "out.json").read_bytes()
    value = read_report(sealed, KEY)
    assert value["attestation"] == {
        "by": "Ada Example",
        "at": "2026-11-23T00:00:00+00:00",
        "pictures_looked_at": 1,
        "pictures_with_text": 0,
    }
    assert "2023b" in value["profile"]
    assert value["key_fingerprint"] == KEY.fingerprint()
    with pytest.raises(VerificationFailed):
        read_report(sealed.replace(b"Ada Example", b"Bob Example"), KEY)
    with pytest.raises(VerificationFailed):
        read_report(sealed, Pseudonyms(b"j" * 32))


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"looked_at": 1}, "1 pictures were looked at, of 2"),
        ({"left_out": frozenset({3})}, "numbered 1 to 2"),
        ({"by": " "}, "the name of who looked is due"),
        ({"by": "Ada\nBob"}, "the name of who looked is due"),
    ],
)
def test_an_attestation_of_less_than_the_sheet_is_refused(more, why):
    sheet = Sheet({"a": 1, "b": 2})
    whole = {"by": "Ada", "at": "now", "looked_at": 2, "sheet": sheet} | more
    with pytest.raises(BadInput, match=why):
        Attestation(**whole)


def test_a_run_that_breaks_leaves_nothing_behind(source, tmp_path, monkeypatch):
    put(source, a=clean(), b=clean(), c=clean())
    write, calls = module.write_private, []

    def full(path, data):
        calls.append(path)
        if len(calls) == 3:
            raise OSError(28, "No space left on device")
        write(path, data)

    monkeypatch.setattr(module, "write_private", full)
    with pytest.raises(OSError, match="No space"):
        deidentify_folder(source, tmp_path / "out", pseudonyms=KEY)
    assert left_behind(tmp_path) == []
    monkeypatch.undo()
    deidentify_folder(source, tmp_path / "out", pseudonyms=KEY)
    with pytest.raises(BadInput, match="out: is there already"):
        deidentify_folder(source, tmp_path / "out", pseudonyms=KEY)


def test_a_run_that_breaks_at_its_last_step_leaves_no_report_either(source, tmp_path, monkeypatch):
    put(source, a=clean())
    rename = Path.rename

    def failing(path, target):
        if path.is_dir():
            raise OSError(5, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="Input/output"):
        deidentify_folder(source, tmp_path / "out", pseudonyms=KEY)
    assert left_behind(tmp_path) == []


def test_a_folder_without_images_or_the_one_that_is_read_is_refused(source, tmp_path):
    put(source, text=b"CANARY")
    with pytest.raises(BadInput, match="no image is left: 1 files: a file is not a DICOM file"):
        deidentify_folder(source, tmp_path / "out", pseudonyms=KEY)
    with pytest.raises(BadInput, match="lies in the folder that is read"):
        deidentify_folder(source, source / "out", pseudonyms=KEY)
    with pytest.raises(BadInput, match="no such folder"):
        deidentify_folder(tmp_path / "nowhere", tmp_path / "out", pseudonyms=KEY)
    assert left_behind(tmp_path) == []


def test_thin_letters_stay_on_the_contact_sheet(source, tmp_path):
    picture = np.zeros((1030, 1030), dtype=np.int16)
    picture[515, 100:900] = 900  # a line as thin as a letter, in a picture that is made smaller
    put(source, a=ct_slice(picture), b=clean())
    sheet, faults = write_contact_sheet(source, tmp_path / "sheet")
    assert (len(sheet.numbers), faults) == (1, {})
    page = np.asarray(Image.open(tmp_path / "sheet" / "page-000001.png"))
    assert (page[16:360, :344] == 255).any(axis=0).sum() > 250


def test_a_sheet_of_another_version_is_refused(tmp_path):
    with pytest.raises(BadInput, match="no contact sheet"):
        read_sheet(tmp_path)
    for wrong in ('{"pictures":[]}', '{"pictures":"ab","schema":"wardround.contact-sheet/1"}'):
        (tmp_path / "sheet.json").write_text(wrong)
        with pytest.raises(BadInput, match="not a contact sheet"):
            read_sheet(tmp_path)


def run(*words):
    return CliRunner().invoke(app, ["data", *map(str, words)])


def test_no_canary_reaches_output_screen_or_report(source, tmp_path):
    """By the command line: folder, file names, every attribute, trailing bytes, errors."""
    put(source, a=planted(every_keyword(), ASKED), b=clean(PatientID=CANARY))
    put(source, trailing=content(clean(PatientID=CANARY)) + b"CANARY" * 9, text=b"CANARY")
    put(source, silent=ct_slice(noise(), PatientID=CANARY, PatientComments=CANARY))
    put(source, bad=content(clean(SliceThickness="2.500000")).replace(b"2.500000", b"CANARY78"))
    (tmp_path / "home").mkdir()
    words = ["--source", source, "--out", tmp_path / "out", "--dir", tmp_path / "home"]
    refused = run("deidentify", *words)
    assert isinstance(refused.exception, BadInput)
    assert "1 images do not say" in str(refused.exception)
    drawn = run("contact-sheet", "--source", source, "--out", tmp_path / "sheet")
    assert "1 pictures to look at" in drawn.output
    seen = ["--sheet", tmp_path / "sheet", "--attest", "Ada Example", "1", "--shift-dates"]
    done = run("deidentify", *words, *seen)
    assert done.exit_code == 0, done.output
    said = refused.output + str(refused.exception) + drawn.output + done.output
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) >= 3
    haystack = [said.encode(), (tmp_path / "out.json").read_bytes()]
    haystack += [str(path.relative_to(tmp_path)).encode() + path.read_bytes() for path in written]
    for canary in (*CANARIES, CANARY_UID):
        assert not any(canary.encode() in straw for straw in haystack), canary
    value = read_report(haystack[1], pseudonyms_of(tmp_path / "home"))
    assert value["left_out"]["is not a DICOM file"] == 1
    assert value["left_out"]["has a SliceThickness that cannot be kept and cannot be left out"] == 1


def test_the_counts_are_told_as_json_too(source, tmp_path):
    put(source, a=clean(), b=ct_slice(noise(), SOPInstanceUID=generate_uid()))
    told = run("contact-sheet", "--source", source, "--out", tmp_path / "sheet", "--json")
    assert json.loads(told.stdout) == {"pictures": 1, "left_out": {}}
    words = ["--source", source, "--out", tmp_path / "out", "--dir", tmp_path, "--json"]
    told = run("deidentify", *words, "--sheet", tmp_path / "sheet", "--attest", "Ada", "1")
    value = json.loads(told.stdout)
    assert (value["files_written"], value["declared_clean"], value["attested_clean"]) == (2, 1, 1)


def labels(tmp_path, text, *more):
    table = tmp_path / "labels.csv"
    table.write_text(text)
    words = ["--table", table, "--patient", "id", "--keep", "nodule", "--out", tmp_path / "new.csv"]
    return run("pseudonyms", *words, "--dir", tmp_path, *more)


def test_labels_get_the_names_that_the_images_have(source, tmp_path):
    put(source, a=clean(PatientID=CANARY))
    key = pseudonyms_of(tmp_path)
    deidentify_folder(source, tmp_path / "out", pseudonyms=key)
    done = labels(tmp_path, f"id,name,nodule\n{CANARY},{CANARY}^Jane,4\nP2,x,1\n")
    assert done.stdout == "2 rows in new.csv\n"
    written = (tmp_path / "new.csv").read_text()
    (own,) = [path.name for path in (tmp_path / "out").iterdir()]
    lines = [f"{own},4", f"{key.patient('P2')},1"]
    assert written == "\n".join(["patient,nodule", *sorted(lines)]) + "\n"
    assert (tmp_path / "new.csv").stat().st_mode & 0o077 == 0
    assert CANARY not in written


@pytest.mark.parametrize(
    ("text", "more", "why"),
    [
        ("id,other\nP1,1\n", [], "no column 'nodule'"),
        ("id,nodule\nP1,1\n", ["--keep", "id"], "other columns than 'id'"),
        ("id,nodule\nP1,1\n,2\n", [], "1 of 2 rows have no patient"),
        ("id,nodule\nP1,P2\nP2,3\n", [], "column nodule: a value is somebody's PatientID"),
    ],
)
def test_labels_that_would_name_somebody_are_refused(tmp_path, text, more, why):
    refused = labels(tmp_path, text, *more)
    assert why in str(refused.exception)
    assert not (tmp_path / "new.csv").exists()
