"""The item of an output that holds the logits, and outputs that are no logits."""

import pickle
import warnings
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gradood
from gradood.errors import (
    ArtifactError,
    ConfigError,
    DataError,
    MeaninglessScoreWarning,
    TapError,
)
from gradood.taps import logits_of, observe
from gradood.taps._output import by_values

X = torch.randn(40, 3, 2, 2, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """An auxiliary head, a classifier, and what `give` makes of features and both."""

    def __init__(self, give, classes=4):
        super().__init__()
        torch.manual_seed(0)
        self.f = nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.ReLU())
        self.aux, self.fc, self.give = nn.Linear(16, 6), nn.Linear(16, classes), give

    def forward(self, x):
        h = self.f(x)
        return self.give(h, self.aux(h), self.fc(h))


def net(give, classes=4):
    return Net(give, classes).eval()


def aux_first(h, a, z):
    return a, z


def aux_named(h, a, z):
    return {"aux": a, "out": z}


def second(returned):
    return returned[1]


def energy(model, x=X, **options):
    return gradood.Monitor(model, "energy", **options).score(x)


@pytest.mark.parametrize(
    ("give", "named"),
    [
        (
            aux_first,
            "2 items that could be the logits: item 0 (batch, 6) of layer 'aux' and item 1 (",
        ),
        (
            lambda h, a, z: (z, a),
            "item 0 (batch, 4) of layer 'fc' and item 1 (batch, 6) of layer 'aux'. C",
        ),
        (
            lambda h, a, z: [h, z],
            "could be the logits: item 1 (batch, 4) of layer 'fc'; its first matrix, item 0",
        ),
        (lambda h, a, z: (z.softmax(1), z), "its first matrix, item 0 (batch, 4), is not"),
        (lambda h, a, z: (z[:, :1], z), "its first matrix, item 0 (batch, 1), is not"),
    ],
    ids=["auxiliary", "auxiliary second", "features", "probabilities", "confidence"],
)
def test_several_items_are_told_with_the_choice(give, named):
    with pytest.raises(TapError) as caught:
        observe(net(give), X)
    assert named in str(caught.value) and "Choose with output=" in str(caught.value)


@pytest.mark.parametrize(
    "give",
    [
        lambda h, a, z: (z, h),
        lambda h, a, z: (z, z.softmax(1), z.log_softmax(1)),
        lambda h, a, z: (z, F.normalize(a)),
        lambda h, a, z: (z, z.clone()),
        lambda h, a, z: (z, z[:, :1].sigmoid()),
        lambda h, a, z: (z, None, z.argmax(1)),
        lambda h, a, z: {"aux": a, "logits": z},
    ],
)
def test_what_can_be_no_logits_beside_them_is_passed_over(give):
    assert torch.allclose(energy(net(give)), energy(net(lambda h, a, z: z)))


def test_names_decide_as_in_libraries():
    from collections import namedtuple

    outputs = namedtuple("InceptionOutputs", ["logits", "aux_logits"])
    assert observe(net(lambda h, a, z: outputs(z, a)), X).classes == 4


def test_an_item_that_no_layer_gives_beside_another_is_warned_of():
    with pytest.warns(MeaninglessScoreWarning, match="is taken for the logits; others could be"):
        energy(net(lambda h, a, z: (z * 2 + 1, a)))


@pytest.mark.parametrize(
    ("give", "output"),
    [
        (aux_first, 1),
        (aux_first, -1),
        (aux_first, second),
        (aux_named, "out"),
        (lambda h, a, z: (z, a), 0),
        (lambda h, a, z: {"x": z[:, :, None]}, "x"),
    ],
)
def test_an_item_may_be_chosen(give, output):
    x, plain = X, net(lambda h, a, z: z)
    for method in ("energy", gradood.KNN(k=3), "gradnorm", "odin"):
        scores = [
            gradood.Monitor(model, method, **options).fit([x]).score(x)
            for model, options in ((net(give), {"output": output}), (plain, {}))
        ]
        torch.testing.assert_close(*scores)
    assert gradood.inspect(net(give), x, "energy", output=output).classes == 4


def test_parameter_gradients_are_of_the_item_chosen():
    given = gradood.GradNorm(parameters=["fc.weight"])
    chosen = gradood.Monitor(net(aux_first), given, output=1).score(X)
    torch.testing.assert_close(chosen, gradood.Monitor(net(second_only), given).score(X))


def second_only(h, a, z):
    return z


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (4, r"output=4 is not in what the model returned: a tuple of 2 \(0: \(1, 6\), 1: \(1, 4\)"),
        ("out", "output='out' is not in what the model returned"),
        (len, r"the function output= is a int; expected logits"),
        (lambda r: r[7], r"the function output= raised IndexError"),
    ],
)
def test_an_item_that_is_not_there_is_refused(output, said):
    with pytest.raises(TapError, match=said):
        energy(net(aux_first), output=output)
    with pytest.raises(TapError, match="has no items; leave output out"):
        logits_of(X.flatten(1), 1)


