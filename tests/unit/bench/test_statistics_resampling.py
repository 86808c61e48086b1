"""The bootstrap's draws against loops, and its errors against theory."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import average_precision_score

from gradood.metrics import _bootstrap as bootstrap
from gradood.metrics.counts import Scored

NAMES = ("a", "b")


def tied(rng, n, sizes):
    known = {name: rng.normal(0, 1, n).round(1) for name in NAMES}
    unknown = {
        f"set{i}": {name: rng.normal(1 + i, 1.5, m).round(1) for name in NAMES}
        for i, m in enumerate(sizes)
    }
    return Scored.of(known, unknown)


def weights_of(scored, draws, seed):
    """Per draw: weights of the ID samples, and of each set's."""
    for parts in bootstrap._weights(scored, draws, seed):
        for part in parts:
            for row, weights in enumerate(part.known):
                yield weights, {name: given[row] for name, given in part.unknown.items()}


def naive_kept(positive, weights, negative, negative_weights, extra, flagged):
    """The higher, the more positive. The strictest threshold that keeps 95 % of the weight."""
    for threshold in sorted(set(positive), reverse=True):
        kept = sum(w for s, w in zip(positive, weights, strict=True) if s >= threshold)
        if kept >= 0.95 * sum(weights) - 1e-12:
            pairs = zip(negative, negative_weights, strict=True)
            found = sum(w for s, w in pairs if s >= threshold)
            return (found + extra * flagged) / (sum(negative_weights) + extra)
    raise AssertionError("no threshold")


def test_rates_are_those_of_weighted_loops():
    scored = tied(np.random.default_rng(0), 37, (23, 41))
    found = bootstrap.rates(scored, draws=12, seed=5)
    halves = {s: bootstrap._Halves.of(scored, s, 12, 5) for s in ("", "set0", "set1")}
    for draw, (inside, outside) in enumerate(weights_of(scored, 12, 5)):
        for k in range(2):
            known = scored.known[k]
            for name, scores in scored.unknown.items():
                half = halves[name].weight[draw], halves[name].flagged[draw, k]
                expected = naive_kept(-known, inside, -scores[k], outside[name], *half)
                got = found["fpr_ood_at_tpr_id95"][name][draw, k]
                assert got == pytest.approx(expected, abs=1e-12)
                half = halves[""].weight[draw], halves[""].flagged[draw, k]
                expected = naive_kept(scores[k], outside[name], known, inside, *half)
                got = found["fpr_id_at_tpr_ood95"][name][draw, k]
                assert got == pytest.approx(expected, abs=1e-12)


def test_average_precisions_are_those_of_scikit_learn_with_weights():
    scored = tied(np.random.default_rng(1), 60, (45, 30))
    found = bootstrap.average_precisions(scored, draws=6, seed=2)
    for draw, (inside, outside) in enumerate(weights_of(scored, 6, 2)):
        for k in range(2):
            for name, scores in scored.unknown.items():
                both = np.append(scored.known[k], scores[k])
                is_ood = np.repeat([0, 1], [60, scores.shape[1]])
                weights = np.append(inside / inside.mean(), outside[name] / outside[name].mean())
                expected = average_precision_score(is_ood, both, sample_weight=weights)
                assert found["aupr_out"][name][draw, k] == pytest.approx(expected, abs=1e-12)
                expected = average_precision_score(1 - is_ood, -both, sample_weight=weights)
                assert found["aupr_in"][name][draw, k] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("draw", [bootstrap.rates, bootstrap.average_precisions])
def test_draws_depend_on_their_own_scores_and_the_seed_alone(draw, monkeypatch):
    scored = tied(np.random.default_rng(2), 30, (20, 25))
    whole = draw(scored, draws=9, seed=1)
    part = Scored.of({"b": scored.known[1]}, {"set1": {"b": scored.unknown["set1"][1]}})
    alone = draw(part, draws=9, seed=1)
    other = draw(part, draws=9, seed=2)
    monkeypatch.setattr(bootstrap, "_AT_ONCE", 60)  # Two draws at a time,
    monkeypatch.setattr(bootstrap, "_PARTS", 3)  # thrice.
    again = draw(scored, draws=9, seed=1)
    for metric, sets in whole.items():
        assert (alone[metric]["set1"][:, 0] == sets["set1"][:, 1]).all()
        assert (other[metric]["set1"][:, 0] != sets["set1"][:, 1]).any()
        for name, values in sets.items():
            assert again[metric][name] == pytest.approx(values, abs=1e-14)


def test_the_error_of_a_rate_is_that_of_theory():
    """Var = G (1 − G) / m + (g / f)² 0.0475 / n, with the densities at the threshold."""
    rng = np.random.default_rng(3)
    n, m = 6000, 4000
    scored = Scored.of({"a": rng.normal(0, 1, n)}, {"s": {"a": rng.normal(1.5, 1.5, m)}})
    found = bootstrap.rates(scored, draws=600, seed=0)
    t = norm.ppf(0.95)
    share, slope = norm.cdf(t, 1.5, 1.5), norm.pdf(t, 1.5, 1.5) / norm.pdf(t)
    error = np.sqrt(share * (1 - share) / m + slope**2 * 0.0475 / n)
    drawn = found["fpr_ood_at_tpr_id95"]["s"][:, 0]
    assert drawn.std(ddof=1) == pytest.approx(error, rel=0.2)
    t = norm.ppf(0.05, 1.5, 1.5)
    share, slope = norm.sf(t), norm.pdf(t) / norm.pdf(t, 1.5, 1.5)
    error = np.sqrt(share * (1 - share) / n + slope**2 * 0.0475 / m)
    drawn = found["fpr_id_at_tpr_ood95"]["s"][:, 0]
    assert drawn.std(ddof=1) == pytest.approx(error, rel=0.2)


def test_a_rate_of_zero_keeps_the_width_of_jeffreys():
    from scipy.stats import beta

    scored = Scored.of({"a": np.arange(50.0)}, {"s": {"a": np.arange(100.0, 140)}})
    drawn = bootstrap.rates(scored, draws=4000, seed=0)["fpr_ood_at_tpr_id95"]["s"][:, 0]
    assert np.percentile(drawn, 97.5) == pytest.approx(beta.ppf(0.975, 0.5, 40.5), rel=0.1)
