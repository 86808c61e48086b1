import warnings
from collections.abc import Iterator

import pytest
import torch
from rosters import ZERO_SHOT
from torch import nn

from gradood.bench import Sets, compare, select
from gradood.bench._demo import one_thread
from gradood.errors import ConfigError, DataError, GradoodWarning, TapError
from gradood.models import digits_net
from gradood.monitor import Monitor
from gradood.monitor.evaluation import evaluate

CLASSES = 4


@pytest.fixture(autouse=True)
def single() -> Iterator[None]:
    """A second thread costs more than it brings, on networks this small."""
    with one_thread():
        yield


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return digits_net(CLASSES).eval()


@pytest.fixture
def sets(model):
    """Labels of the test data are what the model says, so that its accuracy is 100 %."""
    x, y = torch.rand(120, 1, 8, 8), torch.rand(60, 1, 8, 8)
    labels = torch.arange(120) % CLASSES
    with torch.inference_mode():
        tested = model(y).argmax(1)
    ood = {"dark": torch.rand(30, 1, 8, 8) / 4, "noise": torch.randn(40, 1, 8, 8)}
    return Sets(
        fit=list(zip(x.split(50), labels.split(50), strict=True)),
        fit_labels=labels,
        id=y.split(50),
        id_labels=tested,
        ood=ood,
    )


def without_warnings(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GradoodWarning)
        return compare(*args, **kwargs)


def example(sets):
    return sets.fit[0][0][:8]


def test_the_numbers_are_those_of_evaluate(model, sets):
    chosen = select("energy,knn,gaia-z", ["knn.k=3"]).detectors
    found = without_warnings(model, chosen, sets, example(sets))
    monitor = Monitor(model, dict(chosen)).fit(sets.fit)
    assert found.table == evaluate(monitor, id=sets.id, ood=sets.ood)
    assert found.table.methods == ("energy", "knn", "gaia-z")
    assert found.id_accuracy == 1.0
    assert list(found.seconds) == ["fit", "id", "ood dark", "ood noise", "metrics"]
    assert found.left_out == {}


@pytest.mark.slow
def test_each_set_is_passed_over_once(model, sets):
    passes = []

    class Counted:
        def __init__(self, name, batches):
            self.name, self.batches = name, batches

        def __iter__(self):
            passes.append(self.name)
            return iter(self.batches)

    counted = Sets(
        fit=Counted("fit", sets.fit),
        fit_labels=sets.fit_labels,
        id=Counted("id", sets.id),
        id_labels=sets.id_labels,
        ood={name: Counted(name, [x]) for name, x in sets.ood.items()},
    )
    chosen = select("all", ["knn.k=3", "grood.n_synthetic=5"])
    without_warnings(model, chosen.detectors, counted, example(sets))
    assert passes == ["fit", "id", "dark", "noise"]


def test_a_method_that_cannot_read_the_model_is_left_out_with_the_reason():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES))
    x = torch.rand(60, 1, 8, 8)
    given = Sets(id=x, ood={"noise": torch.randn(20, 1, 8, 8)})
    found = without_warnings(flat, select("all").detectors, given, x[:4])
    assert {"energy", "gradnorm", "max-logit", "msp"} <= set(found.table.methods)
    assert "normalization layers" in found.left_out["gaia-z"]
    assert "learns from in-distribution training data" in found.left_out["knn"]
    assert found.id_accuracy is None


def test_a_method_asked_for_by_name_is_not_left_out():
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, CLASSES))
    x = torch.rand(60, 1, 8, 8)
    given = Sets(id=x, ood={"noise": x})
    for name, error in (("gaia-z", TapError), ("knn", DataError)):
        chosen = select(name)
        with pytest.raises(error, match=f"{name} cannot be run"):
            compare(flat, chosen.detectors, given, x[:4], required=chosen.required)


@pytest.mark.slow
def test_methods_that_need_labels_are_left_out_where_there_are_none(model, sets):
    x = torch.cat([x for x, _ in sets.fit])
    given = Sets(fit=[x], id=sets.id, ood=sets.ood)
    found = without_warnings(model, select("all", ["knn.k=3"]).detectors, given, x[:8])
    assert "knn" in found.table.methods
    needs = {n for n, d in select("all").detectors.items() if d.learns and d.labels}
    assert {"grood", "line", "mahalanobis"} <= needs
    assert needs | set(ZERO_SHOT) == set(found.left_out)
    assert "it learns from class labels" in found.left_out["line"]


def test_no_method_left_is_an_error_that_says_why(model):
    x = torch.rand(8, 1, 8, 8)
    with pytest.raises(ConfigError, match=r"no detector can be run.*knn: it learns"):
        compare(model, select("knn").detectors, Sets(id=x, ood={"a": x}), x)


@pytest.mark.parametrize("which", ["fit", "ID"])
def test_labels_outside_the_models_classes_are_told_before_the_first_pass(model, sets, which):
    bad = torch.tensor([0, CLASSES])
    given = Sets(
        id=sets.id,
        ood=sets.ood,
        fit=None if which == "ID" else sets.fit,
        fit_labels=bad if which == "fit" else None,
        id_labels=bad if which == "ID" else None,
    )
    with pytest.raises(DataError, match=f"the {which} data has labels from 0 to 4; .* 0 to 3"):
        compare(model, select("energy").detectors, given, torch.rand(4, 1, 8, 8))


def test_an_accuracy_near_chance_warns(model, sets):
    wrong = Sets(id=sets.id, id_labels=(sets.id_labels + 1) % CLASSES, ood=sets.ood)
    with pytest.warns(GradoodWarning, match=r"classifies 0.0% of the ID data .* chance is 25.0%"):
        found = compare(model, select("energy").detectors, wrong, example(sets))
    assert found.id_accuracy == 0.0


def test_no_outliers_is_an_error(model, sets):
    with pytest.raises(DataError, match="no out-of-distribution set"):
        compare(model, select("energy").detectors, Sets(id=sets.id, ood={}), example(sets))


def test_an_empty_set_is_named(model, sets):
    given = Sets(id=sets.id, ood={"none": torch.empty(0, 1, 8, 8)})
    with pytest.raises(DataError, match="energy on none: ood_scores is empty"):
        compare(model, select("energy").detectors, given, example(sets))


def test_the_predicted_class_stays_out_of_the_result(model, sets):
    found = without_warnings(model, select("energy").detectors, sets, example(sets)).to_dict()
    assert "predicted" not in str(found)
    assert list(found["methods"]) == ["energy"]
