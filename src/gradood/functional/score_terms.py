"""Terms of distances, norms and quadratic forms by coordinate, which sum to them.

The norms are homogeneous: by Euler, the terms are the coordinates times the derivatives, and are
the Aumann-Shapley values from the origin.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from gradood.functional.codes import rotated
from gradood.functional.neighbors import Bank, CodedPolar, Polar

__all__ = [
    "followed_distance",
    "kth_neighbor",
    "neighbor_terms",
    "norm_terms",
    "part_norm_terms",
]

AnyBank = Bank[Polar] | Bank[CodedPolar]
_SPARE = 8
_BLOCK = 1 << 14


def norm_terms(vectors: Float[Tensor, "batch size"], order: float) -> Float[Tensor, "batch size"]:
    """``|x_d|^q / ‖x‖_q^(q−1)``, whose sum is ``‖x‖_q``; those of the largest for q = ∞."""
    sizes = vectors.abs()
    if order == torch.inf:
        largest = sizes.amax(1, keepdim=True)
        equal = (sizes == largest).double()
        return largest * equal / equal.sum(1, keepdim=True)
    norm = torch.linalg.vector_norm(sizes, order, dim=1, keepdim=True)
    share = sizes / torch.where(norm > 0, norm, 1.0)
    return norm * share.pow(order)


def part_norm_terms(
    vectors: Float[Tensor, "batch size"], operator: Float[Tensor, "size size"]
) -> Float[Tensor, "batch size"]:
    """``x_d (A Aᵀ x)_d / ‖Aᵀ x‖``, whose sum is the length of ``x A``, of row vectors x."""
    part = vectors @ operator
    length = torch.linalg.vector_norm(part, dim=1, keepdim=True)
    return vectors * ((part / torch.where(length > 0, length, 1.0)) @ operator.T)


def neighbor_terms(queries: Polar, bank: AnyBank, k: int) -> Float[Tensor, "batch size"]:
    """``(q_d − n_d)² / ‖q − n‖`` with n the k-th nearest in the bank; their sum is its distance.

    Of a coded bank the difference is turned back first, to the coordinates of the features.
    """
    index = kth_neighbor(queries, bank, k)
    scale, own, other = _in_common_units(queries, bank, index[:, None])
    difference = own - other[:, 0]
    if isinstance(bank.vectors, CodedPolar):
        turned = rotated(torch.eye(own.shape[1], dtype=own.dtype, device=own.device))
        difference = difference @ turned.T
    squares = difference.square()
    length = squares.sum(1, keepdim=True).sqrt()
    return squares / torch.where(length > 0, length, 1.0) * scale.exp()[:, None]


def followed_distance(queries: Polar, bank: AnyBank, k: int) -> Float[Tensor, " batch"]:
    """`kth_distance` with its gradient, a block of the bank at a time.

    Cost:
        As `kth_neighbor`.
    """
    with torch.no_grad():
        index = kth_neighbor(queries, bank, k)
    scale, own, other = _in_common_units(queries, bank, index[:, None])
    return torch.linalg.vector_norm(own - other[:, 0], dim=1) * scale.exp()


def kth_neighbor(queries: Polar, bank: AnyBank, k: int) -> Int[Tensor, " batch"]:
    """Place in the bank of each query's k-th nearest vector; of equally near ones, any.

    Cost:
        batch · bank · size multiplications in float64.
    """
    lengths = bank.vectors.log_length
    scale = torch.maximum(queries.log_length, lengths[min(k, len(lengths)) - 1])
    own = queries.unit.double() * (queries.log_length - scale).exp()[:, None]
    keep = min(k + _SPARE, len(lengths))
    best = own.new_full((len(own), 0), torch.inf)
    index = torch.zeros(len(own), 0, dtype=torch.int64, device=own.device)
    for start in range(0, len(lengths), _BLOCK):
        units = bank.vectors.unit[start : start + _BLOCK].double()
        size = (lengths[start : start + _BLOCK][None] - scale[:, None]).exp()
        squared = size.square() * units.square().sum(1) - 2 * (own @ units.T) * size
        place = torch.arange(start, start + len(units), device=own.device).expand_as(squared)
        squared = torch.cat([best, squared.nan_to_num(nan=torch.inf)], 1)
        best, order = squared.topk(min(keep, squared.shape[1]), 1, largest=False)
        index = torch.cat([index, place], 1).gather(1, order)
    scale, own, other = _in_common_units(queries, bank, index)
    distance = torch.linalg.vector_norm(own[:, None] - other, dim=2)
    return index.gather(1, distance.topk(k, 1, largest=False).indices[:, -1:])[:, 0]


def _in_common_units(queries: Polar, bank: AnyBank, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log of the unit (batch,), queries in it (batch, size), some of the bank (batch, n, size)."""
    lengths = bank.vectors.log_length[index]
    scale = torch.maximum(queries.log_length, lengths.amax(1))
    own = queries.unit.double() * (queries.log_length - scale).exp()[:, None]
    other = bank.vectors.unit[index].double() * (lengths - scale[:, None]).exp()[..., None]
    return scale, own, other
