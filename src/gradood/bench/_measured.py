"""Mean AUROC of methods by kind of network, as measured for docs/results/kinds.md."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from gradood.errors import UnknownNameError, suggest

__all__ = ["Measured", "kinds", "measured"]


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured on the networks of one kind.

    Attributes:
        kind: ``"text"``, for instance.
        networks: what they are, and what they were given that they do not know.
        auroc: by method, the mean over networks and sets, in percent.
    """

    kind: str
    networks: str
    auroc: Mapping[str, float]


def measured(kind: str) -> Measured:
    """What was measured on a kind of network.

    Raises:
        UnknownNameError: no such kind; says which there are.
    """
    known = kinds()
    if kind not in known:
        raise UnknownNameError(f"no kind of network {kind!r}; {suggest(kind, known)}")
    return known[kind]


@cache
def kinds() -> Mapping[str, Measured]:
    """All kinds by name, in the order of the page."""
    text = files("gradood.bench").joinpath("measured.json").read_text(encoding="utf-8")
    return {
        kind: Measured(kind, entry["networks"], entry["auroc"])
        for kind, entry in json.loads(text).items()
    }
