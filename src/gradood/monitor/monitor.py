"""The monitor: a model, the detectors bound to it, and what they have learned."""

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from gradood.batches import Batch, Data, batches
from gradood.binding import Binding, bind, shown
from gradood.detectors.base import Detector, Learner, Partial, State
from gradood.errors import (
    ConfigError,
    DataError,
    GradoodError,
    MeaninglessScoreWarning,
    NotFittedError,
)
from gradood.evidence import Evidence, Read, gather
from gradood.registry import create
from gradood.taps import device_of, unwrap

__all__ = ["Detectors", "Monitor", "Partials"]

Detectors = str | Detector | Sequence[str | Detector] | Mapping[str, str | Detector]
Partials = Mapping[str, Partial]
"""Detector name → what it has seen of the fit data."""


class Monitor:
    """Scores a classifier's inputs for being out-of-distribution.

    All detectors share one forward pass per batch and at most one truncated backward per distinct
    objective. The model is left as it was found: weights, buffers, gradients, modes, hooks, RNG.

    Args:
        model: any classifier, as it is; wrappers are looked through. It is run in evaluation mode,
            on the device it is on.
        detectors: a registry name or a `Detector`; or a list of them; or a mapping that names them,
            for several with the same method. One given bare gives plain tensors, a list or mapping
            always a mapping by name.
        head: name of the last linear layer, if it cannot be found.
        progress: show a bar on long work; None does on a terminal only.

    Raises:
        UnknownNameError: no detector of that name.
        ConfigError: no detector, or two of one name.

    Cost:
        Nothing is run until the first batch, on which the model is observed once.

    >>> import torch, gradood
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    >>> gradood.Monitor(model, "energy").score(torch.zeros(2, 3, 2, 2)).shape
    torch.Size([2])
    """

    def __init__(
        self,
        model: nn.Module,
        detectors: Detectors,
        *,
        head: str | None = None,
        progress: bool | None = None,
    ) -> None:
        unwrap(model)
        self.model = model
        self._detectors, self._bare = _named(detectors)
        self._head = head
        self._progress = sys.stderr.isatty() if progress is None else progress
        self._binding: Binding | None = None
        self._states: dict[str, State] = {}

    @property
    def detectors(self) -> dict[str, Detector]:
        """The detectors by name."""
        return dict(self._detectors)

    @property
    def states(self) -> dict[str, State]:
        """What each fitted detector has learned: named tensors."""
        return dict(self._states)

    # -- fitting --------------------------------------------------------------------------

    def fit(self, data: Data) -> "Monitor":
        """Learn from in-distribution data, in one pass for all detectors.

        Args:
            data: with labels if a detector needs them (`gradood.methods`).

        Returns:
            This monitor.

        Raises:
            DataError: no data, labels missing or out of range, inputs not finite.
        """
        self.finish(self.accumulate(data))
        return self

    def accumulate(self, data: Data) -> Partials:
        """What some of the fit data contributes; see `merge` and `finish`.

        Shards may be accumulated anywhere and merged in any order.
        """
        total: dict[str, Partial] = {}
        for batch in self._bar(data, "fit", labels=True):
            if len(batch.x) == 0:
                continue
            x = self._ready(batch.x)
            _refuse_nonfinite(x)
            binding = self._bind(x)
            labels = None if batch.labels is None else batch.labels.to(x.device)
            evidence = self._gather(x, binding.fit_reads, labels)
            for name, learner in self._learners().items():
                own = evidence.only(binding.plans[name].fit_reads)
                with _own_terms(x.device):
                    new = learner.accumulate(own)
                total[name] = learner.merge(total[name], new) if name in total else new
        if not total and self._learners():
            raise DataError("fit was given no sample; give in-distribution training data.")
        return total

    def merge(self, a: Partials, b: Partials) -> Partials:
        """What two parts of the fit data contribute together."""
        return {name: lea.merge(a[name], b[name]) for name, lea in self._learners().items()}

    def finish(self, partials: Partials) -> None:
        """Learn from everything accumulated."""
        learners = self._learners()
        if not learners:
            return
        binding = self._binding
        if binding is None:
            raise NotFittedError("finish was called before accumulate on this monitor.")
        with _own_terms():
            self._states = {
                name: learner.finish(partials[name], binding.network, binding.plans[name])
                for name, learner in learners.items()
            }

    # -- scoring --------------------------------------------------------------------------

    def score(self, data: Data) -> Any:
        """Scores of every sample; higher = more out-of-distribution.

        An input with a NaN or infinity, or one whose score comes out so, scores +inf: it never
        reads as in-distribution.

        Args:
            data: a tensor is one batch; any other iterable is a loader. Labels are ignored.

        Returns:
            (samples,) float64 on the CPU, or a mapping of such by detector name.

        Raises:
            NotFittedError: a detector that learns was not fitted.
            DataError: the input has another shape or type than the first batch seen.
        """
        unfitted = [name for name in self._learners() if name not in self._states]
        if unfitted:
            raise NotFittedError(
                f"{', '.join(unfitted)} must be fitted first: monitor.fit(loader)."
            )
        parts: dict[str, list[Tensor]] = {name: [] for name in self._detectors}
        for batch in self._bar(data, "score"):
            for name, scores in self._score(batch.x).items():
                parts[name].append(scores)
        empty = torch.empty(0, dtype=torch.float64)
        out = {name: torch.cat(part) if part else empty for name, part in parts.items()}
        return next(iter(out.values())) if self._bare else out

    def _score(self, x: Tensor) -> dict[str, Tensor]:
        if len(x) == 0:
            return {name: torch.empty(0, dtype=torch.float64) for name in self._detectors}
        x = self._ready(x)
        finite = _finite_rows(x)
        bad = None if bool(finite.all()) else (~finite).cpu()
        if bad is not None:
            x = torch.where(finite.reshape(-1, *[1] * (x.ndim - 1)), x, 0)
        binding = self._bind(x)
        evidence = self._gather(x, binding.reads, None)
        out: dict[str, Tensor] = {}
        for name, detector in self._detectors.items():
            own = evidence.only(binding.plans[name].reads)
            state = self._state(name, own)
            with _own_terms(x.device):
                scores = detector.measure(own, state).detach().to("cpu", torch.float64)
            scores = torch.where(scores.isfinite(), scores, torch.inf)
            out[name] = scores if bad is None else scores.masked_fill(bad, torch.inf)
        return out

    def _state(self, name: str, evidence: Evidence) -> State:
        """The state, on the device the evidence is on (the model may have moved)."""
        state = self._states.get(name, {})
        device = evidence.readings[0].device
        if any(tensor.device != device for tensor in state.values()):
            state = {key: tensor.to(device) for key, tensor in state.items()}
            self._states[name] = state
        return state

    # -- binding --------------------------------------------------------------------------

    def bind(self, x: Tensor) -> Binding:
        """Observe the model on inputs like those to come, and plan what to read.

        Done by itself on the first batch; useful to see errors and warnings early.

        Args:
            x: (batch ≥ 1, …), finite.

        Raises:
            TapError: a detector cannot read this model.
        """
        return self._bind(self._ready(x))

    def _bind(self, x: Tensor) -> Binding:
        if self._binding is None:
            self._binding = bind(self.model, x, self._detectors, head=self._head)
            for caveat in self._binding.caveats:
                warnings.warn(caveat, MeaninglessScoreWarning, stacklevel=4)
        return self._binding

    def _ready(self, x: Tensor) -> Tensor:
        """`x` on the model's device, checked against what the model was observed on."""
        if x.device.type == "meta":
            raise DataError("the input is on the meta device and holds no data; give real tensors.")
        if self._binding is not None:
            example = self._binding.network.example
            same = x.ndim == example.ndim and x.dtype == example.dtype
            if not same or (x.ndim > 1 and x.shape[1] != example.shape[1]):
                raise DataError(f"the input is {shown(x)}; expected {shown(example)} as before.")
        return x.detach().to(device_of(unwrap(self.model)))

    def _gather(self, x: Tensor, reads: Iterable[Read], labels: Tensor | None) -> Evidence:
        assert self._binding is not None
        network = self._binding.network
        try:
            return gather(network, x, reads, labels)
        except RuntimeError as error:
            if isinstance(error, GradoodError | torch.OutOfMemoryError):
                raise
            if x.shape[1:] != network.example.shape[1:]:
                raise DataError(
                    f"the model cannot run on {shown(x)}; it was observed on "
                    f"{shown(network.example)}. Resize or crop the inputs alike."
                ) from error
            raise

    def _learners(self) -> dict[str, Learner]:
        return {n: d for n, d in self._detectors.items() if isinstance(d, Learner)}

    def _bar(self, data: Data, what: str, *, labels: bool = False) -> Iterator[Batch]:
        """The batches of `data`, with a progress bar if there are several."""
        stream = batches(data, labels=labels)
        single = isinstance(data, Tensor) or not self._progress
        if single:
            yield from stream
            return
        total = len(data) if hasattr(data, "__len__") else None  # type: ignore[arg-type]
        with tqdm(total=total, desc=what, unit="batch", leave=False) as bar:
            for batch in stream:
                yield batch
                bar.update()


