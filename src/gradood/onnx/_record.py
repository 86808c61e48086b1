"""What an exported graph says of itself: inputs, detectors, decision and parity."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from gradood.errors import ArtifactError

__all__ = ["FORMAT", "GraphRecord", "KEY", "SENTINEL", "STATUSES", "TensorSpec"]

KEY = "gradood"
"""Of the graph's metadata."""
FORMAT = 1
SENTINEL = 3.4028234663852886e38
"""Score of an input without a finite one: the largest float32, as runtimes lose infinity."""
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

    @staticmethod
    def of(plain: Mapping[str, Any]) -> "TensorSpec":
        """From plain values."""
        return TensorSpec(plain["name"], plain["dtype"], tuple(plain["shape"]))


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
            if plain.get("format") != FORMAT:
                raise ArtifactError(
                    f"the graph has format {plain.get('format')!r}, and this gradood reads "
                    f"{FORMAT}; export it again."
                )
            if plain.keys() != {field.name for field in fields(GraphRecord)}:
                raise KeyError("other keys")
            for name in ("inputs", "outputs"):
                plain[name] = tuple(map(TensorSpec.of, plain[name]))
            for name in ("detectors", "overrides"):
                plain[name] = tuple(plain[name])
            return GraphRecord(**plain)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if isinstance(error, ArtifactError):
                raise
            raise ArtifactError(
                f"the graph's record is malformed ({error!s}); export it again."
            ) from error
