"""study.toml and signed studies: what is wrong is said with the key, and nothing wrong gets in."""

import json
from pathlib import Path

import pytest
from pydantic import BaseModel
from scipy.stats import binom
from tests.support.hospitals import STUDY_TOML, study_json

from wardround.canonical import canonical_bytes
from wardround.errors import BadInput, BadSignature
from wardround.identity import Identity
from wardround.privacy.accounting import epsilon_spent
from wardround.study.files import (
    STUDY_PURPOSE,
    TOML_LIMIT_BYTES,
    apply_override,
    checked,
    read_signed_study,
    read_study_plan,
    read_toml,
    sign_study,
)
from wardround.study.manifest import Study, StudyPlan
from wardround_server.roster import with_roster

ROSTER = [{"name": name, "fingerprint": sign * 64} for name, sign in (("a", "1"), ("b", "2"))]


def plan(**changes):
    return checked(StudyPlan, study_json(**changes), what="study.toml")


def study(**changes):
    return checked(Study, study_json(**{"roster": ROSTER} | changes), what="study")


def written(tmp_path, text=STUDY_TOML):
    path = tmp_path / "study.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("place", "near"),
    [
        ("titel", "title"),
        ("task__modle", "model"),
        ("contract__label__descriptoin", "description"),
        ("privacy__epsilom", "epsilon"),
        ("training__server__beta1", "beta_1"),
        ("rounds__spare_attempt", "spare_attempts"),
        ("evaluation__treshold", "threshold"),
        ("masking__minimum", "minimum_hospitals"),
        ("shema", "schema"),
    ],
)
def test_an_unknown_key_names_the_nearest_known_one_at_every_depth(place, near):
    dotted = place.replace("__", r"\.")
    with pytest.raises(
        BadInput, match=f"unknown key `{dotted}`; the nearest known one is `{near}`"
    ):
        plan(**{place: 1})


def test_an_unknown_key_inside_a_list_is_named_with_its_place():
    columns = study_json()["contract"]["columns"]
    columns[1]["untit"] = "1"
    with pytest.raises(BadInput, match=r"unknown key `contract\.columns\.1\.untit`; .* is `unit`"):
        plan(contract__columns=columns)


def test_all_faults_are_told_together():
    with pytest.raises(BadInput) as caught:
        plan(title=None, privacy__delta=2.0, rounds__count=-1, extra=1)
    for part in ("`title` is missing", "`privacy.delta`", "`rounds.count`", "unknown key `extra`"):
        assert part in str(caught.value)


COLUMN = {"name": "x", "kind": "continuous", "description": "x", "range": [0, 1]}
IMAGE = {**COLUMN, "name": "scan", "kind": "image", "shape": [1, 32, 32]}


