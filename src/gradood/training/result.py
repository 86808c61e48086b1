"""The result of a run, and how it is saved: weights, and the recipe they were made by."""

import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

import gradood
from gradood.io.atomic import replace
from gradood.io.tables import to_table
from gradood.training.checkpoint import save_text
from gradood.training.recipe import Recipe
from gradood.training.validation import Scores

__all__ = ["RECIPE", "Trained", "WEIGHTS"]

WEIGHTS, RECIPE = "model.safetensors", "recipe.json"


@dataclass(frozen=True, eq=False, slots=True)
class Trained:
    """A network after a run.

    Attributes:
        model: trained, in evaluation mode; goes into `Monitor` as it is.
        weights: the same without wrappers, whose weights are saved.
        recipe: with the margins that were used.
        before: the starting network on held-out data.
        after: this network on the same.
        steps: optimizer steps made.
        stopped: whether the run ended early.
        data: how many samples of each kind were trained on and held out.
        failure: why the result should not be used, or None.
    """

    model: nn.Module
    weights: nn.Module
    recipe: Recipe
    before: Scores
    after: Scores
    steps: int
    stopped: bool
    data: dict[str, int]
    failure: str | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values: all but the weights."""
        return {
            "format": 1,
            "recipe": to_table(self.recipe),
            "before": asdict(self.before),
            "after": asdict(self.after),
            "steps": self.steps,
            "stopped_early": self.stopped,
            "data": self.data,
            "failure": self.failure,
            "versions": {
                "gradood": gradood.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }

    def save(self, folder: Path) -> None:
        """Write ``model.safetensors``, a plain state dict, and ``recipe.json``.

        Raises:
            OSError: the folder cannot be written.
        """
        state = {
            name: tensor.detach().cpu().contiguous().clone()
            for name, tensor in self.weights.state_dict().items()
        }
        replace(folder / WEIGHTS, [safetensors.torch.save(state)], lambda file: None)
        save_text(folder / RECIPE, json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n")
