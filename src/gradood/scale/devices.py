"""Devices of this machine that work is spread over."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gradood._io.arguments import described, whole
from gradood._io.arguments import text as checked_text
from gradood.errors import ConfigError

__all__ = ["Devices"]

_PER_CORE, _LEAST = 4, 16
"""Processes at most: for each core, and on any machine."""
_EXPECTED = "such as cuda:0,cuda:1, cuda for every GPU, or cpu:2 for two processes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """Devices of one kind, each of which gets a process with the model.

    Attributes:
        names: such as ``cuda:0``; one that is named twice gets two processes.
        threads: of each process; None for as many as torch uses here. Scores depend on it in their
            last bits.

    Raises:
        ConfigError: none, or of several kinds, whose scores would differ; more than four for each
            core and more than 16; or a number is out of range.
    """

    names: tuple[str, ...]
    threads: int | None = None

    def __post_init__(self) -> None:
        given: Any = self.names
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise ConfigError(f"names={described(given)}; expected such as ('cuda:0', 'cuda:1').")
        _check_count(str(len(given)))
        kinds = {_device(name).type for name in given}
        if len(kinds) != 1:
            told = " and ".join(sorted(kinds)) or "none"
            raise ConfigError(
                f"the devices are {told}; expected one kind, as scores would differ between kinds."
            )
        if self.threads is not None:
            whole(self.threads, "threads", least=1)

    @property
    def kind(self) -> str:
        """Such as ``cpu`` or ``cuda``."""
        return torch.device(self.names[0]).type

    @staticmethod
    def named(text: str, *, threads: int | None = None) -> "Devices":
        """The devices of ``--devices``.

        Args:
            text: ``cuda:0,cuda:1``; ``cuda`` for every GPU; ``cpu:2`` for two processes.
            threads: see the attribute.

        Raises:
            ConfigError: it names something else.

        >>> Devices.named("cpu:2").names, Devices.named("cuda:0,cuda:2").names
        (('cpu', 'cpu'), ('cuda:0', 'cuda:2'))
        """
        listed = checked_text(text, "--devices", _EXPECTED)
        names = [name for part in listed.split(",") for name in _devices(part.strip(), listed)]
        return Devices(names=tuple(names), threads=threads)


def _devices(part: str, text: str) -> list[str]:
    kind, _, number = part.partition(":")
    if kind == "cpu" and (not number or (number.isascii() and number.isdigit())):
        _check_count(number or "1")
        count = int(number or 1)
        if count < 1:
            raise ConfigError(
                f"--devices {text!r} is no process at all: the number after cpu is that of the "
                "processes; expected at least 1, such as cpu:2 for two."
            )
        return ["cpu"] * count
    if part == "cuda":
        return [f"cuda:{place}" for place in range(torch.cuda.device_count())] or ["cuda:0"]
    try:
        return [str(torch.device(part))]
    except RuntimeError as error:
        raise ConfigError(f"--devices {text[:80]!r}; expected {_EXPECTED}.") from error


def _check_count(digits: str) -> None:
    """Refuse more processes than this machine has use for.

    Raises:
        ConfigError: there are more.
    """
    cores = os.cpu_count() or 1
    most = max(_LEAST, _PER_CORE * cores)
    if len(digits.lstrip("0")) > 9 or int(digits) > most:
        raise ConfigError(
            f"{digits[:20]} processes were asked for, each of which holds the model; expected at "
            f"most {most} on a machine with {cores} cores."
        )


def _device(name: object) -> torch.device:
    given: Any = name
    try:
        return torch.device(given)
    except (RuntimeError, TypeError) as error:
        raise ConfigError(
            f"names holds {described(name)}; expected devices such as 'cpu' or 'cuda:1'."
        ) from error
