"""The contract of a detector."""

import inspect
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import partial as bound
from typing import Any, ClassVar, Generic, TypeVar, final

from torch import Tensor

from gradood.detectors._shared.attributions import Attributed
from gradood.detectors._shared.labels import check_labels
from gradood.detectors._shared.options import answering
from gradood.detectors._shared.partials import Mergeable, merged, partial_tensors
from gradood.detectors._shared.plans import Plan
from gradood.errors import ConfigError, TapError
from gradood.evidence import Evidence, FittedScore, Perturbed, Read, Reads, needs_state
from gradood.registry import resolved
from gradood.taps import LINKS, Link, Network

__all__ = [
    "Detector",
    "Learner",
    "Mergeable",
    "Partial",
    "Plan",
    "State",
    "check_labels",
    "partial_tensors",
    "require",
    "source_module",
]

Partial = Mapping[str, Any]
"""Deprecated: a partial is a mergeable, or a frozen dataclass of mergeables."""
State = Mapping[str, Tensor]
"""Name → tensor: all that a detector has learned; nothing else is saved. Names are lowercase
letters, digits and underscores, beginning with a letter, such as ``layer_0_mean``."""
P = TypeVar("P")

_STATE_NAME = re.compile(r"[a-z][a-z0-9_]*")
_BUILT_IN = re.compile(r"gradood\.detectors\.[a-z]\w*")
_CITED = re.compile(r"\[([a-z]+\d{4}[a-z]+)\]")


