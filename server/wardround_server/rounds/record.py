"""What the coordinator keeps of a run: its evidence log, and a status file for whoever watches."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from wardround import __version__
from wardround.canonical import Json
from wardround.code_digest import OF_COORDINATOR, code_digests
from wardround.durable import replace_file
from wardround.evidence.entry import Entry, one_line
from wardround.evidence.log import EvidenceLog
from wardround.evidence.witness import WITNESSED, Witness
from wardround.masking.packing import packed_size
from wardround.masking.round_spec import Purpose, RoundSpec
from wardround.protocol.messages import Refusal
from wardround.protocol.specs import statistics_layout
from wardround.robust.suspicion import GroupedRound, suspected_of
from wardround.statistics.released import ReleasedStatistics
from wardround.study.manifest import Study
from wardround.study.own_model import with_own_model
from wardround.ticket import format_time
from wardround.times import AttemptTimes
from wardround_server.rounds.asked import AskedToSign
from wardround_server.rounds.attempt import Stage
from wardround_server.rounds.heads import HeadsShown
from wardround_server.rounds.post import Silence

_SHOW_EVERY_S = 0.25
_STEPS = {"round-closed", "round-combined"}
_HERE = {"hospital-joined", "update-received"}
_GONE = {"hospital-missed", "hospital-vanished", "update-rejected", "hospital-refused"}
_SUM_OPENED = {"statistics-closed", "evaluation-closed", *_STEPS}


@dataclass(slots=True)
class RunRecord:
    """Writes both. What happens within an attempt is on disk with the entry that ends it.

    Every other entry is when its method returns: opened, void and closed attempts among them.
    """

    study: Study
    run: str
    log: EvidenceLog
    status_file: Path
    status: Json = field(default_factory=dict)
    heads: HeadsShown = field(init=False)
    asked: AskedToSign = field(init=False)
    _times: AttemptTimes = field(init=False)
    _attempt: RoundSpec | None = None
    _transcripts: dict[RoundSpec, str] = field(default_factory=dict)
    _grouped: list[GroupedRound] | None = None
    _shown_s: float = float("-inf")
    _unshown: bool = False
    _pending: list[tuple[str, Json]] = field(default_factory=list)
    _witnesses: dict[str, Witness] = field(default_factory=dict)
    _started: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.heads = HeadsShown(self.log)
        self.asked = AskedToSign(self.status_file.with_name("asked-to-sign.json"))
        self._times = AttemptTimes(self.status_file.with_name("times.jsonl"))

    def opened(self) -> None:
        """A run begins, or goes on after a stop."""
        packages = with_own_model(OF_COORDINATOR, self.study.task)
        body = {"study_digest": self.study.digest, "run": self.run, "software": __version__}
        self._append("study-opened", body | {"code_digest": code_digests(packages)})
        self.show(state="joining", round=0)

    def joined(self, hospital: str, session: str, run_key: Json) -> None:
        """A hospital has checked study, policy and budget, and sent its run key."""
        body = {"hospital": hospital, "session": session, "run_key": run_key}
        self._append("hospital-joined", body)
        self._hospital(hospital, "joined")

    def refused(self, hospital: str, refusal: Refusal) -> None:
        """A hospital said no."""
        body: Json = {"hospital": hospital, "code": refusal.code.value}
        if refusal.epsilon_that_fits is not None:
            body["epsilon_that_fits"] = refusal.epsilon_that_fits
        self._append("hospital-refused", body)
        self._hospital(hospital, f"refused: {refusal.code}")

    def left_out(self, hospital: str, reason: str) -> None:
        """Outside the rounds, a hospital's answer was none: it is not in what follows."""
        self._append(
            "hospital-missed", {"transcript": None, "hospital": hospital, "reason": reason}
        )
        self._hospital(hospital, "left out")

    def round_opened(self, spec: RoundSpec) -> None:
        """An attempt begins; nothing was sent yet."""
        if self._attempt is None or self._attempt.partition != spec.partition:
            self._transcripts.clear()
        self._attempt = spec
        body = {"transcript": self.transcript_of(spec), "spec": spec.to_json()}
        self._append("round-opened", body)
        self.show(state=spec.purpose.value, round=spec.round, attempt=spec.attempt)

    def witness(self, hospital: str, note: str, key: bytes) -> tuple[str, Json] | None:
        """Check the head of a hospital's log against those seen before; the entry to log.

        Raises BadInput, BadSignature, or ProtocolViolation when its log was rewritten.
        """
        if hospital not in self._witnesses:
            self._witnesses[hospital] = Witness.of(
                self.log.entries(), actor=hospital, key=key, proven=False
            )
        return self._witnesses[hospital].check(note)

    def received(
        self,
        spec: RoundSpec,
        hospital: str,
        header: Json,
        signature: str,
        seen: tuple[str, Json] | None,
    ) -> None:
        """A checked update was added."""
        body = {
            "transcript": self.transcript_of(spec),
            "hospital": hospital,
            "header": header,
            "signature": signature,
            "bytes": packed_size(spec.lanes, spec.bits),
        }
        self._pending.append(("update-received", body))
        self.saw(seen)
        self._hospital(hospital, _answered(spec))

    def saw(self, seen: tuple[str, Json] | None) -> None:
        """What `witness` returned, to be logged: of an attempt each hospital's newest head.

        It covers the entries of those before it.
        """
        if seen is None:
            return
        self._pending = [
            (kind, body)
            for kind, body in self._pending
            if (kind, body.get("actor")) != (WITNESSED, seen[1]["actor"])
        ]
        self._pending.append(seen)

    def rejected(self, spec: RoundSpec, hospital: str, reason: str) -> None:
        """An update was not what the protocol says; it was not added."""
        self._in_attempt("update-rejected", spec, hospital, reason=reason)
        self._hospital(hospital, "rejected")

    def missed(self, spec: RoundSpec, silence: Silence) -> None:
        """A hospital of the cohort did not contribute."""
        self._in_attempt("hospital-missed", spec, silence.hospital, reason=silence.reason.value)
        self._hospital(silence.hospital, silence.reason.value)

    def vanished(self, spec: RoundSpec, silence: Silence, stage: Stage) -> None:
        """A hospital whose update is among the survivors' did not answer in a later stage."""
        self._in_attempt("hospital-vanished", spec, silence.hospital, stage=stage.value)
        self._hospital(silence.hospital, silence.reason.value)

    def share_rejected(self, spec: RoundSpec, hospital: str, reason: str) -> None:
        """What a hospital gave to open the sum, or dealt for it, does not fit what was signed."""
        self._in_attempt("share-rejected", spec, hospital, reason=one_line(reason))

    def survivors_agreed(
        self, spec: RoundSpec, survivors: Sequence[str], signatures: Mapping[str, str]
    ) -> None:
        """Whose updates are in the sum that was opened, and who signed for it (hex, by name)."""
        body = {
            "transcript": self.transcript_of(spec),
            "survivors": list(survivors),
            "signatures": dict(signatures),
        }
        self._pending.append(("survivors-agreed", body))

    def void(self, spec: RoundSpec, reason: str) -> None:
        """The attempt's sum cannot be opened."""
        body = {"transcript": self.transcript_of(spec), "reason": one_line(reason)}
        self._append("attempt-void", body)

    def group_closed(self, spec: RoundSpec, sum_digest: str) -> None:
        """The sum of one group was opened."""
        body = {"transcript": self.transcript_of(spec), "sum_digest": sum_digest}
        self._pending.append(("group-closed", body))

    def not_combined(self, reason: str) -> None:
        """Too few groups opened for a step: what is known of the attempt is all there will be."""
        self._append_many(self._pending)
        self._pending.clear()
        self.show(note=reason)

    def grouped(self, groups: GroupedRound) -> None:
        """A round of groups is over: for whoever watches, who is suspected by all rounds so far."""
        if self._grouped is None:
            self._grouped = _grouped_rounds(self.log.entries())
        self._grouped.append(groups)
        found = suspected_of(self._grouped, self.study.names())
        self.show(suspected={each.hospital: each.in_words() for each in found})

    def round_closing(
        self, kind: str, body: Json, *, before: str, after: str
    ) -> tuple[tuple[str, Json], ...]:
        """The entries by which the model takes its step, for `round_closed` when it is on disk.

        `body` says by which sums, in an entry of this kind.
        """
        moved = {**body, "model_before": before, "model_after": after}
        closing = (*self._pending, (kind, moved))
        self._pending.clear()
        return closing

    def round_closed(self, closing: Sequence[tuple[str, Json]]) -> None:
        """The model took its step; a void attempt has nothing to close."""
        if closing:
            self._append_many(closing)

    def catch_up(self, closing: Sequence[tuple[str, Json]]) -> None:
        """Log what a checkpoint says and a stop kept from the log."""
        due = {_sums_in(body) for kind, body in closing if kind in _STEPS}
        if due - {_sums_in(e.body) for e in self.log.entries() if e.type in _STEPS}:
            self._append_many(closing)

    def took(self, seconds: float) -> None:
        """The last training attempt is over, checkpoint written: so long it took, all in all."""
        if self._attempt is not None:
            self._times.note(self._attempt, seconds=seconds)
        self.status["last_round_s"] = round(seconds, 3)

    def statistics_closed(self, spec: RoundSpec, sum_digest: str, sums: list[int]) -> None:
        """The noised sums of all patients."""
        body = {"transcript": self.transcript_of(spec), "sum_digest": sum_digest, "sums": sums}
        self._append("statistics-closed", body)

    def opened_for(self, purpose: Purpose, round_number: int) -> int:
        """The last attempt of this round that was opened, before a stop too; 0 for none.

        Its entry is on disk before anybody is asked: a stopped run asks for no attempt twice.
        """
        specs = [e.body["spec"] for e in self.log.entries() if e.type == "round-opened"]
        due = (purpose, round_number)
        return max((s["attempt"] for s in specs if (s["purpose"], s["round"]) == due), default=0)

    def released(self) -> ReleasedStatistics | None:
        """The statistics that were opened, or None."""
        entries = self.log.entries()
        closed = [entry.body for entry in entries if entry.type == "statistics-closed"]
        if not closed:
            return None
        transcript = closed[-1]["transcript"]
        value = {
            "hospitals": len(_in_sums(entries)[transcript]),
            "asked": len(_asked(entries)[transcript]),
            "sums": closed[-1]["sums"],
        }
        return ReleasedStatistics.from_json(value, statistics_layout(self.study))

    def evaluation_closed(self, spec: RoundSpec, sum_digest: str, counts: list[int]) -> None:
        """The pooled counts of the held-out patients."""
        body = {
            "transcript": self.transcript_of(spec),
            "sum_digest": sum_digest,
            "counts": counts,
        }
        self._append("evaluation-closed", body)

    def compared(self, stated: Json) -> None:
        """A rehearsal's comparison, once in a run, before a stop too."""
        if not any(entry.type == "comparison" for entry in self.log.entries()):
            self._append("comparison", {"run": self.run, **stated})

    def closed(self, rounds: int, model: str) -> list[str]:
        """The last entry of a run; returns the hospitals that were in every sum."""
        completed = self._completed()
        body = {"rounds": rounds, "hospitals_completed": completed, "model": model}
        self._append("run-closed", body)
        return completed

    def _completed(self) -> list[str]:
        """From the log itself, so that a resumed run counts its earlier rounds too."""
        entries = self.log.entries()
        in_sums = _in_sums(entries)
        opened = [
            frozenset().union(*(in_sums[transcript] for transcript in _sums_in(e.body)))
            for e in entries
            if e.type in _SUM_OPENED
        ]
        return sorted(frozenset.intersection(*opened)) if opened else []

    def evaluated(self) -> bool:
        """Whether an evaluation was opened, before a stop too."""
        return any(entry.type == "evaluation-closed" for entry in self.log.entries())

    def last_seen(self) -> frozenset[str]:
        """Hospitals of which the log's last word is that they were there, before a stop too."""
        there: dict[str, bool] = {}
        for entry in self.log.entries():
            if entry.type in _HERE or entry.type in _GONE:
                there[entry.body["hospital"]] = entry.type in _HERE
        return frozenset(name for name, here in there.items() if here)

    def missing(self, why: Mapping[str, str]) -> None:
        """For whoever watches: who of the roster does not take part now, and why."""
        self.status["missing"] = dict(sorted(why.items()))
        self._unshown = True

    def waiting(self, why: Mapping[str, str]) -> None:
        """For whoever watches: for whom a session waits, why, and since when; empty for nobody."""
        if dict(why) == self.status.get("waiting_for", {}):
            return
        if not self.status.get("waiting_for"):
            self.status["waiting_since"] = format_time(datetime.now(UTC))
        self.status["waiting_for"] = dict(sorted(why.items()))
        self._unshown = True
        self.refresh()

    def show(self, **changes: object) -> None:
        """Refresh the status file: no secret and no hospital's number is in it."""
        self.status |= changes
        self._shown_s, self._unshown = time.monotonic(), False
        self.status["seconds"] = round(self._shown_s - self._started, 3)
        replace_file(self.status_file, json.dumps(self.status).encode())

    def refresh(self) -> None:
        """Show what has changed since the file was written, now and then: a disk may be slow."""
        if self._unshown and time.monotonic() >= self._shown_s + _SHOW_EVERY_S:
            self.show()

    def _in_attempt(self, kind: str, spec: RoundSpec, hospital: str, **more: str) -> None:
        body = {"transcript": self.transcript_of(spec), "hospital": hospital, **more}
        self._pending.append((kind, body))

    def transcript_of(self, spec: RoundSpec) -> str:
        """In hex; hashed once: every entry of an attempt asks."""
        if spec not in self._transcripts:
            self._transcripts[spec] = spec.transcript().hex()
        return self._transcripts[spec]

    def _hospital(self, hospital: str, state: str) -> None:
        self.status["hospitals"] = {**self.status.get("hospitals", {}), hospital: state}
        self._unshown = True
        self.refresh()

    def _append(self, kind: str, body: Json) -> None:
        self._append_many([*self._pending, (kind, body)])
        self._pending.clear()

    def _append_many(self, entries: Sequence[tuple[str, Json]]) -> None:
        self.log.append_many(entries, time=datetime.now(UTC))
        for witness in self._witnesses.values():
            witness.logged(entries)


