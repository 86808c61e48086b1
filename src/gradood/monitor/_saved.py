"""A saved monitor: what its file says, and how that is bound to its model again."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from gradood._engine.batches import Batch
from gradood._engine.binding import Binding, observed
from gradood._engine.detector_set import DetectorSet, UnboundSet
from gradood._engine.forms import ModelInput
from gradood._engine.partials import DataSummary
from gradood._engine.roster import combination
from gradood._engine.scoring import score_batch
from gradood.artifact import Artifact, DetectorRecord, Manifest, Override, differences, mismatch
from gradood.artifact.canary import Canary, compare, tolerance
from gradood.artifact.fingerprint import Fingerprint
from gradood.artifact.tensors import to_torch, unpack
from gradood.calibration._curve import How
from gradood.calibration._rule import DecisionRule
from gradood.detectors.base import Detector, Learner, Plan, State
from gradood.errors import ArtifactError, ConfigError, GradoodError
from gradood.evidence import LOGITS, gather, reads_from_plain
from gradood.functional._tensor_shapes import misfits
from gradood.monitor._functions import model_input_of, output_of
from gradood.monitor._model_snapshot import ModelContent, ModelSnapshot
from gradood.monitor._numerics import applied_autocast, numerics
from gradood.monitor._state import MonitorOptions, MonitorState
from gradood.monitor._tensor_versions import TensorVersions
from gradood.registry import create
from gradood.taps import (
    FeatureLayer,
    Inputs,
    Network,
    Output,
    device_of,
    first_matrix,
    unwrap,
)

__all__ = ["KEYS", "Saved", "canary_logits", "canary_scores", "restore"]

KEYS = "fit/keys"
"""Name of the tensor that says which samples were fitted on."""


def restore(
    artifact: Artifact,
    model: nn.Module,
    known: Fingerprint,
    *,
    source: str,
    override: str | None,
    output: Output | None = None,
    model_input: ModelInput | None = None,
) -> tuple[MonitorOptions, MonitorState]:
    """Options and state of a saved monitor, bound to its model again; see `gradood.load`.

    Args:
        artifact: what was read of the file.
        model: the classifier.
        known: its fingerprint.
        source: the file, for messages.
        override: why a differing model is right, or None.
        output: which item of what the model returns holds the logits; None for that of the file.
        model_input: makes the model's inputs of a batch, as when it was saved.
    """
    manifest, what = artifact.verified.manifest, repr(source)
    lines = differences(manifest.model.fingerprint, known)
    if lines and not override:
        raise mismatch(lines, what)
    with _refused(what):
        tensors = {name: to_torch(stored).clone() for name, stored in artifact.arrays.items()}
        saved = Saved.of(manifest, tensors)
    try:
        unbound, state, changes = saved.bound(model, known, output)
        unbound = replace(unbound, model_input=model_input_of(manifest.model, model_input))
    except (ArtifactError, MemoryError, Warning, torch.cuda.OutOfMemoryError):
        raise
    except Exception as error:  # The model's own error, whatever it is.
        raise mismatch([*lines, f"it cannot be run as before ({error})"], what) from error
    lines += changes
    if lines and not override:
        raise mismatch(lines, what)
    if lines and override:
        stamp = Override(what="model mismatch", reason=override, details=tuple(lines))
        state = replace(state, overrides=(*state.overrides, stamp))
    options = MonitorOptions(unbound=unbound, bare=manifest.bare, preprocess=manifest.preprocess)
    return options, state


@contextmanager
def _refused(what: str, *others: type[Exception]) -> Iterator[None]:
    """Whatever a file says that nothing can be made of is an `ArtifactError`, but for `others`."""
    try:
        yield
    except (ArtifactError, MemoryError, Warning, *others):
        raise
    except Exception as error:
        raise ArtifactError(
            f"{what} is refused: its parts do not fit together ({type(error).__name__}: "
            f"{str(error)[:200]}); save it again from the monitor."
        ) from error


def canary_logits(network: Network, inputs: Inputs) -> Tensor:
    """Logits (8, classes) of the canary inputs, on the CPU.

    Args:
        network: the observed model.
        inputs: of eight rows.
    """
    return gather(network, inputs.to(network.device), (LOGITS,), None).logits.cpu()


def canary_scores(bound: DetectorSet, inputs: Inputs) -> Mapping[str, Tensor]:
    """Scores (8,) of the canary inputs, by detector.

    Args:
        bound: the detectors, with what they learned.
        inputs: of eight rows.
    """
    return score_batch(bound, Batch(inputs)).scores


@dataclass(frozen=True, eq=False, slots=True)
class Saved:
    """All that a file says, before it meets a model.

    Attributes:
        manifest: as it was written.
        detectors: by name, with their options.
        plans: what a score reads, by name; not what a fit would.
        states: what was learned, by name.
        rule: what decides, or None.
        canary: inputs with known outputs.
        fitted: which samples were fitted on, or None.
    """

    manifest: Manifest
    detectors: Mapping[str, Detector]
    plans: Mapping[str, Plan]
    states: dict[str, State]
    rule: DecisionRule | None
    canary: Canary
    fitted: DataSummary | None

    @staticmethod
    def of(manifest: Manifest, tensors: Mapping[str, Tensor]) -> "Saved":
        """What manifest and tensors say.

        Raises:
            ArtifactError: they do not fit together, or name what this gradood does not have.
        """
        if manifest.canary is None:
            raise ArtifactError("the file has no canary inputs, so its model cannot be recognized.")
        detectors = {record.name: _created(record, tensors) for record in manifest.detectors}
        plans = {
            record.name: Plan(reads_from_plain([unpack(read, tensors) for read in record.reads]))
            for record in manifest.detectors
        }
        states: dict[str, State] = {
            record.name: {key: tensors[name] for key, name in record.state.items()}
            for record in manifest.detectors
            if record.state
        }
        try:
            combine: Any = manifest.combine
            combination(combine, len(detectors))
        except ConfigError as error:
            raise ArtifactError(f"the monitor of this file cannot be made: {error}") from error
        rule, canary = _rule(manifest, tensors, plans), Canary.restore(manifest.canary, tensors)
        fitted = _fitted(manifest, tensors, canary.inputs)
        return Saved(manifest, detectors, plans, states, rule, canary, fitted)

    def bound(
        self, model: nn.Module, known: Fingerprint, output: Output | None = None
    ) -> tuple[UnboundSet, MonitorState, list[str]]:
        """The monitor's parts on a model, and what differs on the canary, in words.

        Args:
            model: the classifier.
            known: its fingerprint.
            output: as for `output_of`.

        Raises:
            GradoodError, RuntimeError: it cannot be run as before.
        """
        module, record = unwrap(model), self.manifest.model
        head = record.head if record.features is None else FeatureLayer(record.features)
        link: Any = record.link
        output = output_of(record, output)
        # Of several items, what was saved without a choice took the first; the canary tells.
        chosen = first_matrix if output is None else output
        device = device_of(module)
        settings = self.manifest.numerics or numerics(device)
        content = ModelContent(known, settings, TensorVersions(module))
        with applied_autocast(settings, device):
            network = observed(
                model,
                self.canary.inputs.to(device),
                head=head,
                output=chosen,
                link=link or "softmax",
                pairs=record.classes != 1,  # as files from before links have it
            )
            unbound = UnboundSet(
                model=model,
                detectors=self.detectors,
                combine=cast("How | None", self.manifest.combine),
                head=head,
                output=output,
                preprocess=self.manifest.preprocess,
                link=link,
            )
            detectors = DetectorSet.of(Binding(network, self.plans, fits=False), self.detectors)
            self._check_states(network.sizes)
            bound = replace(detectors, states=dict(self.states))
            logits = canary_logits(network, self.canary.inputs)
            with _refused("the file", GradoodError, RuntimeError):
                scores = canary_scores(bound, self.canary.inputs)
        snapshot = ModelSnapshot(network, content, self.canary.inputs, logits)
        state = MonitorState(
            bound=bound,
            fitted=self.fitted,
            rule=self.rule,
            canary=self.canary.inputs,
            overrides=self.manifest.overrides,
            fit_model=snapshot if self.states else None,
            calibration_model=None if self.rule is None else snapshot,
            guard=self.manifest.guard,
            notes=self.manifest.notes,
        )
        allowed = tolerance(self.canary, module)
        return unbound, state, compare(self.canary, logits, scores, allowed)

    def _check_states(self, sizes: Mapping[str, int]) -> None:
        """Raise where a state is not of the types and sizes that its detector makes here."""
        for name, detector in self.detectors.items():
            if not (isinstance(detector, Learner) and detector.must_fit):
                odd = ["it learns nothing"] if self.states.get(name) else []
            elif detector.state_shapes:
                odd = list(misfits(detector.state_shapes, self.states.get(name, {}), sizes))
            else:
                odd = []
            if odd:
                raise ArtifactError(
                    f"what {name!r} learned is not what {detector.name} learns of this model: "
                    f"{'; '.join(odd[:3])}. Fit and save again."
                )


def _created(record: DetectorRecord, tensors: Mapping[str, Tensor]) -> Detector:
    try:
        return create(record.method, **unpack(record.options, tensors))
    except ArtifactError:
        raise
    except (GradoodError, TypeError) as error:
        raise ArtifactError(
            f"the detector {record.name!r} of this file cannot be made: {error}"
        ) from error


def _rule(
    manifest: Manifest, tensors: Mapping[str, Tensor], plans: Mapping[str, Plan]
) -> DecisionRule | None:
    if manifest.calibration is None:
        return None
    rule = DecisionRule.from_plain(manifest.calibration, tensors)
    if rule.each.keys() != plans.keys():
        raise ArtifactError("the calibration is of other detectors than the file holds.")
    how = None if rule.fusion is None else rule.fusion.how
    if how != manifest.combine:
        raise ArtifactError(
            f"the file says combine={manifest.combine!r}, but was calibrated with {how!r}."
        )
    # Canonical JSON sorts its keys; results come in the order of the monitor.
    return replace(rule, each={name: rule.each[name] for name in plans})


def _fitted(
    manifest: Manifest, tensors: Mapping[str, Tensor], inputs: Inputs
) -> DataSummary | None:
    if manifest.fit is None:
        return None
    if KEYS not in tensors:
        raise ArtifactError("the file does not say which samples were fitted on.")
    counts, predicted = (
        None if known is None else torch.tensor(known, device="cpu")
        for known in (manifest.fit.class_counts, manifest.fit.predicted_counts)
    )
    return replace(DataSummary.of(inputs, tensors[KEYS]), counts=counts, predicted=predicted)
