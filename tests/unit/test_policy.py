"""A hospital's policy: strictly read, and every reason for a no is told."""

import pytest
from tests.support.hospitals import study_json

from wardround.errors import BadInput, RefusedByPolicy
from wardround.study.files import checked
from wardround.study.manifest import StudyPlan
from wardround_client.policy import DEFAULT_POLICY, check_study, read_policy


def policy(tmp_path, text=DEFAULT_POLICY):
    path = tmp_path / "policy.toml"
    path.write_text(text)
    return read_policy(path)


def plan(**changes):
    safe = {"masking__minimum_hospitals": 3, "rounds__quorum": 3}
    return checked(StudyPlan, study_json(**safe | changes), what="study")


def test_the_default_policy_is_cautious_and_allows_a_study_with_noise(tmp_path):
    default = policy(tmp_path)
    assert (default.epsilon_budget, default.minimum_hospitals) == (10.0, 3)
    assert not default.allow_record_unit
    check_study(default, plan())
    check_study(default, plan(privacy__mechanism="distributed"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"privacy__mechanism": "none"}, r"privacy\.mechanism none: the policy allows local"),
        ({"privacy__delta": 2e-4}, r"privacy\.delta 0\.0002: the policy allows 0\.0001"),
        ({"privacy__unit": "record"}, r"privacy\.unit record"),
        (
            {"privacy__mechanism": "distributed", "privacy__colluders": 0},
            r"privacy\.colluders 0: the policy needs noise that holds against 1",
        ),
        ({"masking__minimum_hospitals": 2}, r"minimum_hospitals 2: the policy needs 3"),
    ],
)
def test_what_the_default_policy_does_not_allow_is_named(tmp_path, changes, says):
    with pytest.raises(RefusedByPolicy, match=says):
        check_study(policy(tmp_path), plan(**changes))


def test_only_noise_in_the_sum_is_asked_how_many_may_collude(tmp_path):
    stern = DEFAULT_POLICY.replace("least_colluders = 1", "least_colluders = 2")
    check_study(policy(tmp_path, stern), plan(privacy__colluders=0))
    with pytest.raises(RefusedByPolicy, match=r"privacy\.colluders 1: .* against 2"):
        check_study(policy(tmp_path, stern), plan(privacy__mechanism="distributed"))
    held = plan(privacy__mechanism="distributed", privacy__colluders=2)
    check_study(policy(tmp_path, stern), held)


def test_a_policy_may_leave_noise_in_the_sum_out(tmp_path):
    local_only = DEFAULT_POLICY.replace('["local", "distributed"]', '["local"]')
    with pytest.raises(RefusedByPolicy, match="mechanism distributed: the policy allows local"):
        check_study(policy(tmp_path, local_only), plan(privacy__mechanism="distributed"))


def test_a_policy_that_wants_noised_counts_refuses_exact_ones(tmp_path):
    strict = DEFAULT_POLICY.replace("allow_exact_evaluation = true", "")
    with pytest.raises(RefusedByPolicy, match=r"evaluation\.counts exact"):
        check_study(policy(tmp_path, strict), plan())
    check_study(
        policy(tmp_path, strict), plan(evaluation__counts="noised", evaluation__epsilon=1.0)
    )


def test_all_reasons_are_told_together(tmp_path):
    bold = plan(privacy__delta=5e-3, privacy__unit="record", masking__minimum_hospitals=2)
    with pytest.raises(RefusedByPolicy) as caught:
        check_study(policy(tmp_path), bold)
    assert str(caught.value).count(";") == 2


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("epsilon_budgt = 1", "unknown key `epsilon_budgt`; the nearest known one is"),
        ("epsilon_budget = 0", "greater than 0"),
        ("epsilon_budget = nan", "finite|greater"),
        ('mechanisms = ["central"]', "Input should be 'local', 'distributed' or 'none'"),
        ("minimum_hospitals = 1", "greater than or equal to 2"),
        ("", "key `epsilon_budget` is missing"),
    ],
)
def test_a_policy_that_is_none_is_refused(tmp_path, line, says):
    name = line.partition(" =")[0] or "epsilon_budget"
    kept = [row for row in DEFAULT_POLICY.splitlines() if not row.startswith(f"{name} =")]
    with pytest.raises(BadInput, match=rf"policy\.toml: .*({says})"):
        policy(tmp_path, "\n".join([*kept, line]))


def test_the_digest_changes_with_every_line_of_the_policy(tmp_path):
    changed = [
        DEFAULT_POLICY,
        DEFAULT_POLICY.replace("10.0", "9.0"),
        DEFAULT_POLICY.replace('"distributed"]', '"none"]'),
        DEFAULT_POLICY.replace("least_colluders = 1", "least_colluders = 2"),
        DEFAULT_POLICY.replace("allow_record_unit = false", "allow_record_unit = true"),
        DEFAULT_POLICY.replace('datasheet = "nothing"', 'datasheet = "verdict"'),
        DEFAULT_POLICY.replace('datasheet = "nothing"', 'datasheet = "counts"'),
    ]
    assert len({policy(tmp_path, text).digest() for text in changed}) == 7
    assert policy(tmp_path).digest() == policy(tmp_path, DEFAULT_POLICY + "\n# note").digest()
    before = DEFAULT_POLICY.replace('datasheet = "nothing"', "")
    assert policy(tmp_path, before).digest() == policy(tmp_path).digest()
