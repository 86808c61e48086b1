"""The monitor: what goes in, what comes out, and what it says when it cannot."""

import copy
import warnings

import numpy as np
import pytest
import torch
from sklearn.covariance import oas
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from gradood import Monitor, methods
from gradood.detectors import GROOD, KNN, MSP, Energy, GradNorm, Mahalanobis, MaxLogit
from gradood.errors import (
    ConfigError,
    DataError,
    MeaninglessScoreWarning,
    ModelChangedWarning,
    NotFittedError,
    TapError,
    UnknownNameError,
)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.relu, self.drop = nn.ReLU(inplace=True), nn.Dropout(0.5)
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        return self.fc(self.drop(self.relu(self.norm(self.conv(x))).mean((2, 3))))


GENERATOR = torch.Generator().manual_seed(9)
X = torch.randn(60, 3, 6, 6, generator=GENERATOR)
Y = torch.arange(60) % 3
ALL = ["msp", "energy", "max-logit", "gradnorm", "gaia-z", "gaia-a", "knn", "mahalanobis", "line"]


@pytest.fixture
def model():
    return Net()


@pytest.fixture
def fitted(model):
    detectors = {name: name for name in ALL if name != "knn"} | {"knn": KNN(k=3)}
    return Monitor(model, detectors).fit([(X, Y)])


# -- forms of results and arguments ---------------------------------------------------------


def test_bare_gives_a_tensor_and_lists_and_mappings_give_mappings(model):
    bare = Monitor(model, "energy").score(X)
    assert bare.shape == (60,) and bare.dtype == torch.float64 and not bare.requires_grad
    assert torch.equal(bare, Monitor(model, Energy()).score(X))
    listed = Monitor(model, ["energy", MSP()]).score(X)
    assert list(listed) == ["energy", "msp"]
    assert torch.equal(listed["energy"], bare)
    assert list(Monitor(model, ["energy"]).score(X)) == ["energy"]
    named = Monitor(model, {"hot": Energy(temperature=10.0), "cold": "energy"}).score(X)
    assert list(named) == ["hot", "cold"]
    assert torch.equal(named["cold"], bare) and not torch.equal(named["hot"], bare)


def test_duplicates_are_refused_with_the_way_out(model):
    with pytest.raises(ConfigError, match=r"two detectors are called 'energy'; give a mapping"):
        Monitor(model, ["energy", Energy(temperature=2.0)])


@pytest.mark.parametrize("nothing", [[], {}])
def test_no_detector_is_refused(model, nothing):
    with pytest.raises(ConfigError, match="no detector was given"):
        Monitor(model, nothing)


def test_what_is_no_detector_is_refused(model):
    with pytest.raises(ConfigError, match=r"is no detector; give a registry name or an instance"):
        Monitor(model, [Energy])
    for given in (Energy, [MSP(), Energy], {"a": Energy}):
        with pytest.raises(ConfigError, match=r"instance: 'energy', or gradood\.Energy\(\)\.$"):
            Monitor(model, given)


def test_a_misspelt_name_is_answered_with_the_closest(model):
    with pytest.raises(UnknownNameError, match="no detector 'enrgy'; did you mean 'energy'"):
        Monitor(model, ["enrgy"])
    for name, meant in [("ViM", "vim"), ("MSP", "msp"), ("max_logit", "max-logit")]:
        with pytest.raises(UnknownNameError, match=rf"'{name}'; did you mean '{meant}'\?$"):
            Monitor(model, name)


def test_all_stands_for_every_method(model):
    assert list(Monitor(model, "all").detectors) == [one.name for one in methods()]


def test_what_is_no_model_is_refused():
    with pytest.raises(TapError, match=r"expected a torch\.nn\.Module"):
        Monitor(lambda x: x, "energy")


# -- scores ---------------------------------------------------------------------------------


def test_scores_of_logits_are_the_formulas(model):
    scores = Monitor(model, ["energy", "msp", "max-logit"]).score(X)
    with torch.no_grad():
        z = model.eval()(X).double()
    torch.testing.assert_close(scores["energy"], -z.logsumexp(1))
    torch.testing.assert_close(scores["msp"], -z.softmax(1).amax(1))
    torch.testing.assert_close(scores["max-logit"], -z.amax(1))


