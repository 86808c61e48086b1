"""How a network does on held-out data: accuracy, and energies of known samples and outliers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradood import metrics
from gradood.errors import DataError
from gradood.functional.logits import energy
from gradood.taps import device_of, left_as_found, logits_of
from gradood.training.distributed import World
from gradood.training.samples import Samples

__all__ = ["HeldOut", "Scores", "logits_on", "score"]


@dataclass(frozen=True, slots=True)
class Scores:
    """On held-out data.

    Attributes:
        accuracy: share of known samples classified correctly.
        fpr95: share of outliers kept where at least 95 % of known samples are, by energy; None
            without outliers.
        auroc: by energy; None without outliers.
        energy_id: mean of known samples.
        energy_aux: mean of outliers, or None.
    """

    accuracy: float
    fpr95: float | None
    auroc: float | None
    energy_id: float
    energy_aux: float | None


@dataclass(frozen=True, eq=False, slots=True)
class HeldOut:
    """Samples that are not trained on.

    Attributes:
        id: known, with labels.
        aux: outliers, or None.
    """

    id: Samples
    aux: Samples | None


def score(model: nn.Module, held: HeldOut, world: World) -> Scores:
    """Validate; every process computes its share, and all know the result.

    Args:
        model: left as it was.
        held: see `HeldOut`.
        world: the processes.

    Raises:
        DataError: the network gives energies that are not finite.

    Cost: one forward of the held-out samples.
    """
    logits, labels = logits_on(model, held.id, world)
    known = energy(logits.double())
    accuracy = float((logits.argmax(1) == labels).double().mean())
    if held.aux is None:
        return Scores(accuracy, None, None, _mean(known), None)
    outliers = energy(logits_on(model, held.aux, world)[0].double())
    means = _mean(known), _mean(outliers)
    summary = metrics.summary(known, outliers)
    return Scores(accuracy, summary.fpr_ood_at_tpr_id95, summary.auroc, *means)


def logits_on(
    model: nn.Module,
    samples: Samples,
    world: World,
    *,
    places: Sequence[int] | None = None,
    run: Callable[[Tensor], Tensor] | None = None,
    batch: int = 256,
) -> tuple[Tensor, Tensor]:
    """Logits (n, classes) on the CPU, and labels (n,), of samples as they are.

    Args:
        model: left as it was.
        samples: not augmented.
        world: the processes, which share the work.
        places: which samples; None for all.
        run: from inputs to what is wanted of them, if not the logits.
        batch: samples at once.
    """
    chosen = range(len(samples)) if places is None else places
    edges = [len(chosen) * i // world.size for i in range(world.size + 1)]
    mine = chosen[edges[world.rank] : edges[world.rank + 1]]
    device = device_of(model)
    found, labels = [], []
    with left_as_found(model, device):
        for i in range(0, len(mine), batch):
            images, numbers = samples.plain(mine[i : i + batch])
            x = images.to(device)
            found.append(logits_of(model(x)).float() if run is None else run(x))
            labels.append(numbers.to(device))
    if not found:
        raise DataError(f"{len(chosen)} samples for {world.size} processes; expected more.")
    gathered = world.gather(torch.cat(found))
    return gathered.cpu(), world.gather(torch.cat(labels)).cpu()


def _mean(energies: Tensor) -> float:
    if not bool(energies.isfinite().all()):
        raise DataError(
            "the network gives energies that are not finite; the run has diverged. Start again "
            "with a lower learning rate, or optimizer.clip."
        )
    return float(energies.mean())
