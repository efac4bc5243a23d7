"""What Flower's SecAgg+ does to one vector, step by step, with Flower's own functions.

Each function here repeats the lines that touch parameters of a stage in `secaggplus_mod.py` or
`secaggplus_workflow.py` of Flower 1.41, in their order and with the workflow's default ranges.
Left out is what is not about the vector: messages, records, logs, decryption of shares.
"""

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from flwr.common import bytes_to_ndarray, ndarray_to_bytes
from flwr.common.secure_aggregation.crypto.shamir import (
    combine_shares,
    create_shares,
)
from flwr.common.secure_aggregation.crypto.symmetric_encryption import (
    generate_shared_key,
)
from flwr.common.secure_aggregation.ndarrays_arithmetic import (
    factor_combine,
    factor_extract,
    get_parameters_shape,
    parameters_addition,
    parameters_mod,
    parameters_multiply,
    parameters_subtraction,
)
from flwr.common.secure_aggregation.quantization import dequantize, quantize
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.supercore.primitives.asymmetric import (
    bytes_to_private_key,
    bytes_to_public_key,
    generate_key_pairs,
    private_key_to_bytes,
    public_key_to_bytes,
)

CLIPPING_RANGE: Final = 8.0
TARGET_RANGE: Final = 1 << 22
MOD_RANGE: Final = 1 << 32

Vectors = list[npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One client after the stages "setup" and "share keys"."""

    number: int
    private_key: bytes
    public_key: bytes
    seed: bytes
    seed_shares: list[bytes]
    key_shares: list[bytes]


def nodes(count: int, *, threshold: int, dropped: int) -> tuple[Node, ...]:
    """Clients with keys and shares; only the first `dropped` need shares of their private key."""
    return tuple(_node(number, count, threshold, number < dropped) for number in range(count))


def _node(number: int, count: int, threshold: int, drops: bool) -> Node:
    private, public = generate_key_pairs()
    private_bytes, seed = private_key_to_bytes(private), os.urandom(32)
    return Node(
        number=number,
        private_key=private_bytes,
        public_key=public_key_to_bytes(public),
        seed=seed,
        seed_shares=create_shares(seed, threshold, count),
        key_shares=create_shares(private_bytes, threshold, count) if drops else [],
    )


def client_mask(own: Node, everybody: Sequence[Node], values: npt.NDArray[Any]) -> list[bytes]:
    """Stage 2 of the client, `_collect_masked_vectors`, for one float32 vector of full weight."""
    parameters = parameters_multiply([values], 1.0)
    quantized = factor_combine(TARGET_RANGE, quantize(parameters, CLIPPING_RANGE, TARGET_RANGE))
    dimensions = [array.shape for array in quantized]
    quantized = parameters_addition(quantized, pseudo_rand_gen(own.seed, MOD_RANGE, dimensions))
    for peer in everybody:
        if peer.number == own.number:
            continue
        shared_key = generate_shared_key(
            bytes_to_private_key(own.private_key), bytes_to_public_key(peer.public_key)
        )
        pairwise_mask = pseudo_rand_gen(shared_key, MOD_RANGE, dimensions)
        if own.number > peer.number:
            quantized = parameters_addition(quantized, pairwise_mask)
        else:
            quantized = parameters_subtraction(quantized, pairwise_mask)
    quantized = parameters_mod(quantized, MOD_RANGE)
    return [ndarray_to_bytes(array) for array in quantized]


def server_add(total: Vectors | None, sent: list[bytes]) -> Vectors:
    """What `collect_masked_vectors_stage` does with one client's message."""
    masked = [bytes_to_ndarray(each) for each in sent]
    return masked if total is None else parameters_addition(total, masked)


def server_join(everybody: Sequence[Node], *, dropped: int) -> list[bytes]:
    """What `unmask_stage` does with the shares of those alive: every node's secret."""
    alive = everybody[dropped:]
    return [
        combine_shares([_shares(node, dropped)[each.number] for each in alive])
        for node in everybody
    ]


def _shares(node: Node, dropped: int) -> list[bytes]:
    return node.key_shares if node.number < dropped else node.seed_shares


def server_unmask(
    total: Vectors, everybody: Sequence[Node], secrets: Sequence[bytes], *, dropped: int
) -> npt.NDArray[np.float64]:
    """What `unmask_stage` does with the vector, the first `dropped` being gone: the mean."""
    total = parameters_mod(total, MOD_RANGE)
    alive = everybody[dropped:]
    for node, secret in zip(everybody, secrets, strict=True):
        if node.number >= dropped:
            mask = pseudo_rand_gen(secret, MOD_RANGE, get_parameters_shape(total))
            total = parameters_subtraction(total, mask)
            continue
        for peer in itertools.chain(everybody[: node.number], everybody[node.number + 1 :]):
            shared_key = generate_shared_key(
                bytes_to_private_key(secret), bytes_to_public_key(peer.public_key)
            )
            mask = pseudo_rand_gen(shared_key, MOD_RANGE, get_parameters_shape(total))
            if node.number > peer.number:
                total = parameters_addition(total, mask)
            else:
                total = parameters_subtraction(total, mask)
    return _mean(parameters_mod(total, MOD_RANGE), len(alive))


def _mean(total: Vectors, clients: int) -> npt.NDArray[np.float64]:
    ratio, vectors = factor_extract(total)
    mean: npt.NDArray[np.float64]
    (mean,) = dequantize(vectors, CLIPPING_RANGE, TARGET_RANGE)
    mean += -(clients - 1) * CLIPPING_RANGE
    mean *= TARGET_RANGE / ratio
    return mean