DISTRIBUTED = {"privacy__mechanism": "distributed"}
ADAPTIVE = {
    "privacy__clipping": "adaptive",
    "privacy__adaptive_quantile": 0.5,
    "privacy__adaptive_count_noise": 5.0,
}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"task__model": "reference-cnn"}, "does not belong to family risk"),
        ({"task__model": "mlp"}, "`hidden` layer sizes"),
        ({"task__hidden": [8]}, "`hidden` layer sizes"),
        ({"task__model": "resnet"}, "Input should be 'logistic-regression'"),
        ({"privacy__epsilon": None}, "`epsilon` and `delta` are due"),
        ({"privacy__delta": None}, "`epsilon` and `delta` are due"),
        ({"privacy__epsilon": 51}, "less than or equal to 50"),
        ({"privacy__epsilon": float("nan")}, "finite|greater"),
        ({"privacy__clip_norm_l2": float("inf")}, "less than|finite"),
        ({"privacy__sampling_rate": 1.0}, "less than 1"),
        ({"privacy__sampling_rate": 0}, "greater than 0"),
        ({"privacy__unit": "visit"}, "patient"),
        ({"privacy__patients_most": 100}, "`patients_most` and `batch_most` go together"),
        ({"privacy__batch_most": 100}, "`patients_most` and `batch_most` go together"),
        (
            {"privacy__patients_most": 100, "privacy__batch_most": 55},
            r"batch_most 55 is too near 0\.5 x patients_most 100",
        ),
        ({"privacy__clipping": "none"}, "'flat', 'per-layer' or 'adaptive'"),
        ({"privacy__clipping": "adaptive"}, "belong to clipping = adaptive"),
        ({"privacy__adaptive_quantile": 0.5}, "belong to clipping = adaptive"),
        (ADAPTIVE | {"privacy__adaptive_count_noise": None}, "belong to clipping = adaptive"),
        (ADAPTIVE | {"privacy__mechanism": "none"}, "adaptive with mechanism none"),
        (ADAPTIVE | DISTRIBUTED, "adaptive with mechanism distributed"),
        (
            DISTRIBUTED | {"training__local_steps": 2},
            r"training\.local_steps 2 came, mechanism distributed takes 1",
        ),
        (DISTRIBUTED | {"training__momentum": 0.9}, r"training\.momentum and .* are 0"),
        (DISTRIBUTED | {"training__weight_decay": 0.1}, r"training\.momentum and .* are 0"),
        (
            DISTRIBUTED | {"privacy__colluders": 2},
            r"privacy\.colluders 2 of masking\.minimum_hospitals 2: at least one",
        ),
        ({"privacy__colluders": -1}, "greater than or equal to 0"),
        ({"training__momentum": 1.0}, "less than 1"),
        ({"training__local_steps": 0}, "greater than or equal to 1"),
        ({"training__server": {"name": "adam"}}, "fedavg"),
        ({"rounds__quorum": 1}, "greater than or equal to 2"),
        ({"masking__minimum_hospitals": 3}, "such a sum would never be opened"),
        ({"evaluation__counts": "noised"}, "`epsilon` belongs to counts = noised"),
        ({"evaluation__epsilon": 1.0}, "`epsilon` belongs to counts = noised"),
        ({"evaluation__threshold": 0.55}, "must lie on the edge of a bin"),
        (
            {"evaluation__counts": "noised", "evaluation__epsilon": 1.0, "evaluation__bins": 100},
            "at most 64 bins",
        ),
        (
            {
                "privacy__mechanism": "none",
                "privacy__delta": None,
                "evaluation__counts": "noised",
                "evaluation__epsilon": 1.0,
            },
            r"noised evaluation counts need `privacy\.delta`",
        ),
        ({"evaluation__registered": "soon"}, "date"),
        ({"schema": "wardround.study/2"}, "wardround.study/1"),
        ({"name": "Fever!"}, "pattern"),
        ({"contract__columns": []}, "at least 1 item"),
        ({"contract__columns": [COLUMN, COLUMN]}, "named twice: x"),
        ({"contract__patient_key": "age"}, "named twice: age"),
        ({"contract__columns": [COLUMN | {"range": None}]}, "`range` = "),
        ({"contract__columns": [COLUMN | {"range": [1, 1]}]}, "low < high"),
        ({"contract__columns": [COLUMN | {"kind": "binary"}]}, "`range` belongs to"),
        ({"contract__columns": [COLUMN | {"categories": ["a", "b"]}]}, "`categories` belong to"),
        ({"contract__columns": [COLUMN | {"shape": [1, 2, 3]}]}, "`shape` belongs to image"),
        (
            {"contract__columns": [{"name": "x", "kind": "categorical", "description": "x"}]},
            "at least two different",
        ),
        ({"contract__columns": [IMAGE]}, "family image needs an image column"),
        ({"contract__columns": [IMAGE, COLUMN]}, "an image column stands alone"),
        ({"contract__columns": [IMAGE | {"may_be_missing": True}]}, "may not be missing"),
    ],
)
def test_each_rule_of_a_study_refuses_what_breaks_it(changes, says):
    with pytest.raises(BadInput, match=says):
        plan(**changes)


def test_noise_in_the_sum_and_the_ways_to_clip_are_a_studys_to_choose():
    shared = plan(**DISTRIBUTED, privacy__clipping="per-layer", training__local_steps=1).privacy
    assert (shared.colluders, shared.clipping, shared.truncation) == (1, "per-layer", 0.0)
    assert plan(**ADAPTIVE).privacy.adaptive_quantile == 0.5


def test_a_physical_maximum_is_charged_with_the_chance_that_it_cuts():
    sizes = {"privacy__patients_most": 1000, "privacy__sampling_rate": 0.05}
    cut = plan(**sizes, privacy__batch_most=110)
    exact = binom.sf(110, 1000, 0.05)
    assert exact < cut.privacy.truncation < 20 * exact
    assert cut.release_of_one_attempt().truncation == cut.privacy.truncation
    assert cut.noise_multiplier() >= plan(privacy__sampling_rate=0.05).noise_multiplier()
    whole = plan(**sizes, privacy__batch_most=1000)
    assert whole.privacy.truncation == whole.release_of_one_attempt().truncation == 0.0


