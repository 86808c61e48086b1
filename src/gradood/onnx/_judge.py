"""The judge of an exported graph: scores and decides with onnxruntime and NumPy, without torch."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, final

import numpy as np

from gradood._io.arguments import as_array, file_path, whole
from gradood._io.optional import optional_module
from gradood.errors import ArtifactError, DataError, UnknownNameError, suggest
from gradood.onnx._record import KEY, STATUSES, GraphRecord, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["OnnxJudge", "OnnxResult", "OnnxResults"]


_WHOLE_NUMBERS = (
    *(b"QuantizeLinear", b"DequantizeLinear", b"QLinearConv", b"QLinearMatMul"),
    *(b"ConvInteger", b"MatMulInteger", b"MatMulNBits", b"QGemm"),
)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class OnnxResult:
    """What a graph says of each input of a batch, by one detector or by their combination.

    The same fields as those of `gradood.Result`, as NumPy arrays.

    Attributes:
        score: (N,) float64; higher = more out-of-distribution. +inf without a finite score.
        p_value: (N,) float64, above 0 and at most 1; small = out-of-distribution.
        is_ood: (N,) bool, the decision.
        label: (N,) int64, the predicted class; −1 where there is none.
        status: ``"ok"``, ``"nonfinite_input"`` or ``"nonfinite_score"`` of each.
        class_conditional: (N,) bool, whether the samples of its own class alone decided.
        overrides: refusals that were overridden when the detector was made.
    """

    score: "NDArray[np.float64]"
    p_value: "NDArray[np.float64]"
    is_ood: "NDArray[np.bool_]"
    label: "NDArray[np.int64]"
    status: tuple[str, ...]
    class_conditional: "NDArray[np.bool_]"
    overrides: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.label)

    def rows(self, rows: slice) -> "OnnxResult":
        """Some of the inputs, such as those of one request in a batch of several."""
        cut = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "overrides"}
        return replace(self, **cut)


@final
class OnnxResults(Mapping[str, OnnxResult]):
    """Results by detector, and of their combination.

    Attributes:
        combined: of the combination, or None.
    """

    def __init__(self, each: Mapping[str, OnnxResult], combined: OnnxResult | None = None) -> None:
        self._each = dict(each)
        self.combined = combined

    def __getitem__(self, name: str) -> OnnxResult:
        try:
            return self._each[name]
        except KeyError:
            raise UnknownNameError(f"no detector {name!r}; {suggest(name, self._each)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._each)

    def __len__(self) -> int:
        return len(self._each)

    @property
    def label(self) -> "NDArray[np.int64]":
        """(N,) int64, the predicted class; −1 where there is none."""
        return next(iter(self._each.values())).label

    @property
    def main(self) -> OnnxResult | None:
        """The one decision: that of the combination, or of the only detector; None of several."""
        if self.combined is not None or len(self._each) > 1:
            return self.combined
        return next(iter(self._each.values()))

    def rows(self, rows: slice) -> "OnnxResults":
        """Some of the inputs, such as those of one request in a batch of several."""
        each = {name: result.rows(rows) for name, result in self._each.items()}
        return OnnxResults(each, None if self.combined is None else self.combined.rows(rows))


@final
class OnnxJudge:
    """An exported monitor, run by onnxruntime; torch is not loaded.

    Scores, p-values, decisions and status are computed in the graph; what is done here is to check
    the input, run, and name the outputs. May be used by many threads at once.

    Args:
        path: a graph that `gradood.export` or `gradood export` wrote.
        threads: of onnxruntime, inside one batch; None for as many as it likes.

    Attributes:
        record: what the graph says of itself.
        sha256: of the file.

    Raises:
        ArtifactError: the file is no such graph, or cannot be run.
        ConfigError: an option has a wrong value.
        ModuleNotFoundError: onnxruntime is not installed: ``pip install "gradood[onnx]"``.
        OSError: it cannot be read.

    Cost: reads the file once.

    Example, for a graph of several detectors that are combined::

        judge = gradood.OnnxJudge("net.onnx")
        results = judge.predict(images)          # (N, 3, 32, 32) float32
        results.combined.is_ood, results["energy"].p_value
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int | None = None) -> None:
        data = file_path(path, "path").read_bytes()
        threads = None if threads is None else whole(threads, "threads")
        self.sha256 = hashlib.sha256(data).hexdigest()
        self._session = session_of(data, threads=threads, source=os.fspath(path))
        self.record = record_of(self._session, os.fspath(path))
        if quantized(data) and not self.record.quantized:
            raise ArtifactError(
                f"{os.fspath(path)} was quantized after its export, so that its scores are others "
                "than it was calibrated on, and its promise does not hold: calibrate it again with "
                "gradood.onnx.recalibrate(path, out, held_out, fpr=...)."
            )

    def __repr__(self) -> str:
        record = self.record
        combined = f"; {record.combine}" if record.combine else ""
        return f"OnnxJudge({', '.join(record.detectors)}{combined}; {record.promise})"

    @property
    def detectors(self) -> tuple[str, ...]:
        """Names, in order."""
        return self.record.detectors

    @property
    def combine(self) -> str | None:
        """How the detectors become one decision, or None."""
        return self.record.combine

    @property
    def overrides(self) -> tuple[str, ...]:
        """Refusals that were overridden when the detector was made."""
        return self.record.overrides

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What `predict` takes."""
        return self.record.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What the graph gives, by name."""
        return self.record.outputs

    @property
    def preprocess(self) -> Mapping[str, Any] | None:
        """How images become the inputs, in plain values, or None if nobody said."""
        return self.record.preprocess

    def predict(self, *arrays: "ArrayLike") -> OnnxResults:
        """Decide about every input.

        Args:
            arrays: one per input of the graph, the batch first, of at least one row: (N, C, H, W)
                float32; features and logits for a graph of ``part="head"``; or pixels
                (N, H, W, C) uint8 for one of ``part="pixels"``.

        Raises:
            DataError: another shape, type or number of arrays than `inputs`.
        """
        fed = self._fed(arrays)
        names = [spec.name for spec in self.record.outputs]
        found = dict(zip(names, self._session.run(names, fed), strict=True))
        return results_of(self.record, found)

    def _fed(self, arrays: tuple["ArrayLike", ...]) -> dict[str, Any]:
        specs = self.record.inputs
        if len(arrays) != len(specs):
            raise DataError(
                f"{len(arrays)} arrays were given; the graph takes {len(specs)}: "
                f"{', '.join(spec.name for spec in specs)}."
            )
        fed: dict[str, Any] = {}
        for spec, given in zip(specs, arrays, strict=True):
            array = as_array(given, spec.name)
            same = array.ndim == len(spec.shape) and array.shape[1:] == spec.shape[1:]
            if not same or str(array.dtype) != spec.dtype or len(array) == 0:
                wanted = ", ".join("N" if size < 0 else str(size) for size in spec.shape)
                raise DataError(
                    f"{spec.name} has shape {array.shape} and type {array.dtype}; expected "
                    f"({wanted}) of {spec.dtype}, N at least 1."
                )
            fed[spec.name] = np.ascontiguousarray(array)
        if len({len(array) for array in fed.values()}) > 1:
            raise DataError("the arrays have different numbers of rows; give one row per input.")
        return fed


