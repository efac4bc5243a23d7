"""The product's randomness is the operating system's; no file, option or variable changes it."""

import ast
import functools
import os
import re
import subprocess
import sys
import typing
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from pydantic import BaseModel
from scipy import stats

from wardround import randomness as randomness_module
from wardround.cli.main import COMMANDS, load
from wardround.protocol.messages import Close, Open, Work
from wardround.randomness import system_randomness, words
from wardround.study.manifest import Study
from wardround_client.data.description import DatasetDescription
from wardround_client.policy import Policy

ROOT = Path(__file__).parents[2]
SOURCES = [ROOT / "shared" / "wardround", ROOT / "client" / "wardround_client"]
MODULES = sorted(path for source in SOURCES for path in source.rglob("*.py"))
CHOOSING = re.compile(r"seed|random|determin|reproduc|generator|entropy", re.IGNORECASE)


@pytest.mark.parametrize("count", [0, 1, 3, 1023, 1024, 1025, 1027, 100_001])
def test_exactly_as_many_bytes_come_as_were_asked_for(count):
    assert len(system_randomness(count)) == count


def test_a_large_draw_is_aes_256_in_counter_mode_under_a_key_of_the_operating_system(monkeypatch):
    asked = []

    def known_key(count):
        asked.append(count)
        return bytes(range(count))

    monkeypatch.setattr(randomness_module.os, "urandom", known_key)
    drawn = system_randomness(300_001)
    counter = bytes(15) + b"\x02"
    cipher = Cipher(algorithms.AES256(bytes(range(32))), modes.CTR(counter)).encryptor()
    assert asked == [32]
    assert drawn == cipher.update(bytes(300_001))


def test_every_large_draw_has_a_key_of_its_own():
    drawn = [system_randomness(4096) for _ in range(50)]
    blocks = {draw[start : start + 16] for draw in drawn for start in range(0, 4096, 16)}
    assert len(blocks) == 50 * 256


def test_the_generator_keeps_no_state_between_draws():
    """What is not kept cannot be forked, restored from a snapshot or read afterwards."""
    before = dict(vars(randomness_module))
    system_randomness(100_000)
    assert dict(vars(randomness_module)) == before
    assert system_randomness.__closure__ is None
    assert not hasattr(system_randomness, "__self__")


def test_a_forked_process_draws_other_numbers():
    first_in_parent = system_randomness(4096)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, system_randomness(4096))
        os._exit(0)
    os.waitpid(child, 0)
    of_child = os.read(read, 4096)
    os.close(read)
    os.close(write)
    blocks = {
        draw[start : start + 16]
        for draw in (first_in_parent, of_child, system_randomness(4096))
        for start in range(0, 4096, 16)
    }
    assert len(blocks) == 3 * 256


def test_the_bytes_are_uniform_and_six_percent_off_is_rejected():
    counts = np.bincount(np.frombuffer(system_randomness(4_000_000), np.uint8), minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-6
    counts[77:90] = np.round(1.06 * counts[77:90])
    assert stats.chisquare(counts).pvalue < 1e-6


def test_words_take_eight_bytes_each_and_share_none():
    asked = []

    def counting(count):
        asked.append(count)
        return system_randomness(count)

    assert len(np.unique(words(1000, counting))) == 1000
    assert asked == [8000]


@functools.cache
def trees():
    return [(path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())) for path in MODULES]


def fields(model, path):
    """Every field of a model and of the models in it, by the names it is written with."""
    for name, about in model.model_fields.items():
        yield f"{path}.{about.alias or name}"
        for part in models_in(about.annotation):
            yield from fields(part, f"{path}.{name}")


def models_in(annotation):
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in typing.get_args(annotation):
        yield from models_in(part)


def test_no_field_of_a_study_a_policy_a_dataset_or_a_message_chooses_randomness():
    found = [
        field
        for model in (Study, Policy, DatasetDescription, Open, Work, Close)
        for field in fields(model, model.__name__)
    ]
    due = {"Study.privacy.sampling_rate", "Study.training.server.beta_1", "Policy.mechanisms"}
    assert due <= set(found)
    assert [field for field in found if CHOOSING.search(field)] == []


