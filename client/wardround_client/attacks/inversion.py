"""Records read off gradients in closed form: the first dense layer gives its input away.

For a layer W x + b the gradient of W is the outer product of that of b with x. So each row of the
change of W over that of b is the record, where one patient made it. (Phong et al. 2018; Geiping et
al. 2020, Proposition 3.1)
"""

import numpy as np
import numpy.typing as npt
from torch import nn

Vector = npt.NDArray[np.float32]
Rows = npt.NDArray[np.float64]


def has_closed_form(network: nn.Module) -> bool:
    """Whether the records enter the network by a dense layer with a bias."""
    return _entrance(network) is not None


def first_layer(network: nn.Module, change: Vector) -> Rows:
    """What `change` did to each unit of the first layer [units, features + 1], the bias last.

    The unit that moved most comes first, and one that did not move is left out; no row at all
    where none moved, or where records enter by no dense layer.
    """
    layer = _entrance(network)
    if layer is None:
        return np.zeros((0, 0))
    inputs, outputs = layer.in_features, layer.out_features
    weights = change[: inputs * outputs].astype(np.float64).reshape(outputs, inputs)
    biases = change[inputs * outputs : (inputs + 1) * outputs].astype(np.float64)
    units = np.column_stack([weights, biases])
    norms = np.linalg.norm(units, axis=1)
    order = np.argsort(-norms, kind="stable")
    return np.asarray(units[order[norms[order] > 0.0]])


def invert(units: Rows) -> Rows:
    """The record that each unit gives away: the weights' change over the bias' [units, features].

    Zeros for a unit whose bias did not move.
    """
    weights, biases = units[:, :-1], units[:, -1:]
    return np.asarray(np.divide(weights, biases, out=np.zeros_like(weights), where=biases != 0.0))


def resemblance(units: Rows, records: Rows) -> Rows:
    """How much of each unit's change lies along each record [units, records], from 0 to 1.

    A record x alone moves weights and bias along (x, 1), whatever the size of the step: two
    different records never share that line.
    """
    lines = np.column_stack([records, np.ones(len(records))])
    return np.abs(_unit(units) @ _unit(lines).T)


def correlation(first: Rows, second: Rows) -> float:
    """Pearson's correlation of two records; 0 where one of them is constant."""
    centred = [row - row.mean() for row in (first, second)]
    norms = [float(np.linalg.norm(row)) for row in centred]
    return float(centred[0] @ centred[1]) / (norms[0] * norms[1]) if all(norms) else 0.0


def _unit(rows: Rows) -> Rows:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def _entrance(network: nn.Module) -> nn.Linear | None:
    """The first layer, when it is a dense one whose parameters come first."""
    first = next((part for part in network.modules() if not list(part.children())), None)
    return first if isinstance(first, nn.Linear) and first.bias is not None else None
