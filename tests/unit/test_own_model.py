"""An own model: installed by the hospital, named with its digest, refused by name otherwise."""

import json
import sys
import tomllib

import pytest
import torch
from tests.docs.pages import blocks
from tests.support import own_models
from tests.support.patient_gradients import (
    belonging,
    clipped_by_definition,
    clipped_sum,
    distance,
    per_patient_gradients,
)
from tests.support.small_federation import write_study
from tests.support.study_plans import NONE, image, study_value
from tests.support.training_steps import seeded
from typer.testing import CliRunner

from wardround.cli.main import app
from wardround.code_digest import code_digest
from wardround.errors import BadInput
from wardround.models.networks import binary_loss, build, parameters_of
from wardround.models.registered import check_installed, registered
from wardround.study.files import checked
from wardround.study.manifest import StudyPlan
from wardround.study.own_model import OwnModel
from wardround_client.comparison.sites import gather
from wardround_client.comparison.ways import Way, score

HOSPITALS = ("alpha", "beta", "gamma")


@pytest.fixture
def put(tmp_path, monkeypatch):
    """Install a package for this test alone; its source is the page's unless another is given."""

    def put(text=None, **about):
        site = tmp_path / f"site-{len(list(tmp_path.iterdir()))}"
        own_models.install(site, text, **about)
        monkeypatch.syspath_prepend(site)
        own_models.forget(monkeypatch)
        return site / about.get("package", own_models.PACKAGE)

    yield put
    own_models.forget(monkeypatch)


def plan(task=None, **more):
    value = study_value("risk", "own", **more) | {"task": task or own_models.task()}
    return checked(StudyPlan, value, what="study")


# What the page shows


def test_the_pages_digest_is_that_of_the_pages_file(put):
    put()
    digest = code_digest(own_models.PACKAGE)
    shown = [block.text for block in blocks(own_models.PAGE) if "[task.own]" in block.text]
    assert len(shown) == 2
    assert all(digest in text for text in shown)
    (study,) = (tomllib.loads(text) for text in shown if "$" not in text)
    assert plan(study["task"]).task.own.digest == digest


def test_the_command_says_what_a_study_has_to_name(put):
    put()
    printed = CliRunner().invoke(app, ["audit", "code"]).stdout
    found = tomllib.loads(printed)["task"]["own"]
    assert OwnModel(**found) == plan().task.own
    as_json = json.loads(CliRunner().invoke(app, ["audit", "code", "--json"]).stdout)
    assert as_json["ward_net"] == found["digest"]
    assert registered() == {"ward-net": "ward_net"}
    assert "ward_net" not in sys.modules  # what only asks for digests runs nothing of it


# What it does


def test_the_examples_gradients_are_clipped_patient_by_patient(put):
    put()
    model, patients = build(plan()), belonging((1, 3, 2))
    torch.manual_seed(2)
    features = torch.randn(6, 5)
    labels = torch.randint(0, 2, (6,)).float()
    gradients = per_patient_gradients(model, features, labels, patients, binary_loss)
    norms = torch.cat([g.flatten(1) for g in gradients.values()], dim=1).norm(dim=1)
    clip = float(norms.median())
    got = clipped_sum(model, features, labels, patients, binary_loss, clip_norm_l2=clip)
    assert distance(got.values, clipped_by_definition(gradients, clip)) < 2e-5


def test_everybody_starts_from_the_same_values_that_follow_from_the_studys_name(put):
    put()
    first, again = (parameters_of(build(plan())) for _ in range(2))
    other = parameters_of(build(plan(name="another")))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.numel() == 5 * 8 + 8 + 2 * 8 + 8 + 1 + 5


def test_hospitals_train_it_with_noise_and_evaluate_it(put, tmp_path):
    """Rounds in one process, by the code that hospitals and coordinator run."""
    write_study(tmp_path, HOSPITALS)
    put()
    own = ", ".join(f'{key} = "{text}"' for key, text in own_models.task()["own"].items())
    overrides = ["task.model=own", "task.hidden=[8]", f"task.own={{ {own} }}", "rounds.count=4"]
    overrides += ["privacy.epsilon=8.0"]
    gathered = gather(tmp_path / "study", tmp_path / "data", overrides)
    sites = gathered.sites()
    found = score(gathered.plan, sites, Way.PRIVATE, seeded(3)).whole
    assert found["patients"] == sum(site.held_out.patients for site in sites.values())
    assert found["auroc"]["value"] > 0.55
    without = score(gathered.plan, sites, Way.FEDERATED, seeded(3)).whole
    assert without["auroc"]["value"] != found["auroc"]["value"]


def test_an_autoencoder_may_be_an_own_one_for_images_and_tables(put):
    put(
        "from torch import nn\n"
        "def network(study):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(81, 81), nn.Unflatten(1, (1, 9, 9)))\n"
    )
    task = own_models.task(family="autoencoder", hidden=())
    assert parameters_of(build(plan(task, label=NONE, columns=image(9)))).numel() == 81 * 82
    with pytest.raises(BadInput, match="takes no records of shape"):
        build(plan(task, label=NONE))


# What is refused


def test_a_package_that_is_not_here_is_refused_by_name():
    with pytest.raises(BadInput, match="model ward-net: 0 installed packages register it"):
        build(plan(own_models.task(digest="0" * 64)))


def test_another_version_is_refused_by_name_and_nothing_of_it_is_run(put):
    put("raise RuntimeError('it was run')\n")
    with pytest.raises(BadInput, match=r"ward_net has the digest .* here, the study names 0000"):
        build(plan(own_models.task(digest="0" * 64)))
    assert "ward_net" not in sys.modules


