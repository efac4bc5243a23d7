"""The attack tests of a GAN ask the part that saw patients: a leak shows, and noise limits it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.support.attacked_study import attacked_study, of_two_groups, seeded
from tests.support.hospitals import Ward
from tests.support.memory_runs import Federation

from wardround.models import gan
from wardround.models.networks import build, load_parameters, parameters_of
from wardround.privacy.verdict import Verdict
from wardround.study.manifest import Study
from wardround_client.attacks.at_hospital import attack
from wardround_client.attacks.outcome import AttackOutcome
from wardround_client.attacks.released import ReleasedModel
from wardround_client.attacks.shadows import trained_alone

GAN: dict[str, Any] = {
    "task__family": "gan",
    "task__model": "dense-gan",
    "task__hidden": [32],
    "task__synthesis": {"hidden": [8], "latent": 4, "steps": 1, "batch": 16, "risk_records": 64},
}
REMEMBERING = GAN | {
    "privacy__mechanism": "none",
    "privacy__epsilon": None,
    "privacy__delta": None,
    "privacy__clip_norm_l2": 1000.0,
    "privacy__sampling_rate": 0.99,
    "training__local_steps": 10,
    "training__expected_batch": 60.0,
    "training__learning_rate": 0.5,
    "training__momentum": 0.9,
}


def attacked(study: Study) -> AttackOutcome:
    """The attack on what all rounds make of 60 patients; 60 more took no part."""
    records, whole = of_two_groups(60, 60), build(study)
    network = gan.adversaries(whole)
    module = trained_alone(study, records.train, seeded(5))
    load_parameters(network.discriminator, parameters_of(module))
    model = ReleasedModel(network=network, scales=(), run="3" * 32, sha256="4" * 64)
    return attack(
        study, "lakeside", records, model, shadow_models=2, trials=4, randomness=seeded(6)
    )


def test_a_discriminator_without_noise_gives_its_patients_away():
    outcome = attacked(attacked_study(**REMEMBERING))
    found = {test.attack: test for test in outcome.membership}
    loss = found["loss threshold"]
    assert loss.auroc is not None
    assert loss.auroc > 0.8
    assert loss.verdict is Verdict.VIOLATION
    assert set(found) == {"loss threshold", "likelihood ratio", "reconstruction"}
    assert {reading.stage for reading in outcome.reconstruction} == {"raw", "masked"}


def test_with_noise_no_attack_finds_more_than_is_claimed():
    outcome = attacked(attacked_study(**GAN))
    for test in outcome.membership:
        assert test.auroc_interval is not None
        assert test.auroc_interval[0] < outcome.claim.auroc_most < 0.75
        assert test.verdict is not Verdict.VIOLATION
    noised = next(reading for reading in outcome.reconstruction if reading.stage == "noised")
    assert noised.verdict is not Verdict.VIOLATION


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    ward = Ward.make(tmp_path)
    ward["harbour"].set_policy(attack_test="true")
    yield ward
    ward.close()


def test_a_hospital_that_asks_for_it_attacks_the_gan_it_trained(ward: Ward):
    federation = Federation(ward, **GAN, rounds__deadline_s=60.0)
    model, session = federation.run().train_and_evaluate()
    federation.close(model, session)
    log = ward["harbour"].log_entries(federation.study)
    (body,) = [body for kind, body in log if kind == "attack-tested"]
    assert "skipped" not in body
    assert "membership: loss threshold" in body["verdicts"]
    assert torch.from_numpy(model).isfinite().all()
