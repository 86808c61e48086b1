"""Validation on held-out data: accuracy, and separation of outliers by energy."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradood import metrics
from gradood.errors import DataError
from gradood.taps import called, device_of, left_as_found
from gradood.training._distributed import Processes
from gradood.training._inputs import on_device
from gradood.training._samples import Samples

__all__ = ["HeldOut", "Scores", "logits_on", "score"]


@dataclass(frozen=True, slots=True)
class Scores:
    """Measures of a network on held-out data.

    Attributes:
        accuracy: share of known samples classified correctly; under a sigmoid, of their labels.
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


def score(model: nn.Module, held: HeldOut, processes: Processes) -> Scores:
    """Validate; every process computes its share, and all know the result.

    Args:
        model: left as it was.
        held: see `HeldOut`.
        processes: that train together.

    Raises:
        DataError: the network gives energies that are not finite.

    Cost: one forward of the held-out samples.
    """
    logits, labels = logits_on(model, held.id, processes)
    outputs = held.id.form.outputs
    known = outputs.energy(logits.double())
    accuracy = outputs.accuracy(logits, labels)
    if held.aux is None:
        return Scores(accuracy, None, None, _mean(known), None)
    outliers = outputs.energy(logits_on(model, held.aux, processes)[0].double())
    means = _mean(known), _mean(outliers)
    summary = metrics.summary(known, outliers)
    return Scores(accuracy, summary.fpr_ood_at_tpr_id95, summary.auroc, *means)


def logits_on(
    model: nn.Module,
    samples: Samples,
    processes: Processes,
    *,
    places: Sequence[int] | None = None,
    batch: int = 256,
) -> tuple[Tensor, Tensor]:
    """Logits (n, classes) on the CPU, and labels (n,) or (n, classes), of samples as they are.

    Args:
        model: left as it was.
        samples: not augmented.
        processes: which share the work.
        places: which samples; None for all.
        batch: samples at once.
    """
    places = range(len(samples)) if places is None else places
    edges = [len(places) * i // processes.size for i in range(processes.size + 1)]
    share = places[edges[processes.rank] : edges[processes.rank + 1]]
    device = device_of(model)
    logits, labels = [], []
    with left_as_found(model) as view:
        for i in range(0, len(share), batch):
            images, numbers = samples.plain(share[i : i + batch])
            returned = called(view.module, on_device(images, device))
            logits.append(samples.form.outputs.logits(returned).float())
            labels.append(numbers.to(device))
    if not logits:
        raise DataError(f"{len(places)} samples for {processes.size} processes; expected more.")
    gathered = processes.concatenated(torch.cat(logits))
    return gathered.cpu(), processes.concatenated(torch.cat(labels)).cpu()


def _mean(energies: Tensor) -> float:
    if not bool(energies.isfinite().all()):
        raise DataError(
            "the network gives energies that are not finite; the run has diverged. Start again "
            "with a lower learning rate, or optimizer.clip."
        )
    return float(energies.mean())
