"""A view runs copies of a model's modules, however these reach one another, and never the model."""

import copy
import functools
import gc
import pickle
import threading
import weakref
from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass

import pytest
import torch
from torch import nn

import gradood
from gradood.errors import DataError, TapError
from gradood.taps import Site, Tap, Views, left_as_found, observe

X = torch.randn(6, 4, generator=torch.Generator().manual_seed(5))


class Parts(nn.Module):
    """Two layers with a normalization that training mode would change, and a head."""

    def __init__(self):
        super().__init__()
        self.a, self.norm, self.drop = nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5)
        self.fc = nn.Linear(6, 3)

    def body(self, x):
        return self.drop(torch.relu(self.norm(self.a(x))))

    def forward(self, x):
        return self.fc(self.body(x))


class ByMethod(Parts):
    def __init__(self):
        super().__init__()
        self.step = self.body

    def forward(self, x):
        return self.fc(self.step(x))


class ByPartial(Parts):
    def __init__(self):
        super().__init__()
        self.step = functools.partial(self.compute, scale=1.0)

    def compute(self, x, scale):
        return scale * self.body(x)

    def forward(self, x):
        return self.fc(self.step(x))


class ByClosure(Parts):
    def __init__(self):
        super().__init__()
        a, norm, drop, calls = self.a, self.norm, self.drop, []

        def step(x, act=torch.relu):
            calls.append(1)
            return drop(act(norm(a(x))))

        self.step = step

    def forward(self, x):
        return self.fc(self.step(x))


class ByDefault(Parts):
    def __init__(self):
        super().__init__()

        def step(x, layers=(self.a, self.norm), *, drop=self.drop):
            for layer in layers:
                x = layer(x)
            return drop(torch.relu(x))

        self.step = step

    def forward(self, x):
        return self.fc(self.step(x))


class ByContainer(Parts):
    def __init__(self, make):
        super().__init__()
        self.held = make([self.a, self.norm, nn.ReLU(), self.drop])

    def forward(self, x):
        held = self.held
        for layer in held.values() if isinstance(held, dict) else held:
            x = layer(x)
        return self.fc(x)


def nested(layers):
    return [(layers[0], layers[1]), {"rest": deque(layers[2:])}]


class ByNesting(ByContainer):
    def __init__(self):
        super().__init__(nested)

    def forward(self, x):
        first, last = self.held
        for layer in (*first, *last["rest"]):
            x = layer(x)
        return self.fc(x)


@dataclass(slots=True)
class Slotted:
    layer: nn.Module


class Helper:
    def __init__(self, model):
        self.parts = [model.a, Slotted(model.norm)]
        self.drop = model.drop

    def __call__(self, x):
        return self.drop(torch.relu(self.parts[1].layer(self.parts[0](x))))


class ByHelper(Parts):
    def __init__(self):
        super().__init__()
        self.helper = Helper(self)

    def forward(self, x):
        return self.fc(self.helper(x))


class ByWeakReference(Parts):
    class Child(nn.Module):
        def __init__(self, parent):
            super().__init__()
            self.parent, self.other = weakref.ref(parent), [weakref.proxy(parent)]

        def forward(self, x):
            other = self.other[0]
            return other.drop(torch.relu(self.parent().norm(other.a(x))))

    def __init__(self):
        super().__init__()
        self.child = self.Child(self)

    def forward(self, x):
        return self.fc(self.child(x))


class ByCachedMethod(Parts):
    def __init__(self):
        super().__init__()
        self.layer = functools.lru_cache(maxsize=None)(self.named)

    def named(self, name):
        return getattr(self, name)

    def forward(self, x):
        h = torch.relu(self.layer("norm")(self.layer("a")(x)))
        return self.fc(self.layer("drop")(h))


class ByHook(Parts):
    """Its forward reads what a hook of a child has written."""

    def __init__(self):
        super().__init__()
        self.features = None
        self.a.register_forward_hook(self.keep)

        def normalize(module, args, output):
            return self.drop(output)

        self.norm.register_forward_hook(normalize)

    def keep(self, module, args, output):
        self.features = output

    def forward(self, x):
        self.a(x)
        return self.fc(torch.relu(self.norm(self.features)))


class ByTable(Parts):
    """A hook finds the name of its module in a table of modules."""

    def __init__(self):
        super().__init__()
        names = {module: name for name, module in self.named_modules()}
        self.kept = {}

        def keep(module, args, output):
            self.kept[names[module]] = output

        self.a.register_forward_hook(keep)

    def forward(self, x):
        self.a(x)
        return self.fc(self.drop(torch.relu(self.norm(self.kept["a"]))))


class ByOwnForward(Parts):
    def __init__(self):
        super().__init__()
        inner = self.body
        self.forward = lambda x: self.fc(inner(x))


class Tied(Parts):
    def __init__(self):
        super().__init__()
        self.again, self.both = self.a, nn.ModuleList([self.norm, self.drop])

    def forward(self, x):
        for layer in self.both:
            x = layer(x if x.shape[1] == 6 else self.again(x))
        return self.fc(torch.relu(x))


