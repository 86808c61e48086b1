"""A module of the model that would run in training mode is refused before it runs."""

import cProfile
import sys
import threading
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

import gradood
from gradood.errors import TapError
from gradood.taps import Site, Tap, left_as_found

X = torch.randn(16, 4, generator=torch.Generator().manual_seed(5))
Y = torch.arange(16) % 3
HELD = []


class Later(nn.Module):
    """Calls whatever an object was given, besides its own modules."""

    def __init__(self):
        super().__init__()
        self.a, self.bn, self.fc = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)
        self.cfg = SimpleNamespace(act=None)

    def dropped(self, x):
        return nn.functional.dropout(x, 0.5, self.training)

    def forward(self, x):
        h = self.a(x)
        h = self.cfg.act(h) if self.cfg.act else h
        return self.fc(h)


class Branching(Later):
    def forward(self, x):
        return self.fc((HELD[0].bn if len(x) > 2 else self.bn)(self.a(x)))


class Swallowing(Branching):
    def forward(self, x):
        try:
            return super().forward(x)
        except Exception:
            return self.fc(HELD[0].bn(self.a(x)))


class ByMethod(Later):
    def forward(self, x):
        h = self.a(x)
        return self.fc(HELD[0].dropped(h) if len(x) > 2 else h)


def unchanged(model):
    return not model.bn.running_mean.any() and int(model.bn.num_batches_tracked) == 0


def test_a_module_given_to_an_object_later_is_refused_in_training_mode():
    model = Later().train()
    monitor = gradood.Monitor(model, "energy")
    monitor.score(X)
    model.cfg.act = model.bn
    with pytest.raises(TapError, match=r"'bn' through references .*call model\.eval\(\) first"):
        monitor.score(X)
    assert unchanged(model) and sys.getprofile() is None
    model.eval()
    assert torch.allclose(monitor.score(X), -model(X).double().logsumexp(1), rtol=1e-6)


@pytest.mark.parametrize("kind", [Branching, Swallowing, ByMethod])
@pytest.mark.parametrize("profiled", [False, True])
def test_a_branch_past_the_attributes_is_refused_in_training_mode(kind, profiled):
    model = kind().train()
    HELD[:] = [model]
    monitor = gradood.Monitor(model, ["energy", "odin"])
    if profiled and kind is ByMethod:
        return  # beside a profiler calls of modules alone are seen
    profiler = cProfile.Profile()
    if profiled:
        profiler.enable()
    try:
        for _ in range(2):
            with pytest.raises(TapError, match="references that cannot be followed"):
                monitor.score(X)
    finally:
        profiler.disable()
    assert unchanged(model)
    model.eval()
    scores = monitor.score(X)["energy"]
    assert torch.allclose(scores, -model(X).double().logsumexp(1), rtol=1e-6)


def test_a_binding_in_training_mode_changes_nothing():
    class Global(Later):
        def forward(self, x):
            return self.fc(HELD[0].bn(self.a(x)))

    model = Global().train()
    HELD[:] = [model]
    with pytest.raises(TapError, match="global variables"):
        gradood.Monitor(model, "energy").bind(X)
    assert unchanged(model)


@pytest.mark.parametrize("early", [True, False])
def test_a_model_run_itself_is_refused_when_its_mode_changes_meanwhile(early):
    class Global(Later):
        def forward(self, x):
            if early and self.cfg.act:
                self.cfg.act()
            logits = HELD[0].fc(HELD[0].bn(self.a(x)))
            if not early and self.cfg.act:
                self.cfg.act()
            return logits

    model = Global().eval()
    HELD[:] = [model]
    monitor = gradood.Monitor(model, "energy")
    expected = monitor.score(X)

    def elsewhere():
        thread = threading.Thread(target=model.train)
        thread.start()
        thread.join()

    model.cfg.act = elsewhere
    with pytest.raises(TapError, match=r"training mode|model\.eval"):
        monitor.score(X)
    assert unchanged(model) and sys.getprofile() is None
    model.cfg.act = None
    assert torch.equal(monitor_after(monitor, model), expected)


def monitor_after(monitor, model):
    model.eval()
    return monitor.score(X)


