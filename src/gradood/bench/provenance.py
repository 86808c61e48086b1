"""What a result was made with: versions, commit, time."""

import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

import gradood

__all__ = ["commit", "provenance"]


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
