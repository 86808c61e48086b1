"""What a detector reads of one network."""

from collections.abc import Iterable
from dataclasses import dataclass

from gradood.errors import ConfigError
from gradood.evidence import Reads, ReadsLike, needs_state

__all__ = ["Plan"]


@dataclass(frozen=True, slots=True, init=False)
class Plan:
    """What a detector reads of one network.

    Attributes:
        reads: for a score; `Evidence` gives them by their names.
        fit_reads: for `accumulate`.
        caveats: why the score may mean little on this network; each becomes one warning.
        notes: choices made, for `gradood.inspect`.
    """

    reads: Reads
    fit_reads: Reads
    caveats: tuple[str, ...]
    notes: tuple[str, ...]

    def __init__(
        self,
        reads: ReadsLike,
        fit_reads: ReadsLike = (),
        caveats: Iterable[str] = (),
        notes: Iterable[str] = (),
    ) -> None:
        """Requests are named by what they are, unless a mapping names them.

        Raises:
            ConfigError: a fit would step along what it has yet to learn.
        """
        fields = Reads(reads), Reads(fit_reads), tuple(caveats), tuple(notes)
        if any(map(needs_state, fields[1])):
            raise ConfigError("a fit cannot read what steps along the fitted score; a score can.")
        for name, value in zip(("reads", "fit_reads", "caveats", "notes"), fields, strict=True):
            object.__setattr__(self, name, value)
