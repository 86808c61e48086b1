"""The stream of requests, watched: each request is one group of `gradood.Watch`."""

import logging
import os
import secrets
from pathlib import Path
from typing import Any

import numpy as np

from gradood.errors import ConfigError, GradoodError
from gradood.serve._answers import KEY
from gradood.serve._arrays import SENTINEL, Arrays

__all__ = ["Watching"]

_LOG = logging.getLogger(__name__)


class Watching:
    """A watch beside a server, and its file.

    Rows that the model did not see, such as images that cannot be decoded, are left out: a broken
    file says nothing of the stream of scores.

    Args:
        file: of the state; begun if it does not exist, else gone on with.
        detector: file of the calibrated detector that is served.

    Raises:
        ModelMismatchError: the state is of another detector.
        ConfigError: the detector has no one decision to watch, or the folder is missing.
    """

    def __init__(self, file: Path, detector: Path) -> None:
        from gradood.artifact import read
        from gradood.watch import Watch

        if not file.resolve().parent.is_dir():
            raise ConfigError(f"--watch {str(file)!r} is in no folder; make the folder first.")
        self._file = file
        artifact = read(detector)
        self.sha256 = artifact.verified.sha256
        self._names = [record.name for record in artifact.verified.manifest.detectors]
        self.watch = Watch.load(file, artifact) if file.exists() else Watch(artifact)
        self._process = secrets.token_hex(8)
        self._count = 0
        self._saved = -1
        self._alarm = self.watch.alarm
        self.save()

    def take_in(self, arrays: Arrays, sha256: str) -> None:
        """Take in the rows of one request; of another version than is watched, none.

        Args:
            arrays: that it is answered with.
            sha256: of the detector that scored it.
        """
        self._count += 1
        status = arrays["status"][1]
        rows = np.flatnonzero(arrays["p_value" if "p_value" in arrays else self._first()][1] > 0)
        if sha256 != self.sha256 or len(rows) == 0 or len(status) == 0:
            return
        group = f"{self._process}-{self._count}"
        try:
            self.watch.update(self._results(arrays, rows), groups=[group] * len(rows))
        except GradoodError as error:
            _LOG.error("the watch did not take in a request: %s", error)
            return
        if self.watch.alarm and not self._alarm:
            _LOG.warning(
                "ALARM: the stream is not like the calibration data: scores are %s than before; "
                "the evidence began after %d items",
                self.watch.direction,
                self.watch.since,
            )
        self._alarm = self.watch.alarm

    def save(self) -> None:
        """Write the state, if something came since the last time."""
        if self.watch.seen == self._saved:
            return
        try:
            self.watch.save(self._file)
            self._saved = self.watch.seen
        except OSError as error:
            _LOG.error("the state of the watch cannot be written: %s", error.strerror or error)

    def exchanged(self, detector: Path) -> "Watching":
        """The watch of a new detector; the state before is set aside beside it."""
        self.save()
        aside = self._file.with_name(f"{self._file.name}.{self.sha256[:12]}")
        os.replace(self._file, aside)
        return Watching(self._file, detector)

    def _first(self) -> str:
        return f"{self._names[0]}.p_value"

    def _results(self, arrays: Arrays, rows: Any) -> Any:
        """The arrays as a monitor would give them."""
        import torch

        from gradood.calibration.results import Result, Results

        def column(name: str) -> Any:
            return torch.from_numpy(np.array(arrays[name][1][rows]))

        def score(name: str) -> Any:
            values = column(name)
            return torch.where(values >= SENTINEL, torch.inf, values)

        label, key = column("label"), column(KEY)

        def result(prefix: str) -> Result:
            found = score(f"{prefix}score")
            return Result(
                score=found,
                p_value=column(f"{prefix}p_value"),
                is_ood=column(f"{prefix}is_ood"),
                label=label,
                status=tuple("ok" if s else "nonfinite_score" for s in found.isfinite().tolist()),
                class_conditional=torch.zeros(len(rows), dtype=torch.bool),
                content_key=key if bool((key != 0).any()) else None,
            )

        if len(self._names) == 1:
            return result("")
        combined = result("") if "score" in arrays else None
        return Results({name: result(f"{name}.") for name in self._names}, combined)
