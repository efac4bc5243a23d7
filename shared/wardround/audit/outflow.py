"""What left each hospital, and what no mechanism of this run protects."""

from collections.abc import Iterable, Iterator, Mapping

from wardround.audit.attempts import Attempt, Release
from wardround.audit.comparisons import NOT_COVERED
from wardround.audit.evidence import Evidence
from wardround.audit.report_model import Figure, Outflow, logged, not_available, recomputed
from wardround.evaluation.beside import BesideLayout
from wardround.evaluation.layouts import layout_of
from wardround.masking.round_spec import Profile, Purpose
from wardround.protocol.weighting import weighs_patients
from wardround.study.contract import LabelKind
from wardround.study.manifest import Mechanism, Study

_MEGABYTE = 1e6


def outflow_of(
    evidence: Evidence,
    attempts: tuple[Attempt, ...],
    releases: Mapping[str, tuple[Release, ...]],
) -> tuple[Outflow, ...]:
    """One line per hospital of the roster: messages, bytes and in which form."""
    return tuple(
        _line(evidence, name, attempts, releases.get(name)) for name in evidence.study.names()
    )


_WEIGHTED = (
    "About how many patients trained at all hospitals together, and their training loss: opened "
    "exactly, round by round, to the coordinator."
)


_SYNTHETIC = (
    "Synthetic records: that nobody lived them makes none anonymous. Epsilon limits what they tell "
    "of one patient; groups, small and rare ones too, show in them."
)
_SYNTHETIC_WITHOUT_NOISE = (
    "Synthetic records: their generator learnt without noise, so that one may repeat what a "
    "patient's record said. Handle them as patients' data."
)


_ALWAYS = (
    "That a hospital takes part, in which rounds, and when it dropped out: the logs show it.",
    "Timing: when a hospital answered, and how long it took.",
    "The model's architecture and every setting of the study: they are public.",
    "The trained model itself, for whoever holds it: what it learnt about groups is its aim.",
    "A patient treated at two hospitals: each hospital's epsilon counts for itself.",
    "Facts about a group (a disease is common at a hospital): privacy of a person does not "
    "hide them.",
)


def not_protected(
    study: Study,
    *,
    without_noise: bool,
    attacked: bool = False,
    described: bool = False,
    compared: bool = False,
) -> tuple[str, ...]:
    """What epsilon and masks do not cover. Never empty: something always shows.

    `attacked` is whether a log tells how attacks on this run's model went, `described` whether one
    tells what a hospital's data are like, `compared` whether a rehearsal's tells of other models.
    """
    lines = [*_ALWAYS]
    if study.evaluation.counts == "exact" and study.rounds.count:
        lines.insert(
            0,
            "Held-out patients' evaluation counts: opened exactly, pooled over hospitals. No "
            "epsilon covers them.",
        )
        lines[1:1] = _counted_apart(study)
    told = _of_own_patients(attacked=attacked, described=described, compared=compared)
    lines = [*told, *lines]
    if study.privacy.mechanism is not Mechanism.LOCAL:
        lines.insert(0, _against_many(study))
    if study.robust is not None:
        lines.insert(0, _of_groups(study))
    if weighs_patients(study):
        lines.insert(0, _WEIGHTED)
    if study.made_from is not None:
        lines.insert(0, _SYNTHETIC_WITHOUT_NOISE if without_noise else _SYNTHETIC)
    if study.privacy.unit == "record":
        lines.insert(0, "A patient with several records: epsilon counts one record only.")
    if without_noise:
        lines.insert(
            0,
            "EVERY PATIENT: updates carried no noise, so that the sums and the model may reveal "
            "who was in the data and what the records said.",
        )
    return tuple(lines)


def _counted_apart(study: Study) -> Iterator[str]:
    """What exact counts say of groups, which hospitals do not count where they are small."""
    plan = study.evaluation
    if plan.subgroups:
        names = ", ".join(grouping.name for grouping in plan.subgroups)
        two = study.contract.label.kind in {LabelKind.BINARY, LabelKind.NONE}
        yield (
            f"The same counts for groups by {names}, of {plan.smallest_group} patients or more of "
            f"{'either' if two else 'every'} outcome at each hospital. Of a group that one "
            "hospital alone has, they are its own."
        )
    if plan.beside:
        yield (
            "The same counts by models of each hospital's own, which learnt from its training "
            "patients without noise: what is counted tells of those, too. No epsilon covers them."
        )


