"""What a hospital logs of its engine's audit, without an engine: names as an honest one gives."""

import hashlib
from dataclasses import asdict

import numpy as np

from wardround.canonical import Json
from wardround.privacy.coins import coins, coins_commitment, packed_flags
from wardround.privacy.engine_audit import AuditRule, judge
from wardround.privacy.noise_measured import VALUES_A_STEP, noise_measured
from wardround.study.dry_run import dry_run_rule
from wardround.study.manifest import Study


def engine_audit(study: Study, name: str, *, run: str, session: str) -> list[tuple[str, Json]]:
    """The two entries of a dry run in which 60 % of the names were right."""
    rule = dry_run_rule(study)
    assert rule is not None
    assert study.privacy.delta is not None
    seed = hashlib.sha256(name.encode()).digest()
    named_in, named_out = names(rule, seed, right=round(1.2 * rule.named))
    right = round(1.2 * rule.named)
    where = {"run": run, "session": session}
    outcome = asdict(judge(rule, right, delta=study.privacy.delta))
    return [
        (
            "engine-audit-registered",
            {**where, "rule": asdict(rule), "coins_commitment": coins_commitment(seed)},
        ),
        (
            "engine-audited",
            {
                **where,
                "units": "synthetic",
                "seed": seed.hex(),
                "named_in": packed_flags(named_in).hex(),
                "named_out": packed_flags(named_out).hex(),
                "right": right,
                "delta": study.privacy.delta,
                **outcome,
                "verdict": outcome["verdict"].value,
            },
        ),
    ]


def names(rule: AuditRule, seed: bytes, *, right: int) -> tuple[np.ndarray, np.ndarray]:
    """As many names in as out by the rule, `right` of them right."""
    members = coins(seed, rule.canaries)
    inside, outside = np.flatnonzero(members), np.flatnonzero(~members)
    half = right // 2
    rest = rule.named - half, rule.named - (right - half)
    named_in, named_out = np.zeros((2, rule.canaries), dtype=bool)
    named_in[np.concatenate([inside[:half], outside[: rest[0]]])] = True
    named_out[np.concatenate([outside[-(right - half) :], inside[-rest[1] :]])] = True
    return named_in, named_out


def noise_measurement(run: str, *, steps: int, noise: float = 1.001) -> tuple[str, Json]:
    """The entry of a run of so many steps with this part of the noise."""
    count = VALUES_A_STEP * steps
    total = noise**2 * count
    measured = asdict(noise_measured(count, total))
    body = {
        "run": run,
        **measured,
        "sum_of_squares_over_variance": total,
        "verdict": measured["verdict"].value,
    }
    return "noise-measured", body
