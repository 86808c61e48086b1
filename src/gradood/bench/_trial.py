"""Trial of detectors on in-distribution data alone: scores of held-out samples and of synthetic
outliers made of them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from gradood._engine.batches import Batch, Data, Shard, batches
from gradood._engine.detector_set import DetectorSet, UnboundSet
from gradood._engine.fitting import fit as fitted
from gradood._engine.forms import InputForm, ModelInput
from gradood._engine.rows import Inputs, finite_rows, refuse_nonfinite, stacked
from gradood._engine.scoring import score_shards
from gradood._io.warning_filters import ignored
from gradood.bench._synthetic import made, usable_kinds
from gradood.calibration.results import BatchScores
from gradood.detectors.base import Detector
from gradood.errors import DataError, GradoodWarning
from gradood.evidence import content_keys
from gradood.taps import FeatureLayer, Link, Output

__all__ = ["FEWEST", "HELD", "Candidates", "Trial", "chunks"]

HELD = 300
"""Samples held out at most."""
FEWEST = 20
_SHARE = 0.2


@dataclass(frozen=True, eq=False, slots=True)
class Candidates:
    """Detectors to be tried on a model.

    Attributes:
        model: any classifier.
        detectors: by name; one that cannot run on the model is left out.
        head: name of the last linear layer, the layer that gives the features, or None to search.
        output: which item of what the model returns holds the logits, or None for the usual ones.
        preprocess: how images became the inputs, in plain values, or None.
        model_input: makes the model's inputs of a batch, or None for the rules.
        link: what makes probabilities of the outputs, or None for a softmax.
    """

    model: nn.Module
    detectors: Mapping[str, Detector]
    head: str | FeatureLayer | None = None
    output: Output | None = None
    preprocess: Mapping[str, Any] | None = None
    model_input: ModelInput | None = None
    link: Link | None = None

    @property
    def form(self) -> InputForm:
        """How batches become the model's inputs."""
        return InputForm(self.model, self.model_input, self.link)


@dataclass(frozen=True, eq=False, slots=True)
class Trial:
    """Scores of held-out samples and of synthetic outliers, by every detector that ran.

    Attributes:
        detectors: bound and fitted, with those left out.
        known: scores of the held-out samples.
        unknown: kind → scores of the outliers of that kind; row i is made of held-out sample i.
        fitted: samples fitted on.
        given: whether the held-out samples were given as such; else they are part of the fit data.
    """

    detectors: DetectorSet
    known: BatchScores
    unknown: Mapping[str, BatchScores]
    fitted: int
    given: bool

    @staticmethod
    def of(
        candidates: Candidates, fit: Data, held: Data | None = None, *, limit: int = HELD
    ) -> "Trial":
        """Fit the candidates in one pass, and score what was held out and what is made of it.

        Args:
            candidates: detectors and model.
            fit: in-distribution training data, with labels for the detectors that need them.
            held: in-distribution data that is not in `fit`; None holds out a fifth of `fit`.
            limit: samples held out at most, drawn evenly.

        Raises:
            DataError: too few samples, held-out ones with NaN, or some that are in `fit` too.
            TapError: the model cannot be read.
            ConfigError: no detector can run.
        """
        form = candidates.form
        stream = batches(fit, labels=True, form=form)
        first = next((batch for batch in stream if len(batch.inputs)), None)
        if first is None:
            raise DataError("fit gave no sample; give in-distribution training data.")
        unbound = UnboundSet(
            model=candidates.model,
            detectors=candidates.detectors,
            head=candidates.head,
            output=candidates.output,
            required=(),
            preprocess=candidates.preprocess,
            model_input=candidates.model_input,
            link=candidates.link,
        )
        draw = _Draw(limit, _SHARE if held is None else 0.0)
        given = None if held is None else _drawn(held, limit, form)
        learns = any(detector.must_fit for detector in candidates.detectors.values())
        rest = _apart(draw.without(chain([first], stream)), given if learns else None)
        with ignored(GradoodWarning):  # Of single candidates; the monitor that follows gives them.
            bound = unbound.bind(unbound.moved(first.inputs), first.labels)
            bound = fitted(bound, [Shard(lambda: rest)])
        for _ in rest:  # Without a detector that learns nobody has asked for them.
            pass
        samples = draw.sample() if given is None else given
        size = len(first.inputs)
        known, bound = score_shards(bound, [chunks(samples, size)], what="held-out samples")
        unknown: dict[str, BatchScores] = {}
        for kind, maker in usable_kinds(samples).items():
            outliers = chunks(made(samples, maker, 0), size)
            unknown[kind], bound = score_shards(bound, [outliers], what=kind)
        return Trial(bound, known, unknown, draw.passed, held is not None)