def test_a_package_that_changes_after_it_was_looked_at_is_refused(put):
    package = put("from pathlib import Path\nPath(__file__).with_name('more.py').write_text('')\n")
    (package / "__init__.py").write_text(
        (package / "__init__.py").read_text() + "def network(study): return None\n"
    )
    with pytest.raises(BadInput, match="ward_net was changed while it was loaded"):
        build(plan())


def test_a_process_goes_on_with_the_version_that_it_has_loaded(put, monkeypatch):
    """Sources that were changed under a running daemon are not taken for what it runs."""
    package = put()
    before = plan()
    build(before)
    (package / "__init__.py").write_text(own_models.source() + "\n# a newer version\n")
    after = plan()
    assert after.task.own.digest != before.task.own.digest
    with pytest.raises(BadInput, match="install the version"):
        build(after)
    own_models.forget(monkeypatch)
    build(after)


def test_two_packages_with_one_name_are_refused(put):
    put()
    put(package="other_net", points={"ward-net": "other_net:network"})
    with pytest.raises(BadInput, match="2 installed packages register it, one is due"):
        check_installed(plan().task.own)


def test_a_name_that_leads_into_another_package_is_refused(put):
    put()
    put(package="other_net", points={"other-net": "ward_net:network"})
    with pytest.raises(BadInput, match="it comes from package ward_net, other_net is due"):
        check_installed(plan(own_models.task(package="other_net", name="other-net")).task.own)


NOT_ONE = {
    "import nothing_of_this_name\n": "cannot be loaded .ModuleNotFoundError",
    "other = 1\n": "cannot be loaded .AttributeError",
    "network = 3\n": "is no function of a study",
    "def network(study): return 3\n": "a int came, a torch module is due",
    "from torch import nn\ndef network(study): return nn.Linear(5, 1).double()\n": "float32",
    "from torch import nn\ndef network(study):\n"
    "    return nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))\n": "buffers",
    "from torch import nn\ndef network(study): return nn.Linear(5, 2)\n": "shape .2, 2. came",
    "from torch import nn\ndef network(study): return nn.Linear(4, 1)\n": "takes no records of",
}


@pytest.mark.parametrize("text", NOT_ONE, ids=lambda text: text.splitlines()[-1])
def test_what_is_no_network_for_the_study_is_refused_by_name(put, text):
    put(text)
    with pytest.raises(BadInput, match=f"model ward-net: .*{NOT_ONE[text]}"):
        build(plan())


MIXING = {
    "mean": "return self.last(x - x.mean(dim=0))",
    "scale": "return self.last(x) / (1 + x.std())",
    "from the one before": "return self.last(x.cumsum(dim=0))",
    "rank, which has no derivative": "return self.last((x >= x.median(dim=0).values).float())",
    "in training only": "return self.last(x - x.mean(dim=0) if self.training else x)",
    "behind a layer of zeros": "return self.zero(x - x.mean(dim=0))",
}


def mixing(body):
    return (
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.last, self.zero = nn.Linear(5, 1), nn.Linear(5, 1)\n"
        "        nn.init.zeros_(self.zero.weight)\n"
        "    def forward(self, x):\n"
        f"        {body}\n"
        "def network(study): return Net()\n"
    )


@pytest.mark.parametrize("how", MIXING)
def test_a_network_that_mixes_the_records_of_a_batch_is_refused(put, how):
    """No layer does it, so that no list of layers finds it."""
    put(mixing(MIXING[how]))
    with pytest.raises(BadInput, match=r"model ward-net: .*depends on the others of its batch"):
        build(plan())


APART = {
    "normed within": "return self.last(x - x.mean(dim=1, keepdim=True))",
    "changed in place": "x *= 2; return self.last(x)",
}


@pytest.mark.parametrize("how", APART)
def test_a_network_that_uses_a_record_alone_is_not_taken_for_one_that_mixes(put, how):
    put(mixing(APART[how]))
    assert build(plan()).training


def test_centred_on_the_batch_one_patient_moves_a_clipped_sum_by_nineteen_clip_norms():
    """Why it is refused: when one patient comes, everybody's clipped gradient changes."""

    def clipped_sum(records):
        # The gradient of a loss of -w (x - mean) is minus the centred record.
        centred = -(records - records.mean(dim=0))
        norms = centred.norm(dim=1, keepdim=True).clamp(min=1e-12)
        return (centred * (1.0 / norms).clamp(max=1.0)).sum(dim=0)

    others = torch.tensor([[1.0, 0.0]]).repeat(20, 1)
    everybody = torch.cat([others, torch.tensor([[1.0, 100.0]])])
    assert float((clipped_sum(everybody) - clipped_sum(others)).norm()) == pytest.approx(19.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"package": "wardround"},
        {"package": "wardround_client"},
        {"package": "../ward_net"},
        {"digest": "0" * 63},
        {"name": "Ward Net"},
        {"url": "https://example.org"},
    ],
)
def test_a_study_that_names_none_of_a_consortium_is_refused(wrong):
    own = {"name": "ward-net", "package": "ward_net", "digest": "0" * 64}
    OwnModel(**own)
    task = {"family": "risk", "model": "own", "own": own | wrong}
    with pytest.raises(BadInput):
        plan(task)


def test_only_model_own_has_the_table_and_it_needs_one():
    own = {"name": "ward-net", "package": "ward_net", "digest": "0" * 64}
    for task in ({"model": "own"}, {"model": "logistic-regression", "own": own}):
        with pytest.raises(BadInput, match="belongs to model = own, and only there"):
            plan({"family": "risk"} | task)
    with pytest.raises(BadInput, match="does not belong to family gan"):
        plan({"family": "gan", "model": "own", "own": own})
    assert (
        "own"
        not in checked(
            StudyPlan, study_value("risk", "logistic-regression"), what="study"
        ).to_json()["task"]
    )
