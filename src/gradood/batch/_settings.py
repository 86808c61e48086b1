"""How a scoring job runs."""

from dataclasses import dataclass

from gradood._io.arguments import plain
from gradood.data._worker_pool import DECODE_TIMEOUT
from gradood.errors import ConfigError

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a job runs.

    Attributes:
        batch_size: images at once, at most.
        shard_rows: rows of a shard: what is lost if a job is killed.
        max_pixels: larger images are not decoded.
        max_bad_fraction: stop once more than this share of all rows could not be scored; looked
            at after each shard.
        workers: processes that decode; 0 decodes in this one.
        decode_timeout: seconds that reading and decoding one image may take where processes
            decode, or None; then it is a row with the status ``timed_out``.
        progress: show a bar; None does on a terminal only.

    Raises:
        ConfigError: a number is out of range.
    """

    batch_size: int = 64
    shard_rows: int = 2048
    max_pixels: int = 50_000_000
    max_bad_fraction: float = 0.05
    workers: int = 0
    decode_timeout: float | None = DECODE_TIMEOUT
    progress: bool | None = None

    def __post_init__(self) -> None:
        for name, low in (("batch_size", 1), ("shard_rows", 1), ("max_pixels", 1), ("workers", 0)):
            value = plain(getattr(self, name))
            object.__setattr__(self, name, value)
            if type(value) is not int or value < low:
                raise ConfigError(f"{name} is {value!r}; expected a whole number, at least {low}.")
        if not 0 <= self.max_bad_fraction <= 1:
            raise ConfigError(f"max_bad_fraction is {self.max_bad_fraction!r}; expected 0 to 1.")
        if self.decode_timeout is not None and not self.decode_timeout > 0:
            raise ConfigError(
                f"decode_timeout is {self.decode_timeout!r}; expected seconds above 0, or None."
            )
