"""Requests as plain JSON values, and back: from a closed list, nothing is looked up by import."""

from collections.abc import Mapping
from dataclasses import asdict
from math import inf
from typing import Any

from torch import nn

from gradood.errors import ArtifactError
from gradood.evidence.reads import (
    FEATURE_SUM,
    FEATURES,
    INPUT_RANGE,
    KEYS,
    LOG_SOFTMAX_SUM,
    LOGITS,
    MAX_LOGIT,
    Activation,
    Basic,
    Gradient,
    Objective,
    ParameterNorm,
    Perturbation,
    Perturbed,
    Read,
)
from gradood.evidence.summaries import (
    MAP,
    MAX_POWER,
    MEAN,
    NONZERO_SHARE,
    POSITIONS,
    POSITIVE_SHARE,
    Summary,
    gram_sums,
    max_pooled_share,
)
from gradood.taps import Site

__all__ = ["read_from_plain", "read_to_plain"]

_BASICS: dict[str, Basic] = {read.name: read for read in (LOGITS, FEATURES, KEYS, INPUT_RANGE)}
_OBJECTIVES = {one.name: one for one in (MAX_LOGIT, LOG_SOFTMAX_SUM, FEATURE_SUM)}
_SUMMARIES = {one.name: one for one in (MAP, MEAN, NONZERO_SHARE, POSITIONS, POSITIVE_SHARE)}
_POOLED = max_pooled_share(nn.MaxPool2d(2)).name
_GRAM = gram_sums((1,)).name


def read_to_plain(read: Read) -> dict[str, Any]:
    """A request as a JSON object.

    Raises:
        ArtifactError: it holds an objective or a summary that is not gradood's own.
    """
    if isinstance(read, Basic):
        return {"read": read.name}
    if isinstance(read, ParameterNorm):
        names = list(read.names)
        return {"parameters": names, "temperature": read.temperature, "order": read.order}
    if isinstance(read, Perturbed):
        step = asdict(read.perturbation)
        return {"perturbation": {**step, "std": list(step["std"])}, "read": read.what.name}
    where = {"layer": read.site.layer, "port": read.site.port, "call": read.site.call}
    plain = {"site": where, "summary": read.summary.name}
    if read.summary.settings:
        plain["settings"] = [list(s) if isinstance(s, tuple) else s for s in read.summary.settings]
    if isinstance(read, Gradient):
        plain["objective"] = read.objective.name
    try:
        same = read_from_plain(plain) == read
    except ArtifactError:
        same = False
    if not same:
        raise ArtifactError(
            f"{read} cannot be saved: only gradood's own objectives and summaries can be found "
            "again by name."
        )
    return plain


def read_from_plain(plain: Any) -> Read:
    """The request that `read_to_plain` was given.

    Raises:
        ArtifactError: it is none.
    """
    try:
        if plain.keys() == {"read"}:
            return _BASICS[plain["read"]]
        if plain.keys() == {"parameters", "temperature", "order"}:
            names = tuple(map(_text, plain["parameters"]))
            return ParameterNorm(names, float(plain["temperature"]), float(plain["order"]))
        if plain.keys() == {"perturbation", "read"}:
            what = {one.name: one for one in (LOGITS, FEATURES)}[plain["read"]]
            return Perturbed(_perturbation(**plain["perturbation"]), what)
        if not plain.keys() <= {"site", "summary", "settings", "objective"}:
            raise ValueError("unknown keys")
        site, summary = _site(plain["site"]), _summary(plain)
        if "objective" not in plain:
            return Activation(site, summary)
        objective: Objective = _OBJECTIVES[plain["objective"]]
        return Gradient(objective, site, summary)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{str(plain)[:200]} is nothing that gradood reads.") from error


def _perturbation(
    *, of: Any, epsilon: Any, temperature: Any, share: Any, pixels: Any, std: Any
) -> Perturbation:
    if of not in ("max logit", "max log-softmax") or pixels not in ("least", "most"):
        raise ValueError(of)
    numbers = [float(value) for value in (epsilon, temperature, share, *std)]
    if not all(0 < value < inf for value in numbers) or numbers[2] > 1 or not std:
        raise ValueError(numbers)
    epsilon, temperature, share, *each = numbers
    return Perturbation(of, epsilon, temperature, share, pixels, tuple(each))


def _site(plain: Mapping[str, Any]) -> Site:
    port, call = plain["port"], plain["call"]
    if plain.keys() != {"layer", "port", "call"} or port not in ("output", "input"):
        raise ValueError(port)
    if type(call) is not int or call < 0:
        raise ValueError(call)
    return Site(_text(plain["layer"]), port, call)


def _summary(plain: Mapping[str, Any]) -> Summary:
    name = plain["summary"]
    if "settings" not in plain:
        return _SUMMARIES[name]
    if name == _GRAM:
        return gram_sums(_powers(plain["settings"]))
    if name != _POOLED:
        raise ValueError(name)
    settings = [tuple(s) if isinstance(s, list) else s for s in plain["settings"]]
    kernel_size, stride, padding, dilation, ceil_mode = settings
    pool = nn.MaxPool2d(kernel_size, stride, padding, dilation, ceil_mode=bool(ceil_mode))
    return max_pooled_share(pool)


def _powers(values: Any) -> tuple[int, ...]:
    if not values or any(type(p) is not int or not 0 < p <= MAX_POWER for p in values):
        raise ValueError(values)
    if sorted(set(values)) != list(values):
        raise ValueError(values)
    return tuple(values)


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(value)
    return value
