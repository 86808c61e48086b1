"""Fit samples that a detector keeps, within a bound; what the file, the card and the table say."""

import itertools
import warnings

import pytest
import torch
from torch import nn

import gradood
from gradood.artifact import card, check
from gradood.detectors import nnguide
from gradood.detectors._shared import banks
from gradood.errors import BoundedFitWarning, ConfigError, MeaninglessScoreWarning
from gradood.registry import create

DRAWN = torch.Generator().manual_seed(5)
X = torch.randn(400, 24, generator=DRAWN).relu()
WEIGHT = torch.randn(4, 24, generator=DRAWN)
Y = (X @ WEIGHT.T).argmax(1)
QUERY = X[:50] + 0.3
BOUNDED = {
    "knn": {"samples": 60, "k": 8},
    "grood": {"samples": 60, "ood_prototype": "class-mean", "bank": "all"},
    "nnguide": {"samples": 60, "alpha": 1.0, "k": 2},
    "vim": {"alpha_samples": 60},
    "open-max": {"tail_samples": 60, "samples": "all"},
}
OPTION = {"vim": "alpha_samples", "open-max": "tail_samples"}


@pytest.fixture
def model():
    head = nn.Linear(24, 4)
    head.load_state_dict({"weight": WEIGHT, "bias": torch.zeros(4)})
    return nn.Sequential(nn.Identity(), head).eval()


def state_of(monitor):
    return next(iter(monitor._session.state.bound.states.values()))


def fitted(model, detector, order=None):
    """On seven parts, merged in an order."""
    parts = list(zip(X.split(60), Y.split(60), strict=True))
    monitor = gradood.Monitor(model, detector)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MeaninglessScoreWarning)
        if order is None:
            return monitor.fit(parts)
        found = [monitor.accumulate([part]) for part in parts]
        total = found[order[0]]
        for i in order[1:]:
            total = monitor.merge(total, found[i])
        monitor.finish(total)
        return monitor


