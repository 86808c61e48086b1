"""What cannot be trained by a recipe, told before the first step."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gradood.errors import ConfigError
from gradood.functional.logits import energy
from gradood.taps import device_of, logits_of
from gradood.training.forward import differentiable_kernels, penalized, set_training, widened
from gradood.training.recipe import Recipe

__all__ = ["check_model", "check_single_row", "check_twice_differentiable"]


def check_model(model: nn.Module, recipe: Recipe) -> None:
    """Refuse what is known to have no second derivative.

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
        chosen = str(getattr(config, "_attn_implementation", ""))
        if type(module).__module__.startswith("flash_attn") or chosen.startswith("flash"):
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


def check_twice_differentiable(model: nn.Module, x: Tensor, recipe: Recipe) -> None:
    """Try the second derivative on two rows; the model is left as it was.

    Args:
        model: on its device.
        x: (n ≥ 1, …) inputs on that device.
        recipe: only those with a gradient penalty are tried.

    Raises:
        ConfigError: something in the model has none; says what is known of it.
    """
    if not penalized(recipe):
        return
    try:
        with _trial(model, recipe), torch.enable_grad():
            _differentiate_twice(model, torch.cat([x[:2], x[:2]]))
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ConfigError(_explained(error)) from error


def check_single_row(model: nn.Module, x: Tensor, recipe: Recipe) -> None:
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
            model(x[:1])
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


def _differentiate_twice(model: nn.Module, x: Tensor) -> None:
    x = x.detach().clone().requires_grad_()
    with differentiable_kernels():
        logits = widened(logits_of(model(x)))
    (gradient,) = torch.autograd.grad(energy(logits).sum(), x, create_graph=True)
    for parameter in model.parameters():
        parameter.grad = None  # Added to in place, it would be lost.
    if gradient.requires_grad:
        # As in a step: a gradient of parameters alone would pass by what cannot be differentiated.
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
