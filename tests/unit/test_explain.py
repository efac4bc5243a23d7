"""Explanations of a kept model: they add up, they look where the network looks, or they say no."""

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from tests.support.decision_support import support_of, ward_with_model
from tests.support.study_plans import GRID, SERIES, STUDIES, study_plan

from wardround.errors import BadInput
from wardround.models.networks import build
from wardround_client.data.description import read_description
from wardround_client.data.places import places
from wardround_client.explanation.bars import Bar, bar_picture
from wardround_client.explanation.explain import explain, write_explanation
from wardround_client.explanation.importance import importance
from wardround_client.explanation.parts import in_words, parts_of_score
from wardround_client.explanation.pictures import picture_maps
from wardround_client.explanation.sanity import HIGH, Sanity, sanity
from wardround_client.explanation.subject import Subject, baseline, channel_of


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    ward, study = ward_with_model(tmp_path_factory.mktemp("ward") / "ward")
    yield ward["lakeside"], study
    ward.close()


def moved_weights(study, seed=2):
    network = build(study)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.4 * torch.randn(parameter.shape, generator=generator))
    return network


def of_patient(kept, patient, **more):
    hospital, _ = kept
    support = support_of(hospital)
    description = read_description(hospital.description)
    return explain(support, description, hospital.data, patient=patient, **more)


def test_the_parts_of_a_linear_model_are_its_weights_times_the_distance(kept, tmp_path):
    found = of_patient(kept, "p3")
    age, male = (next(p for p in found.parts.parts if p.name == name) for name in ("age", "male"))
    row = (kept[0].data / "patients.csv").read_text().splitlines()[4].split(",")
    assert age.value == f"= {row[1]} a"
    assert male.value == ("= yes" if row[2] == "1" else "= no")
    ratio = 2.0 * (2 * float(row[1]) / 100 - 1) / (1.0 if row[2] == "1" else -1.0)
    assert age.moved / male.moved == pytest.approx(ratio, rel=1e-4)
    whole = found.parts.score - found.parts.of_baseline
    assert age.moved + male.moved == pytest.approx(whole, abs=1e-6)
    assert found.parts.of_baseline == pytest.approx(1 / (1 + np.exp(-0.1)), abs=1e-6)
    write_explanation(found, tmp_path / "out")
    text = (tmp_path / "out" / "explanation.txt").read_text()
    assert "points  male" in text
    assert "It is no cause" in text
    assert (tmp_path / "out").stat().st_mode & 0o077 == 0
    with pytest.raises(BadInput, match="exists already"):
        write_explanation(found, tmp_path / "out")


def test_a_channel_that_the_study_does_not_have_is_named_with_those_it_has(kept):
    with pytest.raises(BadInput, match="one of fever is due"):
        of_patient(kept, "p3", channel="cough")


def test_importance_is_the_movement_that_numpy_computes_by_hand(kept):
    support = support_of(kept[0])
    found = importance(support)
    by_name = {column.column: column for column in found.columns}
    features = support.held_out.features.numpy().astype(np.float64)
    before = 1 / (1 + np.exp(-(features @ [2.0, 1.0] + 0.1)))
    random = np.random.default_rng(3)
    after = 1 / (
        1 + np.exp(-(2.0 * random.uniform(-1, 1, (400, len(features))) + features[:, 1] + 0.1))
    )
    due = np.abs(after - before).mean()
    assert by_name["age"].moved == pytest.approx(due, abs=4 * by_name["age"].moved_se + 0.01)
    assert by_name["age"].auroc_lost > 0.05
    assert by_name["age"].counts_moved < by_name["age"].moved
    assert found.columns[0].column == "age"
    assert importance(support).to_json() == found.to_json()  # public draws: the same again
    assert "AUROC lost" in "\n".join(found.lines())


def test_a_column_that_the_model_does_not_use_has_no_importance(kept, monkeypatch):
    support = support_of(kept[0])
    with torch.no_grad():
        support.standing.released.network.weight[0, 1] = 0.0
    by_name = {column.column: column for column in importance(support).columns}
    assert by_name["male"].moved == by_name["male"].counts_moved == 0.0
    assert by_name["male"].auroc_lost == pytest.approx(0.0, abs=1e-9)


EXPLAINED = ["mlp", "classes of a table", "deep hazards", "gru", "lstm", "several targets"]
EXPLAINED += ["several numbers", "dense autoencoder"]


