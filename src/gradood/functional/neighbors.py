"""Exact nearest neighbors in a bank of vectors, in bounded memory."""

from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from gradood.evidence.tracing import tracing
from gradood.functional.codes import Codes
from gradood.functional.precision import full_products

__all__ = ["AnyBank", "Bank", "CodedPolar", "Polar", "by_length", "kth_distance", "polar"]

_BLOCK = 4096
_ROWS = 256
"""Queries searched at a time."""
_TOGETHER = 16
"""Blocks whose candidates are selected at once."""
_SPARE = 7
"""Candidates kept beyond k, so that float32 rounding cannot hide the true k nearest."""
_ROUNDING = {torch.float32: 1e-5, torch.float64: 1e-13}
"""Of a squared distance taken from a product, in units of the lengths that are multiplied."""
_TINY = -1e5
_MODERATE = 30.0
"""Range of log lengths whose squares are all ordinary numbers in float32."""


@dataclass(frozen=True, eq=False, slots=True)
class Polar:
    """Vectors as direction and logarithm of length, which neither overflow nor underflow.

    Attributes:
        unit: (rows, width) float32 directions; zero for a zero vector.
        log_length: (rows,) float64.
    """

    unit: Tensor
    log_length: Tensor


@dataclass(frozen=True, eq=False, slots=True)
class CodedPolar:
    """The same in an eighth of the memory: directions in four bits per coordinate, and rotated.

    Attributes:
        unit: codes of the directions.
        log_length: (rows,) float64.
    """

    unit: Codes
    log_length: Tensor


def by_length(log_length: Tensor) -> Tensor | None:
    """(rows,) places in ascending order, equal ones as they come; None if they are so already."""
    if bool((log_length[1:] >= log_length[:-1]).all()):
        return None
    return torch.argsort(log_length, stable=True)


V = TypeVar("V", Polar, CodedPolar)


@dataclass(frozen=True, eq=False, slots=True)
class Bank(Generic[V]):
    """Reference vectors, sorted by length.

    Attributes:
        vectors: ascending in `log_length`; where they are coded, queries must be `rotated`.
    """

    vectors: V

    @staticmethod
    def of(vectors: Polar) -> "Bank[Polar]":
        """A bank of these vectors."""
        order = by_length(vectors.log_length)
        if order is None:
            return Bank(Polar(vectors.unit.contiguous(), vectors.log_length))
        return Bank(Polar(vectors.unit[order].contiguous(), vectors.log_length[order]))


AnyBank = Bank[Polar] | Bank[CodedPolar]


def polar(vectors: Float[Tensor, "rows width"]) -> Polar:
    """Direction and log length of each row."""
    wide = vectors.double()
    length = torch.linalg.vector_norm(wide, dim=1)
    unit = wide / length.clamp_min(torch.finfo(torch.float64).tiny)[:, None]
    return Polar(unit.float(), length.log().clamp_min(_TINY))


def kth_distance(queries: Polar, bank: AnyBank, k: int) -> Float[Tensor, " rows"]:
    """Euclidean distance from each query to its k-th nearest vector of the bank.

    Exact; of a coded bank, to the vectors that the codes stand for.

    The bank is searched block by block, nearest lengths first: the difference of lengths bounds
    the distance from below, so whole blocks are skipped once the k best are closer. Candidates are
    found in float32 and their distances computed again in float64; queries whose candidates
    float32 cannot tell from the rest are searched again in float64, and where products in float64
    cannot either, by differences.

    Args:
        queries: (batch) vectors.
        bank: at least k vectors.
        k: which neighbor.

    Returns:
        float64.

    Cost:
        At most batch · bank · width multiplications; memory for 18 blocks of (256, 4096).
    """
    if tracing():
        return _dense(queries, bank, k)
    parts = zip(queries.unit.split(_ROWS), queries.log_length.split(_ROWS), strict=True)
    return torch.cat([_kth(Polar(*part), bank, k) for part in parts])


