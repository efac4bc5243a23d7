"""A coordinator that asks for what it must not have, as a process: `DIRECTORY ANSWERS`.

It is the real service. But before an honest question it asks its hospitals, over the same gateway,
what would take a sum apart, and writes down what each answered: one JSON object a line. Then it
goes on as if nothing had been.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.hostile_hospital import environment_of_tests
from tests.support.machine import listens
from tests.support.small_federation import Federation, until

from wardround.canonical import Json
from wardround.identity import Identity
from wardround.masking.quantise import largest_limit
from wardround.masking.round_spec import Profile, threshold_of
from wardround.masking.run_key import RunKey, sign_run_key
from wardround.protocol.messages import (
    Agree,
    Body,
    Refusal,
    Reveal,
    Revealed,
    Survivors,
    Work,
)
from wardround.randomness import system_randomness
from wardround_server.home import CoordinatorHome
from wardround_server.rounds.post import Post, Silence
from wardround_server.service import Coordinator

Asked = Mapping[str, Body]
Probe = Callable[[Asked], Asked]
_DEADLINE_S = 20.0


# --- what it asks before it shows the directory ---


def sybil_directory(asked: Asked) -> Asked:
    """A hospital more, whose key it made itself: not on the roster."""
    return {name: _with_entry(body, "sybil", added=True) for name, body in asked.items()}


def replaced_key(asked: Asked) -> Asked:
    """For everybody else, the first hospital's run key is one that the coordinator made."""
    first = min(asked)
    return {n: _with_entry(body, first, added=False) for n, body in asked.items() if n != first}


def _with_entry(body: Body, name: str, *, added: bool) -> Body:
    assert isinstance(body, Agree)
    key = RunKey.generate(system_randomness)
    signed = sign_run_key(
        Identity.generate(), key, run=body.run, session=body.session, hospital=name
    )
    kept = [entry for entry in body.directory if added or entry["hospital"] != name]
    entries = sorted([*kept, signed.to_json()], key=lambda entry: str(entry["hospital"]))
    return body.model_copy(update={"directory": tuple(entries)})


# --- before the work ---


def threshold_of_one(asked: Asked) -> Asked:
    """One answer would be enough to open the sum."""
    return {name: _with_spec(body, threshold=1) for name, body in asked.items()}


def cohort_of_one(asked: Asked) -> Asked:
    """A sum over the hospital alone."""
    return {n: _with_spec(b, cohort=[n], partition=[[n]]) for n, b in asked.items()}


def sybil_in_cohort(asked: Asked) -> Asked:
    """A sum with a hospital that the coordinator plays itself."""
    found = {}
    for name, body in asked.items():
        assert isinstance(body, Work)
        cohort = sorted([*body.spec["cohort"], "sybil"])
        found[name] = _with_spec(
            body,
            cohort=cohort,
            partition=[cohort],
            threshold=threshold_of(Profile.DOUBLE_MASK, len(cohort), 3),
            limit=largest_limit(len(cohort)),
        )
    return found


def _with_spec(body: Body, **changes: object) -> Body:
    assert isinstance(body, Work)
    return body.model_copy(update={"spec": {**body.spec, **changes}})


# --- before it asks for signatures ---


def too_few_survivors(asked: Asked) -> Asked:
    """The hospital and one other."""
    found = {}
    for name, body in asked.items():
        assert isinstance(body, Survivors)
        other = min(set(body.survivors) - {name})
        found[name] = _without(body, *set(body.survivors) - {name, other})
    return found


def survivors_without_it(asked: Asked) -> Asked:
    """It has uploaded, and is said to have dropped out."""
    return {name: _without(body, name) for name, body in asked.items()}


def shares_of_another(asked: Asked) -> Asked:
    """The shares that are sealed for a peer."""
    names = sorted(asked)
    found = {}
    for name, body in asked.items():
        other = asked[names[names.index(name) - 1]]
        assert isinstance(body, Survivors)
        assert isinstance(other, Survivors)
        shares = {n: other.shares.get(n, share) for n, share in body.shares.items()}
        found[name] = body.model_copy(update={"shares": shares})
    return found


def _without(body: Body, *names: str) -> Survivors:
    assert isinstance(body, Survivors)
    return body.model_copy(
        update={
            "survivors": tuple(n for n in body.survivors if n not in names),
            "headers": {n: header for n, header in body.headers.items() if n not in names},
            "shares": {n: share for n, share in body.shares.items() if n not in names},
        }
    )


# --- before it asks to reveal ---


def both_secrets(asked: Asked) -> Asked:
    """Shares of what masks the first hospital's update alone, as if it had vanished."""
    first = min(asked)
    return {n: _with_reveal(b, vanished=(first,)) for n, b in asked.items() if n != first}


def itself_vanished(asked: Asked) -> Asked:
    """Each is told that it has vanished itself."""
    return {name: _with_reveal(body, vanished=(name,)) for name, body in asked.items()}


