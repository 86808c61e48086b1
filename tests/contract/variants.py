"""Which detectors are held to the contract: every registered one, by default and with options."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import inf

import torch

import gradood
from gradood.detectors.base import Detector
from gradood.testing import Subject, applicable, checks, networks

ALL = tuple(networks())


@dataclass(frozen=True)
class Variant:
    """A detector with some options, and the contract networks it is checked on."""

    name: str
    make: Callable[[], Detector]
    networks: tuple[str, ...]


def _of(name: str, networks: str, make: Callable[[], Detector]) -> Variant:
    return Variant(name, make, tuple(networks.split()))


DEFAULTS = tuple(
    Variant(method.name, getattr(gradood, method.detector), ALL) for method in gradood.methods()
)
OPTIONS = (
    _of("energy:hot", "plain-cnn", lambda: gradood.Energy(temperature=10.0)),
    _of(
        "gradnorm:l2",
        "resnet conv-head",
        lambda: gradood.GradNorm(order=2, bias=True, temperature=2.0),
    ),
    _of("gradnorm:max", "no-bias-dropout", lambda: gradood.GradNorm(order=inf)),
    _of(
        "gradnorm:parameters",
        "mlp frozen",
        lambda: gradood.GradNorm(parameters=["head.weight", "head.bias"]),
    ),
    _of("gaia-z:backward", "resnet mlp", lambda: gradood.GAIAZ(path="backward")),
    _of("gaia-z:forward", "frozen transformer", lambda: gradood.GAIAZ(path="forward")),
    _of("gaia-z:layers", "plain-cnn", lambda: gradood.GAIAZ(layers=["norm1"])),
    _of("gaia-a:pooled", "resnet", lambda: gradood.GAIAA(last="pooled")),
    _of("gaia-a:layers", "dict-output", lambda: gradood.GAIAA(layers=["body.norm1"])),
    _of("gaia-a:last", "plain-cnn", lambda: gradood.GAIAA(layers=["norm1"], last="norm2")),
    _of(
        "line:absolute",
        "transformer no-bias-dropout",
        lambda: gradood.LINe(
            weight_percentile=10, activation_percentile=30, clip="auto", contribution="absolute"
        ),
    ),
    _of(
        "grood:class-mean",
        "resnet",
        lambda: gradood.GROOD(ood_prototype="class-mean", bank="all", k=3),
    ),
    _of(
        "grood:noise",
        "plain-cnn mlp",
        lambda: gradood.GROOD(ood_prototype="noise", n_synthetic=6, score="norm"),
    ),
    _of("grood:tensor", "gelu-mlp", lambda: gradood.GROOD(ood_prototype=torch.full((2, 14), 0.3))),
    _of(
        "grood:early-layer",
        "densenet",
        lambda: gradood.GROOD(early_layer="transition", mix=0.25),
    ),
    _of("knn:euclidean", "gelu-mlp frozen", lambda: gradood.KNN(k=3, normalize=False)),
)
VARIANTS = {variant.name: variant for variant in (*DEFAULTS, *OPTIONS)}

REFUSED = {
    ("gaia-a", "gelu-mlp"),
    ("gaia-z", "gelu-mlp"),
    ("gaia-z:forward", "transformer"),
}
"""Every (variant, network) that is refused, with an error that names the detector or a layer."""

FAILS = {
    # Tiny gradients underflow in half precision, so that they differ from active ReLUs.
    ("gaia-z:forward", "frozen", "float16-model"): "does not give this model's gradients",
}
"""Every (variant, network, check) that is known to fail, with words of why."""


@cache
def subject(variant: str, network: str) -> Subject:
    """One subject for all checks, so that a detector is fitted once per network."""
    return Subject(VARIANTS[variant].make(), networks()[network])


def cases() -> list[tuple[str, str, str]]:
    """(variant, network, check); a check of the detector alone comes once."""
    found: list[tuple[str, str, str]] = []
    for variant in VARIANTS.values():
        names = applicable(variant.make())
        for network in variant.networks:
            first = network == variant.networks[0]
            found += [(variant.name, network, n) for n in names if first or not checks()[n].once]
    return found
