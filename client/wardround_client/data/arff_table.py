"""ARFF files as text: each column is declared in the header, and every value is held to that.

(Attribute-Relation File Format, as the manual of Weka describes it, dense rows. SciPy has a loader,
which is the oracle of the tests and not the reader: it drops fields that are too many, takes `1?3`
for missing, knows no text and quotes a patient's value in its errors.)
"""

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO

import pandas as pd

from wardround.errors import BadInput
from wardround_client.data.sources import NUMBER, file_inside
from wardround_client.data.table_source import Asked, Bound, text_table
from wardround_client.data.text import TABLE_LIMIT_BYTES, open_text, within_limit

LINE_LIMIT_CHARS = 8 << 20
HEADER_LIMIT_CHARS = 16 << 20
MOST_ATTRIBUTES = 100_000
_NAME_CHARS = 200

# Possessive, so that no line takes longer than its length: a failed match is not tried again.
_ESCAPED = r"""\\[\\'"%tnr]"""
_QUOTED = rf"""'((?:[^'\\]|{_ESCAPED})*+)'|"((?:[^"\\]|{_ESCAPED})*+)\""""
_FIELD = re.compile(rf"""\s*+(?:{_QUOTED}|([^\s,'"{{}}%\\][^,'"{{}}%\\]*+))\s*+(?:(,)|\Z)""")
_DECLARED = re.compile(rf"""\S++\s++(?:{_QUOTED}|([^\s,'"{{}}%\\]++))\s++(\S.*+)""")
_MARKS = re.compile(r"""['"{}%\\]""")
_ESCAPES = {"t": "\t", "n": "\n", "r": "\r"}
_KINDS = {
    "numeric": (re.compile(NUMBER), "numbers"),
    "real": (re.compile(NUMBER), "numbers"),
    "integer": (re.compile(r"[+-]?\d+(?:\.0*)?"), "whole numbers"),
}
_REFUSED = ("date", "relational")
_FORM = (
    "a quote is open, a field is empty where ? is due, a comma is at the end, or a quote, %, brace "
    "or backslash is outside quotes"
)


@dataclass(frozen=True, slots=True)
class _Attribute:
    """A column: its values are one of `values`, or fit `pattern`, or are any text."""

    name: str
    due: str = "text"
    pattern: re.Pattern[str] | None = None
    values: frozenset[str] | None = None

    def fits(self, value: str) -> bool:
        """Whether the header allows it; missing ("") it always does."""
        if self.values is not None:
            return not value or value in self.values
        return not value or self.pattern is None or self.pattern.fullmatch(value) is not None


def read_arff(asked: Asked) -> pd.DataFrame:
    """The asked columns of one file as stripped text, "" where a value is missing (`?`).

    A name that ends in .gz is unpacked on the way. Raises BadInput when the file is missing, too
    large, not UTF-8 or no ARFF; when it has sparse rows, no row, or a column of dates or of tables;
    when a row has another number of values than the header, or a value is not of its column's kind.
    """
    path = file_inside(asked.folder, asked.path)
    within_limit(path.stat().st_size, asked.path)
    try:
        with open_text(path) as file:
            lines = _lines(file, asked.path)
            attributes = _header(lines, asked.path)
            columns = _columns(lines, attributes, asked)
    except UnicodeDecodeError:
        raise BadInput(f"{asked.path}: not UTF-8 text") from None
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"{asked.path}: cannot be read ({type(error).__name__})") from None
    return text_table(columns)


def _lines(file: TextIO, path: str) -> Iterator[str]:
    """The file's lines, stripped; none is longer, nor are all together, than the limits."""
    left = TABLE_LIMIT_BYTES
    while line := file.readline(LINE_LIMIT_CHARS + 1):
        left -= len(line)
        if len(line) > LINE_LIMIT_CHARS:
            raise BadInput(f"{path}: a line of over {LINE_LIMIT_CHARS} characters")
        if left < 0:
            raise BadInput(f"{path}: over {TABLE_LIMIT_BYTES} characters")
        yield line.strip()


def _header(lines: Iterator[str], path: str) -> list[_Attribute]:
    """What the lines to @data declare; that one is taken off `lines`, too."""
    attributes: list[_Attribute] = []
    named, length = False, 0
    for number, line in enumerate(lines, 1):
        length += len(line)
        if length > HEADER_LIMIT_CHARS:
            raise BadInput(f"{path}: a header of over {HEADER_LIMIT_CHARS} characters")
        word = line.split(maxsplit=1)[0].lower() if line else "%"
        if word == "@relation" and not named:
            named = True
        elif word == "@attribute" and named:
            attributes.append(_attribute(line, f"{path}: line {number}"))
        elif line.lower() == "@data" and attributes:
            return _each_once(attributes, path)
        elif not word.startswith("%"):
            due = "@relation once, then each @attribute, then @data"
            raise BadInput(f"{path}: line {number}: {due} are due, and comments after %")
    raise BadInput(f"{path}: no line @data: the file is no ARFF, or cut off")


