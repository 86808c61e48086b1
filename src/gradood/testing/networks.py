"""The contract networks: small, seeded, one per family of classifiers that users bring."""

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType

import torch
from torch import Tensor, nn

from gradood.taps import Link, logits_of
from gradood.testing._architectures import (
    MLP,
    ConvHead,
    DictOutput,
    FlattenCNN,
    GroupNormNet,
    PlainCNN,
    PostActivationResNet,
    PreActivationDenseNet,
    TinyTransformer,
    zero_shot_pair,
)

__all__ = ["ContractNetwork", "networks"]

_Norm = nn.modules.batchnorm._BatchNorm | nn.GroupNorm | nn.LayerNorm


@dataclass(frozen=True, eq=False)
class ContractNetwork:
    """A named way to build one seeded classifier, and inputs for it.

    Attributes:
        name: kebab-case.
        architecture: number of classes → a module with random weights.
        shape: of one input.
        classes: number of logits.
        frozen: whether its parameters are made not to require gradients.
        link: what makes probabilities of the outputs, as for `gradood.Monitor`.
    """

    name: str
    architecture: Callable[[int], nn.Module]
    shape: tuple[int, ...] = (3, 8, 8)
    classes: int = 5
    frozen: bool = False
    link: Link | None = None

    def model(self) -> nn.Module:
        """The classifier, in evaluation mode; every call gives another copy of the same."""
        return copy.deepcopy(self._first)

    @cached_property
    def _first(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(len(self.name) + 31 * self.classes)
            model = self.architecture(self.classes).eval()
            _randomize(model)
        _center(model, self.inputs(64, seed=9))
        return model.requires_grad_(not self.frozen)

    def inputs(self, n: int, seed: int = 0) -> Tensor:
        """(n, *shape) standard normal float32; the first rows do not depend on `n`."""
        generator = torch.Generator().manual_seed(1000 + seed)
        return torch.randn((n, *self.shape), generator=generator, dtype=torch.float32)

    def labels(self, n: int) -> Tensor:
        """(n,) int64 in which every class occurs; under a sigmoid (n, classes) of 0 and 1."""
        labels = torch.arange(n) % self.classes
        if self.link != "sigmoid":
            return labels
        two = torch.stack([labels, (labels + labels // 2 + 1) % self.classes], 1)
        return torch.zeros(n, self.classes, dtype=torch.int64).scatter_(1, two, 1)

    def with_classes(self, classes: int) -> "ContractNetwork":
        """The same architecture with another number of classes."""
        return replace(self, classes=classes)


@torch.no_grad()
def _randomize(model: nn.Module) -> None:
    """Weights that keep the scale of activations, and normalizations that are not the identity."""
    for module in model.modules():
        # Not text embeddings, which stay unit vectors times the scale.
        if isinstance(module, nn.Conv2d | nn.Linear) and module.weight.requires_grad:
            module.weight.normal_(0.0, math.sqrt(2.0 / module.weight[0].numel()))
        if isinstance(module, _Norm):
            module.weight.uniform_(0.6, 1.4)
            module.bias.normal_(0.1, 0.3)
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0.0, 0.3)
            module.running_var.uniform_(0.5, 1.5)


@torch.no_grad()
def _center(model: nn.Module, x: Tensor) -> None:
    """Logits of unit spread and, where the head has a bias, mean zero: every class is predicted."""
    logits = logits_of(model(x))
    head = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    scale = 2.0 / logits.std(0).mean().clamp_min(1e-3)
    head.weight.mul_(scale)
    if head.bias is not None:
        head.bias.sub_(logits.mean(0)).mul_(scale)


_ALL = (
    ContractNetwork("plain-cnn", PlainCNN),
    ContractNetwork("resnet", PostActivationResNet),
    ContractNetwork("densenet", PreActivationDenseNet),
    ContractNetwork("groupnorm", GroupNormNet),
    ContractNetwork("transformer", TinyTransformer),
    ContractNetwork("mlp", lambda classes: MLP(classes, nn.ReLU()), shape=(12,)),
    ContractNetwork("gelu-mlp", lambda classes: MLP(classes, nn.GELU()), shape=(12,)),
    ContractNetwork("conv-head", ConvHead),
    ContractNetwork("frozen", lambda classes: PlainCNN(classes, inplace=True), frozen=True),
    ContractNetwork("dict-output", lambda classes: DictOutput(PlainCNN(classes, inplace=True))),
    ContractNetwork("no-bias-dropout", lambda classes: PlainCNN(classes, bias=False, dropout=0.5)),
    ContractNetwork("odd-flatten", FlattenCNN, shape=(3, 11, 9)),
    # One logit z is read as the two (0, z).
    ContractNetwork("one-logit", lambda _: MLP(1, nn.ReLU()), shape=(12,), classes=2),
    ContractNetwork(
        "multi-label", lambda labels: MLP(labels, nn.ReLU()), shape=(12,), link="sigmoid"
    ),
    ContractNetwork(
        "regression", lambda outputs: MLP(outputs, nn.ReLU()), shape=(12,), classes=3, link="none"
    ),
    ContractNetwork("zero-shot", zero_shot_pair),
)


def networks() -> Mapping[str, ContractNetwork]:
    """The contract networks by name.

    >>> sorted(networks())[:3]
    ['conv-head', 'densenet', 'dict-output']
    """
    return MappingProxyType({network.name: network for network in _ALL})
