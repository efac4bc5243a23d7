"""One patient under both treatments: calibrated risks, their difference, and how far to trust it.

Each arm is calibrated by the held-out patients who were in it: where chance decided who was
treated, they are like all patients, and like this one. Everything stays at the hospital.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from wardround.canonical import Json
from wardround.errors import BadInput
from wardround.evaluation.binary import BinaryLayout
from wardround.evaluation.histograms import CountsLayout, CountsMode
from wardround.evaluation.layout import Outcomes, read_lanes
from wardround.evaluation.treatment import (
    CONTRADICTED,
    TREATED,
    UNTREATED,
    TreatmentLayout,
    strata_of,
)
from wardround.study.contract import Contract
from wardround.study.treatment import Treatment
from wardround_client.data.description import DatasetDescription
from wardround_client.data.encoding import EncodedRecords
from wardround_client.held_out import with_arms
from wardround_client.prediction.answers import Answer, Channel, Reason, Risk, Withheld
from wardround_client.prediction.calibration import Calibration, Scores
from wardround_client.prediction.choices import Interval, TreatmentChoice
from wardround_client.prediction.support import Support

_ARMS = (UNTREATED, TREATED)


def unchosen(
    description: DatasetDescription, contract: Contract, treatment: Treatment
) -> tuple[DatasetDescription, Contract]:
    """Both without the treatment: of a patient in question nobody has chosen one yet."""
    sources = tuple(one for one in description.columns if one.column != treatment.column)
    columns = tuple(one for one in contract.columns if one.name != treatment.column)
    if not sources:
        raise BadInput(f"{description.path}: columns beside {treatment.column} were due")
    return (
        description.model_copy(update={"columns": sources}),
        contract.model_copy(update={"columns": columns}),
    )


@dataclass(frozen=True, eq=False)
class WhatIf:
    """A hospital's decision support on a treatment."""

    support: Support
    treatment: Treatment

    @classmethod
    def of(cls, support: Support) -> "WhatIf":
        """Raises BadInput for a study without a treatment to choose."""
        study = support.standing.study
        if study.task.treatment is None:
            raise BadInput(f"study {study.name}: no treatment is to be chosen")
        return cls(support, study.task.treatment)

    def in_both_arms(self, encoded: EncodedRecords) -> tuple[EncodedRecords, EncodedRecords]:
        """Patients of the contract without the treatment -> all untreated, and all treated."""
        untreated, treated = (
            replace(encoded, features=np.insert(encoded.features, self._place, arm, axis=1))
            for arm in (-1.0, 1.0)
        )
        return untreated, treated

    @property
    def _place(self) -> int:
        return self.support.standing.study.contract.features().index(self.treatment.column)

    @cached_property
    def outcomes(self) -> Outcomes:
        """The held-out patients, with the arm of each and what the model says in both."""
        standing = self.support.standing
        return with_arms(
            self.support.calibration.outcomes,
            standing.released.network,
            self.support.held_out,
            standing.study,
        )

    @cached_property
    def refusal(self) -> str | None:
        """Why nothing may be said of what treatment does; None where something may.

        A study that says aloud that nobody was randomised is asked for no chance.
        """
        if self.treatment.assignment != "randomised":
            return None
        parts = (self.support.train, self.support.held_out)
        arms = np.concatenate([p.features[p.offsets[:-1], self._place].numpy() > 0 for p in parts])
        due = self.treatment.probability
        away = abs(arms.sum() - len(arms) * due)
        pooled = (self.support.standing.metrics or {}).get("treatment") or {}
        if away > CONTRADICTED * np.sqrt(len(arms) * due * (1 - due)):
            return f"the arms here are not those of chance with probability {due:g}"
        if pooled.get("allocation", {}).get("contradicts"):
            return f"the arms of all hospitals are not those of chance with probability {due:g}"
        return None

    def answer(self, key: str, said: Scores, *, own_row: int | None) -> Answer:
        """Of a patient of whom the model says `said` [2], untreated and treated.

        `own_row` is its row among the held-out patients, or None. A refusal, or an arm without
        outcomes of both kinds here, gives no number at all.
        """
        if self.refusal is not None:
            return Answer(patient=key, abstained=Reason.NOT_RANDOMISED, why=(self.refusal,))
        risks = [self._risk(arm, float(said[arm]), own_row) for arm in _ARMS]
        untreated, treated = risks
        if not isinstance(untreated, Risk) or not isinstance(treated, Risk):
            return Answer(patient=key, abstained=Reason.ONE_CLASS)
        choice = self._choice(untreated, treated, said)
        return Answer(patient=key, channels=(untreated, treated), choice=choice)

    def _risk(self, arm: int, score: float, own_row: int | None) -> Channel:
        rows = np.flatnonzero(self._arms == arm)
        place = None
        if own_row is not None and own_row in rows:
            place = int(np.searchsorted(rows, own_row))
        channels, _ = self._calibrations[arm].answer(np.array([score]), own_row=place)
        name = (self.treatment.untreated, self.treatment.treated)[arm]
        channel = f"{channels[0].channel}, {name}"
        if isinstance(channels[0], Risk | Withheld):
            return replace(channels[0], channel=channel)
        raise BadInput("a treatment needs a label of yes or no")

    @property
    def _arms(self) -> Scores:
        return np.asarray(self.outcomes.treated, dtype=np.float64)

    @cached_property
    def _calibrations(self) -> tuple[Calibration, Calibration]:
        untreated, treated = (
            Calibration(
                self.support.standing.study,
                Outcomes(
                    self.outcomes.truth[self._arms == arm], self.outcomes.outputs[self._arms == arm]
                ),
            )
            for arm in _ARMS
        )
        return untreated, treated

    @cached_property
    def _here(self) -> Json:
        """What the hospital's own held-out patients say of the treatment."""
        whole = BinaryLayout(CountsLayout(mode=CountsMode.EXACT, bins=2), 0.5)
        layout = TreatmentLayout(whole=whole, plan=self.treatment)
        lanes = read_lanes(layout.count(self.outcomes).exact(), layout)
        told: Json = layout.metrics(lanes, cell_noise_sd=0.0)["treatment"]
        return told

    def _choice(self, untreated: Risk, treated: Risk, said: Scores) -> TreatmentChoice:
        plan, stratum = self.treatment, int(strata_of(said[None, :], self.treatment)[0])
        benefit = Interval(
            value=untreated.risk - treated.risk,
            low=untreated.low - treated.high,
            high=untreated.high - treated.low,
        )
        if plan.yes_is == "good":
            benefit = Interval(value=-benefit.value, low=-benefit.high, high=-benefit.low)
        pooled = (self.support.standing.metrics or {}).get("treatment") or {"strata": ()}
        here, everywhere = (_observed(told, stratum) for told in (self._here, pooled))
        advice, why = advised(plan, benefit, everywhere or here)
        return TreatmentChoice(
            treated=plan.treated,
            untreated=plan.untreated,
            benefit=benefit,
            worth=plan.worth,
            stratum=plan.strata[stratum],
            here=here,
            everywhere=everywhere,
            needed=number_needed(benefit, everywhere or here),
            advice=advice,
            why=why,
            caveat=plan.caveat,
        )


