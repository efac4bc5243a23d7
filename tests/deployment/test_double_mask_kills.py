"""Ten hospitals on loopback, two of them killed with kill -9 at random points and started again.

Whatever happens to them, the run ends with a bundle that verifies, and every sum that was opened
is the plain integer sum over the survivors that its log names (`tests.support.recomputed_sums`).
"""

import time
from collections.abc import Iterator

import numpy as np
import pytest
from tests.support.held_rounds import RUN_TIMEOUT_S, until_round
from tests.support.recomputed_sums import PLAIN, Checked, check_opened_sums
from tests.support.small_federation import Federation, read_json, standing_federation, until

from wardround.audit.verify import verify_bundle

pytestmark = pytest.mark.federation

NAMES = tuple(f"hospital-{letter}" for letter in "abcdefghij")
ROUNDS = 12
MOST_PAUSE_S = 2.0
MOST_DELAY_S = 0.4


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    folder = tmp_path_factory.mktemp("kills")
    with standing_federation(folder, NAMES) as federation:
        for name in NAMES:
            federation.set_policy(name, mechanisms=["local", "none"])
        yield federation


def run_with_kills(ward: Federation, seed: int) -> Checked:
    """One study, and two hospitals killed at points that `seed` draws; all is checked."""
    draw = np.random.default_rng(seed)
    study = ward.sign(f"kills-{seed}", f"rounds.count={ROUNDS}", "rounds.spare_attempts=9", *PLAIN)
    ward.approve(study)
    ward.submit(study)
    victims = draw.choice(NAMES, 2, replace=False).tolist()
    # From before the first round (-1) to the evaluation and what follows it.
    points = sorted(draw.integers(-1, ROUNDS, size=2, endpoint=True).tolist())
    told = []
    for victim, point in zip(victims, points, strict=True):
        delay_s, pause_s = draw.uniform(0, MOST_DELAY_S), draw.uniform(0, MOST_PAUSE_S)
        until_round(ward, study, point)
        time.sleep(delay_s)
        ward.kill(victim_of(victim))
        time.sleep(pause_s)
        ward.start_hospital(victim)
        told.append(f"{victim} in round {point}, {delay_s:.2f} s in, back after {pause_s:.1f} s")
    path = ward.run_folder(study) / "result.json"
    until(f"end of seed {seed}: {ward.processes.logs}", path.exists, RUN_TIMEOUT_S)
    result = read_json(path)
    assert result["exit_code"] in {0, 8}, (seed, told, result)
    verdicts = verify_bundle(ward.run_folder(study) / "bundle.zip")
    assert verdicts.ok, (seed, told, list(verdicts.lines()))
    found = check_opened_sums(ward, study)
    assert found.sums == ROUNDS + 1, (seed, told)
    print(f"seed {seed}: {'; '.join(told)}; {result['exit_code']}; {found}")
    return found


def victim_of(hospital: str) -> str:
    """The name of a hospital's process."""
    return f"hospital-{hospital}"


@pytest.mark.slow
def test_two_of_ten_hospitals_are_killed_and_every_opened_sum_is_right(ward: Federation) -> None:
    run_with_kills(ward, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_twenty_runs_with_two_of_ten_hospitals_killed_open_right_sums_alone(
    ward: Federation,
) -> None:
    found = Checked()
    for seed in range(100, 120):
        found += run_with_kills(ward, seed)
    assert found.sums == 20 * (ROUNDS + 1)
    # The kills were felt: somebody was not in a sum, and somebody vanished while it was opened.
    assert found.dropped
    print(f"in all {found.sums} sums, {len(found.dropped)} dropped, vanished: {found.vanished}")
