"""What a run says of itself: CSV files, TensorBoard, and a progress bar on a terminal."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from gradood.engine.progress import on_terminal
from gradood.training.checkpoint import save_text

__all__ = ["Logs", "Progress"]


class Logs:
    """Two CSV files in the run's folder, and TensorBoard's if asked for.

    ``steps.csv`` has the means of every so many steps, ``epochs.csv`` one row per validation; the
    first is of the starting network.

    Args:
        folder: of the run.
        step: the step the run begins at; later rows of an interrupted run are dropped.
        tensorboard: write its files too, to the folder ``tensorboard``.

    Raises:
        ModuleNotFoundError: TensorBoard was asked for and is not installed.
    """

    def __init__(self, folder: Path, *, step: int, tensorboard: bool) -> None:
        self._folder = folder
        for name in ("steps", "epochs"):
            _drop_after(self._path(name), step)
        self._board = _board(folder / "tensorboard", step) if tensorboard else None

    def add(self, name: str, row: Mapping[str, Any]) -> None:
        """Add a row to ``steps`` or ``epochs``; it must have a ``step``."""
        path = self._path(name)
        rows = [] if path.exists() else [list(row)]
        rows.append(["" if value is None else value for value in row.values()])
        with path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
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


class Progress:
    """A bar over the steps of a run.

    Args:
        total: steps.
        done: steps done before.
        show: None for on a terminal only.
    """

    def __init__(self, total: int, *, done: int, show: bool | None) -> None:
        shown = on_terminal() if show is None else show
        self._bar = tqdm(total=total, initial=done, unit="step", disable=not shown)
        self._told: dict[str, str] = {}

    def step(self, **values: float) -> None:
        """One step is done."""
        self._told |= {name: f"{value:.4g}" for name, value in values.items()}
        self._bar.set_postfix(self._told, refresh=False)
        self._bar.update()

    def tell(self, **values: float | None) -> None:
        """Values of the last validation, shown from now on."""
        self._told |= {n: f"{100 * v:.2f} %" for n, v in values.items() if v is not None}
        self._bar.set_postfix(self._told)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.close()


def _drop_after(path: Path, step: int) -> None:
    """Remove rows of steps that a resumed run does again."""
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kept = [row for row in rows if row["step"].isdigit() and int(row["step"]) <= step]
    if not kept or not step:
        path.unlink()
    elif len(kept) < len(rows):
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
        save_text(path, text.getvalue())


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