@pytest.mark.parametrize("output", [True, 1.5, "", [1], nn.Module])
def test_an_output_that_chooses_nothing_is_refused_at_once(output):
    with pytest.raises(ConfigError, match="output="):
        gradood.Monitor(net(aux_first), "energy", output=output)


# -- kept in files --------------------------------------------------------------------------------


@pytest.mark.parametrize(("give", "output"), [(aux_first, 1), (aux_named, "out")])
def test_the_choice_is_saved(tmp_path, give, output):
    model = net(give)
    monitor = gradood.Monitor(model, ["energy", "knn"], output=output)
    monitor.fit([torch.randn(600, 3, 2, 2)]).save(tmp_path / "d.safetensors")
    loaded = gradood.load(tmp_path / "d.safetensors", model)
    torch.testing.assert_close(loaded.score(X)["energy"], monitor.score(X)["energy"])
    loaded.fit([torch.randn(600, 3, 2, 2)])
    loaded.save(tmp_path / "again.safetensors")
    again = gradood.load(tmp_path / "again.safetensors", model)
    torch.testing.assert_close(again.score(X)["energy"], monitor.score(X)["energy"])


def test_a_function_is_given_again(tmp_path):
    model, file = net(aux_first), tmp_path / "d.safetensors"
    monitor = gradood.Monitor(model, "energy", output=second)
    monitor.bind(X)
    monitor.save(file)
    with pytest.raises(ArtifactError, match=r"saved with a function as output=.* give it again"):
        gradood.load(file, model)
    loaded = gradood.load(file, model, output=second)
    torch.testing.assert_close(loaded.score(X), monitor.score(X))
    torch.testing.assert_close(pickle.loads(pickle.dumps(loaded)).score(X), monitor.score(X))


def test_files_of_before_load_where_the_first_item_was_taken(tmp_path):
    """Without a choice in the file, the first matrix is what it was made with."""
    model, file = net(lambda h, a, z: (z, a)), tmp_path / "d.safetensors"
    monitor = gradood.Monitor(model, "energy", output=0)
    monitor.bind(X)
    from dataclasses import replace

    options = monitor._session.options
    monitor._session.options = replace(options, unbound=replace(options.unbound, output=None))
    monitor.save(file)
    torch.testing.assert_close(gradood.load(file, model).score(X), monitor.score(X))


# -- outputs that are no logits -------------------------------------------------------------------

NO_LOGITS = {
    "softmax": lambda z: z.softmax(1),
    "softmax of a temperature": lambda z: (z / 3).softmax(1),
    "log-softmax": lambda z: z.log_softmax(1),
    "sigmoid": torch.sigmoid,
    "hard sigmoid": F.hardsigmoid,
    "log of a softmax": lambda z: z.softmax(1).log(),
    "scaled log-softmax": lambda z: 2.5 * z.log_softmax(1),
    "negated log-softmax": lambda z: -z.log_softmax(1),
    "percent": lambda z: 100 * z.softmax(1),
    "smoothed": lambda z: 0.9 * z.softmax(1) + 0.025,
    "by hand": lambda z: z.exp() / z.exp().sum(1, True),
    "log by hand": lambda z: z - z.logsumexp(1, True),
    "bits by hand": lambda z: (z - z.logsumexp(1, True)) / 0.6931,
    "mean of two": lambda z: (z.softmax(1) + (2 * z).softmax(1)) / 2,
}
LOGITS = {
    "plain": lambda z: z,
    "negative": lambda z: z - 30,
    "positive": lambda z: z + 30,
    "positive and small": lambda z: 0.1 * z + 0.5,
    "sum of one by nearly": lambda z: z - z.mean(1, True) + 1 / z.shape[1] + 0.05 * z[:, :1],
    "temperature": lambda z: z / 1.7,
    "soft cap": lambda z: 3 * (z / 3).tanh(),
    "hardly different": lambda z: 1e-4 * z + torch.arange(z.shape[1]),
    "hardly different, negative": lambda z: 1e-3 * z - 3 - torch.arange(z.shape[1]),
}