def advised(
    plan: Treatment, benefit: Interval, observed: Interval | None
) -> tuple[str | None, str | None]:
    """An arm, or why none: the benefit here and the one observed have to agree, doubt and all."""
    if observed is None:
        return None, "too few patients with a predicted benefit like this were seen"
    both: Sequence[Interval] = (benefit, observed)
    if all(one.low > plan.worth for one in both):
        return plan.treated, None
    if all(one.high < plan.worth for one in both):
        return plan.untreated, None
    return None, f"the benefit may be more or less than {plan.worth:g}"


def number_needed(benefit: Interval, observed: Interval | None) -> Interval | None:
    """Patients to be treated for one who is spared; None where the benefit may be none.

    The ends are those of both intervals: that of calibration alone says nothing of how few there
    were to calibrate by.

    >>> seen = Interval(value=0.1, low=0.02, high=0.2)
    >>> number_needed(Interval(value=0.05, low=0.04, high=0.1), seen)
    Interval(value=20.0, low=5.0, high=50.0)
    """
    if observed is None or min(benefit.low, observed.low) <= 0:
        return None
    most, least = max(benefit.high, observed.high), min(benefit.low, observed.low)
    return Interval(value=1.0 / benefit.value, low=1.0 / most, high=1.0 / least)


def _observed(told: Json, stratum: int) -> Interval | None:
    strata = told["strata"]
    found = strata[stratum]["observed"] if stratum < len(strata) else None
    if found is None or found["low"] is None:
        return None
    ends = [found["low"], found["high"]]
    # Of noised counts the interval of the noise is added: neither knows of the other.
    if found["noise_low"] is not None:
        ends[0] += found["noise_low"] - found["value"]
        ends[1] += found["noise_high"] - found["value"]
    return Interval(value=found["value"], low=ends[0], high=ends[1])
