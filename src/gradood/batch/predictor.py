"""The monitor that a job asks: what is needed of it, how it is loaded, and how it is run."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, final

import torch
from torch import nn

from gradood.artifact import Artifact
from gradood.artifact.fingerprint import fingerprint
from gradood.data._batches import batch_part, batch_size
from gradood.data.column_input import Row
from gradood.monitor.loading import from_artifact
from gradood.taps import out_of_memory

if TYPE_CHECKING:
    from gradood.monitor import Monitor

__all__ = [
    "Forward",
    "Identity",
    "LoadedPredictor",
    "Predictor",
    "load_predictor",
    "promises_per_class",
]

_LOG = logging.getLogger(__name__)


class Predictor(Protocol):
    """What a job needs of a `gradood.Monitor`.

    Others than a `gradood.Monitor` may have ``per_class``: whether their promise holds within each
    predicted class, so that their results say `gradood.Result.class_conditional`.
    """

    @property
    def detectors(self) -> Mapping[str, Any]:
        """Detectors by name."""
        ...

    @property
    def combine(self) -> str | None:
        """How they become one decision, if they do."""
        ...

    @property
    def overrides(self) -> tuple[str, ...]:
        """Refusals that were overridden."""
        ...

    def predict(self, data: Any, /) -> Any:
        """A result, or a mapping of results by detector."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What scores depend on besides the images: a job that was begun with other goes on with none.

    Attributes:
        artifact: SHA-256 of the detector's file.
        model: what tells the model from others, such as its fingerprint's digest.
        preprocess: options of `gradood.data.Preprocess`, or any other plain values.
        device: where the model runs, such as ``cpu`` or ``cuda``.
    """

    artifact: str
    model: str
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    device: str = "cpu"


@dataclass(frozen=True, eq=False, slots=True)
class LoadedPredictor:
    """A saved monitor on its model, and the hashes of both.

    Attributes:
        monitor: calibrated or not, as it was saved.
        artifact: SHA-256 of the file it was read from.
        model: digest of the model's fingerprint.
    """

    monitor: "Monitor"
    artifact: str
    model: str

    def identity(self, preprocess: Mapping[str, Any], device: str | torch.device) -> Identity:
        """What the scores of a job depend on.

        Args:
            preprocess: options of `gradood.data.Preprocess`.
            device: where the model runs.
        """
        kind = torch.device(device).type
        return Identity(
            artifact=self.artifact, model=self.model, preprocess=preprocess, device=kind
        )


def promises_per_class(monitor: Predictor) -> bool:
    """Whether a promise holds within each predicted class, where its samples suffice.

    Args:
        monitor: that decides.
    """
    from gradood.monitor import Monitor

    if isinstance(monitor, Monitor):
        return monitor.summary().per_class
    return bool(getattr(monitor, "per_class", False))


def load_predictor(
    artifact: Artifact,
    model: nn.Module,
    *,
    override: str | None = None,
    source: str = "the file",
) -> LoadedPredictor:
    """A saved monitor from what was read of its file, so that file and model are hashed once.

    The hash is of the very bytes the monitor is made of, whatever the file holds by now.

    Args:
        artifact: from `gradood.artifact.read`.
        model: the classifier it was fitted on.
        override: why a differing model is right, if it is; stamped on every result.
        source: the file, for messages.

    Raises:
        ModelMismatchError: the model is another one; says what differs.
        ArtifactError: the artifact names what this gradood does not have.

    Cost: reads all parameters once, and one forward pass of eight inputs.
    """
    known = fingerprint(model)
    monitor = from_artifact(artifact, model, known, source=source, override=override)
    return LoadedPredictor(monitor, artifact.verified.sha256, known.digest)


@final
class Forward:
    """Predictions of at most `limit` images at once.

    Args:
        monitor: what predicts.
        limit: images at once; halved, for good, when the memory does not suffice.
    """

    def __init__(self, monitor: Predictor, limit: int) -> None:
        self._monitor = monitor
        self.limit = limit
        self._warned = False

    def __call__(self, x: Row) -> Iterator[tuple[int, Any]]:
        """Each piece's length and prediction, in order.

        Args:
            x: (rows, …), as (images, channels, height, width); or a mapping of such.

        Raises:
            MemoryError: or what else says so: not even one image fits.
            DataError: the model cannot take such inputs.
        """
        start, total = 0, batch_size(x)
        while start < total:
            piece = batch_part(x, start, start + self.limit)
            count = batch_size(piece)
            answer = self._predicted(piece)
            if answer is None:
                self._halve(count)
                continue
            yield count, answer
            start += count

    def _predicted(self, piece: Row) -> Any:
        """The prediction; None if there was too little memory for more than one image."""
        try:
            return self._monitor.predict(piece)
        except (RuntimeError, MemoryError, ValueError) as error:
            if batch_size(piece) == 1 or not out_of_memory(error):
                raise
        return None  # Only here is the error, and what its frames hold, let go.

    def _halve(self, tried: int) -> None:
        self.limit = tried // 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if not self._warned:
            _LOG.warning(
                "out of memory with %d images at once; going on with %d, and fewer if need be",
                tried,
                self.limit,
            )
            self._warned = True
