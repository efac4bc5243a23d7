"""Readers of files that people write or send: studies, policies, descriptions of a dataset."""

import functools
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fuzz.target import Target
from tests.fuzz.targets_masking import parsed
from tests.fuzz.targets_messages import identity
from tests.support.ward_files import DATASET_TOML, POLICY_TOML

from wardround.canonical import canonical_bytes
from wardround.statistics.layout import StatisticsLayout
from wardround.statistics.plan import StatisticsPlan
from wardround.statistics.released import ReleasedStatistics
from wardround.study.files import (
    checked,
    read_signed_study,
    read_study_plan,
    read_toml,
    sign_study,
)
from wardround.study.manifest import Study, StudyPlan
from wardround_client.data.description import DatasetDescription, read_description
from wardround_client.policy import Policy, read_policy

ROOT = Path(__file__).parents[2]
STUDY_TOML = ROOT / "deploy/studies/heart_disease/study.toml"


def on_disk(read: Callable[[Path], Any]) -> Callable[[bytes], None]:
    """A reader of files as a reader of bytes."""
    handle, name = tempfile.mkstemp(suffix=".toml")
    os.close(handle)

    def reader(data: bytes) -> None:
        Path(name).write_bytes(data)
        read(Path(name))

    return reader


@functools.cache
def plan() -> StudyPlan:
    return read_study_plan(STUDY_TOML)


@functools.cache
def study() -> Study:
    roster = [{"name": name, "fingerprint": 32 * f"{n:02x}"} for n, name in enumerate("abcd")]
    return checked(Study, {**plan().to_json(), "roster": roster}, what="study")


@functools.cache
def layout() -> StatisticsLayout:
    return StatisticsLayout.of(plan().contract, StatisticsPlan(epsilon=0.5, bins=4))


def policy_text() -> bytes:
    return POLICY_TOML.format(budget="3.0").encode()


def description_text() -> bytes:
    return DATASET_TOML.format(name="north").encode()


def json_of(text: bytes) -> bytes:
    """What a TOML file says, as JSON: a mutator of structure can get at it."""
    handle, name = tempfile.mkstemp(suffix=".toml")
    os.close(handle)
    Path(name).write_bytes(text)
    value = read_toml(Path(name))
    Path(name).unlink()
    return canonical_bytes(value)


TARGETS = (
    Target(
        name="study-toml",
        read=on_disk(read_study_plan),
        seeds=lambda: [STUDY_TOML.read_bytes()],
        json=False,
    ),
    Target(
        name="study-plan",
        read=lambda data: checked(StudyPlan, parsed(data), what="study.toml"),
        seeds=lambda: [canonical_bytes(plan().to_json())],
    ),
    Target(
        name="signed-study",
        read=lambda data: read_signed_study(data, signer=identity().public_key),
        seeds=lambda: [sign_study(study(), identity())],
    ),
    Target(
        name="policy-toml", read=on_disk(read_policy), seeds=lambda: [policy_text()], json=False
    ),
    Target(
        name="policy",
        read=lambda data: checked(Policy, parsed(data), what="policy.toml"),
        seeds=lambda: [json_of(policy_text())],
    ),
    Target(
        name="description-toml",
        read=on_disk(read_description),
        seeds=lambda: [description_text()],
        json=False,
    ),
    Target(
        name="description",
        read=lambda data: checked(DatasetDescription, parsed(data), what="north.toml"),
        seeds=lambda: [json_of(description_text())],
    ),
    Target(
        name="released-statistics",
        read=lambda data: ReleasedStatistics.from_json(parsed(data), layout()),
        seeds=lambda: [canonical_bytes({"hospitals": 3, "asked": 4, "sums": [0] * layout().lanes})],
    ),
)
