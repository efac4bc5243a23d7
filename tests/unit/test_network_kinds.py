"""Layers that mix the patients of a batch: what hospitals log of their network, and the hazard."""

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from tests.support.federation_evidence import Federation, federation
from tests.support.forgeries import only, rewritten, sealed, set_to, without
from tests.support.own_models import file_on_the_page
from tests.support.study_plans import STUDIES, image, study_plan
from torch import nn

from wardround.audit.bundle import evidence_of
from wardround.audit.derive import report_of
from wardround.audit.layer_kinds import ALONG_RECORDS, APART, MIXING, MOST_KINDS, WITH_STATISTICS
from wardround.audit.report_model import Hazard, Origin, Status
from wardround.audit.verify import verify_bytes
from wardround.canonical import Json
from wardround.models.networks import build
from wardround.study.manifest import StudyPlan
from wardround_client.network_kinds import layer_kinds, network_entry


class OwnNorm(nn.BatchNorm1d):
    """Somebody's own, made from PyTorch's."""


class Linear(nn.Module):
    """Not PyTorch's, whatever it is called."""


class Outside(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm2d(2)))


MIXERS = {
    "batch norm": (nn.BatchNorm1d(3), "BatchNorm1d"),
    "batch norm without statistics": (nn.BatchNorm2d(3, track_running_stats=False), "BatchNorm2d"),
    "of volumes": (nn.BatchNorm3d(3), "BatchNorm3d"),
    "over machines": (nn.SyncBatchNorm(3), "SyncBatchNorm"),
    "not yet sized": (nn.LazyBatchNorm1d(), "LazyBatchNorm1d"),
    "made from one": (OwnNorm(3), "BatchNorm1d"),
    "deep inside": (Outside(), "BatchNorm2d"),
    "kept statistics": (nn.InstanceNorm2d(3, track_running_stats=True), WITH_STATISTICS),
}


@pytest.mark.parametrize("name", MIXERS)
def test_a_layer_that_mixes_patients_is_named(name: str):
    layer, kind = MIXERS[name]
    assert kind in set(layer_kinds(layer)) & MIXING


@pytest.mark.parametrize(
    "layer",
    [
        nn.Flatten(0),
        nn.Flatten(-2),
        nn.GRU(2, 2),
        nn.LSTM(2, 2),
        nn.MultiheadAttention(2, 1),
        nn.Softmax(0),
        nn.LogSoftmax(),
    ],
    ids=str,
)
def test_what_may_work_along_the_records_is_not_known_to_leave_them_apart(layer: nn.Module):
    kinds = set(layer_kinds(layer))
    assert type(layer).__name__ + ALONG_RECORDS in kinds
    assert not kinds <= APART


@pytest.mark.parametrize(
    "layer",
    [
        nn.Flatten(),
        nn.GRU(2, 2, batch_first=True),
        nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, batch_first=True), 1),
        nn.Softmax(-1),
        nn.InstanceNorm1d(3),
        nn.Sequential(nn.Linear(2, 2), nn.GroupNorm(1, 2), nn.Dropout(0.1)),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_what_leaves_patients_apart_is_known(layer: nn.Module):
    assert set(layer_kinds(layer)) <= APART


def test_nobodys_class_passes_for_one_of_pytorchs():
    (kind,) = layer_kinds(Linear())
    assert kind.endswith("test_network_kinds.Linear")
    assert kind not in APART


def test_a_name_that_is_none_and_a_network_of_endless_kinds_have_their_place():
    strange = type("Größe", (nn.Module,), {})
    assert layer_kinds(strange()) == ["other"]
    many = [type(f"Own{number}", (nn.Module,), {})() for number in range(100)]
    kinds = layer_kinds(nn.ModuleList([*many, nn.BatchNorm1d(3)]))
    assert len(kinds) == MOST_KINDS
    assert {"BatchNorm1d", "other"} <= set(kinds)


def adversaries(model: str, **more: Any) -> StudyPlan:
    made = {"hidden": [8], "latent": 4, "steps": 2, "batch": 16, "risk_records": 64}
    task = {"family": "gan", "model": model, "hidden": [4], "synthesis": made}
    return study_plan("gan", model, task=task, **more)


OTHERS = {
    "densenet": lambda: study_plan("image", "monai-densenet", columns=image(32), hidden=(2, 2)),
    "gan of a table": lambda: adversaries("dense-gan"),
    "gan of images": lambda: adversaries("convolutional-gan", columns=image(20)),
}


