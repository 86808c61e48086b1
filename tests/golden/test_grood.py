"""GROOD's closed form against autograd and a search by loops."""

import numpy as np
import pytest
import torch
from naive import grood
from networks import CASES
from package import NAMES, Setting, same, setting
from torch import Tensor

import gradood
from gradood.evidence import content_keys
from gradood.functional.grood import ood_gradient
from gradood.functional.neighbors import Bank, kth_distance

# The bank keeps directions in float32, so a distance is exact to 1e-7 of the longer gradient.
BANK = 2e-7


def near(got, expected, gradients) -> None:
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=BANK * np.max(gradients))


def fitted(given: Setting, ood, bank: str = "correct") -> grood.GroodFit:
    logits = given.logits(given.fit_x)
    return grood.grood_fit(given.features(given.fit_x), given.fit_y, logits, ood, bank)


def class_mean(given: Setting) -> np.ndarray:
    _, prototypes = grood.class_prototypes(given.features(given.fit_x), given.fit_y)
    return prototypes.mean(0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bank", ["correct", "all"])
@pytest.mark.parametrize("k", [1, 3])
def test_grood_with_the_class_mean(name, bank, k):
    given = setting(name)
    fit = fitted(given, class_mean(given), bank)
    h = given.features(given.x)
    detector = gradood.GROOD(ood_prototype="class-mean", bank=bank, k=k)
    expected = grood.grood_score(h, fit, k)
    near(given.scores(detector, fit=True), expected, grood.grood_score(h, fit, score="norm"))


@pytest.mark.parametrize("name", NAMES)
def test_grood_norm_is_the_length_of_the_gradient(name):
    given = setting(name)
    fit = fitted(given, class_mean(given))
    expected = grood.grood_score(given.features(given.x), fit, score="norm")
    detector = gradood.GROOD(ood_prototype="class-mean", score="norm")
    same(given.scores(detector, fit=True), expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [None, 1, 4])
def test_grood_with_a_tensor_averages_its_rows(name, rows):
    given = setting(name)
    width = given.weight.shape[1]
    shape = (width,) if rows is None else (rows, width)
    ood = torch.linspace(-1, 1, int(np.prod(shape)), dtype=torch.float64).reshape(shape)
    fit = fitted(given, ood if rows is None else ood.mean(0))
    expected = grood.grood_score(given.features(given.x), fit, score="norm")
    same(given.scores(gradood.GROOD(ood_prototype=ood, score="norm"), fit=True), expected)


def rest_of(given: Setting, layer: str):
    """The network from the output of `layer` to the features, one sample at a time."""

    def rest(activation: Tensor) -> Tensor:
        module = dict(given.network.named_modules())[layer]
        handle = module.register_forward_hook(lambda *_: activation.clone())
        try:
            return given.features(torch.zeros((1, *given.case.shape), dtype=torch.float64))
        finally:
            handle.remove()

    return rest


def early_of(given: Setting, x: Tensor) -> Tensor:
    kept: list[Tensor] = []
    module = dict(given.network.named_modules())[given.case.early]
    handle = module.register_forward_hook(lambda _, __, out: kept.append(out.detach().clone()))
    given.logits(x)
    handle.remove()
    return kept[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("mix", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("n", [100, 9])
def test_grood_synthetic_prototype(name, mix, n):
    given = setting(name)
    early = early_of(given, given.fit_x)
    prototypes = torch.stack([early[given.fit_y == c].mean(0) for c in range(5)])
    second = given.logits(given.fit_x).argsort(dim=1)[:, -2]
    chosen = content_keys(given.fit_x).argsort()[:n]
    rest = rest_of(given, given.case.early)
    ood = grood.grood_synthetic(early[chosen], second[chosen], prototypes, mix, rest)
    detector = gradood.GROOD(early_layer=given.case.early, mix=mix, n_synthetic=n)
    monitor = gradood.Monitor(given.network, detector).fit(given.fit_data)
    np.testing.assert_allclose(monitor.states["grood"]["ood"], ood, rtol=1e-9, atol=1e-12)
    fit, h = fitted(given, ood), given.features(given.x)
    expected = grood.grood_score(h, fit)
    near(monitor.score(given.x), expected, grood.grood_score(h, fit, score="norm"))


@pytest.mark.parametrize("name", ["post_activation_resnet", "pre_activation_densenet"])
def test_grood_mixes_at_the_first_stage_by_default(name):
    given = setting(name)
    named = gradood.GROOD(early_layer=CASES[name].early)
    same(given.scores(gradood.GROOD(), fit=True), given.scores(named, fit=True))


@pytest.mark.parametrize("name", ["plain_cnn", "mlp_bn"])
def test_grood_noise_prototype(name):
    given, n = setting(name), 3
    shape = given.case.shape
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(10 * n, *shape, generator=generator).numpy()
    if len(shape) == 3:
        noise = blurred(noise)
    axes = (0, *range(2, given.fit_x.ndim))
    low = given.fit_x.float().amin(axes).reshape(-1, *[1] * (len(shape) - 1)).numpy()
    high = given.fit_x.float().amax(axes).reshape(-1, *[1] * (len(shape) - 1)).numpy()
    x = torch.tensor(low + noise * (high - low)).double()
    energies = -torch.logsumexp(given.logits(x), 1)
    ood = given.features(x)[energies.topk(n).indices].mean(0)
    detector = gradood.GROOD(ood_prototype="noise", n_synthetic=n)
    monitor = gradood.Monitor(given.network, detector).fit(given.fit_data)
    # The noise itself is made in float32.
    np.testing.assert_allclose(monitor.states["grood"]["ood"], ood, rtol=1e-5, atol=1e-6)


def blurred(noise: np.ndarray) -> np.ndarray:
    """Each image with the binomial kernel 1 4 6 4 1 along both axes, edges repeated."""
    kernel = np.array([1, 4, 6, 4, 1]) / 16
    padded = np.pad(noise, ((0, 0), (0, 0), (2, 2), (2, 2)), mode="edge")
    height, width = noise.shape[2:]
    out = np.zeros(noise.shape)
    for i in range(5):
        for j in range(5):
            out += kernel[i] * kernel[j] * padded[:, :, i : i + height, j : j + width]
    return out


@pytest.mark.parametrize("distance", [1.0, 44.0, 104.0, 700.0])
def test_grood_gradient_does_not_underflow(rng, distance):
    """At 700 the gradients are e⁻⁷⁰⁰ long, and their distances shorter still."""
    h, prototypes = rng.normal(size=(12, 8)), rng.normal(size=(4, 8))
    ood = prototypes.mean(0) + distance * np.eye(8)[0]
    fit = grood.GroodFit(np.arange(4), prototypes, ood, np.zeros((0, 8)))
    expected = np.array([grood.ood_gradient(row, prototypes, ood) for row in h])
    gradient = ood_gradient(*map(torch.tensor, (h, prototypes, ood)))
    lengths = np.array([np.hypot.reduce(row) for row in expected])
    same(gradient.log_length.exp(), lengths, 1e-9 * max(1.0, distance))
    np.testing.assert_allclose(
        gradient.unit.double().numpy() * lengths[:, None],
        expected,
        rtol=0,
        atol=1e-6 * lengths.max(),
    )
    bank = Bank.of(ood_gradient(*map(torch.tensor, (h[4:], prototypes, ood))))
    query = ood_gradient(*map(torch.tensor, (h[:4], prototypes, ood)))
    found = kth_distance(query, bank, 2)
    scaled = expected / lengths.max()
    gaps = [sorted(np.linalg.norm(row - scaled[4:], axis=1))[1] for row in scaled[:4]]
    np.testing.assert_allclose(found / lengths.max(), gaps, rtol=1e-6, atol=BANK)
    assert fit.bank.size == 0


def test_grood_gradient_at_the_prototype_itself(rng):
    prototypes, ood = rng.normal(size=(3, 5)), rng.normal(size=5)
    gradient = ood_gradient(*map(torch.tensor, (ood[None], prototypes, ood)))
    assert bool(gradient.log_length.isfinite().all())
    assert not bool(gradient.unit.isnan().any())
