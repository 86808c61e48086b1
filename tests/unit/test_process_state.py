"""The state of the process and of the model is the user's: as found after every operation."""

import contextlib
import random
import threading
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from process_state import changes, snapshot, unchanged
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

import gradood
from gradood import bench
from gradood._io.warning_filters import ignored
from gradood.bench._cost import costs
from gradood.errors import GradoodWarning
from gradood.monitor import evaluate
from gradood.training import Trainer, TrainingData
from gradood.training.catalog import load_recipe

GENERATOR = torch.Generator().manual_seed(0)
X, HELD, NEW = (torch.randn(n, 3, 8, 8, generator=GENERATOR) for n in (60, 80, 20))
LABELS = torch.arange(60) % 3
METHODS = ["energy", "knn", "mahalanobis", "gaia-z", "gradnorm", "nac", "odin", "grood"]
pytestmark = [
    pytest.mark.filterwarnings("ignore::gradood.errors.GradoodWarning"),
    pytest.mark.usefixtures("alone"),
]


class Stop(Exception):
    """Raised by the model."""


class Restless(nn.Module):
    """Counts its calls, draws numbers that it does not use, and has a part in either mode."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn, self.frozen = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 3)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.seen, self.stop_at = 0, None

    def forward(self, x):
        self.calls += 1
        self.seen = self.seen + 1
        torch.rand(1), np.random.rand(), random.random()
        x = F.dropout(torch.relu(self.bn(self.conv(x))), 0.5, self.training)
        if self.stop_at is not None and len(x) == self.stop_at:
            raise Stop("here")
        return self.fc(self.frozen(x).mean((2, 3)))


@pytest.fixture
def model():
    torch.manual_seed(3)
    made = Restless().train()
    made.frozen.eval()
    made.fc.bias.requires_grad_(False)
    made.fc.weight.grad = torch.ones_like(made.fc.weight)
    made.conv.register_forward_hook(lambda module, inputs, output: None)
    return made


@pytest.fixture
def monitor(model):
    return gradood.Monitor(model, METHODS).fit([(X, LABELS)]).calibrate(HELD, fpr=0.1)


def comparison(model):
    sets = bench.Sets(
        fit=[(X, LABELS)], fit_labels=LABELS, id=[HELD], id_labels=None, ood={"new": NEW}
    )
    chosen = bench.select("energy,knn,gaia-z", []).detectors
    return bench.compare(model, chosen, sets, X[:8])


OPERATIONS = {
    "fit": lambda m, folder: m.fit([(X[:30], LABELS[:30]), (X[30:], LABELS[30:])]),
    "calibrate": lambda m, folder: m.calibrate([HELD[:40], HELD[40:]], fpr=0.1),
    "score": lambda m, folder: m.score(NEW),
    "predict": lambda m, folder: m.predict(NEW),
    "save": lambda m, folder: m.save(folder / "x"),
    "load": lambda m, folder: (m.save(folder / "x"), gradood.load(folder / "x", m.model)),
    "inspect": lambda m, folder: gradood.inspect(m.model, NEW),
    "evaluate": lambda m, folder: evaluate(m, id=HELD, ood={"new": NEW}),
    "bind": lambda m, folder: gradood.Monitor(m.model, METHODS).bind(NEW),
    "compare": lambda m, folder: comparison(m.model),
    "costs": lambda m, folder: costs(m._session.state.bound, NEW, rounds=1),
}


@pytest.mark.slow
@pytest.mark.parametrize("operation", OPERATIONS)
def test_everything_is_as_found(monitor, model, tmp_path, operation):
    if operation == "costs":  # The first profile of a process imports much, which sets things.
        OPERATIONS[operation](monitor, tmp_path)
    with unchanged(model):
        OPERATIONS[operation](monitor, tmp_path)


@pytest.mark.parametrize("operation", ["fit", "calibrate", "score", "predict", "bind", "evaluate"])
def test_also_after_an_error_of_the_model(monitor, model, tmp_path, operation):
    model.stop_at = {"fit": 30, "calibrate": 40, "bind": 2, "evaluate": 80}.get(operation, 20)
    with unchanged(model), contextlib.suppress(Stop, gradood.errors.GradoodError):
        OPERATIONS[operation](monitor, tmp_path)
        pytest.fail("the model did not stop it")


@pytest.mark.parametrize("operation", ["fit", "calibrate", "score", "predict"])
def test_also_after_an_error_of_the_loader(monitor, model, operation):
    def loader():
        yield (X[:30], LABELS[:30])
        raise KeyboardInterrupt

    with unchanged(model), pytest.raises(KeyboardInterrupt):
        getattr(monitor, operation)(loader())


def test_after_a_training_the_process_is_as_found(tmp_path):
    recipe = load_recipe("plain")
    recipe = replace(
        recipe,
        batch=replace(recipe.batch, id=10),
        schedule=replace(recipe.schedule, epochs=1),
        validation=replace(recipe.validation, id=10),
    )
    data = TrainingData(id=TensorDataset(X, LABELS))
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    with unchanged():
        Trainer(net, recipe, data, out=tmp_path / "a").fit()
    stopping = Restless()
    stopping.stop_at = 10
    with unchanged(), pytest.raises(Stop):
        Trainer(stopping, recipe, data, out=tmp_path / "b").fit()


@pytest.mark.parametrize("inside", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_a_mode_outside_stays(monitor, model, inside):
    with inside(), unchanged(model):
        monitor.predict(NEW)


def test_what_is_compared_is_found():
    before, net = snapshot(), nn.Linear(2, 2)
    torch.rand(1), np.random.rand(), random.random()
    names = ["torch's generator", "NumPy's generator", "Python's generator"]
    assert changes(before, snapshot()) == names
    before = snapshot(net)
    net.eval(), net.register_forward_hook(lambda *all: None)
    net.bias.data.add_(1)
    assert changes(before, snapshot(net)) == ["module ''", "tensor 'bias'"]


def test_filters_of_threads_that_cross_are_taken_away():
    before, entered, left = list(warnings.filters), threading.Event(), threading.Event()

    def longer():
        with ignored(UserWarning):
            entered.set()
            left.wait(10)

    thread = threading.Thread(target=longer)
    with ignored(GradoodWarning):
        thread.start()
        entered.wait(10)
    assert len(warnings.filters) == len(before) + 1
    left.set()
    thread.join()
    assert warnings.filters == before


def test_only_what_is_meant_is_ignored():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with ignored(GradoodWarning), ignored(Warning, module=r"PIL\."):
            warnings.warn("no", GradoodWarning, stacklevel=1)
            warnings.warn("yes", UserWarning, stacklevel=1)
            warnings.warn_explicit("no", UserWarning, "x", 1, module="PIL.Image")
        warnings.warn("yes too", GradoodWarning, stacklevel=1)
    assert [str(entry.message) for entry in seen] == ["yes", "yes too"]
