"""Canary inputs: synthetic, kept with what the model and the detectors gave for them.

They catch what no hash of tensors sees: a mean that a wrapper keeps as a plain attribute, another
activation function, another version of an operator. They hold no data, only smooth noise in the
range of each input channel, so a file that has them may be passed on.

Differences are relative to the largest value of all eight rows, as single logits may be close to
zero. What is tolerated, by the coarsest floating type in the model:

| type | logits, same place | logits, elsewhere | scores, same place | scores, elsewhere |
| --- | --- | --- | --- | --- |
| float64 | 1e-10 | 1e-6 | 1e-8 | 1e-4 |
| float32 | 1e-5 | 1e-2 | 1e-3 | 5e-2 |
| float16 | 1e-2 | 3e-2 | 5e-2 | 1e-1 |
| bfloat16 | 5e-2 | 1e-1 | 1e-1 | 2e-1 |

The same place is the same version of torch on the same kind of device. There another number of
threads or instruction set moves float32 logits by 1e-6 (measured on ResNet-20 and DenseNet-101).
Elsewhere float32 may mean TF32, in which NVIDIA GPUs convolve and which keeps ten bits. Scores are
allowed more, as some count units, and a unit at its threshold may fall on either side.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gradood.artifact._canary_inputs import COUNT, synthesize
from gradood.artifact.manifest import CanaryRecord
from gradood.artifact.tensors import pack, unpack
from gradood.errors import ArtifactError
from gradood.taps import Arguments, Inputs, leaves_of

__all__ = ["COUNT", "Canary", "Tolerance", "compare", "synthesize", "tolerance"]

_TYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_SAME = ((1e-10, 1e-8), (1e-5, 1e-3), (1e-2, 5e-2), (5e-2, 1e-1))
_ELSEWHERE = ((1e-6, 1e-4), (1e-2, 5e-2), (3e-2, 1e-1), (1e-1, 2e-1))


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How much canary outputs may differ, relative to the largest.

    Attributes:
        logits: of the model.
        scores: of the detectors.
    """

    logits: float
    scores: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Canary:
    """Inputs with known outputs.

    Attributes:
        inputs: of eight rows, from `synthesize`.
        logits: (8, classes), of any floating type; those of the model on `inputs`.
        scores: detector name → (8,).
        seed: that the inputs were drawn with.
        torch: version that gave the outputs.
        device: kind of device that gave them, such as ``cpu``.
        precision: coarsest floating type of the model, such as ``float32``.
    """

    inputs: Inputs
    logits: Tensor
    scores: Mapping[str, Tensor]
    seed: int
    torch: str
    device: str
    precision: str

    @classmethod
    def of(
        cls,
        model: nn.Module,
        inputs: Inputs,
        logits: Tensor,
        scores: Mapping[str, Tensor],
        seed: int,
    ) -> "Canary":
        """What this model gave, here and now.

        Args:
            model: to note its precision; it is not run.
            inputs: of eight rows, from `synthesize` with this seed.
            logits: (8, classes), of the model in evaluation mode on `inputs`.
            scores: detector name → (8,).
            seed: of the inputs.
        """
        return cls(
            inputs=inputs.detach().cpu(),
            logits=logits.detach().cpu(),
            scores={name: values.detach().cpu() for name, values in scores.items()},
            seed=seed,
            torch=str(torch.__version__),
            device=logits.device.type
            if (p := next(model.parameters(), None)) is None
            else p.device.type,
            precision=precision_of(model, inputs),
        )

    def record(self, prefix: str = "canary") -> tuple[CanaryRecord, dict[str, Tensor]]:
        """Its record for the manifest, and its tensors by name in the file.

        Args:
            prefix: of these names.
        """
        scores = {name: f"{prefix}/scores/{name}" for name in self.scores}
        record = CanaryRecord(
            seed=self.seed,
            inputs=f"{prefix}/inputs",
            logits=f"{prefix}/logits",
            scores=scores,
            torch=self.torch,
            device=self.device,
            precision=self.precision,
        )
        tensors = {record.logits: self.logits}
        if isinstance(self.inputs, Arguments):
            known = {name: getattr(self.inputs, name) for name in _ARGUMENTS}
            arguments, leaves = pack(known, record.inputs)
            record = replace(record, inputs=next(iter(leaves)), arguments=arguments)
            tensors |= leaves
        else:
            tensors[record.inputs] = self.inputs
        return record, tensors | {scores[name]: self.scores[name] for name in scores}

    @classmethod
    def restore(cls, record: CanaryRecord, tensors: Mapping[str, Tensor]) -> "Canary":
        """The canary of an artifact.

        Args:
            record: from its manifest.
            tensors: of the file, by name.

        Raises:
            ArtifactError: the tensors have other shapes or types than a canary's.
        """
        inputs, logits = _inputs(record, tensors), tensors[record.logits]
        scores = {name: tensors[key] for name, key in record.scores.items()}
        fit = _rows(inputs) == {COUNT} and logits.ndim == 2 and len(logits) == COUNT
        fit = fit and logits.is_floating_point() and record.precision in _names()
        if not fit or any(
            s.shape != (COUNT,) or not s.is_floating_point() for s in scores.values()
        ):
            raise ArtifactError(
                f"the canary has inputs {_shown(inputs)} and logits {tuple(logits.shape)} in "
                f"{record.precision[:20]!r}; expected {COUNT} rows of each and of every score."
            )
        return cls(
            inputs=inputs,
            logits=logits,
            scores=scores,
            seed=record.seed,
            torch=record.torch,
            device=record.device,
            precision=record.precision,
        )