def _answered(spec: RoundSpec) -> str:
    """For whoever watches, who counts rounds from 1."""
    words = {Purpose.STATISTICS: "counted", Purpose.EVALUATE: "evaluated"}
    return words.get(spec.purpose, f"round {spec.round + 1}")


def _in_sums(entries: Sequence[Entry]) -> dict[str, frozenset[str]]:
    """By transcript: the survivors that were agreed, else the whole cohort."""
    agreed = {
        entry.body["transcript"]: frozenset(entry.body["survivors"])
        for entry in entries
        if entry.type == "survivors-agreed"
    }
    return _asked(entries) | agreed


def _asked(entries: Sequence[Entry]) -> dict[str, frozenset[str]]:
    """By transcript: the cohort."""
    return {
        entry.body["transcript"]: frozenset(entry.body["spec"]["cohort"])
        for entry in entries
        if entry.type == "round-opened"
    }


def _sums_in(body: Json) -> tuple[str, ...]:
    """The transcripts of the sums that an entry is about: a round's groups, or its one sum."""
    return tuple(body.get("transcripts") or (body["transcript"],))


def _grouped_rounds(entries: Sequence[Entry]) -> list[GroupedRound]:
    in_sums, found = _in_sums(entries), []
    for entry in entries:
        if entry.type == "round-combined":
            transcripts = _sums_in(entry.body)
            groups = tuple(tuple(sorted(in_sums[each])) for each in transcripts)
            flagged = frozenset(transcripts.index(each) for each in entry.body["flagged"])
            found.append(GroupedRound(groups, flagged))
    return found
