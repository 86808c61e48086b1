"""Checks of how scores are attributed to the units of the features."""

from gradood.attribution import explained, read_evidence, unexplained
from gradood.attribution._rules import RULES
from gradood.testing.case import Case
from gradood.testing.checks.check import Collection

__all__ = ["ATTRIBUTION"]

ATTRIBUTION = Collection()

_EXACT = 1e-6


@ATTRIBUTION.check(once=True)
def says_how_it_is_attributed(case: Case) -> None:
    """`attribution` names a rule and says what it means here, or says why there is none.

    A detector that leaves it empty is not explained, and nothing else is asked of it.
    """
    kind = type(case.detector)
    if not kind.attribution:
        return
    rule, _, meaning = kind.attribution.partition(":")
    known = (*RULES, "none")
    assert rule in known, f"attribution is {kind.attribution!r}; expected one of {known}, and ': …'"
    assert meaning.strip(), f"attribution says nothing after {rule!r}"


@ATTRIBUTION.check()
def contributions_sum_to_the_score(case: Case) -> None:
    """Units and parts sum to the score less the reference value, to 1e-6 of it."""
    bound = case.monitor._session.state.bound
    assert bound is not None
    if unexplained(bound) or not bound.binding.network.head_found:
        return
    evidence = read_evidence(bound, case.x)
    reference = evidence.features.double()[:4].mean(0)
    if not bool(reference.isfinite().all()):
        return
    each, refused = explained(bound, evidence, reference)
    if refused:
        return
    (found,) = each.values()
    sound = found.score.isfinite() & found.gap.isfinite()
    gaps = found.relative_gap[sound]
    moved = (found.score - found.reference).abs()[sound]
    close = (gaps <= _EXACT) | (found.gap[sound].abs() <= 1e-12 * found.score.abs()[sound])
    assert bool(close.all()), f"a gap of {gaps.max():.1e} of {moved.min():.3g}"
    assert found.units.shape == evidence.features.shape, "units are not those of the features"
