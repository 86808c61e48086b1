"""Requests as plain JSON values, and back: by name alone, nothing is looked up by import."""

from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from gradood.errors import ArtifactError, ConfigError, UnknownNameError
from gradood.evidence.named_reads import Reads, default_name
from gradood.evidence.registry import built_in, objective, same_function, summary
from gradood.evidence.requests import (
    FEATURES,
    INPUT_RANGE,
    KEYS,
    LOGITS,
    Activation,
    Basic,
    FittedObjective,
    FittedScore,
    Gradient,
    JacobianNorm,
    Objective,
    ParameterNorm,
    Perturbation,
    Perturbed,
    Read,
)
from gradood.evidence.summaries import Summary
from gradood.taps import Site

__all__ = [
    "made_of_own_parts",
    "read_from_plain",
    "read_to_plain",
    "reads_from_plain",
    "reads_to_plain",
]

_BASICS: dict[str, Basic] = {read.name: read for read in (LOGITS, FEATURES, KEYS, INPUT_RANGE)}


def reads_to_plain(reads: Sequence[Read]) -> list[dict[str, Any]]:
    """Requests as JSON objects; a name is in it where the plan gave one of its own.

    Raises:
        ArtifactError: one holds an objective or a summary that nobody registered.
    """
    named = Reads(reads)
    return [
        read_to_plain(read) | ({} if name == default_name(read) else {"name": name})
        for read, name in zip(named, named.names, strict=True)
    ]


def reads_from_plain(plain: Sequence[Any]) -> Reads:
    """The requests that `reads_to_plain` was given, under their names.

    Raises:
        ArtifactError: one is none.
    """
    names: list[str | None] = []
    reads: list[Read] = []
    for entry in plain:
        own = dict(entry) if isinstance(entry, Mapping) else entry
        names.append(own.pop("name", None) if isinstance(own, dict) else None)
        reads.append(read_from_plain(own))
        if names[-1] is not None and type(names[-1]) is not str:
            raise ArtifactError(f"{names[-1]!r} is no name of what gradood reads.")
    return Reads(reads).renamed(names)


def read_to_plain(read: Read) -> dict[str, Any]:
    """A request as a JSON object.

    Raises:
        ArtifactError: it holds an objective or a summary that nobody registered.
    """
    if isinstance(read, Basic):
        return {"read": read.name}
    if isinstance(read, ParameterNorm):
        names = list(read.names)
        return {"parameters": names, "temperature": read.temperature, "order": read.order}
    if isinstance(read, Perturbed):
        what = read_to_plain(read.what) if isinstance(read.what, Activation) else read.what.name
        return {"perturbation": _step_to_plain(read.perturbation), "read": what}
    if isinstance(read, JacobianNorm):
        return {
            "jacobians": [_site_to_plain(site) for site in read.sites],
            "of": None if read.read is None else _site_to_plain(read.read),
            "samples": read.samples,
            "two_sided": read.two_sided,
        }
    plain = {"site": _site_to_plain(read.site), "summary": _summary_name(read.summary)}
    if read.summary.settings:
        plain["settings"] = [list(s) if isinstance(s, tuple) else s for s in read.summary.settings]
    if isinstance(read, Gradient):
        plain["objective"] = _objective_name(read.objective)
    return plain


def read_from_plain(plain: Any) -> Read:
    """The request that `read_to_plain` was given.

    Raises:
        ArtifactError: it is none, or no installed package brings what it reads.
    """
    try:
        if plain.keys() == {"read"}:
            return _BASICS[plain["read"]]
        if plain.keys() == {"parameters", "temperature", "order"}:
            names = tuple(map(_text, plain["parameters"]))
            return ParameterNorm(names, float(plain["temperature"]), float(plain["order"]))
        if plain.keys() == {"perturbation", "read"}:
            return Perturbed(_perturbation(**plain["perturbation"]), _what(plain["read"]))
        if plain.keys() == {"jacobians", "of", "samples", "two_sided"}:
            return _jacobian_norm(plain)
        if not plain.keys() <= {"site", "summary", "settings", "objective"}:
            raise ValueError("unknown keys")
        site, reduced = _site(plain["site"]), _summary(plain)
        if "objective" not in plain:
            return Activation(site, reduced)
        return Gradient(objective(_text(plain["objective"])), site, reduced)
    except UnknownNameError as error:
        raise ArtifactError(f"this file cannot be read here: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{str(plain)[:200]} is nothing that gradood reads.") from error


def made_of_own_parts(read: Read) -> bool:
    """Whether a request is of gradood's own code alone, so that its plain form says all of it."""
    if isinstance(read, Perturbed):
        of = read.perturbation.of
        followed = isinstance(of, str) or (isinstance(of, Objective) and built_in(of))
        return followed and made_of_own_parts(read.what)
    if isinstance(read, Gradient) and not built_in(read.objective):
        return False
    return not isinstance(read, Activation | Gradient) or built_in(read.summary)


