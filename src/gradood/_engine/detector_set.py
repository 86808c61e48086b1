"""Sets of detectors: before they are bound to a model, and bound, with what they have learned.

```text
batches, shards → reader → readings → fitting: accumulate, merge, finish → states
                                    → scoring: measure                   → scores
```
"""

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from gradood._engine.binding import Binding, bind, no_detector_left
from gradood._engine.forms import InputForm, ModelInput
from gradood._engine.reader import Reader
from gradood._engine.readings import ReadingCache
from gradood._engine.roster import combination, warn_of_one_output
from gradood._engine.rows import Inputs, moved
from gradood.calibration._curve import How
from gradood.detectors.base import Detector, Learner, State
from gradood.evidence import Evidence, Reads
from gradood.taps import FeatureLayer, Link, Output, device_of, unwrap

__all__ = ["DetectorSet", "UnboundSet", "detached"]


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class UnboundSet:
    """Detectors, and the model that they are bound to on its first inputs.

    Attributes:
        model: any classifier, wrapped or not.
        detectors: by name.
        combine: how several become one decision, or None.
        head: name of the last linear layer, the layer that gives the features, or None to search.
        output: which item of what the model returns holds the logits, or None for the usual ones.
        required: names of detectors that must not be left out; None for all of them.
        preprocess: how images became the inputs, in plain values, or None.
        model_input: makes the model's inputs of a batch, or None for the rules.
        link: what makes probabilities of the outputs; None for a softmax, with a warning where the
            model has one output.
    """

    model: nn.Module
    detectors: Mapping[str, Detector]
    combine: How | None = None
    head: str | FeatureLayer | None = None
    output: Output | None = None
    required: Collection[str] | None = None
    preprocess: Mapping[str, Any] | None = None
    model_input: ModelInput | None = None
    link: Link | None = None

    @property
    def form(self) -> InputForm:
        """How batches become the model's inputs."""
        return InputForm(self.model, self.model_input, self.link)

    @property
    def learners(self) -> dict[str, Learner]:
        """The detectors that must be fitted, by name."""
        return _learners(self.detectors)

    def moved(self, inputs: Inputs) -> Inputs:
        """Inputs on the device of the model."""
        return moved(inputs, device_of(unwrap(self.model)))

    def bind(self, inputs: Inputs, labels: Tensor | None = None) -> "DetectorSet":
        """The detectors that can run, bound to the model; warns of scores that may mean little.

        Args:
            inputs: (batch ≥ 1, …), finite, `moved`.
            labels: (batch,) their classes, or None where nobody says.

        Raises:
            TapError: the model cannot be read, or not by a required detector.
            DataError: the inputs do not fit the model.
            ConfigError: too few detectors can run.

        Cost:
            An observation of the model, and what detectors need to try layers out.
        """
        binding = bind(
            self.model,
            inputs,
            self.detectors,
            head=self.head,
            output=self.output,
            preprocess=self.preprocess,
            required=self.required,
            link=self.link or "softmax",
        )
        if self.link is None:
            warn_of_one_output(binding.network, labels)
        binding.warn()
        return self.checked(DetectorSet.of(binding, self.detectors, required=self.required))

    def unfitted(self, bound: "DetectorSet") -> "DetectorSet":
        """The same binding before any fit: with the detectors that only refused the fit data."""
        return DetectorSet.of(bound.binding, self.detectors, required=self.required)

    def checked(self, bound: "DetectorSet") -> "DetectorSet":
        """The bound set, if enough detectors are left in it.

        Raises:
            ConfigError: none is left, or a single one to combine.
        """
        if not bound.detectors:
            raise no_detector_left(bound.left_out)
        combination(self.combine, len(bound.detectors))
        return bound