MODELS = {
    "plain": Parts,
    "method": ByMethod,
    "partial": ByPartial,
    "closure": ByClosure,
    "default": ByDefault,
    "list": lambda: ByContainer(list),
    "tuple": lambda: ByContainer(tuple),
    "deque": lambda: ByContainer(deque),
    "dict": lambda: ByContainer(lambda layers: dict(enumerate(layers))),
    "ordered": lambda: ByContainer(lambda layers: OrderedDict(enumerate(layers))),
    "default dict": lambda: ByContainer(lambda layers: defaultdict(list, enumerate(layers))),
    "nested": ByNesting,
    "helper": ByHelper,
    "weak reference": ByWeakReference,
    "cached method": ByCachedMethod,
    "hook": ByHook,
    "table of a hook": ByTable,
    "forward of its own": ByOwnForward,
    "tied": Tied,
}


def made(name):
    torch.manual_seed(3)
    model = MODELS[name]()
    with torch.no_grad():
        model.norm.running_mean.normal_()
        model.norm.running_var.uniform_(0.5, 2)
    return model


def attributes(model):
    return {
        name: {key: id(value) for key, value in vars(module).items()}
        for name, module in model.named_modules()
    }


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("training", [True, False])
def test_a_view_runs_in_evaluation_mode_and_the_model_sees_nothing(name, training):
    model = made(name).train(training)
    with torch.no_grad():
        expected = made(name).eval()(X)
    before, ran = attributes(model), []
    for module in (model.a, model.norm, model.drop):
        module.register_forward_pre_hook(lambda m, _: ran.append((m, m.training)))
    network = observe(model, X)
    assert not network.views.direct
    with left_as_found(network.views) as view:
        got = view.module(X)
    assert torch.equal(got, expected)
    originals = set(model.modules())
    assert ran and all(module not in originals and not mode for module, mode in ran)
    assert attributes(model) == before
    assert all(module.training == training for module in model.modules())


@pytest.mark.parametrize("name", MODELS)
def test_hooks_on_a_view_see_and_change_what_the_model_would(name):
    model, seen, found = made(name), [], []
    with torch.no_grad():
        inner = model.a(X)
    with Tap(model) as tap:
        tap.value(Site("a"), lambda tensor: seen.append(tensor.detach().clone()))
        tap.gradient(Site("norm"))
        logits = tap.run(X)
        tap.backward(logits.sum(), {Site("norm"): lambda g: found.append(g.clone())})
    assert torch.equal(seen[0], inner)
    assert found[0].shape == (6, 6)
    assert all(not module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("name", MODELS)
def test_a_view_lets_go_of_what_its_forward_held(name):
    model, graphs = made(name), []

    for module in (model.a, model.norm, model.drop, model.fc):
        module.register_forward_hook(lambda m, args, output: graphs.append(weakref.ref(output)))
    views = observe(model, X).views
    graphs.clear()
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            with left_as_found(views) as view:
                view.module(X)
            del view
        alive = [graph() for graph in graphs if graph() is not None]
    finally:
        gc.enable()
    assert len(graphs) >= 9 and not alive


def test_whatever_is_replaced_is_seen_by_the_next_view():
    model = made("plain").eval()
    network = observe(model, X)

    def score():
        with left_as_found(network.views) as view:
            return view.module(X)

    def same():
        with torch.no_grad():
            return torch.equal(score(), model(X))

    assert same()
    model.a = nn.Linear(4, 6)
    assert same()
    model.a.weight = nn.Parameter(torch.randn(6, 4))
    assert same()
    model.norm.running_mean = torch.randn(6)
    assert same()
    handle = model.fc.register_forward_hook(lambda m, i, o: 2 * o)
    assert same()
    handle.remove()
    assert same()
    model.drop = nn.Sequential(nn.ReLU(), nn.Identity())
    assert same()
    model.drop[1] = nn.Tanh()
    assert same()
    model.a.bias.data.add_(1)
    assert same()
    model.norm.eps = 0.3
    assert same()
    model.body = lambda x: torch.relu(model.a(x))
    assert same()
    del model.body
    model.extra = [nn.Linear(3, 3)]
    assert same()


@pytest.mark.parametrize("name", ["scale", "shift", "factor"])
def test_equal_parameters_of_one_value_are_not_taken_for_one_another(name):
    class Scaled(Parts):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))
            self.register_buffer("shift", torch.zeros(1))
            self.factor = torch.ones(1)

        def forward(self, x):
            return super().forward(x) * self.scale * self.factor + self.shift

    model = Scaled().eval()
    network = observe(model, X)
    replaced = getattr(model, name).detach().clone()
    setattr(model, name, nn.Parameter(replaced) if name == "scale" else replaced)
    with left_as_found(network.views):
        pass
    with torch.no_grad():
        getattr(model, name).add_(2)
        expected = model(X)
    with left_as_found(network.views) as view:
        assert torch.equal(view.module(X), expected)


# -- what no view can follow ------------------------------------------------------------------

GLOBAL: dict[str, nn.Module] = {}


class ByGlobal(Parts):
    def forward(self, x):
        return self.fc(GLOBAL["model"].drop(torch.relu(self.norm(GLOBAL["model"].a(x)))))


