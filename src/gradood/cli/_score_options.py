"""What ``gradood score`` is given."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from gradood.cli._cluster import ClusterOptions
from gradood.cli._groups import option
from gradood.cli._options import (
    RUN,
    BatchSize,
    BoundModelOptions,
    ImageColumn,
    Json,
    ModelSpec,
)

if TYPE_CHECKING:
    from gradood.batch import Settings

__all__ = ["JobOptions", "ScoreFiles", "ScoredModelOptions", "cores"]


@dataclass(frozen=True, kw_only=True)
class ScoreFiles:
    """What a scoring job reads and writes, beside the images."""

    out: Annotated[
        str,
        option(
            "DIR",
            "Folder for the results, or URL of one, such as s3://bucket/scores; with the same one "
            "again, what is new or changed is scored.",
        ),
    ]
    detector: Annotated[Path | None, option("FILE", "A calibrated detector.")] = None
    onnx: Annotated[
        Path | None,
        option("FILE", "A graph of gradood export, run in place of detector and model."),
    ] = None
    json: Json = False


@dataclass(frozen=True, kw_only=True)
class ScoredModelOptions(BoundModelOptions):
    """The classifier that the detector was fitted on; none with a graph."""

    model: Annotated[str, ModelSpec] = ""


@dataclass(frozen=True, kw_only=True)
class JobOptions(ClusterOptions):
    """How a scoring job runs."""

    PANEL: ClassVar[str] = RUN

    image_column: ImageColumn = "image"
    batch_size: BatchSize = 64
    workers: Annotated[
        int | None,
        option("N", "Processes that decode; one per core, at most 8, if not given.", least=0),
    ] = None
    shard_rows: Annotated[
        int,
        option("N", "Rows of a file of results: what a killed run repeats at most.", least=1),
    ] = 2048
    max_bad_fraction: Annotated[
        float,
        option(
            "SHARE",
            "Stop once more than this share of all rows could not be scored; looked at after each "
            "file of results (--shard-rows).",
            least=0,
            most=1,
        ),
    ] = 0.05
    max_pixels: Annotated[
        int,
        option("N", "Larger images are not decoded.", least=1),
    ] = 50_000_000
    decode_timeout: Annotated[
        float,
        option(
            "SECONDS",
            "Longest that reading and decoding one image may take, where processes decode.",
            least=0,
        ),
    ] = 120.0

    def settings(self, workers: int) -> "Settings":
        """The same for the library.

        Args:
            workers: if their number was not given.
        """
        from gradood.batch import Settings

        return Settings(
            batch_size=self.batch_size,
            shard_rows=self.shard_rows,
            max_pixels=self.max_pixels,
            max_bad_fraction=self.max_bad_fraction,
            workers=workers if self.workers is None else self.workers,
            decode_timeout=self.decode_timeout,
        )


def cores() -> int:
    """Processes that decode, where nothing says how many."""
    available = getattr(os, "sched_getaffinity", None)
    cores = len(available(0)) if available is not None else os.cpu_count() or 1
    return max(1, min(8, cores))
