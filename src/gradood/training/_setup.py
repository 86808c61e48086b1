"""Checks of model and data before the first step, and the margins of the starting network."""

import dataclasses
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

from gradood._engine.binding import observed
from gradood.errors import ConfigError, TapError
from gradood.taps import Inputs, called, device_of, unwrap
from gradood.training._class_overlap import warn_of_overlap
from gradood.training._distributed import Processes
from gradood.training._engine import Run
from gradood.training._forward import penalized, set_training, widened
from gradood.training._gradient_point import GradientPoint, is_discrete
from gradood.training._inputs import concatenated, on_device
from gradood.training._kernels import differentiable_kernels
from gradood.training._outputs import Outputs
from gradood.training._steps import StepBatches, Steps
from gradood.training._terms import Gradient, Margin
from gradood.training._validation import logits_on
from gradood.training.data import DataSplit, TrainingData
from gradood.training.recipe import Recipe

__all__ = [
    "check_model",
    "check_single_row",
    "check_twice_differentiable",
    "prepared",
    "with_margins",
]

_log = logging.getLogger(__name__)
_MARGIN_SAMPLES = 2000
"""Samples of each kind over which the mean scores are taken."""
_Term = TypeVar("_Term", Margin, Gradient)


def prepared(
    model: nn.Module, recipe: Recipe, split: DataSplit, data: TrainingData, processes: Processes
) -> Run:
    """The recipe with its margins, the steps and their batches, all checked.

    Args:
        model: as given, wrappers and all; left as it was.
        recipe: margins may be ``"auto"``.
        split: the samples.
        data: whose split it is.
        processes: that train together.

    Raises:
        ConfigError: the model cannot be trained by this recipe.
        DataError: the data does not fit the model or the recipe.
        TapError: the model cannot be read.
    """
    check_model(model, recipe)
    split.check_shapes()
    module = unwrap(model)
    example = on_device(split.example(), device_of(module))
    outputs = split.known.form.outputs
    network = observed(module, example, link=outputs.link)
    if penalized(recipe) and is_discrete(example) and processes.leads:
        _log.warning(
            "the inputs are whole numbers, such as token ids: the gradient penalty is taken at "
            "the output of their embedding"
        )
    check_twice_differentiable(module, example, recipe, outputs)
    if recipe.loss.outliers and processes.leads:
        warn_of_overlap(*data.names())
    steps = Steps(
        samples=len(split.known),
        batch=recipe.batch.id,
        epochs=recipe.schedule.epochs,
        limit=recipe.schedule.steps,
    )
    rows_per_id = 1 + (recipe.batch.aux_per_id if recipe.loss.outliers else 0)
    if rows_per_id * steps.smallest_part(processes.size, recipe.batch.accumulate) == 1:
        check_single_row(module, example, recipe)
    batches = StepBatches(recipe, steps, split.known, split.outliers, processes)
    loss = recipe.loss
    of_head = loss.virtual is not None or loss.shaping is not None
    reads_features = recipe.sampling.kind == "cluster-energy" or of_head
    if reads_features:
        head = network.head  # Raises here if there is none, and not after an hour.
        if of_head and (head.form != "weight" or network.paired):
            raise TapError(
                f"virtual outliers and shaping train the weight of the head, and {head.layer!r} "
                "has none of its own: end the model in a linear layer, or leave them out."
            )
    return Run(
        recipe=with_margins(recipe, module, split, processes),
        steps=steps,
        batches=batches,
        processes=processes,
        classes=network.classes,
        network=network if reads_features else None,
        outputs=outputs,
    )


def with_margins(
    recipe: Recipe, model: nn.Module, split: DataSplit, processes: Processes
) -> Recipe:
    """The recipe with every ``"auto"`` margin replaced by the starting network's mean score.

    Args:
        recipe: any.
        model: the starting network, left as it was.
        split: whose training samples are scored.
        processes: that train together.

    Raises:
        ConfigError: the network does not give outliers the higher score on average.

    Cost: one forward of at most 2,000 samples of each kind, if any margin is ``"auto"``.
    """
    loss = recipe.loss
    terms = [term for term in (loss.margin, loss.gradient) if term is not None]
    if split.outliers is None or not any(term.m_in == "auto" for term in terms):
        return recipe
    logits = [
        logits_on(model, samples, processes, places=range(min(_MARGIN_SAMPLES, len(samples))))[0]
        for samples in (split.known, split.outliers)
    ]

    def means(score: str) -> tuple[float, float]:
        scored = split.known.form.outputs.score(score)
        m_in, m_out = (float(scored(z.double()).mean()) for z in logits)
        if not torch.tensor([m_in, m_out]).isfinite().all() or not m_in < m_out:
            raise ConfigError(
                f"margins 'auto' found a mean {score} of {m_in:.4g} on known samples and "
                f"{m_out:.4g} on outliers; expected the outliers to be higher. Start from a "
                "trained network, or give m_in and m_out as numbers."
            )
        return m_in, m_out

    margin, gradient = loss.margin, loss.gradient
    if margin is not None and margin.m_in == "auto":
        margin = _with_limits(margin, means("energy"))
    if gradient is not None and gradient.m_in == "auto":
        gradient = _with_limits(gradient, means(gradient.score))
    return dataclasses.replace(
        recipe, loss=dataclasses.replace(loss, margin=margin, gradient=gradient)
    )


