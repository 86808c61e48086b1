"""Statistics are of the model that they were made on, and of the settings that it ran under."""

import copy
import pickle
import warnings
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import gradood
from gradood.artifact import read
from gradood.errors import ModelChangedWarning, ModelMismatchError
from gradood.monitor._numerics import _precision
from gradood.monitor._tensor_versions import TensorVersions

GENERATOR = torch.Generator().manual_seed(0)
X, HELD, NEW = (torch.randn(n, 3, 2, 2, generator=GENERATOR) for n in (60, 100, 10))
LABELS = torch.arange(60) % 4
CHANGED = "not as it was calibrated on"


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.flat, self.body, self.bn = nn.Flatten(), nn.Linear(12, 16), nn.BatchNorm1d(16)
        self.act, self.fc = nn.ReLU(), nn.Linear(16, 4)
        self.register_buffer("calls", torch.zeros(()))
        self.scale = 1.0

    def forward(self, x):
        self.calls += 1
        return self.fc(self.act(self.bn(self.body(self.flat(x))))) * self.scale


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture
def monitor(model):
    return gradood.Monitor(model, ["mahalanobis", "energy"]).fit([(X, LABELS)]).calibrate(HELD)


def in_place(model):
    with torch.no_grad():
        model.fc.weight.mul_(1.3)


def trained(model):
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(X).sum().backward()
    optimizer.step()


def past_the_counter(model):
    for parameter in model.parameters():
        parameter.data.mul_(1.01)


def one_layer_past_the_counter(model):
    model.body.bias.data.mul_(1.5)


def running_statistics(model):
    model.train()(X)
    model.eval()


def other_checkpoint(model):
    torch.manual_seed(9)
    model.load_state_dict(Net().state_dict())


CHANGES = [
    in_place,
    trained,
    past_the_counter,
    one_layer_past_the_counter,
    running_statistics,
    other_checkpoint,
    lambda model: setattr(model, "fc", nn.Linear(16, 4)),
    lambda model: setattr(model, "act", nn.GELU()),
    lambda model: setattr(model.fc, "weight", nn.Parameter(model.fc.weight * 2)),
    lambda model: setattr(model.fc.weight, "data", model.fc.weight.data + 1),
    lambda model: parametrizations.weight_norm(model.fc),
    lambda model: setattr(model, "scale", 2.0),
    lambda model: setattr(model.bn, "eps", 0.5),
]


@pytest.mark.filterwarnings("ignore::gradood.errors.CoverageWarning")
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_model_is_told_and_not_saved(model, monitor, tmp_path, change):
    change(model)
    with pytest.warns(ModelChangedWarning, match=CHANGED):
        monitor.predict(NEW)
    with pytest.warns(ModelChangedWarning, match="not as it was fitted on"):
        monitor.score(NEW)
    with pytest.raises(ModelMismatchError, match="changed since it was fitted or calibrated"):
        monitor.save(tmp_path / "x")
    assert not list(tmp_path.iterdir())
    with pytest.warns(ModelChangedWarning, match="not as it was fitted on"):
        monitor.calibrate(HELD)
    monitor.predict(NEW)  # The thresholds are those of the model as it is.
    with pytest.raises(ModelMismatchError):
        monitor.save(tmp_path / "x")  # What was learned is not.
    monitor.fit([(X, LABELS)]).calibrate(HELD).save(tmp_path / "x")


def moved(model):
    model.double().float()
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()


HARMLESS = [
    moved,
    lambda model: model.load_state_dict(copy.deepcopy(model.state_dict())),
    lambda model: model.requires_grad_(False),
    lambda model: model.train(),
    lambda model: [model(NEW) for _ in range(3)],  # Counts its calls.
    lambda model: model.zero_grad(),
    lambda model: setattr(model, "fc", copy.deepcopy(model.fc)),
    lambda model: model.fc.register_forward_hook(lambda *parts: None),
    lambda model: setattr(model, "body", nn.DataParallel(model.body)),
    lambda model: model.to(memory_format=torch.channels_last),
    lambda model: setattr(model.bn, "momentum", 0.5),
]


@pytest.mark.parametrize("change", HARMLESS)
def test_what_changes_nothing_is_not_told(model, monitor, tmp_path, change):
    if change is not HARMLESS[8]:
        monitor.predict(NEW)
    change(model)
    if change is HARMLESS[8]:
        assert not monitor._session.state.calibration_model.changes()
        return
    monitor.predict(NEW)
    monitor.score(NEW)
    monitor.save(tmp_path / "x")
    monitor.calibrate(HELD).predict(NEW)


