"""Masked uploads in a bundle: added up again, and the model's steps with them; forged ones fail."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.federation_study import study_of
from tests.support.hospitals import NAMES, Ward
from tests.support.memory_runs import Federation, in_round, unsigned, when

from wardround.audit.attempts import attempts_of
from wardround.audit.bundle import RunEvidence, bundle_bytes, evidence_of
from wardround.audit.container import unpack
from wardround.audit.derive import derive_report, report_of
from wardround.audit.redact import redact
from wardround.audit.replay import Replay, replay
from wardround.audit.uploads import FIRST_MODEL, KEYS_OF, uploads_of
from wardround.audit.verdicts import Verdicts
from wardround.audit.verify import verify_bytes
from wardround.canonical import Json, canonical_bytes
from wardround.protocol.envelope import unseal
from wardround.protocol.messages import Body, Reveal, Survivors, Work
from wardround_server.home import CoordinatorHome
from wardround_server.rounds.uploads import UploadStore
from wardround_server.service import RunFolder, StudyLoop

ENOUGH = 1 << 20
Uploads = dict[str, bytes]


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    ward = Ward.make(tmp_path)
    yield ward
    ward.close()


def run(ward: Ward, *, limit_bytes: int = ENOUGH, reply: Any = None, **changes: Any) -> RunEvidence:
    """A real run, and what its parties hand over, with the uploads that were kept."""
    federation = Federation(ward, reply, **changes)
    store = UploadStore(ward.folder / "uploads", limit_bytes)
    loop = federation.run()
    loop.uploads = store
    model, session = loop.train_and_evaluate()
    return replace(federation.close(model, session), uploads=store.read())


def sealed(ward: Ward, parts: RunEvidence) -> bytes:
    report = canonical_bytes(derive_report(evidence_of(parts)))
    return bundle_bytes(parts, report, identity=ward.coordinator.identity())


def verified(ward: Ward, parts: RunEvidence) -> Verdicts:
    return verify_bytes(sealed(ward, parts))


def codes(ward: Ward, parts: RunEvidence) -> set[str]:
    verdicts = verified(ward, parts)
    assert verdicts.authentic.ok
    assert verdicts.intact.ok
    assert verdicts.complete.ok
    return {failure.code for failure in verdicts.recomputed.failures}


@pytest.mark.parametrize("optimiser", ["fedavg", "fedyogi"])
def test_every_sum_and_every_step_of_a_real_run_comes_out_again(ward: Ward, optimiser: str):
    parts = run(ward, rounds__count=3, training__server={"name": optimiser})
    verdicts = verified(ward, parts)
    assert verdicts.ok, list(verdicts.lines())
    said = "replayed from masked uploads: the sums of 3 and the model's steps of 3 of 3 training"
    assert f"{said} rounds" in verdicts.remarks


def test_a_bundle_without_uploads_verifies_and_says_that_nothing_was_replayed(ward: Ward):
    parts = run(ward, limit_bytes=0, rounds__count=1)
    assert parts.uploads == {}
    verdicts = verified(ward, parts)
    assert verdicts.ok
    assert verdicts.remarks == ("masked uploads are not in the bundle: no sum was replayed",)


def test_uploads_of_a_void_attempt_are_not_kept(ward: Ward):
    reply = when(in_round(0), unsigned)
    parts = run(ward, reply=reply, rounds__count=1, rounds__quorum=2, masking__minimum_hospitals=2)
    lanes = 3
    sizes = {name: len(content) for name, content in parts.uploads.items()}
    assert sizes.pop(FIRST_MODEL) == 4 * lanes
    (transcript,) = {name.removesuffix(KEYS_OF) for name in sizes}  # the evaluation's are not kept
    assert sizes[transcript] == 2 * 4 * lanes
    assert sizes.keys() == {transcript, transcript + KEYS_OF}
    assert not list((ward.folder / "uploads").glob("open/*"))
    assert verified(ward, parts).ok


def test_no_more_than_the_limit_is_kept_and_the_verifier_says_how_much(ward: Ward):
    vector = 4 * 3
    room_for_keys = 200 * 3 * 3  # what the store leaves free for them before it keeps a vector
    first = vector + (3 * vector + 300)  # the model, and an attempt with its keys
    parts = run(ward, limit_bytes=first + 3 * vector + room_for_keys, rounds__count=3)
    assert len(parts.uploads) == 5
    verdicts = verified(ward, parts)
    assert verdicts.ok
    assert "the sums of 2 and the model's steps of 2 of 3 training rounds" in verdicts.remarks[-1]


@pytest.mark.parametrize(
    ("setting", "mechanism", "kept_bytes"),
    [("", "local", 0), ("1000", "local", 1000), ("1000", "distributed", 0), ("1000", "none", 0)],
)
def test_only_updates_with_a_hospitals_own_noise_are_kept_and_only_if_the_settings_say_so(
    tmp_path: Path, setting: str, mechanism: str, kept_bytes: int
):
    toml = 'listen = "127.0.0.1"\nport = 8443\naddress = "example.org:8443"\n'
    toml += f"keep_uploads_bytes = {setting}\n" if setting else ""
    (tmp_path / "coordinator.toml").write_text(toml)
    loop = StudyLoop(CoordinatorHome(tmp_path), RunFolder(tmp_path))
    without = {"epsilon": None, "delta": None} if mechanism == "none" else {}
    changes = {"privacy": {"mechanism": mechanism, **without}, "training": {"local_steps": 1}}
    study = study_of(changes=changes)
    assert loop._uploads(study).limit_bytes == kept_bytes


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Ward, RunEvidence]]:
    """One run with everything kept, for those who change it afterwards."""
    ward = Ward.make(tmp_path_factory.mktemp("kept"))
    yield ward, run(ward, rounds__count=2)
    ward.close()


def of_round(evidence: RunEvidence, number: int) -> str:
    found = [a for a in attempts_of(evidence_of(evidence)) if a.trains and a.counted]
    return found[number].transcript


def one_word_changed(uploads: Uploads, name: str) -> None:
    words = np.frombuffer(uploads[name], "<u4").copy()
    words[-1] += 1
    uploads[name] = words.tobytes()


def two_hospitals_swapped(uploads: Uploads, name: str) -> None:
    vectors = np.frombuffer(uploads[name], "<u4").reshape(len(NAMES), -1)
    uploads[name] = vectors[::-1].tobytes()


def cut(uploads: Uploads, name: str) -> None:
    uploads[name] = uploads[name][:-4]


def of_another_attempt(uploads: Uploads, name: str) -> None:
    uploads["0" * 64] = uploads.pop(name)
    uploads["0" * 64 + KEYS_OF] = uploads.pop(name + KEYS_OF)


def changed_keys(change: Callable[[Json], None]) -> Callable[[Uploads, str], None]:
    def act(uploads: Uploads, name: str) -> None:
        keys = json.loads(uploads[name + KEYS_OF])
        change(keys)
        uploads[name + KEYS_OF] = canonical_bytes(keys)

    return act


def without_keys(uploads: Uploads, name: str) -> None:
    del uploads[name + KEYS_OF]


def keys_alone(uploads: Uploads, name: str) -> None:
    del uploads[name]


def other_start(uploads: Uploads, name: str) -> None:
    uploads[FIRST_MODEL] = np.ones(3, "<f4").tobytes()


def no_vector(uploads: Uploads, name: str) -> None:
    uploads[FIRST_MODEL] = b"123"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (one_word_changed, "upload-differs"),
        (two_hospitals_swapped, "upload-differs"),
        (cut, "upload-malformed"),
        (of_another_attempt, "upload-unknown"),
        (other_start, "model-differs"),
        (no_vector, "upload-malformed"),
        (without_keys, "upload-malformed"),
        (keys_alone, "upload-unknown"),
        (changed_keys(lambda keys: keys["self_keys"].update(harbour="0" * 64)), "mask-key-differs"),
        (changed_keys(lambda keys: keys["self_keys"].pop("harbour")), "upload-malformed"),
        (changed_keys(lambda keys: keys["self_keys"].update(harbour="0")), "upload-malformed"),
        (changed_keys(lambda keys: keys.update(more={})), "upload-malformed"),
        (
            changed_keys(lambda keys: keys["pair_keys"].update({"a|b": "0" * 64})),
            "upload-malformed",
        ),
    ],
)
def test_changed_uploads_fail_under_their_own_name(
    kept: tuple[Ward, RunEvidence], change: Callable[[Uploads, str], None], code: str
):
    """The coordinator itself, with its key, hands over other uploads than came."""
    ward, parts = kept
    uploads = dict(parts.uploads)
    change(uploads, of_round(parts, 0))
    assert codes(ward, replace(parts, uploads=uploads)) == {code}


def test_a_bundle_for_the_public_has_no_uploads_and_its_proofs_hold(
    kept: tuple[Ward, RunEvidence],
):
    whole = sealed(*kept)
    public = redact(whole)
    assert uploads_of(unpack(whole))
    assert not uploads_of(unpack(public))
    verdicts = verify_bytes(public)
    assert verdicts.authentic.ok
    assert verdicts.intact.ok


# Four hospitals: the smallest cohort in which one may be lost and the sum opens all the same.
FOUR = (*NAMES, "riverside")


def in_last_round(name: str, kind: type[Body]) -> Callable[..., Any]:
    """The connection to `name` is lost when it is asked for `kind` in the second round."""
    seen = 0

    def reply(hospital: str, question: Any, answer: Any) -> Any:
        nonlocal seen
        body, _ = unseal(question, lanes=3)
        seen += hospital == name and isinstance(body, kind)
        return None if hospital == name and isinstance(body, kind) and seen == 2 else answer

    return reply


@pytest.fixture(scope="module", params=[Work, Survivors, Reveal])
def dropped(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Ward, RunEvidence]]:
    """A run in which one hospital is lost: before its upload, its signature or its keys."""
    ward = Ward.make(tmp_path_factory.mktemp("dropped"), FOUR)
    reply = in_last_round("lakeside", request.param)
    yield ward, run(ward, reply=reply, rounds__count=2)
    ward.close()


def test_a_sum_that_a_hospital_dropped_out_of_comes_out_again(dropped: tuple[Ward, RunEvidence]):
    ward, parts = dropped
    found = verified(ward, parts)
    assert found.ok, list(found.lines())
    assert any("the sums of 2 and the model's steps of 2 of 2" in line for line in found.remarks)
    second = attempts_of(evidence_of(parts))[1]
    keys = json.loads(parts.uploads[second.transcript + KEYS_OF])
    lost = [name for name in FOUR if name not in second.survivors]
    assert sorted(keys["pair_keys"]) == [
        "|".join(sorted((lost[0], name))) for name in FOUR if lost and name != lost[0]
    ]
    report = report_of(evidence_of(parts))
    assert "lakeside" in {entry.hospital for entry in report.participation.absent}


@pytest.mark.parametrize("dropped", [Work], indirect=True)
def test_a_wrong_key_of_a_dropped_hospital_gives_another_sum(dropped: tuple[Ward, RunEvidence]):
    ward, parts = dropped
    name = attempts_of(evidence_of(parts))[1].transcript
    uploads = dict(parts.uploads)
    keys = json.loads(uploads[name + KEYS_OF])
    keys["pair_keys"][min(keys["pair_keys"])] = "0" * 64
    uploads[name + KEYS_OF] = canonical_bytes(keys)
    assert codes(ward, replace(parts, uploads=uploads)) == {"sum-differs"}


def closed_otherwise(parts: RunEvidence, **change: str) -> Replay:
    """What replaying says when the coordinator had logged another end of the second round."""
    evidence = evidence_of(parts)
    attempts = attempts_of(evidence)
    second = next(a for a in attempts if a.transcript == of_round(parts, 1))
    assert second.end is not None
    body = second.end.body.model_copy(update=change)
    second.end = replace(second.end, body=body)
    return replay(evidence, attempts, parts.uploads)


def test_a_logged_sum_that_is_not_the_uploads_sum_is_found(kept: tuple[Ward, RunEvidence]):
    found = closed_otherwise(kept[1], sum_digest="0" * 64)
    assert [failure.code for failure in found.failures] == ["sum-differs"]
    assert (len(found.sums), found.rounds) == (1, 1)


def test_a_swapped_model_is_found_at_the_round_that_swapped_it(kept: tuple[Ward, RunEvidence]):
    found = closed_otherwise(kept[1], model_after="0" * 64)
    assert [failure.code for failure in found.failures] == ["step-differs"]
    assert "another model than the logged one" in found.failures[0].reason
    assert found.failures[0].log == "coordinator"
