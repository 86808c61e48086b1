"""Reads batches off a model for a set of detectors, and turns what is read into scores."""

import sys
import threading
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from gradood.calibration.results import Look
from gradood.detectors.base import Detector, State
from gradood.engine.binding import Binding, bind, shown
from gradood.engine.rows import emptied, finite_rows, measured, state_for
from gradood.errors import DataError, GradoodError, MeaninglessScoreWarning
from gradood.evidence import KEYS, LOGITS, Evidence, Read, gather
from gradood.taps import device_of, unwrap

__all__ = ["Current", "Reader"]


@dataclass(frozen=True, eq=False, slots=True)
class Current:
    """What a reader scores with, which is replaced as one.

    Attributes:
        binding: the observed network and what is read of it; None before the first batch.
        states: detector → what it has learned.
    """

    binding: Binding | None
    states: dict[str, State]


class Reader:
    """A model as a set of detectors sees it; bound on the first batch.

    Any number of threads may use one reader, and several readers one model.

    Args:
        model: any classifier.
        detectors: by name.
        head: name of the last linear layer, or None to search for it.

    Attributes:
        current: what it scores with now.
        lock: held while `current`, or what a monitor keeps beside it, is replaced.
    """

    def __init__(
        self, model: nn.Module, detectors: Mapping[str, Detector], head: str | None
    ) -> None:
        unwrap(model)
        self.model = model
        self.detectors = dict(detectors)
        self.head = head
        self.current = Current(None, {})
        self._make_locks()

    def _make_locks(self) -> None:
        self.lock = threading.RLock()
        self._observing = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k not in ("lock", "_observing")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._make_locks()

    @property
    def binding(self) -> Binding | None:
        """The observed network and what is read of it; None before the first batch."""
        return self.current.binding

    @binding.setter
    def binding(self, binding: Binding | None) -> None:
        with self.lock:
            self.current = replace(self.current, binding=binding)

    @property
    def states(self) -> dict[str, State]:
        """Detector → what it has learned."""
        return self.current.states

    def look(self, x: Tensor, extra: tuple[Read, ...], current: Current | None = None) -> Look:
        """Scores of one batch; labels and keys if LOGITS and KEYS are among `extra`.

        Args:
            x: (batch, …).
            extra: what to read beside what the detectors need.
            current: what to score with; None takes what is there now.
        """
        if len(x) == 0:
            return Look.empty(self.detectors)
        current = self.current if current is None else current
        binding = self.binding if current.binding is None else current.binding
        x = self.ready(x, binding)
        finite = finite_rows(x)
        clean = bool(finite.all())
        broken = (~finite).cpu()
        if binding is None:
            if not bool(finite.any()):  # Nothing here shows what the model does.
                return Look.lost(self.detectors, len(x))
            binding = self.bind(x if clean else x[finite])
        if not clean:
            x = emptied(x, finite)
        reads = {
            name: detector.bound_reads(binding.plans[name].reads, current.states.get(name, {}))
            for name, detector in self.detectors.items()
        }
        asked = (*chain.from_iterable(reads.values()), *extra)
        evidence = self.gather(x, asked, None, binding)
        lost = broken | (~evidence.sound).cpu()
        scores: dict[str, Tensor] = {}
        for name, detector in self.detectors.items():
            own = evidence.only(reads[name])
            state = state_for(current.states, name, own)
            scores[name] = measured(detector, own, state, x.device).masked_fill(lost, torch.inf)
        label = keys = torch.zeros(len(x), dtype=torch.int64)
        if LOGITS in extra:
            label = evidence[LOGITS].argmax(1).cpu().masked_fill(lost, -1)
        if KEYS in extra:
            keys = evidence[KEYS].cpu()
        return Look(scores, label, broken, keys)

    def bind(self, x: Tensor) -> Binding:
        """The binding, made on `x` if there is none yet; by one thread, while others wait."""
        binding = self.binding
        if binding is None:
            with self._observing:
                binding = self.binding
                if binding is None:
                    binding = self.binding = self.new_binding(x)
        return binding

    def new_binding(self, x: Tensor) -> Binding:
        """A binding made on `x`, whatever there is; warns of scores that may mean little."""
        with self._observing:
            binding = bind(self.model, x, self.detectors, head=self.head)
        for caveat in binding.caveats:
            warnings.warn(caveat, MeaninglessScoreWarning, stacklevel=_depth() + 1)
        return binding

    def ready(self, x: Tensor, binding: Binding | None = None) -> Tensor:
        """`x` on the model's device, checked against what the model was observed on."""
        binding = self.binding if binding is None else binding
        if x.device.type == "meta":
            raise DataError("the input is on the meta device and holds no data; give real tensors.")
        if binding is not None:
            example = binding.network.example
            same = x.ndim == example.ndim and x.dtype == example.dtype
            if not same or (x.ndim > 1 and x.shape[1] != example.shape[1]):
                raise DataError(
                    f"the input is {shown(x)}; expected {shown(example)} as before. If the model "
                    "itself was changed since, make a new monitor and fit it."
                )
        return x.detach().to(device_of(unwrap(self.model)))

    def gather(
        self,
        x: Tensor,
        reads: Iterable[Read],
        labels: Tensor | None,
        binding: Binding | None = None,
    ) -> Evidence:
        """What is read of one batch that is `ready`."""
        binding = self.binding if binding is None else binding
        assert binding is not None
        network = binding.network
        try:
            return gather(network, x, reads, labels)
        except RuntimeError as error:
            if isinstance(error, GradoodError | torch.cuda.OutOfMemoryError):
                raise
            kind = next((p.dtype for p in network.module.parameters()), x.dtype)
            if x.is_floating_point() and kind != x.dtype and not torch.is_autocast_enabled():
                raise DataError(
                    f"the model is now {kind}, but was observed with inputs {shown(x)}; its scores "
                    "would be others. Make a new monitor and fit it."
                ) from error
            if x.shape[1:] != network.example.shape[1:]:
                raise DataError(
                    f"the model cannot run on {shown(x)}; it was observed on "
                    f"{shown(network.example)}. Resize or crop the inputs alike."
                ) from error
            raise


def _depth() -> int:
    """How many frames of this package are on the stack, from the caller's on."""
    depth = 0
    frame = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith("gradood."):
        depth += 1
        frame = frame.f_back
    return depth