def test_a_plain_attribute_is_found_when_it_is_saved(model, monitor, tmp_path):
    model.scale = 2.0
    with pytest.raises(ModelMismatchError, match="logits differ"):
        monitor.save(tmp_path / "x")


def test_a_changed_attribute_is_named_when_it_is_used(model, monitor):
    model.scale, model.bn.eps = 2, 0.5
    said = r"the model has scale=2; expected 1\.0; bn has eps=0\.5; expected 1e-05"
    for _ in range(2):
        with pytest.warns(ModelChangedWarning, match=said):
            monitor.predict(NEW)
    model.scale, model.bn.eps = 1.0, 1e-5
    monitor.predict(NEW)
    del model.scale
    Net.scale = 3.0
    try:
        with pytest.warns(ModelChangedWarning, match=r"scale=None; expected 1\.0"):
            monitor.predict(NEW)
    finally:
        del Net.scale


def test_a_value_without_effect_does_not_hide_a_later_one(model, monitor):
    model.bn.eps = 1.0001e-5
    monitor.predict(NEW)
    model.bn.eps = 0.5
    with pytest.warns(ModelChangedWarning, match=r"bn has eps=0\.5; expected 1e-05"):
        monitor.predict(NEW)


def test_an_attribute_that_becomes_an_array_is_compared(model, monitor):
    value = torch.full((4,), 2.0)
    model.scale = value[:1]
    with pytest.warns(ModelChangedWarning, match="the model has scale="):
        monitor.predict(NEW)
    model.scale = value
    with pytest.warns(ModelChangedWarning):
        monitor.predict(NEW)
    model.scale = 1.0
    monitor.predict(NEW)


def test_an_attribute_that_is_nan_is_what_it_was(model):
    model.missing = float("nan")
    monitor = gradood.Monitor(model, "energy").calibrate(HELD)
    model.missing, model.scale = float("nan"), 2.0
    with pytest.warns(ModelChangedWarning, match=r"scale=2\.0; expected 1\.0\. Cal") as told:
        monitor.predict(NEW)
    assert "missing" not in str(told[0].message)


def test_an_attribute_that_changes_nothing_costs_a_few_looks(model, tmp_path, monkeypatch):
    model.steps, model.name = 0, "a"
    monitor = gradood.Monitor(model, "energy").calibrate(HELD)
    looks = []
    snapshot = monitor._session.state.calibration_model
    rerun = snapshot._rerun
    monkeypatch.setattr(snapshot, "_rerun", lambda: looks.append(1) or rerun())
    for step in range(20):
        model.steps, model.bn.momentum = step, 0.1 * step
        monitor.predict(NEW)
    assert len(looks) == 9  # Eight changes of each; steps is 0 in the first round, as it was.
    model.fc = copy.deepcopy(model.fc)
    monitor.predict(NEW)
    model.scale = 4.0
    with pytest.warns(ModelChangedWarning, match="scale"):
        monitor.predict(NEW)
    model.scale = 1.0
    monitor.predict(NEW)
    monitor.save(tmp_path / "x")


def test_with_a_reason_it_is_saved_and_stamped(model, monitor, tmp_path):
    in_place(model)
    monitor.save(tmp_path / "x", override=" only the head's scale ")
    again = gradood.load(tmp_path / "x", model)
    assert again.overrides == ("model changed: only the head's scale",)
    assert again.predict(NEW)["energy"].overrides == again.overrides
    with pytest.raises(ModelMismatchError):
        monitor.save(tmp_path / "x", override=" ")


def test_given_back_what_it_had_nothing_is_told(model, monitor, tmp_path):
    before = copy.deepcopy(model.state_dict())
    in_place(model)
    with pytest.warns(ModelChangedWarning):
        monitor.predict(NEW)
    model.load_state_dict(before)
    monitor._session.state.calibration_model._until = 0.0  # Not to wait.
    monitor.predict(NEW)
    monitor.save(tmp_path / "x")


def test_nothing_learned_and_nothing_promised_is_bound_to_nothing(model, tmp_path):
    monitor = gradood.Monitor(model, "energy")
    monitor.score(NEW)
    in_place(model)
    monitor.score(NEW)
    monitor.save(tmp_path / "x")


def test_a_loaded_monitor_is_bound_too(model, monitor, tmp_path):
    monitor.save(tmp_path / "x")
    again = gradood.load(tmp_path / "x", model)
    again.predict(NEW)
    in_place(model)
    with pytest.warns(ModelChangedWarning, match=CHANGED):
        again.predict(NEW)
    with pytest.raises(ModelMismatchError):
        again.save(tmp_path / "y")


