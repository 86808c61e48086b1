"""The stream of requests, watched: each request is one group of `gradood.Watch`."""

import logging
import secrets
import threading
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradood._io.atomic import write
from gradood.errors import ConfigError, ModelMismatchError
from gradood.serve._answers import KEY
from gradood.serve._arrays import SENTINEL, Arrays

if TYPE_CHECKING:
    from gradood.artifact import Artifact
    from gradood.watch import Watch

__all__ = ["Watching"]

_LOG = logging.getLogger(__name__)


class Watching:
    """A watch beside a server, and its file, which nobody else changes meanwhile.

    Rows that the model did not see, such as images that cannot be decoded, are left out: a broken
    file says nothing of the stream of scores.

    Args:
        file: of the state; begun if it does not exist, else gone on with.
        detector: file of the calibrated detector that is served.

    Raises:
        ModelMismatchError: the state is of another detector.
        ConfigError: the detector has no one decision to watch, the folder is missing, or another
            process keeps the state.
    """

    def __init__(self, file: Path, detector: Path) -> None:
        from gradood._io.lock import exclusive
        from gradood.artifact import read
        from gradood.watch import Watch

        folder = file.resolve().parent
        if not folder.is_dir():
            raise ConfigError(f"--watch {str(file)!r} is in no folder; make the folder first.")
        self._file, self._writing = file, threading.Lock()
        self._process, self._count = secrets.token_hex(8), 0
        with ExitStack() as held:
            held.enter_context(exclusive(folder, f".{file.resolve().name}.lock", of=file))
            artifact = read(detector)
            self._take(artifact, Watch.load(file, artifact) if file.exists() else Watch(artifact))
            self.save()
            self._held = held.pop_all()

    def _take(self, artifact: "Artifact", watch: "Watch") -> None:
        self.sha256 = artifact.verified.sha256
        self._names = _names(artifact)
        self.watch, self._alarm = watch, watch.alarm
        self._saved = -1

    def take_in(self, arrays: Arrays, detector: str | None) -> None:
        """Take in the rows of one request; of another detector than is watched, none.

        Args:
            arrays: that it is answered with.
            detector: SHA-256 of that which scored it; empty where a graph does not say.
        """
        self._count += 1
        status = arrays["status"][1]
        rows = np.flatnonzero(arrays["p_value" if "p_value" in arrays else self._first()][1] > 0)
        if detector not in (self.sha256, "") or len(rows) == 0 or len(status) == 0:
            return
        group = f"{self._process}-{self._count}"
        try:
            self.watch.update(self._results(arrays, rows), groups=[group] * len(rows))
        except Exception as error:  # Whatever it is, the client has its answer.
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
        """Write the state, if something came since the last time; from any thread."""
        with self._writing:
            seen = self.watch.seen  # Before it is written: more may come meanwhile.
            if seen == self._saved:
                return
            try:
                self.watch.save(self._file)
                self._saved = seen
            except OSError as error:
                _LOG.error("the state of the watch cannot be written: %s", error.strerror or error)

    def follow(self, detector: Path, about: dict[str, Any]) -> None:
        """Watch what is to be served; of a new detector begin a new watch.

        A copy of the state before stays beside it then.

        Args:
            detector: file of the detector.
            about: what workers said of themselves.

        Raises:
            GradoodError, OSError: it cannot be watched; all is as it was before.
        """
        from gradood.artifact import read
        from gradood.watch import Watch

        sha256 = about["detector"]
        if sha256 is None:
            raise ConfigError(
                "the graph has a calibration of its own, which --detector has not: serve it "
                "without --watch."
            )
        artifact = read(detector)
        combined, names = artifact.verified.manifest.combine is not None, _names(artifact)
        if (about["detectors"], about["combined"]) != (names, combined):
            raise ConfigError(
                f"the graph decides by {', '.join(about['detectors'])}, and the detector by "
                f"{', '.join(names)}: export it of this detector, without --only."
            )
        if sha256 in ("", self.sha256):
            return
        if sha256 != artifact.verified.sha256:
            raise ModelMismatchError(
                f"what is served is of another detector ({sha256[:12]}…) than {detector} is now "
                f"({artifact.verified.sha256[:12]}…)."
            )
        watch = Watch(artifact)
        with self._writing:
            self.watch.save(self._file)
            write(self._aside(), self._file.read_bytes())
            watch.save(self._file)
            self._take(artifact, watch)

    def close(self) -> None:
        """Write the state, and leave it to others."""
        self.save()
        self._held.close()

    def _aside(self) -> Path:
        """A name of the version's that no file has."""
        name = f"{self._file.name}.{self.sha256[:12]}"
        names = (name if number == 1 else f"{name}.{number}" for number in count(1))
        return next(p for p in map(self._file.with_name, names) if not p.exists())

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


def _names(artifact: "Artifact") -> list[str]:
    return [record.name for record in artifact.verified.manifest.detectors]
