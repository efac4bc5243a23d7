"""Bad input gets a clear error and the exit code of its kind, from the real command line."""

import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.support.machine import free_port
from tests.support.small_federation import (
    Finished,
    standing_federation,
    wardround,
    write_description,
    write_study,
)

from wardround.canonical import canonical_bytes
from wardround.identity import Identity, write_secret
from wardround.renewal import CERTIFICATE_FILE
from wardround_client.joining import (
    AUTHORITY_FILE,
    COORDINATOR_FILE,
    IDENTITY_FILE,
    KEY_FILE,
    Coordinator,
)
from wardround_server.authority import Authority
from wardround_server.home import CoordinatorHome, CoordinatorSettings

pytestmark = pytest.mark.federation

CANARY = "987654.25"


def without_a_column(text: str) -> str:
    return "\n".join(",".join(line.split(",")[:3] + line.split(",")[4:]) for line in text.split())


def with_age(value: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        lines = text.split()
        for at in (3, 7):
            patient, _, rest = lines[at].split(",", 2)
            lines[at] = f"{patient},{value},{rest}"
        return "\n".join(lines)

    return change


DATA_FAULTS: dict[str, Callable[[str], str]] = {
    "missing-column": without_a_column,
    "out-of-range": with_age(CANARY),
    "unreadable": with_age("CANARY-TEXT"),
    "no-key-in-file": lambda text: text.replace("patient,", "somebody,"),
    "key-is-empty": lambda text: re.sub(r"key-\d+-5,", ",", text),
    "empty-file": lambda text: text[:0],
    "header-only": lambda text: text.split()[0],
    "one-class": lambda text: re.sub(r",[01]$", ",1", text, flags=re.MULTILINE),
}
DESCRIPTION_FAULTS = {
    "wrong-unit": ('unit = "mg/dL"', 'unit = "mmol/L"'),
    "no-patient-key": ('[patient]\nsource = "patient"\n', ""),
    "unknown-key": ('unit = "mg/dL"', 'unitt = "mg/dL"'),
    "other-columns": ('column = "smoker"', 'column = "smokes"'),
}


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("bad")
    write_study(folder, ["a", "b", "c"])
    rows = (folder / "data" / "a.csv").read_text()
    for name, change in DATA_FAULTS.items():
        (folder / "data" / f"{name}.csv").write_text(change(rows))
        write_description(folder, "a", path=f"{name}.csv", name=name)
    for name, (old, new) in DESCRIPTION_FAULTS.items():
        path = write_description(folder, "a", name=name)
        path.write_text(path.read_text().replace(old, new, 1))
    for name in (*DATA_FAULTS, *DESCRIPTION_FAULTS):
        path = folder / "study" / "hospitals" / f"{name}.toml"
        path.rename(folder / f"{name}.toml")
    return folder


@pytest.fixture(scope="module")
def checks(material: Path) -> dict[str, Finished]:
    """`wardround data check` of every fault, two at a time."""

    def check(name: str) -> Finished:
        study = material / "study" / "study.toml"
        where = ("--study", study, "--data", material / "data", "--json")
        return wardround("data", "check", material / f"{name}.toml", *where)

    names = [*DATA_FAULTS, *DESCRIPTION_FAULTS]
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(names, pool.map(check, names), strict=True))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("missing-column", r"smoker|marker"),
        ("out-of-range", r"age: 2 .*(range|outside)"),
        ("unreadable", r"age: 2 "),
        ("no-key-in-file", r"patient"),
        ("key-is-empty", r"1 .*patient|patient.* 1 "),
        ("empty-file", r"empty-file.csv: the file is empty"),
        ("header-only", r"header-only.csv: the file has a header and no rows"),
        ("wrong-unit", r"marker: unit mmol/L came, the contract has mg/dL"),
        ("no-patient-key", r"no patient key"),
        ("unknown-key", r"unknown key `.*unitt`; the nearest known one is `unit`"),
        ("other-columns", r"smoker: the contract wants it.*|smokes.* no such column"),
    ],
)
def test_data_that_is_not_the_contracts_is_named_with_exit_code_4(
    checks: dict[str, Finished], name: str, said: str
) -> None:
    found = checks[name]
    assert found.code == 4
    assert re.search(said, found.err), found.err
    assert found.json["exit_code"] == 4
    assert found.err.count("\n") == 1  # one line, no traceback


