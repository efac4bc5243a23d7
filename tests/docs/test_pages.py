"""What the pages say exists: commands, options, files, codes, keys. (They are run beside this.)"""

import ast
import configparser
import json
import re
import tomllib
from pathlib import Path

import click
import pytest
from tests.docs.command_line import find, is_command, leaves, parse
from tests.docs.pages import (
    CONTRIBUTING,
    FOLDER,
    PAGES,
    README,
    REPOSITORY,
    Block,
    all_blocks,
    blocks,
    prose,
    spans,
)

from wardround.canonical import Json
from wardround.cli.main import COMMANDS, EXIT_BUG, EXIT_INTERRUPTED
from wardround.errors import WardroundError
from wardround.models.registered import GROUP
from wardround.protocol.messages import RefusalCode
from wardround.quality.plan import QualityPlan
from wardround.statistics.plan import StatisticsPlan
from wardround.study.evaluation import Evaluation
from wardround.study.files import checked, read_study_plan
from wardround.study.manifest import StudyPlan
from wardround.study.robust import Robust
from wardround.study.task import Task
from wardround_client.data.description import DatasetDescription, read_description
from wardround_client.policy import DEFAULT_POLICY, Policy
from wardround_server.service import EXIT_FEWER_HOSPITALS

PICTURE_LIMIT_BYTES = 400_000
SECTIONS = {
    "evaluation": Evaluation,
    "statistics": StatisticsPlan,
    "quality": QualityPlan,
    "robust": Robust,
    "task": Task,
}
ELSEWHERE = re.compile(r"(?<![\w.])/(work|tmp|root|home|mnt|usr|Users)\b|[A-Z]:\\")
REGISTRY = re.compile(r"pypi|pythonhosted|anaconda|conda-forge|npmjs|crates\.io|ghcr|docker\.io")
COMMENT = re.compile(r"^<!-- (background|exit \d+|file [a-z._/-]+) -->$")


def name(thing: object) -> str:
    return str(thing)


SHELL = [block for block in all_blocks() if block.is_shell]


