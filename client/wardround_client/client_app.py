"""The installed Flower ClientApp. It runs in the hospital daemon's warm process.

It also runs under a stock SuperNode or Flower's simulation, with
`--node-config 'hospital-dir="DIR"'`. No code arrives: the study names an installed network.
"""

from functools import lru_cache
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from wardround.errors import BadInput, WardroundError
from wardround.protocol.envelope import seal, unseal
from wardround.protocol.messages import Failed
from wardround.vectors import in_memory
from wardround_client.home import HospitalHome
from wardround_client.hospital import Hospital

DIRECTORY_KEY = "hospital-dir"
MOST_PARAMETERS = 1 << 28

app = ClientApp()


@lru_cache(maxsize=1)
def hospital_at(directory: str) -> Hospital:
    """The one hospital of this process."""
    return Hospital.at(HospitalHome(Path(directory)))


@app.query()
def _query(message: Message, context: Context) -> Message:
    return answer(message, context)


@app.train()
def _train(message: Message, context: Context) -> Message:
    return answer(message, context)


@app.evaluate()
def _evaluate(message: Message, context: Context) -> Message:
    return answer(message, context)


def answer(message: Message, context: Context) -> Message:
    """Answer one Flower message with the hospital named in the node's configuration."""
    directory = context.node_config.get(DIRECTORY_KEY)
    if not isinstance(directory, str):
        raise BadInput(f"node config: {DIRECTORY_KEY} = the hospital's directory is due")
    hospital = hospital_at(directory)
    try:
        body, vector = unseal(message.content, lanes=MOST_PARAMETERS)
    except WardroundError as error:  # BadInput or ProtocolViolation: it is no message of ours
        return Message(seal(Failed(error=type(error).__name__)), reply_to=message)
    replied, masked = hospital.answer(body, in_memory(vector))
    return Message(seal(replied, masked), reply_to=message)
