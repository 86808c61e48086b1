"""Several threads in one process: each sees what it would see alone."""

import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager

import pytest
import torch
from torch import nn

import gradood
from gradood.errors import CalibrationError
from gradood.taps import Site
from gradood.taps._capture import captured


def net(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)),
    ).eval()


def inputs(n, seed=0, size=16):
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(seed))


@contextmanager
def frequent_switches(interval=1e-5):
    before = sys.getswitchinterval()
    sys.setswitchinterval(interval)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def at_once(*calls):
    """What each call gives, or the error it raises, all begun at the same time."""
    barrier, results = threading.Barrier(len(calls), timeout=60), [None] * len(calls)

    def run(place, call):
        barrier.wait()
        try:
            results[place] = call()
        except Exception as error:
            results[place] = error

    threads = [threading.Thread(target=run, args=entry) for entry in enumerate(calls)]
    with frequent_switches():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
    return results


@contextmanager
def running(*calls):
    """Each call again and again in a thread of its own; yields how often each outcome came."""
    outcomes, stop = Counter(), threading.Event()

    def loop(call):
        while not stop.is_set():
            try:
                outcomes[call()] += 1
            except Exception as error:
                outcomes[f"{type(error).__name__}: {error}"] += 1

    threads = [threading.Thread(target=loop, args=(call,)) for call in calls]
    with frequent_switches():
        for thread in threads:
            thread.start()
        try:
            yield outcomes
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)


# -- first use --------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("shared", [False, True], ids=["two monitors", "one monitor"])
def test_first_scores_of_two_threads_are_those_of_one(shared):
    """D1, P4: the observation of one thread saw, and kept, what the other ran."""
    model, x = net(), inputs(8, size=32)
    expected = gradood.Monitor(model, ["gaia-z"]).score(x)["gaia-z"]
    for _ in range(20):
        monitors = [gradood.Monitor(model, ["gaia-z"]) for _ in range(2)]
        monitors = monitors[:1] * 2 if shared else monitors
        for scores in at_once(*(lambda m=m: m.score(x)["gaia-z"] for m in monitors)):
            assert isinstance(scores, torch.Tensor), scores
            assert torch.equal(scores, expected)
        assert all(torch.equal(m.score(x)["gaia-z"], expected) for m in monitors)


def test_of_threads_that_bind_one_monitor_the_first_is_kept(monkeypatch):
    """A thread that observed the model first and comes last must not undo a fit."""
    from gradood._engine import detector_set as detector_set

    bind, late, fitted = detector_set.bind, [], threading.Event()

    def slow(*args, **kwargs):
        binding = bind(*args, **kwargs)
        if threading.current_thread() in late:
            fitted.wait(60)
        return binding

    monkeypatch.setattr(detector_set, "bind", slow)
    monitor, x = gradood.Monitor(net(), "mahalanobis"), inputs(4)
    late.append(threading.Thread(target=lambda: monitor.bind(x)))
    late[0].start()
    monitor.fit([(inputs(60, 1), torch.arange(60) % 5)])
    expected = monitor.score(x)
    fitted.set()
    late[0].join()
    assert torch.equal(monitor.score(x), expected)


@pytest.mark.slow
def test_bound_and_loaded_while_another_thread_runs_the_model(tmp_path):
    """F02: calls of another thread were taken for the model's own."""
    model, x = net(), inputs(4)
    y = torch.arange(60) % 5
    monitor = gradood.Monitor(model, ["energy", "mahalanobis"])
    monitor.fit([(inputs(60, 1), y)]).calibrate(inputs(40, 2))
    monitor.save(tmp_path / "d.safetensors")
    expected = monitor.score(x)["mahalanobis"]
    gaia = gradood.Monitor(model, "gaia-z").score(x)
    with torch.no_grad():
        logits = model(x[:2])

    def serve():
        output = model(x[:2])
        return torch.equal(output, logits) and output.requires_grad

    with running(serve) as outcomes:
        for _ in range(30):
            assert torch.equal(gradood.Monitor(model, "gaia-z").score(x), gaia)
            loaded = gradood.load(tmp_path / "d.safetensors", model)
            assert torch.equal(loaded.score(x)["mahalanobis"], expected)
    assert set(outcomes) == {True}, outcomes


def test_loaded_while_another_thread_scores(tmp_path):
    """D2: a load was refused as of another model, and a score died beside it."""
    model, x = net(), inputs(6)
    monitor = gradood.Monitor(model, ["energy", "gaia-a", "gradnorm"])
    monitor.calibrate(inputs(100, 3)).save(tmp_path / "d.safetensors")
    expected = monitor.score(x)

    def score():
        return all(torch.equal(s, expected[n]) for n, s in monitor.score(x).items())

    with running(score) as outcomes:
        for _ in range(20):
            loaded = gradood.load(tmp_path / "d.safetensors", model)
            assert all(torch.equal(s, expected[n]) for n, s in loaded.score(x).items())
    assert set(outcomes) == {True}, outcomes


def test_four_threads_load_one_file(tmp_path):
    """P4."""
    model = net()
    gradood.Monitor(model, ["energy", "gaia-a"]).calibrate(inputs(60)).save(tmp_path / "d.st")
    for _ in range(5):
        for loaded in at_once(*[lambda: gradood.load(tmp_path / "d.st", model)] * 4):
            assert isinstance(loaded, gradood.Monitor), loaded


