"""Signs that a network was trained on data that should be held out from its training."""

from collections.abc import Iterable, Iterator
from math import sqrt
from typing import final

import torch
from torch import Tensor

from gradood._engine.batches import Batch, Data, batches
from gradood._engine.binding import check_classes
from gradood._engine.forms import InputForm
from gradood._engine.rows import Inputs, finite_rows, moved, row_count, selected
from gradood.evidence import LOGITS, gather
from gradood.taps import Network

__all__ = ["LabelFit", "doubts", "predicted_batches"]

_ROWS = 2000
"""Rows of each data set that are looked at, or up to twice as many."""
_FEWEST = 200
"""Rows without which nothing is said."""
_Z = 3.29
"""Of a normal bound that is exceeded once in two thousand times."""
_CLOSE = 0.01
"""Accuracies no farther apart count as equal."""
_PERFECT, _SMALL_LOSS = 0.995, 0.015
_BY_HEART = 0.99
_SIGN = "this is what data looks like that the network was trained on"
_ADVICE = (
    "Held out must mean held out from the training of the network: on its training data, a "
    "promised 5 % of false alarms became 9.5 %."
)


@final
class LabelFit:
    """How well a network predicts the labels of some data: of rows spread evenly over it.

    Data often comes in the order of its classes, of which the first are no sample of all.

    Args:
        network: the observed model.
        form: how batches become its inputs.
        what: the data is, in a word.
        rows: how many the data has, or None if nobody knows. Then more of the first rows are run
            than are kept: 2,000 for each doubling of their number.
    """

    def __init__(
        self, network: Network, form: InputForm | None, what: str, rows: int | None = None
    ) -> None:
        self._network = network
        self._what = what
        self._form = form
        self._every = max(1, (rows or 0) // _ROWS)
        self._passed = 0
        self._seen = torch.empty(0, 3, dtype=torch.float64, device="cpu")

    def watched(self, data: Data) -> Iterable[Batch]:
        """The batches of the data, looked at as they pass; as long as the data, if that is known.

        Cost: a forward of 2,000 to 4,000 rows.
        """
        return _Watched(self, data)

    @property
    def rows(self) -> int:
        """How many were looked at and kept, 4,000 at most."""
        return len(self._seen)

    @property
    def accuracy(self) -> float | None:
        """Share of the labels that are predicted; None if nothing was seen."""
        return float(self._seen[:, 2].mean()) if self.rows else None

    @property
    def losses(self) -> Tensor:
        """(rows,) float64 cross-entropy in nats."""
        return self._seen[:, 1]

    def batches(self, data: Data) -> Iterator[Batch]:
        """See `watched`."""
        for batch in batches(data, labels=True, form=self._form):
            self._look(batch)
            yield batch

    def _look(self, batch: Batch) -> None:
        link = self._network.link
        if link == "none" or batch.labels is None or not row_count(batch.inputs):
            return
        check_classes(self._what, batch.labels, self._network.classes)
        if link != "softmax":  # Of several, none is the one predicted.
            return
        places = torch.arange(row_count(batch.inputs), device="cpu") + self._passed
        self._passed += len(places)
        taken = places % self._every == 0
        if not bool(taken.any()):
            return
        logits, finite = _logits(
            self._network, selected(batch.inputs, taken.to(batch.inputs.device))
        )
        labels, places = batch.labels.cpu()[taken][finite], places[taken][finite]
        losses = -logits.log_softmax(1).gather(1, labels[:, None])[:, 0]
        right = (logits.argmax(1) == labels).double()
        self._seen = torch.cat([self._seen, torch.stack([places.double(), losses, right], 1)])
        while self.rows > 2 * _ROWS:
            self._every *= 2
            self._seen = self._seen[self._seen[:, 0] % self._every == 0]


@final
class _Watched:
    """Batches that are looked at as they pass."""

    def __init__(self, seen: LabelFit, data: Data) -> None:
        self._seen = seen
        self._data = data

    def __iter__(self) -> Iterator[Batch]:
        return self._seen.batches(self._data)

    def __len__(self) -> int:
        return len(self._data)  # type: ignore[arg-type]


def predicted_batches(
    network: Network, data: Data, form: InputForm | None = None
) -> Iterator[Batch]:
    """Batches with the classes that the network predicts in place of labels.

    Args:
        network: the observed model.
        data: as for `gradood.Monitor.fit`; its labels are not looked at.
        form: how batches become the inputs of the network.
    """
    for batch in batches(data, form=form):
        if row_count(batch.inputs):
            logits, finite = _logits(network, batch.inputs)
            several = network.link == "sigmoid"
            found = (logits > 0).long() if several else logits.argmax(1)
            labels = found.new_zeros(row_count(batch.inputs), *found.shape[1:])
            labels[finite] = found
            yield Batch(batch.inputs, labels)


def doubts(known: LabelFit, fit: LabelFit | None, stated: float | None) -> Iterator[str]:
    """Why known data looks as if the network was trained on it, in sentences.

    A network that memorized its training data and one for which the task is easy look alike on
    that data alone: what is said is a doubt, and no doubt is no proof.

    Args:
        known: on the data to calibrate with.
        fit: on training data, or None where none was given with labels.
        stated: accuracy on data that the network was not trained on, as its record says, or None.
    """
    accuracy, rows = known.accuracy, known.rows
    if accuracy is None or rows < _FEWEST:
        return
    loss = float(known.losses.mean())
    said = f"the network gets {accuracy:.1%} of {rows:,} known labels right"
    if stated is not None and accuracy - _Z * sqrt(stated * (1 - stated) / rows) > stated + _CLOSE:
        yield f"{said}, where its record states {stated:.1%}: {_SIGN}. {_ADVICE}"
    if fit is not None and fit.accuracy is not None and fit.rows >= _FEWEST:
        yield from _compared(known, fit, said)
    elif accuracy >= _PERFECT and loss <= _SMALL_LOSS:
        yield (
            f"{said}, at a mean loss of {loss:.2g}: {_SIGN}, unless the task is that easy. "
            f"{_ADVICE}"
        )


def _compared(known: LabelFit, fit: LabelFit, said: str) -> Iterator[str]:
    """Doubts by comparison with training data."""
    accuracy, other = known.accuracy or 0.0, fit.accuracy or 0.0
    losses, others = known.losses, fit.losses
    spread = sqrt(float(losses.var() / len(losses) + others.var() / len(others)))
    lower = float(others.mean() - losses.mean())
    compared = f"{said}, and {other:.1%} of those of fit="
    if lower > _Z * spread:
        yield (
            f"{compared}, at a loss of {float(losses.mean()):.2g} against "
            f"{float(others.mean()):.2g}: the network does better on known than on fit, so that "
            f"known is rather its training data. {_ADVICE}"
        )
        return
    error = sqrt(accuracy * (1 - accuracy) / known.rows + other * (1 - other) / fit.rows + 1e-12)
    # Where training data is not known by heart, a network may well do as well on new data.
    if other >= _BY_HEART and other - accuracy + _Z * error <= _CLOSE:
        yield (
            f"{compared}: if fit is its training data, then {_SIGN}, unless it generalizes "
            f"without a gap. {_ADVICE}"
        )


def _logits(network: Network, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Logits of the finite rows, float64 on the CPU, and which rows these are."""
    inputs = moved(inputs, network.device)
    finite = finite_rows(inputs)
    kept = inputs if bool(finite.all()) else selected(inputs, finite)
    if not row_count(kept):
        return torch.zeros(0, network.classes, dtype=torch.float64, device="cpu"), finite.cpu()
    logits = gather(network, kept, (LOGITS,), None).logits
    return logits.detach().cpu().double(), finite.cpu()
