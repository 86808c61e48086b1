"""How a job runs, and what its scores depend on."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from gradood import __version__
from gradood.batch.columns import Judge
from gradood.batch.listing import Listing
from gradood.data.extras import pillow
from gradood.errors import ConfigError

__all__ = ["Identity", "Settings", "description"]

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a job runs.

    Attributes:
        batch_size: images at once, at most.
        shard_rows: rows of a shard: what is lost if a job is killed.
        max_pixels: larger images are not decoded.
        max_bad_fraction: stop once more than this share of all rows could not be scored.
        workers: processes that decode; 0 decodes in this one.
        progress: show a bar; None does on a terminal only.

    Raises:
        ConfigError: a number is out of range.
    """

    batch_size: int = 64
    shard_rows: int = 2048
    max_pixels: int = 50_000_000
    max_bad_fraction: float = 0.05
    workers: int = 0
    progress: bool | None = None

    def __post_init__(self) -> None:
        for name, low in (("batch_size", 1), ("shard_rows", 1), ("max_pixels", 1), ("workers", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < low:
                raise ConfigError(f"{name} is {value!r}; expected a whole number, at least {low}.")
        if not 0 <= self.max_bad_fraction <= 1:
            raise ConfigError(f"max_bad_fraction is {self.max_bad_fraction!r}; expected 0 to 1.")


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


def description(
    monitor: Judge, listing: Listing, identity: Identity, settings: Settings
) -> dict[str, Any]:
    """Everything that the results of a job depend on, as plain values in plain groups.

    Args:
        monitor: what scores.
        listing: what is scored; the contents of its files have no part.
        identity: of detector and model.
        settings: those that change no score are left out.

    Cost: a hash over all names.
    """
    return {
        "format": _FORMAT,
        **asdict(identity),
        "input": {"rows": len(listing), "names": listing.digest()},
        "detectors": list(monitor.detectors),
        "combine": monitor.combine,
        "overrides": list(monitor.overrides),
        "batch_size": settings.batch_size,
        "shard_rows": settings.shard_rows,
        "max_pixels": settings.max_pixels,
        "versions": {
            "gradood": __version__,
            "torch": torch.__version__,
            "pillow": pillow().__version__,
        },
    }
