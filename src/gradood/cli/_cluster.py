"""Options of the commands that run on a cluster."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from gradood.cli._bad_rows import TolerantLoadingOptions
from gradood.cli._groups import option
from gradood.cli._options import ModelOptions, device_name
from gradood.errors import ConfigError

if TYPE_CHECKING:
    from gradood.scale import Loading, Subject
    from gradood.scale._pools import Place

__all__ = ["ClusterLoadingOptions", "ClusterOptions", "subject_of"]

CLUSTER = "Cluster"
"""Title of the panel that the help is in."""


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """Where the work is done, if not in this process."""

    on: Annotated[
        str | None,
        option(
            "ray[:ADDRESS]",
            "Spread the work over a Ray cluster: the one at ADDRESS, such as auto or "
            "10.0.0.5:6379, or one started on this machine.",
            panel=CLUSTER,
        ),
    ] = None
    actors: Annotated[
        int | None,
        option(
            "N",
            "Processes that hold a model; as many as have room if not given.",
            panel=CLUSTER,
            least=1,
        ),
    ] = None
    threads: Annotated[
        int | None,
        option(
            "N",
            "Threads and CPUs of each; as torch uses here if not given.",
            panel=CLUSTER,
            least=1,
        ),
    ] = None

    devices: Annotated[
        str | None,
        option(
            "LIST",
            "A process for each device of this machine: cuda:0,cuda:1; cuda for every GPU; cpu:2 "
            "for two. The results are the same bytes for any number of them.",
            panel=CLUSTER,
        ),
    ] = None

    def spread(self, device: str) -> "Place | None":
        """Where the work is spread over; None for this process.

        Args:
            device: that the model was asked for on.

        Raises:
            ConfigError: two places are named, or none that there is.
        """
        if self.devices is not None:
            return self._spread_over(self.devices, device)
        if self.on is None:
            given = "--actors" if self.actors is not None else "--threads"
            if self.actors is not None or self.threads is not None:
                raise ConfigError(f"{given} was given without --on; add --on ray.")
            return None
        from gradood.scale import Cluster

        return Cluster.named(self.on, actors=self.actors, threads=self.threads)

    def _spread_over(self, listed: str, device: str) -> "Place":
        """The devices of a list."""
        if self.on is not None or device != "cpu":
            other = "--on" if self.on is not None else "--device"
            raise ConfigError(f"--devices and {other} were both given; give one.")
        if self.actors is not None:
            raise ConfigError("--actors is of --on; --devices names a process for each.")
        from gradood.scale import Devices

        devices = Devices.named(listed, threads=self.threads)
        for name in dict.fromkeys(devices.names):
            device_name(name)
        return devices


@dataclass(frozen=True, kw_only=True)
class ClusterLoadingOptions(ClusterOptions, TolerantLoadingOptions):
    """How files become batches of images, here or on a cluster."""

    def loading(self) -> "Loading":
        """The same for workers of a cluster."""
        from gradood.scale import Loading

        return Loading(batch_size=self.batch_size, workers=self.workers)


def subject_of(model: ModelOptions, detector: str | None = None) -> "Subject":
    """The model of a command by name, for workers.

    Args:
        model: options of the command.
        detector: file of a saved detector.
    """
    from gradood.scale import Subject

    return Subject(
        model=model.model,
        weights=None if model.weights is None else str(model.weights),
        num_classes=model.num_classes,
        pretrained=model.pretrained,
        device=device_name(model.device),
        detector=detector,
        override=getattr(model, "override", None),
    )