class Detector(Attributed, ABC):
    """An out-of-distribution score; higher means more out-of-distribution.

    The constructor only stores and checks its keyword-only options. A detector says what it reads
    of a network and computes one pure score from it; it never sees a model's forward or its data.

    Class attributes (shown by `gradood.methods()` and on the method's page in the docs):
        name: kebab-case name in the registry.
        title: one line on what it measures; the first of the docstring, if not given.
        paper: citation key in `references.bib`; the first of the docstring, if not given.
        needs: what it reads, in words.
        cost: passes and memory, in words.
        fails_when: where the score means little.
        learns: whether it must be fitted by default; such detectors derive from `Learner`.
        links: of which outputs its score is defined: of a softmax over classes, of a sigmoid of
            each class, or of none, as of regressions; if empty, of any where it reads neither
            logits nor head nor labels, else of a softmax.
        rescores: whether it shapes what another score reads, its option `score`; it then runs where
            that does.
        automatic: the option whose value ``"auto"`` is all that a fit is for, if there is one: with
            another value there is nothing to learn, and its plan reads nothing in a fit.
        published: the options of the paper or its released code, where the defaults are others.
        later: options that came after the first file format, with the values that stand for what
            was before; a file leaves them out where they have these, and stays as it was.
    """

    name: ClassVar[str]
    title: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    needs: ClassVar[tuple[str, ...]]
    cost: ClassVar[str]
    fails_when: ClassVar[str]
    learns: ClassVar[bool] = False
    links: ClassVar[tuple[Link, ...]] = ()
    rescores: ClassVar[bool] = False
    automatic: ClassVar[str] = ""
    published: ClassVar[Mapping[str, Any]] = {}
    later: ClassVar[Mapping[str, Any]] = {}
    _written_in: ClassVar[str]

    def __init__(self) -> None:
        """A detector without options."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Take title and paper from the docstring; show built-in ones where users import them."""
        super().__init_subclass__(**kwargs)
        if cls.__module__ != __name__:
            cls.__init__ = answering(cls.__init__)
        if cls.__module__ == __name__:
            return
        first = inspect.cleandoc(vars(cls).get("__doc__") or "").partition("\n")[0]
        cited = _CITED.search(first)
        if cited and not vars(cls).get("paper"):
            cls.paper = cited[1]
        if first and not vars(cls).get("title"):
            cls.title = " ".join(_CITED.sub("", first).replace(" .", ".").split())
        if _BUILT_IN.fullmatch(cls.__module__):
            _shown_as_public(cls)

    @abstractmethod
    def plan(self, network: Network, probe: Tensor) -> Plan:
        """What to read of this network; made once, before the first batch.

        Args:
            network: the observed model, from which default layers are taken.
            probe: (batch ≥ 32, …) inputs to try things on.

        Raises:
            TapError: the model has nothing this detector can read; says why.
        """

    @abstractmethod
    def measure(self, evidence: Evidence, state: State) -> Tensor:
        """Scores (batch,) in float64; a pure function of its arguments.

        Args:
            evidence: what the plan asked for, and nothing else.
            state: from `Learner.finish`; empty for detectors that learn nothing.
        """

    def objective(self, name: str, evidence: Evidence, state: State) -> Tensor:
        """Values (batch,) of a `FittedScore` that the plan steps along, with their graph.

        Args:
            name: of the score.
            evidence: what the score reads, with its graph.
            state: as for `measure`.
        """
        raise TapError(
            f"{self.name} plans a step along {name!r}, and has no objective method to say what "
            "that is; write one."
        )

    def notes(self, state: State) -> tuple[str, ...]:
        """What a fit decided that a reader must know, such as a bound on what is kept.

        Shown by `Monitor.summary` beside the cost, and on the card of a saved detector.

        Args:
            state: learned.
        """
        return ()

    @final
    def bound_reads(self, reads: Reads, state: State) -> Reads:
        """What is read once the state is known: steps along a `FittedScore` have their function.

        Args:
            reads: of the plan.
            state: learned.
        """
        if not any(map(needs_state, reads)):
            return reads
        scores: dict[FittedScore, Any] = {}

        def with_state(read: Read) -> Read:
            if not isinstance(read, Perturbed) or not isinstance(read.perturbation.of, FittedScore):
                return read
            of = read.perturbation.of
            # One function for all readings after one step, which is then taken once.
            return read.with_score(scores.setdefault(of, bound(_objective, self, of.name, state)))

        return reads.each(with_state)

    @final
    @property
    def must_fit(self) -> bool:
        """Whether this one must be fitted, as it learns more than an option that was given."""
        return self.learns and (not self.automatic or getattr(self, self.automatic) == "auto")

    @final
    @property
    def runs_on(self) -> tuple[Link, ...]:
        """Of which outputs the score is defined, with these options."""
        if self.rescores:
            inner = resolved(self.options()["score"]).runs_on
            return tuple(link for link in inner if link != "none")
        if self.links:
            return self.links
        needs = set(getattr(self, "needs", ("logits",)))  # As of a user's own, that says none.
        return ("softmax",) if {"head", "labels", "logits"} & needs else LINKS

    @final
    def options(self) -> dict[str, Any]:
        """The constructor's arguments as they are."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

    @final
    def __repr__(self) -> str:
        defaults = {k: p.default for k, p in inspect.signature(type(self)).parameters.items()}
        given = [f"{k}={v!r}" for k, v in self.options().items() if not _same(v, defaults[k])]
        return f"{type(self).__name__}({', '.join(given)})"


class Learner(Detector, Generic[P]):
    """A detector that learns from in-distribution data: a map, a merge and a finish.

    `P` is what a part of the data comes to: something with `merge` and `tensors` (`Mergeable`), or
    a frozen dataclass whose fields are such or None. It is defined in a module, so that processes
    can send it to one another.

    Class attributes:
        labels: whether `accumulate` needs true class labels.
        held_out: whether its paper fits it on data that the network was not trained on.
        state_shapes: what is learned: names with type and sizes, such as
            ``("mean: float classes features",)``; a file with anything else is refused. Empty if
            not declared. See `gradood.detectors._shared.state_shapes`.
    """

    learns: ClassVar[bool] = True
    labels: ClassVar[bool] = True
    held_out: ClassVar[bool] = False
    state_shapes: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def accumulate(self, evidence: Evidence) -> P:
        """What one batch contributes; merging batches in any order gives the same.

        Args:
            evidence: what the plan asked for in a fit, with labels if there are any.
        """

    @abstractmethod
    def finish(self, partial: P, /, network: Network, plan: Plan) -> State:
        """The learned state; see `State` for its names.

        Args:
            partial: merged over all batches.
            network: to run parts of the model on things built from `partial`.
            plan: what was read.

        Raises:
            DataError: the fit data cannot support this detector; says what is missing.
        """

    @final
    def merge(self, a: P, b: P) -> P:
        """What two sets of batches contribute together."""
        return merged(a, b, self.name)

    @final
    def learned(self, partial: P, network: Network, plan: Plan) -> State:
        """As `finish`, with the names of the state checked.

        Raises:
            DataError: as `finish`.
            ConfigError: a name or a value is none that can be saved.
        """
        state = self.finish(partial, network, plan)
        for name, value in state.items():
            if not isinstance(name, str) or not _STATE_NAME.fullmatch(name):
                raise ConfigError(
                    f"{self.name} names a part of its state {name!r}; expected lowercase letters, "
                    "digits and underscores, beginning with a letter, such as 'layer_0_mean'."
                )
            if not isinstance(value, Tensor):
                raise ConfigError(
                    f"{self.name} has a {type(value).__name__} as {name!r} in its state; expected "
                    "tensors alone, such as torch.tensor(0.5)."
                )
        return state


# Where users import them from, as every built-in detector.
Detector.__module__ = Learner.__module__ = "gradood"


def source_module(kind: type[Detector]) -> str:
    """Name of the module that a detector is written in, also where users import it from another."""
    return vars(kind).get("_written_in", kind.__module__)


def _objective(detector: Detector, name: str, state: State, evidence: Evidence) -> Tensor:
    here = {key: tensor.to(evidence.device) for key, tensor in state.items()}
    return detector.objective(name, evidence, here)


def _shown_as_public(cls: type[Detector]) -> None:
    """Name the package as home of a class, and let its doctest be found where it is written."""
    examples = vars(sys.modules[cls.__module__]).setdefault("__test__", {})
    examples[cls.__name__] = cls
    cls._written_in, cls.__module__ = cls.__module__, "gradood"


def _same(value: object, default: object) -> bool:
    return type(value) is type(default) and value == default


def require(condition: bool, option: str, value: object, expected: str) -> None:
    """Check one constructor option.

    Args:
        condition: whether the value is allowed.
        option: its name.
        value: what was given.
        expected: what would be allowed.

    Raises:
        ConfigError: with all three in the message.
    """
    if not condition:
        raise ConfigError(f"{option}={value!r}; expected {expected}.")
