"""Nothing that a monitor's method does is half done after an error or an interrupt."""

import copy
import dataclasses
import pickle
from pkgutil import resolve_name

import pytest
import torch
from torch import Tensor, nn

import gradood
from gradood import Monitor
from gradood.detectors import KNN, Mahalanobis
from gradood.errors import CalibrationError, DataError, GradoodError
from gradood.functional.samples import Chunks
from gradood.monitor import Partials

GENERATOR = torch.Generator().manual_seed(3)
X = torch.randn(60, 3, 4, 4, generator=GENERATOR)
Y = torch.arange(60) % 3
HELD_OUT = torch.randn(80, 3, 4, 4, generator=GENERATOR)
BATCHES = list(zip(X.split(20), Y.split(20), strict=True))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 3)

    def forward(self, x):
        return self.fc(torch.relu(self.norm(self.conv(x))).mean((2, 3)))


def snapshot(value):
    """Everything reachable, as plain values: tensors by content, other objects by identity."""
    if isinstance(value, Tensor):
        return (str(value.dtype), value.tolist())
    if isinstance(value, dict):
        return {key: snapshot(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | Chunks):
        return [snapshot(inner) for inner in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: snapshot(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if type(value).__module__.startswith("gradood.") and hasattr(value, "__dict__"):
        return {"id": id(value)} | {k: snapshot(v) for k, v in vars(value).items() if k != "model"}
    return value if isinstance(value, str | int | float | None) else id(value)


def fresh(tmp_path):
    return Monitor(Net(), [KNN(k=3), Mahalanobis(), "energy"], progress=False)


def bound(tmp_path):
    monitor = fresh(tmp_path)
    monitor.bind(X)
    return monitor


def calibrated(tmp_path):
    return fresh(tmp_path).fit(BATCHES).calibrate(HELD_OUT, fpr=0.1)


def loaded(tmp_path):
    path = tmp_path / "saved.safetensors"
    if not path.exists():
        calibrated(tmp_path).save(path)
    return gradood.load(path, Net(), progress=False)


def raising(error, after=0):
    """A function that calls the original for so many times, and then raises."""

    def wrap(original):
        calls = []

        def call(*args, **kwargs):
            calls.append(1)
            if len(calls) > after:
                raise error("injected")
            return original(*args, **kwargs)

        return call

    return wrap


STAGES = {
    "the first batch": ("gradood._engine.reader.gather", 0),
    "the second batch": ("gradood._engine.reader.gather", 1),
    "an observation": ("gradood._engine.binding.observe", 0),
    "a plan": ("gradood.detectors.knn.KNN.plan", 0),
    "a partial": ("gradood.detectors.knn.KNN.accumulate", 1),
    "a merge": ("gradood.functional.moments.ClassMoments.merge", 0),
    "a finish": ("gradood.detectors.mahalanobis.Mahalanobis.finish", 0),
    "a summary": ("gradood._engine.partials.DataSummary.merge", 0),
    "a summary of the first batch": ("gradood._engine.partials.positions", 0),
    "a score": ("gradood.detectors.energy.Energy.measure", 0),
    "a rule": ("gradood.calibration._rule.calibrated", 1),
    "a search for shared samples": ("gradood.monitor._session.overlap_override", 0),
}
METHODS = {
    "fit": lambda monitor: monitor.fit(BATCHES),
    "accumulate": lambda monitor: monitor.accumulate(BATCHES),
    "calibrate": lambda monitor: monitor.calibrate(HELD_OUT.split(40), fpr=0.1),
    "predict": lambda monitor: monitor.predict(HELD_OUT.split(40)),
    "score": lambda monitor: monitor.score(HELD_OUT.split(40)),
}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("start", [fresh, bound, calibrated, loaded])
@pytest.mark.parametrize("method", METHODS)
def test_a_failure_at_any_stage_leaves_the_monitor_as_it_was(start, method, error, tmp_path):
    monitor = start(tmp_path)
    before = snapshot(vars(monitor))
    reached = []
    for stage, (target, after) in STAGES.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(target, raising(error, after)(resolve_name(_colon(target))))
            done = False
            try:
                METHODS[method](monitor)
                done = True
            except error as caught:
                if str(caught) == "injected":
                    reached.append(stage)
            except GradoodError:
                pass
        after = snapshot(vars(monitor))
        if done and after != before:  # It does not come by this stage, and did what it does.
            monitor = start(tmp_path)
            before = after = snapshot(vars(monitor))
        assert after == before, stage
    refused = start in (fresh, bound) and method in ("calibrate", "predict", "score")
    assert reached or refused


def _colon(target):
    """As `resolve_name` wants it: module, colon, the rest."""
    parts = target.split(".")
    end = next((i for i, part in enumerate(parts) if part[0].isupper()), len(parts) - 1)
    return f"{'.'.join(parts[:end])}:{'.'.join(parts[end:])}"


@pytest.mark.parametrize("start", [fresh, calibrated, loaded])
@pytest.mark.parametrize(
    "data", [[], [(X, Y + 9)], [(X * torch.nan, Y)], [X], [BATCHES[0], (X[:, :1], Y)], None]
)
def test_unusable_fit_data_leaves_the_monitor_as_it_was(start, data, tmp_path):
    monitor = start(tmp_path)
    before = snapshot(vars(monitor))
    scores = monitor.score(X) if start is not fresh else None
    for method in (monitor.fit, monitor.accumulate):
        with pytest.raises(GradoodError):
            method(data)
        assert snapshot(vars(monitor)) == before
    if scores is not None:
        after = monitor.score(X)
        assert all(torch.equal(after[name], scores[name]) for name in scores)
        assert monitor.predict(X)["knn"].is_ood.shape == (60,)


def test_a_loaded_monitor_keeps_its_promise_until_finish(tmp_path):
    monitor = loaded(tmp_path)
    before = monitor.predict(X)
    parts = monitor.merge(monitor.accumulate(BATCHES[:2]), monitor.accumulate(BATCHES[2:]))
    after = monitor.predict(X)
    assert all(torch.equal(before[name].p_value, after[name].p_value) for name in before)
    state = snapshot(vars(monitor))
    with pytest.raises(DataError, match="nothing was accumulated for mahalanobis"):
        monitor.finish(Partials({"knn": parts["knn"]}, parts.seen))
    assert snapshot(vars(monitor)) == state
    monitor.finish(parts)
    with pytest.raises(CalibrationError, match="nothing was promised"):
        monitor.predict(X)
    whole = fresh(tmp_path).fit(BATCHES).score(X)
    for name, scores in monitor.score(X).items():
        torch.testing.assert_close(scores, whole[name], rtol=1e-6, atol=1e-9)


def test_bound_again_a_loaded_monitor_can_finish_what_others_accumulated(tmp_path):
    monitor, other = loaded(tmp_path), fresh(tmp_path)
    parts = other.accumulate(BATCHES)
    binding = monitor.bind(X)
    assert binding.fit_reads and monitor.predict(X)["knn"].p_value.shape == (60,)
    monitor.finish(parts)
    other.finish(parts)
    assert all(torch.equal(s, monitor.score(X)[n]) for n, s in other.score(X).items())


def test_thresholds_of_a_fit_that_was_replaced_meanwhile_are_refused(tmp_path):
    monitor = calibrated(tmp_path)

    def batches():
        yield HELD_OUT[:40]
        monitor.fit(BATCHES)
        yield HELD_OUT[40:]

    with pytest.raises(CalibrationError, match="fitted while it was calibrated"):
        monitor.calibrate(batches(), fpr=0.1)
    with pytest.raises(CalibrationError, match="nothing was promised"):
        monitor.predict(X)


def test_what_was_promised_cannot_be_changed_from_outside(tmp_path):
    monitor = Monitor(Net(), ["energy", "msp"], preprocess={"mean": [0.5]})
    for name in ("combine", "preprocess", "detectors", "states", "left_out", "overrides", "model"):
        with pytest.raises(AttributeError):
            setattr(monitor, name, "fisher")
    monitor.preprocess["mean"].append(1.0)
    assert monitor.preprocess == {"mean": [0.5]} and monitor.combine is None
    monitor.calibrate(HELD_OUT).save(tmp_path / "m.safetensors")
    assert gradood.load(tmp_path / "m.safetensors", Net()).combine is None


def test_a_copied_and_a_pickled_monitor_score_alike(tmp_path):
    monitor = calibrated(tmp_path)
    expected = monitor.predict(X)["knn"].p_value
    for other in (copy.deepcopy(monitor), pickle.loads(pickle.dumps(monitor))):
        assert torch.equal(other.predict(X)["knn"].p_value, expected)
