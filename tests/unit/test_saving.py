"""Saved and loaded: the same decisions, on the same model, and a refusal on any other."""

import copy
import subprocess
import sys
import warnings

import pytest
import torch
from rosters import ON_ANY
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import gradood
from gradood import GROOD, KNN, Energy, GradNorm, Monitor, load
from gradood.artifact import check, read
from gradood.detectors import GAIAA
from gradood.errors import (
    ArtifactError,
    CalibrationError,
    DataError,
    ModelMismatchError,
    NotFittedError,
)

GENERATOR = torch.Generator().manual_seed(2)
FIT, CAL, X = (torch.randn(n, 3, 8, 8, generator=GENERATOR) for n in (60, 200, 40))
LABELS = torch.arange(60) % 3
NAMES = ON_ANY


class Block(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn1, self.bn2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)

    def forward(self, x):
        return x + torch.relu(self.bn2(self.conv(torch.relu(self.bn1(x)))))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.first, self.second = nn.Conv2d(3, 8, 3), Block(8), Block(8)
        self.fc = nn.Linear(8, 3)
        self.register_buffer("scale", torch.ones(8))

    def forward(self, x):
        return self.fc((self.second(self.first(self.stem(x)))).mean((2, 3)) * self.scale)


class Normalized(nn.Module):
    """A wrapper that keeps its mean where no hash of tensors sees it."""

    def __init__(self, model: nn.Module, mean: float):
        super().__init__()
        self.model, self.mean = model, mean

    def forward(self, x):
        return self.model(x - self.mean)


