"""What style.md and architecture.md promise about the code as a whole."""

import ast
import functools
import re
from pathlib import Path

import pytest

from wardround.audit.bodies import COORDINATOR_TYPES, HOSPITAL_TYPES
from wardround.masking.round_spec import RoundSpec
from wardround.protocol.messages import BODIES, Kind, RefusalCode

ROOT = Path(__file__).parents[1]
PACKAGES = {
    name: ROOT / folder / name
    for name, folder in (
        ("wardround", "shared"),
        ("wardround_server", "server"),
        ("wardround_client", "client"),
    )
}
MODULES = sorted(path for package in PACKAGES.values() for path in package.rglob("*.py"))
PROTOCOL = (ROOT / "shared" / "PROTOCOL.md").read_text()

MOST_LINES, MOST_FUNCTION_LINES, MOST_FOLDERS = 400, 40, 2

# Where everything is caught, and why it has to be.
BROAD = {
    "shared/wardround/cli/main.py": "a bug is named; its text may hold data",
    "client/wardround_client/hospital.py": "a library's text may hold records; its type leaves",
    "client/wardround_client/attacks/at_closing.py": "a test that breaks costs no run its evidence",
    "client/wardround_client/joining.py": "a certificate that fails in any way is one thing here",
    "client/wardround_client/flower_letters.py": "Flower raises whatever the bytes provoke",
    "server/wardround_server/flower_messages.py": "the same, for what a hospital sent",
    "server/wardround_server/gateway.py": "a type name is all that may leave",
    "server/wardround_server/service.py": "a bug in one study must not end the service",
    "server/wardround_server/stamping.py": "nothing that an authority does may lose a run",
    "shared/wardround/audit/timestamp.py": "a library raises whatever foreign bytes provoke",
    "shared/wardround/audit/timestamp_request.py": "a thread hands its error over to who waits",
}


def place(path):
    return path.relative_to(ROOT).as_posix()


@functools.cache
def tree(path):
    return ast.parse(path.read_text(), filename=str(path))


@functools.cache
def every_node(path):
    return tuple(ast.walk(tree(path)))


@pytest.fixture(scope="module", autouse=True)
def _forget_the_trees():
    yield
    tree.cache_clear()
    every_node.cache_clear()


def nodes(kind):
    for path in MODULES:
        for node in every_node(path):
            if isinstance(node, kind):
                yield path, node


def test_the_modules_that_are_looked_at_are_there():
    assert len(MODULES) > 120
    assert all(any(package in path.parents for path in MODULES) for package in PACKAGES.values())


def test_no_module_is_longer_than_400_lines():
    long = {place(p): n for p in MODULES if (n := p.read_text().count("\n")) > MOST_LINES}
    assert long == {}


def test_no_function_is_longer_than_40_lines():
    """Its docstring is not counted: a longer promise is no smell."""
    long = {
        f"{place(path)}:{node.name}": lines
        for path, node in nodes((ast.FunctionDef, ast.AsyncFunctionDef))
        if (lines := _lines_without_docstring(node)) > MOST_FUNCTION_LINES
    }
    assert long == {}


def _lines_without_docstring(node):
    lines = node.end_lineno - node.lineno + 1
    if ast.get_docstring(node):
        lines -= node.body[0].end_lineno - node.body[0].lineno + 1
    return lines


def test_folders_are_at_most_two_deep():
    deep = {
        place(path)
        for package in PACKAGES.values()
        for path in package.rglob("*.py")
        if len(path.relative_to(package).parts) > MOST_FOLDERS
    }
    assert deep == set()


def test_every_module_says_what_it_is():
    silent = [place(path) for path in MODULES if not ast.get_docstring(tree(path))]
    assert silent == []


def test_everything_is_caught_only_where_a_reason_is_given():
    broad = {place(path) for path, node in nodes(ast.ExceptHandler) if _is_broad(node)}
    assert broad <= set(BROAD), "a new broad except needs a reason in BROAD"
    assert not {name for name in BROAD if name not in broad}, "an entry of BROAD is out of date"


def _is_broad(handler):
    """`except Exception` or wider that does not raise again at its end."""
    if handler.type is None:
        named = {"BaseException"}
    else:
        kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        named = {kind.id for kind in kinds if isinstance(kind, ast.Name)}
    last = handler.body[-1]
    again = isinstance(last, ast.Raise) and last.exc is None
    return bool(named & {"Exception", "BaseException"}) and not again


FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "random"}


def test_nothing_that_travelled_is_run_or_unpickled():
    found = []
    for path, node in nodes((ast.Call, ast.Import, ast.ImportFrom)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            bad = name in FORBIDDEN_CALLS or name in {"torch.load", "torch.jit.load", "np.load"}
            if bad and "allow_pickle=False" not in ast.unparse(node):
                found.append(f"{place(path)}:{node.lineno} {name}")
            continue
        names = _imported(node)
        found += [f"{place(path)}: {name}" for name in names if name in FORBIDDEN_MODULES]
    assert found == []


def _imported(node):
    if isinstance(node, ast.ImportFrom):
        return [(node.module or "").split(".")[0]]
    return [alias.name.split(".")[0] for alias in node.names]


def test_the_sides_share_the_protocol_and_nothing_else():
    """import-linter says the same in CI; this says it without being installed."""
    wrong = []
    for path, node in nodes((ast.Import, ast.ImportFrom)):
        own = next(name for name, package in PACKAGES.items() if package in path.parents)
        allowed = {own, "wardround"}
        strange = [n for n in _imported(node) if n in PACKAGES and n not in allowed]
        wrong += [f"{place(path)} imports {name}" for name in strange]
    assert wrong == []


AUDITOR = ("audit", "evidence", "evaluation", "privacy", "quality", "statistics", "study")


@pytest.mark.parametrize("part", AUDITOR)
def test_what_an_auditor_runs_needs_neither_torch_nor_flwr(part):
    heavy = {"torch", "flwr", "opacus", "pandas"}
    found = [
        f"{place(path)}: {name}"
        for path, node in nodes((ast.Import, ast.ImportFrom))
        if PACKAGES["wardround"] / part in path.parents
        for name in _imported(node)
        if name in heavy
    ]
    assert found == []


def test_every_silenced_check_gives_its_reason():
    """Beside the code (`# noqa: X - why`, the same for type: ignore) or in the comment above it."""
    silenced = re.compile(r"#\s*(noqa|type:\s*ignore)(.*)$")
    bare = []
    for path in MODULES:
        above = ""
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            found = silenced.search(line)
            if found and not any(map(_reason, (_after_codes(found[2]), above))):
                bare.append(f"{place(path)}:{number}")
            above = line.strip() if line.lstrip().startswith("#") else ""
    assert bare == []


def _reason(comment):
    return re.search(r"[#(-]\s*\w+.*\w+", comment)


def _after_codes(text):
    return re.sub(r"^\s*(\[[a-z, -]+\]|:\s*[A-Z]+[0-9]+(,\s*[A-Z]+[0-9]+)*)", "", text)


def test_no_file_holds_unfinished_work():
    words = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|raise NotImplementedError")
    found = [place(path) for path in MODULES if words.search(path.read_text())]
    assert found == []


def section(number):
    text = re.split(r"^## ", PROTOCOL, flags=re.MULTILINE)[number]
    assert text.startswith(f"{number}. ")
    return text


@pytest.mark.parametrize("kind", list(Kind))
def test_the_protocol_names_every_kind_of_message_with_its_fields(kind):
    rows = [row for row in section(6).splitlines() if row.startswith("|")]
    named = [row for row in rows if re.search(rf"\b{kind.value}\b", row.split("|")[1])]
    assert len(named) == 1, kind
    assert set(BODIES[kind].model_fields) <= set(re.findall(r"[a-z_]+", named[0]))


@pytest.mark.parametrize("code", list(RefusalCode))
def test_the_protocol_names_every_refusal_code(code):
    assert f"`{code.value}`" in section(7)


@pytest.mark.parametrize("entry", sorted({*COORDINATOR_TYPES, *HOSPITAL_TYPES}))
def test_the_protocol_names_every_entry_of_an_evidence_log(entry):
    assert re.search(rf"^\| {entry} \|", section(8), flags=re.MULTILINE)


def test_the_protocol_names_no_entry_that_the_code_does_not_write():
    rows = re.findall(r"^\| ([a-z-]+) \|", section(8), flags=re.MULTILINE)
    assert set(rows) == {*COORDINATOR_TYPES, *HOSPITAL_TYPES}


def test_the_protocol_names_every_field_of_a_round_spec():
    text = section(4)
    fields = RoundSpec.__dataclass_fields__
    assert [name for name in fields if not re.search(rf"\b{name}\b", text)] == []