def test_scores_of_gradients_are_the_formulas(model):
    """On one norm before an average over 36 positions."""
    found = Monitor(model, ["gradnorm", "gaia-z", "gaia-a"]).score(X)
    model.double().eval()
    inner = model.norm(model.conv(X.double()))
    h = torch.relu(inner).mean((2, 3))
    p = model.fc(h).softmax(1)
    norm = h.abs().sum(1) * (p - 1 / 3).abs().sum(1)
    torch.testing.assert_close(found["gradnorm"], -norm, rtol=1e-5, atol=1e-7)
    share = (inner > 0).double().mean((2, 3))
    torch.testing.assert_close(found["gaia-z"], share.square().mean(1), rtol=1e-5, atol=1e-7)
    gradient = torch.autograd.grad(h.sum(), inner)[0].mean((2, 3))
    outer = ((1 - 3 * p) @ model.fc.weight / 36).abs().mean(1)
    expected = gradient.square().mean(1) / outer
    torch.testing.assert_close(found["gaia-a"], expected.detach(), rtol=1e-4, atol=0)


def test_mahalanobis_is_the_formula(model):
    monitor = Monitor(model, "mahalanobis").fit([(X[:40], Y[:40]), (X[40:], Y[40:])])
    with torch.no_grad():
        model.eval()
        h = torch.relu(model.norm(model.conv(X))).mean((2, 3)).double().numpy()
    means = np.stack([h[Y.numpy() == c].mean(0) for c in range(3)])
    covariance, _ = oas(h - means[Y.numpy()], assume_centered=True)
    gaps = h[:, None] - means[None]
    expected = np.einsum("nci,ij,ncj->nc", gaps, np.linalg.inv(covariance), gaps).min(1)
    np.testing.assert_allclose(monitor.score(X).numpy(), expected, rtol=1e-4)


def test_grood_keeps_the_gradients_of_correct_samples_or_of_all(model):
    with torch.no_grad():
        correct = int((model.eval()(X).argmax(1) == Y).sum())
    assert 0 < correct < 60
    for bank, size in (("correct", correct), ("all", 60)):
        detector = GROOD(ood_prototype="class-mean", bank=bank)
        state = Monitor(model, detector).fit([(X, Y)]).states["grood"]
        assert len(state["unit"]) == size


def test_every_loader_gives_the_same(fitted):
    expected = fitted.score(X)
    loaders = {
        "loader": DataLoader(TensorDataset(X, Y), batch_size=7),
        "dicts": [{"pixel_values": part} for part in X.split(25)],
        "generator": (part for part in X.split(13)),
        "numpy": X.numpy(),
        "arrays": [part.numpy() for part in X.split(59)],
        "one by one": X.split(1),
    }
    for name, loader in loaders.items():
        found = fitted.score(loader)
        for method, scores in expected.items():
            torch.testing.assert_close(
                found[method], scores, rtol=1e-5, atol=1e-7, msg=f"{method}, {name}"
            )


def test_detectors_alone_and_in_company_agree(model, fitted):
    together = fitted.score(X)
    for name, detector in fitted.detectors.items():
        alone = Monitor(model, detector).fit([(X, Y)]).score(X)
        torch.testing.assert_close(alone, together[name], rtol=1e-6, atol=1e-8, msg=name)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_row_that_is_not_finite_scores_infinity_and_disturbs_no_other(fitted, bad):
    x = X.clone()
    x[4, 1, 2, 3] = bad
    expected, found = fitted.score(X), fitted.score(x)
    for name, scores in found.items():
        assert float(scores[4]) == torch.inf
        others = torch.arange(60) != 4
        torch.testing.assert_close(scores[others], expected[name][others], rtol=1e-5, atol=1e-7)
        assert not bool(scores.isnan().any())
    assert bool(torch.isnan(x[4, 1, 2, 3])) == np.isnan(bad)  # the input is not changed
    everything = fitted.score(torch.full((2, 3, 6, 6), bad))
    assert all(scores.tolist() == [torch.inf] * 2 for scores in everything.values())


def test_a_score_that_is_not_finite_is_infinity():
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    monitor = Monitor(model, ["max-logit", "energy", "msp"])
    monitor.bind(torch.ones(2, 4))
    with torch.no_grad():
        model[1].weight[0] = torch.nan
    for scores in monitor.score(torch.ones(2, 4)).values():
        assert scores.tolist() == [torch.inf] * 2


@pytest.mark.parametrize("data", [[], torch.empty(0, 3, 6, 6), [torch.empty(0, 3, 6, 6)]])
def test_empty_in_empty_out(fitted, data):
    for scores in fitted.score(data).values():
        assert scores.shape == (0,) and scores.dtype == torch.float64
    assert Monitor(Net(), "energy").score(data).shape == (0,)