def _with_limits(term: _Term, limits: tuple[float, float]) -> _Term:
    return dataclasses.replace(term, m_in=limits[0], m_out=limits[1])


def check_model(model: nn.Module, recipe: Recipe) -> None:
    """Refuse modules and settings that are known to have no second derivative.

    Args:
        model: as given, wrappers and all.
        recipe: only those with a gradient penalty refuse anything.

    Raises:
        ConfigError: names the layer, why, and what to do.
    """
    if not penalized(recipe):
        return
    for name, module in model.named_modules():
        label = f"{type(module).__name__} {name!r}" if name else f"the {type(module).__name__}"
        compiled = getattr(module, "_compiled_call_impl", None) is not None
        if compiled or "_orig_mod" in module._modules:
            raise ConfigError(
                f"{label} is compiled; the gradient penalty differentiates twice, which "
                "torch.compile does not support: give the model from before torch.compile."
            )
        if isinstance(module, nn.SyncBatchNorm):
            raise ConfigError(
                f"{label} has no second derivative, which the gradient penalty needs; expected "
                "plain BatchNorm. Convert it back, or set batch.statistics = 'frozen' on plain "
                "BatchNorm."
            )
        config = getattr(module, "config", None)
        attention = str(getattr(config, "_attn_implementation", ""))
        if type(module).__module__.startswith("flash_attn") or attention.startswith("flash"):
            raise ConfigError(
                f"{label} computes attention by flash kernels, which have no second derivative; "
                "expected torch's scaled_dot_product_attention or eager attention. Load the model "
                "with attn_implementation='sdpa' or 'eager'."
            )
    if not torch.backends.cuda.math_sdp_enabled():
        raise ConfigError(
            "the math kernel of attention is switched off, and the flash kernels have no second "
            "derivative; expected torch.backends.cuda.enable_math_sdp(True)."
        )


def check_twice_differentiable(
    model: nn.Module, x: Inputs, recipe: Recipe, outputs: Outputs | None = None
) -> None:
    """Try the second derivative on two rows; the model is left as it was.

    Args:
        model: on its device.
        x: (n ≥ 1, …) inputs on that device.
        recipe: only those with a gradient penalty are tried.
        outputs: what the logits are of; None for classes.

    Raises:
        ConfigError: an operation of the model has none; names it as far as torch does.
    """
    if not penalized(recipe):
        return
    try:
        with _trial(model, recipe), torch.enable_grad():
            _differentiate_twice(model, concatenated([x[:2], x[:2]], None), outputs or Outputs())
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ConfigError(_explained(error)) from error


def check_single_row(model: nn.Module, x: Inputs, recipe: Recipe) -> None:
    """Try one row alone in training mode; the model is left as it was.

    Args:
        model: on its device.
        x: (n ≥ 1, …) inputs on that device.
        recipe: one of whose steps, or parts, has a single row.

    Raises:
        ConfigError: BatchNorm would have one value per channel, by which it cannot normalize.
    """
    try:
        with _trial(model, recipe), torch.no_grad():
            called(model, x[:1])
    except ValueError as error:
        raise ConfigError(
            f"a step, or a part of one, has a single sample, and the model refuses it: {error}. "
            "Set batch.id so that the last step of an epoch has more, or batch.accumulate lower, "
            "or batch.statistics = 'frozen'."
        ) from error


@contextmanager
def _trial(model: nn.Module, recipe: Recipe) -> Iterator[None]:
    """Training mode inside; flags, gradients, buffers and RNG as before outside."""
    flags = [(module, module.training) for module in model.modules()]
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    device = device_of(model)
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            set_training(model, recipe.batch.statistics)
            yield
    finally:
        for module, flag in flags:
            module.training = flag
        for parameter, gradient in gradients:
            parameter.grad = gradient
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def _differentiate_twice(model: nn.Module, x: Inputs, outputs: Outputs) -> None:
    point = GradientPoint(model)
    with point.of(x.detach().clone()) as x, differentiable_kernels():
        logits = widened(outputs.logits(called(model, x)))
    (gradient,) = torch.autograd.grad(outputs.energy(logits).sum(), point.tensor, create_graph=True)
    for parameter in model.parameters():
        parameter.grad = None  # Added to in place, it would be lost.
    if gradient.requires_grad:
        # As in a step: `autograd.grad` to the parameters would skip what cannot be differentiated.
        gradient.square().sum().backward()


def _explained(error: RuntimeError) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    if "reentrant" in str(error) or "Checkpointing is not compatible" in str(error):
        return (
            "the model uses reentrant activation checkpointing, which cannot be differentiated "
            "twice; expected torch.utils.checkpoint with use_reentrant=False (in Transformers: "
            "gradient_checkpointing_enable(gradient_checkpointing_kwargs={'use_reentrant': False}))"
            ", or none."
        )
    return (
        f"the model cannot be differentiated twice, which the gradient penalty needs: {first}. "
        "Replace that operation, or train without the penalty (method energy or oe)."
    )