def _objective_name(read: Objective | FittedObjective) -> str:
    """The name by which that very objective is found again."""
    try:
        known = objective(read.name)
    except (UnknownNameError, ConfigError):
        known = None
    if known is None or not isinstance(read, Objective) or not same_function(known.of, read.of):
        raise _unregistered("objective", read.name)
    return read.name


def _summary_name(read: Summary) -> str:
    try:
        known = summary(read.name, read.settings)
    except (UnknownNameError, ConfigError, TypeError, ValueError):
        known = None
    if known is None or known != read or not same_function(known.reduce, read.reduce):
        raise _unregistered("summary", read.name)
    return read.name


def _unregistered(kind: str, name: str) -> ArtifactError:
    return ArtifactError(
        f"the {kind} {name!r} cannot be saved: only gradood's own objectives and summaries and "
        f"registered ones can be found again by name. Give it to gradood.evidence.register, or "
        "declare an entry point of that name."
    )


def _step_to_plain(step: Perturbation) -> dict[str, Any]:
    if step.score is not None:
        raise ArtifactError("a step with a detector's state is no plain value; its plan is.")
    of: Any = step.of
    if isinstance(of, Objective):
        of = {"objective": _objective_name(of)}
    elif isinstance(of, FittedScore):
        of = {"fitted": of.name, "reads": [read_to_plain(read) for read in of.reads]}
    return {
        "of": of,
        "epsilon": step.epsilon,
        "temperature": step.temperature,
        "share": step.share,
        "pixels": step.pixels,
        "std": list(step.std),
    }


def _perturbation(
    *, of: Any, epsilon: Any, temperature: Any, share: Any, pixels: Any, std: Any
) -> Perturbation:
    if pixels not in ("least", "most"):
        raise ValueError(pixels)
    numbers = [float(value) for value in (epsilon, temperature, share, *std)]
    if not all(0 < value < inf for value in numbers) or numbers[2] > 1 or not std:
        raise ValueError(numbers)
    epsilon, temperature, share, *each = numbers
    return Perturbation(_followed(of), epsilon, temperature, share, pixels, tuple(each))


def _followed(of: Any) -> Any:
    """What a step follows the gradient of."""
    if isinstance(of, str):
        if of not in ("max logit", "max log-softmax"):
            raise ValueError(of)
        return of
    if of.keys() == {"objective"}:
        return objective(_text(of["objective"]))
    if of.keys() != {"fitted", "reads"}:
        raise ValueError(of)
    reads = tuple(map(read_from_plain, of["reads"]))
    if not all(isinstance(read, Activation) or read in (LOGITS, FEATURES) for read in reads):
        raise ValueError(of)
    return FittedScore(_text(of["fitted"]), reads)  # type: ignore[arg-type]


def _what(plain: Any) -> Basic | Activation:
    """What is read of a perturbed input."""
    if isinstance(plain, str):
        return {known.name: known for known in (LOGITS, FEATURES)}[plain]
    read = read_from_plain(plain)
    if not isinstance(read, Activation):
        raise ValueError(plain)
    return read


def _jacobian_norm(plain: Mapping[str, Any]) -> JacobianNorm:
    sites, of, samples = plain["jacobians"], plain["of"], plain["samples"]
    counted = samples is None or (type(samples) is int and samples > 0)
    if type(sites) is not list or len(sites) < 2 or not counted:
        raise ValueError(plain)
    if type(plain["two_sided"]) is not bool:
        raise ValueError(plain)
    read = None if of is None else _site(of)
    return JacobianNorm(tuple(map(_site, sites)), read, samples, plain["two_sided"])


def _site_to_plain(site: Site) -> dict[str, Any]:
    return {"layer": site.layer, "port": site.port, "call": site.call}


def _site(plain: Mapping[str, Any]) -> Site:
    port, call = plain["port"], plain["call"]
    if plain.keys() != {"layer", "port", "call"} or port not in ("output", "input"):
        raise ValueError(port)
    if type(call) is not int or call < 0:
        raise ValueError(call)
    return Site(_text(plain["layer"]), port, call)


def _summary(plain: Mapping[str, Any]) -> Summary:
    settings = plain.get("settings", [])
    if type(settings) is not list and type(settings) is not tuple:
        raise ValueError(settings)
    if "settings" in plain and not settings:
        raise ValueError(settings)
    plain_settings = tuple(tuple(s) if isinstance(s, list) else s for s in settings)
    return summary(_text(plain["summary"]), plain_settings)


def _text(value: Any) -> str:
    if type(value) is not str:
        raise TypeError(value)
    return value
