"""The metrics against scikit-learn, against double loops, and by hand."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from gradood import metrics
from gradood.errors import DataError

ALL = [
    metrics.auroc,
    metrics.aupr_in,
    metrics.aupr_out,
    metrics.fpr_ood_at_tpr_id95,
    metrics.fpr_id_at_tpr_ood95,
]

# Few distinct values, so that most samples tie.
TIED = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=60)
SMOOTH = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60)
EXTREME = st.lists(st.sampled_from([-math.inf, -1.0, 0.0, 2.5, math.inf]), min_size=1, max_size=40)


def naive_auroc(id_scores, ood_scores):
    wins = 0.0
    for low in id_scores:
        for high in ood_scores:
            wins += 1.0 if high > low else 0.5 if high == low else 0.0
    return wins / (len(id_scores) * len(ood_scores))


def naive_average_precision(positive, negative):
    """The higher, the more positive."""
    total, before = 0.0, 0
    for threshold in sorted(set(positive) | set(negative), reverse=True):
        found = sum(score >= threshold for score in positive)
        false = sum(score >= threshold for score in negative)
        total += (found - before) / len(positive) * found / (found + false)
        before = found
    return total


def naive_fpr(positive, negative):
    """The higher, the more positive; the strictest threshold that keeps 95 of 100."""
    for threshold in sorted(set(positive), reverse=True):
        if 100 * sum(score >= threshold for score in positive) >= 95 * len(positive):
            return sum(score >= threshold for score in negative) / len(negative)
    raise AssertionError("no threshold")


def naive(id_scores, ood_scores):
    low, high = [-score for score in id_scores], [-score for score in ood_scores]
    return metrics.Summary(
        auroc=naive_auroc(id_scores, ood_scores),
        aupr_in=naive_average_precision(low, high),
        aupr_out=naive_average_precision(ood_scores, id_scores),
        fpr_ood_at_tpr_id95=naive_fpr(low, high),
        fpr_id_at_tpr_ood95=naive_fpr(ood_scores, id_scores),
    )


def close(ours, theirs):
    return dataclasses.asdict(ours) == pytest.approx(dataclasses.asdict(theirs), abs=1e-12)


@given(TIED | SMOOTH | EXTREME, TIED | SMOOTH | EXTREME)
def test_equal_to_double_loops(id_scores, ood_scores):
    assert close(metrics.summary(id_scores, ood_scores), naive(id_scores, ood_scores))


@given(st.one_of(st.tuples(TIED, TIED), st.tuples(SMOOTH, SMOOTH)))
def test_equal_to_scikit_learn(pair):
    id_scores, ood_scores = pair
    scores = np.array(id_scores + ood_scores)
    is_ood = np.repeat([0, 1], [len(id_scores), len(ood_scores)])
    ours = metrics.summary(id_scores, ood_scores)
    assert ours.auroc == pytest.approx(roc_auc_score(is_ood, scores), abs=1e-12)
    assert ours.aupr_out == pytest.approx(average_precision_score(is_ood, scores), abs=1e-12)
    assert ours.aupr_in == pytest.approx(average_precision_score(1 - is_ood, -scores), abs=1e-12)


def test_equal_to_scikit_learn_on_many_rounded_scores():
    rng = np.random.default_rng(0)
    id_scores, ood_scores = rng.normal(0, 1, 4000).round(1), rng.normal(1, 2, 3001).round(1)
    scores, is_ood = np.concatenate([id_scores, ood_scores]), np.repeat([0, 1], [4000, 3001])
    ours = metrics.summary(id_scores, ood_scores)
    assert ours.auroc == pytest.approx(roc_auc_score(is_ood, scores), abs=1e-12)
    assert ours.aupr_out == pytest.approx(average_precision_score(is_ood, scores), abs=1e-12)
    assert ours.aupr_in == pytest.approx(average_precision_score(1 - is_ood, -scores), abs=1e-12)


@given(TIED | EXTREME, TIED | EXTREME)
def test_only_the_order_matters_and_exchanging_the_sets_mirrors(id_scores, ood_scores):
    ours = metrics.summary(id_scores, ood_scores)
    bent = metrics.summary(np.arctan(id_scores), np.arctan(ood_scores))
    assert close(ours, bent)
    swapped = metrics.summary(-np.array(ood_scores), -np.array(id_scores))
    assert swapped.auroc == pytest.approx(ours.auroc, abs=1e-12)
    assert swapped.aupr_in == pytest.approx(ours.aupr_out, abs=1e-12)
    assert swapped.fpr_ood_at_tpr_id95 == ours.fpr_id_at_tpr_ood95


@pytest.mark.parametrize("metric", ALL)
def test_each_metric_is_its_field_of_the_summary(metric):
    id_scores, ood_scores = [0.0, 1.0, 1.0, 2.0, math.inf], [1.0, 2.0, 2.0, 3.0]
    value = metric(id_scores, ood_scores)
    assert type(value) is float
    assert value == getattr(metrics.summary(id_scores, ood_scores), metric.__name__)


def test_perfect_reversed_and_constant_scores():
    low, high = [1.0, 2.0, 3.0], [4.0, 5.0]
    assert metrics.summary(low, high) == metrics.Summary(1.0, 1.0, 1.0, 0.0, 0.0)
    assert metrics.auroc(high, low) == 0.0
    assert metrics.fpr_ood_at_tpr_id95(high, low) == metrics.fpr_id_at_tpr_ood95(high, low) == 1.0
    flat = metrics.summary([7.0] * 3, [7.0] * 2)
    assert flat == metrics.Summary(0.5, 0.6, 0.4, 1.0, 1.0)


def test_at_least_95_percent_is_kept_where_the_float_0_95_would_be_off():
    for n in range(1, 400):
        kept = -(-95 * n // 100)
        scores = np.arange(n, dtype=float)
        # One OOD sample on the threshold, one just above it.
        ood = [kept - 1.0, kept - 0.5]
        assert metrics.fpr_ood_at_tpr_id95(scores, ood) == 0.5
        assert metrics.fpr_id_at_tpr_ood95(np.negative(ood), -scores) == 0.5


def test_two_conventions_differ():
    id_scores, ood_scores = [0.0] * 90 + [10.0] * 10, [5.0] * 100
    assert metrics.fpr_ood_at_tpr_id95(id_scores, ood_scores) == 1.0
    assert metrics.fpr_id_at_tpr_ood95(id_scores, ood_scores) == 0.1


@pytest.mark.parametrize(
    "kind",
    [
        list,
        tuple,
        np.array,
        lambda s: np.array(s, dtype=np.int32),
        torch.tensor,
        lambda s: torch.tensor(s, dtype=torch.bfloat16),
        lambda s: torch.tensor(s, dtype=torch.float16, requires_grad=True),
        lambda s: torch.tensor(s).repeat_interleave(2)[::2],
        lambda s: [np.float32(x) for x in s],
    ],
)
def test_any_container_and_dtype(kind):
    id_scores, ood_scores = [0.0, 1.0, 4.0], [1.0, 2.0, 8.0]
    expected = metrics.summary(id_scores, ood_scores)
    assert metrics.summary(kind(id_scores), kind(ood_scores)) == expected


@pytest.mark.gpu
def test_scores_on_a_gpu():
    scores = torch.arange(4.0)
    assert metrics.auroc(scores.cuda(), scores.cuda() + 1) == metrics.auroc(scores, scores + 1)


def test_input_is_not_changed():
    scores = np.array([3.0, 1.0, 2.0])
    metrics.summary(scores, scores)
    assert scores.tolist() == [3.0, 1.0, 2.0]


@pytest.mark.parametrize("metric", [*ALL, metrics.summary])
def test_nan_is_refused_and_located(metric):
    with pytest.raises(DataError, match=r"ood_scores holds 2 NaN among 4 scores \(at 1, 3\)"):
        metric([1.0], [0.0, math.nan, 1.0, math.nan])
    with pytest.raises(DataError, match=r"id_scores holds 7 NaN .*\(at 0, 1, 2, 3, 4, …\)"):
        metric(torch.full((7,), math.nan), [0.0])


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([], "is empty"),
        (np.zeros((2, 1)), r"has shape \(2, 1\)"),
        (torch.tensor(1.0), r"has shape \(\)"),
        (np.array(["a", "b"]), "real numbers"),
        ([1.0, {}], "real numbers"),
        ([[1.0], [1.0, 2.0]], "real numbers"),
        (np.array([1j]), "real numbers"),
        (torch.tensor([1j]), "real numbers"),
    ],
)
def test_unusable_scores_are_refused_by_name(scores, message):
    with pytest.raises(DataError, match=f"id_scores .*{message}"):
        metrics.summary(scores, [1.0])
    with pytest.raises(DataError, match=f"ood_scores .*{message}"):
        metrics.auroc([1.0], scores)
