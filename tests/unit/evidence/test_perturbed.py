"""A second look at inputs moved along their gradient: right, shared, and counted."""

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gradood
from gradood.errors import ArtifactError, MeaninglessScoreWarning, TapError
from gradood.evidence import (
    FEATURES,
    KEYS,
    LOGITS,
    MAP,
    MAX_LOGIT,
    MEAN,
    NONZERO_SHARE,
    Activation,
    Gradient,
    ParameterNorm,
    Perturbation,
    Perturbed,
    content_keys,
    gather,
    own_pass,
    read_from_plain,
    read_to_plain,
)
from gradood.evidence._perturbed import perturbed
from gradood.taps import INPUT, Site, observe
from gradood.testing._snapshot import left_alone


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv2, self.norm2 = nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        x = self.relu(self.norm1(self.conv1(x)))
        x = self.relu(self.norm2(self.conv2(x)))
        return self.fc(x.mean((2, 3)))


X = torch.randn(5, 3, 6, 6, generator=torch.Generator().manual_seed(7))
SOFT = Perturbation("max log-softmax", 0.01, temperature=100.0, std=(0.2, 0.3, 0.25))
LEAST = Perturbation("max logit", 0.5, share=0.05)
MOST = dataclasses.replace(LEAST, pixels="most")
GAIA = Gradient(MAX_LOGIT, Site("norm1"), NONZERO_SHARE)


@pytest.fixture
def model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return Net().eval()


@pytest.fixture
def network(model):
    return observe(model, X)


def gradient_of(model, x, step):
    x = x.clone().requires_grad_()
    z = model(x)
    if step.of == "max logit":
        objective = z.amax(1).sum()
    else:
        objective = torch.softmax(z / step.temperature, 1).amax(1).log().sum()
    return torch.autograd.grad(objective, x)[0]


def naive(model, x, step):
    """The moved inputs, by autograd and a loop."""
    gradient = gradient_of(model, x, step)
    std = step.std if len(step.std) > 1 else step.std * x.shape[1]
    moved = x.clone()
    for n in range(len(x)):
        sizes = gradient[n].abs().flatten()
        order = sizes.argsort(stable=True, descending=step.pixels == "most")
        chosen = set(order[: max(1, int(len(sizes) * step.share))].tolist())
        for i in chosen:
            c, h, w = (int(part) for part in torch.unravel_index(torch.tensor(i), x.shape[1:]))
            moved[n, c, h, w] += step.epsilon * gradient[n, c, h, w].sign() / std[c]
    return moved


