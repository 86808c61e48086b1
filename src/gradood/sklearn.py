"""A classifier with a reject option for scikit-learn: pipelines, grids, cross-validation.

scikit-learn is imported with this module, and by nothing else of the library.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gradood._io.optional import optional_module
from gradood.errors import ConfigError, DataError
from gradood.rejection import Guard, guard

optional_module(
    "sklearn", "scikit-learn", "has the interface of estimators", "pip install 'gradood[sklearn]'"
)
from sklearn.base import BaseEstimator, ClassifierMixin  # noqa: E402
from sklearn.model_selection import train_test_split  # noqa: E402
from sklearn.utils.multiclass import check_classification_targets  # noqa: E402
from sklearn.utils.validation import check_is_fitted, validate_data  # noqa: E402

__all__ = ["RejectingClassifier"]

_BATCH = 256


class RejectingClassifier(ClassifierMixin, BaseEstimator):
    """A torch classifier with a reject option, as a scikit-learn estimator.

    Args:
        model: a trained network, and then `fit` is given data that it was **not** trained on, with
            the network's classes in the order of their sorted names; or a function that trains one:
            from inputs (n, …) float32 and classes (n,) int64 from 0, it returns the module, and
            `fit` holds out a share of the data from it.
        detectors: as for `gradood.guard`.
        fpr: share of known inputs that may be rejected.
        mode: what `fpr` bounds, as for `gradood.guard`.
        reject_label: what `predict` gives for a rejected input. Where the classes are strings, it
            is given as a string.
        held_out: share of the data of `fit` that the function is not given. Half of it fits the
            detectors, half calibrates.
        random_state: of that draw, even over the classes.

    Attributes:
        classes_: (classes,) names, sorted.
        guard_: the `gradood.Guard`.
        n_features_in_: columns of X, where X is a matrix.

    Cost:
        As `gradood.guard`. Inputs are made float32, and go through the model in batches of 256.
    """

    def __init__(
        self,
        model: nn.Module | Callable[[Tensor, Tensor], nn.Module] | None = None,
        *,
        detectors: Any = None,
        fpr: float = 0.05,
        mode: str = "marginal",
        reject_label: Any = -1,
        held_out: float = 0.5,
        random_state: int | None = 0,
    ) -> None:
        self.model = model
        self.detectors = detectors
        self.fpr = fpr
        self.mode = mode
        self.reject_label = reject_label
        self.held_out = held_out
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> "RejectingClassifier":
        """Train the network, if `model` is a function, and make the guard of held-out rows.

        Args:
            X: (n, …) numbers.
            y: (n,) classes.

        Raises:
            ConfigError: there is no model.
            DataError: the network has another number of classes than y.
            CalibrationError: too few rows are held out for the promise; says how many are needed.
        """
        X, y = validate_data(self, X, y, allow_nd=True)
        check_classification_targets(y)
        classes, codes = np.unique(y, return_inverse=True)
        if len(classes) < 2:
            raise DataError(f"y has one class, {classes[0]!r}; expected two or more classes.")
        network, known, labels = self._trained(X, codes)
        made = guard(
            network,
            list(_batches(known, labels)),
            detectors=self.detectors,
            fpr=self.fpr,
            mode=self.mode,  # type: ignore[arg-type]
            progress=False,
        )
        bound = made._monitor._session.state.bound
        assert bound is not None
        outputs = bound.binding.network.classes
        if outputs != len(classes):
            raise DataError(
                f"the network has {outputs} classes, and y has {len(classes)}; "
                "expected rows of each of its classes, as these go by the order of their names."
            )
        self.classes_ = classes  # Not before: a fit that fails leaves those of the guard there is.
        self.guard_: Guard = made
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The class of each row, or `reject_label` where it is out-of-distribution.

        Args:
            X: (n, …) numbers.

        Returns:
            (n,), of the type of the classes, or wide enough for them and the reject label.
        """
        check_is_fitted(self)
        X = validate_data(self, X, allow_nd=True, reset=False)
        codes = self.guard_(batch for (batch,) in _batches(X)).numpy()
        known = self.classes_[np.maximum(codes, 0)]
        rejected = codes < 0
        if not rejected.any():
            return known
        label = np.asarray(self.reject_label)
        if known.dtype.kind in "OUS":
            label = np.asarray(str(self.reject_label))
        kind = object if known.dtype == object else np.result_type(known.dtype, label.dtype)
        answer = known.astype(kind)
        answer[rejected] = label.item()
        return answer

    def _trained(self, X: np.ndarray, codes: np.ndarray) -> tuple[nn.Module, Any, Any]:
        """The network, and the rows that it was not trained on with their classes."""
        if isinstance(self.model, nn.Module):
            return self.model, X, codes
        if not callable(self.model):
            raise ConfigError(
                f"model={self.model!r}; expected a trained torch.nn.Module, or a function of "
                "inputs and classes that trains one."
            )
        try:
            parts = train_test_split(
                X, codes, test_size=self.held_out, stratify=codes, random_state=self.random_state
            )
        except ValueError as error:
            raise DataError(f"no rows can be held out for the guard: {error}") from error
        train, known, train_codes, labels = map(np.asarray, parts)
        network = self.model(_inputs(train), torch.from_numpy(train_codes))
        return network, known, labels


def _inputs(X: np.ndarray) -> Tensor:
    """Numbers as inputs of a network, float32."""
    return torch.from_numpy(np.ascontiguousarray(X, dtype=np.float32))


def _batches(X: np.ndarray, codes: np.ndarray | None = None) -> Any:
    """Rows as batches (x,) or (x, y)."""
    x = _inputs(X)
    y = () if codes is None else (torch.from_numpy(codes),)
    return zip(*(values.split(_BATCH) for values in (x, *y)), strict=True)