@pytest.mark.parametrize("block", SHELL, ids=name)
def test_every_command_of_a_block_parses(block: Block) -> None:
    for command in block.commands():
        if "wardround " in command.line:
            parse(command.line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_in_running_text_exists(page: Path) -> None:
    for span in spans(page):
        if is_command(span):
            find(span)


def test_a_command_or_option_that_is_not_there_is_found() -> None:
    for wrong in ("wardround audit prove x", "wardround verify", "wardround audit verify --key x"):
        with pytest.raises(click.ClickException):
            find(wrong)
    with pytest.raises(click.ClickException):
        parse("wardround audit export --dir somewhere")


def test_every_command_is_on_some_page() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    named = {words for words in leaves() if re.search(rf"\bwardround {words}\b", text)}
    assert set(leaves()) - named == set()
    assert {words.split()[0] for words in named} == set(COMMANDS)


@pytest.mark.parametrize("block", [b for b in all_blocks() if b.language == "toml"], ids=name)
def test_every_toml_block_is_what_the_product_reads(block: Block) -> None:
    value = tomllib.loads(block.text)
    models = {"wardround.study/1": StudyPlan, "wardround.dataset/1": DatasetDescription}
    if "project" in value:  # how a package registers an own model
        (where,) = value["project"]["entry-points"][GROUP].values()
        assert re.fullmatch(r"[a-z_]+:network", where)
        return
    for section, plan in SECTIONS.items():
        if set(value) == {section}:
            checked(plan, value[section], what=str(block))
            return
    checked(models.get(value.get("schema", ""), Policy), value, what=str(block))


@pytest.mark.parametrize("block", [b for b in all_blocks() if b.language == "json"], ids=name)
def test_every_json_block_is_a_roster_file(block: Block) -> None:
    roster: Json = json.loads(block.text)
    assert roster
    assert all(re.fullmatch(r"[0-9a-f]{64}", value) for value in roster.values())


def test_every_fence_has_a_language_that_a_test_reads() -> None:
    read = {"sh", "console", "toml", "json", "ini", "python", "sql"}
    assert {block.language for block in all_blocks()} == read


@pytest.mark.parametrize("block", [b for b in all_blocks() if b.language == "python"], ids=name)
def test_every_python_block_is_a_file_that_a_step_writes(block: Block) -> None:
    assert block.marker.startswith("file ")
    ast.parse(block.text)


def test_every_comment_is_a_marker_of_a_fence() -> None:
    for page in PAGES:
        for line in page.read_text().splitlines():
            assert not line.startswith("<!--") or COMMENT.match(line), f"{page.name}: {line}"
        marked = sum(bool(block.marker) for block in blocks(page))
        assert marked == page.read_text().count("<!--"), page.name


def test_the_policy_on_the_page_is_the_one_that_joining_writes_key_by_key() -> None:
    page = FOLDER / "hospital.md"
    toml = [tomllib.loads(block.text) for block in blocks(page) if block.language == "toml"]
    policy = next(value for value in toml if "schema" not in value)
    assert policy == tomllib.loads(DEFAULT_POLICY)
    rows = set(re.findall(r"^\| `(\w+)` \|", page.read_text(), re.MULTILINE))
    assert set(Policy.model_fields) <= rows


def test_every_reason_of_a_refusal_is_explained() -> None:
    text = (FOLDER / "hospital.md").read_text()
    assert [code for code in RefusalCode if f"| `{code.value}` |" not in text] == []


def test_every_exit_code_is_explained() -> None:
    codes = {0, EXIT_BUG, EXIT_INTERRUPTED, EXIT_FEWER_HOSPITALS, WardroundError.exit_code}
    codes |= {kind.exit_code for kind in WardroundError.__subclasses__()}
    rows = re.findall(r"^\| (\d+) \|", (FOLDER / "hospital.md").read_text(), re.MULTILINE)
    assert sorted(codes) == [int(row) for row in rows]


def test_the_unit_starts_a_command_that_exists() -> None:
    units = [block for block in all_blocks() if block.language == "ini"]
    assert [unit.page for unit in units] == ["hospital.md"]
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string(units[0].text)
    parse(parser["Service"]["ExecStart"])
    parse("wardround hospital serve x")


def test_every_make_target_on_a_page_is_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    lines = [command.line for block in SHELL for command in block.commands()]
    lines += [span for page in PAGES for span in spans(page)]
    used = {line.split()[1] for line in lines if line.startswith("make ")}
    assert used
    assert used <= targets


def test_the_picture_is_there_and_the_readme_shows_it() -> None:
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README.read_text())
    assert shown == ["shared/docs/images/report.png"]
    picture = (REPOSITORY / shown[0]).read_bytes()
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(picture) < PICTURE_LIMIT_BYTES
    assert int.from_bytes(picture[16:20]) == 1280


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_section(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", prose(page)):
        if link.startswith("https://"):
            continue
        file, _, section = link.partition("#")
        target = (page.parent / file) if file else page
        assert target.exists(), link
        if section:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[?!,:.]", "", each).lower().replace(" ", "-") for each in headings}
            assert section in anchors, link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_names_a_path_of_a_machine_or_a_registry(page: Path) -> None:
    text = page.read_text()
    assert ELSEWHERE.findall(text) == []
    assert REGISTRY.findall(text) == []


def test_every_file_that_the_developers_page_names_is_there() -> None:
    folders = [REPOSITORY / name for name in ("server", "client", "shared", "tests")]
    for span in spans(CONTRIBUTING):
        if re.fullmatch(r"[\w/.]+(\.py|\.md|/)", span) and "status.json" not in span:
            inside = any(found for folder in folders for found in folder.rglob(span))
            assert inside or (REPOSITORY / span).exists(), span


def test_the_readme_names_the_study_and_every_file_that_its_hospitals_want() -> None:
    lines = [command.line for block in blocks(README) for command in block.commands()]
    words = next(line for line in lines if " rehearse " in line).split()
    study = REPOSITORY / words[words.index("rehearse") + 1]
    plan = read_study_plan(study / "study.toml")
    descriptions = [read_description(path) for path in study.glob("hospitals/*.toml")]
    assert len(descriptions) >= plan.rounds.quorum
    assert [d.path for d in descriptions if f"`{d.path}`" not in README.read_text()] == []


def test_every_command_takes_json_but_the_services() -> None:
    without = {
        words
        for words, command in leaves().items()
        if not any("--json" in param.opts for param in command.params)
    }
    assert without == {"coordinator serve", "hospital serve"}
