"""The pages are followed step by step, by a coordinator, a hospital and an auditor on loopback.

Two more hospitals of the roster are played by the test, with the product's own functions.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tests.docs.pages import FOLDER, PAGES, REPOSITORY, Block, all_blocks, blocks
from tests.support.small_federation import free_port, listens, read_json, until
from tests.support.time_authority import TimeAuthority, serving

from wardround.canonical import canonical_bytes
from wardround.study.files import read_signed_study
from wardround_client.approval import approve, keep_study
from wardround_client.home import HospitalHome
from wardround_client.joining import join
from wardround_server.home import CoordinatorHome
from wardround_server.rehearsal.processes import Processes, environment

PATIENTS = 200
COMMAND_TIMEOUT_S = 120.0
RUN_TIMEOUT_S = 150.0
OTHERS = ("harbour", "northside")

# Blocks that are not run: why, and what checks them instead.
NOT_RUN = {
    ("README.md", "Try it"): "installs, and runs for minutes; the make targets are checked",
    ("README.md", "With real hospitals' data"): "the data set is not in the repository; parsed",
    ("CONTRIBUTING.md", "For developers"): "installs, and runs for minutes; targets are checked",
    ("auditor.md", "Verify", "demo"): "plays a federation of its own; tests/deployment runs it",
    ("hospital.md", "Run the daemon", "ini"): "a systemd unit; its ExecStart is checked",
    ("own-model.md", "Install it"): "it would change the environment that the tests run in",
}


def is_run(block: Block) -> bool:
    return block.is_shell and (block.page, block.section, *special(block)) not in NOT_RUN


def special(block: Block) -> tuple[str, ...]:
    if block.language == "ini":
        return ("ini",)
    return ("demo",) if block.text.startswith("wardround demo") else ()


@dataclass
class Story:
    """One working directory, and what was done in it."""

    folder: Path
    processes: Processes
    variables: dict[str, str] = field(default_factory=dict)

    def tell(self, page: str, section: str) -> None:
        """Follow one section of a page: write its files, run its commands."""
        found = [block for block in blocks(FOLDER / page) if block.section == section]
        assert found, f"{page} has no section {section!r}"
        for block in found:
            if block.marker.startswith("file "):
                path = self.folder / block.marker.removeprefix("file ")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text)
            elif is_run(block) and block.marker == "background":
                self._start(block)
            elif is_run(block):
                self._run(block)

    def _start(self, block: Block) -> None:
        for command in block.commands():
            words = command.line.split()[1:]
            folder = self.folder / words[-1]
            party = self.processes.start(words[0], *words[:-1], str(folder))
            if words[0] == "coordinator":
                port = self.coordinator.settings().port
                until(f"the coordinator listens: {party.log}", partial(listens, port))
            else:
                until(f"the daemon runs: {party.log}", (folder / "status.json").exists)

    def _run(self, block: Block) -> None:
        due = int(block.marker.removeprefix("exit ") or 0) if block.marker else 0
        for command in block.commands():
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", command.line],
                cwd=self.folder,
                env={**environment(), "COLUMNS": "100", **self.variables},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=COMMAND_TIMEOUT_S,
                check=False,
            )
            said = f"{block}\n$ {command.line}\n{done.stdout}{done.stderr}"
            assert done.returncode == due, f"exit {done.returncode}, {due} is due: {said}"
            if command.shown is not None:
                assert fits(command.shown, done.stdout), f"{said}\nthe page shows\n{command.shown}"

    def home(self, name: str) -> HospitalHome:
        return HospitalHome(self.folder / name)

    @property
    def coordinator(self) -> CoordinatorHome:
        return CoordinatorHome(self.folder / "coordinator")


def fits(shown: str, printed: str) -> bool:
    """Whether output is what a page shows: `...` stands for anything, spaces count as one."""
    parts = [re.escape(" ".join(part.split())) for part in shown.split("...")]
    return re.fullmatch(r"\s*.*?\s*".join(parts), " ".join(printed.split()), re.DOTALL) is not None


def test_output_that_differs_from_the_page_is_found() -> None:
    assert fits("ready ... in all\n", "ready   3 of 4 in all\n")
    assert not fits("ready\n", "not ready\n")
    assert not fits("authentic ok ...", "authentic FAILED ...")


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    """A folder with the hospitals' exports and a `wardround` on the path."""
    shim = tmp_path / "bin" / "wardround"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m wardround.cli.main "$@"\n')
    shim.chmod(0o755)
    work = tmp_path / "work"
    (work / "data").mkdir(parents=True)
    (tmp_path / "logs").mkdir()
    write_export(work / "data" / "surgery.csv", seed=0)
    for seed, name in enumerate(OTHERS, start=1):
        write_export(work / "data" / f"{name}.csv", seed=seed)
    with Processes(tmp_path / "logs") as processes:
        path = f"{shim.parent}:{os.environ['PATH']}"
        address = f"127.0.0.1:{free_port()}"
        authority = TimeAuthority.make(tmp_path / "authority")
        shutil.copyfile(authority.ca, work / "time-ca.pem")
        variables = {"PATH": path, "ADDRESS": address, "LISTEN": "127.0.0.1"}
        with serving(authority) as url:
            yield Story(work, processes, variables | {"TIME_AUTHORITY": url})


