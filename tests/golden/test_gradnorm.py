"""GradNorm's closed form against autograd."""

import math

import pytest
import torch
from naive import gradnorm
from package import NAMES, same, setting

import gradood
from gradood.functional.gradnorm import last_layer_gradient_norm, linear_logits

ORDERS = [1.0, 2.0, 3.5, math.inf]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("temperature", "order"), [(1.0, 1), (0.5, 2), (10.0, math.inf)])
def test_gradnorm_is_the_norm_of_the_gradient(name, temperature, order, bias):
    given = setting(name)
    detector = gradood.GradNorm(temperature=temperature, order=order, bias=bias)
    features = given.features(given.x)
    expected = gradnorm.gradnorm(features, given.weight, given.bias, temperature, order, bias)
    same(given.scores(detector), expected)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("temperature", [0.25, 1.0, 100.0])
def test_gradnorm_of_random_heads(rng, temperature, order, bias):
    h, W, b = rng.normal(size=(9, 12)), rng.normal(size=(4, 12)), rng.normal(size=4)
    z = linear_logits(*map(torch.tensor, (h, W, b)))
    scores = last_layer_gradient_norm(
        torch.tensor(h), z, temperature=temperature, order=order, bias=bias
    )
    same(-scores, gradnorm.gradnorm(h, W, b, temperature, order, bias))


def test_gradnorm_of_a_head_without_bias(rng):
    h, W = rng.normal(size=(9, 12)), rng.normal(size=(4, 12))
    z = linear_logits(torch.tensor(h), torch.tensor(W), None)
    same(-last_layer_gradient_norm(torch.tensor(h), z), gradnorm.gradnorm(h, W, None))


def test_gradnorm_keeps_float64_for_float32_features(rng):
    """Arithmetic in float32 would lose this: the softmax is within 1e-7 of uniform."""
    h, W = rng.normal(size=(9, 12)).astype("float32"), 1e-8 * rng.normal(size=(4, 12))
    z = linear_logits(torch.tensor(h), torch.tensor(W), None)
    # 1e-8 · z is near 1: what is left of its last digits after 1/4 is taken away.
    same(-last_layer_gradient_norm(torch.tensor(h), z), gradnorm.gradnorm(h, W, None), 1e-7)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("mlp_bn", ["head.weight"]),
        ("mlp_bn", ["linear1.bias", "norm2.weight", "head.bias"]),
        ("plain_cnn", ["conv2.weight", "norm2.bias"]),
        ("post_activation_resnet", ["stage2.conv1.weight"]),
        ("pre_activation_densenet", ["block2.0.conv.weight", "head.weight"]),
    ],
)
@pytest.mark.parametrize(("temperature", "order"), [(1.0, 1), (3.0, 2), (1.0, math.inf)])
def test_gradnorm_over_parameters_is_the_norm_of_their_gradients(
    name, parameters, temperature, order
):
    given = setting(name, n=4)
    detector = gradood.GradNorm(parameters=parameters, temperature=temperature, order=order)
    expected = gradnorm.gradnorm_parameters(given.network, given.x, parameters, temperature, order)
    same(given.scores(detector), expected)


def test_gradnorm_of_the_heads_parameters_is_the_closed_form():
    given = setting("plain_cnn")
    closed = given.scores(gradood.GradNorm(bias=True))
    same(given.scores(gradood.GradNorm(parameters=["head.weight", "head.bias"])), closed)
