"""What a forward changes in a model in place is kept from it, wherever the model holds it."""

import collections
import itertools
import random
from array import array

import numpy as np
import pytest
import torch
from torch import nn

import gradood
from gradood.errors import DataError, TapError
from gradood.taps import observe

pytestmark = pytest.mark.usefixtures("alone")

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(5))


class Changing(nn.Module):
    """Holds a value, and changes it in place in each forward."""

    def __init__(self, value, step):
        super().__init__()
        self.fc, self.step = nn.Linear(4, 3), step
        self.value = value

    def forward(self, x):
        self.step(self)
        return self.fc(x)


class Plain:
    def __init__(self, **held):
        self.__dict__.update(held)


class Slotted:
    __slots__ = ("n",)

    def __init__(self):
        self.n = 0


class MyList(list):
    pass


class MyDict(dict):
    pass


def closure():
    held = []
    return lambda: held.append(1) or len(held)


def rep(value):
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, torch.Generator):
        return value.get_state().tolist()
    if isinstance(value, np.random.Generator):
        return str(value.bit_generator.state)
    if isinstance(value, np.random.RandomState):
        return str(value.get_state())
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, dict):
        return {key: rep(part) for key, part in value.items()}
    if isinstance(value, list | tuple | collections.deque):
        return [rep(part) for part in value]
    if isinstance(value, Slotted):
        return value.n
    if callable(value):
        return rep(value.__closure__[0].cell_contents)
    if isinstance(value, Plain):
        return {key: rep(part) for key, part in vars(value).items()}
    return repr(value)


CASES = {
    "torch generator": (torch.Generator, lambda m: torch.rand(3, generator=m.value)),
    "numpy generator": (lambda: np.random.default_rng(0), lambda m: m.value.random()),
    "numpy state": (lambda: np.random.RandomState(0), lambda m: m.value.rand()),
    "random": (lambda: random.Random(0), lambda m: m.value.random()),
    "array": (lambda: np.zeros(2), lambda m: m.value.__iadd__(1)),
    "large array": (lambda: np.zeros(1 << 18), lambda m: m.value.__iadd__(1)),
    "list of tensors": (lambda: [torch.zeros(2)], lambda m: m.value[0].add_(1)),
    "tuple of tensors": (lambda: (torch.zeros(2),), lambda m: m.value[0].add_(1)),
    "dict of tensors": (lambda: {"k": torch.zeros(2)}, lambda m: m.value["k"].add_(1)),
    "tensor of an object": (lambda: Plain(t=torch.zeros(2)), lambda m: m.value.t.add_(1)),
    "list of an object": (lambda: Plain(l=[1]), lambda m: m.value.l.append(2)),
    "number of an object": (lambda: Plain(n=1), lambda m: setattr(m.value, "n", m.value.n + 1)),
    "slot": (Slotted, lambda m: setattr(m.value, "n", m.value.n + 1)),
    "list subclass": (lambda: MyList([0]), lambda m: m.value.append(1)),
    "dict subclass": (MyDict, lambda m: m.value.update(a=m.value.get("a", 0) + 1)),
    "counter": (collections.Counter, lambda m: m.value.update("a")),
    "count": (itertools.count, lambda m: next(m.value)),
    "array.array": (lambda: array("i", [0]), lambda m: m.value.append(1)),
    "bytearray": (bytearray, lambda m: m.value.extend(b"x")),
    "large list": (lambda: list(range(10_001)), lambda m: m.value.append(1)),
    "closure": (closure, lambda m: m.value()),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("training", [True, False])
def test_what_attributes_hold_is_left_as_found(name, training):
    make, step = CASES[name]
    model = Changing(make(), step).train(training)
    before = rep(model.value)
    monitor = gradood.Monitor(model, "energy")
    for _ in range(2):
        monitor.score(X)
        assert rep(model.value) == before
    model(X)
    assert rep(model.value) != before


WRITES = {
    "renorm": lambda m: setattr(m.fc.weight, "data", torch.renorm(m.fc.weight.data * 3, 2, 0, 0.5)),
    "clamp": lambda m: m.fc.weight.data.clamp_(-0.1, 0.1),
    "no_grad": lambda m: torch.no_grad()(lambda: m.fc.weight.clamp_(-0.1, 0.1))(),
    "flag": lambda m: m.fc.weight.requires_grad_(not m.fc.weight.requires_grad),
    "attribute": lambda m: setattr(m.fc.weight, "used", getattr(m.fc.weight, "used", 0) + 1),
}


@pytest.mark.parametrize("name", WRITES)
def test_parameters_that_a_forward_writes_are_left_as_found(name):
    model = Changing(None, WRITES[name])
    weight, kept = model.fc.weight, model.fc.weight.detach().clone()
    pointer = weight.data_ptr()
    monitor = gradood.Monitor(model, "gradnorm")
    first = monitor.score(X)
    assert torch.equal(monitor.score(X), first)
    assert model.fc.weight is weight and torch.equal(weight, kept)
    assert weight.requires_grad and not vars(weight) and weight.data_ptr() == pointer
    assert monitor.bind(X).network.views.written == (("fc", "weight"),)
    with torch.no_grad():
        expected = -torch.logsumexp(model(X).double(), 1)
    assert torch.allclose(gradood.Monitor(model, "energy").score(X), expected, rtol=1e-6)


def test_an_embedding_with_a_largest_norm_is_not_changed_by_binding():
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.fc = nn.Embedding(20, 8, max_norm=0.5), nn.Linear(8, 3)

        def forward(self, tokens):
            return self.fc(self.words(tokens).mean(1))

    model, tokens = Words().eval(), torch.arange(18).reshape(6, 3)
    before = model.words.weight.detach().clone()
    monitor = gradood.Monitor(model, "energy")
    monitor.bind(tokens)
    scores = monitor.score(tokens)
    assert torch.equal(model.words.weight, before)
    with torch.no_grad():
        assert torch.allclose(scores, -model(tokens).double().logsumexp(1), rtol=1e-6)


def test_tensors_held_twice_stay_one():
    bank = torch.zeros(3)

    def step(model):
        model.value[0].add_(1)
        assert model.other["bank"] is model.value[0] and model.value[1] is model.fc.weight

    model = Changing(None, step)
    model.value, model.other = [bank, model.fc.weight], {"bank": bank}
    views = observe(model, X).views
    assert set(views.stateful) == {("", "value")} and not views.written
    gradood.Monitor(model, "energy").score(X)
    assert not bank.any()


def test_an_ordinary_model_needs_no_copies():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    views = observe(model, X).views
    assert views.written == () and views.stateful == ()


def test_what_no_copy_can_be_made_of_is_told_before_it_is_changed(caplog):
    class Direct(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, x):
            HELD[0].fc.bias.data.clamp_(-0.01, 0.01)
            return HELD[0].fc(x)

    model = Direct().eval()
    HELD[:] = [model]
    before = model.fc.bias.detach().clone()
    with caplog.at_level("WARNING"):
        assert observe(model, X).views.direct
    assert "changes in place, in the model itself: fc.bias" in caplog.text
    assert torch.equal(model.fc.bias, before)


HELD = []


def test_a_part_without_data_is_refused():
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 3))
    model[0].to("meta")
    with pytest.raises(TapError, match=r"2 tensors .* meta device .* '0\.weight'"):
        observe(model, X)


def test_sparse_inputs_are_refused():
    monitor = gradood.Monitor(nn.Linear(4, 3), "energy")
    for _ in range(2):
        with pytest.raises(DataError, match=r"sparse.*to_dense"):
            monitor.score(X.to_sparse())
        monitor.score(X)
