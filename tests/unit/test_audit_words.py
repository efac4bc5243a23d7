"""German: every sentence has one, with the same parts, and no English is left on a page."""

import io
import json
import re
from functools import lru_cache
from html.parser import HTMLParser
from importlib.resources import files

import pytest
from pypdf import PdfReader
from tests.support.federation_evidence import federation, study_of

from wardround.audit import group_tables, hazards
from wardround.audit.beside_page import BOTH, CHANCE, JOINING, LESS, MADE, MORE, TUNING, UNKNOWN
from wardround.audit.bundle import evidence_of
from wardround.audit.comparison_page import EXPLAINED, NEXT, NO_NEXT
from wardround.audit.derive import derive_report, report_of
from wardround.audit.evaluation_tables import MEASURED_RESTS, RESTS
from wardround.audit.html import render_html
from wardround.audit.pdf import render_pdf
from wardround.audit.report_model import Report
from wardround.audit.words import _QUOTED, _SENTENCES, PLACEHOLDER, words_of
from wardround.canonical import Json, canonical_bytes
from wardround.errors import BadInput
from wardround.evaluation.single import NAMES

STATISTICS: Json = {"epsilon": 1.0, "standardise": True}
GROUPS: Json = {"subgroups": [{"column": "age", "edges": [45, 65]}], "importance": True}
KINDS: dict[str, Json] = {
    "plain": {},
    "none": {"privacy": {"mechanism": "none", "epsilon": None, "delta": None}},
    "noised": {"evaluation": {"counts": "noised", "epsilon": 2.0, "bins": 16}},
    "distributed": {"privacy": {"mechanism": "distributed"}, "training": {"local_steps": 1}},
    "statistics": {"statistics": STATISTICS, "privacy": {"unit": "record"}},
    "only-statistics": {"statistics": {"epsilon": 1.0}, "rounds": {"count": 0, "quorum": 3}},
    "groups": {"evaluation": GROUPS},
    "noised-groups": {
        "evaluation": GROUPS | {"counts": "noised", "epsilon": 2.0, "bins": 8},
    },
    "alike": {"evaluation": {"subgroups": [{"column": "angina"}], "smallest_group": 500}},
    "hardly-known": {"evaluation": {"subgroups": [{"column": "angina"}]}},
    "lost": {},
    "audited": {},
    "described": {},
    "beside": {
        "privacy": {"mechanism": "none", "epsilon": None, "delta": None},
        "evaluation": {"beside": ["local-only", "personalised"]},
    },
    "compared": {},
    "dropped": {},
    "weighted": {
        "privacy": {"mechanism": "none", "epsilon": None, "delta": None},
        "training": {"weighting": "patients", "weight_unit": 50, "weight_most": 20},
    },
    "one-trip": {
        "privacy": {"mechanism": "distributed"},
        "training": {"local_steps": 1},
        "masking": {"profile": "one-trip", "minimum_hospitals": 3},
    },
}
DROPPED: Json = {
    "vanished": {"zurich": (0, "signed"), "bergen": (1, "revealed")},
    "suspected": {
        "coimbra": (
            0,
            "its share of the keys of zurich does not fit: dealt wrongly by zurich "
            "or changed by it",
        ),
        "leiden": (0, "bergen says that leiden has signed for another key of their pair"),
        "bergen": (0, "reveal of bergen: its mask key is not the one it committed to"),
    },
    "void": (1,),
}
USED = re.compile(r"""\bt(?:\.plain|\.word)?\(\s*"((?:[^"\\]|\\.)*)\"""")
# What is the same in both languages, or is quoted: names, digests, units and terms of the field.
SHARED = {
    *("wardround", "audit", "verify", "bundle", "coordinator", "hospitals", "json", "report"),
    *("bergen", "coimbra", "leiden", "zurich", "abababab", "VERIFY", "Merkle", "AUROC", "Poisson"),
    *("pessimistic", "grid", "finer", "accounting", "heart", "risk", "logistic", "regression"),
    *("disease", "narrowing", "over", "angina", "under", "exercise", "office", "privacy", "data"),
    *(
        "example",
        "remove",
        "Risk",
        "coronary",
        "from",
        "routine",
        "findings",
        "model",
        "several",
        "without",
    ),
    *("moving", "record", "Mahloujifar", "Steinke"),
}


@lru_cache(maxsize=32)
def report(kind: str) -> bytes:
    lost = {"leiden": (1, "deadline")} if kind == "lost" else None
    study = study_of(rounds=2, changes=KINDS[kind])
    dropped = DROPPED if kind == "dropped" else {}
    told = {name: kind == name for name in ("audited", "described", "compared")}
    fed = federation(study=study, lost=lost, **told, **dropped)
    return canonical_bytes(derive_report(evidence_of(fed.parts(without=frozenset(lost or ())))))


def sentences(value: Json, key: str = "") -> set[str]:
    """Every sentence of ours in a report; `key` says which field it stands in."""
    if isinstance(value, dict):
        found = set()
        for name, part in value.items():
            ours = name == "title" and key in {"hazards", "dpia"}
            below = "finding" if ours else key if name in {"hazards", "dpia"} else name
            below = name if name in {"hazards", "dpia"} else below
            found |= set() if name in _QUOTED else sentences(part, below)
        return found
    if isinstance(value, list):
        return set().union(*(sentences(part, key) for part in value))
    return {value} if isinstance(value, str) and value and key in _SENTENCES else set()


