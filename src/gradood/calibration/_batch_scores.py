"""Scores of samples by every detector, before any decision."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

__all__ = ["BatchScores"]


@dataclass(frozen=True, eq=False, slots=True)
class BatchScores:
    """Scores of some samples by every detector, before any decision.

    Attributes:
        scores: detector → (batch,) float64 on the CPU; +inf where there is no finite score.
        label: (batch,) int64 predicted class, −1 where the input or the top logit is not finite.
        nonfinite: (batch,) bool, whether the input holds NaN or infinity.
        keys: (batch,) int64 content keys of the inputs.
        kept: ``"logits"`` or ``"features"`` → (batch, …) on the CPU, where they were asked for; NaN
            where the input is not finite.
    """

    scores: Mapping[str, Tensor]
    label: Tensor
    nonfinite: Tensor
    keys: Tensor
    kept: Mapping[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.label)

    def rows(self, places: Tensor) -> "BatchScores":
        """Some of the samples.

        Args:
            places: (k,) int64.
        """
        return BatchScores(
            {name: scores[places] for name, scores in self.scores.items()},
            self.label[places],
            self.nonfinite[places],
            self.keys[places],
            {name: tensor[places] for name, tensor in self.kept.items()},
        )

    @staticmethod
    def empty(names: Iterable[str]) -> "BatchScores":
        """Of no sample.

        Args:
            names: of the detectors.
        """
        return BatchScores.lost(names, 0)

    @staticmethod
    def lost(names: Iterable[str], size: int) -> "BatchScores":
        """Of samples none of which is finite.

        Args:
            names: of the detectors.
            size: number of samples.
        """
        score = torch.full((size,), torch.inf, dtype=torch.float64, device="cpu")
        label = torch.full((size,), -1, dtype=torch.int64, device="cpu")
        nonfinite = torch.ones(size, dtype=torch.bool, device="cpu")
        return BatchScores(dict.fromkeys(names, score), label, nonfinite, torch.zeros_like(label))

    @staticmethod
    def joined(parts: Sequence["BatchScores"], names: Iterable[str]) -> "BatchScores":
        """Several batches, at least one, as one.

        Args:
            parts: in order.
            names: of the detectors; all parts have scores of theirs.
        """
        parts = [part for part in parts if len(part)] or parts[:1]
        if len(parts) == 1:
            (part,) = parts
            # What is kept may be a tensor of the model's own.
            kept = {name: tensor.clone() for name, tensor in part.kept.items()}
            return replace(part, scores={name: part.scores[name] for name in names}, kept=kept)
        return BatchScores(
            {name: torch.cat([part.scores[name] for part in parts]) for name in names},
            torch.cat([part.label for part in parts]),
            torch.cat([part.nonfinite for part in parts]),
            torch.cat([part.keys for part in parts]),
            _kept(parts),
        )


def _kept(parts: Sequence[BatchScores]) -> dict[str, Tensor]:
    """What was kept of several batches; NaN of those that were not run, as none is finite."""
    examples = {name: tensor for part in parts for name, tensor in part.kept.items()}
    return {
        name: torch.cat(
            [
                part.kept[name]
                if name in part.kept
                else example.new_full((len(part), *example.shape[1:]), torch.nan)
                for part in parts
            ]
        )
        for name, example in examples.items()
    }