@pytest.mark.parametrize("name", ["out-of-range", "unreadable"])
def test_a_wrong_value_is_counted_and_never_printed(checks: dict[str, Finished], name: str) -> None:
    said = checks[name].out + checks[name].err
    assert "2" in said
    assert not re.search(r"CANARY|987654|key-0", said)


def test_a_label_with_one_class_is_a_remark_and_no_error(checks: dict[str, Finished]) -> None:
    found = checks["one-class"]
    assert found.code == 0
    assert found.json["verdict"] == "ready with remarks"
    assert any("class" in remark for remark in found.json["remarks"])


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("spare_attempts = 2", "spare_attempt = 2", "`rounds.spare_attempt`.*`spare_attempts`"),
        ("sampling_rate = 0.5", "sampling_rate = 1.5", "`privacy.sampling_rate`"),
        ("epsilon = 3.0\n", "", "`epsilon` and `delta` are due unless mechanism is none"),
        ("[privacy]", "[privacy", r"not TOML: .*line \d+"),
    ],
)
def test_a_faulty_study_is_named_with_exit_code_4_and_the_nearest_key(
    material: Path, tmp_path: Path, old: str, new: str, said: str
) -> None:
    text = (material / "study" / "study.toml").read_text()
    (tmp_path / "study.toml").write_text(text.replace(old, new, 1))
    found = wardround("study", "check", tmp_path / "study.toml")
    assert found.code == 4
    assert re.search(said, found.err), found.err


def test_an_unknown_key_in_a_policy_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    own = Identity.generate()
    own.save(tmp_path / IDENTITY_FILE)
    joined = Coordinator(hospital="alpha", address="127.0.0.1:1", evidence_key=own.public_key.hex())
    (tmp_path / COORDINATOR_FILE).write_bytes(canonical_bytes(joined.model_dump()))
    (tmp_path / "policy.toml").write_text(
        'epsilon_budgets = 3.0\ndelta_max = 1e-4\nmechanisms = ["local"]\n'
    )
    found = wardround("budget", "show", "--dir", tmp_path)
    assert found.code == 4
    assert "unknown key `epsilon_budgets`; the nearest known one is `epsilon_budget`" in found.err


@pytest.mark.parametrize("fault", ["data", "policy", "study", "out", "override"])
def test_a_rehearsal_of_bad_input_ends_with_exit_code_4_and_leaves_nothing(
    material: Path, tmp_path: Path, fault: str
) -> None:
    folder = tmp_path / "material"
    write_study(folder, ["a", "b", "c"])
    out = tmp_path / "out"
    extra: tuple[object, ...] = ()
    if fault == "data":
        (folder / "data" / "b.csv").write_text("patient,age\n")
    elif fault == "policy":
        extra = ("--policy", tmp_path / "no-such-policy.toml")
    elif fault == "study":
        (folder / "study" / "study.toml").unlink()
    elif fault == "override":
        extra = ("--set", "privacy.epsilom=1")
    else:
        out.write_text("a file, where a folder is due\n")
    data = folder / "data"
    found = wardround("rehearse", folder / "study", "--data", data, "--out", out, "--json", *extra)
    assert found.code == 4, found.err
    assert found.json["exit_code"] == 4
    assert found.json["message"] in found.err
    if fault == "out":
        assert out.is_file()
    else:
        assert not out.exists()


def test_a_folder_with_something_in_it_is_never_overwritten(material: Path, tmp_path: Path) -> None:
    (tmp_path / "keep.txt").write_text("mine")
    found = wardround(
        "rehearse", material / "study", "--data", material / "data", "--out", tmp_path
    )
    assert found.code == 4
    assert "nothing is overwritten" in found.err
    assert [path.name for path in tmp_path.iterdir()] == ["keep.txt"]


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> CoordinatorHome:
    port = free_port()
    settings = CoordinatorSettings(port=port, address=f"127.0.0.1:{port}")
    return CoordinatorHome.create(tmp_path_factory.mktemp("bad-home") / "coordinator", settings)