class Text(HTMLParser):
    """What is read on a page, labels and titles included; not what is quoted as code."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.silent += tag in {"style", "code"}
        if not self.silent:
            spoken = {"title", "data-l", "aria-label"}
            self.words += [value or "" for name, value in attrs if name in spoken]

    def handle_endtag(self, tag: str) -> None:
        self.silent -= tag in {"style", "code"}

    def handle_data(self, data: str) -> None:
        self.words += [] if self.silent else [data]


def read(html: str) -> str:
    page = Text()
    page.feed(html)
    return " ".join(page.words)


def template_keys() -> set[str]:
    folder = files("wardround.audit").joinpath("templates")
    names = ("report.html.j2", "report_sections.html.j2", "report_base.typ", "report_label.typ")
    names += ("report_sections.typ", "report_models.html.j2", "report_models.typ")
    sources = [folder.joinpath(name).read_text() for name in names]
    modules = ("html.py", "charts.py", "comparison_page.py", "beside_page.py")
    sources += [files("wardround.audit").joinpath(name).read_text() for name in modules]
    return {" ".join(found.split()) for source in sources for found in USED.findall(source)}


def test_every_key_has_german_words_with_the_same_placeholders():
    german = words_of("de")
    for catalogue in (german.fixed, german.sentences):
        for english, translated in catalogue.items():
            assert translated.strip(), english
            assert sorted(PLACEHOLDER.findall(english)) == sorted(PLACEHOLDER.findall(translated))


def test_every_word_of_the_templates_is_in_the_catalogue():
    assert template_keys() - set(words_of("de").fixed) == set()
    assert len(template_keys()) > 150


def test_every_way_to_train_is_in_the_catalogue():
    said = {*EXPLAINED, *EXPLAINED.values(), *NAMES.values(), NEXT, NO_NEXT}
    said |= {*MADE, *MADE.values(), JOINING, BOTH, TUNING, MORE, LESS, CHANCE, UNKNOWN}
    assert said - set(words_of("de").fixed) == set()


def test_every_metric_of_a_group_and_what_is_said_below_it_is_in_the_catalogue():
    said = {*group_tables.HEADS, *group_tables.METRICS, *RESTS, *MEASURED_RESTS}
    said |= {group_tables.PATIENTS, group_tables.WITH_AN_EVENT, group_tables.WORSE}
    said |= {group_tables.JOINTLY, group_tables.NOISED, group_tables.EXACT}
    assert said - set(words_of("de").fixed) == set()


def test_every_title_of_a_hazard_is_in_the_catalogue():
    assert {title for _, title, _ in hazards.QUESTIONS} <= set(words_of("de").sentences)


@pytest.mark.parametrize("kind", KINDS)
def test_every_sentence_of_a_report_is_known_and_reads_otherwise_in_german(kind: str):
    value, german = json.loads(report(kind)), words_of("de")
    purpose = value["study"]["purpose"]
    quoted = {purpose, *value["study"]["roster"][0].values()}
    left = {text for text in sentences(value) - quoted if german.sentence(text) == text}
    assert left <= {"bergen", "coimbra", "leiden", "zurich"}, left


@pytest.mark.parametrize("kind", KINDS)
def test_no_english_word_is_left_on_a_german_page(kind: str):
    english, german = (read(render_html(json.loads(report(kind)), lang=x)) for x in ("en", "de"))
    words = {text: set(re.findall(r"[A-Za-z]{4,}", text)) for text in (english, german)}
    translated = " ".join([*words_of("de").fixed.values(), *words_of("de").sentences.values()])
    allowed = SHARED | set(re.findall(r"[A-Za-z]{4,}", translated))
    assert (words[english] & words[german]) - allowed == set()
    assert len(words[german]) > 200


def test_the_german_paper_says_the_same_and_carries_the_signed_bytes():
    reader = PdfReader(io.BytesIO(render_pdf(json.loads(report("none")), lang="de")))
    text = re.sub(r"\s+", " ", " ".join(page.extract_text() for page in reader.pages))
    for said in ("KEINE FORMALE GARANTIE", "Es gibt kein Epsilon", "Was NICHT geschützt ist"):
        assert said in text
    assert "NO FORMAL GUARANTEE" not in text
    assert "What is" not in text
    assert reader.attachments == {"report.json": [report("none")]}


def test_an_english_report_is_as_it_was_derived():
    fed = federation(rounds=1)
    found = report_of(evidence_of(fed.parts()))
    assert words_of("en").report(found) is found
    assert isinstance(words_of("de").report(found), Report)
    assert words_of("de").report(found).study == found.study


@pytest.mark.parametrize("text", ["deadline passed us by", "round", "ROUND 3", ""])
def test_what_no_pattern_fits_is_quoted(text: str):
    assert words_of("de").sentence(text) == text


def test_a_language_without_words_is_refused():
    with pytest.raises(BadInput, match="one of en, de was due"):
        render_html(json.loads(report("plain")), lang="fr")