def test_other_inputs_than_before_are_refused(fitted):
    for x in (X[:, :1], X.double(), X[0]):
        with pytest.raises(
            DataError, match=r"the input is .*; expected \(batch, 3, 6, 6\) float32"
        ) as caught:
            fitted.score(x)
        assert "changed since" not in str(caught.value)
    with pytest.raises(DataError, match="meta device"):
        fitted.score(torch.empty(2, 3, 6, 6, device="meta"))


def test_another_size_that_the_model_cannot_run_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(32, 3))
    monitor = Monitor(model, "energy")
    monitor.score(X)
    with pytest.raises(DataError, match=r"observed on \(batch, 3, 6, 6\) float32. Resize"):
        monitor.score(torch.zeros(2, 3, 8, 8))


def test_errors_of_the_model_name_the_input(model):
    monitor = Monitor(model, "energy")
    monitor.score(X)

    def refuse(*_):
        raise RuntimeError("out of order")

    model.fc.register_forward_pre_hook(refuse)
    said = r"the model raised RuntimeError on the input \(batch, 3, 6, 6\) float32: out of order$"
    with pytest.raises(DataError, match=said) as caught:
        monitor.score(X)
    assert type(caught.value.__cause__) is RuntimeError


def test_weights_changed_after_the_first_batch_are_seen(model):
    monitor = Monitor(model, ["energy", "gradnorm"])
    before = monitor.score(X)
    with torch.no_grad():
        model.fc.weight.mul_(2)
    after = monitor.score(X)
    assert all(not torch.allclose(before[name], after[name]) for name in before)


def test_one_caveat_one_warning():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.norm, self.fc = nn.Linear(3, 6), nn.LayerNorm(6), nn.Linear(6, 3)
            self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

        def forward(self, x):
            x = self.embed(x.flatten(2).mT)
            return self.fc(self.norm(x + self.attention(x, x, x)[0]).mean(1))

    monitor = Monitor(Tokens(), "gradnorm")
    with pytest.warns(MeaninglessScoreWarning, match="transformers") as caught:
        monitor.score(X)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor.score(X)


# -- fitting --------------------------------------------------------------------------------


def test_scoring_before_fitting_names_the_detectors(model):
    with pytest.raises(NotFittedError, match=r"^knn, mahalanobis must be fitted first"):
        Monitor(model, ["knn", "energy", "mahalanobis"]).score(X)
    with pytest.raises(NotFittedError, match="finish was called before accumulate"):
        Monitor(model, ["knn"]).finish({})


def test_shards_in_any_order_give_the_same_state(model):
    whole = Monitor(model, [KNN(k=3), Mahalanobis(), "line"]).fit([(X, Y)])
    sharded = Monitor(model, [KNN(k=3), Mahalanobis(), "line"])
    sharded.bind(X)
    parts = [sharded.accumulate([(X[i : i + 20], Y[i : i + 20])]) for i in (40, 0, 20)]
    sharded.finish(sharded.merge(parts[0], sharded.merge(parts[1], parts[2])))
    for name, state in whole.states.items():
        for key, tensor in state.items():
            found = sharded.states[name][key]
            if key == "transform":  # eigenvectors have no sign
                found, tensor = found @ found.T, tensor @ tensor.T
            if key == "centers":
                continue
            torch.testing.assert_close(found, tensor, rtol=1e-5, atol=1e-7, msg=f"{name}.{key}")
    a, b = whole.score(X), sharded.score(X)
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-6, atol=1e-8)


def test_fit_is_fluent_and_of_no_use_without_learners(model):
    monitor = Monitor(model, ["energy"])
    assert monitor.fit([(X, Y)]) is monitor
    assert monitor.fit([]) is monitor
    assert monitor.states == {}


def test_an_empty_fit_is_refused(model):
    for data in ([], torch.empty(0, 3, 6, 6)):
        with pytest.raises(DataError, match="fit was given no sample"):
            Monitor(model, "knn").fit(data)


def test_labels_are_asked_for_by_the_detector_that_needs_them(model):
    with pytest.raises(DataError, match="mahalanobis learns from class labels"):
        Monitor(model, ["knn", "mahalanobis"]).fit(X)
    Monitor(model, ["knn"]).fit(X)


