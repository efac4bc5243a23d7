"""The draw of groups: even, the same everywhere, nobody alone, and refused when it is another."""

import hashlib
import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from tests.support.hospitals import study_json

from wardround.errors import BadInput, ProtocolViolation
from wardround.masking.partition import partition_of
from wardround.masking.quantise import largest_limit
from wardround.masking.round_spec import Purpose, RoundSpec, threshold_of
from wardround.protocol.specs import (
    asked_in,
    attempt_spec,
    check_spec,
    check_training,
    group_specs,
    training_share,
)
from wardround.study.files import checked
from wardround.study.manifest import Study

TWELVE = tuple(f"h{number:02d}" for number in range(12))
MODEL = np.linspace(-1, 1, 3, dtype=np.float32)


def drawn(names=TWELVE, groups=4, *, directory=0, number=0, attempt=1):
    return partition_of(
        names,
        groups,
        directory_digest=f"{directory:064x}",
        purpose=Purpose.TRAIN,
        round_number=number,
        attempt=attempt,
    )


def study(**changes):
    roster = [{"name": name, "fingerprint": f"{n:064x}"} for n, name in enumerate(TWELVE)]
    value = {
        "robust__groups": 4,
        "robust__rule": "median",
        "rounds__quorum": 12,
        "masking__minimum_hospitals": 3,
    }
    return checked(Study, study_json(roster=roster, **{**value, **changes}), what="study")


def specs(one, asked=TWELVE, **changes):
    common = {
        "run": "ab" * 16,
        "session": "cd" * 16,
        "round_number": 0,
        "attempt": 1,
        "directory_digest": "ef" * 32,
        "model": MODEL,
    }
    return group_specs(attempt_spec(one, cohort=asked, **common | changes), one, asked)


@given(st.integers(3, 40), st.integers(1, 10), st.integers(0, 2**32))
def test_everybody_is_in_one_group_and_sizes_differ_by_one_at_most(hospitals, groups, seed):
    names = tuple(f"h{number:02d}" for number in range(hospitals))
    groups = min(groups, hospitals)
    found = drawn(names, groups, directory=seed)
    assert len(found) == groups
    assert sorted(name for group in found for name in group) == sorted(names)
    assert max(map(len, found)) - min(map(len, found)) <= 1
    assert list(found) == sorted(found)
    assert all(list(group) == sorted(group) for group in found)
    assert drawn(tuple(reversed(names)), groups, directory=seed) == found


def test_every_two_hospitals_meet_equally_often():
    """66 pairs, 2000 draws: each pair is together in 2 of 11. A draw by name alone is rejected."""

    def p_value(draws):
        met = Counter()
        for groups in draws:
            for group in groups:
                met.update((a, b) for a in group for b in group if a < b)
        counts = [met[a, b] for a in TWELVE for b in TWELVE if a < b]
        return stats.chisquare(counts).pvalue

    draws = [drawn(directory=seed) for seed in range(2000)]
    assert p_value(draws) > 0.01
    assert p_value([drawn(directory=seed % 20) for seed in range(2000)]) < 1e-6


@pytest.mark.parametrize("change", [{"directory": 1}, {"number": 1}, {"attempt": 2}])
def test_another_directory_round_or_attempt_is_another_draw(change):
    assert drawn(**change) != drawn()


def test_a_name_that_comes_twice_and_a_group_without_a_hospital_are_refused():
    for names, groups in ((("a", "a", "b"), 2), (("a", "b"), 3)):
        with pytest.raises(ProtocolViolation, match="partition"):
            drawn(names, groups)


