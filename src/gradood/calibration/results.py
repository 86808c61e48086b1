"""Scores of a batch, and decisions about its samples."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, overload

import torch
from torch import Tensor

from gradood._io import html
from gradood._io.arguments import plain, real
from gradood._io.dataframe import data_frame
from gradood.calibration._batch_scores import BatchScores
from gradood.calibration._rows import PREVIEW, Rows, positions, preview, share
from gradood.calibration._why import Explained, source_of, with_source
from gradood.errors import ConfigError, DataError, UnknownNameError, suggest

__all__ = ["BatchScores", "Result", "Results", "Status", "benjamini_hochberg"]


def benjamini_hochberg(p_values: Tensor, fdr: float) -> Tensor:
    """The samples of a batch to report as out-of-distribution [benjamini1995fdr].

    With m p-values in ascending order, those up to the last p₍ᵢ₎ ≤ fdr · i/m. In expectation at
    most `fdr` of the reported samples are in-distribution; this holds for conformal p-values too,
    although they share their calibration samples [bates2023conformal].

    Args:
        p_values: (m,) from 0 to 1.
        fdr: the false discovery rate allowed, between 0 and 1.

    Returns:
        (m,) bool on the CPU.

    Raises:
        ConfigError: `fdr` is out of range.
        DataError: a p-value is not from 0 to 1.

    Example:
        >>> benjamini_hochberg(torch.tensor([0.5, 0.01, 0.03]), 0.1).tolist()
        [False, True, True]
    """
    fdr = plain(fdr)
    number = real(fdr)
    if number is None or not 0 < number < 1:
        raise ConfigError(f"fdr={fdr!r}; expected a number between 0 and 1.")
    p = p_values.detach().to("cpu", torch.float64)
    if p.ndim != 1 or not bool(((p >= 0) & (p <= 1)).all()):
        raise DataError(
            f"p_values of shape {tuple(p.shape)} are no p-values; expected (m,) from 0 to 1."
        )
    ordered = p.sort().values
    places = torch.arange(1, len(p) + 1, dtype=torch.float64, device=p.device)
    below = (ordered <= fdr * places / max(1, len(p))).nonzero()
    if not len(below):
        return torch.zeros(len(p), dtype=torch.bool, device=p.device)
    return p <= ordered[below[-1, 0]]


Status = Literal["ok", "nonfinite_input", "nonfinite_score"]
"""Whether a sample could be scored; what could not is out-of-distribution, with a score of +inf."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Result(Explained):
    """What one detector, or a combination of several, says of each sample.

    Attributes:
        score: (N,) float64; higher = more out-of-distribution, +inf where there is none.
        p_value: (N,) float64 in (0, 1]: how often an in-distribution sample scores as high, within
            the rounding of the model; the largest there is where calibration samples are copies.
        is_ood: (N,) bool: whether the score breaks the threshold that `calibrate` promised.
        label: (N,) int64, the class that the model predicts; −1 where its input or logits are not
            finite.
        status: per sample ``"ok"``, ``"nonfinite_input"`` or ``"nonfinite_score"``.
        class_conditional: (N,) bool: whether the promise holds within the predicted class, as the
            calibration had enough samples of it. Rare classes share a threshold, and the promise is
            on them together. False throughout unless calibrated per class.
        overrides: refusals that were overridden on the way here, with their reasons.
        logits: (N, classes) float64, or None if `predict` was not to keep them, or no input was
            finite; NaN where the input is not.
        features: (N, width), the input of the last linear layer, likewise.
        content_key: (N,) int64, a hash of each input's content, or None where none was read.

    ``result[rows]`` are some of the samples, as a `Result`: rows are a slice, places or a mask, as
    in ``result[result.is_ood]``.
    """

    score: Tensor
    p_value: Tensor
    is_ood: Tensor
    label: Tensor
    status: tuple[Status, ...]
    class_conditional: Tensor
    overrides: tuple[str, ...] = ()
    logits: Tensor | None = None
    features: Tensor | None = None
    content_key: Tensor | None = None

    def __len__(self) -> int:
        return len(self.status)

    def __getitem__(self, rows: Rows) -> "Result":
        places = positions(rows, len(self))
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        tensors = {n: value[places] for n, value in values.items() if isinstance(value, Tensor)}
        status = tuple(self.status[place] for place in places.tolist())
        return with_source(replace(self, **tensors, status=status), source_of(self))

    def __iter__(self) -> Iterator["Result"]:
        return (self[row] for row in range(len(self)))

    def __repr__(self) -> str:
        return f"Result({self._summary()})"

    def _repr_html_(self) -> str:
        columns = self._columns(slice(PREVIEW))
        for name in ("score", "p_value"):
            columns[name] = [f"{value:.4g}" for value in columns[name]]
        shown = {name: [str(value) for value in values] for name, values in columns.items()}
        return preview(shown, len(self), f"Result: {self._summary()}")

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame``, one row per sample; without logits and features.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        return data_frame(self._columns(slice(None)))

    def _columns(self, rows: slice) -> dict[str, list[Any]]:
        names = ("score", "p_value", "is_ood", "label")
        tensors = {name: getattr(self, name)[rows].tolist() for name in names}
        return {**tensors, "status": list(self.status[rows])}

    def _summary(self) -> str:
        lost = sum(status != "ok" for status in self.status)
        notes = [share(self.is_ood)]
        notes += [f"{lost:,} without a score"] if lost else []
        notes += [f"{len(self.overrides)} overrides"] if self.overrides else []
        return f"{len(self):,} samples: {', '.join(notes)}"

    def select(self, fdr: float = 0.1) -> Tensor:
        """Samples of this batch to call out-of-distribution, by Benjamini and Hochberg.

        Where `is_ood` bounds the share of false alarms among in-distribution samples, this bounds
        the expected share of false alarms among the samples selected. Samples without a finite
        score are always selected, which the bound does not cover.

        Args:
            fdr: false discovery rate, between 0 and 1.

        Returns:
            (N,) bool.
        """
        bad = torch.tensor(
            [status != "ok" for status in self.status], dtype=torch.bool, device="cpu"
        )
        return benjamini_hochberg(self.p_value, fdr) | bad