@pytest.mark.parametrize("name", EXPLAINED)
def test_the_parts_of_every_family_add_up(name):
    study = STUDIES[name]()
    start = baseline(study.contract)
    records = 2.0 * torch.rand(2, *study.contract.input_shape()) - 1.0
    subject = Subject.of(study, moved_weights(study), 0)
    values = [""] * len(study.contract.columns)
    found = parts_of_score(subject, records, start, values)
    total = sum(part.moved for part in found.parts)
    assert total == pytest.approx(found.score - found.of_baseline + found.gap, abs=1e-9)
    assert abs(found.gap) < 0.02
    sizes = [abs(part.moved) for part in found.parts]
    assert sizes == sorted(sizes, reverse=True)
    assert found.lines()[0].startswith("score ")
    json.dumps(found.to_json())


def test_the_baseline_is_the_contracts_middle_and_missing_where_it_may_be():
    table = STUDIES["mlp"]().contract
    assert table.features()[-1] == "ward is missing"
    assert baseline(table).tolist() == [[0, 0, 0, 0, 1]]
    series = study_plan("series", "gru", hidden=(3,), columns=SERIES, grid=GRID).contract
    start = baseline(series)
    assert start.shape == (1, 6, 3)
    assert start[0, :, 0].tolist() == [0.0] * 6
    assert start[0, :, 1].tolist() == [1.0] * 6  # nothing was measured in any step
    assert [where.stop for _, where in places(series)] == [2, 3]


def test_without_a_name_the_last_edge_or_the_highest_score_is_explained():
    scores = torch.tensor([0.2, 0.7, 0.1])
    assert channel_of(STUDIES["classes of a table"](), None, scores) == 1
    assert channel_of(STUDIES["hazards"](), None, scores) == 2
    assert channel_of(STUDIES["hazards"](), "until 100 d", scores) == 0


def test_values_are_said_in_the_words_of_the_contract():
    contract = STUDIES["mlp"]().contract
    age, male, ward = contract.columns
    assert in_words(age, [63.0], None) == "= 63 a"
    assert in_words(male, [1.0], None) == "= yes"
    assert in_words(ward, [None], None) == "missing"
    assert in_words(ward, ["a", "b"], None) == "of 2 records"
    pulse = study_plan("series", "gru", hidden=(3,), columns=SERIES, grid=GRID).contract.columns[0]
    nothing = np.full((1, 6), np.nan)
    assert in_words(pulse, [], nothing) == "never measured"
    nothing[0, 2] = 88.0
    assert in_words(pulse, [], nothing) == "measured 1 times, last 88 /min"


def wide_study(columns=12):
    names = [f"lab_{number}" for number in range(columns)]
    listed = [
        {"name": name, "kind": "continuous", "description": "x", "range": [0, 1]} for name in names
    ]
    return study_plan("risk", "logistic-regression", columns=listed)


def test_a_map_that_random_weights_give_as_well_is_warned_of():
    """One value is far from the baseline, so any weights point at the same order of columns."""
    study = wide_study()
    network = build(study)
    with torch.no_grad():
        network.weight.fill_(0.3)
    subject = Subject.of(study, network, 0)
    records = torch.logspace(-6, 0, 12).unsqueeze(0)
    found = parts_of_score(subject, records, baseline(study.contract), [""] * 12)
    assert found.sanity.correlation > HIGH
    assert "random weights" in found.sanity.warning
    with torch.no_grad():
        network.weight[:] = torch.logspace(0, -6, 12)
    same = torch.full((1, 12), 0.5)
    learned = parts_of_score(
        Subject.of(study, network, 0), same, baseline(study.contract), [""] * 12
    )
    assert abs(learned.sanity.correlation) < 0.4
    assert learned.sanity.warning is None


def test_few_parts_have_no_ranks_and_a_flat_map_says_nothing():
    study = wide_study(3)
    subject = Subject.of(study, moved_weights(study), 0)
    few = parts_of_score(subject, torch.ones(1, 3), baseline(study.contract), [""] * 3)
    assert few.sanity == Sanity(correlation=None)
    assert "fewer than 8 parts" in few.sanity.line()
    flat = sanity(subject, np.zeros((4, 4)), lambda _: np.ones((4, 4)))
    assert flat.warning == "The map is the same everywhere: it says nothing."


def test_random_weights_are_as_large_and_leave_the_network_as_it_is():
    study = STUDIES["reference cnn"]()
    subject = Subject.of(study, moved_weights(study), 0)
    before = [parameter.clone() for parameter in subject.network.parameters()]
    other = subject.with_random_weights(b"1")
    drawn_anew = [parameter.detach() for parameter in other.network.parameters()]
    kept_as_was = [parameter.detach() for parameter in subject.network.parameters()]
    for own, drawn, was in zip(kept_as_was, drawn_anew, before, strict=True):
        assert torch.equal(own, was)
        if own.numel() > 500:
            assert float(drawn.square().mean().sqrt()) == pytest.approx(
                float(own.square().mean().sqrt()), rel=0.15
            )
            correlation = np.corrcoef(own.ravel(), drawn.ravel())[0, 1]
            assert abs(correlation) < 0.15


