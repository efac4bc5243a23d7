"""The client: adds its hospital's number to every parameter it was sent."""

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def add_hospital_number(message: Message, context: Context) -> Message:
    """Answer the parameters plus `hospital` (1, 2, ...), so that no two replies are equal."""
    step = np.float32(context.node_config["hospital"])
    arrays = [array + step for array in message.content["arrays"].to_numpy_ndarrays()]
    reply = RecordDict(
        {"arrays": ArrayRecord(arrays), "metrics": MetricRecord({"num-examples": 1})}
    )
    return Message(content=reply, reply_to=message)
