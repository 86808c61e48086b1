"""A monitor saved as an artifact: nothing pickled, and nothing written that could not be read."""

import os

import torch
from torch import Tensor

from gradood._bibliography import bibliography
from gradood._engine.detector_set import DetectorSet, UnboundSet
from gradood._engine.partials import DataSummary
from gradood._engine.roster import USABLE, usable_name
from gradood._engine.rows import row_count
from gradood._io.arguments import type_named
from gradood.artifact import (
    DetectorRecord,
    Fingerprint,
    FitSummary,
    Manifest,
    ModelRecord,
    Override,
    write,
)
from gradood.artifact.canary import Canary, synthesize
from gradood.artifact.fingerprint import fingerprint
from gradood.artifact.tensors import from_torch, pack, to_torch
from gradood.calibration._rule import DecisionRule
from gradood.errors import ArtifactError, ConfigError, ModelMismatchError, NotFittedError
from gradood.evidence import Activation, Gradient, reads_to_plain
from gradood.monitor._functions import named_output
from gradood.monitor._model_snapshot import ModelContent
from gradood.monitor._numerics import applied_autocast, numerics
from gradood.monitor._saved import KEYS, Saved, canary_logits, canary_scores
from gradood.monitor._state import MonitorOptions, MonitorState
from gradood.registry import detector_class
from gradood.taps import FeatureLayer, described, leaves_of

__all__ = ["save"]

_SEED = 0


def save(
    path: str | os.PathLike[str],
    options: MonitorOptions,
    state: MonitorState,
    override: str | None = None,
) -> None:
    """See `gradood.Monitor.save`.

    Args:
        path: of the file.
        options: of the monitor.
        state: likewise.
        override: why a model that changed since is right, or None.
    """
    _check_path(path)
    state.require_fitted(options.unbound)
    bound = state.bound
    if bound is None:
        raise NotFittedError(
            "nothing was run on this monitor yet, so there is nothing to save: fit, calibrate or "
            "bind it first."
        )
    known, overrides = _unchanged(options.unbound, state, override)
    settings = next((s.content.numerics for s in state.snapshots), None)
    tensors: dict[str, Tensor] = {}
    detectors = tuple(_detector(name, bound, tensors) for name in bound.detectors)
    stated, rule, fitted = set(tensors), state.rule, state.fitted
    tensors |= {} if rule is None else rule.tensors()
    tensors |= {} if fitted is None else {KEYS: fitted.keys.sort().values}
    records = {name for record in detectors for name in record.state.values()}
    arrays = tuple(sorted((stated | set(tensors)) - records))
    device = bound.binding.network.device
    with applied_autocast(settings, device):
        canary, canary_tensors = _canary(bound, state).record()
    tensors |= canary_tensors
    bounds = (f"{name} {note}." for name, note in bound.notes())
    manifest = Manifest(
        torch=str(torch.__version__),
        bare=options.bare,
        detectors=detectors,
        combine=options.unbound.combine,
        model=_model(options.unbound, bound, known),
        preprocess=None if options.preprocess is None else dict(options.preprocess),
        calibration=None if rule is None else rule.to_plain(),
        fit=None if fitted is None else _summary(fitted),
        seeds={"canary": _SEED} | _split_seed(rule),
        overrides=overrides,
        notes=tuple(dict.fromkeys((*bounds, *state.notes))),
        canary=canary,
        arrays=arrays,
        numerics=settings or numerics(device),
        guard=state.guard,
    )
    stored = {name: from_torch(tensor) for name, tensor in tensors.items()}

    def loadable(written: Manifest) -> None:
        """Raise unless `gradood.load` would take it; `write` itself compares the tensors."""
        Saved.of(written, {name: to_torch(array) for name, array in stored.items()})

    write(os.fspath(path), manifest, stored, loadable)


def _unchanged(
    unbound: UnboundSet, state: MonitorState, reason: str | None
) -> tuple[Fingerprint, tuple[Override, ...]]:
    """The model's fingerprint, and the overrides; refuses a model that changed without a reason."""
    content = ModelContent.of(unbound.model) if state.snapshots else None
    lines = dict.fromkeys(line for s in state.snapshots for line in s.differences(content))
    if lines and not (reason and reason.strip()):
        raise ModelMismatchError(
            f"the model changed since it was fitted or calibrated on: {'; '.join(lines)}. Fit and "
            "calibrate again; or give the model back what it had; or, if the change is meant and "
            "you answer for it, save with override='the reason', which is stamped on every result."
        )
    known = fingerprint(unbound.model) if content is None else content.fingerprint
    if not lines or not reason:
        return known, state.overrides
    stamp = Override(what="model changed", reason=reason.strip(), details=tuple(lines))
    return known, (*state.overrides, stamp)