def test_calls_through_a_global_variable_need_evaluation_mode():
    model = GLOBAL["model"] = ByGlobal().train()
    with pytest.raises(TapError, match=r"global variables.*call model\.eval\(\) first"):
        observe(model, X)
    assert all(module.training for module in model.modules())
    network = observe(model.eval(), X)
    assert network.views.direct
    seen, found = [], []
    with torch.no_grad():
        inner, expected = model.a(X), model(X)
    with Tap(network.views) as tap:
        tap.value(Site("a"), lambda tensor: seen.append(tensor.detach().clone()))
        tap.gradient(Site("norm"))
        logits = tap.run(X)
        tap.backward(logits.sum(), {Site("norm"): found.append})
    assert torch.equal(logits.detach(), expected) and torch.equal(seen[0], inner) and found
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
    monitor = gradood.Monitor(model, ["energy", "gradnorm", "gaia-z"])
    alone = monitor.score(X)
    model.train()
    with pytest.raises(TapError, match=r"call model\.eval\(\) first"):
        monitor.score(X)
    model.eval()
    for name, scores in monitor.score(X).items():
        assert torch.equal(scores, alone[name])


def test_calls_past_a_view_are_noticed_under_a_profiler_too():
    import cProfile

    model = GLOBAL["model"] = ByGlobal().train()
    with cProfile.Profile():
        with pytest.raises(TapError, match=r"call model\.eval\(\) first"):
            observe(model, X)
        assert not observe(made("closure"), X).views.direct


def test_a_model_that_knows_its_modules_by_identity_is_run_itself():
    class Knowing(Parts):
        def __init__(self):
            super().__init__()
            self.scales = {id(self.a): 2.0}

        def forward(self, x):
            return self.fc(torch.relu(self.a(x) * self.scales[id(self.a)]))

    network = observe(Knowing().eval(), X)
    assert network.views.direct
    with pytest.raises(DataError, match="the model raised KeyError"):
        observe(Knowing().train(), X)


def test_the_models_own_error_is_raised_once():
    class Broken(Parts):
        def forward(self, x):
            raise KeyError("mine")

    for mode in (True, False):
        with pytest.raises(DataError, match=r"the model raised KeyError.*mine") as caught:
            observe(Broken().train(mode), X)
        assert type(caught.value.__cause__) is KeyError
        assert caught.value.__cause__.__cause__ is None


@pytest.mark.filterwarnings("ignore")
def test_a_script_part_is_run_itself_in_evaluation_mode():
    body = torch.jit.trace(nn.Sequential(nn.Linear(4, 6), nn.ReLU()), X)
    model = nn.Sequential(body, nn.Linear(6, 3)).eval()
    network = observe(model, X)
    assert not network.views.direct and network.head.layer == "1"
    with torch.no_grad(), left_as_found(network.views) as view:
        assert torch.equal(view.module(X), model(X))
    model.train()
    with pytest.raises(TapError, match=r"cannot be copied and is in training mode.*eval\(\) first"):
        observe(model, X)


def test_a_sharded_model_is_refused():
    class FSDPModule(nn.Linear):
        pass

    with pytest.raises(TapError, match="FSDPModule holds parts of its parameters only"):
        observe(nn.Sequential(FSDPModule(4, 3)), X)


@pytest.mark.parametrize("how", ["forward", "method", "class", "child"])
def test_compiled_functions_run_as_before_they_were_compiled(how):
    class Compiled(Parts):
        @torch.compile(backend="eager")
        def forward(self, x):
            return super().forward(x)

    model = (Compiled if how == "class" else Parts)().eval()
    if how == "forward":
        model.forward = torch.compile(model.forward, backend="eager")
    elif how == "method":
        model.body = torch.compile(model.body, backend="eager")
    elif how == "child":
        model.a = torch.compile(model.a, backend="eager")
    frames = []
    model.norm.register_forward_hook(lambda *_: frames.append(torch.compiler.is_dynamo_compiling()))
    network = observe(model, X)
    assert not network.views.direct and network.head.layer == "fc"
    assert frames == [False, False]
    torch.compiler.reset()


def test_networks_and_monitors_are_copied_and_pickled():
    x, y = torch.randn(40, 4), torch.arange(40) % 3
    monitor = gradood.Monitor(Parts(), ["energy", "mahalanobis"]).fit([(x, y)])
    expected = monitor.score(X)
    for other in (pickle.loads(pickle.dumps(monitor)), copy.deepcopy(monitor), copy.copy(monitor)):
        for name, scores in other.score(X).items():
            assert torch.equal(scores, expected[name])


def test_views_of_several_threads_are_apart():
    views, inside = Views(Parts()), threading.Barrier(4, timeout=10)
    roots, errors = [], []
    with left_as_found(views):
        pass

    def look():
        try:
            for _ in range(5):
                with left_as_found(views) as view:
                    inside.wait()
                    roots.append(view.module)
                    inside.wait()
                    assert len(set(map(id, roots[-4:]))) == 4
                    inside.wait()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(set(map(id, roots))) == 4, "views are used again"
