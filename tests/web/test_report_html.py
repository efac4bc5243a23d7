"""report.html: one file that loads nothing, and that nobody can misread."""

import json
import re
from dataclasses import replace
from functools import lru_cache
from html.parser import HTMLParser

import pytest
from tests.support.federation_evidence import Federation, federation, study_of

from wardround.audit.bundle import bundle_bytes, evidence_of
from wardround.audit.derive import derive_report
from wardround.audit.html import render_html
from wardround.audit.sign_off import Decision, SignOff
from wardround.audit.verdicts import Verdicts
from wardround.audit.verify import verify_bytes
from wardround.canonical import Json, canonical_bytes
from wardround.errors import BadInput

KINDS = ("dp", "missing", "none", "noised", "record")
VOID = {"meta", "circle", "path", "line", "polyline", "polygon", "br", "abbr"}


@lru_cache(maxsize=8)
def report(kind: str) -> str:
    changes: Json = {
        "none": {"privacy": {"mechanism": "none", "epsilon": None, "delta": None}},
        "record": {"privacy": {"unit": "record"}},
        "noised": {"evaluation": {"counts": "noised", "epsilon": 2.0, "bins": 16}},
    }.get(kind, {})
    lost = {"leiden": (1, "deadline")} if kind == "missing" else None
    fed = federation(study=study_of(rounds=2, changes=changes), lost=lost)
    without = frozenset(lost or ())
    return canonical_bytes(derive_report(evidence_of(fed.parts(without=without)))).decode()


def page(kind: str) -> str:
    return render_html(json.loads(report(kind)))