class Noise(nn.Module):
    def forward(self, weight):
        return nn.functional.dropout(weight, 0.5, self.training)


@pytest.mark.parametrize("detector", ["gradnorm", "react", "fdbd", "nac", "dice"])
def test_a_weight_that_is_computed_is_read_in_evaluation_mode(detector):
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    parametrize.register_parametrization(model[2], "weight", Noise())
    x = torch.randn(90, 4, generator=torch.Generator().manual_seed(1))
    fit = [(x, torch.arange(90) % 3)]
    expected = gradood.Monitor(model, detector).fit(fit).score(X)
    assert torch.equal(gradood.Monitor(model.train(), detector).fit(fit).score(X), expected)


@pytest.mark.parametrize("norm", [parametrizations.spectral_norm, nn.utils.spectral_norm])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_spectral_norm_is_not_iterated(norm):
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), norm(nn.Linear(8, 8)), nn.ReLU())
    model.append(norm(nn.Linear(8, 3)))
    model.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    gradood.Monitor(model, ["energy", "gradnorm", "gaia-a", "fdbd"]).fit([(X, Y)]).score(X)
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_weight_of_a_hook_is_as_it_is_now():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.utils.weight_norm(nn.Linear(8, 3)))
    monitor = gradood.Monitor(model.eval(), "gradnorm")
    monitor.score(X)
    with torch.no_grad():
        model[2].weight_g.mul_(2)
    assert torch.equal(monitor.score(X), gradood.Monitor(model, "gradnorm").score(X))


def interrupt_at(count, names):
    seen = [0]

    def trace(frame, event, _):
        code = frame.f_code
        if code.co_name in names and "torch" in code.co_filename:
            seen[0] += 1
            if seen[0] == count:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    return trace


@pytest.mark.parametrize("count", range(1, 12))
def test_an_interrupt_leaves_the_modes_of_the_thread(count):
    monitor = gradood.Monitor(Later().eval(), ["energy", "gradnorm"])
    monitor.score(X)
    tracer = sys.gettrace()
    with torch.autocast("cpu", enabled=False):
        sys.settrace(interrupt_at(count, ("__enter__", "__exit__", "__init__")))
        try:
            monitor.score(X)
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(tracer)
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
        assert not torch.is_autocast_enabled("cpu") and sys.getprofile() is None


def test_modes_are_set_back_where_no_context_manager_could():
    with pytest.raises(KeyboardInterrupt), left_as_found(Later()):
        torch.set_grad_enabled(True)
        torch.set_autocast_enabled("cpu", True)
        raise KeyboardInterrupt
    assert torch.is_grad_enabled() and not torch.is_autocast_enabled("cpu")


class Stepped(Later):
    """Another thread changes its weights in the middle of some forwards."""

    def forward(self, x):
        logits = self.fc(torch.relu(self.a(x)))
        if self.cfg.act:
            thread = threading.Thread(target=HELD[0])
            thread.start()
            thread.join()
        return logits


@pytest.mark.parametrize("steps", [2, 3])
def test_a_step_in_the_middle_of_a_look_is_tried_again_and_then_told(steps):
    model = Stepped().eval()
    monitor, left = gradood.Monitor(model, "odin"), [0]
    expected = monitor.score(X)

    def step():
        if left[0]:
            left[0] -= 1
            with torch.no_grad():
                model.fc.weight.add_(0)

    HELD[:] = [step]
    model.cfg.act = 1
    left[0] = steps
    if steps == 2:
        assert torch.equal(monitor.score(X), expected)
    else:
        with pytest.raises(TapError, match=r"another thread changed .* optimizer\.step"):
            monitor.score(X)


def test_a_backward_that_a_model_refuses_is_told():
    class Refusing(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            raise RuntimeError("use_reentrant=True is incompatible with .grad()")

    class Model(Later):
        def forward(self, x):
            return self.fc(Refusing.apply(self.a(x)))

    model = Model().eval()
    with (
        pytest.raises(TapError, match=r"cannot follow .*use_reentrant=False"),
        Tap(model) as tap,
    ):
        tap.gradient(Site("a"))
        tap.backward(tap.run(X).sum(), {Site("a"): lambda _: None})