def net(wrap: float | None = None) -> nn.Module:
    torch.manual_seed(1)
    model = Net()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.3, 0.3)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return (model if wrap is None else Normalized(model, wrap)).eval()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A calibrated monitor of all methods, and its file."""
    path = tmp_path_factory.mktemp("saved") / "detector.safetensors"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gradood.errors.GradoodWarning)
        monitor = Monitor(net(), NAMES, combine="fisher", preprocess={"resize": 8, "mean": [0.5]})
        monitor.fit([(FIT, LABELS)]).calibrate(CAL, fpr=0.1)
    monitor.save(path)
    return monitor, path


# -- the same ---------------------------------------------------------------------------------


def test_everything_comes_back(saved):
    monitor, path = saved
    again = load(path, net())
    assert list(again.detectors) == NAMES and again.combine == "fisher"
    assert again.preprocess == {"resize": 8, "mean": [0.5]} and again.overrides == ()
    assert list(map(repr, again.detectors.values())) == list(map(repr, monitor.detectors.values()))
    before, after = monitor.predict(X), again.predict(X)
    for name in NAMES:
        assert torch.equal(before[name].score, after[name].score), name
        assert torch.equal(before[name].p_value, after[name].p_value), name
    assert torch.equal(before.score, after.score) and torch.equal(before.is_ood, after.is_ood)
    manifest = read(path).verified.manifest
    assert manifest.fit.samples == 60 and manifest.fit.class_counts == (20, 20, 20)
    assert manifest.model.head == "fc" and manifest.model.classes == 3


@pytest.mark.slow
def test_a_fresh_process_scores_the_same_to_the_last_bit(saved, tmp_path):
    monitor, path = saved
    torch.save(monitor.model, tmp_path / "model.pt")
    save_file({"x": X}, tmp_path / "x.safetensors")
    program = (
        "import sys, torch, gradood, warnings\n"
        f"sys.path[:0] = {[__file__.rsplit('/', n)[0] for n in (1, 2)]!r}\n"
        "import test_saving\n"
        "from safetensors.torch import load_file, save_file\n"
        "torch.set_num_threads(1)\n"
        f"model = torch.load({str(tmp_path / 'model.pt')!r}, weights_only=False)\n"
        f"x = load_file({str(tmp_path / 'x.safetensors')!r})['x']\n"
        f"scores = gradood.load({str(path)!r}, model).score(x)\n"
        f"save_file(scores, {str(tmp_path / 'scores.safetensors')!r})\n"
        # The compiler, which takes seconds to load, and which nothing here needs (ADR 0041).
        "assert 'torch._dynamo' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    expected = monitor.score(X)
    torch.set_num_threads(threads)
    found = load_file(tmp_path / "scores.safetensors")
    for name in NAMES:
        assert torch.equal(found[name], expected[name]), name


@pytest.mark.parametrize(
    "detector",
    [
        Energy(temperature=3.0),
        GradNorm(order=float("inf")),
        GradNorm(parameters=("fc.weight", "second.bn2.weight")),
        GROOD(ood_prototype=torch.linspace(0, 1, 8), k=2),
        GAIAA(layers=["first.bn1", "second.bn2"]),
        KNN(k=3, normalize=False),
    ],
    ids=repr,
)
def test_options_of_every_kind_come_back(detector, tmp_path):
    monitor = Monitor(net(), detector).fit([(FIT, LABELS)])
    monitor.bind(X)
    monitor.save(tmp_path / "d.safetensors")
    again = load(tmp_path / "d.safetensors", net())
    assert torch.equal(again.score(X), monitor.score(X))
    with pytest.raises(CalibrationError):
        again.predict(X)


def test_the_order_of_the_detectors_is_kept(tmp_path):
    monitor = Monitor(net(), ["msp", "energy"]).fit([FIT])
    monitor.calibrate(CAL).save(tmp_path / "d.safetensors")
    again = load(tmp_path / "d.safetensors", net())
    assert list(again.score(X)) == list(again.predict(X)) == ["msp", "energy"]


def test_a_name_of_ones_own_and_two_of_a_method(tmp_path):
    monitor = Monitor(net(), {"a b": KNN(k=1), "ü": KNN(k=5)}).fit([(FIT, LABELS)])
    monitor.calibrate(CAL).save(tmp_path / "d.safetensors")
    again = load(tmp_path / "d.safetensors", net())
    for name, scores in monitor.score(X).items():
        assert torch.equal(again.score(X)[name], scores)


@pytest.mark.filterwarnings("ignore::gradood.errors.MeaninglessScoreWarning")
def test_fitting_again_starts_from_nothing(saved):
    monitor, path = saved
    again = load(path, net())
    part = monitor.accumulate([(FIT, LABELS)])
    with pytest.raises(NotFittedError, match="finish was called before accumulate"):
        again.finish(part)
    assert torch.equal(again.score(X)["knn"], monitor.score(X)["knn"])
    part = again.accumulate([(FIT, LABELS)])
    assert torch.equal(again.score(X)["knn"], monitor.score(X)["knn"])  # Until `finish`.
    again.finish(part)
    with pytest.raises(CalibrationError):
        again.predict(X)
    assert torch.equal(again.score(X)["knn"], monitor.score(X)["knn"])


@pytest.mark.slow
def test_loaded_it_goes_on_like_the_first(saved, tmp_path):
    _, path = saved
    again = load(path, net())
    with pytest.raises(CalibrationError, match="5 of 205 calibration samples were also fitted on"):
        again.calibrate(torch.cat([CAL, FIT[:5]]))
    again.calibrate(torch.cat([CAL, FIT[:5]]), allow_overlap="a drill")
    again.save(tmp_path / "more.safetensors")
    assert load(tmp_path / "more.safetensors", net()).predict(X).overrides == (
        "calibration overlaps the fit: a drill",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gradood.errors.GradoodWarning)
        again.fit([(FIT[:54], LABELS[:54])])
        fresh = Monitor(net(), NAMES).fit([(FIT[:54], LABELS[:54])])
    assert again.overrides == ()
    for name, scores in fresh.score(X).items():
        assert torch.equal(again.score(X)[name], scores), name


# -- another model ----------------------------------------------------------------------------


def one_ulp(model):
    weight = model.first.conv.weight.data
    weight[0, 0, 0, 0] = torch.nextafter(weight[0, 0, 0, 0], torch.tensor(9.0))
    return model


def swapped_statistics(model):
    a, b = model.first.bn1, model.first.bn2
    a.running_mean, b.running_mean = b.running_mean.clone(), a.running_mean.clone()
    return model


def permuted_classes(model):
    order = torch.tensor([1, 2, 0])
    model.fc.weight.data, model.fc.bias.data = (
        model.fc.weight.data[order],
        model.fc.bias.data[order],
    )
    return model


def other_epsilon(model):
    model.second.bn1.eps = 1e-3
    return model


def other_architecture(model):
    return nn.Sequential(model.stem, nn.ReLU(), nn.Flatten(), nn.Linear(288, 3)).eval()


def quantized(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


def renamed(model):
    model.third = model.second
    del model.second
    model.forward = lambda x: model.fc(
        model.third(model.first(model.stem(x))).mean((2, 3)) * model.scale
    )
    return model


def changed_buffer(model):
    model.scale[3] = 1.0001
    return model


def other_dtype(model):
    return model.double()


WRONG = [
    (one_ulp, "first.conv.weight differs"),
    (swapped_statistics, "first.bn1.running_mean differs"),
    (permuted_classes, "fc.bias differs"),
    (other_epsilon, "second.bn1 has eps=0.001; expected 1e-05"),
    (other_architecture, "module 'fc' is missing"),
    (quantized, "fc is"),
    (renamed, "module 'second' is missing"),
    (changed_buffer, "scale differs"),
    (other_dtype, r"float64"),
]


@pytest.mark.parametrize(("change", "what"), WRONG, ids=lambda v: getattr(v, "__name__", ""))
def test_another_model_is_refused_and_told_what_differs(saved, change, what):
    _, path = saved
    with pytest.raises(ModelMismatchError, match=what) as caught:
        load(path, change(net()))
    assert "override=" in str(caught.value) and str(path) in str(caught.value)


def test_another_normalization_is_refused_though_no_tensor_differs(tmp_path):
    monitor = Monitor(net(wrap=0.5), ["energy", "knn"]).fit([(FIT, LABELS)])
    monitor.save(tmp_path / "d.safetensors")
    load(tmp_path / "d.safetensors", net(wrap=0.5))
    with pytest.raises(ModelMismatchError, match="canary logits differ by"):
        load(tmp_path / "d.safetensors", net(wrap=0.45))


def test_an_override_needs_a_reason_which_is_stamped_and_kept(saved, tmp_path):
    _, path = saved
    for nothing in (None, ""):
        with pytest.raises(ModelMismatchError):
            load(path, changed_buffer(net()), override=nothing)
    again = load(path, changed_buffer(net()), override="rounding of the export")
    stamp = "model mismatch: rounding of the export"
    assert again.predict(X).overrides == (stamp,)
    again.save(tmp_path / "more.safetensors")
    model = changed_buffer(net())
    assert load(tmp_path / "more.safetensors", model).overrides == (stamp,)


@pytest.mark.slow
def test_two_overrides_are_both_stamped(saved, tmp_path):
    """A calibration after a load takes no other override away."""
    again = load(saved[1], changed_buffer(net()), override="rounding of the export")
    again.calibrate(torch.cat([CAL, FIT[:5]]), allow_overlap="a drill")
    stamps = (
        "model mismatch: rounding of the export",
        "calibration overlaps the fit: a drill",
    )
    assert again.overrides == again.predict(X).overrides == stamps
    again.save(tmp_path / "more.safetensors")
    assert load(tmp_path / "more.safetensors", changed_buffer(net())).overrides == stamps
    assert again.calibrate(CAL).overrides == stamps[:1]


def test_an_override_cannot_make_a_model_run_that_does_not(saved):
    _, path = saved
    with pytest.raises(ModelMismatchError, match="cannot be run as before"):
        load(path, other_architecture(net()), override="let us see")


# -- the same model ---------------------------------------------------------------------------


def test_a_compiled_model_is_accepted(saved):
    monitor, path = saved
    model = torch.compile(net(), backend="eager")
    assert torch.equal(load(path, model).score(X)["knn"], monitor.score(X)["knn"])


def test_a_distributed_model_is_accepted(saved, tmp_path):
    monitor, path = saved
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1
    )
    try:
        model = DistributedDataParallel(net())
        assert torch.equal(load(path, model).score(X)["knn"], monitor.score(X)["knn"])
    finally:
        torch.distributed.destroy_process_group()


def test_reserialized_weights_are_accepted(saved, tmp_path):
    monitor, path = saved
    save_file(net().state_dict(), tmp_path / "weights.safetensors")
    torch.manual_seed(99)
    model = Net().eval()
    model.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    assert torch.equal(load(path, model).score(X)["knn"], monitor.score(X)["knn"])


def test_frozen_trained_and_copied_models_are_accepted(saved):
    monitor, path = saved
    for model in (net().requires_grad_(False), net().train(), copy.deepcopy(net())):
        assert torch.equal(load(path, model).score(X)["knn"], monitor.score(X)["knn"])


def test_parameters_as_views_are_accepted(saved):
    monitor, path = saved
    model = net()
    flat = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    start = 0
    for parameter in model.parameters():
        parameter.data = flat[start : start + parameter.numel()].view_as(parameter)
        start += parameter.numel()
    found = load(path, model).score(X)["knn"]
    torch.testing.assert_close(found, monitor.score(X)["knn"], rtol=1e-5, atol=1e-8)
    channels_last = net().to(memory_format=torch.channels_last)
    found = load(path, channels_last).score(X)["knn"]
    torch.testing.assert_close(found, monitor.score(X)["knn"], rtol=1e-5, atol=1e-8)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_model_on_another_device_is_accepted(saved):
    monitor, path = saved
    found = load(path, net().cuda()).score(X)
    for name, scores in monitor.score(X).items():
        torch.testing.assert_close(found[name], scores, rtol=1e-2, atol=1e-3)


# -- what cannot be saved or read -------------------------------------------------------------


def test_nothing_to_save_is_told(tmp_path):
    with pytest.raises(NotFittedError, match="nothing was run on this monitor yet"):
        Monitor(net(), "energy").save(tmp_path / "d.safetensors")
    with pytest.raises(NotFittedError, match="knn must be fitted first"):
        Monitor(net(), "knn").save(tmp_path / "d.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_detector_that_is_not_registered_is_not_saved(tmp_path):
    class Mine(Energy.__mro__[1]):  # type: ignore[misc, name-defined]
        name, title, paper, needs = "mine", "Mine.", "", ("logits",)
        cost = fails_when = "never"

        def plan(self, network, probe):
            return Energy().plan(network, probe)

        def measure(self, evidence, state):
            return Energy().measure(evidence, state)

    monitor = Monitor(net(), Mine())
    monitor.bind(X)
    with pytest.raises(LookupError, match="no detector 'mine'"):
        monitor.save(tmp_path / "d.safetensors")


def test_no_file_and_no_artifact_are_told(tmp_path):
    with pytest.raises(DataError, match="no saved detector at"):
        load(tmp_path / "absent.safetensors", net())
    torch.save({"a": 1}, tmp_path / "pickle.pt")
    with pytest.raises(ArtifactError, match="never read"):
        load(tmp_path / "pickle.pt", net())


def test_saving_leaves_model_and_random_numbers_as_they_were(saved, tmp_path):
    monitor, _ = saved
    monitor.model.train()
    before = torch.random.get_rng_state()
    monitor.save(tmp_path / "d.safetensors")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert monitor.model.training and not monitor.model.fc._forward_pre_hooks
    monitor.model.eval()
    assert check(tmp_path / "d.safetensors").size == (tmp_path / "d.safetensors").stat().st_size
