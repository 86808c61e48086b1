"""The check that a higher score means more out-of-distribution."""

import torch
from torch import Tensor, nn

from gradood.errors import GradoodError
from gradood.monitor import Monitor
from gradood.testing.case import Case
from gradood.testing.checks.check import Collection

__all__ = ["ORIENTATION"]

ORIENTATION = Collection()

_CLASSES = 6


class _Opposing(nn.Module):
    """One unit per class, each silencing the others; an input of no class leaves all half on."""

    def __init__(self) -> None:
        super().__init__()
        self.linear1 = nn.Linear(_CLASSES, _CLASSES)
        self.linear2 = nn.Linear(_CLASSES, _CLASSES)
        self.relu = nn.ReLU()
        self.head = nn.Linear(_CLASSES, _CLASSES)
        own = torch.eye(_CLASSES)
        with torch.no_grad():
            self.linear1.weight.copy_(2 * own - 1).add_(0.01 * torch.randn(_CLASSES, _CLASSES))
            self.linear1.bias.fill_(0.5)
            self.linear2.weight.copy_(own).add_(0.01 * torch.rand(_CLASSES, _CLASSES))
            self.linear2.bias.fill_(-1e-3)
            self.head.weight.copy_(4 * own).add_(0.01 * torch.rand(_CLASSES, _CLASSES))
            self.head.bias.zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.linear2(self.relu(self.linear1(x)))))


@ORIENTATION.check(once=True)
def higher_means_out(case: Case) -> None:
    """Where an input of no class is plain to see, it scores above every input of a class.

    On a network of its own: one unit per class, strong and alone on inputs of its class, while
    blank inputs leave every unit weakly on and the classes equally likely.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = _Opposing().eval()
        labels = torch.arange(504) % _CLASSES
        known = 3.0 * torch.eye(_CLASSES)[labels] + 0.1 * torch.randn(504, _CLASSES)
        blank = 0.01 * torch.randn(16, _CLASSES)
    monitor = Monitor(model, case.detector, progress=False)
    try:
        monitor.bind(known)
        monitor.fit([(known[:480], labels[:480])])
    except GradoodError:
        return  # an option is made for another network: a layer's name, a prototype's width
    inside, outside = monitor.score(known[480:]), monitor.score(blank)
    assert bool(outside.min() > inside.max()), (
        f"inputs of no class score {float(outside.min()):.4g} to {float(outside.max()):.4g}, "
        f"inputs of a class {float(inside.min()):.4g} to {float(inside.max()):.4g}"
    )
