"""Plans of a fit as plain values: the driver makes them once, and workers read as it says.

A detector may try layers out on the first inputs, and choose by what it finds; two machines that
each do so may choose differently, and what they accumulate could not be merged.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gradood._engine.binding import Binding, observed
from gradood._engine.detector_set import DetectorSet, UnboundSet
from gradood._engine.preprocessing import preprocessed
from gradood._engine.rows import Inputs
from gradood.detectors.base import Plan
from gradood.errors import ModelMismatchError, TapError
from gradood.evidence import reads_from_plain, reads_to_plain
from gradood.taps import Network

__all__ = ["FitPlan", "bound_by", "plan_of"]


@dataclass(frozen=True, slots=True)
class FitPlan:
    """What is read of a model for a fit.

    Attributes:
        text: JSON: of each detector what its scores and its fit read, and what was seen of the
            network; the same for the same binding.
    """

    text: str


def plan_of(bound: DetectorSet) -> FitPlan:
    """The plan of bound detectors.

    Raises:
        ArtifactError: a detector reads what has no name; it cannot be fitted on a cluster.
    """
    plans = {
        name: {"reads": reads_to_plain(plan.reads), "fit_reads": reads_to_plain(plan.fit_reads)}
        for name, plan in bound.binding.plans.items()
    }
    plain = {
        "plans": plans,
        "left_out": dict(bound.binding.left_out),
        "network": _seen(bound.binding.network),
    }
    return FitPlan(json.dumps(plain, allow_nan=False))


def bound_by(plan: FitPlan, unbound: UnboundSet, inputs: Inputs) -> DetectorSet:
    """Detectors bound to the model of this machine as the driver planned.

    Args:
        plan: of the driver.
        unbound: the detectors and the model here.
        inputs: (batch ≥ 1, …) that the driver bound them on.

    Raises:
        ModelMismatchError: the model looks otherwise here.
        TapError: it cannot be read.
    """
    plain = json.loads(plan.text)
    inputs = unbound.moved(inputs)
    network = observed(
        unbound.model,
        inputs,
        head=unbound.head,
        output=unbound.output,
        link=unbound.link or "softmax",
    )
    network = preprocessed(network, unbound.preprocess)
    _check_seen(plain["network"], json.loads(json.dumps(_seen(network))))
    plans = {
        name: Plan(reads_from_plain(one["reads"]), reads_from_plain(one["fit_reads"]))
        for name, one in plain["plans"].items()
    }
    binding = Binding(network, plans, plain["left_out"])
    return DetectorSet.of(binding, unbound.detectors, required=unbound.required)


def _seen(network: Network) -> dict[str, Any]:
    """What was observed of a network that plans depend on."""
    try:
        head: Any = str(network.head.layer)
    except TapError:
        head = None
    return {
        "classes": network.classes,
        "head": head,
        "layers": list(network.layers),
        "sizes": dict(network.sizes),
        "paired": network.paired,
    }


def _check_seen(driver: Mapping[str, Any], worker: Mapping[str, Any]) -> None:
    differing = [name for name in driver if driver[name] != worker.get(name)]
    if differing:
        raise ModelMismatchError(
            f"a worker sees another network than the driver: its {', '.join(differing)} differ; "
            "give all machines the same model and versions."
        )