def test_no_option_of_the_command_line_chooses_randomness():
    found = list(parameters())
    assert len(found) > 40
    assert [parameter for parameter in found if CHOOSING.search(parameter)] == []


def parameters():
    """Names, options and environment variables of every parameter of every command."""
    left = [(name, load(name)) for name in COMMANDS]
    while left:
        path, command = left.pop()
        for parameter in command.params:
            yield f"{path} {parameter.name} {parameter.opts} {parameter.envvar or ''}"
        left += [(f"{path} {name}", one) for name, one in getattr(command, "commands", {}).items()]


def test_no_environment_variable_is_read_that_chooses_randomness():
    found = []
    for place, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                value = node.value
                if re.fullmatch(r"[A-Z][A-Z0-9_]{3,}", value) and CHOOSING.search(value):
                    found.append(f"{place}:{node.lineno} {value}")
    assert found == []


# What may stand where randomness is handed on: the argument that came in, or the system's. The
# last is `vmap`'s word for a layer's own, such as dropout's.
HANDED_ON = re.compile(
    r"((self|run|admission)\.)?_?randomness|system_randomness|field\(repr=False\)|'different'"
)


def test_randomness_is_only_ever_the_argument_that_came_in_or_the_operating_systems():
    given = [
        (f"{place}:{value.lineno}", ast.unparse(value))
        for place, tree in trees()
        for node in ast.walk(tree)
        for value in _randomness_of(node)
    ]
    assert len(given) > 20
    assert [one for one in given if not HANDED_ON.fullmatch(one[1])] == []


def _randomness_of(node):
    """Values given to something called randomness: in a call, as a default, as an attribute."""
    if isinstance(node, ast.Call):
        yield from (k.value for k in node.keywords if k.arg in {"randomness", "_randomness"})
    if isinstance(node, ast.FunctionDef):
        arguments = [*node.args.posonlyargs, *node.args.args]
        defaults = [None] * (len(arguments) - len(node.args.defaults)) + node.args.defaults
        pairs = [*zip(arguments, defaults, strict=True)]
        pairs += zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
        yield from (value for name, value in pairs if name.arg == "randomness" and value)
    if isinstance(node, ast.AnnAssign | ast.Assign) and node.value is not None:
        targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
        if any(ast.unparse(target).endswith("randomness") for target in targets):
            yield node.value


# A generator with a seed, and why it may be there: none of them makes noise or draws patients.
SEEDED = {
    "shared/wardround/models/networks.py": "the public starting values of a network",
    "shared/wardround/models/generating.py": "the coordinator's public draws: post-processing",
    "shared/wardround/models/synthetic.py": "which synthetic records a released model gives",
    "shared/wardround/models/registered.py": "a made-up record that an own model is tried with",
    "shared/wardround/models/onnx_export.py": "drawn records that an exported file is tried with",
}
SEEDING = re.compile(
    r"\b(np|numpy)\.random\b|default_rng|RandomState|manual_seed|torch\.(rand|randn|normal|"
    r"randint|randperm|bernoulli|Generator)\b|\.(normal_|uniform_|bernoulli_)\("
)


def test_no_other_generator_is_in_the_product():
    found = {
        place for place, tree in trees() if SEEDING.search(ast.unparse(_without_docstrings(tree)))
    }
    assert found == set(SEEDED)


def _without_docstrings(tree):
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            first.value.value = ""
    return tree


def test_the_hospital_draws_from_the_operating_system():
    from wardround_client.hospital import Hospital

    assert Hospital.__dataclass_fields__["randomness"].default is system_randomness
    at = ast.unparse(ast.parse((SOURCES[1] / "hospital.py").read_text()))
    assert "home.coordinator_key(), times)" in at  # `Hospital.at` names no other


def test_neither_opacus_nor_pytorchs_compiler_is_loaded_by_a_hospital_that_trains():
    code = (
        "import sys, wardround_client.hospital\n"
        "from tests.support.training_steps import trained\n"
        "trained()\n"
        "sys.exit(not {'opacus', 'torch._dynamo'}.isdisjoint(sys.modules))"
    )
    paths = ":".join(str(path) for path in (ROOT / "shared", ROOT / "client", ROOT))
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert done.returncode == 0