@dataclass(frozen=True, eq=False, slots=True)
class DetectorSet:
    """Detectors that can run on a model, and what they have learned of it.

    A value: fitting gives another set, and leaves this one as it is.

    Attributes:
        detectors: by name.
        reader: reads the model they are bound to.
        states: name → what was learned; a state follows the model to another device.
        left_out: why a detector is not among them, by name.
        required: names that must not be left out; None for all of them.
    """

    detectors: Mapping[str, Detector]
    reader: Reader
    states: dict[str, State] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    required: Collection[str] | None = None

    @staticmethod
    def of(
        binding: Binding,
        detectors: Mapping[str, Detector],
        *,
        required: Collection[str] | None = None,
        cache: ReadingCache | None = None,
    ) -> "DetectorSet":
        """The detectors that a binding has a plan for; nothing is learned yet.

        Args:
            binding: of the model.
            detectors: by name.
            required: names that must not be left out later, where they refuse the data.
            cache: where readings, states and scores of shards are kept, or None.
        """
        planned = {name: detectors[name] for name in binding.plans}
        return DetectorSet(
            planned, Reader(binding, cache), left_out=binding.left_out, required=required
        )

    def __repr__(self) -> str:
        fitted = [name for name in self.learners if name in self.states]
        return f"DetectorSet({', '.join(self.detectors)}; fitted: {', '.join(fitted) or 'none'})"

    @property
    def binding(self) -> Binding:
        """The observed model, and what is read of it."""
        return self.reader.binding

    @property
    def learners(self) -> dict[str, Learner]:
        """The detectors that must be fitted, by name."""
        return _learners(self.detectors)

    @property
    def unfitted(self) -> tuple[str, ...]:
        """Names of the detectors that have yet to be fitted."""
        return tuple(name for name in self.learners if name not in self.states)

    def notes(self) -> Iterator[tuple[str, str]]:
        """What the fits decided that a reader must know, with the names of the detectors."""
        for name, state in self.states.items():
            for note in self.detectors[name].notes(state):
                yield name, note

    def without(self, refused: Mapping[str, str]) -> "DetectorSet":
        """The set without some detectors.

        Args:
            refused: why, by name.
        """
        if not refused:
            return self
        return replace(
            self,
            detectors={n: d for n, d in self.detectors.items() if n not in refused},
            states={n: state for n, state in self.states.items() if n not in refused},
            left_out={**self.left_out, **refused},
        )

    def refusal(self, name: str, error: Exception) -> str:
        """Why a detector is to be left out; raises the error if it must not be.

        Args:
            name: of the detector.
            error: with which it refused.
        """
        if self.required is None or name in self.required:
            raise error
        return str(error)

    def reads(self, name: str) -> Reads:
        """What a detector's scores read, with what it has learned where they step along that.

        Args:
            name: of the detector.
        """
        plan, state = self.binding.plans[name], self.states.get(name, {})
        return self.detectors[name].bound_reads(plan.reads, state)

    def measure(self, name: str, reads: Reads, evidence: Evidence) -> Tensor:
        """Scores (batch,) of one detector, float64 on the CPU; +inf where one is not finite.

        Args:
            name: of the detector.
            reads: from `reads`; what was read.
            evidence: with these readings; no model is run.
        """
        evidence = evidence.only(reads)
        state = self.states.get(name, {})
        moved = _state_on(evidence.device, state)
        if moved is not state:
            self.states[name] = moved  # It is needed there again.
        return _measured(self.detectors[name], evidence, moved)


@contextmanager
def detached(device: torch.device | None = None) -> Iterator[None]:
    """No graph and ordinary tensors, in any mode outside.

    Args:
        device: whose autocast to leave out; it is for the model, and must not round scores.
    """
    autocast = device is not None and torch.is_autocast_enabled(device.type)
    if not (autocast or torch.is_grad_enabled() or torch.is_inference_mode_enabled()):
        yield
        return
    with ExitStack() as stack:
        if autocast and device is not None:
            stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        yield


def _measured(detector: Detector, evidence: Evidence, state: State) -> Tensor:
    """A detector's scores (batch,), float64 on the CPU, +inf where one is not finite.

    Args:
        detector: that scores.
        evidence: what its plan asked for.
        state: what it has learned, on the device of the evidence.
    """
    with detached(evidence.device):
        scores = detector.measure(evidence, state).detach().to("cpu", torch.float64)
    return torch.where(scores.isfinite(), scores, torch.inf)


def _state_on(device: torch.device, state: State) -> State:
    """A state on the device that the evidence is on, as the model may have moved since the fit."""
    if all(tensor.device == device for tensor in state.values()):
        return state
    return {key: tensor.to(device) for key, tensor in state.items()}


def _learners(detectors: Mapping[str, Detector]) -> dict[str, Learner]:
    return {name: d for name, d in detectors.items() if isinstance(d, Learner) and d.must_fit}