def _dense(queries: Polar, bank: AnyBank, k: int) -> Tensor:
    """The same for a graph: all of the bank in one product, candidates' distances by differences.

    In units of the longest vector of the bank, or of the query where that is longer.
    """
    units = bank.vectors.unit
    vectors = Polar(units if isinstance(units, Tensor) else units[:], bank.vectors.log_length)
    scale = torch.maximum(queries.log_length, vectors.log_length[-1])
    own = (queries.log_length - scale).exp()
    other = (vectors.log_length[None] - scale[:, None]).exp()
    products = (queries.unit.double() * own[:, None]) @ vectors.unit.double().T
    lengths = vectors.unit.double().square().sum(1)
    squared = other.square() * lengths - 2 * products * other
    keep = min(k + _SPARE, vectors.unit.shape[0])
    index = torch.topk(squared, keep, 1, largest=False).indices
    near = vectors.unit[index].double() * other.gather(1, index)[..., None]
    difference = (queries.unit.double() * own[:, None])[:, None] - near
    distance = difference.square().sum(2).sqrt()
    return torch.topk(distance, k, 1, largest=False).values[:, -1] * scale.exp()


def _kth(queries: Polar, bank: AnyBank, k: int) -> Tensor:
    scale = _scale(queries, bank, k)
    found, doubt = _nearest(queries, bank, k, scale, torch.float32)
    for search in (_nearest, _exhaustive):
        if not bool(doubt.any()):
            break
        rows = doubt.nonzero()[:, 0]
        some = Polar(queries.unit[rows], queries.log_length[rows])
        found[rows], doubt[rows] = search(some, bank, k, scale[rows], torch.float64)
    return found * scale.exp()


