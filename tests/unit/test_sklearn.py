"""The estimator of scikit-learn: its own checks, and rejection in a pipeline."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_classifiers_train, parametrize_with_checks
from torch import nn

from gradood.errors import CalibrationError, ConfigError, DataError
from gradood.sklearn import RejectingClassifier


class Centers:
    """The linear classifier by the nearest class mean: training without randomness."""

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> nn.Module:
        classes = int(y.max()) + 1
        means = torch.stack([x[y == k].mean(0) for k in range(classes)])
        scale = float(x.var()) + 1e-6
        head = nn.Linear(x.flatten(1).shape[1], classes)
        with torch.no_grad():
            head.weight.copy_(means / scale)
            head.bias.copy_(-(means**2).sum(1) / (2 * scale))
        return nn.Sequential(nn.Flatten(), head)

    def __repr__(self) -> str:
        """Without an address: names of tests are the same in every process."""
        return "centers"


centers = Centers()
NOT_APPLICABLE = {
    "check_classifiers_train": (
        "it wants 83 % of the training rows right, and at fpr=0.3, which the few rows of the other "
        "checks need, up to 30 % are rejected; it is run at fpr=0.05 below"
    ),
}
"""Checks of scikit-learn that contradict what the estimator is for, each with its reason."""


def expected(estimator: RejectingClassifier) -> dict[str, str]:
    return NOT_APPLICABLE


@parametrize_with_checks(
    [RejectingClassifier(centers, detectors="energy", fpr=0.3)], expected_failed_checks=expected
)
@pytest.mark.filterwarnings("ignore::gradood.errors.GradoodWarning")
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore::gradood.errors.GradoodWarning")
def test_the_check_of_accuracy_at_a_usual_rate():
    estimator = RejectingClassifier(centers, detectors="energy")
    check_classifiers_train("RejectingClassifier", estimator)


def blobs(n: int, seed: int):
    where = np.array([[0, 0, 6], [6, 0, 0], [0, 6, 0]])
    return make_blobs(n, centers=where, random_state=seed)


def test_in_a_pipeline():
    X, y = blobs(800, 0)
    names = np.array(["cat", "dog", "eel"])[y]
    model = make_pipeline(StandardScaler(), RejectingClassifier(centers, reject_label="unknown"))
    model.fit(X, names)
    fresh, codes = blobs(1000, 1)
    said = model.predict(fresh)
    assert 0.005 < (said == "unknown").mean() < 0.12
    kept = said != "unknown"
    assert (said[kept] == np.array(["cat", "dog", "eel"])[codes][kept]).mean() > 0.99
    assert list(model.classes_) == ["cat", "dog", "eel"]


def test_a_trained_network_is_kept_as_it_is():
    X, y = blobs(400, 0)
    trained = centers(torch.from_numpy(X).float(), torch.from_numpy(y))
    known, labels = blobs(300, 2)
    estimator = RejectingClassifier(trained, detectors="energy").fit(known, labels)
    assert estimator.guard_.model is trained
    assert set(estimator.predict(known)) <= {-1, 0, 1, 2}
    assert clone(estimator).get_params()["fpr"] == 0.05


def test_wrong_use():
    X, y = blobs(400, 0)
    with pytest.raises(ConfigError, match="expected a trained torch"):
        RejectingClassifier().fit(X, y)
    with pytest.raises(DataError, match="one class"):
        RejectingClassifier(centers).fit(X, np.zeros(400))
    with pytest.raises(CalibrationError, match="at least"):
        RejectingClassifier(centers).fit(X[:30], y[:30])
    with pytest.raises(DataError, match="no rows can be held out"):
        RejectingClassifier(centers).fit(X[:3], [0, 1, 2])


def test_a_network_with_classes_that_y_has_not_is_refused():
    X, y = blobs(400, 0)
    trained = centers(torch.from_numpy(X).float(), torch.from_numpy(y))
    with pytest.raises(DataError, match="the network has 3 classes, and y has 2"):
        RejectingClassifier(trained, detectors="energy").fit(X[y != 1], y[y != 1])


def test_a_fit_that_fails_leaves_the_one_before():
    X, y = blobs(400, 0)
    estimator = RejectingClassifier(centers, detectors="energy").fit(X, y)
    answers = estimator.predict(X)
    with pytest.raises(CalibrationError):
        estimator.fit(X[:30], y[:30] + 7)
    assert np.array_equal(estimator.predict(X), answers)


@pytest.mark.slow
def test_the_library_alone_does_not_import_scikit_learn():
    code = "import gradood, sys; gradood.guard, gradood.Guard; assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
