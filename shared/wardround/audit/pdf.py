"""report.pdf: the report on paper, complete in itself, with report.json inside it.

PDF/A-3a (ISO 19005-3, level a: tagged for screen readers), typeset by Typst with the fonts that
its compiler brings along. The words of a study reach it as JSON in a variable, never as markup.
"""

import importlib.util
import json
import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from importlib.resources import files
from typing import Any, Literal

from markupsafe import Markup
from pydantic import BaseModel

from wardround.audit.html import LETTERS, facts, number, worst_first
from wardround.audit.metric_rows import epsilon_text
from wardround.audit.report_model import Figure, Origin, Report
from wardround.audit.verdicts import Verdicts
from wardround.audit.words import Words
from wardround.canonical import Json, canonical_bytes
from wardround.errors import BadInput

STANDARD: Literal["a-3a"] = "a-3a"
ATTACHMENT = "report.json"

_TEMPLATES = ("report_base.typ", "report_label.typ", "report_models.typ", "report_sections.typ")
_DIGITS = (0, 2, 3, 4, 6)
_METRICS = (
    "patients",
    "positives",
    "auroc_lower",
    "auroc_upper",
    "calibration_line",
    "calibration_error",
    "calibration_in_the_large",
)
_LONGEST_WORD = 64  # a digest in hex stays whole, so that it can be copied
_LONG_WORD = re.compile(rf"\S{{{_LONGEST_WORD + 1},}}")
_BREAK = "\N{SOFT HYPHEN}"
# Where the fonts in the compiler have every glyph: Latin, Greek, Cyrillic; arrows, signs of
# mathematics, ticks. PDF/A forbids a missing glyph, so that Typst would refuse.
_COVERED = (
    (0x0020, 0x04FF),
    (0x1E00, 0x1FFF),
    (0x2010, 0x2027),
    (0x2030, 0x203A),
    (0x2190, 0x22FF),
    (0x2713, 0x2717),
)
_SVG_STYLE = (
    ".base{fill:#33505f}.gain{fill:#e0992a;stroke:#14212b;stroke-width:.7}"
    ".rest{fill:#fff;stroke:#98a3ab;stroke-width:1}.open{fill:#f6c3c3;stroke:#ab1420;stroke-width:1.6}"
    ".bound{fill:none;stroke:#33505f;stroke-width:1.8;stroke-dasharray:1.5 4;stroke-linecap:round}"
    ".grid{stroke:#e3e8eb;stroke-width:1}.chance{stroke:#98a3ab;stroke-dasharray:4 4}"
    ".curve{fill:none;stroke:#0b6650;stroke-width:2.2}.area{fill:#e3f2ec}"
    ".with{fill:#0b6650}.without{fill:#98a3ab}"
    ".dot{fill:#0b6650;fill-opacity:.85}.whisker{stroke:#0b6650;stroke-width:1.3}"
    "text{font-family:'Libertinus Serif';font-size:12px;fill:#56646f;text-anchor:middle}"
    ".limit text{font-size:21px}.limit .title{font-size:24px}.limit .curve{stroke-width:4}"
    ".side{text-anchor:end}.title{font-size:13px;fill:#14212b}.begin{text-anchor:start}"
    ".m .side,.m .begin,.m .dot{fill:#14212b;fill-opacity:1}.m .whisker{stroke:#14212b}"
    ".forest .whisker{stroke-width:2}.forest .measured text{font-weight:bold}"
    ".private .side,.private .dot,.measured .side,.measured .dot{fill:#0b6650}"
    ".private .whisker,.measured .whisker{stroke:#0b6650}"
    ".next .side,.next .dot{fill:#7a3b00}.next .whisker{stroke:#7a3b00}"
)


def render_pdf(report: Json, verdicts: Verdicts | None = None, *, lang: str = "en") -> bytes:
    """The whole report as one PDF/A-3a file, with the bytes of report.json attached.

    `verdicts` are what this reader's own verification said, as for `render_html`. The same report
    and verdicts give the same bytes in any process and directory with the same Typst: no clock
    (the document's date is the end of the run, or its start), no font, file or setting of the
    machine. A character without a glyph is printed as its number; the attachment has the letter.
    Raises BadInput when `report` is none, or when the extra `wardround[pdf]` is not installed.
    """
    if not can_render_pdf():
        raise BadInput("report.pdf: Typst is not installed, `pip install 'wardround[pdf]'`")
    import typst  # noqa: PLC0415 - 80 MB that only this function needs

    found = facts(report, verdicts, lang=lang)
    checked: Report = found["r"]
    when = _moment(checked.run.closed_at or checked.run.opened_at)
    inputs = {
        "page": json.dumps(_page(found, when)),
        "attachment": canonical_bytes(report).decode(),
    }
    try:
        return typst.compile(
            _source(),
            format="pdf",
            font_paths=typst.Fonts(include_system_fonts=False),
            pdf_standards=STANDARD,
            timestamp=when,
            sys_inputs=inputs,
        )
    except typst.TypstError as error:
        raise BadInput(f"report: it cannot be typeset ({str(error)[:200]})") from error


