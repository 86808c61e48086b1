"""Folder of results: the record, its Markdown page, and the scores behind it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from torch import Tensor

from gradood.bench.record import Record
from gradood.errors import DataError
from gradood.io.atomic import write
from gradood.io.json import json_text

__all__ = ["FILES", "ScoresByRun", "scores_of", "write_folder"]

FILES = ("arena.json", "arena.md", "scores.safetensors")
"""Names of the files."""
ScoresByRun = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Run → set (``"id"`` for the in-distribution one) → method → (n,) scores."""


def write_folder(folder: Path, record: Record, scores: ScoresByRun) -> None:
    """Write `FILES`; each is replaced as a whole, the scores first.

    Args:
        folder: made if it does not exist.
        record: what came out.
        scores: behind it.

    Raises:
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    flat = {
        f"{run}/{name}/{method}": values.numpy() if isinstance(values, Tensor) else values
        for run, sets in scores.items()
        for name, methods in sets.items()
        for method, values in methods.items()
    }
    texts = json_text(record.to_dict()), record.markdown()
    contents = (*(text.encode("utf-8") for text in texts), save(flat))
    for name, content in reversed(list(zip(FILES, contents, strict=True))):
        write(folder / name, content)


def scores_of(folder: str | Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Run → set (``"id"`` for the known) → method → (n,) float64 array, of a folder of results.

    Args:
        folder: that `write_folder` wrote.

    Raises:
        DataError: there are none, or they are damaged.
    """
    path = Path(folder) / FILES[2]
    try:
        flat = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"no scores in {str(path)!r}: {error}; expected a folder that gradood bench --out "
            "FOLDER wrote."
        ) from error
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for key, values in flat.items():
        parts = key.rsplit("/", 2)
        if len(parts) != 3 or values.ndim != 1 or values.dtype.kind != "f":
            raise DataError(
                f"{str(path)!r} holds {key!r}, {values.dtype} {values.shape}; expected scores "
                "(n,) under run/set/method, as gradood bench --out FOLDER wrote them."
            )
        run, name, method = parts
        found.setdefault(run, {}).setdefault(name, {})[method] = values
    return found