def _of_own_patients(*, attacked: bool, described: bool, compared: bool) -> Iterator[str]:
    """What was told beside the sums: by hospitals that chose to, and in a rehearsal."""
    if compared:
        yield NOT_COVERED
    if attacked:
        yield (
            "Verdicts of attack tests, at hospitals that ask for them: exact, one hospital's "
            "patients. No epsilon covers them."
        )
    if described:
        yield (
            "Verdicts on hospitals' data, and their rounded counts, at hospitals that tell them: "
            "one hospital's patients, no noise. No epsilon covers them."
        )


def _of_groups(study: Study) -> str:
    """What is opened of a group beside the others."""
    fewest = study.masking.minimum_hospitals
    text = (
        f"The sum of every random group, of {fewest} hospitals or more, in each training round: "
        "what is said of the hospitals asked holds for those of a group."
    )
    if study.privacy.mechanism is not Mechanism.NONE:
        return text
    return f"{text} No noise is in it: many rounds with other groups can show single hospitals."


def _against_many(study: Study) -> str:
    """What masks do not hide, where no hospital's own noise stands behind them."""
    if study.masking.profile is Profile.ONE_TRIP:
        return (
            "One hospital's update, where the coordinator and all other hospitals that were asked "
            "pool what they know: they subtract their own."
        )
    return (
        "One hospital's update, where the coordinator and a third of the hospitals asked or more "
        "pool what they know: masks hold against fewer."
    )


def _line(
    evidence: Evidence,
    name: str,
    attempts: tuple[Attempt, ...],
    releases: Iterable[Release] | None,
) -> Outflow:
    received = [attempt.received[name] for attempt in attempts if name in attempt.received]
    bytes_received = sum(record.body.bytes for record in received)
    return Outflow(
        hospital=name,
        training_messages=_messages(name, attempts, releases, Purpose.TRAIN),
        evaluation_messages=_messages(name, attempts, releases, Purpose.EVALUATE),
        statistics_messages=_messages(name, attempts, releases, Purpose.STATISTICS),
        megabytes=logged(round(bytes_received / _MEGABYTE, 3), "as the coordinator received them"),
        not_added=_not_added(name, attempts, releases),
        form=_form(evidence.study),
    )


def _messages(
    name: str,
    attempts: tuple[Attempt, ...],
    releases: Iterable[Release] | None,
    purpose: Purpose,
) -> Figure:
    if releases is None:
        count = sum(name in a.received for a in attempts if a.purpose is purpose)
        return logged(count, "by the coordinator's log alone")
    sent = sum(r.sent is not None for r in releases if r.purpose is purpose)
    return recomputed(sent, "release-sent entries of its own log")


def _not_added(
    name: str, attempts: tuple[Attempt, ...], releases: Iterable[Release] | None
) -> Figure:
    """Messages that left and never became part of an opened sum; they are charged like the rest."""
    if releases is None:
        return not_available("its own log is not in the bundle")
    opened = {a.transcript for a in attempts if a.counted and name in a.received}
    return recomputed(sum(r.sent is not None and r.transcript not in opened for r in releases))


_NOISE = {
    Mechanism.LOCAL: "clipped, noised",
    Mechanism.DISTRIBUTED: "clipped, with a share of the sum's noise",
    Mechanism.NONE: "NOT noised",
}


def _form(study: Study) -> str:
    noise = _NOISE[study.privacy.mechanism]
    counts = "exact" if study.evaluation.counts == "exact" else "noised"
    statistics = "" if study.statistics is None else "statistics: noised, masked"
    trained = f"updates: {noise}, masked · evaluation counts: {counts}, masked"
    parts = [trained if study.rounds.count else "", _beside(study), statistics]
    return " · ".join(part for part in parts if part)


def _beside(study: Study) -> str:
    """How many numbers an evaluation has, where models of the hospital's own are counted, too."""
    layout = layout_of(study) if study.evaluation.beside else None
    if not isinstance(layout, BesideLayout):
        return ""
    own = len(layout.ways) * layout.plain.lanes
    return f"an evaluation: {layout.lanes} counts, {own} of them by models of its own"