def test_copies_and_pickles_are_bound(monitor, tmp_path):
    for again in (copy.deepcopy(monitor), pickle.loads(pickle.dumps(monitor))):
        again.predict(NEW)
        in_place(again.model)
        with pytest.warns(ModelChangedWarning, match=r"fc\.weight differs"):
            again.predict(NEW)
    monitor.predict(NEW)


def test_a_model_that_changes_during_a_fit_is_told(model):
    def loader():
        yield X[:30], LABELS[:30]
        in_place(model)
        yield X[30:], LABELS[30:]

    with pytest.warns(ModelChangedWarning, match="changed while it was fitted"):
        gradood.Monitor(model, "mahalanobis").fit(loader())


def test_parts_of_a_fit_that_are_of_other_weights_are_told(model):
    monitor = gradood.Monitor(model, "mahalanobis")
    first = monitor.accumulate([(X[:30], LABELS[:30])])
    monitor.finish(monitor.merge(first, monitor.accumulate([(X[30:], LABELS[30:])])))
    in_place(model)
    second = monitor.accumulate([(X[30:], LABELS[30:])])
    with pytest.warns(ModelChangedWarning, match="read off a model with other weights"):
        monitor.finish(monitor.merge(first, second))


# -- settings -------------------------------------------------------------------------------------


def autocast():
    return torch.autocast("cpu", dtype=torch.bfloat16)


def test_another_autocast_is_told(monitor):
    with autocast(), pytest.warns(ModelChangedWarning, match="autocast is bfloat16, and was off"):
        monitor.predict(NEW)
    monitor.predict(NEW)
    with autocast(), pytest.warns(ModelChangedWarning, match="fitted on: autocast is bfloat16"):
        monitor.calibrate(HELD)
    with pytest.warns(ModelChangedWarning, match="autocast is off, and was bfloat16"):
        monitor.predict(NEW)


def test_the_settings_are_kept_in_the_file(model, tmp_path):
    monitor = gradood.Monitor(model, "energy")
    with autocast():
        monitor.calibrate(HELD)
    monitor.save(tmp_path / "x")
    assert read(tmp_path / "x").verified.manifest.numerics.autocast == "bfloat16"
    again = gradood.load(tmp_path / "x", model)  # Compared under the autocast it was made under.
    with autocast():
        expected, found = monitor.predict(NEW), again.predict(NEW)
    assert torch.equal(expected.score, found.score)
    with pytest.warns(ModelChangedWarning, match="autocast is off, and was bfloat16"):
        again.predict(NEW)


def test_a_setting_that_changes_no_number_is_not_told(monitor, tmp_path):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            monitor.predict(NEW)
        snapshot = monitor._session.state.calibration_model
        assert bool(seen) == bool(snapshot._rerun())
    finally:
        torch.set_float32_matmul_precision(before)
    monitor.save(tmp_path / "x")


# -- versions -------------------------------------------------------------------------------------


def test_versions_of_any_tensor():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    tied = nn.Linear(2, 2)
    tied.weight = model[0].weight
    model.append(tied)
    with torch.inference_mode():
        model.register_buffer("made", torch.ones(2))
    model.register_buffer("sparse", torch.eye(2).to_sparse())
    model.register_buffer("empty", torch.ones(0, 3))
    model.register_buffer("unknown", torch.tensor([torch.nan, 1]))
    versions = TensorVersions(model)
    assert versions.hold() and versions.hold()
    with torch.no_grad():
        tied.weight.add_(1)
    assert not versions.hold()
    assert TensorVersions(nn.Identity()).hold()


def test_a_write_past_the_counter_to_any_layer_is_seen():
    model = nn.Sequential(*(nn.Linear(3, 3) for _ in range(9)))
    versions = TensorVersions(model)
    for parameter in model.parameters():
        parameter.data.mul_(2)
        assert not versions.hold()
        parameter.data.div_(2)
        assert versions.hold()


def test_a_torch_without_switches_by_backend_has_full_precision():
    assert _precision(None, SimpleNamespace()) == "ieee"
    assert _precision(SimpleNamespace(fp32_precision="none"), SimpleNamespace()) == "ieee"
    general = SimpleNamespace(fp32_precision="tf32")
    assert _precision(SimpleNamespace(fp32_precision="none"), general) == "tf32"
    assert _precision(SimpleNamespace(fp32_precision="bf16"), general) == "bf16"
