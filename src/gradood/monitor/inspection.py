"""What gradood finds in a model, before anything is fitted."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from gradood._engine.batches import Data, first_inputs
from gradood._engine.binding import observed, planned, probe_of
from gradood._engine.forms import InputForm, ModelInput, check_model_input
from gradood._engine.preprocessing import check_preprocess, preprocessed
from gradood._engine.roster import Detectors, roster
from gradood._engine.rows import moved
from gradood._io import html
from gradood.detectors.base import Detector
from gradood.errors import GradoodError
from gradood.evidence import Read
from gradood.registry import methods
from gradood.taps import (
    Inputs,
    Link,
    Network,
    Output,
    check_link,
    check_output,
    device_of,
    named_layer,
    unwrap,
)

__all__ = ["Inspection", "Use", "inspect"]


@dataclass(frozen=True, slots=True)
class Use:
    """What one detector would do on the model.

    Attributes:
        method: its name.
        works: whether it can read this model.
        notes: choices made, or why it cannot.
        caveats: why its score may mean little.
        reads: what a score reads.
    """

    method: str
    works: bool
    notes: tuple[str, ...]
    caveats: tuple[str, ...]
    reads: tuple[str, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Inspection:
    """A model as gradood sees it.

    Attributes:
        classes: number of logits.
        head: the verified head in words, or why there is none.
        head_layer: its module name, or None.
        norms: normalization layers, in the order they ran.
        stages: containers of the stages.
        last_map: the map that is pooled into the features, or None.
        layers: every layer that ran: name, class, output shape without the batch.
        uses: what each detector would do.
        cautions: why the output may be no logits; they hold for every detector, which has them
            among its caveats.
    """

    classes: int
    head: str
    head_layer: str | None
    norms: tuple[str, ...]
    stages: tuple[str, ...]
    last_map: str | None
    layers: tuple[tuple[str, str, tuple[int, ...]], ...]
    uses: tuple[Use, ...]
    cautions: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def __repr__(self) -> str:
        working = sum(use.works for use in self.uses)
        return (
            f"Inspection({self.classes} classes, head {self.head_layer or 'not found'}, "
            f"{len(self.layers)} layers; {working} of {len(self.uses)} detectors work)"
        )

    def _repr_html_(self) -> str:
        uses = [
            (use.method, "works" if use.works else "cannot", "; ".join((*use.notes, *use.caveats)))
            for use in self.uses
        ]
        facts = html.table(("", ""), self._facts(), text_columns=2)
        return facts + html.table(("detector", "", "notes and cautions"), uses, text_columns=3)

    @property
    def _no_logits(self) -> bool:
        """Whether there is no head as the output is no logits, which a caution says."""
        return bool(self.cautions) and self.head.startswith("not found: the model's output looks")

    def _facts(self) -> list[tuple[str, str]]:
        ends = f" ({self.norms[0]} … {self.norms[-1]})" if self.norms else ""
        return [
            ("classes", f"{self.classes}"),
            ("head", "not found, see the caution" if self._no_logits else self.head),
            ("norms", f"{len(self.norms)}{ends}"),
            ("stages", ", ".join(self.stages) or "none"),
            ("last map", self.last_map or "none"),
            ("layers", f"{len(self.layers)} ran"),
            *(("caution", caution) for caution in self.cautions),
        ]

    def __str__(self) -> str:
        lines = [*(f"{name:8}  {value}" for name, value in self._facts()), ""]
        width = max((len(use.method) for use in self.uses), default=0)
        for use in self.uses:
            state = "works" if use.works else "cannot"
            headless = f"not found: {'; '.join(use.notes)}" == self.head
            why = "reads the head, see above" if headless else "; ".join(use.notes)
            lines.append(f"{use.method:{width}} {state}  {why}".rstrip())
            own = (caveat for caveat in use.caveats if caveat not in self.cautions)
            lines += [f"{'':{width}} caution  {caveat}" for caveat in own]
        return "\n".join(lines)


def inspect(
    model: nn.Module,
    example: Data,
    detectors: Detectors | None = None,
    *,
    head: str | None = None,
    features: str | None = None,
    output: Output | None = None,
    model_input: ModelInput | None = None,
    link: Link | None = None,
    preprocess: Mapping[str, Any] | None = None,
) -> Inspection:
    """Layers, the head found and verified, and what each detector would use.

    Args:
        model: any classifier.
        example: (batch ≥ 1, …) inputs as the model takes them; of a loader, its first batch.
        detectors: which to plan for, as for `Monitor`; None plans for all.
        head: name of the last linear layer, if it cannot be found.
        features: name of the layer whose output are the features, as for `Monitor`.
        output: which item of what the model returns holds the logits, as for `Monitor`.
        model_input: makes the model's inputs of a batch, as for `Monitor`.
        link: what makes probabilities of the outputs, as for `Monitor`.
        preprocess: how images became the inputs, as for `Monitor`; `odin` takes its std of it.

    Raises:
        DataError: the example is no tensor, or the model raises on it.
        ConfigError: there is no such `output`.
        TapError: the model cannot be observed at all.
    """
    chosen = [m.name for m in methods()] if detectors is None else detectors
    named, _ = roster(chosen)
    module = unwrap(model)
    check_output(output)
    check_model_input(model_input)
    check_link(link)
    check_preprocess(preprocess)
    form = InputForm(model, model_input, link)
    x = moved(first_inputs(example, form), device_of(module))
    layer = named_layer(head, features)
    network = observed(module, x, head=layer, output=output, link=link or "softmax")
    network = preprocessed(network, preprocess)
    probe = probe_of(x)
    uses = tuple(_use(name, detector, network, probe) for name, detector in named.items())
    last = network.last_map
    return Inspection(
        classes=network.classes,
        head=_head(network),
        head_layer=network.head.layer if network.head_found else None,
        norms=tuple(layer.name for layer in network.norms),
        stages=tuple(stage.container for stage in network.stages),
        last_map=None if last is None else f"{last.site}, {last.positions} positions",
        layers=tuple((layer.name, layer.kind, layer.shape) for layer in network.layers.values()),
        uses=uses,
        cautions=network.cautions,
    )


def _head(network: Network) -> str:
    try:
        head = network.head
    except GradoodError as error:
        return f"not found: {error}"
    if head.form == "named":
        how = "" if head.reduction == "as given" else f", {head.reduction}"
        return f"none; the {head.width} features are what {head.layer!r} gives{how}"
    if head.form == "output":
        return "the model's output itself, of no classes, is taken for the features"
    classes, width = head.weight.shape
    bias = "bias" if head.bias is not None else "no bias"
    kind = type(head.module).__name__
    how = "" if head.reduction == "as given" else f", features = {head.reduction} of its input"
    return (
        f"{head.layer or 'the model itself'} ({kind} {width} → {classes}, {bias}{how}), "
        f"verified to {head.error:.0e} of the largest logit"
    )


def _use(name: str, detector: Detector, network: Network, probe: Inputs) -> Use:
    plan = planned(detector, network, probe, trial=True)
    if isinstance(plan, GradoodError):
        return Use(name, False, (str(plan),), (), ())
    return Use(name, True, plan.notes, plan.caveats, tuple(map(_read, plan.reads)))


def _read(read: Read) -> str:
    site = getattr(read, "site", None)
    if site is None:
        return str(getattr(read, "name", type(read).__name__))
    objective = getattr(read, "objective", None)
    summary = getattr(read, "summary", None)
    of = f" of the gradient of {objective.name}" if objective is not None else ""
    return f"{getattr(summary, 'name', '')}{of} at {site}"
