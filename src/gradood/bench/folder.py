"""Folder of results: the record, its Markdown page, and the scores behind it."""

import platform
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save
from torch import Tensor

import gradood
from gradood.bench.record import Record
from gradood.errors import DataError
from gradood.io.atomic import write
from gradood.io.json import json_text

__all__ = ["FILES", "ScoresByRun", "commit", "provenance", "scores_of", "write_folder"]

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


def provenance() -> dict[str, Any]:
    """Versions, commit, machine and the time now, as plain values."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "versions": {
            "gradood": gradood.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
        "machine": {
            "system": platform.system(),
            "processor": platform.machine(),
            "threads": torch.get_num_threads(),
        },
    }


def commit() -> str | None:
    """The commit gradood runs from, with ``-dirty`` if its files differ; None if from no clone."""
    folder = Path(gradood.__file__).parent
    # An installed package may lie inside the clone of another project, which does not track it.
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    head = _git(folder, "rev-parse", "HEAD")
    if head is None:
        return None
    return f"{head}-dirty" if _git(folder, "status", "--porcelain", ".") else head


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says, or None if it fails or is not there."""
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