@pytest.mark.parametrize("classes", [2, 4, 30])
@pytest.mark.parametrize("kind", NO_LOGITS)
def test_outputs_that_are_no_logits_are_told(kind, classes):
    model = net(lambda h, a, z: NO_LOGITS[kind](z), classes)
    with pytest.warns(MeaninglessScoreWarning, match="not logits: scores made of them mean little"):
        energy(model)
    with pytest.warns(MeaninglessScoreWarning, match="not logits"):
        gradood.Monitor(model, "gaia-z").score(X)
    with pytest.raises(TapError, match="looks like"):
        gradood.Monitor(model, gradood.ASHS(percentile=90)).score(X)
    found = gradood.inspect(model, X, ["energy", "msp", "knn", "vim"])
    said = str(found)
    assert said.count("looks like") + said.count("last operation") <= 2 and "Tried" not in said
    assert len(found.cautions) == 1 and str(found).count("not logits") == 1
    assert all(found.cautions[0] in use.caveats for use in found.uses if use.works)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("classes", [2, 4, 30])
@pytest.mark.parametrize("kind", LOGITS)
def test_logits_are_not_told_to_be_none(kind, classes, dtype):
    model = net(lambda h, a, z: LOGITS[kind](z), classes).to(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        energy(model, X.to(dtype))
        gradood.Monitor(model, "energy").score(X[:1].to(dtype))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["softmax", "log-softmax", "by hand"])
def test_coarse_types_are_told_as_well(kind, dtype):
    model = net(lambda h, a, z: NO_LOGITS[kind](3 * z)).to(dtype)
    with pytest.warns(MeaninglessScoreWarning, match="not logits"):
        energy(model, X.to(dtype))


def test_many_random_networks_raise_no_false_alarm():
    generator = torch.Generator().manual_seed(0)
    for _ in range(500):
        classes = int(torch.randint(2, 12, (1,), generator=generator))
        scale, offset = 10 ** torch.empty(2).uniform_(-3, 1.5, generator=generator)
        row = torch.randn(1, classes, generator=generator)
        z = offset * row + scale * torch.randn(32, classes, generator=generator)
        z = z.abs() if torch.rand((), generator=generator) < 0.3 else z
        for dtype in (torch.float32, torch.bfloat16):
            assert by_values(z.to(dtype)) is None


# -- what the model raises ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [ValueError, AssertionError, KeyError, RuntimeError, ZeroDivisionError]
)
def test_what_the_model_raises_names_the_input(kind):
    def refuse(h, a, z):
        if len(z) and bool((h > 1e3).any()):
            raise kind("too large")
        return z

    monitor = gradood.Monitor(net(refuse), ["energy", "gaia-z"])
    monitor.score(X)
    said = rf"the model raised {kind.__name__} on the input \(batch, 3, 2, 2\) float32: .*too large"
    with pytest.raises(DataError, match=said) as caught:
        monitor.score(X * 1e9)
    assert type(caught.value.__cause__) is kind
    with pytest.raises(DataError, match=said):
        energy(net(refuse), X * 1e9)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, MemoryError, torch.cuda.OutOfMemoryError])
def test_interrupts_and_want_of_memory_pass_through(kind):
    def stop(h, a, z):
        raise kind("now")

    with pytest.raises(kind):
        energy(net(stop))


def test_dropout_that_stays_on_is_called_random():
    model = net(lambda h, a, z: F.dropout(z, 0.5, training=True))
    model.dropout = nn.Dropout()
    with pytest.raises(
        TapError, match=r"same input other logits each time.* dropout layers: dropout"
    ):
        energy(model)


class Tokens(nn.Module):
    """A classifier of tokens: logits (batch, positions, 5), bare or in an object."""

    def __init__(self, *, bare):
        super().__init__()
        self.embed, self.mix = nn.Embedding(50, 16), nn.GRU(16, 16, batch_first=True)
        self.fc, self.bare = nn.Linear(16, 5), bare

    def forward(self, input_ids):
        logits = self.fc(self.mix(self.embed(input_ids))[0])
        return logits if self.bare else SimpleNamespace(logits=logits)


@pytest.mark.parametrize("bare", [True, False])
@pytest.mark.parametrize("method", ["energy", "knn"])
def test_a_classifier_of_tokens_is_refused_with_what_to_do(bare, method):
    torch.manual_seed(0)
    ids = {"input_ids": torch.randint(0, 50, (40, 7))}
    model = Tokens(bare=bare).eval()
    with pytest.raises(TapError, match=r"logits \(1, 7, 5\) at every position.*output=lambda"):
        gradood.Monitor(model, method, progress=False).fit(ids)
    for chosen in (lambda z: z[:, 2], lambda z: z.mean(1)):
        output = chosen if bare else lambda out, chosen=chosen: chosen(out.logits)
        monitor = gradood.Monitor(model, method, output=output, progress=False).fit(ids)
        assert monitor.score(ids).isfinite().all()


def test_a_classifier_of_pixels_is_refused_with_what_to_do():
    model = nn.Conv2d(3, 4, 3)
    with pytest.raises(TapError, match=r"logits\[:, :, i, j\]"):
        gradood.Monitor(model, "energy", progress=False).fit(torch.randn(8, 3, 6, 6))
