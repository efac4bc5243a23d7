"""The report's words in another language. The English sentence is the key.

`fixed` are the words of the pages; `sentences` are those that stand in report.json, whose bytes
are signed and stay English: a sentence there is read back by its pattern. What a person wrote
into a study or a log is quoted as it stands.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final

from markupsafe import Markup, escape

from wardround.audit.report_model import Report
from wardround.errors import BadInput

LANGUAGES: Final = ("en", "de")
PLACEHOLDER: Final = re.compile(r"\{(\w+)\}")
_SENTENCES: Final = frozenset(
    {
        "headline",
        "scope",
        "unit_in_words",
        "mechanism_in_words",
        "masking_in_words",
        "odds_in_words",
        "found_in_words",
        "form",
        "not_protected",
        "finding",
        "filled_in",
        "to_fill_in",
        "note",
        "since",
        "reason",
        "what",
        "party",
    }
)
_QUOTED: Final = frozenset({"study", "run", "logs", "metrics", "estimates", "scales"})
_ALL_PARTS: Final = " · "
_NUMBERS: Final = frozenset(
    {"n", "m", "closed", "due", "failed", "most", "planned", "remarks", "rounds", "there"}
)


@dataclass(frozen=True, slots=True)
class Words:
    """One language. English has no catalogue: every key stands for itself."""

    lang: str
    fixed: Mapping[str, str] = field(default_factory=dict, repr=False)
    sentences: Mapping[str, str] = field(default_factory=dict, repr=False)
    patterns: tuple[tuple[re.Pattern[str], str], ...] = field(default=(), repr=False)

    def __call__(self, key: str, /, **parts: object) -> Markup:
        """A sentence of the page, safe in HTML; `parts` are put where the key names them."""
        return Markup(escape(self.word(" ".join(key.split())))).format(**parts)  # noqa: S704 - escaped

    def plain(self, key: str, /, **parts: object) -> str:
        """The same without markup."""
        return self.word(key).format(**parts)

    def word(self, text: str) -> str:
        """A word that may be one of the page's, or a name of the study's: that stays as it is."""
        return self.fixed.get(text, text)

    def sentence(self, text: str) -> str:
        """A sentence of report.json; what no pattern fits is a quotation and stays."""
        if not self.sentences:
            return text
        if text in self.sentences:
            return self.sentences[text]
        if _ALL_PARTS in text:
            return _ALL_PARTS.join(map(self.sentence, text.split(_ALL_PARTS)))
        for pattern, translation in self.patterns:
            found = pattern.fullmatch(text)
            if found is not None:
                return translation.format(
                    **{
                        name: self.sentence(part) if name.startswith("part_") else part
                        for name, part in found.groupdict().items()
                    }
                )
        return text

    def report(self, report: Report) -> Report:
        """The same report with its sentences in this language."""
        if not self.sentences:
            return report
        return Report.model_validate(self._translated(report.to_json(), ""))

    def _translated(self, value: Any, key: str) -> Any:
        if isinstance(value, dict):
            return {
                name: part if name in _QUOTED else self._translated(part, _key(name, key))
                for name, part in value.items()
            }
        if isinstance(value, list):
            return [self._translated(part, key) for part in value]
        return self.sentence(value) if isinstance(value, str) and key in _SENTENCES else value


def words_of(lang: str) -> Words:
    """The words of one language. Raises BadInput for one that there is none of.

    >>> words_of("de").sentence("All 4 hospitals took part in the statistics")
    'Alle 4 Krankenhäuser nahmen an der Statistik teil'
    >>> words_of("en")("{n} of 3", n=2)
    Markup('2 of 3')
    """
    if lang not in LANGUAGES:
        raise BadInput(f"language: {lang} came, one of {', '.join(LANGUAGES)} was due")
    return Words("en") if lang == "en" else _catalogue(lang)


@lru_cache(maxsize=4)
def _catalogue(lang: str) -> Words:
    found = json.loads(
        files("wardround.audit").joinpath("templates", f"words_{lang}.json").read_text("utf-8")
    )
    sentences: dict[str, str] = found["sentences"]
    # The sentence with the most fixed letters first: no general pattern takes a special one's.
    longest = sorted(sentences, key=lambda text: len(PLACEHOLDER.sub("", text)), reverse=True)
    patterns = tuple((_pattern(text), sentences[text]) for text in longest if "{" in text)
    return Words(lang, found["fixed"], sentences, patterns)


def _pattern(text: str) -> re.Pattern[str]:
    """What a sentence with these placeholders looks like once they are filled in."""
    parts = PLACEHOLDER.split(text)
    filled = (
        re.escape(part) if at % 2 == 0 else f"(?P<{part}>{'[0-9]+' if part in _NUMBERS else '.+?'})"
        for at, part in enumerate(parts)
    )
    return re.compile("".join(filled), re.DOTALL)


def _key(name: str, above: str) -> str:
    """Titles are sentences of ours in hazards and in section G; a study's title is quoted."""
    if name in {"hazards", "dpia"}:
        return name
    return "finding" if name == "title" and above in {"hazards", "dpia"} else name
