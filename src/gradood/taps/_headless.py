"""Kinds of models in which no head can be read, with the reason and what to do."""

from collections.abc import Collection

import torch
from torch import nn

__all__ = ["unreadable_head"]


def unreadable_head(module: nn.Module, ran: Collection[str]) -> str:
    """Why a head was not found, where the kind of the model says so; empty if it does not.

    Args:
        module: the unwrapped model.
        ran: names of the layers that ran.
    """
    if isinstance(module, torch.fx.GraphModule) and not _has_layers(module):
        return (
            " The model is a graph of operations (torch.export, torch.fx), whose layers are no "
            "modules: give the nn.Module that it was made from."
        )
    named = [(name, layer) for name, layer in module.named_modules() if name]
    scripted = [name for name, layer in named if isinstance(layer, torch.jit.ScriptModule)]
    if scripted:
        return (
            f" {scripted[0]!r} is a TorchScript module, inside which no layer can be seen: give "
            "the nn.Module that it was made from."
        )
    quantized = [name for name, layer in named if _quantized(layer)]
    if quantized:
        return (
            f" {quantized[-1]!r} is quantized, and rounds what it takes, so that it is no linear "
            "map: leave the last linear layer in floating point, which costs next to nothing."
        )
    silent = [name for name, layer in named if _linear(layer) and name not in ran]
    if silent:
        return (
            f" {silent[-1]!r} did not run as a module, as where a model uses its weight itself: "
            "let it call the layer."
        )
    return ""


def _has_layers(module: torch.fx.GraphModule) -> bool:
    called = (node.target for node in module.graph.nodes if node.op == "call_module")
    return any(True for name in called for _ in module.get_submodule(str(name)).parameters())


def _quantized(layer: nn.Module) -> bool:
    return ".quantized" in type(layer).__module__ or "quant" in type(layer).__name__.lower()


def _linear(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear | nn.Conv2d) and not any(layer.children())
