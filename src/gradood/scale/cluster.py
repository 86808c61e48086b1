"""Machines that work is spread over, and what each actor of theirs takes."""

from dataclasses import dataclass

from gradood._io.arguments import described, plain, real, text, whole
from gradood.errors import ConfigError

__all__ = ["Cluster"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A Ray cluster.

    Attributes:
        address: of a running cluster, as ``host:6379``, or ``auto`` for the one that this machine
            belongs to; None for that of the variable ``RAY_ADDRESS``, and without it for one that
            is started on this machine and ends with the work.
        actors: processes that hold the model; None for as many as the cluster has room for when
            the work begins.
        threads: of each actor, which takes as many CPUs; None for as many as torch uses here.
            Scores depend on it in their last bits.
        start_timeout: seconds to wait for room for a first actor.

    Raises:
        ConfigError: a number is out of range.
    """

    address: str | None = None
    actors: int | None = None
    threads: int | None = None
    start_timeout: float = 60.0

    def __post_init__(self) -> None:
        for name in ("actors", "threads"):
            value = getattr(self, name)
            if value is not None:
                whole(value, name, least=1)
        if self.address is not None:
            text(self.address, "address", "one such as 10.0.0.5:6379, or auto")
        timeout = real(self.start_timeout)
        if timeout is None or not timeout > 0:
            given = described(plain(self.start_timeout))
            raise ConfigError(f"start_timeout={given}; expected seconds above 0.")

    @staticmethod
    def named(on: str, *, actors: int | None = None, threads: int | None = None) -> "Cluster":
        """The cluster of ``--on``.

        Args:
            on: ``ray`` or ``ray:ADDRESS``.
            actors: see the attribute.
            threads: likewise.

        Raises:
            ConfigError: it names something else.

        >>> Cluster.named("ray:10.0.0.5:6379", actors=4).address
        '10.0.0.5:6379'
        """
        kind, _, address = text(on, "on", "ray or ray:ADDRESS").partition(":")
        if kind != "ray" or (":" in on and not address):
            raise ConfigError(
                f"--on {on!r}; expected ray, which starts Ray on this machine, or ray:ADDRESS of a "
                "running cluster, such as ray:auto or ray:10.0.0.5:6379."
            )
        if address.startswith("//"):
            raise ConfigError(
                f"--on {on!r} is the address of Ray Client, which is not supported: run this on a "
                "machine of the cluster, with --on ray:auto."
            )
        return Cluster(address=address or None, actors=actors, threads=threads)