def _detector(name: str, bound: DetectorSet, tensors: dict[str, Tensor]) -> DetectorRecord:
    """The record of one detector; its tensors are added to `tensors`."""
    detector, state = bound.detectors[name], bound.states.get(name, {})
    if not usable_name(name):
        raise ArtifactError(
            f"a detector is called {name!r}, as an older file allowed; expected {USABLE}. Make a "
            "new monitor with other names, and fit and calibrate it."
        )
    if detector_class(detector.name) is not type(detector):
        raise ArtifactError(
            f"{detector!r} cannot be saved, as the registry knows another class as "
            f"{detector.name!r}; register it in the entry-point group gradood.detectors."
        )
    given = detector.options().items()
    said = {k: v for k, v in given if k not in detector.later or v != detector.later[k]}
    options, more = pack(said, f"detectors/{name}/options")
    reads, _ = pack(reads_to_plain(bound.binding.plans[name].reads), "")
    names = {key: f"detectors/{name}/state/{key}" for key in state}
    tensors |= more
    tensors |= {names[key]: tensor for key, tensor in state.items()}
    known = bibliography().get(detector.paper)
    return DetectorRecord(
        name=name,
        method=detector.name,
        options=options,
        reads=tuple(reads),
        state=names,
        title=detector.title,
        paper=str(known or ""),
        fails_when=detector.fails_when,
    )


def _model(unbound: UnboundSet, bound: DetectorSet, known: Fingerprint) -> ModelRecord:
    network = bound.binding.network
    leaves = leaves_of(network.example)
    first, several = next(iter(leaves.values())), not isinstance(network.example, Tensor)
    sites = [
        read.site.layer
        for name in bound.detectors
        for read in bound.binding.plans[name].reads
        if isinstance(read, Activation | Gradient)
    ]
    return ModelRecord(
        kind=type(network.module).__name__,
        layers=tuple(dict.fromkeys(sites)),
        head=network.head.layer if network.head_found else _named(unbound.head),
        classes=network.classes,
        input_shape=tuple(first.shape[1:]),
        input_dtype=str(first.dtype).removeprefix("torch."),
        fingerprint=known,
        output=named_output(unbound.output),
        link=unbound.link,
        inputs={n: described(x) for n, x in leaves.items()} if several else None,
        model_input=None if unbound.model_input is None else True,
        features=unbound.head.name if isinstance(unbound.head, FeatureLayer) else None,
    )


def _named(head: str | FeatureLayer | None) -> str | None:
    return None if isinstance(head, FeatureLayer) else head


def _check_path(path: object) -> None:
    """Refuse what names no file.

    Raises:
        ConfigError: it is of another type.
    """
    if not isinstance(path, str | os.PathLike):
        raise ConfigError(f"path is {type_named(path)}; expected the name of a file.")


def _summary(fitted: DataSummary) -> FitSummary:
    counts, predicted = (
        None if known is None else tuple(known.tolist())
        for known in (fitted.counts, fitted.predicted)
    )
    return FitSummary(samples=len(fitted.keys), class_counts=counts, predicted_counts=predicted)


def _split_seed(rule: DecisionRule | None) -> dict[str, int]:
    return {} if rule is None or rule.fusion is None else {"split": rule.fusion.seed}


def _canary(bound: DetectorSet, state: MonitorState) -> Canary:
    """Synthetic inputs in the range of the data seen, or those loaded, and what they give."""
    inputs = state.canary
    if inputs is None:
        example = bound.binding.network.example.cpu()
        data = state.fitted or state.calibrated
        if data is None:
            data = DataSummary.of(
                example, torch.zeros(row_count(example), dtype=torch.int64, device="cpu")
            )
        inputs = synthesize(example, *data.bounds(example), seed=_SEED)
    network = bound.binding.network
    logits, scores = canary_logits(network, inputs), canary_scores(bound, inputs)
    return Canary.of(network.module, inputs, logits, scores, _SEED)
