"""A tap reads values and gradients exactly, and leaves the model as it found it."""

import copy
import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gradood.errors import DataError, TapError
from gradood.taps import Site, Tap
from gradood.taps.isolation import only_thread


class Residual(nn.Module):
    """Two norms, in-place ReLUs and a residual sum; in float64."""

    def __init__(self, inplace=True):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=inplace)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.norm2 = nn.BatchNorm2d(6)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(6, 4)
        for norm in (self.norm1, self.norm2):
            nn.init.normal_(norm.bias)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
        self.double()

    def forward(self, x):
        x = self.relu(self.norm1(self.conv1(x)))
        x = self.relu(self.norm2(self.conv2(x)) + x)
        return self.fc(self.dropout(x).mean((2, 3)))


class Branches(nn.Module):
    """Two parallel branches: neither lies upstream of the other."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.fc = nn.Linear(4, 5), nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, x):
        return self.fc(torch.relu(self.a(x)) * torch.sigmoid(self.b(x)))


X = torch.randn(5, 3, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
SITES = (Site("norm1"), Site("norm2"), Site("conv2", "input"), Site("relu", "output", 1))


def max_logit(logits):
    return logits.amax(1).sum()


def gradients(model, x, sites, objective=max_logit):
    found = {}
    with Tap(model) as tap:
        for site in sites:
            tap.gradient(site)
        logits = tap.run(x)
        receivers = {s: (lambda g, s=s: found.__setitem__(s, g.clone())) for s in sites}
        tap.backward(objective(logits), receivers)
    return found


def oracle(model, x, sites, objective=max_logit):
    """Autograd on every recorded tensor of a copy without in-place layers."""
    model = copy.deepcopy(model).eval()
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    calls, kept = {}, {}

    def before(name):
        def hook(_, args):
            # What this layer takes, whatever else takes it too.
            kept[Site(name, "input", calls.get(name, 0))] = taken = args[0].clone()
            return (taken,)

        return hook

    def after(name):
        def hook(_, __, output):
            kept[Site(name, "output", calls.get(name, 0))] = output
            calls[name] = calls.get(name, 0) + 1

        return hook

    for name, module in model.named_modules():
        module.register_forward_pre_hook(before(name))
        module.register_forward_hook(after(name))
    with torch.enable_grad():
        value = objective(model(x.clone().requires_grad_()))
        grads = torch.autograd.grad(value, [kept[site] for site in sites])
    return dict(zip(sites, grads, strict=True))


# -- numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("inplace", [False, True])
def test_gradients_equal_autograd_without_in_place_layers(inplace, frozen):
    model = Residual(inplace).requires_grad_(not frozen)
    found, expected = gradients(model, X, SITES), oracle(model.requires_grad_(), X, SITES)
    for site in SITES:
        assert torch.equal(found[site], expected[site]), site
    assert bool((found[Site("norm1")] != 0).any())


@pytest.mark.parametrize("site", SITES)
def test_the_gradient_of_one_site_does_not_depend_on_the_others(site):
    model = Residual()
    alone = gradients(model, X, [site])[site]
    assert torch.equal(alone, gradients(model, X, SITES)[site])


def test_rows_are_independent():
    model = Residual()
    together = gradients(model, X, SITES)
    for site in SITES:
        alone = gradients(model, X[2:3], SITES)[site]
        torch.testing.assert_close(alone[0], together[site][2], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("frozen", [False, True])
def test_parallel_branches_each_get_their_gradient(frozen):
    model = Branches().requires_grad_(not frozen)
    x, sites = torch.randn(3, 4), [Site("a"), Site("b")]
    found, expected = gradients(model, x, sites), oracle(model.requires_grad_(), x, sites)
    for site in sites:
        assert torch.equal(found[site], expected[site])


def test_several_objectives_in_one_pass():
    model = Residual()
    objectives = [max_logit, lambda z: torch.log_softmax(z, 1).sum(), lambda z: z[:, 0].sum()]
    site = Site("norm1")
    forwards, found = [], []
    model.register_forward_hook(lambda *_: forwards.append(1))
    with Tap(model) as tap:
        tap.gradient(site)
        logits = tap.run(X)
        for i, objective in enumerate(objectives):
            receivers = {site: lambda g: found.append(g.clone())}
            tap.backward(objective(logits), receivers, keep=i < 2)
    assert len(forwards) == 1
    for gradient, objective in zip(found, objectives, strict=True):
        expected = oracle(model, X, [site], objective)[site]
        torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-14)


def test_values_are_those_before_an_in_place_layer_changes_them():
    model = Residual(inplace=True).eval()
    seen = []
    with Tap(model) as tap:
        tap.value(Site("norm1"), lambda t: seen.append(t.clone()))
        tap.run(X)
    with torch.no_grad():
        assert torch.equal(seen[0], model.norm1(model.conv1(X)))
    assert bool((seen[0] < 0).any())


def test_a_replaced_tensor_is_what_the_network_goes_on_with():
    model = Residual().eval()
    other = torch.rand(5, 6, 6, 6, dtype=torch.float64)
    with Tap(model) as tap:
        tap.replace(Site("relu"), other)
        logits = tap.run(X)
    with torch.no_grad():
        after = torch.relu(model.norm2(model.conv2(other)) + other)
        torch.testing.assert_close(logits, model.fc(after.mean((2, 3))))


@pytest.mark.parametrize("one_row", [False, True])
def test_a_replacement_is_not_written_to_by_layers_that_work_in_place(one_row):
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 2)).eval()
    other = torch.randn(1 if one_row else 5, 4)
    given, before = other.expand(5, 4), other.clone()
    with Tap(model) as tap, torch.no_grad():
        tap.replace(Site("0"), given)
        logits = tap.run(torch.randn(5, 3))
    assert torch.equal(other, before)
    torch.testing.assert_close(logits, model[2](torch.relu(given)))


def test_keyword_arguments_are_seen_and_replaced():
    class Keyword(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Bilinear(3, 3, 2)

        def forward(self, x):
            return self.fc(input1=x, input2=x)

    model, x, seen = Keyword(), torch.randn(2, 3), []
    with Tap(model) as tap:
        tap.value(Site("fc", "input"), lambda t: seen.append(t.clone()))
        tap.replace(Site("fc", "input"), torch.zeros(2, 3))
        logits = tap.run(x)
    assert bool((seen[0] == 0).all())
    torch.testing.assert_close(logits, model.fc(torch.zeros(2, 3), x))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.enable_grad, torch.inference_mode])
def test_gradients_work_in_any_grad_mode(mode):
    model = Residual()
    expected = gradients(model, X, SITES)
    with mode():
        found = gradients(model, X.clone(), SITES)
        grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        assert grad == (mode is torch.enable_grad)
        assert inference == (mode is torch.inference_mode)
    for site in SITES:
        assert torch.equal(found[site], expected[site])


# -- errors ---------------------------------------------------------------------------------


def test_an_unknown_layer_is_refused_with_a_suggestion():
    with Tap(Residual()) as tap, pytest.raises(TapError, match=r"no layer 'nrom1'.*'norm1'"):
        tap.value(Site("nrom1"), lambda t: None)


def test_a_layer_that_did_not_run_is_named():
    model = Residual()
    model.spare = nn.Linear(2, 2)
    with Tap(model) as tap, pytest.raises(TapError, match="did not reach spare; name layers"):
        tap.value(Site("spare"), lambda t: None)
        tap.run(X)


def test_a_second_call_that_never_comes_is_named():
    with Tap(Residual()) as tap, pytest.raises(TapError, match=r"did not reach norm1 \(call 1\)"):
        tap.value(Site("norm1", "output", 1), lambda t: None)
        tap.run(X)


def test_a_layer_that_gives_a_tuple_names_the_layers_inside():
    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.LSTM(3, 4, batch_first=True)

        def forward(self, x):
            return self.rnn(x)

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.fc = Inner(), nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(self.inner(x)[0][:, -1])

    message = "'inner' gives a tuple, not a tensor; name a layer inside it: inner.rnn"
    with Tap(Outer()) as tap, pytest.raises(TapError, match=message):
        tap.value(Site("inner"), lambda t: None)
        tap.run(torch.randn(2, 5, 3))


def test_an_objective_that_does_not_depend_on_the_layer_is_refused():
    class Spectator(nn.Module):
        def __init__(self):
            super().__init__()
            self.aside, self.fc = nn.Linear(4, 4), nn.Linear(4, 3)

        def forward(self, x):
            self.aside(x)
            return self.fc(x)

    model = Spectator()
    for sites in (["aside"], ["aside", "fc"]):
        with pytest.raises(TapError, match="objective is not connected to aside"):
            gradients(model, torch.randn(2, 4), [Site(name) for name in sites])


def test_a_layer_of_whole_numbers_has_no_gradient():
    class Rounding(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.fc = nn.Embedding(5, 4), nn.Linear(4, 3)

        def forward(self, x):
            return self.fc(self.embed(x).mean(1))

    with pytest.raises(TapError, match=r"embed \(input\) holds torch.int64, which has no gradient"):
        gradients(Rounding(), torch.randint(5, (2, 3)), [Site("embed", "input")])


# -- the model is left as it was found ------------------------------------------------------


def state(model):
    hooks = [
        len(table)
        for module in model.modules()
        for table in (
            module._forward_hooks,
            module._forward_pre_hooks,
            module._backward_hooks,
            module._forward_hooks_with_kwargs,
            module._forward_pre_hooks_with_kwargs,
        )
    ]
    return (
        hooks,
        [module.training for module in model.modules()],
        [p.requires_grad for p in model.parameters()],
        [None if p.grad is None else p.grad.clone() for p in model.parameters()],
        {name: value.clone() for name, value in model.state_dict().items()},
        torch.get_rng_state() if only_thread() else torch.empty(0),
        torch.is_grad_enabled(),
    )


def assert_same(before, after):
    assert before[:3] == after[:3]
    for a, b in zip(before[3], after[3], strict=True):
        assert (a is None and b is None) or torch.equal(a, b)
    for name, value in before[4].items():
        assert torch.equal(value, after[4][name]), name
    assert torch.equal(before[5], after[5])
    assert before[6] == after[6]


class Boom(nn.Module):
    """Draws random numbers, then raises what it is told to."""

    def __init__(self, error=None):
        super().__init__()
        self.error = error

    def forward(self, x):
        torch.rand(3)
        if self.error is not None:
            raise self.error
        return x


@pytest.mark.parametrize("error", [None, RuntimeError("boom"), KeyboardInterrupt()])
@pytest.mark.parametrize("with_grad", [False, True])
def test_model_is_left_as_found(error, with_grad):
    model = Residual().train()
    model.norm2.eval()
    model.conv1.weight.requires_grad_(False)
    model.dropout = nn.Sequential(nn.Dropout(0.5), Boom(error))
    foreign = []
    model.norm1.register_forward_hook(lambda *_: foreign.append(1))
    if with_grad:
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
    before = state(model)
    if error is None:
        gradients(model, X, SITES)
    else:
        with pytest.raises(DataError if isinstance(error, Exception) else type(error)):
            gradients(model, X, SITES)
    assert_same(before, state(model))
    assert foreign == [1]


def test_model_is_left_as_found_when_a_reading_raises():
    model = Residual().train()
    before = state(model)

    def refuse(_):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), Tap(model) as tap:
        tap.value(Site("norm1"), refuse)
        tap.gradient(Site("norm2"))
        tap.run(X)
    with pytest.raises(ValueError, match="no"), Tap(model) as tap:
        tap.gradient(Site("norm2"))
        tap.backward(tap.run(X).sum(), {Site("norm2"): refuse})
    assert_same(before, state(model))


def test_evaluation_mode_inside():
    model = Residual().train()
    statistics = model.norm1.running_mean.clone()
    seen = []
    model.dropout.register_forward_pre_hook(lambda module, _: seen.append(module.training))
    with Tap(model) as tap:
        assert all(module.training for module in model.modules()), "the model's own mode stays"
        first = tap.run(X)
    assert seen == [False]
    with Tap(model) as tap:
        assert torch.equal(first, tap.run(X))
    assert torch.equal(statistics, model.norm1.running_mean)


def test_two_taps_on_one_model_do_not_disturb_one_another():
    model, seen = Residual(), []
    with Tap(model) as outer:
        outer.value(Site("norm1"), seen.append)
        found = gradients(model, X, SITES)
        outer.run(X)
    assert len(seen) == 1
    for site, gradient in oracle(model, X, SITES).items():
        assert torch.equal(found[site], gradient)


# -- memory ---------------------------------------------------------------------------------


def live_tensors():
    gc.collect()
    return sum(issubclass(type(thing), torch.Tensor) for thing in gc.get_objects())


@pytest.mark.parametrize("fails", [False, True])
def test_no_tensor_survives_a_look(fails):
    """A tensor hook that holds the tap, which holds the graph, is a cycle no collector sees."""
    model = Residual()
    model.dropout = Boom()
    refs = []

    def look():
        with Tap(model) as tap:
            for site in SITES:
                tap.gradient(site)
                tap.value(site, lambda t: refs.append(weakref.ref(t)))
            tap.backward(max_logit(tap.run(X)), {site: (lambda g: None) for site in SITES})

    look()
    model.dropout.error = RuntimeError("boom") if fails else None
    before = live_tensors()
    for _ in range(5):
        if fails:
            with pytest.raises(DataError, match="boom"):
                look()
        else:
            look()
    model.dropout.error = None
    assert live_tensors() <= before
    assert [ref for ref in refs if ref() is not None] == []


def test_no_graph_survives_readings_that_keep_their_tensor():
    """As the features are kept: the tensor keeps its graph, and so whatever hooks hold."""
    model, graphs = Residual(), []

    def look():
        kept = []
        with Tap(model) as tap:
            tap.value(Site("fc", "input"), kept.append)
            tap.gradient(Site("norm1"))
            tap.run(X)
            tap.backward(kept[0].sum(), {Site("norm1"): lambda g: None})
        graphs.append(weakref.ref(kept[0]))

    for _ in range(3):
        look()
    gc.collect()
    assert [ref for ref in graphs if ref() is not None] == []


def test_hooks_of_a_copied_model_are_its_own():
    model = Residual()
    with Tap(model) as tap:
        tap.gradient(Site("norm1"))
        tap.run(X)
    clone = copy.deepcopy(model)
    assert all(not module._forward_hooks for module in clone.modules())
    F.cross_entropy(clone(X), torch.zeros(5, dtype=torch.int64)).backward()


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_layers_that_the_model_runs_without_gradients_are_named(mode):
    class Frozen(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.fc = nn.Linear(4, 5), nn.Linear(5, 3)

        def forward(self, x):
            with mode():
                h = self.backbone(x)
            return self.fc(h.clone())

    words = "no_grad" if mode is torch.no_grad else "inference_mode"
    with pytest.raises(TapError, match=rf"backbone.*torch\.{words}\(\)"):
        gradients(Frozen(), torch.randn(2, 4), [Site("backbone")])
