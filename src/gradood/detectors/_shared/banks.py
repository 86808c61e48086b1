"""Bounds on the fit samples that a detector keeps: how many, and in how many bits."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from gradood.detectors.base import State, require
from gradood.errors import BoundedFitWarning, DataError, warn_caller
from gradood.functional._tensor_shapes import integer, integers
from gradood.functional.codes import Codes, rotated
from gradood.functional.kept_rows import KeptRows
from gradood.functional.neighbors import AnyBank, Bank, CodedPolar, Polar, by_length, polar

__all__ = [
    "Bits",
    "KeptVectors",
    "bounded_rows",
    "check_bits",
    "check_samples",
    "coded_bank_state",
    "codes_note",
    "codes_state",
    "rows_within",
    "sample_state",
    "samples_note",
    "scaled_neighbor",
    "search_in",
    "size_in_words",
]

_EXACT = 1 << 30
"""Bytes of fit samples that are kept as they are, if nobody says."""
_NARROW = 128
"""Coordinates below which four bits lose more than 0.2 points of the AUROC."""
_PAGE = "docs/results/banks.md"
Bits = Literal["auto", 4, 8, 32]


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


def check_bits(bits: object) -> None:
    """Check an option that says in how many bits per number fit samples are kept.

    Raises:
        ConfigError: it is none of 4, 8, 32 and ``"auto"``.
    """
    known = type(bits) in (int, str) and bits in ("auto", 4, 8, 32)
    require(known, "bits", bits, "4, 8, 32 or 'auto'")


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


def codes_state(packed: Tensor, bits: int, method: str, asked: Bits) -> dict[str, Tensor]:
    """``{"codes", "bits"}`` of fit samples, with a warning if nobody asked for them.

    Args:
        packed: of `Codes`.
        bits: of a number.
        method: name of the detector.
        asked: its option.
    """
    state = {"codes": packed, "bits": torch.tensor(bits, device=packed.device)}
    if asked == "auto":
        meant = f"bits=32 to keep them as they are, or bits={bits} if it is meant"
        warn_of_bound(method, codes_note(state)[0], meant)
    return state


def coded_bank_state(
    packed: Tensor, log_length: Tensor, bits: int, method: str, asked: Bits
) -> dict[str, Tensor]:
    """`codes_state` by ascending length, and ``"log_length"``, if not all lengths are 1.

    Args:
        packed: of `Codes`.
        log_length: (rows,) of the vectors.
        bits: of a number.
        method: name of the detector.
        asked: its option.
    """
    order = by_length(log_length)
    if order is not None:
        packed, log_length = packed[order], log_length[order]
    lengths = {"log_length": log_length} if bool((log_length != 0).any()) else {}
    return codes_state(packed, bits, method, asked) | lengths


def search_in(state: State, query: Polar) -> tuple[Polar, AnyBank]:
    """Queries as the bank of a state needs them, and the bank, exact or coded.

    Args:
        state: with ``"unit"`` and ``"log_length"``, or from `coded_bank_state`.
        query: vectors to be compared with it.
    """
    if "codes" not in state:
        return query, Bank(Polar(state["unit"], state["log_length"]))
    codes = Codes(state["codes"], query.unit.shape[1], int(state["bits"]))
    lengths = state.get("log_length")
    if lengths is None:
        lengths = query.log_length.new_zeros(len(codes))
    return Polar(rotated(query.unit), query.log_length), Bank(CodedPolar(codes, lengths))


def codes_note(state: State) -> tuple[str, ...]:
    """What a detector says of itself that keeps codes.

    Args:
        state: with ``"codes"`` and ``"bits"``, if that is so.
    """
    if "codes" not in state:
        return ()
    packed, bits = state["codes"], int(state["bits"])
    held = packed.numel()
    return (
        f"keeps {len(packed):,} directions in {bits} bits per number: {size_in_words(held)} in "
        f"place of {size_in_words(32 // bits * held)}, for 0.3 points of AUROC at most in {_PAGE}",
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


@dataclass(frozen=True, eq=False, slots=True)
class KeptVectors:
    """Vectors of fit samples: as they are up to a number of them, in codes above it.

    Attributes:
        rows: columns ``key``, and ``vectors``; or ``unit`` or ``codes``, and ``log_length``, where
            a row whose direction is not finite has a length of NaN.
        exact: rows that are not coded at most; None for any number.
        bits: of a number in the codes.
        coded: whether they are coded.
    """

    rows: KeptRows
    exact: int | None
    bits: Literal[4, 8]
    coded: bool = False

    @staticmethod
    def of(keys: Tensor, vectors: Polar | Tensor, samples: int | None, bits: Bits) -> "KeptVectors":
        """Those of one batch.

        Args:
            keys: (batch,) content keys.
            vectors: of the samples.
            samples: that are kept at most; None for all.
            bits: per number; ``"auto"`` is 32 up to 1 GiB; above, 8 for narrow vectors, and 4.
        """
        columns = _columns(vectors) if isinstance(vectors, Polar) else {"vectors": vectors}
        first = next(iter(columns.values()))
        rows = KeptRows.of(samples, key=keys, **columns)
        limit = rows_within(first.shape[1] * first.element_size())
        exact = {"auto": limit, 32: None}.get(bits, 0)
        narrow = bits == 8 or (bits == "auto" and first.shape[1] < _NARROW)
        return KeptVectors(rows, exact, 8 if narrow else 4)._settled()

    def merge(self, other: "KeptVectors") -> "KeptVectors":
        """Those of both."""
        a, b = self, other
        if a.coded or b.coded:
            a, b = a.as_codes(), b.as_codes()
        return replace(a, rows=a.rows.merge(b.rows))._settled()

    def tensors(self) -> dict[str, Tensor]:
        """The columns, sorted by key, and the counts, which are on the CPU."""
        counts = {"bits": self.bits} | ({} if self.exact is None else {"exact": self.exact})
        return {**self.rows.tensors(), **integers(counts)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "KeptVectors":
        """What `tensors` gave.

        Raises:
            DataError: they are others.
        """
        what = "a bank of directions"
        bits = integer(what, tensors, "bits")
        exact = integer(what, tensors, "exact") if "exact" in tensors else None
        own = {name: t for name, t in tensors.items() if name not in ("bits", "exact")}
        rows = KeptRows.from_tensors(own)
        columns = own.keys() - {"key", "seen", "size"}
        if bits not in (4, 8) or columns not in _COLUMNS:
            raise DataError(f"{what} of {bits} bits cannot be made of {sorted(own)[:6]}.")
        return cls(rows, exact, 4 if bits == 4 else 8, "codes" in own)

    def as_codes(self) -> "KeptVectors":
        """The same in codes."""
        if self.coded:
            return self
        return replace(self, rows=self.rows.mapped(self._coded), coded=True)

    def _settled(self) -> "KeptVectors":
        """Coded, if that many samples are."""
        size = self.rows.size
        rows = self.rows.seen if size is None else min(size, self.rows.seen)
        return self if self.exact is None or rows <= self.exact else self.as_codes()

    def _coded(self, columns: dict[str, Tensor]) -> dict[str, Tensor]:
        if "vectors" in columns:
            columns = {"key": columns["key"], **_columns(polar(columns["vectors"]))}
        others = {name: column for name, column in columns.items() if name != "unit"}
        return {**others, "codes": Codes.of(columns["unit"], self.bits).packed}


_COLUMNS = ({"vectors"}, {"unit", "log_length"}, {"codes", "log_length"})


def _columns(vectors: Polar) -> dict[str, Tensor]:
    lost = ~vectors.unit.isfinite().all(1)
    return {"unit": vectors.unit, "log_length": vectors.log_length.masked_fill(lost, torch.nan)}
