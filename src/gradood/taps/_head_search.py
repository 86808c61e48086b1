"""Search for the head among the layers that ran in one forward."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from gradood.errors import TapError, suggest
from gradood.taps._head_candidates import HeadCandidate, find_head
from gradood.taps._headless import unreadable_head
from gradood.taps._output import by_values, headless
from gradood.taps._probing import inputs_of
from gradood.taps.arguments import Inputs, called
from gradood.taps.head import Form, Head
from gradood.taps.head_reading import mask_of
from gradood.taps.network import Layer
from gradood.taps.site import Site
from gradood.taps.view import Views
from gradood.taps.wrap import Link

__all__ = ["HeadSearch"]

_PROBED = 8
"""Modules that are tried with unit vectors, the last to run, as these take a run each."""


@dataclass(frozen=True, eq=False)
class HeadSearch:
    """One forward of a model, in which a head is looked for.

    Attributes:
        views: of the model.
        example: (1, …) an input.
        rows: the inputs that it ran on.
        taken: name of a layer with a weight, and what it took, in the order they ran.
        calls: how often each layer ran.
        shapes: what each layer gave that ran once; empty where that is no tensor.
        paired: whether one logit z is read as the two (0, z).
        mask: (rows, positions), which positions count; None if all do.
    """

    views: Views
    example: Inputs
    rows: Inputs
    taken: Sequence[tuple[str, Tensor]]
    calls: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...]]
    paired: bool
    mask: Tensor | None

    def head(
        self, logits: Tensor, name: str | None, link: Link, ended: str | None
    ) -> tuple[Head | str, Tensor | None]:
        """The verified head with features of the rows, or why there is none.

        Args:
            logits: (rows, classes), the model's own.
            name: the layer to take, or None to try all.
            link: what makes probabilities of the outputs.
            ended: why its last operation gives no logits, or None.
        """
        known = dict(self.views.model.named_modules())
        if name is not None and name not in known:
            return f"no layer {name!r}; {suggest(name, filter(None, known))}", None
        try:
            return self.weighted(logits, name)
        except TapError as error:
            # Its words alone: the error would keep this forward and its graph alive.
            why = str(error)
        certain = None if link == "none" else ended or by_values(logits)
        if certain:
            return headless(certain), None
        probed = self.probed(logits, name)
        if probed is not None:
            return probed
        if link == "none":
            return (why, None) if name is not None else self.output(logits)
        looks = by_values(logits, few=True)
        if looks and "looks like" not in why:
            why += f" The output looks like {looks}: let the model return its logits."
        return why + unreadable_head(self.views.model, self.calls), None

    def tried(self, *, paired: bool) -> list[HeadCandidate]:
        """The layers with a weight of their own.

        Args:
            paired: whether they are compared with logits read as two.
        """
        return [self._candidate(*known, "weight", paired) for known in self.taken]

    def weighted(self, logits: Tensor, name: str | None) -> tuple[Head, Tensor]:
        """The head among layers with a weight, and features (rows, width).

        Args:
            logits: (rows, classes), the model's own.
            name: the layer to take, or None to try all.

        Raises:
            TapError: none fits; says what was tried.
        """
        return self._found(self.tried(paired=self.paired), logits, name)

    def probed(self, logits: Tensor, name: str | None) -> tuple[Head, Tensor] | None:
        """The head among modules whose weight is told by unit vectors, or None.

        Args:
            logits: as above.
            name: likewise.

        Cost:
            A forward of the rows, and each module that gives as many values, on its width + 1.
        """
        outputs, rows = logits.shape[1] - self.paired, len(logits)
        names = [
            layer
            for layer, shape in self.shapes.items()
            if len(shape) in (2, 3)
            and shape[0] == rows
            and shape[-1] == outputs
            and name in (None, layer)
        ]
        if not names or not bool(logits.isfinite().all()):
            return None
        seen = inputs_of(
            self.views, names[-_PROBED:], lambda module: called(module, self.rows.clone())
        )
        known = [self._candidate(*taken, "probed", self.paired) for taken in seen.items()]
        try:
            return self._found(known, logits, name)
        except TapError:
            return None

    def output(self, logits: Tensor) -> tuple[Head, Tensor]:
        """The model's output as its own features, whose head is the identity."""
        values, site = logits.detach(), Site("", "output")
        whole = Head("", self.views.model, site, "as given", 0.0, self.views, self.example)
        return replace(whole, form="output", taken=values[:1]), values

    def named(self, layer: Layer, features: Tensor) -> Head:
        """What a layer gives as the features, averaged over positions, of which no head is known.

        Args:
            layer: that was named.
            features: (rows, width), of it.
        """
        module, site = self.views.model.get_submodule(layer.name), Site(layer.name)
        how = "mean over positions" if len(layer.shape) > 1 else "as given"
        head = Head(layer.name, module, site, how, 0.0, self.views, self.example, "named")
        return replace(head, taken=features[:1], channels=layer.channels)

    def _candidate(self, layer: str, seen: Tensor, form: Form, paired: bool) -> HeadCandidate:
        return HeadCandidate(
            layer,
            self.views.model.get_submodule(layer),
            seen,
            self.calls.get(layer, 1),
            self.views,
            self.example,
            form,
            paired,
            self.mask,
        )

    def _found(
        self, candidates: Sequence[HeadCandidate], logits: Tensor, name: str | None
    ) -> tuple[Head, Tensor]:
        head = find_head(candidates, logits, name)
        seen = next(c.seen for c in candidates if c.layer == head.layer)
        return head, head.features(seen, logits, mask_of(seen, self.mask))