ORDERS = list(itertools.permutations(range(7)))[1 :: 5040 // 2]
DETECTORS = [
    *(create(name, **options) for name, options in BOUNDED.items()),
    gradood.KNN(bits=4),
    gradood.KNN(bits=8),
    gradood.KNN(bits=4, samples=100, normalize=False),
    gradood.NNGuide(bits=4, alpha=1.0),
    gradood.NNGuide(bits=8, alpha=0.3),
    gradood.GROOD(bits=4, ood_prototype="class-mean", bank="all"),
    gradood.GROOD(bits=8, ood_prototype="class-mean", bank="all", samples=100),
]


@pytest.mark.parametrize("detector", DETECTORS, ids=repr)
def test_the_state_does_not_depend_on_the_order_of_merging(model, detector):
    expected = state_of(fitted(model, detector))
    for order in ORDERS:
        found = state_of(fitted(model, detector, order))
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            if name not in ("residual", "origin", "alpha", "prototypes", "ood"):  # Sums.
                assert torch.allclose(found[name].double(), tensor.double(), rtol=1e-6), name


@pytest.mark.parametrize("detector", DETECTORS, ids=repr)
def test_what_is_kept_is_in_the_file(model, detector, tmp_path):
    monitor = fitted(model, detector)
    monitor.save(tmp_path / "d.safetensors")
    loaded = gradood.load(tmp_path / "d.safetensors", model)
    assert torch.equal(loaded.score(QUERY), monitor.score(QUERY))
    assert loaded.summary().detectors[0].cost == monitor.summary().detectors[0].cost


@pytest.mark.parametrize("name", BOUNDED)
def test_a_bound_that_nobody_asked_for_is_told_of(model, name, tmp_path, monkeypatch):
    option = OPTION.get(name, "samples")
    options = {key: value for key, value in BOUNDED[name].items() if key != option}
    # In place of 1 GiB, 85 rows of 24 floats; of logits, 32.
    monkeypatch.setattr(banks, "_EXACT", 512 if name == "open-max" else 1 << 13)
    monkeypatch.setattr(nnguide, "_LEAST", 50)
    with pytest.warns(BoundedFitWarning, match=rf"^{name} keeps .* more than 1 GiB. Give "):
        monitor = fitted(model, create(name, **options))
    cost = monitor.summary().detectors[0].cost
    coded = name in ("knn", "grood", "nnguide")
    kept = "keeps 400 directions in 8 bits" if coded else r" of 400 fit samples, chosen by"
    assert kept in cost
    monitor.save(tmp_path / "d.safetensors")
    assert f"\n## Notes\n\n- {name} keeps" in card(check(tmp_path / "d.safetensors"))


@pytest.mark.parametrize("name", BOUNDED)
def test_below_the_bound_nothing_is_said_and_no_option_is_written(model, name, tmp_path):
    option = OPTION.get(name, "samples")
    options = {key: value for key, value in BOUNDED[name].items() if key != option}
    with warnings.catch_warnings():
        warnings.simplefilter("error", BoundedFitWarning)
        monitor = fitted(model, create(name, **options))
    assert not {"kept", "seen", "codes"} & set(state_of(monitor))
    monitor.save(tmp_path / "d.safetensors")
    manifest = check(tmp_path / "d.safetensors").manifest
    assert manifest.notes == ()
    later = {"bits", "samples", "tail_samples"} - set(options)
    assert not later & set(manifest.detectors[0].options)


def test_a_named_neighbor_is_scaled_by_the_share_that_is_kept(model):
    assert int(state_of(fitted(model, gradood.KNN(k=40, samples=40)))["k"]) == 4
    assert int(state_of(fitted(model, gradood.KNN(k=3, samples=40)))["k"]) == 1
    assert "k" not in state_of(fitted(model, gradood.KNN(k=40, samples=400)))


def test_codes_take_an_eighth_and_rank_alike(model):
    exact, coded = fitted(model, gradood.KNN(k=5)), fitted(model, gradood.KNN(k=5, bits=4))
    assert state_of(coded)["codes"].numel() * 8 == state_of(exact)["unit"].numel() * 4
    assert set(state_of(coded)) == {"codes", "bits"}
    ranks = torch.stack([exact.score(QUERY), coded.score(QUERY)]).argsort(1).argsort(1).double()
    assert float(torch.corrcoef(ranks)[0, 1]) > 0.8


CODED = [
    ("nnguide", {"alpha": 1.0, "k": 2}, {"codes", "bits", "length"}),
    ("grood", {"ood_prototype": "class-mean", "bank": "all"}, {"codes", "bits", "log_length"}),
]


@pytest.mark.parametrize(("name", "options", "kept"), CODED, ids=["nnguide", "grood"])
@pytest.mark.parametrize("bits", [4, 8])
def test_guides_and_gradients_in_codes_score_about_alike(model, name, options, kept, bits):
    exact = fitted(model, create(name, **options))
    coded = fitted(model, create(name, **options, bits=bits))
    assert kept <= set(state_of(coded)) <= kept | {"prototypes", "ood"}
    assert state_of(coded)["codes"].shape == (400, 12 if bits == 4 else 24)
    ranks = torch.stack([exact.score(QUERY), coded.score(QUERY)]).argsort(1).argsort(1).double()
    assert float(torch.corrcoef(ranks)[0, 1]) > (0.9 if bits == 4 else 0.99)


@pytest.mark.parametrize("name", ["nnguide", "grood"])
def test_a_bank_is_coded_once_all_take_more_than_the_bound(model, name, monkeypatch):
    options = {key: value for key, value in BOUNDED[name].items() if key != "samples"}
    expected = state_of(fitted(model, create(name, **options, bits=8)))
    monkeypatch.setattr(banks, "_EXACT", 1 << 13)
    monkeypatch.setattr(nnguide, "_LEAST", 50)
    for order in (None, ORDERS[-1]):
        with pytest.warns(BoundedFitWarning, match="Give bits=32 to keep them as they are, or b"):
            found = state_of(fitted(model, create(name, **options), order))
        assert torch.equal(found["codes"], expected["codes"])


def test_an_asked_bound_takes_floats_where_these_are_few(model):
    state = state_of(fitted(model, gradood.NNGuide(alpha=1.0, samples=60, bits="auto")))
    assert "codes" not in state
    state = state_of(fitted(model, gradood.NNGuide(alpha=1.0, samples=60, bits=4)))
    assert len(state["codes"]) == len(state["length"]) == int(state["kept"]) == 60


def test_no_more_is_kept_than_was_asked_for(model):
    for name, key in (("knn", "unit"), ("grood", "unit"), ("nnguide", "guides")):
        assert len(state_of(fitted(model, create(name, **BOUNDED[name])))[key]) == 60


def test_a_zero_feature_stays_one(model):
    x = X.clone()
    x[:9] = 0.0
    monitor = gradood.Monitor(model, gradood.KNN(k=1, bits=4)).fit([(x, Y)])
    assert float(monitor.score(torch.zeros(1, 24))) == 0.0


@pytest.mark.parametrize("value", [0, -1, 2.5, True, "all"])
def test_wrong_bounds_are_refused(value):
    for name, option in (
        ("knn", "samples"),
        ("vim", "alpha_samples"),
        ("open-max", "tail_samples"),
    ):
        expected = (
            "a number, and no truth value" if value is True else "a whole number > 0, or None"
        )
        with pytest.raises(ConfigError, match=rf"{option}=.*expected {expected}"):
            create(name, **{option: value})


@pytest.mark.parametrize("bits", [torch.tensor(32), 8.0, 8 + 0j, True, 5, None])
@pytest.mark.parametrize("kind", [gradood.KNN, gradood.NNGuide, gradood.GROOD])
def test_bits_are_one_of_three_numbers(kind, bits):
    with pytest.raises(gradood.errors.ConfigError, match="bits"):
        kind(bits=bits)
