"""What a worker loads and asks: a detector on its model, or an exported graph."""

import os
import time
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gradood.errors import BadImageError, ConfigError, GradoodError
from gradood.serve._answers import Answers
from gradood.serve._arrays import Arrays
from gradood.serve._queue import batch_sizes

__all__ = ["LoadedSubject", "Subject", "load_subject"]

_WARMING = 2.0
"""Seconds after which a worker that starts computes no further batch that nobody asked for."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is served.

    Attributes:
        detector: file of a calibrated detector; with a graph, for the watch alone.
        model: as `gradood.models.open_model` takes it; None with a graph.
        weights: of the model.
        num_classes: passed to its factory.
        pretrained: let its library fetch the weights.
        device: where it runs.
        override: why a differing model is right.
        onnx: a graph that `gradood export` wrote, run in place of the model.
        max_pixels: of an image.
        threads: of one worker.
        batch: rows at once.
    """

    detector: str | None
    model: str | None = None
    weights: str | None = None
    num_classes: int | None = None
    pretrained: bool = False
    device: str = "cpu"
    override: str | None = None
    onnx: str | None = None
    max_pixels: int = 50_000_000
    threads: int = 1
    batch: int = 32

    def __post_init__(self) -> None:
        if self.onnx is None and (self.detector is None or self.model is None):
            raise ConfigError("a detector and its model are needed, or --onnx FILE.")

    @property
    def file(self) -> Path:
        """The file whose SHA-256 is the version."""
        return Path(self.onnx or self.detector or "")

    def to_plain(self) -> dict[str, Any]:
        """For `Subject` in another process."""
        return asdict(self)


class LoadedSubject:
    """A subject that answers.

    Args:
        subject: what it is.
        judge: a `gradood.Monitor` or a `gradood.OnnxJudge`.
        sha256: of the file.
        preprocess: from an image to an input, or None if nobody said.
        shape: of one input, -1 where any size will do.
        dtype: of inputs: ``"float32"``, or ``"uint8"`` for pixels.
        detector: SHA-256 of the detector's file whose calibration decides; empty where a graph does
            not say, None where it has a calibration of its own.
    """

    def __init__(
        self,
        subject: Subject,
        judge: Any,
        sha256: str,
        preprocess: Any,
        shape: list[int],
        dtype: str = "float32",
        detector: str | None = "",
    ) -> None:
        self._subject = subject
        self._judge = judge
        self._preprocess = preprocess
        self._names = tuple(judge.detectors)
        self._sizes = batch_sizes(subject.batch)
        self.sha256, self.detector = sha256, detector
        self.shape, self.dtype = shape, dtype

    def warm(self) -> None:
        """Compute one batch of each of `batch_sizes`, the largest first, while time is left.

        oneDNN compiles kernels for a size of batch when it first comes, and keeps them. Kernels
        that are compiled later come to lie in the heap between buffers of activations, which then
        fit no longer: a worker grew by 1 to 3 MB a minute. onnxruntime keeps what its largest batch
        took. Nothing is computed where inputs may be of any size.
        """
        if any(size <= 0 for size in self.shape):
            return
        end = time.monotonic() + _WARMING
        for rows in reversed(self._sizes):
            if rows in (1, self._sizes[-1]) or time.monotonic() < end:
                self.tensors(np.zeros((rows, *self.shape), self.dtype))

    def description(self) -> dict[str, Any]:
        """For the server: version, input, outputs."""
        made = Answers(0, self._names, combined=self._judge.combine is not None).arrays()
        return {
            "sha256": self.sha256,
            "shape": self.shape,
            "datatype": "UINT8" if self.dtype == "uint8" else "FP32",
            "images": self._preprocess is not None,
            "detectors": list(self._names),
            "combined": self._judge.combine is not None,
            "detector": self.detector,
            "overrides": list(self._judge.overrides),
            "outputs": [[name, kind] for name, (kind, _) in made.items() if name[0] != "#"],
            "pid": os.getpid(),
        }

    def tensors(self, x: np.ndarray) -> Arrays:
        """Answers for preprocessed inputs.

        Args:
            x: (rows, …) of `dtype`.

        Raises:
            DataError: the model takes no such inputs.
        """
        answers = self._answers(len(x))
        self._fill(answers, list(range(len(x))), x, {})
        return answers.arrays()

    def images(self, encoded: list[bytes]) -> Arrays:
        """Answers for the contents of image files; one that is none has its status.

        Raises:
            DataError: the model does not take them.
        """
        from gradood.data._decode import REMARKS, examine

        answers = self._answers(len(encoded))
        groups: dict[tuple[int, ...], list[tuple[int, Any]]] = {}
        remarks: dict[int, str] = {}
        for row, content in enumerate(encoded):
            try:
                image, noted = examine(content, max_pixels=self._subject.max_pixels)
                x = self._preprocess(image)
            except BadImageError as error:
                answers.note(row, error.status)
                continue
            if noted:
                assert noted[0] in REMARKS
                remarks[row] = noted[0]
            groups.setdefault(tuple(x.shape), []).append((row, x))
        for group in groups.values():
            rows = [row for row, _ in group]
            self._fill(answers, rows, np.stack([np.asarray(x) for _, x in group]), remarks)
        return answers.arrays()

    def _answers(self, count: int) -> Answers:
        return Answers(count, self._names, combined=self._judge.combine is not None)

    def _fill(
        self, answers: Answers, rows: list[int], x: np.ndarray, remarks: Mapping[int, str]
    ) -> None:
        start = 0
        while start < len(rows):
            size = self._sizes[bisect_right(self._sizes, len(rows) - start) - 1]
            part = x[start : start + size]
            if self._subject.onnx is None:
                import torch

                found = self._judge.predict(torch.from_numpy(np.array(part)), keep=())
            else:
                found = self._judge.predict(part)
            answers.fill(rows[start : start + size], found, remarks)
            start += size


