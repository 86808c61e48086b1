"""What a monitor was made with, and what it has observed, learned and promised since."""

from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypedDict

from torch import nn

from gradood._engine.detector_set import DetectorSet, UnboundSet
from gradood._engine.forms import ModelInput, check_model_input
from gradood._engine.partials import DataSummary
from gradood._engine.preprocessing import check_preprocess
from gradood._engine.roster import Detectors, combination, roster
from gradood.artifact import GuardRecord, Override
from gradood.attribution import KnownFeatures
from gradood.calibration._curve import How
from gradood.calibration._rule import DecisionRule
from gradood.detectors.base import State
from gradood.errors import ConfigError, NotFittedError, UnknownNameError, suggest
from gradood.evidence import FEATURES, LOGITS, Basic
from gradood.monitor._model_snapshot import ModelSnapshot
from gradood.taps import Inputs, Link, Output, check_link, check_output, named_layer, unwrap

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from gradood.calibration.results import Result, Results

    R = TypeVar("R", bound=Result | Results, default=Any)
else:
    from typing import TypeVar

    R = TypeVar("R")

__all__ = ["Keywords", "MonitorOptions", "MonitorState", "R", "kept_reads", "summary"]


class Keywords(TypedDict, total=False):
    """The options of `gradood.Monitor`, for type checkers."""

    combine: How | None
    head: str | None
    features: str | None
    preprocess: Mapping[str, Any] | None
    skip_unusable: bool | Collection[str]
    output: Output | None
    link: Link | None
    model_input: ModelInput | None
    progress: bool | None


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class MonitorOptions:
    """The arguments of a monitor, checked.

    Attributes:
        unbound: the model, and all detectors that were given.
        bare: whether a single detector was given, without a list or mapping.
        preprocess: how images became the inputs, in plain values, or None.
    """

    unbound: UnboundSet
    bare: bool
    preprocess: Mapping[str, Any] | None = None

    @staticmethod
    def of(
        model: nn.Module,
        detectors: Detectors,
        combine: How | None,
        head: str | None,
        preprocess: Mapping[str, Any] | None,
        skip_unusable: bool | Collection[str],
        output: Output | None = None,
        model_input: ModelInput | None = None,
        link: Link | None = None,
        features: str | None = None,
    ) -> "MonitorOptions":
        """The options, from the arguments of `gradood.Monitor`.

        Raises:
            UnknownNameError: no detector of that name.
            ConfigError: see there.
        """
        named, bare = roster(detectors)
        unwrap(model)
        check_output(output)
        check_model_input(model_input)
        check_link(link)
        check_preprocess(preprocess)
        if combine is not None and "combined" in named:
            raise ConfigError(
                "a detector is called 'combined', which with combine= is the decision of all; give "
                "a mapping with another name for it."
            )
        plain = None if preprocess is None else deepcopy(dict(preprocess))
        unbound = UnboundSet(
            model=model,
            detectors=named,
            combine=combination(combine, len(named)),
            head=named_layer(head, features),
            output=output,
            required=_required(named, skip_unusable if detectors != "all" else True),
            preprocess=plain,
            model_input=model_input,
            link=link,
        )
        return MonitorOptions(unbound=unbound, bare=bare, preprocess=plain)

    def preprocess_copy(self) -> dict[str, Any] | None:
        """A copy of `preprocess`."""
        return None if self.preprocess is None else deepcopy(dict(self.preprocess))


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class MonitorState:
    """All that changes in a monitor: one value, which is replaced as a whole.

    Attributes:
        bound: the detectors that score, with what they learned; None before the first batch.
        refit: the detectors as a new fit reads the model, where those that score were loaded and
            only know what a score reads; None otherwise.
        fitted: which samples were fitted on; None for none.
        calibrated: which samples were calibrated on.
        rule: what decides; None before `calibrate`.
        canary: inputs (8, …) of the file this was loaded from, or None.
        overrides: refusals that were overridden.
        fit_model: the model as it was fitted on; None where nothing was learned, or unknown.
        calibration_model: the model as it was calibrated on, likewise.
        guard: how the guard was made whose monitor this is; None for any other.
        known: features of known samples to explain others by; None unless they were asked for.
        notes: on the calibration, for the card.
    """

    bound: DetectorSet | None = None
    refit: DetectorSet | None = None
    fitted: DataSummary | None = None
    calibrated: DataSummary | None = None
    rule: DecisionRule | None = None
    canary: Inputs | None = None
    overrides: tuple[Override, ...] = ()
    fit_model: ModelSnapshot | None = None
    calibration_model: ModelSnapshot | None = None
    guard: GuardRecord | None = None
    known: KnownFeatures | None = None
    notes: tuple[str, ...] = ()

    @property
    def snapshots(self) -> tuple[ModelSnapshot, ...]:
        """The model as it was when this was made of it; the latest first."""
        models = (self.calibration_model, self.fit_model)
        return tuple(dict.fromkeys(model for model in models if model is not None))

    @property
    def learning(self) -> DetectorSet | None:
        """The detectors that a fit starts from; None if they are yet to be bound."""
        if self.bound is None or self.bound.binding.fits or not self.bound.learners:
            return self.bound
        return self.refit

    @property
    def left_out(self) -> dict[str, str]:
        """Why a detector does not run, by name."""
        return {} if self.bound is None else dict(self.bound.left_out)

    def learned(self) -> dict[str, State]:
        """Copies of what each fitted detector has learned, by name."""
        states = {} if self.bound is None else self.bound.states
        return {
            name: {key: tensor.clone() for key, tensor in state.items()}
            for name, state in states.items()
        }

    def with_binding(self, bound: DetectorSet | None) -> "MonitorState":
        """The state with a binding, unless it has one by now.

        Args:
            bound: made for a state without one; None changes nothing.
        """
        if bound is None or self.learning is not None:
            return self
        if self.bound is None:
            return replace(self, bound=bound)
        return replace(self, refit=bound) if bound.binding.fits else self

    def unfitted(self, unbound: UnboundSet) -> Collection[str]:
        """Names of the detectors that learn and were not fitted.

        Args:
            unbound: the detectors, where none are bound yet.
        """
        return unbound.learners if self.bound is None else self.bound.unfitted

    def require_fitted(self, unbound: UnboundSet) -> None:
        """Raise where a detector that learns was not fitted.

        Args:
            unbound: the detectors, where none are bound yet.

        Raises:
            NotFittedError: names them.
        """
        unfitted = self.unfitted(unbound)
        if unfitted:
            raise NotFittedError(
                f"{', '.join(unfitted)} must be fitted first: monitor.fit(loader)."
            )

    @property
    def stamps(self) -> tuple[str, ...]:
        """The refusals that were overridden, each with its reason."""
        return tuple(f"{override.what}: {override.reason}" for override in self.overrides)


