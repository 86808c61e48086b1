"""Records of a classifier in a manifest: what it is, and what it gave for canary inputs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gradood._io.records import OMIT
from gradood.artifact.identity import Fingerprint

__all__ = ["CanaryRecord", "ModelRecord"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """The classifier that the detectors are bound to.

    Attributes:
        kind: name of its class; for people only.
        layers: names of the layers read, in order.
        head: name of the last linear layer, or None where none was needed.
        classes: number of logits.
        input_shape: of one input, without the batch.
        input_dtype: such as ``float32``.
        fingerprint: of parameters, buffers and structure.
        output: which item of what the model returns holds the logits; None for the usual ones, and
            then it is not written.
        link: what makes probabilities of the outputs, as for `gradood.Monitor`; None where nothing
            was named, and then it is not written. Of a file from before there were links, one
            class is one logit under a softmax.
        inputs: of a model of several tensors, name → shape and type of each, where `input_shape`
            and `input_dtype` are of the first; None for one tensor, and then it is not written.
        model_input: True if a function made the inputs of each batch, which no file holds; else
            None, and then it is not written.
        features: name of the layer whose output was named as the features; None where a head takes
            them, and then it is not written.
    """

    kind: str
    layers: tuple[str, ...]
    head: str | None
    classes: int
    input_shape: tuple[int, ...]
    input_dtype: str
    fingerprint: Fingerprint
    output: str | int | None = field(default=None, metadata={OMIT: True})
    link: str | None = field(default=None, metadata={OMIT: True})
    inputs: Mapping[str, str] | None = field(default=None, metadata={OMIT: True})
    model_input: bool | None = field(default=None, metadata={OMIT: True})
    features: str | None = field(default=None, metadata={OMIT: True})


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryRecord:
    """Synthetic inputs with what they gave; see `gradood.artifact.canary`.

    Attributes:
        seed: that they were drawn with.
        inputs: name of the tensor (8, …), or of the first of several.
        logits: name of the tensor (8, classes).
        scores: detector name → name of the tensor (8,).
        torch: version they were run with.
        device: kind they were run on, such as ``cpu``.
        precision: the coarsest floating type of the model, such as ``float32``.
        arguments: several tensors and constants, as `gradood.artifact.tensors.pack` gives them;
            None for one tensor, and then it is not written.
    """

    seed: int
    inputs: str
    logits: str
    scores: Mapping[str, str]
    torch: str
    device: str
    precision: str
    arguments: Mapping[str, Any] | None = field(default=None, metadata={OMIT: True})
