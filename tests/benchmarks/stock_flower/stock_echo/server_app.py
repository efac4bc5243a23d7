"""The server: plain FedAvg; each round is timed from sending to the last reply."""

import json
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


class TimedFedAvg(FedAvg):
    """Flower's FedAvg without its evaluation messages, with a clock around each round's messages.

    The clock starts once all hospitals are connected and the messages stand ready, and stops
    before FedAvg looks at the replies: neither waiting for hospitals nor averaging is counted.
    """

    def __init__(self, hospitals: int) -> None:
        super().__init__(
            fraction_evaluate=0.0, min_train_nodes=hospitals, min_available_nodes=hospitals
        )
        self.hospitals = hospitals
        self.sent_at_s: list[float] = []
        self.round_s: list[float] = []

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Build FedAvg's messages, then start the clock."""
        messages = list(super().configure_train(server_round, arrays, config, grid))
        self.sent_at_s.append(time.monotonic())
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Stop the clock, then average. Raises unless every hospital answered with arrays."""
        self.round_s.append(time.monotonic() - self.sent_at_s[-1])
        answers = list(replies)
        good = sum(not answer.has_error() for answer in answers)
        if good != self.hospitals:
            raise RuntimeError(
                f"round {server_round}: {good} good answers, {self.hospitals} were due"
            )
        return super().aggregate_train(server_round, answers)


def run_rounds(grid: Grid, context: Context) -> dict[str, object]:
    """Run the configured rounds from zeros and say how long each took.

    Every hospital adds its number, so the end has to be `rounds * mean(1..hospitals)`.
    """
    parameters = int(context.run_config["parameters"])
    hospitals = int(context.run_config["hospitals"])
    rounds = int(context.run_config["rounds"])
    strategy = TimedFedAvg(hospitals)
    zeros = ArrayRecord([np.zeros(parameters, dtype=np.float32)])
    result = strategy.start(grid, zeros, num_rounds=rounds)
    (end,) = result.arrays.to_numpy_ndarrays()
    due = rounds * (hospitals + 1) / 2
    if end.shape != (parameters,) or not np.allclose(end, due):
        raise RuntimeError(f"the averaged model is not {parameters} times {due}")
    return {"first_sent_at_s": strategy.sent_at_s[0], "round_s": strategy.round_s}


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Write the timings, or why there are none, as one JSON file."""
    path = Path(str(context.run_config["timings-path"]))
    try:
        write_whole(path, run_rounds(grid, context))
    except Exception as error:
        write_whole(path, {"error": f"{type(error).__name__}: {error}"})
        raise


def write_whole(path: Path, outcome: dict[str, object]) -> None:
    """Write JSON so that a reader sees all of it or nothing."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(outcome), encoding="utf-8")
    part.rename(path)