@pytest.mark.parametrize("name", [*STUDIES, *OTHERS])
def test_every_installed_network_has_known_layers_alone(name: str):
    if name == "densenet":
        pytest.importorskip("monai")
    study = {**STUDIES, **OTHERS}[name]()
    assert set(layer_kinds(build(study))) <= APART


def test_the_own_model_of_the_page_is_named_with_its_package_and_unknown():
    source: Json = {"__name__": "ward_net"}
    exec(file_on_the_page("ward-net/ward_net/__init__.py"), source)
    kinds = layer_kinds(source["WardNet"](3, 2, 1))
    assert [kind for kind in kinds if kind not in APART] == ["ward_net.WardNet"]


def test_a_study_of_statistics_alone_has_no_network():
    study = federation(rounds=0, changes={"statistics": {"epsilon": 1.0}}).study
    assert network_entry(study, run="ab" * 16, session="cd" * 16) is None


@cache
def run() -> Federation:
    return federation(rounds=1)


def asked(fed: Federation) -> Hazard:
    found = report_of(evidence_of(fed.parts(without=frozenset(fed.absent.lost)))).hazards
    return next(hazard for hazard in found if hazard.id == "batch-norm")


def logged(layers: list[str]) -> Callable[[Federation], None]:
    return lambda fed: rewritten(fed.hospitals["leiden"], "network-built", set_to(layers=layers))


def nothing_logged(fed: Federation) -> None:
    without(fed.hospitals["leiden"], "network-built")


def of_another_run(fed: Federation) -> None:
    rewritten(fed.hospitals["leiden"], "network-built", set_to(run="9" * 32))


UNSURE: dict[str, tuple[Callable[[Federation], None], Origin, str]] = {
    "unknown": (logged(["Linear", "ward_net.WardNet"]), Origin.LOGGED, ": ward_net.WardNet."),
    "many": (logged([f"own.Net{n}" for n in range(8)]), Origin.LOGGED, "own.Net4 and 3 more."),
    "along the records": (logged(["GRU" + ALONG_RECORDS]), Origin.LOGGED, "GRU.along"),
    "not logged": (nothing_logged, Origin.NOT_AVAILABLE, "1 hospitals' logs do not say"),
    "another run": (of_another_run, Origin.NOT_AVAILABLE, "1 hospitals' logs do not say"),
}


@pytest.mark.parametrize("name", UNSURE)
def test_what_is_unknown_or_not_logged_is_a_remark(name: str):
    change, origin, words = UNSURE[name]
    fed = run().fork()
    change(fed)
    found = asked(fed)
    assert (found.status, found.origin) == (Status.REMARK, origin)
    assert words in found.finding


def test_known_layers_pass_and_the_entries_are_named():
    found = asked(run())
    assert (found.status, found.origin) == (Status.PASS, Origin.LOGGED)
    assert len(found.evidence) == len(run().hospitals)


def test_one_layer_of_one_hospital_is_enough_to_fail():
    fed = run().fork()
    logged(["BatchNorm2d", "Conv2d"])(fed)
    found = asked(fed)
    assert found.status is Status.FAIL
    assert ": BatchNorm2d." in found.finding
    assert [place.log for place in found.evidence] == ["hospitals/leiden"]


def test_a_hospital_whose_log_is_missing_has_not_said_what_it_trained():
    found = asked(federation(rounds=2, lost={"zurich": (1, "deadline")}))
    assert found.status is Status.REMARK


def test_a_study_without_a_network_passes_by_declaration():
    fed = federation(rounds=0, changes={"statistics": {"epsilon": 1.0}})
    assert (asked(fed).status, asked(fed).origin) == (Status.PASS, Origin.DECLARED)


@pytest.mark.parametrize(
    "layers",
    [[], ["Linear", "Linear"], ["b", "a"], ["<b>"], ["x" * 161], [f"k{n:03}" for n in range(65)]],
    ids=["none", "twice", "out of order", "no name", "too long", "too many"],
)
def test_an_entry_in_another_form_fails_as_malformed(layers: list[str]):
    fed = run().fork()
    logged(layers)(fed)
    failure = only(verify_bytes(sealed(fed.parts())), "intact", "body-malformed")
    assert failure.log == "hospitals/leiden"
