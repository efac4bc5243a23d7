"""Which layer is recorded how. A layer that is recorded is not looked into any further."""

from torch import nn

from wardround_client.gradients import (
    attention,
    convolution,
    embedding,
    linear,
    normalisation,
    recurrent,
)
from wardround_client.gradients.tape import Recorder

RECORDERS: dict[type[nn.Module], Recorder] = {
    nn.Linear: linear.record,
    nn.Conv1d: convolution.record,
    nn.Conv2d: convolution.record,
    nn.Conv3d: convolution.record,
    nn.GroupNorm: normalisation.record_group_norm,
    nn.LayerNorm: normalisation.record_layer_norm,
    nn.InstanceNorm1d: normalisation.record_instance_norm,
    nn.InstanceNorm2d: normalisation.record_instance_norm,
    nn.InstanceNorm3d: normalisation.record_instance_norm,
    nn.Embedding: embedding.record,
    nn.GRU: recurrent.record_gru,
    nn.LSTM: recurrent.record_lstm,
    nn.MultiheadAttention: attention.record,
}