def test_cut_batches_leave_less_of_delta_to_the_noise():
    sizes = {"privacy__patients_most": 1000, "privacy__sampling_rate": 0.05}
    cut = plan(**sizes, privacy__batch_most=90)
    assert cut.delta_of_noise is not None
    assert 0 < cut.delta_of_noise < 0.999 * cut.privacy.delta
    spent = [cut.release_of_one_attempt()] * cut.attempts
    assert epsilon_spent(spent, delta=1e-4) == pytest.approx(3.0, abs=2e-3)
    with pytest.raises(BadInput, match=r"privacy\.delta 0\.0001 is less than the batches"):
        plan(**sizes, privacy__batch_most=83)


def test_a_roster_over_which_the_noise_does_not_fit_is_refused_before_it_is_signed():
    crowded = plan(**DISTRIBUTED, training__expected_batch=1e6)
    entries = [f"a={'1' * 64}", f"b={'2' * 64}"]
    with pytest.raises(BadInput, match="noise share: its deviation is"):
        with_roster(crowded, entries)
    assert with_roster(plan(**DISTRIBUTED), entries).privacy.mechanism == "distributed"


@pytest.mark.parametrize(
    ("roster", "says"),
    [
        ([ROSTER[0], ROSTER[0] | {"fingerprint": "3" * 64}], "listed twice"),
        ([ROSTER[0], ROSTER[0] | {"name": "c"}], "listed twice"),
        ([ROSTER[0]], "at least 2 items"),
        ([ROSTER[0], ROSTER[1] | {"fingerprint": "2" * 63}], "pattern"),
        ([ROSTER[0], ROSTER[1] | {"name": "coordinator"}], "no hospital may be named coordinator"),
    ],
)
def test_a_roster_that_is_none_is_refused(roster, says):
    with pytest.raises(BadInput, match=says):
        study(roster=roster)


def test_a_roster_below_the_quorum_is_refused():
    with pytest.raises(BadInput, match="roster: 2 hospitals, the quorum is 3"):
        study(rounds__quorum=3)


def test_a_roster_is_what_hospitals_told_by_telephone():
    roster = with_roster(plan(), [f"a={'1' * 64}", f"b={'2' * 64}"])
    assert roster == study()
    with pytest.raises(BadInput, match="NAME=FINGERPRINT is due"):
        with_roster(plan(), ["a"])
    with pytest.raises(BadInput, match="listed twice"):
        with_roster(plan(), [f"a={'1' * 64}"] * 2)


def test_overrides_are_applied_before_the_study_is_checked(tmp_path):
    read = read_study_plan(
        written(tmp_path),
        ["privacy.epsilon=1", "title=Two words", "masking.minimum_hospitals = 2", "task.hidden=[]"],
    )
    assert (read.privacy.epsilon, read.title, read.task.hidden) == (1.0, "Two words", ())
    with pytest.raises(BadInput, match=r"`privacy\.epsilon`"):
        read_study_plan(written(tmp_path), ["privacy.epsilon=99"])
    with pytest.raises(BadInput, match=r"unknown key `privacy\.epsilom`"):
        read_study_plan(written(tmp_path), ["privacy.epsilom=1"])


@pytest.mark.parametrize("override", ["privacy.epsilon", "=1", "privacy.=1", "title.x=1", ""])
def test_an_override_that_is_none_is_refused(override):
    with pytest.raises(BadInput, match="--set"):
        apply_override(study_json(), override)


def test_an_override_makes_a_table_that_is_not_there():
    value = {}
    apply_override(value, "training.server.name=fedadam")
    assert value == {"training": {"server": {"name": "fedadam"}}}


@pytest.mark.parametrize(
    "hostile",
    [
        "a = " + "[" * 50_000 + "]" * 50_000,
        "a = " + "{a = " * 20_000 + "1" + "}" * 20_000,
        "a = " + "9" * 10_000,
    ],
    ids=["deep array", "deep table", "long integer"],
)
def test_a_toml_file_that_would_break_its_parser_is_bad_input_and_not_a_bug(tmp_path, hostile):
    file = tmp_path / "study.toml"
    file.write_text(hostile)
    with pytest.raises(BadInput, match=r"study.toml: not TOML"):
        read_toml(file)
    value = {}
    apply_override(value, hostile.replace(" = ", "=", 1))
    assert value == {"a": hostile.removeprefix("a = ")}