def write_export(path: Path, *, seed: int) -> None:
    """A generated export that fits the description on the hospital's page."""
    draw = np.random.default_rng(seed)
    lines = ["case;age;crp;admission;code;wound"]
    for number in range(PATIENTS):
        age, crp, urgent = draw.uniform(20, 90), draw.gamma(2.0, 6.0), int(draw.integers(2))
        infected = draw.normal() + (crp - 12) / 6 + urgent > 0.5
        fields = [
            f"K{seed}-{number}",
            f"{age:.1f}".replace(".", ","),
            "n/a" if number % 20 == 0 else f"{crp:.1f}".replace(".", ","),
            ("P", "E")[urgent],
            ("ABD", "THO", "LIM")[draw.integers(3)],
            "infected" if infected else "clean",
        ]
        lines.append(";".join(fields))
    path.write_text("\n".join(lines) + "\n")


def others_join(story: Story) -> None:
    for name in OTHERS:
        ticket = (story.folder / f"{name}.ticket").read_text().strip()
        join(ticket, story.folder / name)
        story.home(name).write_default_policy()


def fingerprints_are_told_by_telephone(story: Story) -> None:
    for name in ("lakeside", *OTHERS):
        story.variables[name.upper()] = story.home(name).identity().fingerprint
    story.variables["COORDINATOR_KEY"] = story.coordinator.identity().fingerprint
    roster = {name: story.variables[name.upper()] for name in ("lakeside", *OTHERS)}
    (story.folder / "roster.json").write_bytes(canonical_bytes(roster))


def others_approve_and_serve(story: Story) -> None:
    text = (story.folder / "lakeside.toml").read_text()
    signed = (story.folder / "study.signed.json").read_bytes()
    for name in OTHERS:
        description = story.folder / f"{name}.toml"
        description.write_text(text.replace("lakeside", name).replace("surgery.csv", f"{name}.csv"))
        home = story.home(name)
        data = story.folder / "data"
        study = keep_study(home, signed)
        approve(home, study, officer="officer", description=description, data_folder=data)
        story.processes.start(name, "hospital", "serve", str(home.directory))


def run_ends(story: Story) -> None:
    signed = (story.folder / "study.signed.json").read_bytes()
    key = story.coordinator.identity().public_key
    digest = read_signed_study(signed, signer=key).digest
    result = story.coordinator.run_folder(digest) / "result.json"
    until(f"the run ends: {story.processes.logs}", result.exists, RUN_TIMEOUT_S)
    assert read_json(result)["exit_code"] == 0, result.read_text()


def auditor_gets_the_bundle(story: Story) -> None:
    shutil.copyfile(story.folder / "post-op-infection" / "bundle.zip", story.folder / "bundle.zip")


