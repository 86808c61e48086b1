"""Data that looks as if the network was trained on it."""

import pytest
import torch
from torch import nn

import gradood
from gradood._engine.binding import observed
from gradood._engine.forms import InputForm
from gradood.errors import TrainingDataWarning
from gradood.rejection._memorization import LabelFit, doubts


class Seen:
    """Figures of a network on some data."""

    def __init__(self, rows: int, accuracy: float, loss: float) -> None:
        self.rows, self.accuracy = rows, accuracy
        self.losses = torch.full((rows,), loss, dtype=torch.float64)
        self.losses[::2] *= 1.5
        self.losses[1::2] *= 0.5


@pytest.mark.parametrize(
    ("known", "fit", "stated", "words"),
    [
        # Figures of ResNet-20 and ResNet-56 on CIFAR-10: training images, then test images.
        (Seen(2000, 0.997, 0.011), None, None, ["unless the task is that easy"]),
        (Seen(2000, 0.918, 0.37), None, None, []),
        (Seen(2000, 1.0, 0.001), Seen(2000, 1.0, 0.001), None, ["without a gap"]),
        (Seen(2000, 0.933, 0.35), Seen(2000, 1.0, 0.001), None, []),
        (Seen(2000, 1.0, 0.001), Seen(2000, 0.93, 0.35), None, ["better on known than on fit"]),
        (Seen(2000, 0.997, 0.011), None, 0.9173, ["record states 91.7%", "that easy"]),
        (Seen(2000, 0.925, 0.3), None, 0.9173, []),
        # ImageNet: no gap is proven on few rows, and a usual one is no sign.
        (Seen(2000, 0.72, 1.15), Seen(2000, 0.78, 0.9), None, []),
        (Seen(150, 1.0, 0.0001), None, 0.9, []),
        (Seen(0, None, 0.0), None, 0.9, []),
    ],
)
def test_doubts(known, fit, stated, words):
    found = list(doubts(known, fit, stated))
    assert len(found) == len(words), found
    for text, word in zip(found, words, strict=True):
        assert word in text and "9.5 %" in text


def test_a_network_that_memorized_is_told_by_its_own_images():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(400, 500, generator=generator), torch.arange(400) % 4
    fresh = torch.randn(400, 500, generator=generator)
    network = nn.Sequential(nn.Linear(500, 4, bias=False))
    with (
        torch.no_grad()
    ):  # Least squares: every training row is right, and no other better than chance.
        network[0].weight.copy_(100 * torch.linalg.lstsq(x, torch.eye(4)[y] - 0.25).solution.T)
    with pytest.warns(TrainingDataWarning):
        gradood.guard(network, [(x, y)], detectors="gradnorm")
    assert gradood.guard(network, [(fresh, y)], detectors="gradnorm").doubts == ()
    with pytest.warns(TrainingDataWarning, match="and 100.0% of those of fit="):
        gradood.guard(network, [(x[:200], y[:200])], detectors="gradnorm", fit=[(x[200:], y[200:])])
    guard = gradood.guard(network, [(fresh, y)], detectors="gradnorm", fit=[(x, y)])
    assert guard.doubts == () and guard._record.accuracy < 0.5


def by_class(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Data in the order of its classes, of which the first is the easiest, and the last hard."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) * 10 // n
    wrong = torch.rand(n, generator=generator) > torch.linspace(0.98, 0.5, 10)[y]
    shown = (y + wrong * torch.randint(1, 10, (n,), generator=generator)) % 10
    return 5 * torch.eye(10)[shown] + 0.1 * torch.randn(n, 10, generator=generator), y


def in_batches(x: torch.Tensor, y: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(zip(x.split(500), y.split(500), strict=True))


def test_data_in_the_order_of_its_classes_is_not_judged_by_the_first():
    network = nn.Sequential(nn.ReLU(), nn.Linear(10, 10, bias=False))
    with torch.no_grad():
        network[1].weight.copy_(torch.eye(10))
    x, y = by_class(6_000, 0)
    right = (network(x).argmax(1) == y).double().mean()
    guard = gradood.guard(network, in_batches(x, y), detectors="energy", accuracy=float(right))
    assert guard.doubts == () and abs(guard._record.accuracy - right) < 0.03
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(1))
    fit = by_class(6_000, 2)
    for detector in ("energy", "knn"):  # The last classes of `fit` come first.
        guard = gradood.guard(
            network,
            in_batches(x[order], y[order]),
            fit=in_batches(fit[0].flip(0), fit[1].flip(0)),
            detectors=detector,
        )
        assert guard.doubts == ()


def test_rows_that_are_looked_at_are_spread_and_few():
    network = nn.Sequential(nn.ReLU(), nn.Linear(10, 10, bias=False))
    x, y = by_class(20_000, 0)
    found = observed(network, x[:8])
    for rows in (None, len(y)):
        seen = LabelFit(found, InputForm(network), "fit", rows)
        watched = seen.watched(in_batches(x, y))
        assert len(watched) == 40
        assert sum(len(batch.inputs) for batch in watched) == 20_000
        assert 2000 <= seen.rows <= 4000
        right = (network(x).argmax(1) == y).double().mean()
        assert abs(seen.accuracy - right) < 0.03
