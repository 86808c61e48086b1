"""Local robustness of the energy: input gradients, perturbations and certified radii."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradood import metrics
from gradood.functional.logits import energy
from gradood.taps import device_of, left_as_found, logits_of

__all__ = [
    "Attack",
    "CertifiedRadii",
    "certified_radius",
    "energies",
    "fpr_under",
    "gradient_norms",
    "perturbed",
]

_BATCH = 128


@dataclass(frozen=True, kw_only=True, slots=True)
class Attack:
    """Perturbation of inputs by at most ε in the Euclidean norm.

    Attributes:
        kind: ``"random"``: onto the sphere, uniformly; ``"adversarial"``: projected gradient
            steps.
        steps: of the adversarial kind.
        seed: of the random kind.
    """

    kind: str = "adversarial"
    steps: int = 10
    seed: int = 0


@dataclass(frozen=True, eq=False, slots=True)
class CertifiedRadii:
    """Distance of each sample within which its decision does not change.

    Attributes:
        radius: min(ε, (γ − S)/L) of known samples with S < γ, min(ε, (S − γ)/L) of outliers with
            S ≥ γ, and 0 of those that are decided wrongly, (n,).
        lipschitz: L, the largest gradient norm found in the ball of radius ε, (n,). A largest value
            found is no upper bound: the radius is an estimate, as in the paper.
    """

    radius: Tensor
    lipschitz: Tensor


def energies(model: nn.Module, x: Tensor) -> Tensor:
    """Energies (n,) on the CPU in float64; the model is left as it was."""
    device = device_of(model)
    with left_as_found(model) as view:
        run = view.module
        return torch.cat([energy(_logits(run, r.to(device))).cpu() for r in x.split(_BATCH)])


def gradient_norms(model: nn.Module, x: Tensor) -> Tensor:
    """Norms (n,) of the energy's gradient with respect to the input, in evaluation mode.

    Cost: a forward and a backward to the input.
    """
    return torch.cat([_input_gradients(model, rows)[1] for rows in x.split(_BATCH)])


def perturbed(
    model: nn.Module, x: Tensor, *, radius: float | Tensor, rise: bool, attack: Attack
) -> Tensor:
    """Inputs perturbed within their ball.

    Args:
        model: left as it was.
        x: (n, …), in the units of the model's input.
        radius: ε ≥ 0, of all or of each (n,).
        rise: perturb towards higher energies, as hurts known samples; False for lower ones, as
            hides outliers.
        attack: its kind.

    Cost: `steps` forwards and backwards to the input; none if random.
    """
    radii = torch.as_tensor(radius).to(x).expand(len(x))
    if not bool(radii.any()):
        return x
    if attack.kind == "random":
        generator = torch.Generator().manual_seed(attack.seed)
        noise = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x)
        return x + _expanded(radii, x) * _unit(noise)
    blocks = []
    for start, limit in zip(x.split(_BATCH), radii.split(_BATCH), strict=True):
        rows, step = start, _expanded(2.5 * limit / attack.steps, start)
        for _ in range(attack.steps):
            gradient = _input_gradients(model, rows)[0].to(start)
            rows = rows + (step if rise else -step) * _unit(gradient)
            shift = rows - start
            length = shift.flatten(1).norm(dim=1).clamp_min(1e-12)
            rows = start + shift * _expanded((limit / length).clamp_max(1.0), shift)
        blocks.append(rows)
    return torch.cat(blocks)


def fpr_under(
    model: nn.Module, known: Tensor, outliers: Tensor, *, radius: float, attack: Attack
) -> float:
    """FPR95 by energy when every sample of both kinds is perturbed against its decision.

    Args:
        model: left as it was.
        known: (n, …).
        outliers: (m, …).
        radius: ε.
        attack: its kind; the threshold is taken on the perturbed known samples.
    """
    energy_id = energies(model, perturbed(model, known, radius=radius, rise=True, attack=attack))
    energy_ood = energies(
        model, perturbed(model, outliers, radius=radius, rise=False, attack=attack)
    )
    return metrics.fpr_ood_at_tpr_id95(energy_id, energy_ood)


def certified_radius(
    model: nn.Module, x: Tensor, *, threshold: float, radius: float, known: bool, draws: int = 4
) -> CertifiedRadii:
    """The paper's local certificate [sharifi2024greg], ε* = min(ε, |γ − S| / L).

    L is the largest gradient norm at the sample itself, at `draws` random points on the sphere of
    radius ε and as many half-way to it, and where adversarial paths of ε/4, ε/2, 3ε/4 and ε towards
    the threshold end.

    Args:
        model: left as it was.
        x: (n, …), in the units of the model's input.
        threshold: γ; below it a sample is called known.
        radius: ε.
        known: whether the samples are in-distribution.
        draws: random points on the sphere, and inside.

    Cost: 2 `draws` + 17 forwards and backwards to the input, and one forward.
    """
    scores = energies(model, x)
    points: list[Tensor] = [x]
    for seed in range(draws):
        for share in (1.0, 0.5):
            attack = Attack(kind="random", seed=2 * seed + int(share == 1.0))
            points.append(perturbed(model, x, radius=share * radius, rise=known, attack=attack))
    for share in (0.25, 0.5, 0.75, 1.0):
        attack = Attack(steps=3)
        points.append(perturbed(model, x, radius=share * radius, rise=known, attack=attack))
    lipschitz = torch.stack([gradient_norms(model, point) for point in points]).amax(0)
    margin = threshold - scores if known else scores - threshold
    correct = margin > 0 if known else margin >= 0
    radii = (margin / lipschitz.clamp_min(1e-12)).clamp_max(radius)
    return CertifiedRadii(torch.where(correct, radii, 0.0), lipschitz)


def _input_gradients(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient (n, …) and its norms (n,) on the CPU."""
    device = device_of(model)
    with left_as_found(model) as view, torch.enable_grad():
        _freeze(view.module)
        rows = x.to(device).detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(energy(_logits(view.module, rows)).sum(), rows)
    gradient = gradient.cpu()
    return gradient, torch.linalg.vector_norm(gradient.double().flatten(1), dim=1)


def _freeze(view: nn.Module) -> None:
    """Let a view hold its parameters without gradients, which saves their part of the graph."""
    for module in view.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = parameter.detach()  # type: ignore[assignment]


def _logits(model: Callable[[Tensor], object], x: Tensor) -> Tensor:
    return logits_of(model(x)).double()


def _unit(x: Tensor) -> Tensor:
    return x / _expanded(x.flatten(1).norm(dim=1).clamp_min(1e-12), x)


def _expanded(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))