class Elements(HTMLParser):
    """Every tag and attribute, and whether tags close as they opened."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID - {"abbr"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(html: str) -> Elements:
    elements = Elements()
    elements.feed(html)
    assert elements.open == []
    return elements


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_loads_nothing_and_runs_nothing(kind: str):
    html = page(kind)
    elements = parsed(html)
    assert not {"script", "iframe", "object", "embed", "link", "img", "form", "base"} & set(
        elements.tags
    )
    assert not [n for n, _ in elements.attributes if n.startswith("on") or n in {"href", "src"}]
    assert not re.search(r"https?://|//[a-z]|url\(|@import|javascript:|data:", html)
    assert "default-src 'none'" in html


@pytest.mark.parametrize("kind", KINDS)
def test_the_label_answers_in_the_first_lines(kind: str):
    html = page(kind)
    value = json.loads(report(kind))
    text = re.sub(r"<[^>]+>", " ", html.split("<main>")[1])
    assert value["guarantee"]["kind"] in text[:200]
    for title in ("Who took part", "What left each hospital", "What is NOT protected"):
        assert title in text
    for line in value["not_protected"]:
        assert line.replace("'", "&#39;") in html
    for letter in "ABCDEFGHI":
        assert f'<span class="letter">{letter}</span>' in html


def test_epsilon_is_printed_rounded_up_with_the_odds():
    value = json.loads(report("dp"))
    html = page("dp")
    epsilon = value["guarantee"]["epsilon"]["value"]
    shown = float(re.findall(r"<i>ε</i> ([0-9.]+)<", html)[0])
    assert epsilon <= shown < epsilon + 0.011
    assert f"50 → {value['guarantee']['odds_percent']['value']:.0f}" in re.sub(r"\s+", " ", html)


def test_the_icon_array_holds_a_hundred_people_of_whom_fifty_are_the_blind_guess():
    html = page("dp")
    odds = json.loads(report("dp"))["guarantee"]["odds_percent"]["value"]
    assert html.count('<g class="base">') == 50
    assert html.count('<g class="gain">') == odds - 50
    assert html.count('<g class="rest">') == 100 - odds


def test_a_run_without_noise_is_loud_and_names_no_epsilon():
    html = page("none")
    assert '<body class="bare">' in html
    assert "<strong>NO FORMAL GUARANTEE</strong>" in html
    assert "<title>NO FORMAL GUARANTEE" in html
    assert "No epsilon exists" in html
    attempts = json.loads(report("none"))["study"]["attempts_covered"]
    assert f"at most {attempts} attempts" in html
    assert f"epsilon covers {attempts} attempts" in page("dp")
    assert not re.search(r"epsilon covers \d", html)
    assert "FORMAL DP" not in html
    assert html.count('<g class="open">') == 50


def test_who_was_missing_stands_in_the_head_of_the_page():
    html = page("missing")
    head = html.split("<main>")[0]
    assert "3 of 4 hospitals took part throughout; leiden was missing" in head
    assert '<td class="p-missed"' in html
    assert "took part in all" not in html


def test_noised_metrics_show_the_noise():
    assert "95 % of" in page("noised")
    assert "noise</th>" in re.sub(r"\s+", " ", page("noised"))


def test_a_page_that_was_not_verified_says_so():
    head = page("dp").split("<main>")[0]
    assert "does not vouch for itself" in head
    assert head.count("not checked") == 4


def test_a_failed_verification_is_written_on_the_page():
    fed = federation(rounds=1)
    value = derive_report(evidence_of(fed.parts()))
    other = bundle_bytes(fed.parts(), b"{}", identity=fed.coordinator.identity)
    verdicts = verify_bytes(other)
    html = render_html(value, verdicts)
    assert "Recomputed: NO" in html
    assert "report-differs" in html
    assert "CLAIMED, NOT PROVEN: FORMAL DP" in html


def test_nothing_of_a_study_becomes_markup():
    value = json.loads(report("dp"))
    evil = "<script>alert(1)</script><img src=x onerror=alert(1)>\"'"
    value["study"]["title"] = value["study"]["purpose"] = value["study"]["contact"] = evil
    value["participation"]["headline"] = value["guarantee"]["epsilon"]["note"] = evil
    value["incidents"] = [
        {"what": evil, "party": evil, "reason": evil, "place": {"log": evil, "seq": 1}}
    ]
    elements = parsed(render_html(value))
    assert "script" not in elements.tags
    assert "img" not in elements.tags


def test_canaries_in_commitments_and_witnessed_heads_reach_neither_report_nor_page():
    canary = "c0ffee11" * 8
    fed = federation(rounds=1)
    for name, party in fed.hospitals.items():
        for entry in party.entries:
            if entry.type == "release-sent" and entry.body["engine"]["mechanism"] == "local":
                entry.body["engine"]["batches_commitment"] = canary
        party.rewrite(party.entries)
        seen = {"actor": name, "size": 0, "head": canary}
        party.append("checkpoint-witnessed", seen, at=fed.tick())
    assert canary.encode() in fed.parts().hospitals["bergen"].entries
    value = derive_report(evidence_of(fed.parts()))
    assert canary[:8] not in json.dumps(value)
    assert canary[:8] not in render_html(value)


def test_what_is_no_report_is_refused():
    with pytest.raises(BadInput, match=r"wardround\.report/1"):
        render_html({"schema": "wardround.report/1"})


def verified(fed: Federation) -> Verdicts:
    bundle = bundle_bytes(
        fed.parts(),
        canonical_bytes(derive_report(evidence_of(fed.parts()))),
        identity=fed.coordinator.identity,
    )
    return verify_bytes(bundle)


def test_officers_decisions_stand_on_a_page_that_was_made_from_the_bundle():
    fed = federation(rounds=1)
    value, verdicts = derive_report(evidence_of(fed.parts())), verified(fed)
    assert "No hospital&#39;s officer has decided" in render_html(value, verdicts)
    decided = SignOff(
        hospital="bergen",
        officer="Dr <i>Aas</i>",
        decision=Decision.REFUSE,
        remark="delta is too large",
        signed_at="2026-03-04T10:00:00Z",
    )
    html = render_html(value, replace(verdicts, sign_offs=(decided,)))
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html.split("Sign-off")[1]))
    assert "bergen Dr &lt;i&gt;Aas&lt;/i&gt; refuse delta is too large 2026-03-04T10:00:00Z" in text
    assert "was checked with it" in text
    assert "Decisions are signed after the report is fixed" in page("dp")


def test_each_picture_has_a_title_and_the_label_has_the_curve_in_words():
    html = page("dp")
    assert html.count("<svg") == html.count('"><title>') == 6
    value = json.loads(report("dp"))["guarantee"]
    assert value["found_in_words"] in html
    assert f"is right at most {value['right_of_100']['value']:.0f} times." in re.sub(
        r"\s+", " ", html
    )
    assert '<figure class="limit">' not in page("none")


def test_a_handful_of_patients_with_the_outcome_is_not_printed():
    value = json.loads(report("dp"))
    value["evaluation"]["metrics"] |= {"patients": 60, "positives": 4}
    html = re.sub(r"\s+", " ", render_html(value))
    assert "60 patients, &lt;5 with the outcome" in html
    value["evaluation"]["metrics"] |= {"positives": 58}
    assert "60 patients, withheld with the outcome" in re.sub(r"\s+", " ", render_html(value))
