"""An exported graph as what predicts in a job."""

import os
from collections.abc import Iterator, Mapping
from typing import Any, final

import numpy as np
from torch import Tensor

from gradood.batch.predictor import Identity
from gradood.errors import DataError
from gradood.onnx import OnnxJudge, OnnxResult, OnnxResults

__all__ = ["GraphPredictor"]


@final
class GraphPredictor:
    """A `gradood.OnnxJudge` with the face of a `Predictor`: no model, no torch in the forward.

    Args:
        path: a graph of ``gradood export``.
        threads: of onnxruntime; None for as many as it likes.

    Attributes:
        judge: of the graph.

    Raises:
        ArtifactError: the file is no such graph.
        ModuleNotFoundError: onnxruntime is not installed.
        DataError: the graph begins at features.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int | None = None) -> None:
        self.judge = OnnxJudge(path, threads=threads)
        if len(self.judge.inputs) > 1:
            raise DataError(
                f"{os.fspath(path)!r} takes {', '.join(s.name for s in self.judge.inputs)}, which "
                "no image is made into: export it without --part head."
            )

    @property
    def detectors(self) -> Mapping[str, Any]:
        return dict.fromkeys(self.judge.detectors)

    @property
    def combine(self) -> str | None:
        return self.judge.combine

    @property
    def overrides(self) -> tuple[str, ...]:
        return self.judge.overrides

    @property
    def per_class(self) -> bool:
        """Whether the promise holds within each predicted class."""
        return self.judge.record.per_class

    def identity(self, preprocess: Mapping[str, Any]) -> Identity:
        """What the scores of a job depend on.

        The artifact is the detector's file, if the graph names it, so that what watches a stream
        takes its p-values for what they are; the model is the graph.

        Args:
            preprocess: options of `gradood.data.Preprocess`.
        """
        artifact = self.judge.record.artifact or self.judge.sha256
        return Identity(artifact=artifact, model=f"onnx:{self.judge.sha256}", preprocess=preprocess)

    def predict(self, data: Any, /) -> "_Answer":
        """Of one batch of inputs (batch, …).

        Raises:
            DataError: the graph takes no such inputs.
        """
        if not isinstance(data, Tensor):
            raise DataError("the graph takes one tensor of inputs, and these are several.")
        return _Answer(self.judge.predict(np.ascontiguousarray(data.numpy())))


class _Answer(Mapping[str, OnnxResult]):
    """Results by detector, and as one: the label, the worst status, the decision if there is one.

    Args:
        results: of a graph.
    """

    def __init__(self, results: OnnxResults) -> None:
        self._results = results
        main = results.main
        statuses = zip(*(result.status for result in results.values()), strict=True)
        self.label = results.label
        self.status = [next((s for s in row if s != "ok"), "ok") for row in statuses]
        if main is not None:
            self.score, self.p_value, self.is_ood = main.score, main.p_value, main.is_ood
            self.class_conditional = main.class_conditional

    def __getitem__(self, name: str) -> OnnxResult:
        return self._results[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)