@pytest.mark.parametrize("step", [SOFT, LEAST, MOST], ids=["soft", "least", "most"])
@pytest.mark.parametrize("frozen", [False, True])
def test_it_reads_what_the_model_makes_of_the_moved_inputs(model, network, step, frozen):
    model.requires_grad_(not frozen)
    logits, features = Perturbed(step, LOGITS), Perturbed(step, FEATURES)
    seen = gather(network, X, (logits, features, LOGITS, FEATURES, KEYS))
    moved = naive(model, X, step)
    with torch.no_grad():
        torch.testing.assert_close(seen[logits], model(moved).double(), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(seen.logits, model(X).double(), rtol=1e-6, atol=1e-6)
    ours = seen[features] @ model.fc.weight.T + model.fc.bias
    torch.testing.assert_close(ours.double(), seen[logits], rtol=1e-5, atol=1e-6)
    assert not torch.equal(seen[logits], seen.logits)
    assert torch.equal(seen[KEYS], content_keys(X))
    assert not any(reading.requires_grad for reading in seen.tensors)


def test_no_operation_without_a_deterministic_version(monkeypatch):
    def refused(*_, **__):
        raise AssertionError("kthvalue has no deterministic version on CUDA")

    monkeypatch.setattr(torch.Tensor, "kthvalue", refused)
    gradient = torch.tensor([[3.0, -1.0, 2.0, 1.0], [0.0, 0.0, 0.0, -5.0]])
    step = Perturbation("max logit", 0.5, share=0.5)
    moved = perturbed(torch.zeros(2, 4), gradient, step)
    assert moved.tolist() == [[0.0, -0.5, 0.0, 0.5], [0.0, 0.0, 0.0, 0.0]]


def passes(model, monkeypatch):
    """Lists that grow with each forward and each backward."""
    forwards, backwards = [], []
    original = torch.autograd.grad

    def counted(*args, **options):
        backwards.append(1)
        return original(*args, **options)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    model.register_forward_pre_hook(lambda *_: forwards.append(1))
    return forwards, backwards


def test_each_perturbation_is_one_more_forward(model, network, monkeypatch):
    forwards, backwards = passes(model, monkeypatch)

    def count(*reads):
        forwards.clear()
        backwards.clear()
        gather(network, X, reads)
        return len(forwards), len(backwards)

    least = Perturbed(LEAST, FEATURES)
    assert count(LOGITS, FEATURES, Activation(Site("norm1"), MEAN)) == (1, 0)
    assert count(least) == (2, 1)
    assert count(least, FEATURES, Perturbed(LEAST, LOGITS), least) == (2, 1)
    # Another choice of pixels follows the same gradient, which GAIA reads too.
    assert count(least, Perturbed(MOST, FEATURES), GAIA) == (3, 1)
    assert count(least, Perturbed(SOFT, LOGITS)) == (3, 2)


def test_detectors_that_ask_for_the_same_step_share_it(model, monkeypatch):
    data = [(X, torch.arange(5) % 4)]
    detectors = [gradood.AdaScaleA(), gradood.AdaScaleL(p_max=90), "gaia-z", "odin"]
    monitor = gradood.Monitor(model, detectors).fit(data)
    forwards, backwards = passes(model, monkeypatch)
    monitor.score(X)
    assert (len(forwards), len(backwards)) == (3, 2)


def test_company_changes_nothing(network):
    reads = (Perturbed(SOFT, LOGITS), Perturbed(LEAST, FEATURES), Perturbed(MOST, LOGITS))
    others = (GAIA, LOGITS, FEATURES, Gradient(MAX_LOGIT, Site("norm2"), MAP))
    together = gather(network, X, (*others, *reads))
    for read in (*reads, *others):
        alone = gather(network, X, (read,))[read]
        torch.testing.assert_close(together[read], alone, rtol=1e-12, atol=0, msg=str(read))
    assert set(together._read) == {*reads, *others}


def test_rows_do_not_depend_on_their_batch(network):
    for read in (Perturbed(SOFT, LOGITS), Perturbed(LEAST, FEATURES)):
        whole = gather(network, X, (read,))[read]
        parts = [gather(network, x, (read,))[read] for x in X.split(2)]
        torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_the_model_is_left_as_found_in_any_mode(model, network, mode):
    read = Perturbed(LEAST, LOGITS)
    expected = gather(network, X, (read,))[read]
    model.train()
    model.norm1.eval()
    with left_alone(model, "reading"), mode():
        x = X.clone()
        found = gather(network, x, (read,))[read]
        assert torch.equal(x, X) and not x.requires_grad
    assert torch.equal(found, expected)
    assert model.training and not model.norm1.training


def test_an_interrupt_in_the_second_forward_leaves_the_model_as_found(model, network):
    left = [2]

    def bomb(*_):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    model.fc.register_forward_pre_hook(bomb)
    with left_alone(model, "an interrupt"), pytest.raises(KeyboardInterrupt):
        gather(network, X, (Perturbed(LEAST, FEATURES),))


def test_the_step_is_taken_from_what_the_user_gave(model):
    """Not from what a hook of theirs makes of it, nor from what the model writes into its input."""

    class Overwriting(Net):
        def forward(self, x):
            x *= -2.0
            return super().forward(x)

    overwriting = Overwriting().eval()
    overwriting.load_state_dict(model.state_dict())
    read = Perturbed(LEAST, LOGITS)
    x = X.clone()
    seen = gather(observe(overwriting, x), x, (read, KEYS))
    assert torch.equal(x, X) and torch.equal(seen[KEYS], content_keys(X))
    model.register_forward_pre_hook(lambda _, given: (-2.0 * given[0],))
    hooked = gather(observe(model, X), X, (read,))
    torch.testing.assert_close(hooked[read], seen[read], rtol=1e-6, atol=1e-6)
    expected = model(naive(model, X, LEAST)).double()
    torch.testing.assert_close(seen[read], expected.detach(), rtol=1e-6, atol=1e-6)


def test_autocast_is_the_models(network):
    with torch.autocast("cpu", torch.bfloat16):
        seen = gather(network, X, (Perturbed(LEAST, LOGITS), Perturbed(LEAST, FEATURES)))
    assert seen.tensors[0].dtype == torch.float64 and seen.tensors[1].dtype == torch.float32
    assert all(bool(reading.isfinite().all()) for reading in seen.tensors)


# -- the step itself --------------------------------------------------------------------------


def test_equal_gradients_move_from_the_first_on_and_zero_ones_not_at_all():
    x = torch.zeros(3, 8)
    gradient = torch.tensor([[1.0] * 8, [0.0] * 4 + [2.0] * 4, [-3.0, 1, 1, 1, 1, 1, 1, 2]])
    step = Perturbation("max logit", 0.5, share=0.4)  # three of eight
    moved = perturbed(x, gradient, step)
    assert moved.tolist() == [[0.5] * 3 + [0] * 5, [0] * 8, [0] + [0.5] * 3 + [0] * 4]
    most = perturbed(x, gradient, dataclasses.replace(step, pixels="most"))
    expected = [[0.5] * 3 + [0] * 5, [0] * 4 + [0.5] * 3 + [0], [-0.5, 0.5, 0, 0, 0, 0, 0, 0.5]]
    assert most.tolist() == expected
    one = perturbed(x, gradient, dataclasses.replace(step, share=1e-6))
    assert (one != 0).sum(1).tolist() == [1, 0, 1]


@pytest.mark.parametrize("step", [SOFT, LEAST])
def test_a_gradient_of_nan_is_not_hidden(step):
    gradient = torch.randn(2, 3, 6, 6)
    gradient[1, 2, 3, 4] = torch.nan
    moved = perturbed(X[:2], gradient, step)
    assert bool(moved[0].isfinite().all()) and int(moved[1].isnan().sum()) == 1
    assert bool(moved[1, 2, 3, 4].isnan())


@pytest.mark.parametrize("shape", [(4,), (4, 3), (4, 3, 5), (4, 3, 2, 2, 2)])
def test_inputs_of_any_rank(shape):
    x = torch.randn(shape)
    std = (2.0,) if len(shape) == 1 else (2.0, 4.0, 0.5)
    moved = perturbed(x, torch.ones(shape), Perturbation("max logit", 1.0, std=std))
    expected = torch.tensor([1 / s for s in std]).reshape(-1, *[1] * (len(shape) - 2))
    torch.testing.assert_close(moved - x, expected.expand(shape))


# -- what is refused ---------------------------------------------------------------------------


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding, self.fc = nn.Embedding(9, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.fc(self.embedding(x).mean(1))


class Cut(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.fc = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        with torch.no_grad():
            h = self.body(x)
        return self.fc(h)


class Opaque(Cut):
    def forward(self, x):
        h = self.body(x)
        h.numpy()  # refused where a gradient is asked for
        return self.fc(h)


def test_whole_numbers_have_no_gradient():
    x = torch.arange(40).reshape(4, 10) % 9
    with pytest.raises(TapError, match=r"odin moves inputs.* whole numbers \(torch.int64\)"):
        gradood.Monitor(Words(), "odin").score(x)
    with pytest.raises(TapError, match=r"adascale-a moves .*Let the model take what follows"):
        gradood.Monitor(Words(), "adascale-a").fit([(x, torch.arange(4) % 3)])


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Cut(), r"not connected to the model \(input\).*under torch.no_grad"),
        (Opaque(), r"autograd cannot follow this model: Can't call numpy.*read something else"),
    ],
    ids=["cut", "opaque"],
)
def test_models_without_a_gradient_of_the_input_are_refused_by_name(model, words):
    x = torch.randn(6, 4)
    for name in ("odin", "adascale-l"):
        with pytest.raises(TapError, match=f"{name} moves inputs.*{words}"):
            gradood.Monitor(model, name).bind(x)
    assert gradood.Monitor(model, "energy").score(x).shape == (6,)