def auditor_gets_the_verifier(story: Story) -> None:
    """One file, and a `python3` with its libraries: here the one of the test."""
    build = [sys.executable, REPOSITORY / "deploy/verifier/build.py"]
    subprocess.run([*build, story.folder / "wardround-verify.pyz"], check=True)
    python = Path(story.variables["PATH"].split(":")[0]) / "python3"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)


Step = tuple[str, str] | Callable[[Story], None]

# The order in which coordinator, hospital and auditor meet; inside a page it is the page's own.
STORY: tuple[Step, ...] = (
    ("coordinator.md", "Set up"),
    ("coordinator.md", "Invite the hospitals"),
    ("hospital.md", "Join"),
    others_join,
    fingerprints_are_told_by_telephone,
    ("coordinator.md", "Write the study"),
    ("coordinator.md", "Ask for statistics"),
    ("coordinator.md", "Sign it"),
    ("hospital.md", "Describe the data"),
    ("hospital.md", "Review a study"),
    ("hospital.md", "Look at the quality of the data"),
    ("hospital.md", "Run the daemon"),
    ("hospital.md", "The certificate"),
    others_approve_and_serve,
    ("coordinator.md", "Run it"),
    run_ends,
    ("hospital.md", "Look at the budget"),
    ("hospital.md", "Attack the model"),
    ("hospital.md", "Decide with the model"),
    ("hospital.md", "What did joining give us?"),
    ("hospital.md", "Take an approval back"),
    ("coordinator.md", "Keep the result"),
    ("coordinator.md", "Back up"),
    auditor_gets_the_bundle,
    ("auditor.md", "Verify"),
    ("auditor.md", "Which code ran"),
    auditor_gets_the_verifier,
    ("auditor.md", "With the verifier alone"),
    ("auditor.md", "Without our software"),
    ("auditor.md", "Read the report"),
    ("auditor.md", "Look at a log"),
    ("hospital.md", "Decide about the report"),
    ("auditor.md", "Who has signed off"),
    ("auditor.md", "When it was"),
    ("auditor.md", "A bundle for the public"),
)


# A story of its own, in test_own_model_page.py.
OWN_MODEL = (
    ("own-model.md", "Write it"),
    ("own-model.md", "Name it in the study"),
    ("own-model.md", "Rehearse it"),
)

# Another, in test_data_sources_page.py.
DATA_SOURCES = (("data-sources.md", "DICOM images without their patients"),)


@pytest.mark.federation
@pytest.mark.timeout(600)
def test_the_pages_can_be_followed_from_an_empty_folder_to_a_verified_bundle(story: Story) -> None:
    for step in STORY:
        if callable(step):
            step(story)
        else:
            story.tell(*step)
    for name in ("lakeside", *OTHERS):
        assert story.processes.alive("hospital" if name == "lakeside" else name), name
    assert (story.folder / "audit-report" / "report.html").exists()
    stop_both_services_politely(story)


def stop_both_services_politely(story: Story) -> None:
    """Ctrl-C, or a service manager's SIGTERM, ends them with code 0."""
    for name in ("hospital", "coordinator"):
        process = story.processes.parties[name].process
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0, story.processes.parties[name].last_lines()


def test_every_block_is_run_or_listed_with_a_reason() -> None:
    told = {step for step in (*STORY, *OWN_MODEL, *DATA_SOURCES) if not callable(step)}
    keys = {(b.page, b.section, *special(b)) for b in all_blocks() if b.is_shell or special(b)}
    unknown = keys - told - NOT_RUN.keys()
    assert unknown == set()
    assert NOT_RUN.keys() <= keys
    files = {(b.page, b.section) for b in all_blocks() if b.marker}
    assert files <= told


def test_the_story_keeps_the_order_of_every_page() -> None:
    steps = [step for step in (*STORY, *OWN_MODEL, *DATA_SOURCES) if not callable(step)]
    for page in PAGES:
        found = [b for b in blocks(page) if is_run(b) or b.language == "python"]
        sections = list(dict.fromkeys(block.section for block in found))
        if page.parent == FOLDER:
            assert [section for name, section in steps if name == page.name] == [
                section for section in sections if (page.name, section) not in NOT_RUN
            ]
