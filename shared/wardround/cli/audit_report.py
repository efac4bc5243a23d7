"""`wardround audit report` and `audit schema`: a bundle's report in the forms people ask for."""

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wardround.cli.output import AsJson
from wardround.errors import VerificationFailed

if TYPE_CHECKING:
    from wardround.audit.verdicts import Verdicts
    from wardround.canonical import Json


class Form(StrEnum):
    """What a report can be written as."""

    HTML = "html"
    PDF = "pdf"
    REGISTRY = "registry"
    JSON = "json"


class Language(StrEnum):
    """Whose words the page and the paper use; report.json is signed, and stays as it is."""

    ENGLISH = "en"
    GERMAN = "de"


_FILES = {
    Form.HTML: "report.html",
    Form.PDF: "report.pdf",
    Form.REGISTRY: "registry.yaml",
    Form.JSON: "report.json",
}
_BY_DEFAULT = (Form.HTML, Form.JSON)

BundleFile = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle.zip.")]
CoordinatorKey = Annotated[
    str, typer.Option("--coordinator-key", help="The coordinator's fingerprint, from elsewhere.")
]
RosterFile = Annotated[
    Path | None, typer.Option("--roster", help='JSON {"hospital": "fingerprint"}, from elsewhere.')
]
TimeStampingFile = Annotated[
    Path | None,
    typer.Option("--timestamp-authority", help="PEM certificates of who may have stamped it."),
]
Forms = Annotated[
    list[Form] | None,
    typer.Option("--format", help="May be given more than once; html and json by default."),
]
Lang = Annotated[Language, typer.Option("--lang", help="Language of page and paper.")]
Pdf = Annotated[bool, typer.Option("--pdf", help="report.pdf too: needs wardround[pdf].")]


def report(  # noqa: PLR0913  # one argument for each option
    bundle: BundleFile,
    out: Annotated[Path, typer.Option("--out", help="Directory for the files.")],
    coordinator_key: CoordinatorKey = "",
    roster: RosterFile = None,
    timestamp_authority: TimeStampingFile = None,
    *,
    forms: Forms = None,
    lang: Lang = Language.ENGLISH,
    pdf: Pdf = False,
    as_json: AsJson = False,
) -> None:
    """Verify a bundle and write its report.

    The verdicts stand on top; exit code 7 if one fails.
    """
    from wardround.audit.bundle import REPORT
    from wardround.audit.check_recomputed import REPORT_LIMIT_BYTES
    from wardround.audit.container import read_file, unpack
    from wardround.audit.pins import read_pins
    from wardround.audit.verify import verify_bytes
    from wardround.canonical import parse_json
    from wardround.durable import write_durably

    content = read_file(bundle)
    pins = read_pins(coordinator_key, roster, timestamp_authority)
    verdicts = verify_bytes(content, pins=pins)
    found = unpack(content).get(REPORT)
    if found is None:
        raise VerificationFailed(f"bundle {bundle.name}: it holds no {REPORT}")
    value = parse_json(found, what=REPORT, limit_bytes=REPORT_LIMIT_BYTES)
    asked = [*(forms or _BY_DEFAULT), *([Form.PDF] if pdf else [])]
    written = {
        form: found if form is Form.JSON else _rendered(form, value, verdicts, lang)
        for form in dict.fromkeys(asked)
    }
    out.mkdir(parents=True, exist_ok=True)
    for form, its_bytes in written.items():
        write_durably(out / _FILES[form], its_bytes)
    _say(out, list(written), as_json=as_json, ok=verdicts.ok)
    if not verdicts.ok:
        raise typer.Exit(VerificationFailed.exit_code)


def schema(*, as_json: AsJson = False) -> None:
    """Print the JSON Schema of report.json; with --json on one line."""
    from wardround.audit.report_model import report_schema

    typer.echo(json.dumps(report_schema(), indent=None if as_json else 1, sort_keys=True))


def code(*, as_json: AsJson = False) -> None:
    """Print the digests of Wardround's code that is installed here.

    As a study's [software] pins them. Then the own models that are registered here, as a study's
    [task.own] names them.
    """
    from wardround.code_digest import code_digests, installed
    from wardround.models.registered import registered

    own = registered()
    found = code_digests((*installed(), *sorted(set(own.values()))))
    if as_json:
        typer.echo(json.dumps(found))
        return
    typer.echo("\n".join(["[software]", *(f'{each} = "{found[each]}"' for each in installed())]))
    for name, package in own.items():
        lines = [f'{key} = "{text}"' for key, text in (("name", name), ("package", package))]
        typer.echo("\n".join(["", "[task.own]", *lines, f'digest = "{found[package]}"']))


def _rendered(form: Form, value: "Json", verdicts: "Verdicts", lang: Language) -> bytes:
    from wardround.audit.html import render_html
    from wardround.audit.pdf import render_pdf
    from wardround.audit.registry import render_registry

    if form is Form.PDF:
        return render_pdf(value, verdicts, lang=lang.value)
    if form is Form.REGISTRY:
        return render_registry(value).encode()
    return render_html(value, verdicts, lang=lang.value).encode()


def _say(out: Path, forms: list[Form], *, as_json: bool, ok: bool) -> None:
    keys = {Form.HTML: "report", Form.PDF: "report_pdf", Form.REGISTRY: "registry"}
    keys[Form.JSON] = "report_json"
    answer: dict[str, object] = {keys[form]: str(out / _FILES[form]) for form in forms}
    typer.echo(
        json.dumps(answer | {"ok": ok})
        if as_json
        else "\n".join(str(out / _FILES[form]) for form in forms if form is not Form.JSON)
        or str(out / _FILES[Form.JSON])
    )