def _each_once(attributes: list[_Attribute], path: str) -> list[_Attribute]:
    if len(attributes) > MOST_ATTRIBUTES:
        raise BadInput(f"{path}: over {MOST_ATTRIBUTES} attributes")
    if len({attribute.name for attribute in attributes}) != len(attributes):
        raise BadInput(f"{path}: the header names a column twice")
    return attributes


def _attribute(line: str, where: str) -> _Attribute:
    found = _DECLARED.fullmatch(line)
    name = _value(found).strip() if found else ""
    if not found or not 0 < len(name) <= _NAME_CHARS:
        raise BadInput(
            f"{where}: a name of 1 to {_NAME_CHARS} characters and a kind are due, a name with a "
            "blank in quotes"
        )
    kind = found[4]
    if kind.startswith("{") and kind.endswith("}"):
        return _Attribute(name, "one of its names", values=_names(kind[1:-1], where))
    word = kind.split(maxsplit=1)[0].lower()
    if word in _REFUSED:
        raise BadInput(f"{where}: column {name!r} is {word}: numeric, string or names are due")
    if kind.lower() == "string":
        return _Attribute(name)
    if kind.lower() not in _KINDS:
        due = "numeric, real, integer, string, or names in braces"
        raise BadInput(f"{where}: column {name!r} is of no known kind: {due}")
    pattern, what = _KINDS[kind.lower()]
    return _Attribute(name, what, pattern)


def _names(text: str, where: str) -> frozenset[str]:
    names = [name.strip() for name in _fields(text, len(text)) or ("",)]
    if "" in names or len(set(names)) != len(names):
        raise BadInput(f"{where}: names with commas between are due, none twice, none empty or ?")
    return frozenset(names)


def _columns(
    lines: Iterator[str], attributes: Sequence[_Attribute], asked: Asked
) -> dict[str, list[str]]:
    wanted = [(place, a) for place, a in enumerate(attributes) if a.name in asked.columns]
    if not wanted:
        raise BadInput(f"{asked.path}: the file has none of the columns that are described")
    columns: dict[str, list[str]] = {attribute.name: [] for _, attribute in wanted}
    bound, total, unread, uneven = Bound(asked.path), 0, 0, 0
    for line in lines:
        if not line or line.startswith("%"):
            continue
        if line.startswith("{"):
            raise BadInput(f"{asked.path}: sparse rows (in braces): write every value of a row")
        bound.rows(1)
        total += 1
        fields = _fields(line, len(attributes))
        if fields is None or len(fields) != len(attributes):
            unread, uneven = unread + (fields is None), uneven + (fields is not None)
            continue
        for place, attribute in wanted:
            columns[attribute.name].append(fields[place])
        bound.cells(len(wanted), sum(len(fields[place]) for place, _ in wanted))
    faults = _faults(unread, uneven, total, len(attributes))
    if faults := faults or _strange([attribute for _, attribute in wanted], columns):
        raise BadInput(f"{asked.path}: {'; '.join(faults)}")
    return columns


def _faults(unread: int, uneven: int, total: int, due: int) -> list[str]:
    found = [] if total else ["the file has a header and no rows"]
    if unread:
        found.append(f"{unread} of {total} rows are not values with commas between: {_FORM}")
    if uneven:
        found.append(f"{uneven} of {total} rows do not have the {due} values of the header")
    return found


def _strange(attributes: Sequence[_Attribute], columns: dict[str, list[str]]) -> list[str]:
    found = []
    for attribute in attributes:
        own = columns[attribute.name]
        wrong = {value for value in set(own) if not attribute.fits(value)}
        if wrong:
            count = sum(value in wrong for value in own)
            what = f"column {attribute.name!r}: {count} of {len(own)} values"
            found.append(f"{what} are not {attribute.due}, as the header declares them")
    return found


def _fields(line: str, most: int) -> list[str] | None:
    """The values of a row, "" for one that is missing; None when it is not of this form.

    Of a row with more than `most` values the rest is left alone.
    """
    if not _MARKS.search(line):
        plain = [text.strip() for text in line.split(",", most)]
        return None if "" in plain else ["" if text == "?" else text for text in plain]
    found: list[str] = []
    end = 0
    while len(found) <= most:
        match = _FIELD.match(line, end)
        if match is None:
            return None
        found.append("" if match[3] and match[3].strip() == "?" else _value(match).strip())
        if match[4] is None:
            break
        end = match.end()
    return found


def _value(match: re.Match[str]) -> str:
    """What a name or value says, its quotes and escapes taken off."""
    if match[3] is not None:
        return match[3]
    return re.sub(r"\\(.)", lambda mark: _ESCAPES.get(mark[1], mark[1]), match[1] or match[2] or "")