def test_deviations_must_fit_the_channels(model):
    with pytest.raises(TapError, match=r"std has 2 values, and the inputs have 3 channels"):
        gradood.Monitor(model, gradood.ODIN(std=(0.1, 0.2))).score(X)


def test_a_model_that_no_step_moves_is_told():
    class Rounding(Cut):
        def forward(self, x):
            return self.fc(self.body(x.round() * 1.0 + 0 * x))

    monitor = gradood.Monitor(Rounding(), "odin")
    with pytest.warns(MeaninglessScoreWarning, match="odin does not move the inputs"):
        monitor.score(torch.randn(6, 4))


def test_a_perturbed_answer_that_is_not_finite_is_out_of_distribution():
    class Fragile(Net):
        """Values that a step of 0.5 leads beyond 1.2 overflow."""

        def forward(self, x):
            return super().forward(x * (1 + torch.where(x.amax((1, 2, 3), True) > 1.2, nan, 0.0)))

    nan, model = torch.nan, Fragile().eval()
    x = X.clamp(-1, 1) * 0.5
    fit = gradood.Monitor(model, ["adascale-a", "adascale-l", "energy"])
    fit.fit([(x, torch.arange(5) % 4)])
    edge = x.clone()
    edge[2] = 1.0
    scores = fit.score(edge)
    for name in ("adascale-a", "adascale-l"):
        assert scores[name].isinf().tolist() == [False, False, True, False, False]
    assert bool(scores["energy"].isfinite().all())
    with pytest.raises(gradood.errors.DataError, match=r"adascale-a perturbed row 2 of a batch"):
        gradood.Monitor(model, "adascale-a").fit([(edge, torch.arange(5) % 4)])