class Results(Explained, Mapping[str, Result]):
    """A `Result` per detector, and where the monitor combines them the combined one.

    ``results["line"].is_ood`` is one detector's decision. With ``combine=``,
    ``results["combined"]`` is the one decision of all detectors, although no detector has that
    name, and its attributes are those of the mapping too: ``results.score``, ``.p_value``,
    ``.is_ood``. ``results["combined"][results.is_ood]`` is the `Result` of the samples flagged.

    ``results[rows]`` are some of the samples, as `Results`; see `Result`. ``len(results)`` is the
    number of detectors, as of any mapping; that of samples is `size`. Once rows were chosen, the
    number that ``len`` would give is not the one expected, so it raises a `TypeError`, and so does
    the truth of ``results[rows]``.

    Attributes:
        combined: as ``results["combined"]``; None without ``combine=``.
        size: number of samples.
        label: (N,) predicted classes.
        logits: (N, classes) as in `Result`, or None.
        features: (N, width) likewise.
        status: per sample, the worst over the detectors.
        overrides: refusals that were overridden.
    """

    def __init__(self, each: Mapping[str, Result], combined: Result | None = None) -> None:
        self._each = dict(each)
        self._chosen = False
        self.combined = combined
        first = next(iter(self._each.values()))
        self.label: Tensor = first.label
        self.overrides: tuple[str, ...] = first.overrides
        self.logits: Tensor | None = first.logits
        self.features: Tensor | None = first.features
        rows = zip(*(result.status for result in self._each.values()), strict=True)
        self.status: tuple[Status, ...] = tuple(
            next((status for status in row if status != "ok"), "ok") for row in rows
        )
        self.size: int = len(self.status)

    @overload
    def __getitem__(self, key: str) -> Result: ...
    @overload
    def __getitem__(self, key: Rows) -> "Results": ...
    def __getitem__(self, key: str | Rows) -> "Result | Results":
        if not isinstance(key, str):
            places = positions(key, self.size)
            combined = None if self.combined is None else self.combined[places]
            chosen = Results({n: each[places] for n, each in self._each.items()}, combined)
            chosen._chosen = True
            return with_source(chosen, source_of(self))
        known = self._all()
        if key not in known:
            raise UnknownNameError(f"no detector {key!r} here; {suggest(key, known)}")
        return known[key]

    def get(self, name: str, default: Any = None) -> Any:
        """The detector's `Result`, or `default` where there is none of that name."""
        return self._all().get(name, default)

    def __contains__(self, name: object) -> bool:
        return name in self._all()

    def __iter__(self) -> Iterator[str]:
        return iter(self._each)

    def __len__(self) -> int:
        if self._chosen:
            name = list(self._all())[-1]
            raise TypeError(
                f"{self!r} is a mapping of detectors, of which samples were chosen: their number "
                f"is results[rows].size, or len(results[{name!r}][rows])."
            )
        return len(self._each)

    def __repr__(self) -> str:
        return f"Results({', '.join(self._all())}; {self.size} samples)"

    def _repr_html_(self) -> str:
        header = ("detector", "out-of-distribution", "smallest p-value", "without a score")
        rows = [
            (
                name,
                share(result.is_ood).replace(" out-of-distribution", ""),
                f"{float(result.p_value.min()):.4g}" if len(result) else "",
                f"{sum(status != 'ok' for status in result.status):,}",
            )
            for name, result in self._all().items()
        ]
        text = f"Results: {self.size:,} samples"
        return html.paragraph(text) + html.table(header, rows)

    def to_pandas(self) -> Any:
        """A ``pandas.DataFrame``, one row per detector and sample, by ``detector`` and ``sample``.

        ``frame.loc["energy"]`` has one detector's rows; those of the combination are under
        ``"combined"``.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        columns: dict[str, list[Any]] = {"detector": [], "sample": []}
        for name, result in self._all().items():
            columns["detector"] += [name] * self.size
            columns["sample"] += range(self.size)
            for title, values in result._columns(slice(None)).items():
                columns.setdefault(title, []).extend(values)
        return data_frame(columns, ("detector", "sample"))

    def _all(self) -> dict[str, Result]:
        """By the names that are used everywhere: those of the detectors, and ``"combined"``."""
        return self._each | ({} if self.combined is None else {"combined": self.combined})

    @property
    def score(self) -> Tensor:
        """(N,) the combined statistic."""
        return self._combined("score").score

    @property
    def p_value(self) -> Tensor:
        """(N,) of the combined statistic."""
        return self._combined("p_value").p_value

    @property
    def is_ood(self) -> Tensor:
        """(N,) the combined decision."""
        return self._combined("is_ood").is_ood

    def select(self, fdr: float = 0.1) -> Tensor:
        """`Result.select` on the combined decision."""
        return self._combined("select").select(fdr)

    def _combined(self, name: str) -> Result:
        if self.combined is None:
            raise AttributeError(
                f"these results have no {name!r} of their own, as the detectors were not combined: "
                f"read results['{next(iter(self._each))}'].{name}, or make the monitor with "
                "combine='fisher'."
            )
        return self.combined
