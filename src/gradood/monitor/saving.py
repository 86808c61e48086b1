"""A monitor as an artifact, and back: bound to its model, nothing pickled, nothing imported."""

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gradood.artifact import (
    Artifact,
    DetectorRecord,
    FitSummary,
    Manifest,
    ModelRecord,
    Override,
    differences,
    mismatch,
    read,
    write,
)
from gradood.artifact.canary import Canary, compare, synthesize, tolerance
from gradood.artifact.fingerprint import fingerprint
from gradood.artifact.tensors import from_torch, pack, to_torch, unpack
from gradood.bibliography import bibliography
from gradood.calibration.results import Decider
from gradood.detectors.base import Detector, Plan
from gradood.engine.binding import Binding, observed
from gradood.engine.partials import Seen
from gradood.errors import ArtifactError, ConfigError, GradoodError, NotFittedError
from gradood.evidence import LOGITS, Activation, Gradient, gather, read_from_plain, read_to_plain
from gradood.monitor.monitor import Monitor
from gradood.registry import create, detector_class
from gradood.taps import device_of, unwrap

__all__ = ["load", "save"]

_SEED = 0
_KEYS = "fit/keys"


def save(monitor: Monitor, path: str | os.PathLike[str]) -> None:
    """See `Monitor.save`."""
    binding = monitor._reader.binding
    if binding is None:
        raise NotFittedError(
            "nothing was run on this monitor yet, so there is nothing to save: fit, calibrate or "
            "bind it first."
        )
    tensors: dict[str, Tensor] = {}
    detectors = tuple(
        _detector(name, detector, monitor, tensors) for name, detector in monitor.detectors.items()
    )
    stated = set(tensors)
    decider, fitted = monitor._decider, monitor._fitted
    if decider is not None:
        tensors |= decider.tensors()
    if fitted is not None:
        tensors[_KEYS] = fitted.keys.sort().values
    records = {name for record in detectors for name in record.state.values()}
    arrays = tuple(sorted((stated | set(tensors)) - records))
    canary, canary_tensors = _canary(monitor, binding).record()
    tensors |= canary_tensors
    manifest = Manifest(
        torch=str(torch.__version__),
        bare=monitor._bare,
        detectors=detectors,
        combine=monitor.combine,
        model=_model(monitor, binding),
        preprocess=monitor.preprocess,
        calibration=None if decider is None else decider.to_plain(),
        fit=None if fitted is None else _summary(fitted),
        seeds={"canary": _SEED} | _split_seed(decider),
        overrides=monitor._overrides,
        canary=canary,
        arrays=arrays,
    )
    write(os.fspath(path), manifest, {name: from_torch(tensor) for name, tensor in tensors.items()})


def load(
    path: str | os.PathLike[str],
    model: nn.Module,
    *,
    override: str | None = None,
    progress: bool | None = None,
) -> Monitor:
    """A saved monitor, bound to its model again.

    The file is verified to the last bit before anything in it is used; nothing in it is executed
    or imported. Parameters, buffers and structure of the model must be those it was saved with,
    and eight stored inputs must give the stored logits and scores.

    Args:
        path: written by `Monitor.save`.
        model: the classifier it was fitted on; wrapped, compiled or moved to another device as you
            like.
        override: why a differing model is right, if it is; stamped on every result.
        progress: as for `Monitor`.

    Returns:
        The monitor, which gives the scores it gave before: on the same version of torch and kind
        of device to the last bit.

    Raises:
        ModelMismatchError: the model is another one; says what differs.
        ArtifactError: the file is damaged, too new, or names what this gradood does not have.
        DataError: there is no file.

    Cost:
        Reading the file and all parameters, and one forward pass of eight inputs.
    """
    artifact = read(os.fspath(path))
    manifest = artifact.verified.manifest
    tensors = {name: to_torch(stored).clone() for name, stored in artifact.arrays.items()}
    lines = differences(manifest.model.fingerprint, fingerprint(model))
    what = repr(os.fspath(path))
    if lines and not override:
        raise mismatch(lines, what)
    monitor = _monitor(manifest, tensors, model, progress)
    try:
        lines += _restore(monitor, artifact, tensors)
    except ArtifactError:
        raise
    except (GradoodError, RuntimeError) as error:
        if isinstance(error, torch.cuda.OutOfMemoryError):
            raise
        raise mismatch([*lines, f"it cannot be run as before ({error})"], what) from error
    if lines and not override:
        raise mismatch(lines, what)
    if lines and override:
        stamp = Override(what="model mismatch", reason=override, details=tuple(lines))
        monitor._overrides = (*monitor._overrides, stamp)
    return monitor


# -- saving -------------------------------------------------------------------------------


def _detector(
    name: str, detector: Detector, monitor: Monitor, tensors: dict[str, Tensor]
) -> DetectorRecord:
    """The record of one detector; its tensors are added to `tensors`."""
    assert monitor._reader.binding is not None
    if detector_class(detector.name) is not type(detector):
        raise ArtifactError(
            f"{detector!r} cannot be saved, as the registry knows another class as "
            f"{detector.name!r}; register it in the entry-point group gradood.detectors."
        )
    options, more = pack(detector.options(), f"detectors/{name}/options")
    reads, _ = pack([read_to_plain(one) for one in monitor._reader.binding.plans[name].reads], "")
    state = {key: f"detectors/{name}/state/{key}" for key in monitor.states.get(name, {})}
    tensors |= more
    for key, stored in state.items():
        tensors[stored] = monitor.states[name][key]
    known = bibliography().get(detector.paper)
    return DetectorRecord(
        name=name,
        method=detector.name,
        options=options,
        reads=tuple(reads),
        state=state,
        title=detector.title,
        paper=str(known or ""),
        fails_when=detector.fails_when,
    )


