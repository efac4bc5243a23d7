"""The four verdicts of a verification, and what failed where."""

from collections.abc import Iterator
from dataclasses import dataclass

from wardround.audit.sign_off import CONTROL, SignOff
from wardround.canonical import Json

BUNDLE = "bundle"
WITHHELD = "redacted"


@dataclass(frozen=True, slots=True)
class Failure:
    """One reason why a verdict is not ok: a name for it, the log or member, the entry, the text."""

    code: str
    log: str
    seq: int | None
    reason: str

    def __str__(self) -> str:
        """One line for a terminal.

        A reason quotes what a forger wrote: nothing of it may move the cursor up to the verdicts.
        """
        place = self.log if self.seq is None else f"{self.log}, entry {self.seq}"
        text = f"{place}: {self.code}: {self.reason}"
        return CONTROL.sub(lambda found: f"\\u{ord(found.group()):04x}", text)

    def to_json(self) -> Json:
        """The JSON object of `--json`."""
        return {"code": self.code, "log": self.log, "seq": self.seq, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class Verdict:
    """One of the four; ok exactly when nothing failed."""

    name: str
    failures: tuple[Failure, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    @property
    def word(self) -> str:
        """ok, FAILED, or redacted: what is there holds, and what is withheld cannot be checked."""
        if self.ok:
            return "ok"
        withheld = all(failure.code == WITHHELD for failure in self.failures)
        return "redacted" if withheld else "FAILED"

    def to_json(self) -> Json:
        """The JSON object of `--json`."""
        return {"ok": self.ok, "failures": [failure.to_json() for failure in self.failures]}


@dataclass(frozen=True, slots=True)
class Stamped:
    """A time stamp that holds: when, by whose word, and whether that one was asked for."""

    time: str
    authority: str
    checked: bool

    def in_words(self) -> str:
        """One line for a terminal."""
        if self.checked:
            return f"{self.time}, {self.authority}: the coordinator's log stood as it is"
        return f"{self.time}, {self.authority}, not checked: give --timestamp-authority CA.pem"

    def to_json(self) -> Json:
        """The JSON object of `--json`."""
        return {"time": self.time, "authority": self.authority, "checked": self.checked}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """Everything that a verification says.

    `rests_on` are the fingerprints that everything depends on; `pinned` are the parties among
    them that were compared with values from outside the bundle. Without a pin a forged bundle
    that agrees with itself cannot be told from an honest one. `sign_offs` are the officers'
    decisions that their hospitals' keys signed over this very report, `time_stamps` those that
    hold; no verdict depends on whether there are any.
    """

    authentic: Verdict
    intact: Verdict
    complete: Verdict
    recomputed: Verdict
    rests_on: tuple[tuple[str, str], ...]
    pinned: frozenset[str]
    remarks: tuple[str, ...] = ()
    sign_offs: tuple[SignOff, ...] = ()
    time_stamps: tuple[Stamped, ...] = ()

    @property
    def four(self) -> tuple[Verdict, ...]:
        """The verdicts in the order in which they are printed."""
        return (self.authentic, self.intact, self.complete, self.recomputed)

    @property
    def ok(self) -> bool:
        """Whether all four hold."""
        return all(verdict.ok for verdict in self.four)

    def lines(self) -> Iterator[str]:
        """The verdicts for a terminal: each failure with its place, then what all rests on."""
        for verdict in self.four:
            yield f"{verdict.name:<11} {verdict.word}"
            yield from (f"    {failure}" for failure in verdict.failures)
        yield from (f"remark      {remark}" for remark in self.remarks)
        yield from (f"sign-off    {decided.in_words()}" for decided in self.sign_offs)
        if not self.sign_offs:
            yield "sign-off    by no hospital in this bundle"
        yield from (f"time stamp  {stamped.in_words()}" for stamped in self.time_stamps)
        if not self.time_stamps:
            yield "time stamp  none"
        for party, key in self.rests_on:
            yield f"key         {key}  {party}{' (pinned)' if party in self.pinned else ''}"
        if not self.pinned:
            yield (
                "No fingerprint was given. All of this rests on the keys above: compare them with "
                "values that reached you on another way (--coordinator-key, --roster)."
            )

    def to_json(self) -> Json:
        """The JSON object of `--json`."""
        return {
            **{verdict.name: verdict.to_json() for verdict in self.four},
            "ok": self.ok,
            "rests_on": dict(self.rests_on),
            "pinned": sorted(self.pinned),
            "remarks": list(self.remarks),
            "sign_offs": [decided.model_dump(mode="json") for decided in self.sign_offs],
            "time_stamps": [stamped.to_json() for stamped in self.time_stamps],
        }
