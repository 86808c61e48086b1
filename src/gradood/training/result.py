"""Result of a run and its files: weights, and the recipe they were trained by."""

import json
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

import gradood
from gradood._io.atomic import replace
from gradood._io.records import to_plain
from gradood.training._validation import Scores
from gradood.training.recipe import Recipe

__all__ = ["RECIPE", "Trained", "WEIGHTS"]

WEIGHTS, RECIPE = "model.safetensors", "recipe.json"


@dataclass(frozen=True, eq=False, slots=True)
class Trained:
    """Trained network, with its recipe and validation.

    Attributes:
        model: trained, in evaluation mode; goes into `Monitor` as it is.
        weights: the same without wrappers, whose weights are saved.
        recipe: with the margins that were used.
        before: measures of the starting network on held-out data.
        after: of this network.
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
            "recipe": to_plain(self.recipe),
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
        text = json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"
        replace(folder / WEIGHTS, [safetensors.torch.save(state)], lambda file: None)
        replace(folder / RECIPE, [text.encode()], lambda file: None)
