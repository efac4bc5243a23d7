"""An autoencoder's codes and imputations: on real rows whose known values are hidden."""

import csv
import io
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.support.quality_wards import DATA, STUDIES
from tests.support.study_plans import NONE, study_plan

from wardround.errors import BadInput
from wardround.models.autoencoder import encoder
from wardround.models.family import family_of
from wardround.models.losses import reconstruction_loss
from wardround.statistics.scaling import Standardisation
from wardround.study.files import read_study_plan
from wardround_client.data.description import read_description
from wardround_client.data.encoding import EncodedRecords, encode
from wardround_client.data.reading import read_records
from wardround_client.data.split import split
from wardround_client.prediction.reconstruction import (
    RECONSTRUCTED,
    UNKNOWN,
    WITHHELD,
    completed,
    expectations,
    imputation,
    imputed,
    missing_in,
    representation,
    values_of,
)
from wardround_client.records import tensors_of

HEART = DATA / "heart_disease_uci"
as_patients = partial(tensors_of, by_record=False)
COLUMNS = [
    {
        "name": "dose",
        "kind": "continuous",
        "description": "d",
        "unit": "mg",
        "range": [0, 10],
        "may_be_missing": True,
    },
    {"name": "male", "kind": "binary", "description": "m"},
    {
        "name": "pain",
        "kind": "categorical",
        "description": "p",
        "categories": ["a", "b", "c"],
        "may_be_missing": True,
    },
]


def support_of(study, network, held_out, scales=()):
    released = SimpleNamespace(network=network, scales=scales)
    return SimpleNamespace(
        standing=SimpleNamespace(study=study, released=released),
        held_out=held_out,
        scaled=as_patients,
    )


def descend(network, learned, steps=600):
    """Plain descent with momentum over all records; torch.optim takes seconds to be imported."""
    parameters = list(network.parameters())
    speed = [torch.zeros_like(each) for each in parameters]
    for _ in range(steps):
        loss = reconstruction_loss(network(learned), learned).mean()
        slopes = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for each, fast, slope in zip(parameters, speed, slopes, strict=True):
                each.sub_(fast.mul_(0.9).add_(slope), alpha=0.3)


@pytest.fixture(scope="module")
def heart():
    """An autoencoder of two hospitals' training patients, and the held-out ones of Hungary."""
    plan = read_study_plan(STUDIES / "heart_disease" / "study.toml")
    columns = [column.model_dump(mode="json") for column in plan.contract.columns]
    study = study_plan(
        "autoencoder", "dense-autoencoder", hidden=(24, 8), label=NONE, columns=columns
    )
    sides = [
        split(
            encode(
                read_records(
                    read_description(STUDIES / "heart_disease" / "hospitals" / f"{name}.toml"),
                    plan.contract,
                    HEART,
                ),
                plan.contract,
            ),
            dataset=name,
            fraction=0.3,
        )
        for name in ("cleveland", "hungarian")
    ]
    torch.manual_seed(5)
    network = family_of(study).network(study)
    learned = torch.cat([as_patients(train).features for train, _ in sides])
    descend(network, learned)
    return support_of(study, network, as_patients(sides[1][1])), sides[1][1]


needs_data = pytest.mark.skipif(not HEART.is_dir(), reason="skipped: ../shared/data not present")


@needs_data
def test_hidden_values_of_real_patients_are_nearer_than_the_middle_of_their_range(heart):
    support, _ = heart
    found = {one.column.name: one for one in expectations(support)}
    shares = []
    for name, one in found.items():
        if one.column.range is not None and one.error is not None:
            assert one.error < one.of_middle, name
            shares.append(one.error / one.of_middle)
    assert len(shares) >= 4
    assert np.mean(shares) < 0.8