def _apart(stream: Iterator[Batch], held: Inputs | None) -> Iterator[Batch]:
    """The batches, which must not hold what was held out.

    Raises:
        DataError: at the end; says how many samples they share.
    """
    if held is None:
        yield from stream
        return
    keys, shared = content_keys(held), 0
    for batch in stream:
        shared += int(torch.isin(content_keys(batch.inputs), keys).sum())
        yield batch
    if shared:
        raise DataError(
            f"{shared} of the fit samples are held-out samples too, which detectors then know; "
            "give held= data that is not in fit, or leave it out."
        )


def chunks(samples: Inputs, size: int) -> Shard:
    """A shard of some samples, read so many at once.

    Args:
        samples: of n rows.
        size: of a batch.
    """
    return Shard(lambda: (Batch(part) for part in samples.split(max(1, size))))


class _Draw:
    """An even draw from a stream, without replacement; the same for the same stream.

    Args:
        limit: samples drawn at most.
        share: of the stream that may be drawn; samples that others displace are lost to both.
    """

    def __init__(self, limit: int, share: float) -> None:
        self._limit, self._share = limit, share
        self._generator = torch.Generator("cpu").manual_seed(0)
        self._drawn: list[tuple[float, int, int, Inputs]] = []
        self._kept: list[Tensor] = []
        self._seen = 0
        self.passed = 0

    def without(self, stream: Iterator[Batch]) -> Iterator[Batch]:
        """The batches without the samples that may be drawn."""
        for batch in stream:
            x, labels = batch.inputs, batch.labels
            numbers = torch.rand(len(x), generator=self._generator, dtype=torch.float64)
            taken = numbers < self._share
            keys = content_keys(x).cpu() if self._share else torch.zeros(len(x), dtype=torch.int64)
            for row in taken.nonzero().flatten().tolist():
                place, key = self._seen + row, int(keys[row])
                self._drawn.append((float(numbers[row]), place, key, x[row : row + 1].clone()))
            self._drawn = sorted(self._drawn, key=lambda one: one[0])[: self._limit]
            self._seen += len(x)
            kept = ~taken
            self.passed += int(kept.sum())
            if self._share:
                self._kept.append(keys[kept])
            if kept.any():
                yield Batch(x[kept.to(x.device)], None if labels is None else labels[kept])

    def sample(self) -> Inputs:
        """What was drawn, in the order of the stream: each content once, and none that passed.

        Raises:
            DataError: it is too little, of several shapes, or not finite.
        """
        drawn = [(key, row) for _, _, key, row in sorted(self._drawn, key=lambda one: one[1])]
        if drawn:
            refuse_nonfinite(torch.cat([finite_rows(row) for _, row in drawn]), "held-out")
        once: dict[int, Inputs] = {}
        for key, row in drawn:
            once.setdefault(key, row)
        keys = torch.tensor(list(once), dtype=torch.int64, device="cpu")
        copied = {key for kept in self._kept for key in kept[torch.isin(kept, keys)].tolist()}
        rows = [row for key, row in once.items() if key not in copied]
        if len(rows) < FEWEST:
            raise self._too_few(len(rows), len(once) - len(rows))
        together = stacked(rows, pad=True)
        if together is None:
            raise DataError("samples differ in shape; give samples of one shape to choose by.")
        return together

    def _too_few(self, rows: int, copied: int) -> DataError:
        copies = f", and {copied} more have copies among those fitted on" if copied else ""
        ways = f"about {round(FEWEST / _SHARE * 1.5)} different ones to fit on, or some as held="
        return DataError(
            f"{rows} samples were held out{copies}, and at least {FEWEST} are needed to judge by, "
            f"copies counted once; give {ways if self._share < 1 else 'more of them'}."
        )


def _drawn(held: Data, limit: int, form: InputForm) -> Inputs:
    """An even draw from held-out data."""
    draw = _Draw(limit, 1.0)
    for _ in draw.without(batches(held, form=form)):
        pass
    return draw.sample()
