"""Labels of known data against what the model predicts."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from gradood.errors import DataError
from gradood.functional._tensor_shapes import checked, integer
from gradood.functional.samples import Chunks

__all__ = ["Agreement"]

_Z = 3.29
"""Of a normal bound that is exceeded once in a thousand times."""
_ABOVE_CHANCE = 0.1
"""Share of the way from chance to certainty that a model must be shown not to reach."""
_MOST_CHANCE = 0.5
"""Chance is taken for no more than this, that of two classes."""


@dataclass(frozen=True, eq=False, slots=True)
class Agreement:
    """Pairs of true and predicted classes.

    Attributes:
        chunks: of (n,) int64, label · classes + prediction.
        classes: of the model.
    """

    chunks: Chunks[Tensor]
    classes: int

    @staticmethod
    def of(labels: Tensor, predicted: Tensor, classes: int) -> "Agreement":
        """One batch.

        Args:
            labels: (batch,) int64 true classes, each one of the model's.
            predicted: (batch,) int64.
            classes: of the model.
        """
        return Agreement(Chunks.of(labels.cpu() * classes + predicted.cpu()), classes)

    def merge(self, other: "Agreement") -> "Agreement":
        """The pairs of both."""
        return Agreement(self.chunks + other.chunks, self.classes)

    def tensors(self) -> dict[str, Tensor]:
        """The pairs in the order in which they were seen, and the number of classes."""
        classes = torch.tensor(self.classes, dtype=torch.int64, device="cpu")
        return {"pairs": torch.cat(tuple(self.chunks)), "classes": classes}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> "Agreement":
        """What `tensors` gave; more beside it may be among them.

        Raises:
            DataError: they are others.
        """
        what, classes = "an agreement", integer("an agreement", tensors, "classes")
        pairs = checked(what, {"pairs": tensors["pairs"]}, "pairs: int samples")["pairs"]
        if not bool(((pairs >= 0) & (pairs < classes * classes)).all()):
            raise DataError(f"{what} cannot be made of pairs that are none of {classes} classes.")
        return cls(Chunks.of(pairs), classes)

    @property
    def accuracy(self) -> float:
        """Share of the labels that the model predicts. Cost: joins all batches."""
        labels, predicted = self._pairs()
        return float((labels == predicted).double().mean())

    def doubt(self) -> str | None:
        """Why the labels are not the model's classes; None if nothing shows that.

        Says nothing on few rows: the accuracy must be shown to be near chance, or one class other
        than the label explain most rows of nearly every label.
        """
        labels, predicted = self._pairs()
        rows, accuracy = len(labels), self.accuracy
        said = f"the model gets {accuracy:.1%} of the {rows} fit labels right"
        known, column = labels.unique(return_inverse=True)
        classes, other = predicted.unique(return_inverse=True)
        counts = torch.bincount(column * len(classes) + other, minlength=len(known) * len(classes))
        table = counts.reshape(len(known), len(classes))
        most = table.max(1)
        order = self._order(known, classes[most.indices])
        explained = float(most.values.sum()) / rows
        gain = max(0.1 if explained >= 0.9 else 0.25, 6 * sqrt(0.25 / rows))
        enough = rows >= max(50, 10 * len(known))
        if order is not None and enough and explained >= 0.5 and explained - accuracy >= gain:
            return (
                f"{said}, but would get {explained:.1%} right if they were numbered in another "
                f"order: {order}. Number the classes as in the model's training."
            )
        chance = float((table.sum(1).double() * self._predicted_as(known, predicted)).sum()) / rows
        # Of hardly more than one class, chance is high, and a model that is right is right.
        chance = min(chance, _MOST_CHANCE)
        limit = chance + _ABOVE_CHANCE * (1 - chance)
        if _upper(accuracy, rows) >= limit:
            return None
        return (
            f"{said}, where chance is {chance:.1%}: the labels, their order, the preprocessing or "
            "the weights are not those of the model's training, and what is learned from the "
            "labels means little."
        )

    def _pairs(self) -> tuple[Tensor, Tensor]:
        codes = torch.cat(tuple(self.chunks))
        return codes // self.classes, codes % self.classes

    def _predicted_as(self, known: Tensor, predicted: Tensor) -> Tensor:
        """Share of all rows that are predicted as each of some classes."""
        return (predicted[None, :] == known[:, None]).double().mean(1)

    def _order(self, labels: Tensor, meant: Tensor) -> str | None:
        """How labels stand for classes, in words; None unless each for another one, and not all
        for their own."""
        if len(labels) < 2 or len(meant.unique()) < len(meant) or bool((labels == meant).all()):
            return None
        text = torch.tensor(sorted(range(self.classes), key=str), device="cpu")
        if bool((text[labels] == meant).all()):
            return "they look like folder names sorted as text ('0', '1', '10', '2', …)"
        shift = int((labels - meant)[0]) % self.classes
        if bool(((labels - meant) % self.classes == shift).all()):
            return f"each is its class plus {shift}, modulo {self.classes}"
        moved = [(int(a), int(b)) for a, b in zip(labels, meant, strict=True) if a != b]
        shown = ", ".join(f"{a} for class {b}" for a, b in moved[:4])
        return f"such as {shown}{', …' if len(moved) > 4 else ''}"


def _upper(share: float, rows: int) -> float:
    """Wilson's upper bound of a share, exceeded about once in a thousand times."""
    z = _Z**2 / rows
    half = _Z * sqrt(share * (1 - share) / rows + z / (4 * rows))
    return (share + z / 2 + half) / (1 + z)