# -- a user's own forward ---------------------------------------------------------------------


@pytest.mark.slow
def test_no_forward_of_a_user_is_disturbed_by_a_score():
    """D5, F03: torch decides on keyword arguments after it has listed the hooks."""
    model, x = net(), inputs(4)
    monitor = gradood.Monitor(model, ["gradnorm", "gaia-a", "energy"])
    expected = monitor.score(x)
    with torch.no_grad():
        logits = model(x)

    def plain():
        return torch.equal(model(x), logits)

    def score():
        return all(torch.equal(s, expected[n]) for n, s in monitor.score(x).items())

    with running(plain, plain, score, score) as outcomes:
        time.sleep(4)
    assert set(outcomes) == {True}, outcomes


def test_a_frozen_model_gets_no_graph_from_an_observation():
    """D2: the observation makes leaves of what needs no gradient, in any thread."""
    model, x = net().requires_grad_(False), inputs(4)
    with running(lambda: model(x).requires_grad) as outcomes:
        for _ in range(30):
            gradood.Monitor(model, "gaia-z").bind(x)
    assert set(outcomes) == {False}, outcomes


def test_a_training_thread_never_sees_evaluation_mode():
    """P3: 11 of 150 training forwards ran BatchNorm in evaluation mode."""
    model, x = net().train(), inputs(16)
    for module in model:
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    expected = model(x).detach()
    monitor = gradood.Monitor(model, ["energy", "gradnorm"])
    wanted = monitor.score(x)

    def train():
        output = model(x)
        output.sum().backward()
        return torch.equal(output, expected) and all(m.training for m in model.modules())

    with running(train) as outcomes:
        for _ in range(40):
            for name, scores in monitor.score(x).items():
                assert torch.equal(scores, wanted[name])
    assert set(outcomes) == {True}, outcomes


def test_per_sample_gradients_touch_no_parameter_of_the_model():
    """`functional_call` swaps the parameters of the module it is given."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    x = torch.randn(64, 3, 2, 2)
    monitor = gradood.Monitor(model, gradood.GradNorm(parameters=["1.weight"]))
    wanted = monitor.score(x)
    weights = [id(p) for p in model.parameters()]
    with torch.no_grad():
        logits = model(x)

    def plain():
        return torch.equal(model(x), logits) and weights == [id(p) for p in model.parameters()]

    with running(plain, plain) as outcomes:
        for _ in range(20):
            assert torch.equal(monitor.score(x), wanted)
    assert set(outcomes) == {True}, outcomes


def test_what_a_trainer_captures_is_of_its_own_thread():
    model, x = net(), inputs(4)
    seen = []
    with running(lambda: model(inputs(2, 9)).shape[0]) as outcomes:
        for _ in range(200):
            with captured(model, Site("8", "input"), lambda tensor: seen.append(len(tensor))):
                model(x)
    assert set(outcomes) == {2}, outcomes
    assert seen == [4] * 200


# -- one monitor, many threads ----------------------------------------------------------------


def test_a_refit_is_seen_whole_or_not_at_all():
    model, x = net(), inputs(8)
    data = [[(inputs(60, seed), torch.arange(60) % 5)] for seed in (1, 2)]
    monitor = gradood.Monitor(model, ["mahalanobis", "knn"])
    known = []
    for part in data:
        monitor.fit(part)
        known.append({n: s.tolist() for n, s in monitor.score(x).items()})

    def score():
        return {n: s.tolist() for n, s in monitor.score([x[:4], x[4:]]).items()} in known

    with running(score, score) as outcomes:
        for i in range(30):
            monitor.fit(data[i % 2])
    assert set(outcomes) == {True}, outcomes


def test_a_calibration_of_what_another_thread_replaced_is_refused():
    monitor = gradood.Monitor(net(), "mahalanobis")
    data = [(inputs(60, 1), torch.arange(60) % 5)]
    monitor.fit(data)

    def interrupted():
        yield inputs(40, 2)
        thread = threading.Thread(target=monitor.fit, args=(data,))
        thread.start()
        thread.join()
        yield inputs(40, 3)

    with pytest.raises(CalibrationError, match=r"was fitted while it was calibrated.*again"):
        monitor.calibrate(interrupted())
    monitor.calibrate(inputs(40, 2))


def test_saved_while_another_thread_fits_and_calibrates(tmp_path):
    model, x = net(), inputs(8)
    data, held = [(inputs(60, 1), torch.arange(60) % 5)], inputs(40, 2)
    monitor = gradood.Monitor(model, ["mahalanobis"]).fit(data).calibrate(held)
    expected = monitor.score(x)["mahalanobis"]

    def again():
        monitor.fit(data)
        monitor.calibrate(held)

    with running(again) as outcomes:
        for i in range(10):
            monitor.save(tmp_path / f"{i}.st")
            loaded = gradood.load(tmp_path / f"{i}.st", model)
            assert torch.equal(loaded.score(x)["mahalanobis"], expected)
    assert set(outcomes) == {None}, outcomes
