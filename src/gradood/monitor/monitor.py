"""The monitor: a model, the detectors bound to it, what they have learned and what was promised."""

import os
from collections.abc import Collection, Mapping
from typing import Any, Generic, Literal, Unpack, overload

from torch import Tensor, nn

from gradood._engine.batches import Data
from gradood._engine.binding import Binding
from gradood._engine.fitting import merge
from gradood._engine.forms import ModelInput
from gradood._engine.mistakes import labels_in_pairs
from gradood._engine.partials import Partials
from gradood._engine.roster import Detectors, SeveralDetectors
from gradood._engine.rows import Inputs
from gradood.calibration import Promise
from gradood.calibration._curve import How
from gradood.calibration.results import Result, Results
from gradood.detectors.base import Detector
from gradood.monitor._described import Described
from gradood.monitor._explaining import Explaining
from gradood.monitor._saving import save
from gradood.monitor._session import Session, copied
from gradood.monitor._state import Keywords, MonitorOptions, MonitorState, R
from gradood.taps import Link, Output

__all__ = ["Monitor"]


@labels_in_pairs
class Monitor(Described, Explaining, Generic[R]):
    """Scores a classifier's inputs for being out-of-distribution.

    All detectors share one forward pass per batch and at most one truncated backward per distinct
    objective. The model is left as it was found: weights, buffers, gradients, modes and hooks are
    not touched, as a view of it is run that shares its tensors. A forward that draws random numbers
    leaves the global generators of torch, NumPy and Python where they were, unless other threads
    run: what these have drawn is never drawn again.

    Threads may share a monitor, monitors a model, and others may run or train it meanwhile; weights
    are read as they are at that moment.

    Args:
        model: any classifier, as it is; wrappers are looked through. It is run in evaluation mode,
            on the device it is on.
        detectors: a registry name or a `Detector`, which gives plain tensors; a list of them, or a
            mapping that names them, which give mappings by name.
        combine: how `calibrate` makes one decision of all detectors: ``"fisher"``,
            ``"stouffer"``, ``"cauchy"`` or ``"min"`` (`gradood.calibration.Fusion`); None for none.
        head: name of the last linear layer, if it cannot be found.
        features: name of the layer whose output are the features, where no linear layer takes them:
            (batch, width), or the mean over positions, of those alone that a mask leaves. Methods
            that read the weights of a last linear layer then refuse.
        output: which item of what the model returns holds the logits, where it returns several:
            the index of one in a tuple, the name of a key or attribute, or a function of what is
            returned. A function is not saved.
        model_input: a function from a batch without its labels to the model's tensor, tuple of
            positional arguments or mapping of keyword arguments; docs/inputs.md. Not saved.
        link: what makes probabilities of the outputs: ``"softmax"`` over classes; ``"sigmoid"`` of
            each, where several labels may hold, which are (batch, classes) of 0 and 1; ``"none"``
            in regressions and embeddings, whose labels are not looked at and whose known data is
            one class. None is a softmax, by which one output z is read as the logits (0, z), with
            a warning unless the labels of a fit are 0 and 1.
        preprocess: how images became the inputs, in plain values such as the options of
            `gradood.data.Preprocess`; kept with what is saved, and not applied here.
        skip_unusable: leave out detectors that cannot run on the model, or refuse the fit data,
            instead of raising (``"all"`` always does); `left_out` says why. Or names that may be.
        progress: show a bar on long work; None does on a terminal only.

    Raises:
        UnknownNameError: no detector of that name.
        ConfigError: no detector, two of one name or one unfit for files, or no such option.
        TapError: `model` is no `torch.nn.Module`, or one that was compiled to TorchScript.

    Cost:
        Nothing is run until the first batch, on which the model is observed once.

    >>> import torch, gradood
    >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 3))
    >>> gradood.Monitor(model, "energy").score(torch.zeros(2, 3, 2, 2)).shape
    torch.Size([2])
    """

    @overload
    def __init__(
        self: "Monitor[Result]",
        model: nn.Module,
        detectors: str | Detector,
        **options: Unpack[Keywords],
    ) -> None: ...
    @overload
    def __init__(
        self: "Monitor[Results]",
        model: nn.Module,
        detectors: SeveralDetectors,
        **options: Unpack[Keywords],
    ) -> None: ...
    def __init__(
        self,
        model: nn.Module,
        detectors: Detectors,
        *,
        combine: How | None = None,
        head: str | None = None,
        features: str | None = None,
        output: Output | None = None,
        model_input: ModelInput | None = None,
        link: Link | None = None,
        preprocess: Mapping[str, Any] | None = None,
        skip_unusable: bool | Collection[str] = False,
        progress: bool | None = None,
    ) -> None:
        options = MonitorOptions.of(
            model,
            detectors,
            combine,
            head,
            preprocess,
            skip_unusable,
            output,
            model_input,
            link,
            features,
        )
        self._session = Session(options, MonitorState(), progress)

    __copy__ = copied

    def fit(self, data: Data) -> "Monitor[R]":
        """Learn from in-distribution data, in one pass for all detectors; returns this monitor.

        Args:
            data: with labels if a detector needs them (`gradood.methods`).

        Raises:
            DataError: no data, labels missing or out of range, inputs not finite. The monitor is
                then as it was before.
        """
        self._session.fit(data)
        return self

    def accumulate(self, data: Data) -> Partials:
        """What some of the fit data contributes; to `merge` in any order, and to `finish` once."""
        return self._session.accumulate(data)

    def merge(self, a: Partials, b: Partials) -> Partials:
        """What two parts of the fit data contribute together."""
        return merge(self._session.unbound.learners, a, b)

    def finish(self, partials: Partials) -> None:
        """Learn from everything accumulated; a calibration made before no longer holds."""
        self._session.finish(partials)

    @overload
    def score(self: "Monitor[Result]", data: Data) -> Tensor: ...
    @overload
    def score(self: "Monitor[Results]", data: Data) -> dict[str, Tensor]: ...
    def score(self, data: Data) -> Any:
        """Scores of every sample; higher = more out-of-distribution.

        An input with a NaN or infinity, or one whose score comes out so, scores +inf.

        Args:
            data: a tensor or mapping is one batch, any other iterable a loader. Labels are ignored.

        Returns:
            (samples,) float64 on the CPU, or a mapping of such by detector name.

        Raises:
            NotFittedError: a detector that learns was not fitted.
            DataError: the input has another shape or type than the first batch seen.
        """
        scores = dict(self._session.score(data).scores)
        return next(iter(scores.values())) if self._session.options.bare else scores

    def calibrate(
        self,
        data: Data,
        *,
        fpr: float = 0.05,
        mode: Literal["marginal", "pac"] = "marginal",
        confidence: float = 0.95,
        per_class: bool = False,
        allow_overlap: str | None = None,
    ) -> "Monitor[R]":
        """Set the thresholds at which `predict` calls an input out-of-distribution.

        Scores that differ by no more than the model's rounding, measured here, count as equal.
        Samples may be copies of one another. Samples without a finite score count as +inf.

        Args:
            data: held-out in-distribution data, drawn like the inputs to come, none of it fitted
                on, and none that the network was trained on. Labels are ignored.
            fpr: share of in-distribution inputs that may be flagged.
            mode: what `fpr` bounds: ``"marginal"`` the false-alarm rate on average over
                calibration sets, ``"pac"`` that of this one, with `confidence`.
            confidence: of ``"pac"``.
            per_class: keep the promise within each predicted class; rare classes share a threshold,
                and `Result.class_conditional` tells which.
            allow_overlap: why it is right that some of the data was fitted on, if it is; stamped
                on every result and on what is saved.

        Returns:
            This monitor; as it was before if an error is raised.

        Raises:
            CalibrationError: too few samples, or distinct ones, for the promise (says how many are
                needed), too many without a finite score, or samples that were fitted on.
            NotFittedError: a detector that learns was not fitted.
            DataError: no data, or inputs that are not finite.

        Warns:
            CoverageWarning: by the model's predictions, classes of the fit data are missing.

        Cost:
            One pass over the data, and 18 of at most 16 rows.
        """
        promise = Promise(fpr=fpr, mode=mode, confidence=confidence)
        self._session.calibrate(data, promise, per_class=per_class, allow_overlap=allow_overlap)
        return self

    def predict(
        self, data: Data, *, keep: Collection[Literal["logits", "features"]] = ("logits",)
    ) -> R:
        """Decide about every sample: out-of-distribution or not, with a p-value.

        Args:
            data: a tensor is one batch; any other iterable is a loader. Labels are ignored.
            keep: what of the forward pass comes with the decisions: `Result.logits`, 8 bytes per
                class and sample; `Result.features`, 4 per feature and sample.

        Returns:
            A `Result` for one detector given bare, otherwise a mapping of them by name, on the CPU.

        Raises:
            CalibrationError: `calibrate`, or before it `fit`, was not called.
            DataError: the input has another shape or type than the first batch seen.
            TapError: the features are to be kept, and no head was found.
        """
        results: Any = self._with_source(self._session.predict(data, keep))
        return next(iter(results.values())) if self._session.options.bare else results

    def save(self, path: str | os.PathLike[str], *, override: str | None = None) -> None:
        """Save what was learned and promised in one file, which `gradood.load` reads.

        Args:
            path: a safetensors file, without the model; replaced atomically if it exists.
            override: why it is right that the model changed since it was fitted or calibrated on,
                if it did; stamped on every result of what is loaded.

        Raises:
            ModelMismatchError: the model changed since; says what differs.
            NotFittedError: a detector that learns was not fitted, or nothing was run yet.
            ArtifactError: an option of a detector cannot be saved.
            OSError: the file cannot be written; what was there is unchanged.

        Cost:
            One forward pass of eight inputs, and reading all parameters.
        """
        save(path, self._session.options, self._session.state, override)

    def bind(self, x: Inputs) -> Binding:
        """Observe the model on inputs like those to come, and plan what to read.

        Done by itself on the first batch; useful to see errors early. For a monitor that was
        loaded, this plans what a new fit reads. `x` has at least one row, all finite.

        Raises:
            TapError: a detector cannot read this model.
        """
        return self._session.bind(x)
