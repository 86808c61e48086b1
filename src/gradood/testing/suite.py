"""The public contract suite: every property that a detector must have, on every kind of network."""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from gradood.detectors.base import Detector
from gradood.errors import LabelMismatchWarning, MeaninglessScoreWarning, UnknownNameError, suggest
from gradood.testing.case import Case
from gradood.testing.checks import CHECKS, Check
from gradood.testing.networks import ContractNetwork
from gradood.testing.networks import networks as contract_networks

__all__ = ["Outcome", "applicable", "check_detector", "checks", "run_check"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one check ended.

    Attributes:
        check: its name.
        network: the network's name.
        status: whether it passed, or the detector refused the network with a typed error.
        detail: the refusal in words.
    """

    check: str
    network: str
    status: Literal["passed", "refused"]
    detail: str = ""


def checks() -> Mapping[str, Check]:
    """Every check by name, in the order in which they run.

    >>> checks()["any-order"].summary
    'Shuffling the inputs shuffles the scores.'
    """
    return MappingProxyType(CHECKS)


def applicable(detector: Detector) -> tuple[str, ...]:
    """Names of the checks that concern this detector, whichever network it is on."""
    return tuple(n for n, check in CHECKS.items() if detector.must_fit or not check.learners)


def run_check(name: str, case: Case) -> Outcome:
    """Run one check.

    Args:
        name: of the check.
        case: a detector on a network; one may be used for all checks, which saves fits.

    Raises:
        AssertionError: the detector lacks the property; says on which network, and what differed.
        UnknownNameError: no check of that name.
    """
    check = CHECKS.get(name)
    if check is None:
        raise UnknownNameError(f"no check {name!r}; {suggest(name, CHECKS)}")
    where = f"{name}: {case.detector!r} on {case.network.name}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MeaninglessScoreWarning)
        warnings.simplefilter("ignore", LabelMismatchWarning)  # Labels of few samples are random.
        try:
            refusal = None if check.once else case.refusal
            if refusal is None or check.refused:
                check.run(case)
        except AssertionError as error:
            raise AssertionError(f"{where}: {error}") from error
        except Exception as error:
            raise AssertionError(f"{where}: {type(error).__name__}: {error}") from error
    if refusal is None:
        return Outcome(name, case.network.name, "passed")
    return Outcome(name, case.network.name, "refused", str(refusal))


def check_detector(
    detector: Detector,
    *,
    networks: Iterable[str | ContractNetwork] | None = None,
    checks: Iterable[str] | None = None,
) -> tuple[Outcome, ...]:
    """Hold a detector to the contract.

    A detector may refuse a network: its `plan` or its fit raises an error of this library that
    names the detector or a layer. What was refused is in the result, for the caller to expect.

    Args:
        detector: any instance; other options deserve a run of their own.
        networks: names of contract networks, or your own; None for all of them.
        checks: names; None for all that concern the detector.

    Returns:
        One outcome per check and network.

    Raises:
        AssertionError: lists every check that failed, on which network, and what differed.
        UnknownNameError: no network or check of that name.

    Cost:
        Less than a second per network on one core.

    >>> from gradood import MSP
    >>> len(check_detector(MSP(), networks=["mlp"], checks=["any-order", "any-subset"]))
    2
    """
    known = contract_networks()
    chosen = [_network(given) for given in (known.values() if networks is None else networks)]
    names = applicable(detector) if checks is None else tuple(checks)
    outcomes: list[Outcome] = []
    failures: list[AssertionError] = []
    for network in chosen:
        case = Case(detector, network)
        for name in names:
            once = name in CHECKS and CHECKS[name].once
            if once and network is not chosen[0]:
                continue
            try:
                outcomes.append(run_check(name, case))
            except AssertionError as error:
                failures.append(error)
    if failures:
        listed = "\n".join(f"  {error}" for error in failures)
        total = len(failures) + len(outcomes)
        raise AssertionError(
            f"{len(failures)} of {total} contract checks failed:\n{listed}"
        ) from failures[0]
    return tuple(outcomes)


def _network(given: str | ContractNetwork) -> ContractNetwork:
    if isinstance(given, ContractNetwork):
        return given
    known = contract_networks()
    if given not in known:
        raise UnknownNameError(f"no contract network {given!r}; {suggest(given, known)}")
    return known[given]