def most_vanished(asked: Asked) -> Asked:
    """All the others have vanished."""
    return {n: _with_reveal(b, vanished=tuple(sorted(set(asked) - {n}))) for n, b in asked.items()}


def few_signatures(asked: Asked) -> Asked:
    """The hospital's own signature and one more."""
    return {n: _with_reveal(b, signatures=_some(b, 2)) for n, b in asked.items()}


def exchanged_signatures(asked: Asked) -> Asked:
    """Each signature under its neighbour's name."""
    found = {}
    for name, body in asked.items():
        assert isinstance(body, Reveal)
        names = sorted(body.signatures)
        moved = {n: body.signatures[names[i - 1]] for i, n in enumerate(names)}
        found[name] = _with_reveal(body, signatures=moved)
    return found


def another_session(asked: Asked) -> Asked:
    """The same attempt in a session that this process did not join."""
    return {name: _with_reveal(body, session="0" * 32) for name, body in asked.items()}


def _some(body: Body, count: int) -> dict[str, str]:
    assert isinstance(body, Reveal)
    return dict(sorted(body.signatures.items())[:count])


def _with_reveal(body: Body, **changes: object) -> Body:
    assert isinstance(body, Reveal)
    return body.model_copy(update=changes)


PROBES: dict[type[Body], tuple[Probe, ...]] = {
    Agree: (sybil_directory, replaced_key),
    Work: (threshold_of_one, cohort_of_one, sybil_in_cohort),
    Survivors: (too_few_survivors, survivors_without_it, shares_of_another),
    Reveal: (
        *(both_secrets, itself_vanished, most_vanished, few_signatures),
        *(exchanged_signatures, another_session),
    ),
}


class Evil:
    """Puts its probes before the first honest question of each kind, and notes the answers."""

    def __init__(self, answers: Path) -> None:
        self._answers = answers
        self._asked: set[type[Body]] = set()
        self._signed_for: Asked = {}
        self._ask, self._ask_each = Post.ask, Post.ask_each

    def install(self) -> None:
        """From now on every letter of this process goes through here."""
        evil = self

        def ask(
            post: Post, hospitals: Sequence[str], body: Body, vector: Any = None, **how: Any
        ) -> Iterator[Any]:
            evil.before(post, dict.fromkeys(hospitals, body), vector)
            return evil._ask(post, hospitals, body, vector, **how)

        def ask_each(post: Post, bodies: Asked, vector: Any = None, **how: Any) -> Iterator[Any]:
            evil.before(post, bodies, vector)
            return evil._ask_each(post, bodies, vector, **how)

        setattr(Post, "ask", ask)  # noqa: B010  # mypy: a method is not assigned
        setattr(Post, "ask_each", ask_each)  # noqa: B010

    def before(self, post: Post, bodies: Asked, vector: Any) -> None:
        """Ask what must not be asked, once for each kind of question."""
        kind = type(next(iter(bodies.values())))
        if kind in self._asked:
            return
        self._asked.add(kind)
        for probe in PROBES.get(kind, ()):
            self._try(post, probe.__name__, probe(bodies), vector)
        if kind is Survivors:
            self._signed_for = bodies
        if kind is Reveal:
            first = min(self._signed_for)
            others = {n: _without(b, first) for n, b in self._signed_for.items() if n != first}
            self._try(post, "second_set", others, None)

    def _try(self, post: Post, probe: str, bodies: Asked, vector: Any) -> None:
        with self._answers.open("a") as file:
            for name, body in sorted(bodies.items()):
                answers = self._ask(
                    post, [name], body, vector, message_type="query", deadline_s=_DEADLINE_S
                )
                for answer in answers:
                    told = {"probe": probe, "hospital": name, **_said(answer)}
                    file.write(json.dumps(told) + "\n")


def _said(answer: Any) -> Json:
    if isinstance(answer, Silence):
        return {"said": answer.reason.value, "detail": answer.detail}
    if isinstance(answer.body, Refusal):
        return {"said": answer.body.code.value, "names": answer.body.hospital}
    if isinstance(answer.body, Revealed):
        shares = {name: len(words) for name, words in answer.body.shares.items()}
        return {"said": "revealed", "pairs": sorted(answer.body.pair_keys), "shares": shares}
    return {"said": type(answer.body).__name__}


@contextmanager
def evil_coordinator(ward: Federation, answers: Path) -> Iterator[None]:
    """In the place of the federation's coordinator, with its keys; the honest one comes back."""
    ward.kill("coordinator")
    words = ["-m", "tests.support.evil_coordinator", str(ward.home.directory), str(answers)]
    with (ward.folder / "logs" / "evil.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, *words],
            env=environment_of_tests(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        until("the evil coordinator listens", lambda: listens(ward.home.settings().port))
        yield
    finally:
        process.kill()
        process.wait()
        ward.start_coordinator()


def main() -> None:
    """Serve until it is killed."""
    directory, answers = map(Path, sys.argv[1:])
    Evil(answers).install()
    Coordinator(CoordinatorHome(directory)).serve(once=False)


if __name__ == "__main__":
    main()
