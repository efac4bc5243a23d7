"""Every figure of a report's groups and columns changed in turn: the verifier has to find it."""

import json
from collections.abc import Iterator

import pytest
from tests.support.forgeries_resealed import changed

from wardround.audit import check_recomputed
from wardround.audit.evidence import Evidence
from wardround.audit.report_model import Report
from wardround.canonical import Json


def every_changed_figure_is_found(
    report: Report, evidence: Evidence, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each `every`-th leaf is changed; the report is derived once, as it always comes out alike."""
    due = report.to_json()
    monkeypatch.setattr(check_recomputed, "derive_report", lambda *_, **__: due)
    told = {name: due["evaluation"][name] for name in ("subgroups", "importance")}
    paths = [f"evaluation.{path}" for path in leaves(told)]
    assert len(paths) > 100
    for path in paths[::every]:
        altered = changed(json.loads(json.dumps(due)), path)
        codes = {failure.code for failure in check_recomputed.check_report(evidence, altered)}
        assert "report-differs" in codes, path


def leaves(value: Json, path: str = "") -> Iterator[str]:
    if isinstance(value, dict | list):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        for key, part in parts:
            yield from leaves(part, f"{path}.{key}" if path else str(key))
    else:
        yield path
