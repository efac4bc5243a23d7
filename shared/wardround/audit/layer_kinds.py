"""Kinds of layers by what they do to the patients of a batch: a fixed vocabulary.

A layer that mixes patients makes one patient's gradient depend on the others': clipping then
bounds nobody's influence. What is in neither set is unknown here: it may or may not.
"""

OTHER = "other"
WITH_STATISTICS = "InstanceNorm.with-running-statistics"
MOST_KINDS = 64

MIXING = frozenset(
    {
        *("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm"),
        *("LazyBatchNorm1d", "LazyBatchNorm2d", "LazyBatchNorm3d"),
        WITH_STATISTICS,
    }
)
"""Of a batch they take mean and variance over the patients, or keep them from batch to batch."""

_OF_PYTORCH = frozenset(
    {
        *("Linear", "Bilinear", "Identity", "Embedding", "EmbeddingBag"),
        *("Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"),
        *("GroupNorm", "LayerNorm", "RMSNorm", "LocalResponseNorm"),
        *("InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d"),
        *("RNN", "GRU", "LSTM", "RNNCell", "GRUCell", "LSTMCell"),
        *("MultiheadAttention", "TransformerEncoder", "TransformerEncoderLayer"),
        "torch.nn.modules.linear.NonDynamicallyQuantizableLinear",
        *("MaxPool1d", "MaxPool2d", "MaxPool3d", "AvgPool1d", "AvgPool2d", "AvgPool3d"),
        *("AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d"),
        *("AdaptiveMaxPool1d", "AdaptiveMaxPool2d", "AdaptiveMaxPool3d"),
        *("ReLU", "ReLU6", "LeakyReLU", "PReLU", "ELU", "SELU", "CELU", "GELU", "SiLU", "Mish"),
        *("Tanh", "Sigmoid", "LogSigmoid", "Softplus", "Softsign", "Hardtanh", "Hardsigmoid"),
        *("Hardswish", "Tanhshrink"),
        *("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout"),
        *("Upsample", "UpsamplingNearest2d", "UpsamplingBilinear2d", "PixelShuffle"),
        *("ZeroPad1d", "ZeroPad2d", "ConstantPad1d", "ConstantPad2d", "ReflectionPad1d"),
        *("ReflectionPad2d", "ReplicationPad1d", "ReplicationPad2d"),
        # Along a dimension: what goes along that of the records bears the ending below.
        *("Flatten", "Softmax", "LogSoftmax"),
        # What they hold stands beside them in the list.
        *("Sequential", "ModuleList", "ModuleDict"),
    }
)
_OF_WARDROUND = frozenset(
    {
        "wardround.models.gan.Adversaries",
        "wardround.models.gan.Shaped",
        "wardround.models.gan.TableRow",
        "wardround.models.image.BasicBlock",
        "wardround.models.interacting.Interacting",
        "wardround.models.series.Recurrent",
    }
)
_OF_MONAI = frozenset(
    {
        "monai.networks.nets.densenet.DenseNet",
        "monai.networks.nets.densenet._DenseBlock",
        "monai.networks.nets.densenet._DenseLayer",
        "monai.networks.nets.densenet._Transition",
    }
)
APART = _OF_PYTORCH | _OF_WARDROUND | _OF_MONAI
"""What leaves every patient of a batch to itself."""

ALONG_RECORDS = ".along-dimension-0"
"""Behind the name of a layer that may work along the dimension of the records, so that it is in
neither set: a recurrent layer or attention that takes steps first, a Flatten or Softmax from 0."""