def test_the_draw_is_the_one_that_the_protocol_says():
    """The bytes of PROTOCOL 4, worked out here once more and written down."""
    value = {
        "attempt": 1,
        "directory_digest": "0" * 64,
        "groups": 4,
        "names": list(TWELVE),
        "purpose": "train",
        "round": 0,
    }
    text = json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
    seed = hashlib.sha256(b"wardround/1 partition\0" + text).digest()

    def word(k):
        block = b"wardround/1 partition-word\0" + seed + (k // 4).to_bytes(8, "little")
        return int.from_bytes(hashlib.sha256(block).digest()[8 * (k % 4) :][:8], "little")

    names, k = list(TWELVE), 0
    for i in range(11, 0, -1):
        while word(k) >= 2**64 - 2**64 % (i + 1):
            k += 1
        j, k = word(k) % (i + 1), k + 1
        names[i], names[j] = names[j], names[i]
    assert drawn() == tuple(sorted(tuple(sorted(names[m::4])) for m in range(4)))


def test_a_hospital_takes_the_spec_of_its_group_and_no_other_draw():
    one = study()
    found = specs(one)
    assert [len(spec.cohort) for spec in found] == [3, 3, 3, 3]
    for spec in found:
        assert asked_in(spec) == TWELVE
        check_spec(spec, one, MODEL)
        assert spec.threshold == 3
        assert spec.limit == largest_limit(3)
    first, second = found[:2]
    swapped = sorted((*first.cohort[:-1], second.cohort[-1]))
    others = [group for group in first.partition if group not in (first.cohort, second.cohort)]
    rest = sorted({*first.cohort, *second.cohort} - {*swapped})
    chosen = tuple(sorted([tuple(swapped), tuple(rest), *others]))
    with pytest.raises(ProtocolViolation, match="partition is not what the study says"):
        check_spec(replace(first, cohort=tuple(swapped), partition=chosen), one, MODEL)
    alone = replace(first, partition=(first.cohort,))
    with pytest.raises(ProtocolViolation, match="3 hospitals, its groups need 12"):
        check_spec(alone, one, MODEL)
    for change in ({"round": 1}, {"attempt": 2}, {"directory_digest": "0" * 64}):
        with pytest.raises(ProtocolViolation, match="partition is not what the study says"):
            check_spec(replace(first, **change), one, MODEL)


def test_a_hospital_left_out_of_those_asked_changes_the_draw():
    one = study(rounds__quorum=8, masking__minimum_hospitals=2)
    spec = specs(one)[0]
    others = [name for name in TWELVE if name not in spec.cohort]
    for gone in others:
        without = tuple(tuple(n for n in group if n != gone) for group in spec.partition)
        with pytest.raises(ProtocolViolation, match="partition is not what the study says"):
            check_spec(replace(spec, partition=tuple(sorted(without))), one, MODEL)


def test_evaluation_and_statistics_are_summed_over_everybody():
    one = study()
    (spec,) = specs(one, round_number=2)
    assert spec.purpose is Purpose.EVALUATE
    assert spec.partition == (TWELVE,)
    check_spec(spec, one, MODEL)


def test_groups_of_a_strange_size_have_the_threshold_of_their_size():
    one = study(rounds__quorum=9, robust__groups=3, robust__rule="mean")
    sizes = sorted(len(spec.cohort) for spec in specs(one, TWELVE[:11]))
    assert sizes == [3, 4, 4]
    for spec in specs(one, TWELVE[:11]):
        assert isinstance(spec, RoundSpec)
        assert spec.threshold == threshold_of(spec.profile, len(spec.cohort), 3)


def test_noise_in_the_sum_counts_the_honest_of_a_group():
    one = study(privacy__mechanism="distributed", privacy__colluders=1)
    for spec in specs(one):
        share = training_share(one, len(spec.cohort), 3)
        assert share.honest == 3 - 1
        assert spec.scale == share.scale
        check_spec(spec, one, MODEL)
    check_training(one, most_hospitals=12, lanes=3)
    lonely = study(
        privacy__mechanism="distributed", privacy__colluders=2, masking__profile="one-trip"
    )
    assert training_share(lonely, 3, 3).honest == 1


def test_colluders_that_only_fill_a_group_are_too_many():
    """Of 14 in four groups, one of 4 has threshold 3, and 2 x 3 > 4 + 2 does not hold."""
    many = study(
        privacy__mechanism="distributed",
        privacy__colluders=2,
        rounds__quorum=12,
    )
    check_training(many, most_hospitals=12, lanes=3)
    with pytest.raises(BadInput, match="2 colluders of 4 hospitals"):
        check_training(many, most_hospitals=13, lanes=3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rounds__quorum": 11}, "rounds.quorum 11 is below robust.groups 4 x"),
        ({"robust__groups": 2}, "greater than or equal to 3"),
        ({"robust__trim": 1}, "`trim` belongs to rule = trimmed-mean"),
        ({"robust__rule": "trimmed-mean"}, "`trim` belongs to rule = trimmed-mean"),
        ({"robust__rule": "trimmed-mean", "robust__trim": 2}, "of 4 groups leaves none"),
        ({"robust__rule": "krum", "robust__wrong": 1}, "at least 5 groups, 4 came"),
        ({"robust__rule": "average"}, "robust.rule"),
    ],
)
def test_a_study_whose_groups_cannot_work_is_refused(changes, said):
    with pytest.raises(BadInput, match=said):
        study(**changes)


def test_a_study_without_groups_has_the_bytes_that_it_had():
    roster = [{"name": name, "fingerprint": f"{n:064x}"} for n, name in enumerate(TWELVE)]
    plain = checked(Study, study_json(roster=roster), what="study")
    assert "robust" not in plain.to_json()
    assert study().to_json()["robust"] == {"groups": 4, "rule": "median", "far": 1.5}