# -- plain values ------------------------------------------------------------------------------


@pytest.mark.parametrize("read", [Perturbed(SOFT, LOGITS), Perturbed(MOST, FEATURES)])
def test_a_request_is_found_again(read):
    plain = read_to_plain(read)
    assert read_from_plain(plain) == read and hash(read_from_plain(plain)) == hash(read)


@pytest.mark.parametrize(
    "change",
    [
        {"of": "loss"},
        {"pixels": "some"},
        {"epsilon": 0},
        {"share": 1.5},
        {"temperature": float("nan")},
        {"std": []},
        {"std": [1.0, -1.0]},
        {"std": "x"},
        {"more": 1},
    ],
    ids=str,
)
def test_what_is_no_perturbation_is_refused(change):
    plain = read_to_plain(Perturbed(SOFT, LOGITS))
    with pytest.raises(ArtifactError, match="nothing that gradood reads"):
        read_from_plain({**plain, "perturbation": {**plain["perturbation"], **change}})
    with pytest.raises(ArtifactError, match="nothing that gradood reads"):
        read_from_plain({**plain, "read": "keys"})


def test_which_readings_take_a_pass_of_their_own():
    assert own_pass(Perturbed(SOFT, LOGITS)) and own_pass(ParameterNorm(("fc.weight",), 1.0, 1.0))
    shared = (LOGITS, FEATURES, KEYS, GAIA, Activation(Site("norm1"), MEAN))
    assert not any(map(own_pass, (*shared, Gradient(MAX_LOGIT, INPUT, MAP))))
    assert (
        Perturbed(SOFT, LOGITS).name == "logits after a step of 0.01 up the input's max log-softmax"
    )


def test_a_saved_monitor_perturbs_alike(model, tmp_path):
    detectors = {"o": gradood.ODIN(std=(0.2, 0.3, 0.25)), "a": gradood.AdaScaleA(share=0.2)}
    monitor = gradood.Monitor(model, detectors).fit([(X, torch.arange(5) % 4)])
    monitor.save(tmp_path / "m.safetensors")
    loaded = gradood.load(tmp_path / "m.safetensors", model)
    for name, scores in monitor.score(X).items():
        assert torch.equal(loaded.score(X)[name], scores)
    assert F.cosine_similarity(loaded.score(X)["o"], monitor.score(X)["o"], dim=0) > 0.999