def _model(monitor: Monitor, binding: Binding) -> ModelRecord:
    network = binding.network
    sites = [
        one.site.layer
        for plan in binding.plans.values()
        for one in plan.reads
        if isinstance(one, Activation | Gradient)
    ]
    return ModelRecord(
        kind=type(network.module).__name__,
        layers=tuple(dict.fromkeys(sites)),
        head=network.head.layer if network.head_found else monitor._reader.head,
        classes=network.classes,
        input_shape=tuple(network.example.shape[1:]),
        input_dtype=str(network.example.dtype).removeprefix("torch."),
        fingerprint=fingerprint(monitor.model),
    )


def _summary(seen: Seen) -> FitSummary:
    counts = None if seen.counts is None else tuple(seen.counts.tolist())
    return FitSummary(samples=len(seen.keys), class_counts=counts)


def _split_seed(decider: Decider | None) -> dict[str, int]:
    return {} if decider is None or decider.fusion is None else {"split": decider.fusion.seed}


def _canary(monitor: Monitor, binding: Binding) -> Canary:
    """Synthetic inputs in the range of the data seen, or those loaded, and what they give."""
    inputs = monitor._canary
    if inputs is None:
        example = binding.network.example.cpu()
        seen = monitor._fitted or monitor._calibrated
        if seen is None:
            seen = Seen.of(example, torch.zeros(1, dtype=torch.int64))
        inputs = synthesize(example, seen.low, seen.high, seed=_SEED)
    logits, scores = _ran(monitor, inputs)
    return Canary.of(unwrap(monitor.model), inputs, logits, scores, _SEED)


def _ran(monitor: Monitor, inputs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits and scores of the canary inputs."""
    assert monitor._reader.binding is not None
    ready = inputs.to(device_of(unwrap(monitor.model)))
    logits = gather(monitor._reader.binding.network, ready, (LOGITS,), None).logits.cpu()
    return logits, monitor._reader.look(inputs, ()).scores


# -- loading ------------------------------------------------------------------------------


def _monitor(
    manifest: Manifest, tensors: Mapping[str, Tensor], model: nn.Module, progress: bool | None
) -> Monitor:
    """An unbound monitor with the detectors recorded."""
    detectors: dict[str, Detector] = {}
    for record in manifest.detectors:
        try:
            detectors[record.name] = create(record.method, **unpack(record.options, tensors))
        except ArtifactError:
            raise
        except (GradoodError, TypeError) as error:
            raise ArtifactError(
                f"the detector {record.name!r} of this file cannot be made: {error}"
            ) from error
    combine: Any = manifest.combine
    try:
        return Monitor(
            model,
            next(iter(detectors.values())) if manifest.bare else detectors,
            combine=combine,
            head=manifest.model.head,
            preprocess=manifest.preprocess,
            progress=progress,
        )
    except ConfigError as error:
        raise ArtifactError(f"the monitor of this file cannot be made: {error}") from error


def _restore(monitor: Monitor, artifact: Artifact, tensors: Mapping[str, Tensor]) -> list[str]:
    """Bind, take over what was learned and promised; what differs on the canary, in words."""
    manifest = artifact.verified.manifest
    if manifest.canary is None:
        raise ArtifactError("the file has no canary inputs, so its model cannot be recognized.")
    canary = Canary.restore(manifest.canary, tensors)
    example = canary.inputs.to(device_of(unwrap(monitor.model)))
    network = observed(monitor.model, example, head=manifest.model.head)
    plans: dict[str, Plan] = {}
    for record in manifest.detectors:
        reads = tuple(read_from_plain(unpack(one, tensors)) for one in record.reads)
        plans[record.name] = Plan(reads)
        if record.state:
            monitor._reader.states[record.name] = {
                k: tensors[name] for k, name in record.state.items()
            }
    monitor._reader.binding, monitor._restored = Binding(network, plans), True
    if manifest.calibration is not None:
        decider = Decider.from_plain(manifest.calibration, tensors)
        if decider.each.keys() != plans.keys():
            raise ArtifactError("the calibration is of other detectors than the file holds.")
        # Canonical JSON sorts its keys; results come in the order of the monitor.
        each = {name: decider.each[name] for name in plans}
        monitor._decider = replace(decider, each=each)
    monitor._canary = canary.inputs
    if manifest.fit is not None:
        counts = manifest.fit.class_counts
        counted = None if counts is None else torch.tensor(counts)
        if _KEYS not in tensors:
            raise ArtifactError("the file does not say which samples were fitted on.")
        seen = Seen.of(canary.inputs, tensors[_KEYS])
        monitor._fitted = replace(seen, counts=counted)
    monitor._overrides = manifest.overrides
    logits, scores = _ran(monitor, canary.inputs)
    return compare(canary, logits, scores, tolerance(canary, unwrap(monitor.model)))
