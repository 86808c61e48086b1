"""Data that lacks classes which other data has: told, recorded, and never recommended from."""

import warnings

import pytest
import torch
from torch import nn

import gradood
from gradood._engine.coverage import class_counts, rare_classes
from gradood.bench import Sets, compare
from gradood.detectors import KNN, Energy
from gradood.errors import CoverageWarning
from gradood.monitor.evaluation import evaluate

CLASSES = 6


@pytest.fixture(scope="module")
def setting():
    """A network that is right, and data of six classes in the order of these."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(CLASSES, CLASSES)).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(CLASSES) * 3)
        model[1].bias.zero_()
    y = torch.arange(CLASSES).repeat_interleave(60)
    x = torch.eye(CLASSES)[y] * 3 + 0.3 * torch.randn(len(y), CLASSES, generator=generator)
    return model, x.view(-1, CLASSES, 1, 1), y


def test_counts_that_chance_explains_are_not_told():
    generator = torch.Generator().manual_seed(1)
    expected = torch.tensor([100, 100, 50, 20, 5, 1, 0])
    for size in (5, 20, 100, 1000):
        for _ in range(200):
            labels = torch.multinomial(expected.double(), size, True, generator=generator)
            assert rare_classes(expected, class_counts(labels, 7)) == []


@pytest.mark.parametrize(
    ("classes", "size", "present"), [(10, 300, 2), (10, 79, 2), (100, 300, 20), (1000, 300, 2)]
)
def test_a_slice_of_the_first_classes_is_told(classes, size, present):
    expected = torch.full((classes,), 50)
    found = torch.zeros(classes, dtype=torch.int64)
    found[:present] = size // present
    assert rare_classes(expected, found) == list(range(present, classes))


def test_one_of_many_classes_is_told():
    expected = torch.tensor([100] * 10)
    assert rare_classes(expected, torch.tensor([50] * 9 + [1])) == [9]
    assert rare_classes(expected, torch.zeros(10, dtype=torch.int64)) == []


# Images of one value each: those of a few say little of the range of all.
@pytest.mark.filterwarnings("ignore::gradood.errors.InputRangeWarning")
def test_calibration_and_evaluation(setting, tmp_path):
    model, x, y = setting
    monitor = gradood.Monitor(model, "mahalanobis", progress=False)
    monitor.fit([(x[::2], y[::2])])
    held = x[1::2]
    monitor.calibrate([held])
    few = held[:90]
    with pytest.warns(CoverageWarning, match=r"calibration data .* 3 of 6 classes \(3, 4, 5\)"):
        monitor.calibrate([few])
    with pytest.warns(CoverageWarning, match=r"in-distribution data .* 3 of 6 classes"):
        evaluate(monitor, id=[few], ood={"noise": [torch.randn_like(held)]}, level=None)
    monitor.calibrate([held])
    monitor.save(tmp_path / "m.safetensors")
    loaded = gradood.load(tmp_path / "m.safetensors", model)
    with pytest.warns(CoverageWarning, match=r"3 of 6 classes"):
        loaded.calibrate([few])


@pytest.mark.parametrize("crippled", ["fit", "id"])
def test_a_comparison_keeps_its_warnings(setting, crippled):
    model, x, y = setting
    whole, part = (x, y), (x[:120], y[:120])
    fit, known = (part, whole) if crippled == "fit" else (whole, part)
    sets = Sets(
        fit=[fit],
        fit_labels=fit[1],
        id=[known[0]],
        id_labels=known[1],
        ood={"noise": [torch.randn_like(x)]},
    )
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        found = compare(model, {"knn": KNN(k=5), "energy": Energy()}, sets, x[:8])
    assert [w.category for w in given] == [CoverageWarning]
    assert [(w.stage, w.void) for w in found.warnings] == [(crippled, True)]
    assert "4 of 6 classes (2, 3, 4, 5)" in found.warnings[0].text