def can_render_pdf() -> bool:
    """Whether Typst is installed; it is not loaded by this."""
    return importlib.util.find_spec("typst") is not None


def printable(text: str) -> str:
    """`text` in NFC, what has no glyph as its number, and with breaks in endless words.

    A letter that turns the direction of reading and a lone accent are numbers too: what stands
    there is what is read.

    >>> printable("Zürich"), printable("a" + chr(0x202E) + "b"), printable("中")
    ('Zürich', 'a[U+202E]b', '[U+4E2D]')
    """
    composed = unicodedata.normalize("NFC", text)
    return _LONG_WORD.sub(_broken, "".join(map(_glyph, composed)))


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError as error:
        raise BadInput(f"report: {text} is no time") from error


def _glyph(character: str) -> str:
    if character in "\n\t":
        return " "
    code = ord(character)
    written = unicodedata.category(character)[0] in "LNPS" or character in " \N{NO-BREAK SPACE}"
    if written and any(first <= code <= last for first, last in _COVERED):
        return character
    return f"[U+{code:04X}]"


def _broken(word: re.Match[str]) -> str:
    text = word.group()
    parts = [text[at : at + _LONGEST_WORD] for at in range(0, len(text), _LONGEST_WORD)]
    return _BREAK.join(parts)


def _source() -> bytes:
    """The three parts of the template are one Typst source: nothing is read while it compiles."""
    folder = files("wardround.audit").joinpath("templates")
    return b"\n".join(folder.joinpath(name).read_bytes() for name in _TEMPLATES)


def _page(found: Mapping[str, Any], when: datetime) -> Json:
    """Everything that the template shows, as JSON of words: numbers are already written out."""
    report: Report = found["r"]
    t: Words = found["t"]
    shown = {name: _shown(value) for name, value in found.items() if name not in {"t", "span"}}
    shown |= {"words": {key: printable(word) for key, word in t.fixed.items()}, "lang": t.lang}
    for shown_column, column in zip(
        shown["r"]["study"]["columns"], report.study.columns, strict=True
    ):
        shown_column["span"] = printable(found["span"](column))
    shown["patients"] = [_in_words(row, t) for row in shown["patients"]]
    shown["r"]["hazards"] = _shown(worst_first(report.hazards))
    estimates = report.statistics.estimates
    if estimates:
        # The table has the rest, written out.
        noise = number(estimates["noise_patients"], 1)
        shown["r"]["statistics"] |= {"estimates": None, "noise_patients": noise}
    metrics = report.evaluation.metrics
    if metrics:
        shown["r"]["evaluation"]["metrics"] = _shown({name: metrics.get(name) for name in _METRICS})
    parts = ("year", "month", "day", "hour", "minute", "second")
    shown["date"] = {part: getattr(when, part) for part in parts}
    return shown


def _in_words(row: Mapping[str, str], t: Words) -> Json:
    """A row of the statistics in the reader's language; a column's name stays as it is."""
    return {name: t.word(t.sentence(text)) for name, text in row.items()}


def _shown(value: object) -> Any:
    match value:
        case Figure():
            return _figure(value)
        case BaseModel():
            return {name: _shown(getattr(value, name)) for name in type(value).model_fields}
        case Mapping():
            return {printable(name): _shown(each) for name, each in value.items()}
        case list() | tuple():
            return [_shown(each) for each in value]
        case _:
            return _word(value)


def _word(value: object) -> Any:
    match value:
        case Origin():
            return _origin(value)
        case Markup():
            return _picture(value)
        case Enum():
            return value.value
        case str():
            return printable(value)
        case float():
            return number(value)
        case _:
            return value


def _figure(figure: Figure) -> Json:
    """A number in the precisions that the template asks for, with its origin."""
    return {
        "missing": figure.value is None,
        "text": {str(digits): number(figure.value, digits) for digits in _DIGITS},
        "epsilon": epsilon_text(figure.value),
        "origin": _origin(figure.origin),
        "note": printable(figure.note),
    }


def _origin(origin: Origin) -> Json:
    return {"name": origin.name.lower(), "letter": LETTERS[origin]}


def _picture(svg: Markup) -> str:
    """One of the charts as an SVG file of its own; it has no words of a study in it."""
    head, rest = str(svg).split(">", 1)
    head = head.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    return f"{head}><style>{_SVG_STYLE}</style>{rest}"
