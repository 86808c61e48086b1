"""Observing a classifier: one forward of two rows on a view of it, and what its graph says."""

import logging
from dataclasses import dataclass, replace
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from gradood.errors import TapError
from gradood.taps._changes import Changes, changes_of
from gradood.taps._escape import escapes
from gradood.taps._failures import is_model_failure, model_failure
from gradood.taps._mixing import refuse_mixing
from gradood.taps._output import by_values, mistaken
from gradood.taps._padding import Padding, tried_padding
from gradood.taps._recording import Recording
from gradood.taps.arguments import Arguments, Inputs, called, joined
from gradood.taps.attended import shifted
from gradood.taps.feature_layer import FeatureLayer
from gradood.taps.isolation import Generators, device_of, left_as_found, only_thread
from gradood.taps.network import Network
from gradood.taps.view import View, Views, held_tensors, is_runnable_itself
from gradood.taps.wrap import Link, Output, logits_of, unwrap

__all__ = ["observe"]

_LOG = logging.getLogger(__name__)
_ROWS = 32
"""On which logits are told from probabilities, where two rows do not."""
_RUNS = 3
"""Of an observation, until it finds nothing more that must be kept from the model."""


def observe(
    model: nn.Module,
    example: Inputs,
    *,
    head: str | FeatureLayer | None = None,
    output: Output | None = None,
    link: Link = "softmax",
    pairs: bool = False,
) -> Network:
    """Run a view of the model on a few rows and note what it does.

    Safe beside other threads that run, train or observe the model.

    Args:
        model: any classifier.
        example: inputs of n ≥ 1 rows on the model's device; the first two are run.
        head: name of the head, the layer that gives the features, or None to search.
        output: which item of what the model returns holds the logits, or None for the usual ones.
        link: what makes probabilities of the outputs.
        pairs: whether one logit z under a softmax is read as the two (0, z).

    Raises:
        TapError: the named layer gives no features, a tensor of the model holds no data, or the
            model returns no logits, or several items that could be, mixes the samples of a batch,
            draws random numbers, or calls its own modules past its attributes while it is in
            training mode.
        DataError: the model raises on the example.

    Cost:
        Two forwards of at most two rows, one of them with its graph, and a copy of the buffers.
        Twice that if the model reaches its own modules through global variables. One more, of at
        most 32 rows, where two do not tell logits from probabilities; two of one row, where a mask
        tells padding.
    """
    module = unwrap(model)
    _require_data(module)
    rows = example[:2] if len(example) > 1 else _two_of(example)
    views = Views(module)
    views.observing = True
    try:
        seen = _settled(views, rows, output)
        escaped = seen.escaped
    except _CopyFailed as failure:
        if not _runs_itself(module, rows):
            raise model_failure(failure.error, rows) from failure.error
        seen, escaped = None, ("the model",)
    if seen is None or escaped:
        _LOG.info("the model is run itself, as no view can follow its calls of %s", escaped[0])
        views = Views(module, direct=True)
        seen = _settled(views, rows, output)
    views.observing = False
    refuse_mixing(views, seen.recording.logits.detach(), seen.alone, rows, output)
    first = rows[:1].detach().clone()
    network = seen.recording.network(first, head, seen.overwrites, link=link, pairs=pairs)
    network = _with_padding(network, tried_padding(views, example, output))
    if link == "none" or network.cautions or by_values(seen.recording.logits, few=True) is None:
        return network
    what = by_values(_more_logits(network, example))
    return network if what is None else replace(network, cautions=(mistaken(what),))


def _with_padding(network: Network, padding: Padding) -> Network:
    """The network, with what padding showed of it."""
    layers = dict(network.layers)
    for name, positions in padding.positions.items():
        if name in layers and layers[name].channels == positions:
            layers[name] = replace(layers[name], channels=3 - positions)
    cautions = () if padding.caution is None else (padding.caution,)
    return replace(
        network,
        layers=layers,
        cautions=(*network.cautions, *cautions),
        unmasked=padding.unmasked,
    )


