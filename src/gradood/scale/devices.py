"""Devices of this machine that work is spread over."""

from dataclasses import dataclass

import torch

from gradood.errors import ConfigError

__all__ = ["Devices"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Devices:
    """Devices of one kind, each of which gets a process with the model.

    Attributes:
        names: such as ``cuda:0``; one that is named twice gets two processes.
        threads: of each process; None for as many as torch uses here. Scores depend on it in their
            last bits.

    Raises:
        ConfigError: none, or of several kinds, whose scores would differ; or a number is out of
            range.
    """

    names: tuple[str, ...]
    threads: int | None = None

    def __post_init__(self) -> None:
        kinds = {torch.device(name).type for name in self.names}
        if len(kinds) != 1:
            told = " and ".join(sorted(kinds)) or "none"
            raise ConfigError(
                f"the devices are {told}; expected one kind, as scores would differ between kinds."
            )
        if self.threads is not None and (type(self.threads) is not int or self.threads < 1):
            raise ConfigError(f"threads is {self.threads!r}; expected a whole number, at least 1.")

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
        names = [name for part in text.split(",") for name in _devices(part.strip(), text)]
        return Devices(names=tuple(names), threads=threads)


def _devices(part: str, text: str) -> list[str]:
    kind, _, number = part.partition(":")
    if kind == "cpu" and (not number or (number.isascii() and number.isdigit())):
        return ["cpu"] * int(number or 1)
    if part == "cuda":
        return [f"cuda:{place}" for place in range(torch.cuda.device_count())] or ["cuda:0"]
    try:
        return [str(torch.device(part))]
    except RuntimeError as error:
        raise ConfigError(
            f"--devices {text!r}; expected such as cuda:0,cuda:1, cuda for every GPU, or cpu:2 for "
            "two processes."
        ) from error
