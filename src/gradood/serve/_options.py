"""How a server runs."""

from dataclasses import dataclass, field
from pathlib import Path

from gradood.errors import ConfigError
from gradood.serve._admission import Limits

__all__ = ["Options"]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a server runs.

    Attributes:
        name: of the model, in addresses.
        host: address to listen at.
        port: to listen at; 0 takes a free one.
        grpc: port to listen at for gRPC too; 0 takes a free one, None none.
        workers: processes that compute.
        timeout: seconds that a batch may take.
        grace: seconds for what was begun to end, once the server is told to.
        follow: take over the detector's file when it changes, not only on SIGHUP.
        watch: file of the state of a watch, or None.
        keys: one of which a client must have; none are needed if there are none.
        limits: what a client may ask for.

    Raises:
        ConfigError: both ports are the same, or the name can be in no address.
    """

    name: str = "detector"
    host: str = "127.0.0.1"
    port: int = 8080
    grpc: int | None = None
    workers: int = 1
    timeout: float = 60.0
    grace: float = 30.0
    follow: bool = False
    watch: Path | None = None
    keys: tuple[bytes, ...] = ()
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.grpc == self.port != 0:
            raise ConfigError(
                f"--port and --grpc are both {self.port}; HTTP and gRPC each need a port of their "
                "own."
            )
        if not self.name or "/" in self.name or not self.name.isprintable():
            raise ConfigError(
                f"--name {self.name!r} can be in no address; name the model in letters and digits."
            )
