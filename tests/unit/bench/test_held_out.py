"""Methods whose papers fit on data that the network was not trained on."""

import pytest
import torch

import gradood
from gradood.bench._data_sets import Sets
from gradood.bench.comparison import compare
from gradood.errors import MeaninglessScoreWarning

METHODS = ("temperature-scaling", "kl-matching", "knn")


@pytest.fixture
def model():
    return torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(4, 3)).eval()


def data(seed, n=150):
    """Features and labels that the softmax at temperature 2 gives: T is about 2."""
    generator = torch.Generator().manual_seed(seed)
    x = 6 * torch.randn(n, 4, generator=generator)
    return x, generator


def labels(model, x, generator, temperature):
    with torch.no_grad():
        p = torch.softmax(model(x) / temperature, 1)
    return torch.multinomial(p, 1, generator=generator)[:, 0]


def sets(model, **options):
    fit, generator = data(1)
    known, _ = data(2, 20)
    unknown, _ = data(3, 20)
    fit_y = labels(model, fit, generator, 0.2)
    return Sets(
        fit=[(fit, fit_y)], fit_labels=fit_y, id=known, ood={"noise": 2 * unknown}, **options
    )


def compared(model, given, methods=METHODS):
    detectors = {name: gradood.registry.create(name) for name in methods}
    return compare(model, detectors, given, given.id, level=None)


def test_they_are_fitted_on_held_out_data_and_the_others_are_not(model):
    held, generator = data(4, 400)
    held_y = labels(model, held, generator, 2.0)
    given = sets(model, held_out=[(held, held_y)], held_out_labels=held_y)
    found = compared(model, given)
    states = found.detector_set.states
    assert float(states["temperature-scaling"]["temperature"]) > 1
    own = gradood.Monitor(model, "kl-matching").fit([(held, held_y)]).states["kl-matching"]
    torch.testing.assert_close(states["kl-matching"]["logs"], own["logs"])
    notes = {name: plan.notes for name, plan in found.plans.items()}
    for name in METHODS[:2]:
        assert notes[name][-1] == "fitted on held-out images, as in its paper"
    assert not any("held-out" in note for note in notes["knn"])


@pytest.mark.filterwarnings("ignore::gradood.errors.LabelMismatchWarning")
def test_without_held_out_data_their_rows_say_so_and_a_low_temperature_warns(model):
    with pytest.warns(MeaninglessScoreWarning, match="temperature-scaling found T = 0"):
        found = compared(model, sets(model))
    for name in METHODS[:2]:
        assert found.plans[name].notes[-1].startswith("fitted on the training images, where its")
    assert any("found T = 0." in warning.text for warning in found.warnings)


def test_held_out_data_without_labels_does_for_methods_that_need_none(model):
    held, _ = data(4)
    given = sets(model, held_out=[held])
    with pytest.warns(MeaninglessScoreWarning, match="below 1"):
        found = compared(model, given)
    assert found.plans["kl-matching"].notes[-1].startswith("fitted on held-out")
    assert found.plans["temperature-scaling"].notes[-1].startswith("fitted on the training")
