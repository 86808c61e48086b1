"""Checks of the oracles themselves, against closed forms and second computations."""

import copy
import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from naive import gaia, gradnorm, grood, line, logits, mahalanobis, neighbors
from naive.arrays import Array
from networks import CASES
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp, softmax
from sklearn.covariance import oas
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn

NAMES = sorted(CASES)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def head(
    rng: np.random.Generator, n: int = 6, d: int = 9, c: int = 4
) -> tuple[Array, Array, Array]:
    """Features after a ReLU, a weight and a bias."""
    return np.maximum(rng.normal(size=(n, d)), 0), rng.normal(size=(c, d)), rng.normal(size=c)


def recorded(network: nn.Module, x: Tensor, names: tuple[str, ...]) -> dict[str, Tensor]:
    """Copies of the outputs of the modules `names`, taken before anything in place runs on them."""
    outputs: dict[str, Tensor] = {}
    modules = dict(network.named_modules())
    handles = [
        modules[name].register_forward_hook(
            lambda _m, _i, output, name=name: outputs.__setitem__(name, output.detach().clone())
        )
        for name in set(names)
    ]
    with torch.no_grad():
        network(x)
    for handle in handles:
        handle.remove()
    return outputs


def features(network: nn.Module, x: Tensor) -> Tensor:
    """The input of `head`."""
    kept: list[Tensor] = []
    handle = network.head.register_forward_pre_hook(lambda _m, inputs: kept.append(inputs[0]))
    network(x)
    handle.remove()
    return kept[0]


# ---------------------------------------------------------------- logits, neighbors, Mahalanobis


def test_logit_scores_agree_with_scipy(rng):
    z = 5 * rng.normal(size=(8, 6))
    assert_allclose(logits.msp(z), -softmax(z, axis=1).max(1), rtol=1e-13)
    assert_array_equal(logits.max_logit(z), -z.max(1))
    assert_allclose(logits.energy(z, 2.5), -2.5 * logsumexp(z / 2.5, axis=1), rtol=1e-13)


def test_logit_scores_stay_finite_at_extreme_logits():
    z = np.array([[6e4, -6e4, 0.0], [1e4, 1e4, 1e4]])
    for scores in (logits.msp(z), logits.max_logit(z), logits.energy(z), logits.energy(z, 0.01)):
        assert np.isfinite(scores).all()


