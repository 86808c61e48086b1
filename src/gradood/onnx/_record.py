"""What an exported graph says of itself: inputs, detectors, decision and parity."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from gradood._io.records import Rules, decode
from gradood.errors import ArtifactError

__all__ = [
    "FORMAT",
    "GraphRecord",
    "KEY",
    "RECALIBRATED",
    "SENTINEL",
    "STATUSES",
    "TensorSpec",
    "outputs_of",
]

KEY = "gradood"
"""Of the graph's metadata."""
FORMAT = 1
RECALIBRATED = "calibrated on"
_RULES = Rules(error=ArtifactError, defaults=False)
SENTINEL = 3.4028234663852886e38
"""Score of an input without a finite one: the largest float32, as runtimes lose infinity."""
_KINDS = {"float": "float32", "double": "float64"}
"""Types by their names in onnxruntime, where those of NumPy are others."""
STATUSES = ("ok", "nonfinite_input", "nonfinite_score")
"""What the numbers of a status output mean."""


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a graph.

    Attributes:
        name: of the tensor.
        dtype: NumPy's name of its type, such as ``float32``.
        shape: sizes; −1 for the batch, which comes first.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    def fits(self, given: Any) -> bool:
        """Whether an input of onnxruntime is this one; sizes that the graph leaves open are.

        Args:
            given: of a session, with ``type`` and ``shape``.
        """
        kind = given.type.removeprefix("tensor(").removesuffix(")")
        if _KINDS.get(kind, kind) != self.dtype or len(given.shape) != len(self.shape):
            return False
        pairs = zip(self.shape, given.shape, strict=True)
        return all(not isinstance(size, int) or size == own or own < 0 for own, size in pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphRecord:
    """What a graph says of itself.

    Attributes:
        detectors: names, in the order of the outputs.
        combine: how they become one decision, or None.
        bare: whether it is of one detector given bare.
        part: ``"model"``, from inputs on; ``"head"``, from features and logits on; ``"pixels"``,
            from uint8 pixels of the right size on.
        classes: number of logits.
        per_class: whether the promise holds within each predicted class.
        promise: in words.
        inputs: what is fed.
        outputs: what comes out.
        preprocess: how images become the inputs, in plain values, or None if nobody said.
        overrides: refusals that were overridden, stamped on every result.
        identity: SHA-256 of what was learned and promised.
        artifact: SHA-256 of the detector's file; empty if it was exported without one.
        quantized: how the graph was quantized, or empty.
        parity: largest difference from the monitor that was found before the file was written, by
            detector, in standard deviations of its score; and how many rows were compared.
        version: of gradood.
        format: of this record.
    """

    detectors: tuple[str, ...]
    combine: str | None
    bare: bool
    part: Literal["model", "head", "pixels"]
    classes: int
    per_class: bool
    promise: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    preprocess: Mapping[str, Any] | None = None
    overrides: tuple[str, ...] = ()
    identity: str = ""
    artifact: str = ""
    quantized: str = ""
    parity: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""
    format: int = FORMAT

    @property
    def decisions(self) -> tuple[str, ...]:
        """Names of the parts that decide: detectors, and ``combined`` where there is one."""
        return (*self.detectors, *(["combined"] if self.combine else []))

    @property
    def recalibrated(self) -> bool:
        """Whether it has a calibration of its own, which no detector's file holds."""
        return self.quantized.startswith(RECALIBRATED)

    def output(self, part: str, what: str) -> str:
        """Name of an output tensor.

        Args:
            part: one of `decisions`.
            what: ``score``, ``p_value``, ``is_ood``, ``status`` or ``class_conditional``.
        """
        main = part == "combined" and self.combine is not None
        return what if main or self.bare else f"{part}.{what}"

    def to_json(self) -> str:
        """As one line."""
        return json.dumps(asdict(self), sort_keys=True, allow_nan=False)

    @staticmethod
    def from_json(text: str) -> "GraphRecord":
        """The record again.

        Raises:
            ArtifactError: it is malformed, or of a later format.
        """
        try:
            plain = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _malformed(str(error)) from error
        if not isinstance(plain, dict):
            raise _malformed("it is no object")
        if plain.get("format") != FORMAT:
            raise ArtifactError(
                f"the graph has format {plain.get('format')!r}, and this gradood reads {FORMAT}; "
                "export it again."
            )
        try:
            record = decode(GraphRecord, plain, "", _RULES)
        except ArtifactError as error:
            raise _malformed(str(error).rstrip(".")) from error
        alone = len(record.detectors) == 1 and record.combine is None
        if not record.detectors or (record.bare and not alone):
            raise _malformed("its detectors are others than its outputs are of")
        lacking = {spec.name for spec in outputs_of(record)} - {s.name for s in record.outputs}
        if lacking:
            raise _malformed(f"it lacks the output {min(lacking)}")
        return record


def outputs_of(record: GraphRecord) -> tuple[TensorSpec, ...]:
    """What a graph gives, in order, by its detectors, decision and promise."""
    kinds = {"score": "float64", "p_value": "float64", "is_ood": "bool", "status": "int8"}
    if record.per_class:
        kinds["class_conditional"] = "bool"
    parts = record.decisions[::-1] if record.combine else record.decisions
    parts = tuple(sorted(parts, key=lambda part: part != "combined"))
    named = [
        TensorSpec(record.output(part, what), kind, (-1,))
        for part in parts
        for what, kind in kinds.items()
    ]
    return (TensorSpec("label", "int64", (-1,)), *named)


def _malformed(why: str) -> ArtifactError:
    return ArtifactError(f"the graph's record is malformed ({why}); export it again.")
