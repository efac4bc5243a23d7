"""What joining gave, as a page for the hospital's own people: picture, tables, what not to do."""

from html import escape

from wardround_client.personalisation.choosing import Candidate, Choice
from wardround_client.personalisation.measures import Aim
from wardround_client.personalisation.paired import Row, Way
from wardround_client.personalisation.picture import picture
from wardround_client.personalisation.result import (
    STAYS,
    Result,
    apart,
    number,
    words_of,
)

_EXPLAINED = {
    Way.RELEASED: "the released model, as the run ended with it",
    Way.ALONE: "the study's own training on your training patients only, without noise",
    Way.PERSONALISED: "the released model, fine-tuned on your training patients, without noise",
}
_HOW = (
    "Held-out patients were scored once, by all models alike. Intervals are 95 %. Differences of "
    "two AUROCs by DeLong, all others by drawing patients a thousand times, the same for each "
    "model; with fewer than 5 patients of either outcome a difference has no interval. Look at "
    "the first measure: whoever looks at all of them finds one that is better by chance."
)


def page(result: Result) -> str:
    """One HTML file, whole in itself: no script, no outside address."""
    rows = "\n".join(_row(result, row) for row in result.rows)
    heads = "".join(f"<th>{escape(way.value)}</th>" for way in result.ways)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<title>{escape(result.study)}: what joining gave {escape(result.hospital)}</title>
<style>
body {{ font: 15px/1.5 system-ui, "DejaVu Sans", sans-serif; margin: 2rem auto; max-width: 62rem;
  color: #14212b; padding: 0 1rem; }}
.mark {{ border: 2px solid #ab1420; padding: .7rem 1rem; }}
.verdict {{ font-size: 1.2rem; font-weight: 650; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #d8dee3;
  vertical-align: top; }}
small {{ color: #56646f; }} svg {{ max-width: 100%; height: auto; }}
</style></head><body>
<h1>What joining gave {escape(result.hospital)}</h1>
<p>{escape(result.title)}</p>
<p class="verdict">{escape(result.verdict())}</p>
<p class="mark"><strong>{escape(result.warning)}</strong> {escape(STAYS)}</p>
{picture(result.rows[0])}
<p>{escape(result.fine_tuning())} {escape(_noise(result))}</p>
<ul>{"".join(f"<li><strong>{escape(w.value)}</strong>: {_EXPLAINED[w]}</li>" for w in result.ways)}
</ul>
<h2>{result.patients.held_out} held-out patients{_with_outcome(result)}</h2>
<table><thead><tr><th>Measure</th>{heads}<th>Difference</th></tr></thead><tbody>
{rows}
</tbody></table>
<p><small>{escape(_HOW)}</small></p>
{_choice(result.choice)}
<p><small>Released model {result.released}, run {escape(result.run)}. {_digest(result)}
The page is for this hospital's eyes: it tells of its patients.</small></p>
</body></html>
"""


def _noise(result: Result) -> str:
    if result.epsilon is None:
        return "The study has no noise."
    return (
        f"The released model carries the noise of epsilon {result.epsilon:g}, the other ones "
        "carry none: part of any difference is what privacy costs."
    )


def _with_outcome(result: Result) -> str:
    positives = result.patients.positives
    return "" if positives is None else f", {positives} of them with the outcome"


def _row(result: Result, row: Row) -> str:
    name = escape(row.name) + (f"<br>{escape(row.of)}" if row.of else "")
    values = "".join(
        f"<td>{_broken(escape(number(row, row.values[way])))}</td>" for way in result.ways
    )
    gains = "<br>".join(
        f"{escape(words_of(gain))}:<br>{escape(apart(row, gain))}" for gain in row.gains
    )
    aimed = row.aim in {Aim.ZERO, Aim.ONE}
    return (
        f"<tr><td><strong>{name}</strong><br><small>{escape(row.aim.value)}</small></td>{values}"
        f"<td><small>{'not subtracted' if aimed else gains or 'NA'}</small></td></tr>"
    )


def _broken(text: str) -> str:
    return text.replace(" (", "<br><small>(", 1) + ("</small>" if " (" in text else "")


def _choice(choice: Choice | None) -> str:
    if choice is None:
        return ""
    rows = "\n".join(_candidate(choice, one) for one in choice.candidates)
    return f"""<h2>How far to fine-tune</h2>
<p>{choice.folds}-fold cross-validation within {choice.patients} training patients. Of all choices
within one standard error of the least loss the nearest to the released model is taken.</p>
<table><thead><tr><th>Steps</th><th>Pull</th><th>Mean loss of patients left out</th>
<th>Standard error of its difference to the released model's</th></tr></thead><tbody>
{rows}
</tbody></table>"""


def _candidate(choice: Choice, one: Candidate) -> str:
    taken = (one.steps, one.pull) == (choice.tuning.steps, choice.tuning.pull)
    steps = str(one.steps) if one.steps else "none, the released model"
    cells = [steps, f"{one.pull:g}" if one.steps else "", f"{one.loss:.4f}", f"{one.error:.4f}"]
    if taken:
        cells = [f"<strong>{cell}</strong>" for cell in cells]
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _digest(result: Result) -> str:
    if result.personalised is None:
        return ""
    return f"Personalised model {result.personalised}: made at this hospital, not the audited one."