def compare(
    expected: Canary, logits: Tensor, scores: Mapping[str, Tensor], allowed: Tolerance
) -> list[str]:
    """What differs between a canary's outputs and those found now, in words; empty if nothing.

    Args:
        expected: of the artifact.
        logits: (8, classes), of the model given, on `expected.inputs`.
        scores: detector name → (8,), of the detectors loaded, bound to that model.
        allowed: from `tolerance`.
    """
    lines = _compared("canary logits", expected.logits, logits, allowed.logits)
    for name, values in expected.scores.items():
        if name not in scores:
            lines.append(f"canary scores of {name!r} are missing")
        else:
            lines += _compared(f"canary scores of {name!r}", values, scores[name], allowed.scores)
    return lines


def tolerance(expected: Canary, model: nn.Module) -> Tolerance:
    """What is tolerated here; see the table of this module.

    Args:
        expected: of the artifact.
        model: the one given, on the device it is to run on.
    """
    parameter = next(model.parameters(), None)
    device = "cpu" if parameter is None else parameter.device.type
    same = expected.torch == str(torch.__version__) and expected.device == device
    table = _SAME if same else _ELSEWHERE
    return Tolerance(*table[_names().index(expected.precision)])


def precision_of(model: nn.Module, inputs: Inputs) -> str:
    """The coarsest floating type of a model's parameters, buffers and inputs."""
    used = {*_dtypes(inputs), *(tensor.dtype for tensor in (*model.parameters(), *model.buffers()))}
    return _names()[max((_TYPES.index(dtype) for dtype in used if dtype in _TYPES), default=1)]


_ARGUMENTS = ("positional", "named", "names")


def _inputs(record: CanaryRecord, tensors: Mapping[str, Tensor]) -> Inputs:
    """Of a record.

    Raises:
        ArtifactError: it holds something else.
    """
    if record.arguments is None:
        return tensors[record.inputs]
    known = unpack(record.arguments, tensors)
    kinds = {"positional": tuple, "named": dict, "names": tuple}
    sound = isinstance(known, dict) and set(known) == set(_ARGUMENTS)
    if not sound or any(not isinstance(known[name], kinds[name]) for name in _ARGUMENTS):
        raise ArtifactError("the canary's inputs are no arguments; the file is refused.")
    return Arguments(**known)


def _rows(inputs: Inputs) -> set[int]:
    return {len(leaf) if leaf.ndim else 0 for leaf in leaves_of(inputs).values()}


def _shown(inputs: Inputs) -> str:
    return str(inputs)[:80] if isinstance(inputs, Arguments) else str(tuple(inputs.shape))


def _dtypes(inputs: Inputs) -> set[torch.dtype]:
    return {leaf.dtype for leaf in leaves_of(inputs).values()}


def _names() -> list[str]:
    return [str(dtype).removeprefix("torch.") for dtype in _TYPES]


def _compared(what: str, expected: Tensor, found: Tensor, allowed: float) -> list[str]:
    before, now = expected.detach().double().cpu(), found.detach().double().cpu()
    if before.shape != now.shape:
        return [f"{what} have shape {tuple(now.shape)}; expected {tuple(before.shape)}"]
    finite = before.isfinite()
    if not torch.equal(before[~finite], now[~finite]) or not bool(now[finite].isfinite().all()):
        return [f"{what} are not finite in the same places"]
    if not bool(finite.any()):
        return []
    scale = float(before[finite].abs().max())
    gap = float((before[finite] - now[finite]).abs().max())
    if gap <= allowed * scale:
        return []
    relative = gap / scale if scale else float("inf")
    return [f"{what} differ by {relative:.1e} of the largest, more than {allowed:.0e}"]
