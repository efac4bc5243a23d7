"""How a rehearsal ends on the terminal: a summary for people, and one JSON object as last line."""

import json
from pathlib import Path

from rich.console import Console

from wardround.audit.container import pack, read_file, unpack
from wardround.audit.verify import verify_bundle
from wardround.canonical import Json
from wardround.errors import VerificationFailed
from wardround_server.rehearsal.interrupt import Interruption
from wardround_server.rehearsal.run import rehearse
from wardround_server.rehearsal.script import Rehearsal

_STANDING = {
    "comparison": "of this rehearsal; the report has it as its coordinator's statement",
    "left_out": "of this rehearsal, no evidence",
}
_TAMPERED_MEMBER = "logs/coordinator.jsonl"


def play(rehearsal: Rehearsal, *, as_json: bool) -> int:
    """Rehearse, print the outcome, return the exit code (0, or 8 with somebody missing)."""
    console = Console(stderr=as_json)
    outcome = rehearse(rehearsal, console=console, interruption=Interruption())
    code = int(outcome.pop("exit_code"))
    if not outcome["verified"]:
        raise VerificationFailed("the bundle of this run does not verify: `wardround audit verify`")
    _tell(outcome, console)
    print(json.dumps(outcome, sort_keys=True))  # the last line is for machines
    return code


def verify_tampered(bundle: Path) -> None:
    """Change one byte of one entry in a copy and verify it. Raises VerificationFailed, as due."""
    members = unpack(read_file(bundle))
    content = bytearray(members[_TAMPERED_MEMBER])
    place = content.index(b'"model_after":"') + len(b'"model_after":"')
    content[place] = ord("0") if content[place] != ord("0") else ord("1")
    tampered = bundle.with_name("bundle-tampered.zip")
    tampered.write_bytes(pack({**members, _TAMPERED_MEMBER: bytes(content)}))
    print(f"\nOne byte of {_TAMPERED_MEMBER} was changed: wardround audit verify {tampered}")
    verdicts = verify_bundle(tampered)
    print("\n".join(verdicts.lines()))
    if verdicts.ok:
        raise AssertionError("a changed bundle was verified: this must never happen")
    raise VerificationFailed(f"{tampered.name}: as it should be, the change was found")


def _tell(outcome: Json, console: Console) -> None:
    privacy, metrics = outcome["privacy"], outcome["metrics"]
    console.print()
    console.print(
        f"[bold]{outcome['study']}[/bold]: {outcome['hospitals_completed']} of "
        f"{outcome['hospitals_planned']} hospitals, {outcome['rounds']} rounds, "
        f"{outcome['seconds']} s",
        highlight=False,
    )
    if privacy["epsilon"] is None:
        console.print(f"[bold red]{privacy['guarantee']}[/bold red]: no noise was added")
    else:
        console.print(
            f"epsilon {privacy['epsilon']:.3f} (delta {privacy['delta']:g}) per "
            f"{privacy['unit']}, {privacy['covers']}",
            highlight=False,
        )
    if "kind" in metrics:
        said = [f"{name} {value:.3f}" for name, value in metrics.items() if type(value) is float]
        console.print(
            f"pooled: {', '.join(said) or 'NA'}, on {metrics['patients']} held-out patients",
            highlight=False,
        )
    elif metrics["auroc"] is not None:
        console.print(
            f"pooled AUROC {metrics['auroc']:.3f} on {metrics['patients']} held-out patients; "
            f"sensitivity {metrics['sensitivity']:.3f}, specificity {metrics['specificity']:.3f} "
            f"at {metrics['threshold']:g}",
            highlight=False,
        )
    console.print(f"report   {outcome['report']}", highlight=False, soft_wrap=True)
    if "report_pdf" in outcome:
        console.print(f"         {outcome['report_pdf']}", highlight=False, soft_wrap=True)
    console.print(f"bundle   {outcome['bundle']}  (verified)", highlight=False, soft_wrap=True)
    for what in ("comparison", "left_out"):
        if what in outcome:
            where = f"{outcome[what]['file']}  ({_STANDING[what]})"
            console.print(f"{what:<8} {where}", highlight=False, soft_wrap=True)
