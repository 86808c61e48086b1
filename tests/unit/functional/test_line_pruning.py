"""LINe's thresholds and products against explicit masks."""

import numpy as np
import pytest
import torch

from gradood.functional.line import contributions, pruned_logits, pruning_thresholds


def masks(contribution, weight, p_w, p_a):
    """Both masks of each class, as the formula has them, strictly above."""
    found = []
    for row in contribution.double().numpy():
        product = np.abs(row) * weight.double().numpy()
        large = product > np.percentile(product, p_w)
        active = row > np.percentile(row, p_a)
        found.append((large, active))
    return found


@pytest.mark.parametrize("kind", ["signed", "absolute"])
@pytest.mark.parametrize(
    ("p_w", "p_a"), [(10.0, 10.0), (90.0, 90.0), (90.0, 10.0), (0.0, 0.0), (50.0, 99.0)]
)
def test_equal_to_explicit_masks(p_w, p_a, kind):
    classes, width, batch = 6, 17, 40
    weight, bias = torch.randn(classes, width), torch.randn(classes)
    mean = torch.rand(classes, width, dtype=torch.float64)
    mean[2, :5] = 0.0
    contribution = contributions(mean, weight, kind)
    thresholds = pruning_thresholds(contribution, weight, p_w, p_a)
    assert thresholds.dtype == weight.dtype
    features = torch.rand(batch, width)
    predicted = torch.randint(classes, (batch,))
    out = pruned_logits(features, weight, bias, thresholds, predicted)
    for i, c in enumerate(predicted.tolist()):
        large, active = masks(contribution, weight, p_w, p_a)[c]
        masked = weight.double().numpy() * large
        expected = masked @ (features[i].double().numpy() * active) + bias.double().numpy()
        np.testing.assert_allclose(out[i].numpy(), expected, rtol=1e-4, atol=1e-5)
        kept = (weight > thresholds[c]).numpy()
        assert (kept[:, active] == large[:, active]).all()
        assert not kept[:, ~active].any()


def test_equal_contributions_prune_nothing():
    weight = torch.full((3, 4), 0.5)
    contribution = torch.zeros(3, 4, dtype=torch.float64)
    thresholds = pruning_thresholds(contribution, weight, 90.0, 90.0)
    features = torch.rand(2, 4)
    out = pruned_logits(features, weight, None, thresholds, torch.tensor([0, 2]))
    torch.testing.assert_close(out, features @ weight.T)


@pytest.mark.parametrize("kind", ["activations", "weights"])
def test_ties_for_the_largest_are_pruned_where_they_are_the_percentile(kind):
    """As in the released code: only a row that is equal throughout prunes nothing."""
    contribution = torch.tensor([[3.0, 3.0, 1.0, 0.5]], dtype=torch.float64)
    weight = torch.tensor([[1.0, 1.0, 1.0, 1.0]])
    percentiles = (0.0, 90.0) if kind == "activations" else (90.0, 0.0)
    thresholds = pruning_thresholds(contribution, weight, *percentiles)
    assert not bool((weight > thresholds).any())


def test_ties_at_the_percentile_are_pruned():
    """Strictly above: what equals the percentile goes."""
    contribution = torch.tensor([[1.0, 1.0, 2.0, 2.0]], dtype=torch.float64)
    weight = torch.ones(1, 4)
    thresholds = pruning_thresholds(contribution, weight, 0.0, 25.0)
    assert (thresholds[0] == torch.inf).tolist() == [True, True, False, False]
    weight = torch.tensor([[1.0, 1.0, 3.0, 2.0]])
    even = torch.ones(1, 4, dtype=torch.float64)
    kept = weight > pruning_thresholds(even, weight, 33.0, 0.0)
    assert kept.tolist() == [[False, False, True, True]]


def test_a_sample_does_not_depend_on_its_batch():
    weight = torch.randn(4, 9)
    contribution = contributions(torch.rand(4, 9, dtype=torch.float64), weight, "signed")
    thresholds = pruning_thresholds(contribution, weight, 80.0, 70.0)
    features, predicted = torch.rand(12, 9), torch.arange(12) % 4
    together = pruned_logits(features, weight, None, thresholds, predicted)
    for i in range(12):
        alone = pruned_logits(features[i : i + 1], weight, None, thresholds, predicted[i : i + 1])
        torch.testing.assert_close(alone[0], together[i])
