"""Every reader of what arrives: its real inputs are accepted, nothing else breaks it.

`make fuzz` and `make test-all` install atheris and fuzz with coverage. The quick tests here need
nothing: they change real inputs by chance.
"""

import importlib.util

import numpy as np
import pytest
from tests.fuzz.mutator import mutated, paths_of
from tests.fuzz.planted import PLANTED
from tests.fuzz.run import fuzzed
from tests.fuzz.table import TARGETS
from tests.fuzz.target import Target, refusal_of
from tests.fuzz.targets_messages import kinds_without_a_seed

from wardround.canonical import canonical_bytes

TOTAL_S = 600
QUICK_INPUTS = 60
EACH = pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
needs_atheris = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None,
    reason="atheris is not installed: NOTHING IS FUZZED; make fuzz",
)


def blindly_changed(data: bytes, rng: np.random.Generator) -> bytes:
    """Some bytes other ones, cut or doubled."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        place = int(rng.integers(len(changed) + 1))
        changed[place : place + int(rng.integers(3))] = rng.bytes(int(rng.integers(4)))
    return bytes(changed[: int(rng.integers(len(changed) + 1))] if rng.random() < 0.2 else changed)


@EACH
def test_the_real_inputs_of_a_target_are_accepted(target: Target) -> None:
    seeds = target.seeds()
    assert seeds
    for seed in seeds:
        assert len(seed) <= target.most_bytes
        assert refusal_of(target, seed) is None
    for seed in target.refused():
        assert refusal_of(target, seed) is not None


@EACH
def test_changed_inputs_are_accepted_or_refused_with_an_error_of_the_project(
    target: Target,
) -> None:
    seeds, refused = [*target.seeds(), *target.refused()], 0
    for number in range(QUICK_INPUTS):
        rng, seed = np.random.default_rng(number), seeds[number % len(seeds)]
        data = mutated(seed, number, target.most_bytes) if target.json else None
        refused += refusal_of(target, data or blindly_changed(seed, rng)) is not None
    assert refused or not target.refuses


# What fuzzing has found, and was mended.
FOUND = (
    ("header", rb'{"\ud800":1}'),
    ("message", b"keyed\n" + rb'{"hospital":"a","\udfff\ud800":0}'),
    ("redacted", b'manifest.json\n{"members":[{"name":1.5,"sha256":"00"}]}'),
    ("redacted", b"manifest.json\n" + b"[" * 100_000),
    ("redacted", b'payload\n{"subject":5}'),
    ("redacted", b'payload\n{"subject":[[]]}'),
)


@pytest.mark.parametrize(("name", "data"), FOUND, ids=[str(n) for n in range(len(FOUND))])
def test_what_was_found_once_is_not_found_again(name: str, data: bytes) -> None:
    refusal_of(TARGETS[name], data)


def test_every_kind_of_message_is_among_the_real_inputs() -> None:
    assert kinds_without_a_seed() == set()


def test_the_mutator_keeps_json_canonical_and_changes_every_part_of_it() -> None:
    value = {"names": ["a", "b"], "n": 3, "deep": {"hex": "00ff"}}
    text = canonical_bytes(value)
    found = {mutated(text, seed, 1 << 20) for seed in range(300)} - {None, text}
    assert len(found) > 150
    assert paths_of(value)[1:4] == [("names",), ("n",), ("deep",)]
    assert (
        mutated(
            b"keyed\n" + text,
            5,
            1 << 20,
        )
        is not None
    )
    assert mutated(b"no json", 5, 1 << 20) is None
    assert mutated(text, 1, 10) is None


@needs_atheris
@pytest.mark.slow
@pytest.mark.parametrize("name", ["planted-error", "planted-memory", "planted-hang"])
def test_fuzzing_finds_a_planted_bug(name: str) -> None:
    finding = fuzzed(PLANTED[name], seconds=60)["finding"]
    assert finding is not None
    said = {"planted-error": "IndexError", "planted-memory": "MemoryError"}.get(name, "timeout")
    assert said in finding["what"]
    assert finding["inputs_hex"]


@needs_atheris
@pytest.mark.slow
@EACH
def test_coverage_guided_fuzzing_finds_nothing(target: Target) -> None:
    result = fuzzed(target, seconds=TOTAL_S // len(TARGETS))
    assert result["finding"] is None, result["finding"]
    assert result["executions"] > 50