def _more_logits(network: Network, example: Inputs) -> Tensor:
    """Logits of some rows of the example, and of shifted copies where these are few."""
    rows = example[:_ROWS]
    shifts = range(-(-_ROWS // len(rows)))
    copies = [shifted(rows, shift) if shift else rows for shift in shifts]
    with left_as_found(network.views) as view:
        return network.logits_of(called(view.module, joined(copies)[:_ROWS].clone())).detach()


def _two_of(example: Inputs) -> Inputs:
    """One input, and another that is made of it."""
    other = example.flip(-1) if isinstance(example, Tensor) else shifted(example, 1)
    return joined([example, other])


def _require_data(module: nn.Module) -> None:
    device_of(module)  # refuses one without weights
    if any(hasattr(each, "_hf_hook") for each in module.modules()):
        return  # accelerate loads each layer when it runs
    tensors = list(chain(module.named_parameters(), module.named_buffers()))
    lazy = [name for name, tensor in tensors if is_lazy(tensor)]
    if lazy:
        raise TapError(
            f"{len(lazy)} tensors of the model have no shape before it has run, such as "
            f"{lazy[0]!r} of a lazy layer; expected a model that can run: run it on one input, or "
            "load its weights first."
        )
    empty = [name for name, tensor in tensors if tensor.device.type == "meta"]
    if empty:
        raise TapError(
            f"{len(empty)} tensors of the model are on the meta device and hold no data, such as "
            f"{empty[0]!r}; expected a model that can run: load its weights first."
        )


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


def _settled(views: Views, rows: Inputs, output: Output | None) -> _Run:
    """A run in which all that the model changes is apart from the model; the views learn what."""
    seen = _run(views, rows, output)
    for _ in range(_RUNS):
        if seen.escaped:
            return seen
        if views.direct:
            break
        changes, known = seen.changes, {*views.written, *views.stateful}
        views.written = tuple(dict.fromkeys((*views.written, *seen.written, *changes.parameters)))
        views.stateful = tuple(dict.fromkeys((*views.stateful, *changes.attributes)))
        if not changes.prevented - known:
            break
        seen = _run(views, rows, output)
    if seen.changes.prevented:
        names = ", ".join(sorted(".".join(filter(None, name)) for name in seen.changes.prevented))
        _LOG.warning("the model's forward changes in place, in the model itself: %s", names)
    return seen


def _run(views: Views, rows: Inputs, output: Output | None) -> _Run:
    with left_as_found(views) as view:
        tensors = [] if view.direct else _separated(view)
        before = Generators.now(views)
        watched = changes_of(views, view, put_back=only_thread())
        with escapes(view) as escaped, watched as changes:
            given = rows[:1].clone()
            version = _versions(given)
            alone = logits_of(_first_output(view, given), output)
            overwrites = _versions(given) != version
            changes.note()
            recording = _recorded(views, view, rows, output)
        views.draws = before.host_drawn
        written = tuple((name, attribute) for name, attribute, tensor in tensors if tensor.changed)
    return _Run(alone, recording, overwrites, written, tuple(escaped), changes)


def _versions(inputs: Inputs) -> list[int]:
    """How often each tensor was written to."""
    leaves = inputs.leaves.values() if isinstance(inputs, Arguments) else (inputs,)
    return [leaf._version for leaf in leaves]


class _CopyFailed(Exception):
    """A view raised what the model itself may not raise."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def _first_output(view: View, x: Inputs) -> object:
    try:
        return called(view.module, x)
    except Exception as error:
        if not is_model_failure(error):
            raise
        if view.direct:
            raise model_failure(error, x) from error
        raise _CopyFailed(error) from error


def _recorded(views: Views, view: View, rows: Inputs, output: Output | None) -> Recording:
    """One forward with its graph, or without where autograd refuses the model."""
    recording = Recording(views, view, output)
    try:
        with torch.enable_grad():
            recording.run(rows)
    except RuntimeError as error:
        if not is_model_failure(error):
            raise
        recording = Recording(views, view, output, opaque=str(error).split("\n")[0].rstrip("."))
        try:
            recording.run(rows)
        except RuntimeError as again:
            if not is_model_failure(again):
                raise
            raise model_failure(again, rows) from again
        _LOG.info("autograd cannot follow the model: %s", error)
    return recording


def _runs_itself(module: nn.Module, rows: Inputs) -> bool:
    """Whether the model can be run where a view of it fails: it may know its modules by id."""
    if not is_runnable_itself(module):
        return False
    try:
        with left_as_found(Views(module, direct=True)) as view:
            called(view.module, rows[:1].clone())
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
