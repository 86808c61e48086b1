"""Even samples of a listing: every class by its share, and every part of the listing."""

import math
import random
from collections.abc import Hashable, Sequence
from itertools import pairwise

__all__ = ["SEED", "drawn_rows", "even_sample"]

SEED = 0
"""Of every draw that a slice or limit makes, so that it names the same images everywhere."""


def even_sample(groups: Sequence[Hashable], count: int, *, seed: int = SEED) -> list[int]:
    """Rows drawn without replacement, in ascending order: a small copy of the whole.

    Each group gets its share of `count` (largest remainders), and at least one row where `count`
    allows one for each. Within a group the rows are cut into as many equal parts as are drawn, and
    one row is drawn of each: an order that nobody named, such as by date or camera, is covered too.

    Args:
        groups: of each row, such as its class; one value throughout where there are no classes.
        count: rows wanted; all are taken where there are no more.
        seed: of the draw.

    Cost: a pass over `groups`.

    >>> even_sample([0, 0, 0, 0, 1, 1], 3), len(even_sample("aab", 9))
    ([1, 3, 4], 3)
    """
    total = len(groups)
    if count >= total:
        return list(range(total))
    members: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    generator = random.Random(seed)
    if count < len(members):
        ordered = [row for rows in members.values() for row in rows]
        return sorted(_one_of_each_part(ordered, count, generator))
    shares = _shares([len(rows) for rows in members.values()], count)
    found: list[int] = []
    for rows, share in zip(members.values(), shares, strict=True):
        found += _one_of_each_part(rows, share, generator)
    return sorted(found)


def drawn_rows(groups: Sequence[Hashable], part: slice) -> Sequence[int]:
    """The rows that a slice of a source takes.

    ``[:n]`` draws `n` rows evenly, and ``[n:]`` takes those that ``[:n]`` leaves. With both ends
    given, or one that is negative, rows are counted as Python counts.

    Args:
        groups: of each row.
        part: without a step.

    >>> drawn_rows([0, 0, 1, 1], slice(None, 2)), drawn_rows([0, 0, 1, 1], slice(2, None))
    ([1, 3], [0, 2])
    >>> drawn_rows([0, 0, 1, 1], slice(0, 2))
    range(0, 2)
    """
    rows = range(len(groups))
    given = [end for end in (part.start, part.stop) if end is not None]
    if len(given) != 1 or given[0] < 0:
        return rows[part]
    if part.start is None:
        return even_sample(groups, given[0])
    taken = set(even_sample(groups, given[0]))
    return [row for row in rows if row not in taken]


def _shares(sizes: Sequence[int], count: int) -> list[int]:
    """Rows of each group, at least one, `count` together; `count` is at least one for each."""
    total = sum(sizes)
    exact = [count * size / total for size in sizes]
    shares = [max(1, math.floor(share)) for share in exact]
    while (missing := count - sum(shares)) != 0:
        # Largest remainders; where the rare groups took too much, from those with most above.
        step = 1 if missing > 0 else -1
        open_groups = [
            g for g, share in enumerate(shares) if (share < sizes[g] if step > 0 else share > 1)
        ]
        open_groups.sort(key=lambda g: (step * (shares[g] - exact[g]), g))
        for group in open_groups[: abs(missing)]:
            shares[group] += step
    return shares


def _one_of_each_part(rows: Sequence[int], count: int, generator: random.Random) -> list[int]:
    bounds = [len(rows) * part // count for part in range(count + 1)] if count else [0]
    return [rows[generator.randrange(low, high)] for low, high in pairwise(bounds)]
