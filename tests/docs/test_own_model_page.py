"""The page about own models is followed: written, installed, named, rehearsed by real processes."""

import os
import tomllib

import pytest
from tests.docs.pages import FOLDER, blocks
from tests.docs.test_walkthrough import OTHERS, OWN_MODEL, Story, story
from tests.support import own_models
from tests.support.small_federation import read_json

__all__ = ["story"]  # a fixture


def is_installed(told: Story) -> None:
    """As pip leaves it, in a folder that the commands find; what it registers is on the page."""
    site = told.folder / "site"
    own_models.install(site, (told.folder / "ward-net/ward_net/__init__.py").read_text())
    told.variables["PYTHONPATH"] = f"{site}:{os.environ.get('PYTHONPATH', '')}"


def own_study(told: Story) -> None:
    """The study of the coordinator's page with this page's [task], described by three hospitals."""
    told.tell("coordinator.md", "Write the study")
    task = next(b.text for b in blocks(own_models.PAGE) if b.text.startswith("[task]"))
    head, _, rest = (told.folder / "study.toml").read_text().partition("[task]\n")
    contract = rest[rest.index("[contract]\n") :]
    hospitals = told.folder / "own-study" / "hospitals"
    hospitals.mkdir(parents=True)
    (hospitals.parent / "study.toml").write_text(f"{head}{task}\n{contract}")
    text = next(b.text for b in blocks(FOLDER / "hospital.md") if b.marker == "file lakeside.toml")
    (hospitals / "lakeside.toml").write_text(text)
    for name in OTHERS:
        described = text.replace("lakeside", name).replace("surgery.csv", f"{name}.csv")
        (hospitals / f"{name}.toml").write_text(described)


@pytest.mark.slow
@pytest.mark.federation
@pytest.mark.timeout(600)
def test_the_page_can_be_followed_to_a_verified_report_of_an_own_model(story: Story) -> None:
    written, named, rehearsed = OWN_MODEL
    for step in (written, is_installed, named, own_study, rehearsed):
        if callable(step):
            step(story)
        else:
            story.tell(*step)
    report = read_json(story.folder / "own-rehearsal" / "report.json")
    code = {each["package"]: each for each in report["run"]["code"]}
    task = next(b.text for b in blocks(own_models.PAGE) if b.text.startswith("[task]"))
    own = tomllib.loads(task)["task"]["own"]
    assert code["ward_net"]["digest"] == own["digest"]
    assert code["ward_net"]["verdict"] == "pinned"
    assert len(code["ward_net"]["parties"]) == 4
    assert report["evaluation"]["metrics"]["patients"] > 100
    assert not (story.folder / "other-version").exists()  # it ended before anything was trained