def test_logit_scores_are_higher_for_the_less_confident():
    z = np.array([[9.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    for scores in (logits.msp(z), logits.max_logit(z), logits.energy(z)):
        assert scores[1] > scores[0]


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("k", [1, 3])
def test_knn_agrees_with_sklearn(rng, k, normalize):
    h, bank = rng.normal(size=(5, 7)), rng.normal(size=(20, 7))
    query, rows = h, bank
    if normalize:
        query = h / np.linalg.norm(h, axis=1, keepdims=True)
        rows = bank / np.linalg.norm(bank, axis=1, keepdims=True)
    expected = NearestNeighbors(n_neighbors=k).fit(rows).kneighbors(query)[0][:, -1]
    assert_allclose(neighbors.knn(h, bank, k, normalize), expected, rtol=1e-12)


def test_knn_keeps_a_zero_row(rng):
    assert_allclose(neighbors.knn(np.zeros((1, 3)), rng.normal(size=(4, 3)), 1, True), [1.0])


@pytest.mark.parametrize("shape", [(40, 6), (8, 12), (10, 1)])
def test_mahalanobis_covariance_is_the_oas_of_sklearn(rng, shape):
    h = rng.normal(size=shape) @ np.diag(np.linspace(1, 3, shape[1]))
    y = np.arange(len(h)) % 3 * 2
    fit = mahalanobis.mahalanobis_fit(h, y)
    assert_array_equal(fit.classes, [0, 2, 4])
    centered = h - np.stack([h[y == label].mean(0) for label in y])
    covariance, shrinkage = oas(centered, assume_centered=True)
    assert_allclose(fit.covariance, covariance, rtol=1e-12, atol=1e-14)
    assert_allclose(fit.shrinkage, shrinkage, rtol=1e-12)


def test_mahalanobis_with_full_shrinkage_is_a_scaled_euclidean_distance(rng):
    h, y = rng.normal(size=(30, 4)), np.arange(30) % 2
    fit = mahalanobis.mahalanobis_fit(h, y, shrinkage=1.0)
    squared = ((h[:, None] - fit.means[None]) ** 2).sum(-1).min(1)
    assert_allclose(mahalanobis.mahalanobis(h, fit), squared / fit.covariance[0, 0], rtol=1e-12)


def test_mahalanobis_does_not_depend_on_a_linear_map_of_the_features(rng):
    h, y, A = rng.normal(size=(30, 4)), np.arange(30) % 3, rng.normal(size=(4, 4))
    plain = mahalanobis.mahalanobis(h, mahalanobis.mahalanobis_fit(h, y, 0.0))
    mapped = mahalanobis.mahalanobis(h @ A, mahalanobis.mahalanobis_fit(h @ A, y, 0.0))
    assert_allclose(plain, mapped, rtol=1e-9)


# ---------------------------------------------------------------- GradNorm


@pytest.mark.parametrize("temperature", [1.0, 0.5, 10.0])
@pytest.mark.parametrize("order", [1, 2, 3.5, math.inf])
@pytest.mark.parametrize("bias", [False, True])
def test_gradnorm_is_the_rank_one_closed_form(rng, temperature, order, bias):
    h, W, b = head(rng)
    p = softmax((h @ W.T + b) / temperature, axis=1)
    left = np.concatenate([h, np.ones((len(h), 1))], axis=1) if bias else h
    expected = np.linalg.norm(left, order, axis=1)
    expected *= np.linalg.norm(p - 1 / len(W), order, axis=1) / temperature
    scores = gradnorm.gradnorm(h, W, b, temperature, order, bias)
    assert_allclose(scores, -expected, rtol=1e-12)


def test_gradnorm_without_bias_is_gradnorm_with_zero_bias(rng):
    h, W, b = head(rng)
    assert_array_equal(gradnorm.gradnorm(h, W, None), gradnorm.gradnorm(h, W, 0 * b))
    with pytest.raises(ValueError, match="without bias"):
        gradnorm.gradnorm(h, W, None, bias=True)


@pytest.mark.parametrize("name", NAMES)
def test_gradnorm_of_the_head_parameters_is_gradnorm(name):
    network, x = CASES[name].build(), CASES[name].inputs(3)
    h = features(network, x).detach()
    W, b = network.head.weight, network.head.bias
    for names, bias in ((["head.weight"], False), (["head.weight", "head.bias"], True)):
        scores = gradnorm.gradnorm_parameters(network, x, names, 2.0, 2)
        assert_allclose(scores, gradnorm.gradnorm(h, W, b, 2.0, 2, bias), rtol=1e-11)


def test_gradnorm_of_inner_parameters_matches_finite_differences():
    network, x = CASES["mlp_bn"].build(), CASES["mlp_bn"].inputs(1)
    names = ["linear1.bias", "norm2.weight"]
    step, total = 1e-5, 0.0
    moved = copy.deepcopy(network)
    for name in names:
        parameter = dict(moved.named_parameters())[name].data
        for i in range(len(parameter)):
            losses = []
            for sign in (1, -1):
                parameter[i] += sign * step
                log_p = torch.log_softmax(moved(x)[0].detach(), 0)
                parameter[i] -= sign * step
                losses.append(-float(log_p.mean()) - math.log(len(log_p)))
            total += abs(losses[0] - losses[1]) / (2 * step)
    assert_allclose(gradnorm.gradnorm_parameters(network, x, names), [-total], rtol=1e-7)


# ---------------------------------------------------------------- GAIA


def share_squared(masks: list[Tensor]) -> Array:
    """Mean over the channels of all `masks` (N, C, ...) of (share of true positions)²."""
    shares = [
        mask.double().flatten(2).mean(2) if mask.ndim > 2 else mask.double() for mask in masks
    ]
    return (torch.cat(shares, dim=1) ** 2).mean(1).numpy()


@pytest.mark.parametrize("name", [name for name in NAMES if CASES[name].masks is not None])
def test_gaia_z_is_the_squared_share_of_active_positions(name):
    case = CASES[name]
    network, x = case.build(), case.inputs(4)
    outputs = recorded(network, x, case.masks)
    expected = share_squared([outputs[mask] > 0 for mask in case.masks])
    assert_allclose(gaia.gaia_z(network, x, case.norms), expected, rtol=1e-13)


def test_gaia_z_weighs_the_two_norms_of_a_projection_block_alike():
    case = CASES["post_activation_resnet"]
    network, x = case.build(), case.inputs(2)
    main, shortcut = (gaia.gaia_z(network, x, [f"stage2.{end}"]) for end in ("norm2", "shortcut.1"))
    assert_array_equal(main, shortcut)


def test_gaia_z_sees_the_positions_that_a_max_pool_drops():
    case = CASES["max_pool_cnn"]
    network, x = case.build(), case.inputs(4)
    outputs = recorded(network, x, ("norm1",))
    assert (gaia.gaia_z(network, x, ["norm1"]) < share_squared([outputs["norm1"] > 0])).all()


@pytest.mark.parametrize("name", NAMES)
def test_every_relu_of_the_networks_is_partly_active(name):
    case = CASES[name]
    outputs = recorded(case.build(), case.inputs(16), case.norms)
    for norm in case.norms:
        assert 0.2 < float((outputs[norm] > 0).double().mean()) < 0.9


@pytest.mark.parametrize("name", NAMES)
def test_gaia_a_output_gradient_is_the_closed_form(name):
    case = CASES[name]
    network, x = case.build(), case.inputs(4)
    p = softmax(network(x).detach().numpy(), axis=1)
    W = network.head.weight.detach().numpy()
    expected = (1 - p.shape[1] * p) @ W / case.positions
    assert_allclose(gaia.output_gradient(network, x, case.last), expected, rtol=1e-10, atol=1e-13)


def test_gaia_a_inner_gradient_of_the_final_norm_is_its_active_share():
    """Behind a ReLU and a mean over S positions, ∂Σh/∂(norm output) is 1/S where active."""
    for name in ("plain_cnn", "pre_activation_densenet", "mlp_bn"):
        case = CASES[name]
        network, x = case.build(), case.inputs(4)
        final = case.norms[-1]
        active = (recorded(network, x, (final,))[final] > 0).double()
        share = active.flatten(2).mean(2) if active.ndim > 2 else active
        inner = gaia.inner_gradients(network, x, [final], case.head)
        assert_allclose(inner, share.numpy() / case.positions, rtol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_gaia_a_inner_gradient_matches_finite_differences(name):
    """The gradient's spatial mean is the slope of Σh in a constant added to a channel, over S."""
    case = CASES[name]
    network, x = case.build(), case.inputs(1)
    layer = case.inner[0]
    module = dict(network.named_modules())[layer]
    size = recorded(network, x, (layer,))[layer][0, 0].numel()
    step = 1e-7
    slopes = []
    for channel in range(module.num_features):
        sums = []
        for sign in (1, -1):
            with torch.no_grad():
                module.bias[channel] += sign * step
                sums.append(float(features(network, x).sum()))
                module.bias[channel] -= sign * step
        slopes.append(abs(sums[0] - sums[1]) / (2 * step) / size)
    inner = gaia.inner_gradients(network, x, [layer], case.head)
    assert_allclose(inner, [slopes], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_gaia_a_puts_the_components_together(name):
    case = CASES[name]
    network, x = case.build(), case.inputs(3)
    inner = gaia.inner_gradients(network, x, case.inner, case.head)
    outer = np.abs(gaia.output_gradient(network, x, case.last)).mean(1)
    expected = (inner**2).mean(1) / outer
    assert_allclose(gaia.gaia_a(network, x, case.inner, case.last), expected, rtol=1e-12)


def test_gaia_a_is_infinite_where_the_softmax_is_exactly_uniform():
    case = CASES["plain_cnn"]
    network = case.build(classes=4)
    with torch.no_grad():
        network.head.weight[:] = network.head.weight[0].clone()
        network.head.bias.zero_()
    assert_array_equal(
        gaia.gaia_a(network, case.inputs(2), case.inner, case.last), [np.inf, np.inf]
    )


@pytest.mark.parametrize("name", NAMES)
def test_in_place_relus_and_frozen_parameters_change_nothing(name):
    case = CASES[name]
    network, x = case.build(), case.inputs(2)
    twin = copy.deepcopy(network).requires_grad_(False)
    for module in twin.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = not module.inplace
    before = {key: value.clone() for key, value in network.state_dict().items()}
    layers = [name for name in case.norms if name != case.last]
    assert_array_equal(gaia.gaia_z(network, x, layers), gaia.gaia_z(twin, x, layers))
    inner, last = case.inner, case.last
    assert_array_equal(gaia.gaia_a(network, x, inner, last), gaia.gaia_a(twin, x, inner, last))
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_gaia_takes_the_last_axis_of_tokens_as_channels():
    torch.manual_seed(0)
    network = nn.Sequential(nn.LayerNorm(4), nn.ReLU(), nn.Flatten(), nn.Linear(12, 3)).double()
    x = torch.randn(2, 3, 4, dtype=torch.float64)
    active = network[0](x).detach() > 0
    assert_allclose(gaia.gaia_z(network, x, ["0"]), share_squared([active.transpose(1, 2)]))


# ---------------------------------------------------------------- LINe


def test_line_contribution_is_the_mean_loss_of_logit_without_the_unit(rng):
    h, W, b = head(rng, n=12, d=5, c=3)
    y = np.arange(12) % 3
    S = line.class_contributions(h, y, W)
    for c, d in itertools.product(range(3), range(5)):
        without = h.copy()
        without[:, d] = 0
        drop = ((h @ W.T + b) - (without @ W.T + b))[y == c, c]
        assert_allclose(S[c, d], drop.mean(), rtol=1e-12, atol=1e-14)


def test_line_contribution_is_the_shapley_value_with_zero_baseline(rng):
    h, W, b = head(rng, n=4, d=4, c=2)
    y = np.array([0, 1, 0, 1])
    expected = np.zeros((2, 4))
    for n, order in itertools.product(range(4), itertools.permutations(range(4))):
        present = np.zeros(4)
        for d in order:
            before = W[y[n]] @ (h[n] * present) + b[y[n]]
            present[d] = 1
            expected[y[n], d] += W[y[n]] @ (h[n] * present) + b[y[n]] - before
    assert_allclose(line.class_contributions(h, y, W), expected / 24 / 2, rtol=1e-12, atol=1e-14)


def test_line_absolute_contribution_is_the_signed_one_without_sign_after_a_relu(rng):
    h, W, _ = head(rng, n=12)
    y = np.arange(12) % 4
    signed, absolute = (line.class_contributions(h, y, W, kind) for kind in ("signed", "absolute"))
    assert_allclose(absolute, np.abs(signed), rtol=1e-12)
    h -= h.mean()
    absolute = line.class_contributions(h, y, W, "absolute")
    assert_allclose(absolute[0], np.abs(h[y == 0]).mean(0) * np.abs(W[0]), rtol=1e-12)


def test_line_masks_keep_the_share_that_is_not_removed(rng):
    h, W, _ = head(rng, n=40, d=21, c=4)
    y = np.arange(40) % 4
    fit = line.line_fit(h, y, W, weight_percentile=90, activation_percentile=10, clip=1.0)
    assert fit.weight_masks.shape == (4, 4, 21)
    # linear interpolation puts the threshold at rank q/100·(n - 1); strict > removes that rank
    assert_array_equal(fit.weight_masks.sum((1, 2)), 4 * 21 - 1 - math.floor(0.9 * 83))
    assert_array_equal(fit.activation_masks.sum(1), 21 - 1 - math.floor(0.1 * 20))


def test_line_weight_pruning_keeps_no_negative_weight_above_a_positive_one(rng):
    h, W, _ = head(rng, n=40, d=20, c=4)
    fit = line.line_fit(h, np.arange(40) % 4, W, 60, 10, 1.0)
    for c in range(4):
        assert W[fit.weight_masks[c].nonzero()].min() > 0


def test_line_without_pruning_is_the_energy_of_the_clipped_features(rng):
    h, W, b = head(rng)
    fit = line.LineFit(W, np.ones(W.shape, dtype=bool), np.ones((4, *W.shape), dtype=bool), 0.7)
    expected = -logsumexp(np.minimum(h, 0.7) @ W.T + b, axis=1)
    assert_allclose(line.line_score(h, W, b, fit), expected, rtol=1e-12)
    assert_array_equal(line.line_score(h, W, None, fit), line.line_score(h, W, 0 * b, fit))


def test_line_score_agrees_with_the_formula_in_arrays(rng):
    h, W, b = head(rng, n=40, d=20, c=4)
    fit = line.line_fit(h, np.arange(40) % 4, W, 90, 90, 0.8)
    clipped = np.minimum(h, 0.8)
    predicted = (clipped @ W.T + b).argmax(1)
    o = np.einsum(
        "ncd,nd->nc", W * fit.weight_masks[predicted], clipped * fit.activation_masks[predicted]
    )
    assert_allclose(line.line_score(h, W, b, fit), -logsumexp(o + b, axis=1), rtol=1e-12)


def test_line_clips_auto_are_percentiles_of_all_activations():
    clips = line.clips_auto(np.arange(101.0).reshape(1, -1))
    assert clips[0] == 90.0 and clips[-1] == 100.0


def test_line_refuses_a_class_without_samples(rng):
    h, W, _ = head(rng)
    with pytest.raises(ValueError, match="class 3"):
        line.class_contributions(h, np.array([0, 1, 2, 0, 1, 2]), W)


# ---------------------------------------------------------------- GROOD


def grood_problem(rng: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    """Features, labels (class 2 absent), logits that are wrong at times, an OOD prototype."""
    h = np.maximum(rng.normal(size=(24, 6)), 0)
    y = np.array([0, 1, 3])[np.arange(24) % 3]
    z = rng.normal(size=(24, 4))
    z[np.arange(0, 24, 2), y[::2]] += 9
    return h, y, z, rng.normal(size=6)


def pi_ood(h: Array, fit: grood.GroodFit) -> Array:
    anchors = np.concatenate([fit.prototypes, fit.ood_prototype[None]])
    return softmax(-np.linalg.norm(h[:, None] - anchors[None], axis=2), axis=1)[:, -1]


def test_grood_gradient_is_pi_times_the_direction_to_the_ood_prototype(rng):
    h, y, z, ood = grood_problem(rng)
    fit = grood.grood_fit(h, y, z, ood)
    assert_array_equal(fit.classes, [0, 1, 3])
    assert_allclose(fit.prototypes, [h[y == c].mean(0) for c in (0, 1, 3)], rtol=1e-13)
    direction = (h - ood) / np.linalg.norm(h - ood, axis=1, keepdims=True)
    expected = pi_ood(h, fit)[:, None] * direction
    gradients = [grood.ood_gradient(row, fit.prototypes, ood) for row in h]
    assert_allclose(gradients, expected, rtol=1e-11, atol=1e-15)
    assert_allclose(grood.grood_score(h, fit, score="norm"), pi_ood(h, fit), rtol=1e-12)


def test_grood_bank_holds_the_correct_rows_or_all(rng):
    h, y, z, ood = grood_problem(rng)
    correct = z.argmax(1) == y
    assert 0 < correct.sum() < len(y)
    every = grood.grood_fit(h, y, z, ood, bank="all")
    some = grood.grood_fit(h, y, z, ood, bank="correct")
    assert len(every.bank) == len(y)
    assert_array_equal(some.bank, every.bank[correct])
    assert_array_equal(some.prototypes, every.prototypes)


@pytest.mark.parametrize("k", [1, 4])
def test_grood_neighbour_score_is_the_distance_to_the_kth_gradient(rng, k):
    h, y, z, ood = grood_problem(rng)
    fit = grood.grood_fit(h, y, z, ood)
    query = rng.normal(size=(5, 6))
    gradients = np.array([grood.ood_gradient(row, fit.prototypes, ood) for row in query])
    expected = NearestNeighbors(n_neighbors=k).fit(fit.bank).kneighbors(gradients)[0][:, -1]
    assert_allclose(grood.grood_score(query, fit, k), expected, rtol=1e-10)


def test_grood_scores_rise_towards_the_ood_prototype(rng):
    h, y, z, _ = grood_problem(rng)
    ood = np.full(6, -8.0)
    fit = grood.grood_fit(h, y, z, ood)
    path = np.linspace(0, 1, 6)[:, None] * (ood - fit.prototypes[0]) * 0.9 + fit.prototypes[0]
    for score in ("norm", "neighbour"):
        assert (np.diff(grood.grood_score(path, fit, score=score)) > 0).all()


def test_grood_scores_do_not_underflow_far_from_the_ood_prototype(rng):
    h, y, z, _ = grood_problem(rng)
    for distance in (44.0, 104.0, 400.0):
        fit = grood.grood_fit(h, y, z, h.mean(0) + distance * np.eye(6)[0])
        query = h[:2] + 0.1
        assert (grood.grood_score(query, fit) > 0).all()
        assert_allclose(grood.grood_score(query, fit, score="norm"), pi_ood(query, fit), rtol=1e-11)


@pytest.mark.parametrize("mix", [0.0, 0.5, 1.0])
def test_grood_synthetic_prototype_is_the_mean_feature_of_the_mixtures(mix):
    case = CASES["plain_cnn"]
    network, x = case.build(), case.inputs(6)
    early = recorded(network, x, (case.early,))[case.early]
    second = network(x).detach().argsort(dim=1)[:, -2]
    prototypes = torch.stack([early.roll(c, 0)[0] for c in range(5)])

    def rest(f: Tensor) -> Tensor:
        return network.pool(network.relu2(network.norm2(network.conv2(f)))).flatten(1)

    expected = rest(mix * early + (1 - mix) * prototypes[second]).mean(0).detach().numpy()
    assert_allclose(
        grood.grood_synthetic(early, second, prototypes, mix, rest), expected, rtol=1e-12
    )
    if mix == 1.0:
        assert_allclose(expected, features(network, x).mean(0).detach().numpy(), rtol=1e-12)
