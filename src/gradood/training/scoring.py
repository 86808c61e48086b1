"""What the sampler needs to know of auxiliary samples."""

import torch
from torch import Tensor, nn

from gradood.functional.logits import energy
from gradood.taps import Network, Tap, logits_of
from gradood.training.sampler import Candidates

__all__ = ["candidates"]


def candidates(
    model: nn.Module, network: Network, x: Tensor, *, half: bool = False, batch: int = 1024
) -> Candidates:
    """Features and energies of auxiliary samples, in evaluation mode without gradients.

    Args:
        model: the unwrapped model that `network` was observed on.
        network: with a verified head.
        x: (n, …) on the model's device.
        half: compute the model in bf16.
        batch: samples at once.

    Cost: one forward.
    """
    head = network.head
    features: list[Tensor] = []
    energies: list[Tensor] = []
    for rows in x.split(batch):
        with Tap(model) as tap, torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            tap.value(head.site, lambda seen: features.append(head.features(seen).clone()))
            logits = logits_of(tap.run(rows))
        energies.append(energy(logits if logits.dtype == torch.float64 else logits.float()))
    return Candidates(torch.cat(features), torch.cat(energies))
