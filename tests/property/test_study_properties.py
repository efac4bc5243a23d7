"""A study for any setting: it reads back to itself, and its JSON has no number that is not one."""

import json
import math

from hypothesis import event, given, settings
from hypothesis import strategies as st
from tests.support.hospitals import study_json

from wardround.canonical import canonical_bytes, parse_canonical
from wardround.errors import BadInput
from wardround.identity import Identity
from wardround.study.files import checked, read_signed_study, sign_study
from wardround.study.manifest import Study

SIGNER = Identity.generate()
ANY = st.floats(allow_nan=True, allow_infinity=True)
NUMBERS = st.floats(0.001, 0.009) | st.integers(1, 40) | st.floats(1e-300, 1e300) | ANY
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ROSTER = [{"name": name, "fingerprint": sign * 64} for name, sign in (("a", "1"), ("b", "2"))]

PLACES = {
    "title": TEXT,
    "privacy__epsilon": NUMBERS,
    "privacy__delta": NUMBERS,
    "privacy__clip_norm_l2": NUMBERS,
    "privacy__sampling_rate": NUMBERS,
    "training__learning_rate": NUMBERS,
    "training__update_bound": NUMBERS,
    "training__server": st.fixed_dictionaries({}, optional={"beta_1": NUMBERS, "tau": NUMBERS}),
    "rounds__count": NUMBERS,
    "rounds__deadline_s": NUMBERS,
    "evaluation__threshold": NUMBERS,
    "contract__columns": st.tuples(NUMBERS, NUMBERS).map(
        lambda pair: [
            {"name": "x", "kind": "continuous", "description": "x", "range": sorted(pair)}
        ]
    ),
}
CHANGES = st.lists(st.sampled_from(sorted(PLACES)), max_size=3, unique=True).flatmap(
    lambda places: st.fixed_dictionaries({place: PLACES[place] for place in places})
)


def study_or_none(changes):
    try:
        return checked(Study, study_json(roster=ROSTER, **changes), what="study")
    except BadInput:
        return None


@settings(max_examples=150)
@given(CHANGES)
def test_what_is_accepted_is_signed_read_back_and_free_of_nan(changes):
    study = study_or_none(changes)
    event(f"accepted: {study is not None}")
    if study is None:
        return
    text = study.canonical()
    assert parse_canonical(text, what="study", limit_bytes=1 << 20) == study.to_json()
    assert checked(Study, study.to_json(), what="study") == study
    assert read_signed_study(sign_study(study, SIGNER), signer=SIGNER.public_key) == study
    assert all(math.isfinite(number) for number in numbers(json.loads(text)))


@settings(max_examples=60)
@given(st.floats(1e-3, 50), st.floats(1e-3, 50))
def test_two_studies_have_one_digest_only_when_they_are_equal(first, second):
    one, two = (study_or_none({"privacy__epsilon": epsilon}) for epsilon in (first, second))
    assert (one.digest == two.digest) == (first == second)
    assert canonical_bytes(one.to_json()) == one.canonical()


def numbers(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for part in value for number in numbers(part)]
    return [value] if isinstance(value, int | float) else []
