"""Labels held against the model at the fit."""

import warnings

import pytest
import torch
from torch import nn

import gradood
from gradood._engine.agreement import Agreement
from gradood.errors import LabelMismatchWarning


def agreement(labels, predicted, classes):
    return Agreement.of(torch.as_tensor(labels), torch.as_tensor(predicted), classes)


def drawn(n, classes, right, seed=0):
    """Labels, and predictions of which a share is right and the others are drawn."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (n,), generator=g)
    other = torch.randint(0, classes, (n,), generator=g)
    return labels, torch.where(torch.rand(n, generator=g) < right, labels, other)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("right", [0.3, 0.6, 1.0])
@pytest.mark.parametrize(("n", "classes"), [(10, 2), (40, 4), (400, 2), (2000, 10), (3000, 100)])
def test_models_that_classify_are_not_doubted(n, classes, right, seed):
    assert agreement(*drawn(n, classes, right, seed), classes).doubt() is None


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("n", "classes"), [(4, 2), (20, 4), (48, 2), (60, 10)])
def test_few_rows_say_nothing(n, classes, seed):
    labels, predicted = drawn(n, classes, 0.0, seed)
    assert agreement(labels, predicted, classes).doubt() is None


@pytest.mark.parametrize(("n", "classes"), [(2000, 2), (500, 10), (3000, 100)])
def test_an_accuracy_near_chance_is_told(n, classes):
    doubt = agreement(*drawn(n, classes, 0.0), classes).doubt()
    assert "fit labels right, where chance is" in doubt


@pytest.mark.parametrize(
    ("order", "classes", "said"),
    [
        (lambda y: torch.tensor(sorted(range(12), key=str)).argsort()[y], 12, "sorted as text"),
        (lambda y: (y + 1) % 10, 10, "each is its class plus 1, modulo 10"),
        (lambda y: 1 - y, 2, "each is its class plus 1, modulo 2"),
        (lambda y: torch.tensor([2, 0, 1, 3])[y], 4, "such as"),
    ],
)
@pytest.mark.parametrize("right", [0.7, 1.0])
def test_another_order_of_the_classes_is_told(order, classes, said, right):
    labels, predicted = drawn(1500, classes, right)
    doubt = agreement(order(labels), predicted, classes).doubt()
    assert "another order" in doubt and said in doubt


def test_a_model_of_one_class_is_no_other_order():
    labels = torch.arange(3000) % 3
    assert "chance is 33.3%" in agreement(labels, torch.zeros_like(labels), 3).doubt()


@pytest.mark.parametrize("others", [0, 3])
def test_labels_of_hardly_more_than_one_class_are_not_doubted(others):
    labels = torch.cat([torch.full((200,), 2), torch.arange(others)])
    assert Agreement.of(labels, labels, 10).doubt() is None
    assert Agreement.of(labels, (labels + 1) % 10, 10).doubt() is not None


def test_parts_merge():
    labels, predicted = drawn(100, 5, 0.5)
    whole = agreement(labels, predicted, 5)
    parts = agreement(labels[:30], predicted[:30], 5).merge(
        agreement(labels[30:], predicted[30:], 5)
    )
    assert parts.accuracy == whole.accuracy == float((labels == predicted).double().mean())


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 12)).eval()


def test_a_fit_keeps_and_shows_the_accuracy(model):
    x = torch.randn(400, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    y = model(x).argmax(1)
    monitor = gradood.Monitor(model, "mahalanobis")
    assert monitor.fit_accuracy is None
    some = torch.where(torch.arange(400) % 4 == 0, (y + 1) % 12, y)
    monitor.fit([(x[:150], some[:150]), (x[150:], some[150:])])
    assert monitor.fit_accuracy == 0.75 and "gets 75.0%" in repr(monitor)
    assert gradood.Monitor(model, gradood.KNN(k=3)).fit([x]).fit_accuracy is None


def test_a_fit_warns_once_where_it_was_called(model):
    x = torch.randn(400, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    monitor = gradood.Monitor(model, "mahalanobis")
    with pytest.warns(LabelMismatchWarning, match="plus 1, modulo 12") as caught:
        monitor.fit([(x, (model(x).argmax(1) + 1) % 12)])
    assert len(caught) == 1 and caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        monitor.fit([(x, model(x).argmax(1))])