def test_a_toml_file_is_limited_named_and_read_strictly(tmp_path):
    path = tmp_path / "study.toml"
    said = r"study\.toml: cannot be read \(no such file or directory\)"
    with pytest.raises(BadInput, match=said):
        read_toml(path)
    path.write_bytes(b"\xff")
    with pytest.raises(BadInput, match="not UTF-8 text"):
        read_toml(path)
    path.write_text("a = 1\nb = ?")
    with pytest.raises(BadInput, match=r"not TOML: .*line 2"):
        read_toml(path)
    path.write_bytes(b"#" * (TOML_LIMIT_BYTES + 1))
    with pytest.raises(BadInput, match=f"over {TOML_LIMIT_BYTES} bytes"):
        read_toml(path)


def test_a_signed_study_reads_back_and_its_digest_is_the_one_signed():
    signer = Identity.generate()
    read = read_signed_study(sign_study(study(), signer), signer=signer.public_key)
    assert read == study()
    assert read.digest == study().digest


def test_a_study_signed_by_another_key_is_refused():
    signed = sign_study(study(), Identity.generate())
    with pytest.raises(BadInput, match="another key than the coordinator's pinned one"):
        read_signed_study(signed, signer=Identity.generate().public_key)


def spoilt(signer, **changes):
    value = json.loads(sign_study(study(), signer))
    return canonical_bytes(value | changes)


def test_changed_bytes_or_a_signature_for_another_purpose_are_refused():
    signer = Identity.generate()
    manifest = study().to_json()
    longer = manifest | {"title": manifest["title"] + "!"}
    other_purpose = signer.sign(b"run-key", study().canonical()).hex()
    for changes in ({"study": longer}, {"signature": "0" * 128}, {"signature": other_purpose}):
        with pytest.raises(BadSignature):
            read_signed_study(spoilt(signer, **changes), signer=signer.public_key)
    for changes in ({"signature": "zz"}, {"signature": 1}, {"study": 1}, {"extra": 1}, {"key": 1}):
        with pytest.raises(BadInput):
            read_signed_study(spoilt(signer, **changes), signer=signer.public_key)
    with pytest.raises(BadInput, match="not canonical"):
        read_signed_study(sign_study(study(), signer) + b"\n", signer=signer.public_key)


@pytest.mark.parametrize(
    "changed",
    [
        lambda m: m["rounds"].update(count=True) or m,
        lambda m: m["privacy"].update(epsilon="3.0") or m,
        lambda m: (m["training"].pop("momentum") and m) or m,
    ],
    ids=["true for 1", "text for a number", "a default left out"],
)
def test_a_manifest_that_would_be_written_differently_is_refused_though_it_is_signed(changed):
    """Two spellings of one study would have one digest."""
    signer = Identity.generate()
    manifest = changed(study(rounds__count=1).to_json())
    signature = signer.sign_lasting(STUDY_PURPOSE, canonical_bytes(manifest)).hex()
    with pytest.raises(BadInput, match="not what this version would write"):
        read_signed_study(
            spoilt(signer, study=manifest, signature=signature), signer=signer.public_key
        )


def test_the_digest_changes_with_one_character_and_with_every_field():
    digests = {study().digest, study(contact="research@example.orh").digest}
    digests |= {study(rounds__count=3).digest, study(privacy__delta=2e-4).digest}
    assert len(digests) == 4


def test_the_json_schema_has_every_field_of_every_table():
    schema = StudyPlan.model_json_schema(by_alias=True)
    tables = {"StudyPlan": schema} | schema["$defs"]
    models, seen = [StudyPlan], set()
    while models:
        model = models.pop()
        seen.add(model.__name__)
        due = {field.alias or name for name, field in model.model_fields.items()}
        assert set(tables[model.__name__]["properties"]) == due
        assert tables[model.__name__]["additionalProperties"] is False
        models += [m for m in _models(model) if m.__name__ not in seen]
    assert {"Column", "Label", "ServerOptimiser", "Evaluation"} <= seen


def _models(model):
    import typing

    for field in model.model_fields.values():
        parts = [field.annotation, *typing.get_args(field.annotation)]
        yield from (p for p in parts if isinstance(p, type) and issubclass(p, BaseModel))


def test_the_noise_multiplier_is_a_function_of_the_study_and_0_without_noise():
    assert study().noise_multiplier() == study().noise_multiplier() == 1.3999
    assert study(privacy__mechanism="none").noise_multiplier() == 0.0
    assert study(privacy__mechanism="none").attempts == 3
    assert study().attempts == 3


def test_every_example_study_is_valid_and_has_a_digest():
    studies = Path(__file__).parents[2].glob("**/studies/*/study.toml")
    found = [read_study_plan(path) for path in studies if ".venv" not in path.parts]
    assert found
    for example in found:
        canonical_bytes(example.to_json())