@needs_data
def test_what_is_written_of_real_patients_is_labelled_and_of_missing_values_alone(heart):
    support, held_out = heart
    features = torch.from_numpy(held_out.features).clone()
    rows = list(csv.DictReader(io.StringIO(imputation(support, held_out))))
    contract = support.standing.study.contract
    lacking = int(missing_in(features, contract).any(dim=1).sum())
    assert lacking > 0
    assert len({(row["patient"], row["record"]) for row in rows}) == lacking
    assert {row["what"] for row in rows} <= {RECONSTRUCTED, WITHHELD, UNKNOWN}
    assert all(bool(row["value"]) == (row["what"] == RECONSTRUCTED) for row in rows)
    assert any(row["value"] for row in rows)
    codes = list(csv.DictReader(io.StringIO(representation(support, held_out))))
    assert [row["patient"] for row in codes] == list(held_out.patients)
    assert list(codes[0])[2:] == [f"code_{at}" for at in range(1, 9)]
    assert {row["what"] for row in codes} == {"code of an autoencoder, no measurement"}


def small():
    return study_plan("autoencoder", "dense-autoencoder", hidden=(3,), label=NONE, columns=COLUMNS)


class Echo(torch.nn.Module):
    """Says the same of everybody: dose 7.5 of 10, male, pain b; nothing missing."""

    def forward(self, records):
        said = torch.tensor([0.5, -1.0, 1.0, 0.1, 0.9, 0.2, -1.0])
        return said.expand(len(records), 7)


def patients(rows):
    """Features dose, dose is missing, male, pain=a, b, c, pain is missing; a patient each."""
    return EncodedRecords(
        features=np.array(rows, dtype=np.float32),
        labels=np.zeros((len(rows), 0), dtype=np.float32),
        offsets=np.arange(len(rows) + 1),
        patients=tuple(f"p{at}" for at in range(len(rows))),
    )


FULL, LACKING = [0.4, 0, 1, 0, 1, 0, 0], [0, 1, -1, 0, 0, 0, 1]


def test_values_are_in_the_contracts_words_and_what_was_measured_stays():
    support = support_of(small(), Echo(), as_patients(patients([FULL] * 12)))
    dose, pain = imputed(support, patients([FULL, LACKING]))
    assert (dose.patient, dose.record, dose.value, dose.expected.column.unit) == (
        "p1",
        1,
        "7.5",
        "mg",
    )
    assert pain.value == "b"
    assert dose.expected.error == pytest.approx(0.5)
    assert dose.expected.of_middle == pytest.approx(2.0)
    contract = small().contract
    features = torch.tensor([FULL, LACKING], dtype=torch.float32)
    full = completed(Echo(), features, missing_in(features, contract), contract)
    assert full[0].tolist() == features[0].tolist()
    assert full[1, [1, 6]].tolist() == [0.0, 0.0]
    assert full[1, 2] == -1.0  # measured


def test_where_it_is_no_better_than_the_middle_or_nobody_is_known_nothing_is_said():
    middle = [0.0, 0, 1, 1, 0, 0, 0]
    support = support_of(small(), Echo(), as_patients(patients([middle] * 12)))
    dose, pain = imputed(support, patients([LACKING]))
    assert (dose.value, dose.expected.said) == ("", WITHHELD)
    assert pain.value == ""
    support = support_of(small(), Echo(), as_patients(patients([middle] * 10)))
    assert {one.expected.said for one in imputed(support, patients([LACKING]))} == {UNKNOWN}


def test_a_column_that_is_scaled_by_statistics_comes_back_in_its_unit():
    (column, *_) = small().contract.columns
    scale = Standardisation(column="dose", centre=0.2, spread=0.5, released=True)
    values = values_of(torch.tensor([[0.4, 0.0]]), column, scale)
    assert values.tolist() == pytest.approx([7.0])  # 0.2 + 0.5 x 0.4 = 0.4 on [-1, 1]


def test_only_an_autoencoder_of_a_table_imputes():
    other = study_plan("risk", "logistic-regression")
    support = support_of(other, Echo(), None)
    for ask in (imputation, representation):
        with pytest.raises(BadInput, match="an autoencoder's, its family is risk"):
            ask(support, patients([FULL]))


def test_the_code_is_what_the_rest_of_the_network_gives_the_record_back_from():
    study = small()
    network = family_of(study).network(study)
    code = encoder(network, study)(torch.tensor([FULL, LACKING], dtype=torch.float32))
    assert code.shape == (2, 3)
    rest = network[len(encoder(network, study)) :]
    whole = network(torch.tensor([FULL, LACKING], dtype=torch.float32))
    assert torch.equal(rest(code), whole)
    with pytest.raises(BadInput, match="where its code is"):
        encoder(Echo(), study)
