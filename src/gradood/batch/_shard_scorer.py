"""Shards of rows, decoded and scored, one after another."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import final

from gradood.batch._columns import Columns
from gradood.batch._decoding import Chunk, RowDecoder, decoded
from gradood.batch._settings import Settings
from gradood.batch.predictor import Forward, Predictor
from gradood.data._batches import batch_part
from gradood.data.column_input import Row
from gradood.errors import DataError

__all__ = ["ShardScorer"]


@final
class ShardScorer:
    """Scores shards of the rows of a decoder.

    Args:
        monitor: calibrated.
        decoder: of the rows.
        settings: of the job.
        batch: images at once, at most.
    """

    def __init__(
        self, monitor: Predictor, decoder: RowDecoder, settings: Settings, batch: int
    ) -> None:
        self.decoder = decoder
        self._monitor = monitor
        self._settings = settings
        self._forward = Forward(monitor, batch)

    @property
    def batch(self) -> int:
        """How many images go at once by now."""
        return self._forward.limit

    def scored(
        self,
        shards: Sequence[range],
        seen: Callable[[int], object] = lambda rows: None,
        *,
        workers: int | None = None,
    ) -> Generator[Columns]:
        """The shards, one after another; those to come are decoded ahead.

        Args:
            shards: rows of each.
            seen: called with how many more rows are scored.
            workers: processes that decode; None for those of the settings.

        Raises:
            MemoryError: or what else says so: not even one image fits.
            ChildProcessError: processes that decode end again and again.
        """
        settings = self._settings
        cut = [_cut(rows, settings.batch_size) for rows in shards]
        chunks = decoded(
            self.decoder,
            [rows for ranges in cut for rows in ranges],
            workers=settings.workers if workers is None else workers,
            timeout=settings.decode_timeout,
        )
        with closing(chunks):
            for rows, ranges in zip(shards, cut, strict=True):
                columns = Columns(rows, self._monitor)
                for _ in ranges:
                    chunk = next(chunks)
                    _score_chunk(self._forward, chunk, columns)
                    seen(chunk.rows)
                yield columns


def _cut(rows: range, batch: int) -> list[range]:
    """The rows of a shard in batches. Those of a batch are always the same."""
    return [range(at, min(at + batch, rows.stop)) for at in range(rows.start, rows.stop, batch)]


def _score_chunk(forward: Forward, chunk: Chunk, columns: Columns) -> None:
    for note in chunk.notes:
        columns.note(note)
    for rows, x in chunk.groups:
        _score_rows(forward, rows, x, columns)


def _score_rows(forward: Forward, rows: Sequence[int], x: Row, columns: Columns) -> None:
    """Score inputs of one size; of those on which the model raises, only these are refused."""
    done = 0
    try:
        for count, answer in forward(x):
            columns.fill(rows[done : done + count], answer)
            done += count
    except DataError as error:
        rest = rows[done:]
        if len(rest) == 1:
            columns.refuse(rest, "not_scored", f"the model cannot take it: {error}")
            return
        half = len(rest) // 2
        _score_rows(forward, rest[:half], batch_part(x, done, done + half), columns)
        _score_rows(forward, rest[half:], batch_part(x, done + half), columns)
