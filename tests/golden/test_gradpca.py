"""GradPCA against principal components of autograd's gradients."""

import numpy as np
import pytest
import torch
from naive import gradpca
from package import NAMES, same, setting

import gradood
from gradood.errors import ConfigError, DataError, MeaninglessScoreWarning
from gradood.functional.gradpca import head_gradients, retained_share, subspace


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("output", ["sum", "max"])
@pytest.mark.parametrize("epsilon", [0.5, 0.99, 1.0])
def test_gradpca_is_its_formula(name, output, epsilon):
    given = setting(name)
    h, fit_h = given.features(given.x), given.features(given.fit_x)
    expected = gradpca.gradpca(
        h, fit_h, given.fit_y, given.weight, given.bias, output, min(epsilon, 1 - 1e-9)
    )
    scores = given.scores(gradood.GradPCA(output=output, epsilon=epsilon), fit=True)
    same(scores, expected, 1e-8)


@pytest.mark.parametrize("output", ["sum", "max"])
def test_gradpca_without_a_class(output):
    given = setting("mlp_bn")
    keep = given.fit_y != 3
    x, y = given.fit_x[keep], given.fit_y[keep]
    h, fit_h = given.features(given.x), given.features(x)
    expected = gradpca.gradpca(h, fit_h, y, given.weight, given.bias, output, 0.9)
    monitor = gradood.Monitor(given.network, gradood.GradPCA(output=output, epsilon=0.9))
    same(monitor.fit([(x, y)]).score(given.x).numpy(), expected, 1e-8)


def test_the_sum_of_the_logits_reads_the_angle_to_the_class_means(rng):
    """Three class means on a plane: what lies in it scores −1, what is orthogonal 0."""
    means = torch.tensor([[3.0, 0, 0], [0, 3.0, 0], [0, 0, 0]]).double()
    center, operator, kept = subspace(head_gradients(means)[:, None], 1.0)
    assert kept == 2
    mean = means.mean(0)
    h = torch.stack([mean + torch.tensor([1.0, -2, 0]), mean + torch.tensor([0, 0, 5.0]), mean])
    block = torch.zeros(3, dtype=torch.int64)
    share = retained_share(head_gradients(h), block, center, operator)
    np.testing.assert_allclose(share, [1.0, 0.0, 0.0], atol=1e-12)


@pytest.mark.parametrize("output", ["sum", "max"])
def test_equal_class_means_are_refused(output):
    given = setting("mlp_bn")
    x = given.fit_x[:1].expand(10, -1).contiguous()
    monitor = gradood.Monitor(given.network, gradood.GradPCA(output=output))
    with pytest.raises(DataError, match=r"gradpca was fitted on 10 samples of 5 classes .* equal"):
        monitor.fit([(x, torch.arange(10) % 5)])


def test_one_class_is_refused():
    given = setting("mlp_bn")
    monitor = gradood.Monitor(given.network, gradood.GradPCA())
    with pytest.raises(DataError, match="of 1 classes"):
        monitor.fit([(given.fit_x, torch.zeros(len(given.fit_x), dtype=torch.int64))])


def wide(classes, width=8):
    return torch.nn.Sequential(torch.nn.Linear(12, width), torch.nn.Linear(width, classes)).eval()


def test_too_many_classes_for_the_largest_logit_are_refused():
    x = torch.zeros(40, 12)
    monitor = gradood.Monitor(wide(3000), gradood.GradPCA(output="max"))
    with pytest.raises(ConfigError, match=r"gradpca .*output='max' .* GB .*use output='sum'"):
        monitor.bind(x)


def test_more_classes_than_features_are_cautioned():
    monitor = gradood.Monitor(wide(9), gradood.GradPCA())
    with pytest.warns(MeaninglessScoreWarning, match="gradpca says little"):
        monitor.bind(torch.zeros(40, 12))


@pytest.mark.parametrize("options", [{"output": "mean"}, {"epsilon": 0}, {"epsilon": 1.5}])
def test_wrong_options_are_refused(options):
    (option,) = options
    with pytest.raises(ConfigError, match=rf"^{option}=.*; expected "):
        gradood.GradPCA(**options)
