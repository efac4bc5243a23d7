"""One query of a file: a statement that selects, and no other behind it."""

import re

from wardround.errors import BadInput

# Comments, texts and quoted names, whose semicolons end nothing. PostgreSQL nests comments and has
# E'..' and $$..$$; a database without them finds an error in such a query, and not two statements.
_QUOTED = re.compile(
    r"""
    --[^\n]*
    | /\*(?:(?!/\*|\*/).)*\*/
    | (?<!\w)[eE]'(?:[^'\\]|''|\\.)*'
    | '(?:[^']|'')*'
    | "(?:[^"]|"")*"
    | (?<![\w$])\$(?P<tag>(?:[A-Za-z_]\w*)?)\$.*?\$(?P=tag)\$
    """,
    re.VERBOSE | re.DOTALL,
)
_BEGINS = re.compile(r"[\s(]*(select|with|values)\b", re.IGNORECASE)


def single_query(text: str, name: str) -> str:
    """The query without its closing semicolon. Raises BadInput when it is none, or several.

    A database that is set to read alone would refuse to change anything; this refuses before it
    is asked. It is no judge of what functions do that a query calls: the user whose name is in the
    URL may select from the tables and nothing else.

    >>> single_query("select 1 as one; -- all", "x.sql")
    'select 1 as one'
    """
    bare = _QUOTED.sub(_blank, text)
    # What is left of these begins a text or a comment that does not end, or one within another.
    if strange := sorted({sign for sign in ("'", '"', "/*", "*/", "$$", "\0") if sign in bare}):
        raise BadInput(f"{name}: a {' or '.join(map(repr, strange))} that is not closed, or nested")
    end = bare.rstrip()
    if end.endswith(";"):
        end = end[:-1].rstrip()
    if ";" in end:
        raise BadInput(f"{name}: more than one statement, one query is due")
    if not _BEGINS.match(bare):
        raise BadInput(f"{name}: a query is due: it begins with SELECT or WITH")
    return text[: len(end)].strip()


def _blank(quoted: "re.Match[str]") -> str:
    """So many blanks: places in the text stay what they are."""
    return " " * len(quoted[0])
