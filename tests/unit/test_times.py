"""The file of times is what a party's people and the benchmark read."""

import pytest
from tests.support.masked_hospitals import fleet

from wardround.errors import BadInput
from wardround.times import AttemptTimes, read_times


def test_each_attempt_is_one_line_with_its_seconds(tmp_path):
    federation = fleet(2)
    times = AttemptTimes(tmp_path / "times.jsonl")
    specs = [federation.spec(8, round=number) for number in (0, 1)]
    times.note(specs[0], compute_s=0.25)
    times.note(specs[1], compute_s=0.12345678, answer_s=1.0)
    assert read_times(times.path) == [
        {"run": specs[0].run, "purpose": "train", "round": 0, "attempt": 1, "compute_s": 0.25},
        {
            "run": specs[1].run,
            "purpose": "train",
            "round": 1,
            "attempt": 1,
            "compute_s": 0.123457,
            "answer_s": 1.0,
        },
    ]
    assert times.last == {"compute_s": 0.123457, "answer_s": 1.0}


def test_a_damaged_line_is_refused_by_the_files_name(tmp_path):
    path = tmp_path / "times.jsonl"
    path.write_text('{"round": 1}\nnot json\n')
    with pytest.raises(BadInput, match=r"times\.jsonl: not JSON"):
        read_times(path)
