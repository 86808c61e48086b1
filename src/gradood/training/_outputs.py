"""Outputs of a network in training: logits of classes, or of labels of which several may hold."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor

from gradood.errors import ConfigError, DataError
from gradood.functional.logits import energy, joint_energy, max_logit, max_softmax
from gradood.taps import Link, check_link, logits_of, paired
from gradood.training._terms import Loss

__all__ = ["Outputs"]

_SCORES: Mapping[Link, Mapping[str, Callable[[Tensor], Tensor]]] = {
    "softmax": {"energy": energy, "msp": max_softmax, "max-logit": max_logit},
    "sigmoid": {"energy": joint_energy, "max-logit": max_logit},
}
"""Differentiable scores by their name in a recipe's gradient penalty; higher on outliers."""


@final
@dataclass(frozen=True, slots=True)
class Outputs:
    """How the outputs of a network in training are read.

    Attributes:
        link: ``"softmax"``: one class holds, and one output z is the logits (0, z); ``"sigmoid"``:
            any of the labels may hold, and the energy is the joint one.

    Raises:
        ConfigError: under another link there is no classification to train.
    """

    link: Link = "softmax"

    def __post_init__(self) -> None:
        check_link(self.link)
        if self.link not in _SCORES:
            raise ConfigError(
                f"link={self.link!r}: training is of classifiers, whose outputs are classes or "
                "labels; expected softmax or sigmoid. Train a regression by other means."
            )

    def logits(self, returned: Any) -> Tensor:
        """The logits (batch, classes) in what the model returned."""
        logits = logits_of(returned)
        return paired(logits) if self.link == "softmax" and logits.shape[1] == 1 else logits

    def energy(self, logits: Tensor) -> Tensor:
        """(batch,); higher on outliers."""
        return _SCORES[self.link]["energy"](logits)

    def score(self, name: str) -> Callable[[Tensor], Tensor]:
        """The score of that name in a recipe."""
        return _SCORES[self.link][name]

    def accuracy(self, logits: Tensor, labels: Tensor) -> float:
        """Share of samples, or of labels, that are predicted right."""
        self.check_labels(labels, logits.shape[1])
        if self.link == "sigmoid":
            return float(((logits > 0) == (labels > 0)).double().mean())
        return float((logits.argmax(1) == labels).double().mean())

    def check_labels(self, labels: Tensor, classes: int) -> None:
        """Refuse labels that are not of the model's outputs.

        Args:
            labels: (n,) classes; (n, outputs) 0 or 1 under a sigmoid.
            classes: of the model.

        Raises:
            DataError: they are of others.
        """
        if self.link == "sigmoid":
            if labels.ndim != 2 or labels.shape[1] != classes:
                raise DataError(
                    f"labels are {tuple(labels.shape)}, and the model has {classes} outputs; "
                    f"expected 0 or 1 for each, ({len(labels)}, {classes})."
                )
        elif len(labels) and int(labels.max()) >= classes:
            raise DataError(
                f"a label is {int(labels.max())}, and the model has {classes} classes; expected 0 "
                f"to {classes - 1}. Check the data, or the model's num_classes."
            )

    def check(self, loss: Loss) -> None:
        """Refuse terms that are not defined for these outputs.

        Raises:
            ConfigError: names them, and what is defined.
        """
        if self.link == "softmax":
            return
        terms = {
            "outlier exposure": loss.exposure,
            "mixtures": loss.mixing,
            "virtual outliers": loss.virtual,
            "shaping": loss.shaping,
            "logit normalization": loss.classification == "logit-norm" or None,
            "a gradient penalty of msp": loss.gradient
            if loss.gradient is not None and loss.gradient.score == "msp"
            else None,
        }
        undefined = [name for name, term in terms.items() if term is not None]
        if undefined:
            raise ConfigError(
                f"{', '.join(undefined)}: defined by a softmax over classes, and link='sigmoid' "
                "was given. Choose plain, energy or greg, which take the joint energy."
            )