def _named(detectors: Detectors) -> tuple[dict[str, Detector], bool]:
    if isinstance(detectors, str | Detector):
        detector = _detector(detectors)
        return {detector.name: detector}, True
    if isinstance(detectors, Mapping):
        found = {str(name): _detector(given) for name, given in detectors.items()}
    else:
        found = {}
        for detector in map(_detector, detectors):
            if detector.name in found:
                raise ConfigError(
                    f"two detectors are called {detector.name!r}; give a mapping "
                    f"{{'{detector.name}': …, '{detector.name}-2': …}} to name them."
                )
            found[detector.name] = detector
    if not found:
        raise ConfigError("no detector was given; name at least one, such as 'energy'.")
    return found, False


def _detector(given: object) -> Detector:
    if isinstance(given, str):
        return create(given)
    if isinstance(given, Detector):
        return given
    raise ConfigError(f"{given!r} is no detector; give a registry name or an instance.")


@contextmanager
def _own_terms(device: torch.device | None = None) -> Iterator[None]:
    """A detector's arithmetic keeps no graph and makes ordinary tensors, in any mode outside.

    Args:
        device: whose autocast to leave out; it is for the model, and must not round scores.
    """
    with ExitStack() as stack:
        if device is not None and torch.is_autocast_enabled(device.type):
            stack.enter_context(torch.autocast(device.type, enabled=False))
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        yield


def _finite_rows(x: Tensor) -> Tensor:
    if not x.is_floating_point():
        return torch.ones(len(x), dtype=torch.bool, device=x.device)
    if x.ndim == 1:
        return x.isfinite()
    # A sum meets every NaN and infinity at a tenth of the price; only overflow needs a second look.
    rows = x.flatten(1).sum(1, dtype=torch.promote_types(x.dtype, torch.float32)).isfinite()
    return rows if bool(rows.all()) else x.isfinite().flatten(1).all(1)


def _refuse_nonfinite(x: Tensor) -> None:
    finite = _finite_rows(x)
    if not bool(finite.all()):
        rows = (~finite).nonzero()[:, 0].tolist()
        raise DataError(
            f"{len(rows)} of a batch of {len(x)} fit inputs hold NaN or infinity (row {rows[0]}); "
            "a fit needs clean data: drop or repair them."
        )
