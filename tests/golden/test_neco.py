"""NECO against sums over single components, and against scikit-learn."""

import numpy as np
import pytest
import torch
from naive import subspaces
from package import NAMES, same, setting
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

import gradood
from gradood.errors import ConfigError, DataError, TapError
from gradood.evidence import LOGITS
from gradood.functional.neco import inside_share, spread
from gradood.functional.subspace import explained_dimension, principal
from gradood.testing import networks


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dimension", ["auto", 1, 3])
@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("max_logit", [True, False])
def test_neco_is_its_formula(name, dimension, standardize, max_logit):
    given = setting(name)
    expected = subspaces.neco(
        given.features(given.x),
        given.features(given.fit_x),
        None if dimension == "auto" else dimension,
        classes=len(given.weight),
        standardize=standardize,
        logits=given.logits(given.x) if max_logit else None,
    )
    detector = gradood.NECO(dimension=dimension, standardize=standardize, max_logit=max_logit)
    same(given.scores(detector, fit=True), expected, 1e-8)


def test_neco_is_the_released_recipe_with_scikit_learn(rng):
    h, x = rng.normal(size=(90, 7)) @ rng.normal(size=(7, 7)) + 4, rng.normal(size=(8, 7)) + 4
    scaler = StandardScaler().fit(h)
    pca = PCA(7).fit(scaler.transform(h))
    z = scaler.transform(x)
    ratio = np.linalg.norm(pca.transform(z)[:, :3], axis=1) / np.linalg.norm(z, axis=1)
    covariance = torch.tensor(np.cov(h.T, bias=True))
    mean = torch.tensor(h.mean(0))
    scale = spread(mean, covariance.diagonal())
    operator = principal(covariance / torch.outer(scale, scale), 3)
    same(inside_share(torch.tensor(x), mean, scale, operator), ratio)


def by_default(classes, samples=300):
    """NECO fitted on ten features, of which the first four hold nine tenths of the variance."""
    model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(10, classes)).double().eval()
    generator = torch.Generator().manual_seed(0)
    spread = torch.tensor([3.0, 3.0, 3.0, 3.0] + [0.5] * 6, dtype=torch.float64)
    fit = spread * torch.randn(samples, 10, generator=generator, dtype=torch.float64) + 2
    return model, fit, gradood.Monitor(model, "neco", link="softmax").fit(fit)


@pytest.mark.parametrize(("classes", "dimension"), [(1, 1), (2, 1), (3, 2), (5, 4), (50, 4)])
def test_the_dimension_is_that_of_the_classes_or_of_the_variance(classes, dimension):
    model, fit, auto = by_default(classes)
    given = gradood.NECO(dimension=dimension, standardize=False, max_logit=True)
    expected = gradood.Monitor(model, given, link="softmax").fit(fit).states["neco"]
    for key, value in auto.states["neco"].items():
        assert torch.equal(value, expected[key])


def test_the_published_setting_is_that_of_the_released_code():
    assert gradood.NECO.published == {"standardize": True}
    assert gradood.NECO(**gradood.NECO.published).standardize


@pytest.mark.parametrize(("name", "multiplied"), [("resnet", True), ("transformer", True)])
def test_the_largest_logit_multiplies(name, multiplied):
    network = networks()[name]
    (use,) = gradood.inspect(network.model(), network.inputs(32), ["neco"]).uses
    assert (use.notes == ("multiplied by the largest logit",)) is multiplied
    data = [(network.inputs(96), network.labels(96))]
    alone = gradood.Monitor(network.model(), gradood.NECO(max_logit=multiplied)).fit(data)
    auto = gradood.Monitor(network.model(), "neco").fit(data)
    x = network.inputs(9, seed=4)
    assert torch.equal(alone.score(x), auto.score(x))
    assert (LOGITS in auto.bind(x).plans["neco"].reads) is multiplied


def test_features_that_never_vary_are_not_scaled():
    mean = torch.tensor([0.0, 0.3, 5.0, 1e6], dtype=torch.float64)
    # The second varies by rounding alone.
    variance = torch.tensor([0.0, 1e-34, 4.0, 1e-2], dtype=torch.float64)
    torch.testing.assert_close(
        spread(mean, variance), torch.tensor([1.0, 1.0, 2.0, 0.1], dtype=torch.float64)
    )


def test_the_mean_itself_is_nowhere():
    one = torch.eye(2, dtype=torch.float64)
    mean = torch.tensor([1.0, 2.0], dtype=torch.float64)
    at = torch.tensor([[1.0, 2.0], [4.0, 6.0]])
    assert inside_share(at, mean, torch.ones(2).double(), one).tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    ("values", "expected"),
    [([8.0, 1.0, 0.5, 0.5], 2), ([1.0] * 10, 9), ([5.0, 0.0], 1), ([1.0, 1.0], 2)],
)
def test_ninety_percent_of_the_variance(values, expected):
    moment = torch.diag(torch.tensor(values, dtype=torch.float64))
    assert explained_dimension(moment, 0.9) == expected


def test_a_fit_without_variance_is_refused():
    given = setting("post_activation_resnet")
    same_rows = given.fit_x[:1].expand(9, *given.fit_x.shape[1:])
    with pytest.raises(DataError, match=r"neco was fitted on 9 samples without variance; give"):
        gradood.Monitor(given.network, "neco").fit([same_rows])


def test_a_single_feature_is_refused():
    model = torch.nn.Sequential(torch.nn.Linear(4, 1), torch.nn.ReLU(), torch.nn.Linear(1, 3))
    with pytest.raises(TapError, match=r"neco compares directions .* Leave neco out"):
        gradood.Monitor(model.eval(), "neco").bind(torch.randn(32, 4))


@pytest.mark.parametrize(
    "wrong", [{"dimension": 0}, {"dimension": "half"}, {"max_logit": "always"}]
)
def test_wrong_options_are_named(wrong):
    (option,) = wrong
    with pytest.raises(ConfigError, match=rf"{option}={wrong[option]!r}; expected"):
        gradood.NECO(**wrong)
