"""Results of a benchmark on disk: a record, or a folder with its page and scores beside it."""

import json
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
from gradood._io.atomic import write
from gradood._io.json import json_text
from gradood.bench._openood_csv import labels_of, openood_csv
from gradood.bench.record import Record
from gradood.errors import DataError

__all__ = [
    "FILES",
    "ScoresByRun",
    "commit",
    "provenance",
    "read_record",
    "read_results",
    "scores_of",
    "write_folder",
    "write_openood_csv",
    "write_results",
]

FILES = ("arena.json", "arena.md", "scores.safetensors")
"""Names of the files."""
ScoresByRun = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Run → set (``"id"`` for the in-distribution one) → method → (n,) scores."""


def write_results(path: Path, record: Record, scores: ScoresByRun) -> None:
    """Write a record as JSON or Markdown, by the ending of the file, or else a folder of results.

    Args:
        path: a ``.json`` or ``.md`` file, or a folder.
        record: what came out.
        scores: behind it; only a folder holds them.

    Raises:
        OSError: it cannot be written; what was there before is unchanged.
    """
    if path.suffix == ".md":
        write(path, record.markdown())
    elif path.suffix == ".json":
        write(path, json_text(record.to_dict()))
    else:
        write_folder(path, record, scores)


def read_results(
    path: Path, expected: str = "what gradood bench --out wrote"
) -> tuple[Record, dict[str, dict[str, dict[str, Any]]] | None]:
    """A record and the scores beside it, or None in their place.

    Args:
        path: a folder of results, or a record; another record may have been put beside the scores
            of a folder, and then has none.
        expected: what should have been given, for messages.

    Raises:
        DataError: it cannot be read, or is damaged.
    """
    file = path / FILES[0] if path.is_dir() else path
    record = read_record(file, expected)
    beside = file.name == FILES[0] and (file.parent / FILES[2]).is_file()
    return record, scores_of(file.parent) if beside else None


def read_record(file: Path, expected: str = "what gradood bench --out wrote") -> Record:
    """A record, checked.

    Args:
        file: the record.
        expected: what should have been given, for messages.

    Raises:
        DataError: it cannot be read, or is no record of `gradood bench`, or a damaged one.
    """
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"no record in {str(file)!r} ({error.strerror}); expected {expected}."
        ) from error
    except ValueError as error:
        raise DataError(f"{str(file)!r} is no JSON ({error}); write it again.") from error
    try:
        return Record.from_dict(values)
    except DataError as error:
        raise DataError(f"{str(file)!r}: {error}") from error


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


def write_openood_csv(folder: Path, record: Record) -> list[Path]:
    """Write a record as OpenOOD's evaluation writes its results: a CSV table per method.

    The tables lie in ``ood/METHOD.csv``, and in ``fsood/METHOD.csv`` where there are shifted
    images; of several networks each in a folder of its label.

    Args:
        folder: made if it does not exist.
        record: of a run.

    Returns:
        The files.

    Raises:
        OSError: one cannot be written.
    """
    labels = labels_of(record)
    written: list[Path] = []
    for label, runs in labels.items():
        root = folder / label if len(labels) > 1 else folder
        kinds = {"ood": False} | ({"fsood": True} if runs[0].full_spectrum else {})
        for kind, full in kinds.items():
            (root / kind).mkdir(parents=True, exist_ok=True)
            for method in [m for m in runs[0].methods if all(m in run.methods for run in runs)]:
                file = root / kind / f"{method}.csv"
                write(file, openood_csv(record, method, label=label, full_spectrum=full))
                written.append(file)
    return written


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