def _nearest(
    queries: Polar, bank: AnyBank, k: int, scale: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Distances to the k-th nearest, in units of `scale`, and for which rows they are in doubt.

    Args:
        queries: vectors.
        bank: at least k vectors.
        k: which neighbor.
        scale: from `_scale`.
        dtype: in which candidates are found; their distances are in float64.
    """
    keep = min(k + _SPARE, len(bank.vectors.unit))
    best = queries.log_length.new_full((len(queries.unit), keep), torch.inf, dtype=dtype)
    index = torch.zeros_like(best, dtype=torch.int64)
    length = (queries.log_length - scale).exp()
    rounding = _ROUNDING[dtype]
    squares = (length if dtype == torch.float32 else length * _true_length(queries)).square()[
        :, None
    ]
    searched: dict[int, Tensor] = {}
    # Few blocks at first, so that what is found soon spares the search of others.
    together = 1
    with full_products():
        for start, bound in (*_blocks(queries, bank, scale), (-1, None)):
            if searched and (bound is None or len(searched) == together):
                near, place = _smallest(searched, keep)
                near = near.add_(squares.to(dtype)).clamp_min_(0)
                best, order = torch.topk(torch.cat([best, near], 1), keep, 1, largest=False)
                index = torch.cat([index, place], 1).gather(1, order)
                searched, together = {}, min(2 * together, _TOGETHER)
            if bound is None:
                break
            # A candidate may be taken for nearer than it is, by rounding: for zero, even.
            kth = best[:, k - 1]
            if bool((bound > kth * (1 + 1e-4) + rounding * length * (length + kth.sqrt())).all()):
                continue
            searched[start] = _search(queries, bank, scale, start, dtype)
    found = _exact(queries, bank, index, k, scale)
    # What was left out must be farther away than its rounding.
    doubt = (found > 0) & (found.square() > best[:, -1] - rounding * length * (length + found))
    return found, doubt & (keep < len(bank.vectors.unit))


def _exhaustive(
    queries: Polar, bank: AnyBank, k: int, scale: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """The same by differences, for the few queries among near-duplicates."""
    own = queries.unit.to(dtype) * (queries.log_length - scale).exp()[:, None]
    best = own.new_full((len(own), k), torch.inf)
    for start in range(0, len(bank.vectors.unit), _BLOCK):
        units = bank.vectors.unit[start : start + _BLOCK].to(dtype)
        lengths = bank.vectors.log_length[start : start + _BLOCK]
        for i in range(len(own)):
            other = units * (lengths - scale[i]).exp()[:, None]
            distances = torch.linalg.vector_norm(other - own[i], dim=1).nan_to_num(nan=torch.inf)
            best[i] = torch.cat([best[i], distances]).topk(k, largest=False).values
    return best[:, -1], torch.zeros_like(scale, dtype=torch.bool)


def _blocks(queries: Polar, bank: AnyBank, scale: Tensor) -> list[tuple[int, Tensor]]:
    """Starts of blocks, closest lengths first, with a lower bound of squared distance per query."""
    lengths = bank.vectors.log_length
    own = (queries.log_length - scale).exp()
    blocks: list[tuple[int, Tensor, float]] = []
    for start in range(0, len(lengths), _BLOCK):
        stop = min(start + _BLOCK, len(lengths)) - 1
        low, high = (lengths[start] - scale).exp(), (lengths[stop] - scale).exp()
        gap = torch.maximum(low - own, own - high).clamp_min(0)
        bound = gap.square()
        blocks.append((start, bound.float(), float(bound.nan_to_num(posinf=1e30).mean())))
    blocks.sort(key=lambda block: block[2])
    return [(start, bound) for start, bound, _ in blocks]


def _search(queries: Polar, bank: AnyBank, scale: Tensor, start: int, dtype: torch.dtype) -> Tensor:
    """(rows, block) squared distances to one block in units of `scale`, less the query's square."""
    units = bank.vectors.unit[start : start + _BLOCK].to(dtype)
    lengths = bank.vectors.log_length[start : start + _BLOCK][None]
    # Lengths beyond float32 make NaN, which would hide the other blocks' vectors of that column.
    ordinary = lengths[0, -1] - scale[0] < _MODERATE
    common = bool((scale == scale[0]).all() & ordinary)
    other = (lengths - (scale[:1, None] if common else scale[:, None])).exp().to(dtype)
    own = (queries.log_length - scale).exp().to(dtype)[:, None]
    # Directions were rounded to float32: their length is 1 to that precision only.
    rounded = units.square().sum(1) if dtype == torch.float64 else 1.0
    # a² + b² − 2ab cos, without a² until the nearest are found
    factor = -2 * own * queries.unit.to(dtype)
    if common:
        return torch.addmm(other.square() * rounded, factor, (units * other.T).T)
    squared = (factor @ units.T).mul_(other).add_(other.square() * rounded)
    return squared.nan_to_num_(nan=torch.inf)


def _smallest(searched: dict[int, Tensor], keep: int) -> tuple[Tensor, Tensor]:
    """The `keep` smallest of several blocks' rows, and their places in the bank.

    They lie in the `keep` columns whose least value over the blocks is smallest: one selection
    among the columns and one among the few left, instead of one in each block.
    """
    # The bank's last block may be shorter than the others.
    least = max(searched.values(), key=lambda block: block.shape[1]).clone()
    for block in searched.values():
        torch.minimum(least[:, : block.shape[1]], block, out=least[:, : block.shape[1]])
    columns = torch.topk(least, min(keep, least.shape[1]), 1, largest=False).indices
    values, places = [], []
    for start, block in searched.items():
        beyond = columns >= block.shape[1]
        found = block.gather(1, columns.clamp_max(block.shape[1] - 1))
        values.append(found.masked_fill_(beyond, torch.inf))
        places.append((columns + start).masked_fill_(beyond, 0))
    near, order = torch.topk(
        torch.cat(values, 1), min(keep, len(searched) * columns.shape[1]), 1, largest=False
    )
    return near, torch.cat(places, 1).gather(1, order)


def _true_length(queries: Polar) -> Tensor:
    """(rows,) length of the directions, which are 1 to float32's precision only."""
    return torch.linalg.vector_norm(queries.unit.double(), dim=1)


def _scale(queries: Polar, bank: AnyBank, k: int) -> Tensor:
    """(rows,) logarithm of the length in whose units each query is searched.

    One for all where every length is then ordinary in float32. Else a query's own, or the k-th
    shortest in the bank: k vectors lie within that of the origin, so no answer exceeds twice it.
    """
    lengths = bank.vectors.log_length
    top = torch.maximum(lengths[-1], queries.log_length.max())
    if bool(top - lengths[0] < _MODERATE):
        return top.expand(len(queries.log_length))
    return torch.maximum(queries.log_length, lengths[k - 1])


def _exact(queries: Polar, bank: AnyBank, index: Tensor, k: int, scale: Tensor) -> Tensor:
    """Distances to the k-th of the candidates, in float64, in units of `scale`."""
    parts: list[Tensor] = []
    rows = max(1, (1 << 22) // max(1, index.shape[1] * queries.unit.shape[1]))
    vectors = bank.vectors
    for i in range(0, len(index), rows):
        part = slice(i, i + rows)
        own = queries.unit[part].double() * (queries.log_length[part] - scale[part]).exp()[:, None]
        lengths = (vectors.log_length[index[part]] - scale[part, None]).exp()
        other = vectors.unit[index[part]].double() * lengths[..., None]
        distances = torch.linalg.vector_norm(own[:, None] - other, dim=2)
        # Not kthvalue, which has no deterministic version on CUDA.
        parts.append(distances.topk(k, 1, largest=False).values[:, -1])
    return torch.cat(parts)