def summary(options: MonitorOptions, state: MonitorState) -> str:
    """A monitor in a line: its model, detectors, whether it is fitted, and its promise.

    Args:
        options: of the monitor.
        state: likewise.
    """
    detectors = state.bound or options.unbound
    parts = [type(unwrap(options.unbound.model)).__name__, ", ".join(detectors.detectors)]
    if detectors.learners:
        fitted = state.bound is not None and not state.bound.unfitted
        parts.append("fitted" if fitted else "not fitted")
        if fitted and state.fitted is not None and state.fitted.agreement is not None:
            parts[-1] += f" on labels of which the model gets {state.fitted.agreement.accuracy:.1%}"
    if options.unbound.combine is not None:
        parts.append(f"combined by {options.unbound.combine}")
    if state.rule is None:
        parts.append("not calibrated")
    else:
        promise = state.rule.promise
        within = " within each predicted class" if state.rule.per_class else ""
        samples = f"calibrated on {state.rule.samples} samples"
        parts.append(f"{promise}{within}, {promise.mode}, {samples}")
    return "; ".join(parts)


def _required(names: Collection[str], skip: bool | Collection[str]) -> frozenset[str] | None:
    """Names of the detectors that must not be left out; None for all of them."""
    if isinstance(skip, bool):
        return frozenset() if skip else None
    if isinstance(skip, str) or not isinstance(skip, Collection):
        raise ConfigError(
            f"skip_unusable={skip!r}; expected True, False or a list of detectors' names."
        )
    unknown = sorted(set(map(str, skip)) - set(names))
    if unknown:
        raise UnknownNameError(f"skip_unusable names {unknown[0]!r}; {suggest(unknown[0], names)}")
    return frozenset(names) - set(skip)


def kept_reads(names: Collection[str]) -> tuple[Basic, ...]:
    """The readings that results keep, by name.

    Raises:
        ConfigError: a name of something else.
    """
    known = {"logits": LOGITS, "features": FEATURES}
    if isinstance(names, str) or not set(names) <= set(known):
        raise ConfigError(
            f"keep={names!r}; expected some of {tuple(known)}, as in keep=('logits', 'features')."
        )
    return tuple(known[name] for name in dict.fromkeys(names))
