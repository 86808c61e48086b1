"""Bounds on the fit samples that a detector keeps: how many, and in how many bits."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from gradood.detectors.base import State, require
from gradood.errors import BoundedFitWarning, DataError, warn_caller
from gradood.functional._tensor_shapes import integer, integers
from gradood.functional.codes import Codes
from gradood.functional.kept_rows import KeptRows
from gradood.functional.neighbors import Polar

__all__ = [
    "Bits",
    "KeptDirections",
    "bounded_rows",
    "check_samples",
    "codes_note",
    "rows_within",
    "sample_state",
    "samples_note",
    "scaled_neighbor",
    "size_in_words",
    "warn_of_bound",
]

_EXACT = 1 << 30
"""Bytes of fit samples that are kept as they are, if nobody says."""
_NARROW = 128
"""Coordinates below which four bits lose more than 0.2 points of the AUROC."""
_PAGE = "docs/results/banks.md"


def rows_within(row_bytes: int) -> int:
    """How many rows 1 GiB holds: up to that many, a detector keeps all fit samples as they are.

    Args:
        row_bytes: of one row.
    """
    return max(1, _EXACT // max(1, row_bytes))


def check_samples(samples: int | None, option: str = "samples") -> None:
    """Check an option that says how many fit samples are kept.

    Raises:
        ConfigError: it is neither None nor a whole number > 0.
    """
    whole = isinstance(samples, int) and not isinstance(samples, bool) and samples > 0
    require(samples is None or whole, option, samples, "a whole number > 0, or None")


def size_in_words(count: float) -> str:
    """A number of bytes, for people.

    >>> size_in_words(10_495_320_064)
    '9.8 GiB'
    """
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} bytes"


def scaled_neighbor(k: int, kept: int, seen: int) -> int:
    """Which neighbor among the samples kept is as near as the k-th among all: k · kept / seen."""
    return max(1, round(k * kept / max(1, seen)))


def samples_note(state: State, chosen: str = "content") -> tuple[str, ...]:
    """What a detector says of itself that keeps a part of the fit samples.

    Args:
        state: with ``"kept"`` and ``"seen"``, if that is so.
        chosen: by what.
    """
    if "seen" not in state:
        return ()
    kept, seen = int(state["kept"]), int(state["seen"])
    return (
        f"keeps {kept:,} of {seen:,} fit samples, chosen by {chosen}: {100 * kept / seen:.2g} % of "
        f"their memory, for what {_PAGE} tells of the AUROC",
    )


def codes_note(packed: Tensor, bits: int) -> str:
    """What a bank says of itself that holds codes.

    Args:
        packed: of `Codes`.
        bits: of a number.
    """
    held = packed.numel()
    return (
        f"keeps {len(packed):,} directions in {bits} bits per number: {size_in_words(held)} in "
        f"place of {size_in_words(32 // bits * held)}, for 0.3 points of AUROC at most in {_PAGE}"
    )


def warn_of_bound(method: str, note: str, otherwise: str) -> None:
    """Warn that a bound applies that nobody asked for.

    Args:
        method: name of the detector.
        note: what is kept, and what it loses.
        otherwise: what to give to keep all, or to say that the bound is meant.
    """
    warn_caller(
        f"{method} {note}, as all fit samples take more than 1 GiB. Give {otherwise}.",
        BoundedFitWarning,
    )


def bounded_rows(samples: int | None, **columns: Tensor) -> KeptRows:
    """Rows of one batch, of which as many are kept as was said, or as 1 GiB holds.

    Args:
        samples: kept at most; None for those that 1 GiB holds.
        columns: ``key``, and what is kept.
    """
    row_bytes = sum(c.shape[1:].numel() * c.element_size() for c in columns.values() if c.ndim > 1)
    return KeptRows.of(rows_within(row_bytes) if samples is None else samples, **columns)


def sample_state(rows: KeptRows, method: str, samples: int | None, option: str) -> State:
    """``{"kept", "seen"}`` of rows of which some were dropped, with a warning if nobody asked.

    Args:
        rows: from `bounded_rows`.
        method: name of the detector.
        samples: what was asked for.
        option: that says so.
    """
    kept = rows.seen if rows.size is None else min(rows.size, rows.seen)
    if kept == rows.seen:
        return {}
    device = next(iter(rows.chunks))["key"].device
    counts = {"kept": kept, "seen": rows.seen}
    state = {name: torch.tensor(count, device=device) for name, count in counts.items()}
    if samples is None:
        otherwise = f"{option}={rows.seen} to keep them, or {option}={kept} if it is meant"
        warn_of_bound(method, samples_note(state)[0], otherwise)
    return state


Bits = Literal["auto", 4, 8, 32]


@dataclass(frozen=True, eq=False, slots=True)
class KeptDirections:
    """Directions and lengths of fit samples: in float32 up to a number of them, in codes above it.

    Attributes:
        rows: columns ``key``, ``log_length``, and ``unit`` or ``codes``; a row whose direction is
            not finite has a length of NaN.
        exact: rows in float32 at most; None for any number.
        bits: of a number in the codes.
        coded: whether they are coded.
    """

    rows: KeptRows
    exact: int | None
    bits: Literal[4, 8]
    coded: bool = False

    @staticmethod
    def of(keys: Tensor, vectors: Polar, samples: int | None, bits: Bits) -> "KeptDirections":
        """Those of one batch.

        Args:
            keys: (batch,) content keys.
            vectors: of the samples.
            samples: that are kept at most; None for all.
            bits: per number; ``"auto"`` is 32 up to 1 GiB; above, 8 for narrow vectors, and 4.
        """
        width = vectors.unit.shape[1]
        lost = ~vectors.unit.isfinite().all(1)
        length = vectors.log_length.masked_fill(lost, torch.nan)
        rows = KeptRows.of(samples, key=keys, unit=vectors.unit, log_length=length)
        exact = {"auto": rows_within(4 * width), 32: None}.get(bits, 0)
        narrow = bits == 8 or (bits == "auto" and width < _NARROW)
        return KeptDirections(rows, exact, 8 if narrow else 4)._settled()

    def merge(self, other: "KeptDirections") -> "KeptDirections":
        """Those of both."""
        a, b = self, other
        if a.coded or b.coded:
            a, b = a._as_codes(), b._as_codes()
        return replace(a, rows=a.rows.merge(b.rows))._settled()

    def tensors(self) -> dict[str, Tensor]:
        """The columns, sorted by key, and the counts, which are on the CPU."""
        counts = {"bits": self.bits} | ({} if self.exact is None else {"exact": self.exact})
        return {**self.rows.tensors(), **integers(counts)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "KeptDirections":
        """What `tensors` gave.

        Raises:
            DataError: they are others.
        """
        what = "a bank of directions"
        bits = integer(what, tensors, "bits")
        exact = integer(what, tensors, "exact") if "exact" in tensors else None
        own = {name: t for name, t in tensors.items() if name not in ("bits", "exact")}
        rows = KeptRows.from_tensors(own)
        columns = {"key", "log_length", "codes" if "codes" in own else "unit", "seen", "size"}
        if bits not in (4, 8) or own.keys() | {"size"} != columns:
            raise DataError(f"{what} of {bits} bits cannot be made of {sorted(own)[:6]}.")
        return cls(rows, exact, 4 if bits == 4 else 8, "codes" in own)

    def _settled(self) -> "KeptDirections":
        """Coded, if that many samples are."""
        size = self.rows.size
        rows = self.rows.seen if size is None else min(size, self.rows.seen)
        return self if self.exact is None or rows <= self.exact else self._as_codes()

    def _as_codes(self) -> "KeptDirections":
        if self.coded:
            return self
        return replace(self, rows=self.rows.mapped(self._coded), coded=True)

    def _coded(self, columns: dict[str, Tensor]) -> dict[str, Tensor]:
        others = {name: column for name, column in columns.items() if name != "unit"}
        return {**others, "codes": Codes.of(columns["unit"], self.bits).packed}
