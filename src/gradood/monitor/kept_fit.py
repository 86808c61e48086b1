"""The partials of a fit in one file, without a pickle: kept, and merged with more data later."""

import os
from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256

import torch
from torch import Tensor

from gradood._engine.detector_set import DetectorSet
from gradood._engine.partials import DataSummary, Partials, require_partials
from gradood._io.canonical import encode
from gradood._io.hashing import tensors_digest
from gradood.artifact import PartialsManifest, PartialsRecord, read_partials, write_partials
from gradood.artifact.tensors import from_torch, pack, to_torch
from gradood.detectors._shared.saved_partials import loaded_partial, saved_partial
from gradood.detectors.base import Detector
from gradood.errors import ArtifactError, ConfigError, DataError, GradoodError, NotFittedError
from gradood.evidence import reads_to_plain
from gradood.monitor.monitor import Monitor

__all__ = ["load_partials", "save_partials"]

_SUMMARY = "summary"


def save_partials(path: str | os.PathLike[str], monitor: Monitor, partials: Partials) -> int:
    """Keep what a fit accumulated in one file; `load_partials` reads it.

    Args:
        path: a safetensors file; replaced atomically if it exists.
        monitor: that accumulated it.
        partials: from `Monitor.accumulate` or `Monitor.merge`.

    Returns:
        Bytes of the file.

    Raises:
        ConfigError: a detector accumulates what cannot be made of tensors again.
        NotFittedError: the monitor has not seen its model run.
        OSError: the file cannot be written; what was there is unchanged.

    Cost:
        The size of the partials: for a detector that keeps samples, that of the samples.
    """
    require_partials(partials)
    bound = _learning(monitor)
    tensors: dict[str, Tensor] = {}
    records: list[PartialsRecord] = []
    for name, partial in partials.items():
        learner = bound.learners.get(name)
        if learner is None:
            raise DataError(f"the partials are of {name!r}, which is no detector of this monitor.")
        own = {
            key: (f"partials/{name}/{key}", tensor)
            for key, tensor in saved_partial(learner, partial).items()
        }
        tensors |= dict(own.values())
        records.append(_record(name, bound, {key: place for key, (place, _) in own.items()}))
    summary = {} if partials.seen is None else partials.seen.tensors()
    tensors |= {f"{_SUMMARY}/{key}": tensor for key, tensor in summary.items()}
    seen = partials.seen
    manifest = PartialsManifest(
        torch=str(torch.__version__),
        detectors=tuple(records),
        refused=partials.refused,
        models=tuple(sorted(partials.models)),
        samples=0 if seen is None else len(seen.keys),
        summary=None if seen is None else {key: f"{_SUMMARY}/{key}" for key in summary},
    )
    stored = {name: from_torch(tensor) for name, tensor in tensors.items()}
    return write_partials(os.fspath(path), manifest, stored)


def load_partials(path: str | os.PathLike[str], monitor: Monitor) -> Partials:
    """What a fit accumulated, read of a file; it merges and learns as it did, to the last bit.

    Nothing in the file is executed, imported or looked up by name: types are those of the
    monitor's own detectors.

    Args:
        path: written by `save_partials`.
        monitor: with the same detectors, which has seen its model run (`Monitor.bind`).

    Raises:
        ArtifactError: the file is damaged, too new, holds no partials, or what does not fit them.
        DataError: there is no file.
        ConfigError: its detectors have other options, or read the model elsewhere.
        NotFittedError: the monitor has not seen its model run.
    """
    source = os.fspath(path)
    bound = _learning(monitor)
    manifest, arrays = read_partials(source)
    _compare(source, manifest, bound)
    device = bound.binding.network.device
    try:
        tensors = {name: to_torch(stored).clone() for name, stored in arrays.items()}
        parts = {
            record.name: loaded_partial(
                bound.learners[record.name],
                {key: tensors[name].to(device) for key, name in record.tensors.items()},
            )
            for record in manifest.detectors
        }
        summary = {key: tensors[name] for key, name in (manifest.summary or {}).items()}
        seen = None if manifest.summary is None else DataSummary.from_tensors(summary)
        if manifest.samples != (0 if seen is None else len(seen.keys)):
            raise DataError(f"it says {manifest.samples} samples, and holds others.")
    except (GradoodError, RuntimeError, KeyError) as error:
        raise ArtifactError(f"{source!r} is refused: {error}") from error
    return Partials(parts, seen, manifest.refused, frozenset(manifest.models))


def _learning(monitor: Monitor) -> DetectorSet:
    bound = monitor._session.state.learning
    if bound is None:
        raise NotFittedError(
            "the monitor has not seen its model run, so it is not known what a fit reads: call "
            "monitor.bind(inputs) first."
        )
    return bound


def _record(name: str, bound: DetectorSet, tensors: Mapping[str, str]) -> PartialsRecord:
    detector = bound.detectors[name]
    return PartialsRecord(
        name=name,
        method=detector.name,
        options_sha256=_options_digest(detector),
        reads=tuple(reads_to_plain(bound.binding.plans[name].fit_reads)),
        tensors=tensors,
    )


def _options_digest(detector: Detector) -> str:
    plain, tensors = pack(detector.options(), "options")
    text = f"{encode(plain)}\n{tensors_digest(tensors)}"
    return sha256(text.encode()).hexdigest()


def _compare(source: str, manifest: PartialsManifest, bound: DetectorSet) -> None:
    """Refuse partials of other detectors, options or readings than those of a monitor."""
    given = {record.name: record for record in manifest.detectors}
    known = given.keys() | manifest.refused.keys()
    odd = sorted(known ^ set(bound.learners))
    if odd:
        raise ConfigError(
            f"{source!r} is of the detectors {', '.join(sorted(known)) or 'none'}, and the monitor "
            f"has {', '.join(bound.learners) or 'none that learn'}: {odd[0]!r} is in one alone."
        )
    for name, record in given.items():
        own = replace(_record(name, bound, {}), tensors=record.tensors)
        reads = [encode(list(one.reads)) for one in (own, record)]
        compared = {
            "method": own.method == record.method,
            "options": own.options_sha256 == record.options_sha256,
            "what it reads of the model": reads[0] == reads[1],
        }
        what = " and ".join(part for part, same in compared.items() if not same)
        if what:
            raise ConfigError(
                f"{source!r} was accumulated by another {name!r}: {what} differ. Merge with the "
                "detector file of that fit."
            )
