"""Which layer is recorded how. A layer that is recorded is not looked into any further."""

from torch import nn

from wardround_client.training.gradients import attention, embedding, linear, recurrent
from wardround_client.training.gradients.tape import Recorder

RECORDERS: dict[type[nn.Module], Recorder] = {
    nn.Linear: linear.record,
    nn.Embedding: embedding.record,
    nn.GRU: recurrent.record_gru,
    nn.LSTM: recurrent.record_lstm,
    nn.MultiheadAttention: attention.record,
}