def load_subject(subject: Subject) -> LoadedSubject:
    """Load what is served, verified: hash, fingerprint and canary.

    Raises:
        ArtifactError: the file is damaged or refused.
        ModelMismatchError: the model is another one.
        ConfigError: the model cannot be made.
    """
    loaded = _monitor(subject) if subject.onnx is None else _graph(subject)
    loaded.warm()
    return loaded


def _monitor(subject: Subject) -> LoadedSubject:
    import torch

    from gradood.artifact import read
    from gradood.batch import load_predictor
    from gradood.models._load import load_model

    torch.set_num_threads(subject.threads)
    assert subject.detector is not None and subject.model is not None
    artifact = read(subject.detector)
    loaded = load_model(
        subject.model,
        None if subject.weights is None else Path(subject.weights),
        num_classes=subject.num_classes,
        device=subject.device,
        pretrained=subject.pretrained,
    )
    predictor = load_predictor(
        artifact, loaded.model, override=subject.override, source=Path(subject.detector).name
    )
    monitor = predictor.monitor
    _require_one_tensor(artifact)
    shape = _canary_shape(artifact)
    preprocess = _preprocess(monitor.preprocess)
    sha256 = predictor.artifact
    return LoadedSubject(subject, monitor, sha256, preprocess, shape, detector=sha256)


def _graph(subject: Subject) -> LoadedSubject:
    from gradood.onnx import OnnxJudge

    judge = OnnxJudge(str(subject.onnx), threads=subject.threads)
    (given,) = judge.inputs[:1]
    if len(judge.inputs) > 1 or given.dtype not in ("float32", "uint8"):
        raise ConfigError(
            f"the graph takes {', '.join(spec.name for spec in judge.inputs)}; a server needs one "
            "of float32 inputs, or of pixels: export without --part head."
        )
    shape, preprocess = list(given.shape[1:]), _preprocess(judge.preprocess)
    if judge.record.part == "pixels" and preprocess is not None:
        preprocess = preprocess.pixels
    own = judge.record.recalibrated
    detector = None if own else judge.record.artifact
    return LoadedSubject(subject, judge, judge.sha256, preprocess, shape, given.dtype, detector)


def _require_one_tensor(artifact: Any) -> None:
    """Refuse what every request would be refused by.

    Raises:
        ConfigError: by the canary, the model takes several inputs, named ones, or whole numbers.
    """
    record = artifact.verified.manifest.canary
    if record is None:
        return
    if record.arguments is not None or "F" not in artifact.verified.specs[record.inputs].dtype:
        raise ConfigError(
            "this model takes several inputs, inputs by name, or whole numbers, and a server one "
            "tensor of floats, such as images. Score it with gradood score, or with "
            "monitor.predict in a service of your own."
        )


def _canary_shape(artifact: Any) -> list[int]:
    """Shape of one input, by the canary's; any size where it has none."""
    record = artifact.verified.manifest.canary
    if record is None:
        return [-1, -1, -1]
    return list(artifact.verified.specs[record.inputs].shape[1:])


def _preprocess(stored: Mapping[str, Any] | None) -> Any:
    """From an image to the model's input; None if nobody said, and then images are not served."""
    if stored is None:
        return None
    from gradood.data import Preprocess

    try:
        return Preprocess.from_dict(stored)
    except (TypeError, GradoodError):
        return None