@pytest.fixture(scope="module")
def square_finder():
    """A network that was trained to say whether an image has a bright square."""
    study = study_plan(
        "image",
        "reference-cnn",
        columns=[
            {
                "name": "scan",
                "kind": "image",
                "description": "x",
                "range": [0, 255],
                "shape": [1, 32, 32],
            }
        ],
    )
    torch.manual_seed(3)
    network = build(study)
    images, labels = squares(192)
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    for _ in range(40):
        optimiser.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            network(images).squeeze(-1), labels
        )
        loss.backward()
        optimiser.step()
    return Subject.of(study, network, 0)


PLACES = [(4, 4), (4, 18), (18, 4), (18, 18)]  # corners of a square of 8 pixels


def squares(count):
    """Noise; every second image has a bright square, in one of four places in turn."""
    generator = torch.Generator().manual_seed(5)
    images = 0.2 * torch.randn(count, 1, 32, 32, generator=generator) - 0.5
    labels = (torch.arange(count) % 2).float()
    for number in range(1, count, 2):
        row, column = PLACES[number // 2 % 4]
        images[number, :, row : row + 8, column : column + 8] += 1.2
    return images, labels


def test_the_maps_of_an_image_point_at_what_the_network_found(square_finder):
    images, _ = squares(6)
    found = picture_maps(square_finder, images[:4])
    assert {picture.number for picture in found[:2]} == {2, 4}
    assert found[0].score > 0.9 > 0.5 > found[-1].score
    best = found[0]
    picture = np.asarray(Image.open(io.BytesIO(best.png)).convert("RGB")).astype(int)
    side = (picture.shape[1] - 4 * 12) // 3
    for place in (1, 2):  # Grad-CAM and occlusion, beside the picture
        left = 12 + place * (side + 12)
        block = picture[26 : 26 + side, left : left + side]
        orange = block[..., 0] - block[..., 2]
        scale = side // 32
        row, column = (scale * start for start in PLACES[(best.number - 1) // 2])
        inside = np.zeros(orange.shape, dtype=bool)
        inside[row : row + 8 * scale, column : column + 8 * scale] = True
        assert orange[inside].mean() > orange[~inside].mean() + 20
    plain = picture[26 : 26 + side, 12 : 12 + side]
    assert (plain[..., 0] == plain[..., 2]).all()
    for checked in (best.grad_cam, best.occlusion):
        assert checked.correlation is not None
        assert checked.warning is None
    assert best.to_json()["file"] == f"image-{best.number}.png"


def test_bars_fit_the_picture_and_names_are_escaped():
    svg = bar_picture("a < b", "below", "axis", [Bar("x & y", 0.5, "+50"), Bar("z", -0.2, "-20")])
    assert "a &lt; b" in svg
    assert "x &amp; y" in svg
    assert "<script" not in svg
    flat = bar_picture("t", "b", "a", [Bar("zero", 0.0, "0")])
    assert 'width="0.0"' in flat


def test_a_network_that_is_all_too_sure_is_still_explained():
    """Its score is 1 to the last bit and has no gradient there; its parts add up all the same."""
    study = STUDIES["logistic regression"]()
    network = build(study)
    with torch.no_grad():
        network.weight.fill_(60.0)
        network.weight[0, -1] = 0.0  # what is missing says nothing: the baseline's score is 0.5
    records = torch.ones(1, *study.contract.input_shape())
    subject = Subject.of(study, network, 0)
    assert float(subject.score()(records.double())) == 1.0
    found = parts_of_score(subject, records, baseline(study.contract), [""] * 3)
    assert abs(found.gap) < 1e-3
    assert found.score - found.of_baseline == pytest.approx(
        sum(part.moved for part in found.parts), abs=1e-3
    )


def test_parts_that_do_not_add_up_are_warned_of(monkeypatch):
    monkeypatch.setattr("wardround_client.explanation.parts._STEPS", (1,))
    study = STUDIES["logistic regression"]()
    network = build(study)
    with torch.no_grad():
        network.weight.fill_(9.0)
        network.weight[0, -1] = 0.0  # what is missing says nothing: the baseline's score is 0.5
    records = torch.ones(1, *study.contract.input_shape())
    subject = Subject.of(study, network, 0)
    found = parts_of_score(subject, records, baseline(study.contract), [""] * 3)
    assert abs(found.gap) > 0.1
    assert "do not add up" in "\n".join(found.lines())
