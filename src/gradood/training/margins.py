"""Margins found on the starting network."""

import dataclasses
from typing import TypeVar

import torch
from torch import nn

from gradood.errors import ConfigError
from gradood.training.distributed import World
from gradood.training.objective import SCORES
from gradood.training.recipe import Recipe
from gradood.training.samples import Samples
from gradood.training.terms import Gradient, Margin
from gradood.training.validation import logits_on

__all__ = ["ENOUGH", "resolved"]

ENOUGH = 2000
"""Samples of each kind over which the means are taken."""
_T = TypeVar("_T", Margin, Gradient)


def resolved(
    recipe: Recipe, model: nn.Module, known: Samples, outliers: Samples | None, world: World
) -> Recipe:
    """The recipe with every ``"auto"`` margin replaced by the starting network's mean score.

    Args:
        recipe: any.
        model: the starting network, left as it was.
        known: to train on.
        outliers: to train on.
        world: the processes.

    Raises:
        ConfigError: the network does not give outliers the higher score on average.

    Cost: one forward of at most 2,000 samples of each kind, if any margin is ``"auto"``.
    """
    loss = recipe.loss
    terms = [term for term in (loss.margin, loss.gradient) if term is not None]
    if outliers is None or not any(term.m_in == "auto" for term in terms):
        return recipe
    logits = [
        logits_on(model, samples, world, places=range(min(ENOUGH, len(samples))))[0]
        for samples in (known, outliers)
    ]

    def means(score: str) -> tuple[float, float]:
        m_in, m_out = (float(SCORES[score](z.double()).mean()) for z in logits)
        if not torch.tensor([m_in, m_out]).isfinite().all() or not m_in < m_out:
            raise ConfigError(
                f"margins 'auto' found a mean {score} of {m_in:.4g} on known samples and "
                f"{m_out:.4g} on outliers; expected the outliers to be higher. Start from a "
                "trained network, or give m_in and m_out as numbers."
            )
        return m_in, m_out

    margin, gradient = loss.margin, loss.gradient
    if margin is not None and margin.m_in == "auto":
        margin = _with(margin, means("energy"))
    if gradient is not None and gradient.m_in == "auto":
        gradient = _with(gradient, means(gradient.score))
    return dataclasses.replace(
        recipe, loss=dataclasses.replace(loss, margin=margin, gradient=gradient)
    )


def _with(term: _T, pair: tuple[float, float]) -> _T:
    return dataclasses.replace(term, m_in=pair[0], m_out=pair[1])
