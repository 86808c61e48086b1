"""What a model's outputs are: classes under a softmax, labels under sigmoids, or neither."""

import warnings
from pathlib import Path

import pytest
import torch
from rosters import ON_ANY, ZERO_SHOT
from torch import nn

import gradood
from gradood._engine.binding import observed
from gradood.errors import ConfigError, DataError, MeaninglessScoreWarning, TapError

METHODS = [method for method in gradood.methods() if method.name in ON_ANY]


def body(width=8):
    return nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, width), nn.ReLU())


def net(outputs, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(*body(), nn.Linear(8, outputs)).eval()


class Vector(nn.Module):
    """One output (batch,)."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x)[:, 0]


class Pair(nn.Module):
    """The logits (0, z) of one output z."""

    def __init__(self, model):
        super().__init__()
        self.body, self.head = model[:-1], nn.Linear(8, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.cat([torch.zeros(1, 8), model[-1].weight]))
            self.head.bias.copy_(torch.cat([torch.zeros(1), model[-1].bias]))

    def forward(self, x):
        return self.head(self.body(x))


def x(n=96, seed=1):
    return torch.randn(n, 12, generator=torch.Generator().manual_seed(seed))


BINARY = torch.arange(96) % 2
SEVERAL = (torch.rand(96, 5, generator=torch.Generator().manual_seed(2)) < 0.4).long()
LABELS = {"softmax": torch.arange(96) % 5, "sigmoid": SEVERAL, "none": torch.randn(96)}


# -- one output ---------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda m: m, Vector], ids=["(n, 1)", "(n,)"])
@pytest.mark.filterwarnings("ignore::gradood.errors.LabelMismatchWarning")
def test_one_output_is_two_classes(make):
    """Every method gives what it gives on the model with the logits (0, z)."""
    one, two = net(1), Pair(net(1)).eval()
    monitors = [
        gradood.Monitor(model, [m.name for m in METHODS], skip_unusable=True, progress=False)
        for model in (make(one), two)
    ]
    scores = [monitor.fit([(x(), BINARY)]).score(x(20, 3)) for monitor in monitors]
    assert set(scores[0]) == set(scores[1]) and len(scores[0]) > 50
    assert monitors[0].left_out == monitors[1].left_out
    for name, score in scores[0].items():
        torch.testing.assert_close(score, scores[1][name], rtol=1e-4, atol=1e-6, msg=name)


def test_the_head_of_one_output_has_a_row_of_zeros():
    network = observed(net(1), x())
    weight, bias = network.head.linear()
    assert network.classes == 2 and weight.shape == (2, 8)
    assert not weight[0].any() and bias[0] == 0
    assert torch.equal(weight[1], net(1)[-1].weight[0].detach())


@pytest.mark.parametrize(
    ("fit", "warned"),
    [
        (lambda m: m.fit([(x(), BINARY)]), False),
        (lambda m: m.fit([(x(), BINARY + 1)]), True),
        (lambda m: m.fit([x()]), True),
        (lambda m: m.fit([(x(), BINARY)]).fit([(x(), BINARY)]), False),
    ],
    ids=["0 and 1", "1 and 2", "no labels", "again"],
)
def test_one_output_warns_where_no_label_says_that_it_is_two_classes(fit, warned):
    monitor = gradood.Monitor(net(1), "knn")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(monitor)
        monitor.score(x(4))
    said = [str(w.message) for w in caught if w.category is MeaninglessScoreWarning]
    assert len(said) == warned
    assert all("link=" in text and "regression" in text for text in said)


@pytest.mark.parametrize("link", ["softmax", "sigmoid", "none"])
def test_a_named_link_is_not_doubted(link):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradood.Monitor(net(1), "knn", link=link).fit([x()]).score(x(3))


def test_several_outputs_are_not_doubted():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gradood.Monitor(net(3), "energy").score(x(3))


# -- which methods run --------------------------------------------------------------------------


@pytest.mark.parametrize("link", ["softmax", "sigmoid", "none"])
@pytest.mark.filterwarnings("ignore::gradood.errors.GradoodWarning")
def test_methods_run_on_the_links_they_say(link):
    monitor = gradood.Monitor(net(5), "all", link=link, skip_unusable=True, progress=False)
    scores = monitor.fit([(x(), LABELS[link])]).score(x(20, 3))
    running = {method.name for method in METHODS if link in method.links}
    assert set(scores) == running
    assert all(bool(score.isfinite().all()) for score in scores.values())
    for name, reason in monitor.left_out.items():
        told = f"link={link!r}" in reason or (name in ZERO_SHOT and link == "softmax")
        assert reason.startswith(name) and told


def test_each_method_runs_on_a_softmax():
    assert all("softmax" in method.links for method in METHODS)


@pytest.mark.parametrize("link", ["sigmoid", "none"])
def test_a_refusal_names_the_method_and_what_runs(link):
    with pytest.raises(TapError, match=rf"^energy .*link='{link}'.*knn"):
        gradood.Monitor(net(5), "energy", link=link).score(x(3))


@pytest.mark.parametrize("name", ["react", "scale", "ash-s", "vra", "dice"])
def test_shaping_runs_where_its_score_does(name):
    detector = type(gradood.Monitor(net(5), name).detectors[name])
    assert detector().runs_on == ("softmax",)
    joint = detector(score="joint-energy")
    assert joint.runs_on == ("softmax", "sigmoid")
    monitor = gradood.Monitor(net(5), joint, link="sigmoid").fit([(x(), SEVERAL)])
    assert bool(monitor.score(x(5)).isfinite().all())
    with pytest.raises(TapError, match="score='joint-energy'"):
        gradood.Monitor(net(5), detector(), link="sigmoid").fit([(x(), SEVERAL)])


def test_without_classes_the_outputs_do_not_matter():
    """But for the residual, whose origin is where the outputs vanish."""
    names = [m.name for m in METHODS if "none" in m.links and m.name != "residual"]
    one, other = net(3), net(3)
    other[-1] = nn.Linear(8, 1)
    scores = [
        gradood.Monitor(model, names, link="none").fit([x()]).score(x(20, 3))
        for model in (one, other)
    ]
    assert all(torch.equal(scores[0][name], scores[1][name]) for name in names)


def test_the_order_of_labels_does_not_matter():
    names = [m.name for m in METHODS if "sigmoid" in m.links]
    order = torch.tensor([3, 0, 4, 1, 2])
    one, other = net(5), net(5)
    with torch.no_grad():
        other[-1].weight.copy_(one[-1].weight[order])
        other[-1].bias.copy_(one[-1].bias[order])
    pairs = ((one, SEVERAL), (other, SEVERAL[:, order]))
    scores = [
        gradood.Monitor(m, names, link="sigmoid", skip_unusable=True)
        .fit([(x(), y)])
        .score(x(20, 3))
        for m, y in pairs
    ]
    for name, score in scores[0].items():
        torch.testing.assert_close(score, scores[1][name], rtol=1e-8, atol=1e-10, msg=name)


def test_an_unknown_link_is_refused():
    with pytest.raises(ConfigError, match=r"link='sofmax'.*softmax"):
        gradood.Monitor(net(3), "energy", link="sofmax")  # type: ignore[arg-type]


# -- labels -------------------------------------------------------------------------------------


def test_class_moments_count_a_sample_in_each_of_its_classes():
    """Mahalanobis on multi-hot labels is that of rows repeated once per label."""
    model, data = net(5), x()
    given = gradood.Monitor(model, "mahalanobis", link="sigmoid").fit([(data, SEVERAL.float())])
    rows, labels = SEVERAL.nonzero(as_tuple=True)
    repeated = gradood.Monitor(model, "mahalanobis", link="softmax")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        repeated.fit([(data[rows], labels)])
    torch.testing.assert_close(given.score(x(20, 3)), repeated.score(x(20, 3)), rtol=1e-9, atol=0)


@pytest.mark.parametrize("kind", [torch.bool, torch.int32, torch.float32, torch.float64])
def test_labels_of_any_type_of_zeros_and_ones_are_taken(kind):
    monitor = gradood.Monitor(net(5), "mahalanobis", link="sigmoid")
    assert bool(monitor.fit([(x(), SEVERAL.to(kind))]).score(x(5)).isfinite().all())


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (torch.arange(96) % 5, r"expected \(96, classes\) of 0 and 1"),
        (SEVERAL * 2, "other values than 0 and 1"),
        (SEVERAL.float() * 0.5, "other values than 0 and 1"),
        (SEVERAL[:, :4], "of 4 classes, and the model has 5"),
    ],
    ids=["classes", "counts", "soft", "too few"],
)
def test_labels_that_are_none_of_a_sigmoid_are_refused(labels, words):
    with pytest.raises(DataError, match=words):
        gradood.Monitor(net(5), "mahalanobis", link="sigmoid").fit([(x(), labels)])


@pytest.mark.parametrize(
    "labels", [torch.randn(96), torch.randn(96, 3), ["a"] * 96, torch.zeros(96, dtype=torch.cfloat)]
)
def test_without_classes_labels_are_not_looked_at(labels):
    monitor = gradood.Monitor(net(3), "mahalanobis", link="none").fit([(x(), labels)])
    plain = gradood.Monitor(net(3), "mahalanobis", link="none").fit([x()])
    assert torch.equal(monitor.score(x(9)), plain.score(x(9)))


def test_an_embedding_without_a_linear_end_is_its_own_features():
    class Unit(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = body()

        def forward(self, x):
            return nn.functional.normalize(self.body(x) + 0.1)

    model = Unit().eval()
    network = observed(model, x(), link="none")
    assert network.head.form == "output"
    monitor = gradood.Monitor(model, gradood.KNN(k=3), link="none").fit([x()])
    distances = torch.cdist(model(x(9, 5)).double(), model(x()).double()).sort(1).values[:, 2]
    torch.testing.assert_close(monitor.score(x(9, 5)), distances, rtol=1e-4, atol=1e-6)
    with pytest.raises(TapError, match="could not be verified"):
        gradood.Monitor(model, "knn").fit([x()])


# -- decisions, files, guards -------------------------------------------------------------------


@pytest.mark.parametrize("link", ["softmax", "sigmoid", "none"])
@pytest.mark.parametrize("outputs", [1, 5])
@pytest.mark.filterwarnings("ignore::gradood.errors.GradoodWarning")
def test_a_link_is_kept_in_files(tmp_path, link, outputs):
    labels = {"sigmoid": SEVERAL[:, :outputs], "softmax": BINARY, "none": LABELS["none"]}[link]
    monitor = gradood.Monitor(net(outputs), ["mahalanobis", "knn"], link=link)
    monitor.fit([(x(), labels)]).calibrate(x(200, 7))
    monitor.save(tmp_path / "m.safetensors")
    loaded = gradood.load(tmp_path / "m.safetensors", net(outputs))
    assert loaded._session.unbound.link == link
    before, after = monitor.predict(x(9, 8)), loaded.predict(x(9, 8))
    for name in before:
        assert torch.equal(before[name].score, after[name].score)
        assert torch.equal(before[name].label, after[name].label)
    loaded.fit([(x(), labels)])


def test_a_softmax_that_nobody_named_writes_no_link(tmp_path):
    monitor = gradood.Monitor(net(5), "energy")
    monitor.bind(x(4))
    monitor.save(tmp_path / "m.safetensors")
    assert b"link" not in (tmp_path / "m.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("link", "labels", "names"),
    [
        ("sigmoid", SEVERAL.repeat(4, 1), ["mahalanobis++", "joint-energy"]),
        ("sigmoid", None, ["mahalanobis++", "joint-energy"]),
        ("none", torch.randn(384), ["mahalanobis++", "knn"]),
    ],
)
def test_a_guard_has_methods_that_suit_the_link(link, labels, names):
    data = x(384, 4)
    known = data if labels is None else [(data, labels)]
    guard = gradood.guard(net(5), known, link=link, progress=False)
    assert list(guard.detectors) == names
    given = guard(x(200, 9))
    assert float((given < 0).double().mean()) < 0.2
    assert link == "sigmoid" or set(given.tolist()) <= {-1, 0}


@pytest.mark.filterwarnings("ignore::gradood.errors.TrainingDataWarning")
def test_a_guard_of_one_output_asks_once():
    labels = (net(1)(x(384, 4))[:, 0] > 0).long()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        guard = gradood.guard(net(1), [(x(384, 4), labels)], progress=False)
        gradood.guard(net(1), x(384, 4), progress=False)
    said = [w for w in caught if "one output" in str(w.message)]
    assert len(said) == 1
    assert set(guard(x(50)).tolist()) <= {-1, 0, 1}
    as_trained = gradood.guard(net(1), [(x(384, 4), labels[:, None].float())], progress=False)
    assert torch.equal(as_trained(x(50)), guard(x(50)))  # As nn.BCEWithLogitsLoss takes them.


def test_a_guard_of_targets_that_are_no_classes_names_the_link():
    with (
        pytest.warns(MeaninglessScoreWarning, match="'none' if it is a regression"),
        pytest.raises(DataError, match="labels from 0 to 11"),
    ):
        gradood.guard(net(1), [(x(384, 4), torch.arange(384) % 12)], progress=False)
    with pytest.raises(DataError, match="say link='none'"):
        gradood.guard(net(1), [(x(384, 4), torch.arange(384) / 12)], progress=False)


@pytest.mark.filterwarnings("ignore::gradood.errors.GradoodWarning")
def test_choice_and_inspection_take_a_link():
    found = gradood.inspect(net(5), x(4), link="none")
    assert {use.method for use in found.uses if use.works} == {
        method.name for method in METHODS if "none" in method.links
    }
    ranking = gradood.choose(net(5), [(x(400, 3), SEVERAL.repeat(5, 1)[:400])], link="sigmoid")
    assert {"joint-energy", "mahalanobis++"} <= {row.name for row in ranking.rows}
    assert "energy" in ranking.left_out


def test_a_file_from_before_links_keeps_its_scores():
    """Saved by 0.1.0 on a model with one logit, one class under a softmax."""
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1)).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.sin(torch.arange(p.numel()) * 1.7 + 0.3).reshape(p.shape))
    rows = torch.cos(torch.arange(240, dtype=torch.float32) * 0.73).reshape(60, 4)
    file = Path(__file__).parents[1] / "golden" / "one_logit_before_0043.safetensors"
    monitor = gradood.load(file, model)
    scores = monitor.score(rows[:3])
    torch.testing.assert_close(scores["energy"], -model(rows[:3])[:, 0].detach().double())
    assert scores["msp"].tolist() == [-1.0] * 3
    with pytest.warns(MeaninglessScoreWarning, match="link="):  # As a new fit reads it.
        assert monitor.bind(rows[:2]).network.classes == 2


def test_a_guard_refuses_labels_of_another_number_of_classes():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 4))
    x = torch.randn(300, 6)
    y = (model(x) > 0).long()
    for known, fit, said in (
        (y[:, :3], None, "known"),
        (y[:, :3], y, "known"),
        (y, y[:, :3], "fit"),
    ):
        data = None if fit is None else [(x + 1, fit)]
        with pytest.raises(DataError, match=f"labels of the {said} data are of 3 classes"):
            gradood.guard(model, [(x, known)], fit=data, link="sigmoid")
