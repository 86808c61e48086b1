"""What a training step costs, as a ratio to a step of energy fine-tuning on the same network.

    python benchmarks/training_cost.py [--rounds 12] [--out docs/results/training-cost.md]

ResNet-20 in training mode, 64 known samples and 64 outliers a step (128 for GReg+), each with
SGD's update, every sample active. Every round times every kind of step once, in a shuffled order,
so that a slow moment of the machine falls on all alike; the ratio of medians is printed. The
released way is measured beside: a second forward inside `torch.autograd.functional.jacobian`.
"""

import argparse
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from measure import interleaved
from torch import Tensor, nn

from gradood import models
from gradood._engine.binding import observed
from gradood._io.atomic import replace
from gradood.bench.folder import commit
from gradood.functional.logits import energy
from gradood.training import ClusterEnergySampler, EnergyMarginLoss, InputGradientPenalty
from gradood.training._forward import set_training
from gradood.training._kernels import differentiable_kernels
from gradood.training.sampler import candidates

KNOWN = 64
APART = 1e6
"""Added to the energies of outliers: every sample is then on its own side, with equal gradients."""


@dataclass
class Setting:
    """One network in training, and its data."""

    model: nn.Module
    x: Tensor
    labels: Tensor
    statistics: str = "coupled"

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-6, momentum=0.9)
        self.margin = EnergyMarginLoss(m_in=APART / 4, m_out=APART / 2)
        self.penalty = InputGradientPenalty(m_in=APART / 4, m_out=APART / 2)

    def energies(self, logits: Tensor) -> Tensor:
        """With the outliers put apart."""
        apart = torch.zeros(len(logits))
        apart[KNOWN:] = APART
        return energy(logits) + apart

    def update(self, loss: Tensor) -> None:
        """One step of the optimizer."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def step(self, *, penalized: bool, x: Tensor | None = None, closed: bool = True) -> None:
        """Energy fine-tuning, or GReg, by the kernels of training or by torch's own."""
        set_training(self.model, self.statistics)
        x = (self.x if x is None else x).detach().requires_grad_(penalized)
        with differentiable_kernels() if penalized and closed else nullcontext():
            logits = self.model(x)
        energies = self.energies(logits)
        loss = nn.functional.cross_entropy(logits[:KNOWN], self.labels)
        loss = loss + 0.1 * self.margin(energies, n_id=KNOWN)
        if penalized:
            loss = loss + self.penalty(energies, x, n_id=KNOWN)
        self.update(loss)

    def released(self) -> None:
        """GReg by a second forward, inside a Jacobian of the mean energy."""
        set_training(self.model, self.statistics)
        logits = self.model(self.x)
        loss = nn.functional.cross_entropy(logits[:KNOWN], self.labels)
        loss = loss + 0.1 * self.margin(self.energies(logits), n_id=KNOWN)
        jacobian: Tensor = torch.autograd.functional.jacobian(  # type: ignore[assignment]
            lambda x: energy(self.model(x)).mean(), self.x, create_graph=True
        )
        norms = torch.linalg.vector_norm(jacobian.flatten(1), dim=1)
        self.update(loss + norms[:KNOWN].mean() + norms[KNOWN:].mean())


def setting(statistics: str = "coupled", rows: int = 2 * KNOWN) -> Setting:
    """A network of its own."""
    torch.manual_seed(0)
    model = models.build("resnet20")
    return Setting(model, torch.randn(rows, 3, 32, 32), torch.arange(KNOWN) % 10, statistics)


def steps(per_id: int) -> dict[str, Callable[[], object]]:
    """What is measured, by name."""
    plain, greg, own, released = (setting() for _ in range(4))
    frozen = setting("frozen")
    plus, chosen = setting(rows=3 * KNOWN), setting(rows=3 * KNOWN)
    pool = torch.randn(per_id * KNOWN, 3, 32, 32)
    network = observed(plus.model.eval(), pool[:2])
    sampler = ClusterEnergySampler(candidates_per_id=per_id)

    def choose(model: nn.Module) -> Tensor:
        model.train()
        found = candidates(model, network, pool)
        return sampler.choose(found, KNOWN, generator=torch.Generator().manual_seed(0))

    def greg_plus() -> None:
        rows = pool[choose(plus.model)]
        plus.step(penalized=True, x=torch.cat([plus.x[:KNOWN], rows]))

    return {
        "energy, 64 + 64": lambda: plain.step(penalized=False),
        "GReg, 64 + 64": lambda: greg.step(penalized=True),
        "GReg, frozen statistics": lambda: frozen.step(penalized=True),
        "GReg, torch's own second derivatives": lambda: own.step(penalized=True, closed=False),
        "GReg, two forwards and a Jacobian": released.released,
        "GReg+, 64 + 128": greg_plus,
        "of which scoring and k-means": lambda: choose(plus.model),
        "GReg+, without its sampler": lambda: chosen.step(penalized=True),
    }


def page(ratios: dict[str, float], rounds: int, command: str) -> str:
    """The table in Markdown."""
    limits = {
        "GReg, 64 + 64": "≤ 3.0",
        "GReg, frozen statistics": "≤ 2.2",
        "GReg+, 64 + 128": "≤ 5.5",
        "of which scoring and k-means": "≤ 1.2",
    }
    lines = [
        "# Cost of a training step",
        "",
        "Ratios to a step of energy fine-tuning (64 + 64 images, ResNet-20 in training mode, SGD), "
        "every sample active,",
        "each step timed between two energy steps in a shuffled order; medians of "
        f"{rounds} rounds.",
        f"{torch.get_num_threads()} threads, torch {torch.__version__}, commit {commit()}, "
        f"{datetime.now(UTC).date()}. Made with",
        "",
        f"    {command}",
        "",
        "| step | time | asked for |",
        "| --- | ---: | ---: |",
        *(f"| {name} | {ratio:.2f} | {limits.get(name, '')} |" for name, ratio in ratios.items()),
        "",
        "A penalized step has twice the convolutions of an energy step, which alone makes 2.0, and",
        "scoring is a forward of each candidate. A ratio below that is the machine's noise.",
        "",
        "A step in which no sample is active costs what an energy step does: the second",
        "differentiation is left out.",
        "",
    ]
    return "\n".join(lines)


def main() -> int:
    """Print the table, and write it if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--candidates-per-id", type=int, default=6)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    ratios = interleaved(steps(given.candidates_per_id), given.rounds)
    command = " ".join(["python", "benchmarks/training_cost.py", *sys.argv[1:]])
    text = page(ratios, given.rounds, command)
    print(text)
    if given.out:
        replace(given.out, [text.encode()], lambda written: None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