def test_a_pair_of_tensors_is_refused(model):
    for detector in ("mahalanobis", KNN(k=2)):
        with pytest.raises(DataError, match=r"give \[\(x, y\)\]"):
            Monitor(model, detector).fit((X, Y))
    with pytest.raises(DataError, match="or x alone"):
        Monitor(model, "energy").score((X, Y))


@pytest.mark.parametrize("label", [3, -1, 255])
def test_labels_beyond_the_classes_are_refused(model, label):
    y = Y.clone()
    y[7] = label
    for name in ("mahalanobis", "line", "grood"):
        with pytest.raises(DataError, match=f"labels such as {label} in the fit data.*0 to 2"):
            Monitor(model, name).fit([(X, y)])


def test_fit_inputs_must_be_finite(model):
    x = X.clone()
    x[5, 0, 0, 0] = torch.nan
    with pytest.raises(DataError, match=r"1 of a batch of 60 fit inputs .*row 5"):
        Monitor(model, "knn").fit(x)


def test_states_and_detectors_are_copies(fitted):
    fitted.states.clear()
    fitted.detectors.clear()
    assert fitted.states and fitted.detectors


# -- surroundings ---------------------------------------------------------------------------


def test_the_bar_is_silent_unless_wanted(model, capsys):
    Monitor(model, "energy").score(X.split(10))
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    Monitor(model, "energy", progress=True).score(X.split(10))
    captured = capsys.readouterr()
    assert captured.out == "" and "score" in captured.err


def test_the_model_is_left_in_its_mode(model):
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    rng = torch.get_rng_state()
    monitor = Monitor(model, [*ALL[:6], KNN(k=3), *ALL[7:]]).fit([(X, Y)])
    monitor.score(X)
    assert model.training and model.norm.training and model.drop.training
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(rng, torch.get_rng_state())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_any_grad_mode_outside(fitted, model, mode):
    expected = fitted.score(X)
    with mode():
        again = Monitor(model, fitted.detectors).fit([(X, Y)])
        found = again.score(X)
    for name, scores in expected.items():
        torch.testing.assert_close(found[name], scores, rtol=1e-6, atol=1e-8)
    assert not any(t.is_inference() for s in again.states.values() for t in s.values())


def test_autocast_outside_does_not_round_scores(fitted):
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        pytest.warns(ModelChangedWarning, match="autocast is bfloat16, and was off"),
    ):
        found = fitted.score(X)
    assert all(scores.dtype == torch.float64 for scores in found.values())
    assert all(bool(scores.isfinite().all()) for scores in found.values())


def test_two_monitors_on_one_model_are_independent(model):
    a, b = Monitor(model, KNN(k=1)), Monitor(model, KNN(k=5))
    a.fit(X[:30])
    b.fit(X[30:])
    first = a.score(X)
    b.score(X)
    assert torch.equal(first, a.score(X))


def test_the_head_may_be_named(model):
    assert Monitor(model, "gradnorm", head="fc").score(X).shape == (60,)
    with pytest.raises(TapError, match="the head named 'conv' could not be verified"):
        Monitor(model, GradNorm(), head="conv").score(X)
    assert Monitor(model, MaxLogit(), head="conv").score(X).shape == (60,)  # needs no head


def test_labels_that_nobody_reads_may_be_anything(model):
    for labels in (Y - 1, Y + 7):
        monitor = Monitor(model, KNN(k=3)).fit([(X[:30], labels[:30]), (X[30:], labels[30:] * 2)])
        assert monitor.score(X).isfinite().all()


def test_a_bar_over_a_stream_without_length(model, capsys):
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(zip(X, Y, strict=True))

    loader = DataLoader(Stream(), batch_size=20)
    scores = Monitor(model, "energy", progress=True).score(loader)
    torch.testing.assert_close(scores, Monitor(model, "energy").score(X), rtol=1e-5, atol=1e-7)
    assert "score" in capsys.readouterr().err


def test_a_copy_learns_apart_and_states_are_copies():
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    x = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
    monitor = Monitor(network, "mahalanobis").fit([(x, torch.arange(40) % 3)])
    expected, other = monitor.score(x), copy.copy(monitor)
    assert type(other) is Monitor and torch.equal(other.score(x), expected)
    other.fit([(2 * x + 1, torch.arange(40) % 3)])
    assert torch.equal(monitor.score(x), expected)
    assert not torch.equal(other.score(x), expected)
    for tensor in monitor.states["mahalanobis"].values():
        tensor.zero_()
    assert torch.equal(monitor.score(x), expected)
