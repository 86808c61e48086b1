"""Observing a classifier: one forward of two rows on a view of it, and what its graph says."""

import logging
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradood.errors import GradoodError, TapError
from gradood.taps._changes import Changes, changes_of
from gradood.taps._escape import escapes
from gradood.taps._recording import Recording
from gradood.taps.head import exact_products
from gradood.taps.isolation import Generators, device_of, left_as_found, only_thread
from gradood.taps.network import Network
from gradood.taps.view import View, Views, held_tensors, is_runnable_itself
from gradood.taps.wrap import logits_of, unwrap

__all__ = ["observe"]

_LOG = logging.getLogger(__name__)
_RUNS = 3
"""Of an observation, until it finds nothing more that must be kept from the model."""


def observe(model: nn.Module, example: Tensor, *, head: str | None = None) -> Network:
    """Run a view of the model on a few rows and note what it does.

    Safe beside other threads that run, train or observe the model.

    Args:
        model: any classifier.
        example: (n ≥ 1, …) inputs on the model's device; the first two are used.
        head: name of the head, or None to search for it.

    Raises:
        TapError: the model returns no logits or other tensors first, mixes the samples of a batch,
            or calls its own modules past its attributes while it is in training mode.

    Cost:
        Two forwards of at most two rows, one of them with its graph, and a copy of the buffers.
        Twice that if the model reaches its own modules through global variables.
    """
    module = unwrap(model)
    device_of(module)  # refuses one without weights
    rows = example[:2] if len(example) > 1 else torch.cat([example, example.flip(-1)])
    views = Views(module)
    try:
        seen = _settled(views, rows)
        escaped = seen.escaped
    except _CopyFailed as failure:
        if not _runs_itself(module, rows):
            raise failure.error from None
        seen, escaped = None, ("the model",)
    if seen is None or escaped:
        _LOG.info("the model is run itself, as no view can follow its calls of %s", escaped[0])
        views = Views(module, direct=True)
        seen = _settled(views, rows)
    _refuse_mixing(module, seen.recording.logits.detach(), seen.alone, len(rows))
    return seen.recording.network(rows[:1].detach().clone(), head, seen.overwrites)


@dataclass(frozen=True, eq=False, slots=True)
class _Run:
    """Two forwards of a view: of one row alone, and of two rows recorded.

    Attributes:
        alone: (1, classes) logits of the first row.
        recording: of both rows.
        overwrites: whether the model changes the tensor that it is given.
        written: (module, attribute) names of tensors that the model changes in place.
        escaped: names of the model's modules that ran in place of the view's.
        changes: what else it changes in the model.
    """

    alone: Tensor
    recording: Recording
    overwrites: bool
    written: tuple[tuple[str, str], ...]
    escaped: tuple[str, ...]
    changes: Changes


def _settled(views: Views, rows: Tensor) -> _Run:
    """A run in which all that the model changes is apart from the model; the views learn what."""
    for _ in range(_RUNS):
        seen = _run(views, rows)
        if seen.escaped:
            return seen
        known = {*views.written, *views.stateful}
        changes = seen.changes
        views.written = tuple(dict.fromkeys((*views.written, *seen.written, *changes.parameters)))
        views.stateful = tuple(dict.fromkeys((*views.stateful, *changes.attributes)))
        if views.direct or not changes.prevented - known:
            break
    if seen.changes.prevented:
        names = ", ".join(sorted(".".join(filter(None, name)) for name in seen.changes.prevented))
        _LOG.warning("the model's forward changes in place, in the model itself: %s", names)
    return seen


def _run(views: Views, rows: Tensor) -> _Run:
    with left_as_found(views) as view:
        tensors = [] if view.direct else _separated(view)
        before = Generators.now(views)
        watched = changes_of(views, view, put_back=only_thread())
        with escapes(view) as escaped, watched as changes:
            given = rows[:1].clone()
            version = given._version
            alone = logits_of(_first_output(view, given))
            overwrites = given._version != version
            changes.note()
            recording = _recorded(views, view, rows)
        views.draws = before.host_drawn
        written = tuple((name, attribute) for name, attribute, tensor in tensors if tensor.changed)
    return _Run(alone, recording, overwrites, written, tuple(escaped), changes)


class _CopyFailed(Exception):
    """A view raised what the model itself may not raise."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def _first_output(view: View, x: Tensor) -> object:
    try:
        return view.module(x)
    except (GradoodError, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:
        if view.direct:
            raise
        raise _CopyFailed(error) from error


def _recorded(views: Views, view: View, rows: Tensor) -> Recording:
    """One forward with its graph, or without where autograd refuses the model."""
    recording = Recording(views, view)
    try:
        with torch.enable_grad():
            recording.run(rows)
    except RuntimeError as error:
        if isinstance(error, GradoodError | torch.cuda.OutOfMemoryError):
            raise
        recording = Recording(views, view, opaque=str(error).split("\n")[0].rstrip("."))
        recording.run(rows)
        _LOG.info("autograd cannot follow the model: %s", error)
    return recording


def _runs_itself(module: nn.Module, rows: Tensor) -> bool:
    """Whether the model can be run where a view of it fails: it may know its modules by id."""
    if not is_runnable_itself(module):
        return False
    try:
        with left_as_found(Views(module, direct=True)) as view:
            view.module(rows[:1].clone())
    except Exception:
        return False
    return True


class _Watched:
    """A tensor of a view, apart from the model's, and whether a forward changed it."""

    def __init__(self, shared: Tensor, own: Tensor) -> None:
        self._shared = shared
        self._own = own
        self._version = own._version

    @property
    def changed(self) -> bool:
        if self._own._version != self._version:
            return True
        try:
            # Through `.data` no version is counted. NaN equals itself here.
            same = (self._own == self._shared) | (self._own != self._own)
            return not bool(same.all())
        except (RuntimeError, NotImplementedError):  # a type without comparison, or without data
            return False


def _separated(view: View) -> list[tuple[str, str, _Watched]]:
    """Give the view buffers of its own, to see which of them a forward changes."""
    watched: list[tuple[str, str, _Watched]] = []
    copies: dict[int, Tensor] = {}
    for name, module in view.module.named_modules():
        for attribute, shared in held_tensors(module):
            view.separate(name, attribute, copies)
            own = copies.get(id(shared))
            if own is not None:
                watched.append((name, attribute, _Watched(shared, own)))
    return watched


def _refuse_mixing(module: nn.Module, logits: Tensor, alone: Tensor, rows: int) -> None:
    if logits.shape[0] != rows or alone.shape[0] != 1:
        raise TapError(
            f"the model gave {logits.shape[0]} rows of logits for {rows} inputs; "
            "row i of the output must belong to sample i."
        )
    scale = logits.abs().max().clamp_min(1e-6)
    tolerance = 1e-3 if logits.dtype in (torch.float32, torch.float64) else 5e-2
    if logits.dtype == torch.float32 and (logits.device.type != "cpu" or not exact_products()):
        tolerance = 2e-2  # TF32, for one batch size and not for the other
    if bool(((logits[:1] - alone).abs().max() / scale) > tolerance):
        norms = [
            name
            for name, layer in module.named_modules()
            if isinstance(layer, nn.modules.batchnorm._NormBase)
            and layer.running_mean is None
            and not isinstance(layer, nn.modules.instancenorm._InstanceNorm)
        ]
        named = f" BatchNorm without running statistics: {', '.join(norms)}." if norms else ""
        raise TapError(
            "the model gives a sample other logits alone than in a batch, even in evaluation mode; "
            f"a score per sample needs independent rows.{named}"
        )
