"""Checks of what a detector says of itself, without any network."""

import copy
import importlib.resources
import inspect
import re

from torch import Tensor

from gradood.detectors.base import Detector, Learner
from gradood.testing.case import Case
from gradood.testing.checks.check import Collection

__all__ = ["DECLARATION"]

DECLARATION = Collection()


@DECLARATION.check(once=True)
def constructor_only_stores(case: Case) -> None:
    """Every argument is kept as given, under its own name, and nothing else is."""
    given = case.detector.options()
    again = type(case.detector)(**given)
    assert vars(again).keys() == given.keys(), (
        f"the constructor leaves {sorted(vars(again))}; its arguments are {sorted(given)}"
    )
    changed = [name for name, value in given.items() if getattr(again, name) is not value]
    assert not changed, f"the constructor does not keep {', '.join(changed)} as given"


@DECLARATION.check(once=True)
def constructor_is_keyword_only(case: Case) -> None:
    """Arguments go by name, and each has a default."""
    for name, parameter in inspect.signature(type(case.detector)).parameters.items():
        assert parameter.kind is parameter.KEYWORD_ONLY, f"{name} is not keyword-only"
        assert parameter.default is not parameter.empty, f"{name} has no default"


@DECLARATION.check(once=True)
def options_round_trip(case: Case) -> None:
    """`options` gives what makes the same detector again, with the same `repr`; so does a copy."""
    detector = case.detector
    for again in (type(detector)(**detector.options()), copy.deepcopy(detector)):
        assert repr(again) == repr(detector), f"{again!r} was made from {detector!r}"
        assert again.options().keys() == detector.options().keys()
    defaults = inspect.signature(type(detector)).parameters
    for name, value in detector.options().items():
        same = isinstance(value, type(defaults[name].default)) and value == defaults[name].default
        if isinstance(value, Tensor) or not same:
            assert f"{name}=" in repr(detector), f"{detector!r} does not show {name}"


@DECLARATION.check(once=True)
def class_is_final(case: Case) -> None:
    """A `@final` class that derives from no other detector: bases between are abstract."""
    kind = type(case.detector)
    assert getattr(kind, "__final__", False), f"{kind.__name__} is not marked @final"
    above = [base for base in kind.__mro__[1:] if issubclass(base, Detector)]
    whole = [base.__name__ for base in above if not inspect.isabstract(base)]
    assert not whole, f"{kind.__name__} derives from {', '.join(whole)}, which can be used itself"
    assert kind.learns == issubclass(kind, Learner), "learns, and not being a Learner, contradict"


@DECLARATION.check(once=True)
def says_what_it_is(case: Case) -> None:
    """Name, title, needs, cost and failures are declared; the docstring cites, explains, costs."""
    kind = type(case.detector)
    # Two methods end in ++ where their papers do.
    kebab = re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*(\+\+)?", kind.name)
    assert kebab, f"{kind.name!r} is not kebab-case"
    for name in ("title", "cost", "fails_when", "paper"):
        assert getattr(kind, name, "").strip(), f"{name} is empty"
    assert kind.title.endswith(".") and "\n" not in kind.title, "title is no one-line sentence"
    assert kind.needs and all(isinstance(need, str) for need in kind.needs), "needs is empty"
    text = inspect.getdoc(kind) or ""
    wanted = [f"[{kind.paper}]", "``", "Cost:", *(["Args:"] if _options(kind) else [])]
    missing = [part for part in wanted if part not in text]
    assert not missing, f"the docstring lacks {', '.join(missing)}"
    unexplained = [name for name in _options(kind) if f"\n    {name}: " not in text]
    assert not unexplained, f"the docstring does not explain {', '.join(unexplained)}"


@DECLARATION.check(once=True)
def cites_a_known_paper(case: Case) -> None:
    """Citation keys of a detector of this package are in its `references.bib`."""
    kind = type(case.detector)
    if kind.__module__.split(".")[0] != "gradood":
        return
    bib = importlib.resources.files("gradood").joinpath("references.bib").read_text("utf-8")
    cited = {kind.paper, *re.findall(r"\[([a-z]+\d{4}\w*)\]", inspect.getdoc(kind) or "")}
    missing = sorted(key for key in cited if f"{{{key}," not in bib)
    assert not missing, f"references.bib has no {', '.join(missing)}"


def _options(kind: type[Detector]) -> list[str]:
    return list(inspect.signature(kind).parameters)
