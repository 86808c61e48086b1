"""Logs of a run: CSV files, TensorBoard, a progress bar, and the means they show."""

import csv
import errno
import io
import os
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gradood._engine.progress import progress_bar
from gradood._io.atomic import replace
from gradood.training._validation import Scores

__all__ = ["Logs", "Meter", "Reporter"]


class Meter:
    """Running means of named values over steps, which a checkpoint keeps."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def add(self, values: Mapping[str, float]) -> None:
        """Add the values of one step."""
        for name, value in values.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1

    def means(self, *, clear: bool = False) -> dict[str, float]:
        """Mean of each value since the last clearing, sorted by name."""
        means = {name: total / self._counts[name] for name, total in sorted(self._sums.items())}
        if clear:
            self._sums, self._counts = {}, {}
        return means

    def tensors(self) -> dict[str, Tensor]:
        """Name → (sum, count)."""
        return {
            name: torch.tensor([total, self._counts[name]], dtype=torch.float64)
            for name, total in self._sums.items()
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Set sums and counts to those of `tensors`."""
        self._sums = {name: float(pair[0]) for name, pair in tensors.items()}
        self._counts = {name: int(pair[1]) for name, pair in tensors.items()}


class Logs:
    """Two CSV files in the run's folder, and TensorBoard's if asked for.

    ``steps.csv`` has the means of every so many steps, ``epochs.csv`` a row for each validation;
    the first is of the starting network. A row is on the disk before a checkpoint of its step.

    Args:
        folder: of the run.
        step: the step the run begins at; later rows of an interrupted run, and a last row that is
            incomplete, are removed.
        tensorboard: write its files too, to the folder ``tensorboard``.

    Raises:
        ModuleNotFoundError: TensorBoard was asked for and is not installed.
    """

    def __init__(self, folder: Path, *, step: int, tensorboard: bool) -> None:
        self._folder = folder
        for name in ("steps", "epochs"):
            _truncate(self._path(name), step)
        self._board = _board(folder / "tensorboard", step) if tensorboard else None

    def add(self, name: str, row: Mapping[str, Any]) -> None:
        """Append a row to ``steps`` or ``epochs``; it must have a ``step``.

        Raises:
            OSError: it cannot be written; nothing of it remains.
        """
        path = self._path(name)
        rows = [] if path.exists() else [list(row)]
        rows.append(["" if value is None else value for value in row.values()])
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows(rows)
        _append(path, text.getvalue().encode())
        if self._board is not None:
            for key, value in row.items():
                if isinstance(value, float):
                    self._board.add_scalar(f"{name}/{key}", value, row["step"])
            self._board.flush()

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self._board is not None:
            self._board.close()

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.csv"


class Reporter:
    """Logs and progress bar of a run.

    Args:
        logs: of the process that leads; None in the others, which report nothing.
        total: steps of the run.
        done: steps done before.
        progress: show a bar; None for on a terminal only.
    """

    def __init__(self, logs: Logs | None, *, total: int, done: int, progress: bool | None) -> None:
        shown = progress if logs is not None else False
        self._bar = progress_bar(total, None, "step", shown=shown, done=done)
        self._postfix: dict[str, str] = {}
        self._logs = logs
        self._total = total
        self._start = time.monotonic()

    def step(self, step: int, loss: float, meter: Meter, *, every: int) -> None:
        """Report a step.

        Args:
            step: steps done.
            loss: of the last.
            meter: its means are logged, and cleared, after every so many steps and the last one.
            every: how many.
        """
        self._postfix["loss"] = f"{loss:.4g}"
        self._bar.set_postfix(self._postfix, refresh=False)
        self._bar.update()
        if step % every == 0 or step == self._total:
            means = meter.means(clear=True)
            if self._logs is not None:
                self._logs.add("steps", {"step": step, **means})

    def validation(self, step: int, epoch: int, scores: Scores) -> None:
        """Report a validation, after `step` steps and `epoch` epochs."""
        rates = {"fpr95": scores.fpr95, "auroc": scores.auroc, "accuracy": scores.accuracy}
        self._postfix |= {n: f"{100 * v:.2f} %" for n, v in rates.items() if v is not None}
        self._bar.set_postfix(self._postfix)
        if self._logs is not None:
            seconds = time.monotonic() - self._start
            row = {"step": step, "epoch": epoch, **asdict(scores), "seconds": seconds}
            self._logs.add("epochs", row)

    def close(self) -> None:
        """Close the bar and the logs."""
        self._bar.close()
        if self._logs is not None:
            self._logs.close()


def _append(path: Path, content: bytes) -> None:
    """Append all of it, synchronized to the disk, or nothing."""
    with path.open("ab", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            if file.write(content) != len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(file.fileno())
        except BaseException:
            os.ftruncate(file.fileno(), size)
            raise


def _truncate(path: Path, step: int) -> None:
    """Remove an incomplete last row, and rows of steps that a resumed run does again."""
    if not path.exists():
        return
    content = path.read_bytes()
    complete = content[: content.rfind(b"\n") + 1]
    rows = list(csv.reader(io.StringIO(complete.decode("utf-8", "replace"), newline="")))
    kept = [row for row in rows[1:] if row and row[0].isdecimal() and int(row[0]) <= step]
    if not kept or not step:
        path.unlink()
    elif len(kept) < len(rows) - 1 or len(complete) < len(content):
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([rows[0], *kept])
        replace(path, [text.getvalue().encode()], lambda file: None)


def _board(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "tensorboard, which shows a run's curves, is not installed: "
            "pip install 'gradood[train]', or leave out --tensorboard.",
            name=error.name,
        ) from error
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)