def test_a_port_in_use_is_named(coordinator: CoordinatorHome) -> None:
    port = coordinator.settings().port
    with socket.create_server(("127.0.0.1", port)):
        found = wardround("coordinator", "serve", coordinator.directory)
    assert found.code == 1
    assert f"port {port} on 127.0.0.1 is in use by another process" in found.err


def test_a_study_for_an_unknown_hospital_is_refused_before_anything_is_written(
    coordinator: CoordinatorHome, material: Path, tmp_path: Path
) -> None:
    roster = [f"--hospital={name}={number:064x}" for number, name in enumerate("abc")]
    signed = tmp_path / "signed.json"
    where = ("--coordinator", coordinator.directory)
    study = material / "study" / "study.toml"
    made = wardround("study", "sign", study, *where, "--out", signed, *roster)
    assert made.code == 0, made.err
    found = wardround("study", "submit", signed, *where)
    assert found.code == 4
    assert "hospital a is not enrolled" in found.err
    assert coordinator.run_folders() == []


def test_a_signed_study_that_is_not_there_or_is_changed_is_bad_input(
    coordinator: CoordinatorHome, tmp_path: Path
) -> None:
    where = ("--coordinator", coordinator.directory)
    assert wardround("study", "submit", tmp_path / "none.json", *where).code == 4
    (tmp_path / "torn.json").write_text('{"study": {')
    assert wardround("study", "submit", tmp_path / "torn.json", *where).code == 4


def certificate_of(authority: Authority, hospital: str, *, ends: datetime) -> tuple[bytes, bytes]:
    """A hospital's certificate with an end of our choice, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    good = x509.load_pem_x509_certificate(
        authority.issue_hospital(hospital, signing_request(hospital, key)).encode()
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(good.subject)
        .issuer_name(good.issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(ends - timedelta(days=2))
        .not_valid_after(ends)
    )
    for extension in good.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    certificate = builder.sign(authority.key, hashes.SHA256())
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def signing_request(hospital: str, key: ec.EllipticCurvePrivateKey) -> str:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, hospital)])
    request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM).decode()


@pytest.fixture(scope="module")
def turned_away(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Finished]]:
    """Daemons that a running coordinator does not let in, all started at the same time."""
    folder = tmp_path_factory.mktemp("turned-away")
    with standing_federation(folder, (), others=("removed", "expired", "stranger")) as federation:
        home = federation.home
        home.enrolment().remove("removed")
        ours = Authority.load(home.directory / "authority")
        theirs = Authority.create(folder / "other-authority")
        now = datetime.now(UTC)
        for name, authority, ends in (
            ("expired", ours, now - timedelta(days=1)),
            ("stranger", theirs, now + timedelta(days=1)),
        ):
            certificate, key = certificate_of(authority, name, ends=ends)
            directory = federation.hospital(name).directory
            (directory / CERTIFICATE_FILE).write_bytes(certificate)
            (directory / KEY_FILE).unlink()
            write_secret(directory / KEY_FILE, key)
            (directory / AUTHORITY_FILE).write_text(authority.certificate_pem)
        for name in ("removed", "expired", "stranger"):
            federation.start_hospital(name)
        ended = {}
        for name in ("removed", "expired", "stranger"):
            party = federation.processes.parties[f"hospital-{name}"]
            try:
                code = party.process.wait(90)
            except subprocess.TimeoutExpired:
                code = -1
            ended[name] = Finished(code, "", party.log.read_text())
        yield ended


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("removed", "does not know this hospital's certificate"),
        ("expired", "certificate expired on|certificate has expired"),
        ("stranger", "another authority|certificate"),
    ],
)
def test_a_hospital_that_is_not_let_in_is_told_so_with_exit_code_2(
    turned_away: dict[str, Finished], name: str, said: str
) -> None:
    found = turned_away[name]
    assert found.code == 2, found.err
    assert re.search(said, found.err), found.err
    assert "Traceback" not in found.err
