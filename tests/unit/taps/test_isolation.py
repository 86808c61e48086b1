"""A look leaves modes, grad mode, buffers and random generators as they were."""

import gc
import os
import subprocess
import sys
import textwrap
import threading

import pytest
import torch
from torch import nn

from gradood.taps import left_as_found
from gradood.taps.isolation import only_thread


def in_a_process(code):
    """Run code where no other thread is: a test runner may have some."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_modes_flags_and_generator_are_restored():
    in_a_process("""
        import torch
        from torch import nn
        from gradood.taps import left_as_found
        model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
        model[0].eval()
        flags = [module.training for module in model.modules()]
        rng = torch.get_rng_state()
        try:
            with left_as_found(model) as view:
                assert model.training and not view.module.training
                assert not torch.is_grad_enabled()
                torch.rand(2)
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            pass
        assert flags == [module.training for module in model.modules()]
        assert torch.equal(rng, torch.get_rng_state())
        assert torch.is_grad_enabled()
    """)


@pytest.mark.slow
def test_every_generator_that_a_forward_draws_from_is_set_back():
    in_a_process("""
        import random
        import numpy as np, torch
        from torch import nn
        import gradood
        class Draws(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(4, 3)
            def forward(self, x):
                random.random(); np.random.rand(); torch.rand(1)
                return self.fc(x)
        monitor, x = gradood.Monitor(Draws(), "energy"), torch.randn(6, 4)
        monitor.score(x)
        def draws():
            return random.random(), np.random.rand(), float(torch.rand(1))
        random.seed(1); np.random.seed(1); torch.manual_seed(1)
        expected = [draws(), draws()]
        random.seed(1); np.random.seed(1); torch.manual_seed(1)
        first = draws()
        monitor.score(x)
        assert [first, draws()] == expected
        # The thread that looks after progress bars is not taken for one that may draw.
        from tqdm import tqdm
        list(tqdm(range(2), file=open("/dev/null", "w")))
        random.seed(1); np.random.seed(1); torch.manual_seed(1)
        first = draws()
        monitor.score(x)
        assert [first, draws()] == expected
    """)


@pytest.mark.slow
def test_no_draw_is_repeated_beside_a_score():
    in_a_process("""
        import threading, time
        import torch
        from torch import nn
        import gradood
        class Slow(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(4, 3)
            def forward(self, x):
                torch.rand(1)
                time.sleep(0.05)
                return self.fc(x)
        monitor, x, stop = gradood.Monitor(Slow(), "energy"), torch.randn(6, 4), []
        monitor.score(x)
        def scoring():
            while not stop:
                monitor.score(x)
        thread = threading.Thread(target=scoring)
        thread.start()
        drawn = []
        for _ in range(30):
            drawn.append(float(torch.rand((), dtype=torch.float64)))
            time.sleep(0.01)
        stop.append(1)
        thread.join()
        assert len(set(drawn)) == 30, len(set(drawn))
    """)


def test_flags_are_set_without_calling_train():
    class Merging(nn.Linear):
        def train(self, mode=True):
            raise AssertionError("changes its weights when its mode changes")

    model = nn.Sequential(Merging(3, 2))
    with left_as_found(model) as view:
        assert not view.module[0].training
    assert model[0].training


def test_several_threads_look_at_once_and_the_model_keeps_its_mode():
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
    model[0].eval()
    inside, leave, seen = threading.Barrier(2, timeout=10), threading.Event(), []

    def looking():
        with left_as_found(model) as view:
            inside.wait()
            leave.wait(10)
            seen.append(view.module[1].training)

    thread = threading.Thread(target=looking)
    with left_as_found(model) as view:
        thread.start()
        inside.wait()
        assert not view.module[1].training
        assert model.training and model[1].training and not model[0].training
    leave.set()
    thread.join()
    assert seen == [False]
    assert model.training and model[1].training and not model[0].training


class Counting(nn.Module):
    """Counts in a buffer in place, in another by a new tensor, in a third past autograd."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 3)
        self.register_buffer("inside", torch.zeros(1))
        self.register_buffer("rebound", torch.zeros(1))
        self.register_buffer("hidden", torch.zeros(1))
        self.attribute = torch.zeros(1)
        self.history = []

    def forward(self, x):
        self.inside += 1
        self.rebound = self.rebound + 1
        self.hidden.data += 1
        self.attribute.add_(1)
        self.history.append(len(x))
        self.last = x
        return self.fc(x)


@pytest.mark.parametrize("detector", ["energy", "gradnorm", "mahalanobis"])
def test_what_a_forward_writes_stays_with_the_view(detector):
    import gradood

    model, x = Counting(), torch.randn(12, 4)
    held = (model.inside, model.rebound, model.hidden, model.attribute)
    monitor = gradood.Monitor(model, detector)
    monitor.bind(x)
    monitor.fit([(x, torch.arange(12) % 3)])
    monitor.score(x)
    now = (model.inside, model.rebound, model.hidden, model.attribute)
    assert all(a is b for a, b in zip(held, now, strict=True))
    assert [float(tensor) for tensor in now] == [0.0] * 4
    assert model.history == [] and not hasattr(model, "last")


class Writes(nn.Module):
    def __init__(self, steps):
        super().__init__()
        self.register_buffer("steps", steps)

    def forward(self, x):
        self.steps.fill_(3.0)
        return x


class Reads(nn.Module):
    def __init__(self, steps):
        super().__init__()
        self.register_buffer("seen", steps)

    def forward(self, x):
        return x * self.seen


@pytest.mark.parametrize("attribute", [False, True])
def test_a_tensor_that_two_modules_hold_is_one_in_a_view_too(attribute):
    """One writes it, the other reads it: scores are of the model's own logits."""
    import gradood

    torch.manual_seed(0)
    steps = torch.ones(1)
    model = nn.Sequential(Writes(steps), Reads(steps), nn.Linear(4, 3)).eval()
    if attribute:
        del model[1].seen
        model[1].seen = steps
    x = torch.randn(6, 4)
    score = gradood.Monitor(model, "max-logit").score(x)
    assert float(steps) == 1.0
    logits = model(x).detach()
    torch.testing.assert_close(score, -logits.amax(1).double(), rtol=1e-5, atol=1e-6)


def test_nothing_is_collected_while_threads_are_listed(monkeypatch):
    """CPython issue 106883: a thread-local collected there waits for the list that it is in."""
    seen = []
    frames = sys._current_frames
    monkeypatch.setattr(sys, "_current_frames", lambda: seen.append(gc.isenabled()) or frames())
    only_thread()
    assert seen == [False]
    assert gc.isenabled()
    gc.disable()
    try:
        only_thread()
        assert not gc.isenabled()
    finally:
        gc.enable()
