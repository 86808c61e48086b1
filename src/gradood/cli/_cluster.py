"""Options of the commands that run on a cluster."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from gradood.cli._groups import option
from gradood.errors import ConfigError

if TYPE_CHECKING:
    from gradood.cli._options import ModelOptions
    from gradood.scale import Cluster, Subject

__all__ = ["ClusterOptions", "subject_of"]


@dataclass(frozen=True, kw_only=True)
class ClusterOptions:
    """Where the work is done, if not in this process."""

    PANEL: ClassVar[str] = "Cluster"

    on: Annotated[
        str | None,
        option(
            "ray[:ADDRESS]",
            "Spread the work over a Ray cluster: the one at ADDRESS, such as auto or "
            "10.0.0.5:6379, or one started on this machine.",
        ),
    ] = None
    actors: Annotated[
        int | None,
        option("N", "Processes that hold the model; as many as have room if not given.", least=1),
    ] = None
    threads: Annotated[
        int | None,
        option("N", "Threads and CPUs of each; as torch uses here if not given.", least=1),
    ] = None

    def cluster(self) -> "Cluster | None":
        """The cluster; None for this process.

        Raises:
            ConfigError: --on names something else, or only its options are there.
        """
        if self.on is None:
            given = "--actors" if self.actors is not None else "--threads"
            if self.actors is not None or self.threads is not None:
                raise ConfigError(f"{given} was given without --on; add --on ray.")
            return None
        from gradood.scale import Cluster

        return Cluster.named(self.on, actors=self.actors, threads=self.threads)


def subject_of(model: "ModelOptions", detector: str | None = None) -> "Subject":
    """The model of a command by name, for workers.

    Args:
        model: options of the command.
        detector: file of a saved detector.
    """
    from gradood.cli._options import device_name
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