def session_of(data: bytes, *, threads: int | None = None, source: str = "the graph") -> Any:
    """An onnxruntime session of a graph's bytes.

    Args:
        data: of the file.
        threads: inside one batch; None for as many as onnxruntime likes.
        source: the file, for messages.

    Raises:
        ArtifactError: onnxruntime cannot run them.
        ModuleNotFoundError: it is not installed.
    """
    runtime = optional_module(
        "onnxruntime", "onnxruntime", "runs exported graphs", 'pip install "gradood[onnx]"'
    )
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own classes have no common base
        first = str(error).strip().partition("\n")[0]
        raise ArtifactError(
            f"{source} is no graph that onnxruntime can run ({first}); export it again."
        ) from error


def quantized(data: bytes) -> bool:
    """Whether a graph computes in whole numbers: by names of operators among its bytes.

    Args:
        data: of the file.
    """
    return any(name in data for name in _WHOLE_NUMBERS)


def record_of(session: Any, source: str) -> GraphRecord:
    """What a session's graph says of itself.

    Args:
        session: of onnxruntime.
        source: the file, for messages.

    Raises:
        ArtifactError: it was not exported by gradood.
    """
    text = session.get_modelmeta().custom_metadata_map.get(KEY)
    if text is None:
        raise ArtifactError(
            f"{source} holds no detector: it was not written by gradood export; export it with "
            "gradood.export(monitor, path, example=...)."
        )
    record = GraphRecord.from_json(text)
    found = {output.name for output in session.get_outputs()}
    if not found.issuperset(spec.name for spec in record.outputs):
        raise ArtifactError(f"{source} lacks outputs that its record names; export it again.")
    given = {spec.name: spec for spec in record.inputs}
    own = {each.name: each for each in session.get_inputs()}
    if given.keys() != own.keys() or not all(given[name].fits(own[name]) for name in own):
        raise ArtifactError(f"{source} takes other inputs than its record names; export it again.")
    return record


def results_of(record: GraphRecord, found: Mapping[str, "NDArray[Any]"]) -> OnnxResults:
    """A graph's outputs, named.

    Args:
        record: of the graph.
        found: output → array.
    """
    label = found["label"]

    def result(part: str) -> OnnxResult:
        codes = found[record.output(part, "status")]
        score = found[record.output(part, "score")]
        conditional = found.get(record.output(part, "class_conditional"))
        return OnnxResult(
            score=np.where(codes == 0, score, np.inf),
            p_value=found[record.output(part, "p_value")],
            is_ood=found[record.output(part, "is_ood")],
            label=label,
            status=tuple(STATUSES[code] for code in codes.tolist()),
            class_conditional=np.zeros(len(label), bool) if conditional is None else conditional,
            overrides=record.overrides,
        )

    each = {name: result(name) for name in record.detectors}
    return OnnxResults(each, result("combined") if record.combine else None)
