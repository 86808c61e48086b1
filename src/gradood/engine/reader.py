"""Reads batches off a model for a set of detectors, and turns what is read into scores."""

import warnings
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from gradood.calibration.results import Look
from gradood.detectors.base import Detector, State
from gradood.engine.binding import Binding, bind, shown
from gradood.engine.rows import emptied, finite_rows, measured, state_for
from gradood.errors import DataError, GradoodError, MeaninglessScoreWarning
from gradood.evidence import KEYS, LOGITS, Evidence, Read, gather
from gradood.taps import device_of, unwrap

__all__ = ["Reader"]


class Reader:
    """A model as a set of detectors sees it; bound on the first batch.

    Args:
        model: any classifier.
        detectors: by name.
        head: name of the last linear layer, or None to search for it.

    Attributes:
        binding: the observed network and what is read of it; None before the first batch.
        states: detector → what it has learned.
    """

    def __init__(
        self, model: nn.Module, detectors: Mapping[str, Detector], head: str | None
    ) -> None:
        unwrap(model)
        self.model = model
        self.detectors = dict(detectors)
        self.head = head
        self.binding: Binding | None = None
        self.states: dict[str, State] = {}

    def look(self, x: Tensor, extra: tuple[Read, ...]) -> Look:
        """Scores of one batch; labels and keys if LOGITS and KEYS are among `extra`."""
        if len(x) == 0:
            return Look.empty(self.detectors)
        x = self.ready(x)
        finite = finite_rows(x)
        clean = bool(finite.all())
        broken = (~finite).cpu()
        if self.binding is None:
            if not bool(finite.any()):  # Nothing here shows what the model does.
                return Look.lost(self.detectors, len(x))
            self.bind(x if clean else x[finite])
        if not clean:
            x = emptied(x, finite)
        binding = self.bind(x)
        evidence = self.gather(x, (*binding.reads, *extra), None)
        lost = broken | (~evidence.sound).cpu()
        scores: dict[str, Tensor] = {}
        for name, detector in self.detectors.items():
            own = evidence.only(binding.plans[name].reads)
            state = state_for(self.states, name, own)
            scores[name] = measured(detector, own, state, x.device).masked_fill(lost, torch.inf)
        label = keys = torch.zeros(len(x), dtype=torch.int64)
        if LOGITS in extra:
            label = evidence[LOGITS].argmax(1).cpu().masked_fill(lost, -1)
        if KEYS in extra:
            keys = evidence[KEYS].cpu()
        return Look(scores, label, broken, keys)

    def bind(self, x: Tensor) -> Binding:
        """The binding, made on `x` if there is none yet."""
        if self.binding is None:
            self.binding = bind(self.model, x, self.detectors, head=self.head)
            for caveat in self.binding.caveats:
                warnings.warn(caveat, MeaninglessScoreWarning, stacklevel=4)
        return self.binding

    def ready(self, x: Tensor) -> Tensor:
        """`x` on the model's device, checked against what the model was observed on."""
        if x.device.type == "meta":
            raise DataError("the input is on the meta device and holds no data; give real tensors.")
        if self.binding is not None:
            example = self.binding.network.example
            same = x.ndim == example.ndim and x.dtype == example.dtype
            if not same or (x.ndim > 1 and x.shape[1] != example.shape[1]):
                raise DataError(
                    f"the input is {shown(x)}; expected {shown(example)} as before. If the model "
                    "itself was changed since, make a new monitor and fit it."
                )
        return x.detach().to(device_of(unwrap(self.model)))

    def gather(self, x: Tensor, reads: Iterable[Read], labels: Tensor | None) -> Evidence:
        """What is read of one batch that is `ready`."""
        assert self.binding is not None
        network = self.binding.network
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
