"""Options are checked where they are given, and the message says what was expected."""

import inspect
import math

import numpy as np
import pytest
import torch

import gradood
from gradood.errors import ConfigError
from gradood.registry import create, detector_class

WRONG = [
    (gradood.Energy, {"temperature": 0}),
    (gradood.Energy, {"temperature": -1.0}),
    (gradood.Energy, {"temperature": math.inf}),
    (gradood.Energy, {"temperature": math.nan}),
    (gradood.GradNorm, {"temperature": 0.0}),
    (gradood.GradNorm, {"order": 0.5}),
    (gradood.GradNorm, {"order": math.nan}),
    (gradood.GradNorm, {"parameters": "fc.weight"}),
    (gradood.GradNorm, {"parameters": []}),
    (gradood.GAIAZ, {"layers": "norm1"}),
    (gradood.GAIAZ, {"layers": []}),
    (gradood.GAIAZ, {"path": "sideways"}),
    (gradood.GAIAA, {"layers": "norm1"}),
    (gradood.GAIAA, {"layers": ()}),
    (gradood.GAIAA, {"last": 3}),
    (gradood.LINe, {"weight_percentile": 100}),
    (gradood.LINe, {"weight_percentile": -1}),
    (gradood.LINe, {"activation_percentile": 100.0}),
    (gradood.LINe, {"clip": 0}),
    (gradood.LINe, {"clip": "automatic"}),
    (gradood.LINe, {"contribution": "shapley"}),
    (gradood.GROOD, {"ood_prototype": "mean"}),
    (gradood.GROOD, {"ood_prototype": torch.tensor([1.0, math.nan])}),
    (gradood.GROOD, {"ood_prototype": torch.zeros(2, 2, 2)}),
    (gradood.GROOD, {"mix": 1.5}),
    (gradood.GROOD, {"mix": -0.1}),
    (gradood.GROOD, {"n_synthetic": 0}),
    (gradood.GROOD, {"n_synthetic": 2.5}),
    (gradood.GROOD, {"score": "neighbor"}),
    (gradood.GROOD, {"bank": "right"}),
    (gradood.GROOD, {"k": 0}),
    (gradood.KNN, {"k": 0}),
    (gradood.KNN, {"k": 1.0}),
    (gradood.KNN, {"bits": 16}),
    (gradood.KNN, {"samples": 0}),
    (gradood.KNN, {"k": True}),
    (gradood.ViM, {"dimension": True}),
    (gradood.NAC, {"r": True}),
    (gradood.NAC, {"layers": 3}),
    (gradood.NAC, {"layers": [3]}),
    (gradood.GAIAZ, {"layers": [3]}),
    (gradood.GROOD, {"early_layer": 3}),
]


@pytest.mark.parametrize(
    ("kind", "options"),
    WRONG,
    ids=[f"{k.name}-{next(iter(o))}-{i}" for i, (k, o) in enumerate(WRONG)],
)
def test_a_wrong_value_names_the_option_and_what_was_expected(kind, options):
    (name,) = options
    with pytest.raises(ConfigError, match=rf"^{name}=.*; expected "):
        kind(**options)


@pytest.mark.parametrize("method", gradood.methods(), ids=lambda method: method.name)
def test_an_unknown_option_is_refused(method):
    with pytest.raises(TypeError, match=r"temprature|takes no arguments"):
        getattr(gradood, method.detector)(temprature=2.0)


def test_truth_values_stay_where_they_are_options():
    assert gradood.KNN(normalize=False).normalize is False
    assert gradood.NECO(max_logit=True).max_logit is True


def test_the_smallest_share_of_a_bank_is_one():
    net = torch.nn.Linear(4, 2)
    monitor = gradood.Monitor(net, gradood.NNGuide(alpha=1e-300, k=1))
    monitor.fit(torch.randn(30, 4, generator=torch.Generator().manual_seed(0)))
    assert monitor.score(torch.zeros(2, 4)).isfinite().all()


def test_the_defaults():
    assert gradood.Energy().options() == {"temperature": 1.0}
    assert gradood.GradNorm().options() == {
        "temperature": 1.0,
        "order": 1,
        "bias": False,
        "parameters": None,
    }
    assert gradood.LINe().options() == {
        "weight_percentile": 90,
        "activation_percentile": 10,
        "clip": "auto",
        "contribution": "signed",
    }
    assert gradood.GROOD().options() == {
        "ood_prototype": "synthetic",
        "mix": 0.5,
        "n_synthetic": 100,
        "early_layer": None,
        "score": "neighbour",
        "bank": "correct",
        "k": 1,
        "bits": "auto",
        "samples": None,
    }
    assert gradood.KNN().options() == {
        "k": "auto",
        "normalize": True,
        "bits": "auto",
        "samples": None,
    }
    assert gradood.GAIAZ().options() == {"layers": None, "path": "auto"}
    assert gradood.GAIAA().options() == {"layers": None, "last": None}


def numeric_options():
    """(method, option, default) of every option whose default is a number."""
    for method in gradood.methods():
        parameters = inspect.signature(detector_class(method.name)).parameters
        for name, parameter in parameters.items():
            if type(parameter.default) in (int, float):
                yield pytest.param(method.name, name, parameter.default, id=f"{method.name}.{name}")


@pytest.mark.parametrize(("method", "option", "default"), list(numeric_options()))
def test_numbers_of_numpy_are_numbers(method, option, default):
    given = np.int64(default) if type(default) is int else np.float64(default)
    detector = create(method, **{option: given})
    assert type(getattr(detector, option)) is type(default)


def test_a_sequence_without_numbers_of_numpy_is_kept_as_it_is():
    names = ["conv1", "conv2"]
    assert gradood.GAIAZ(layers=names).layers is names


def test_numbers_of_numpy_inside_a_sequence_are_numbers():
    detector = gradood.NAC(layers=["a"], r=[np.float32(0.5), np.int64(2)])
    assert [type(value) for value in detector.r] == [float, int]
    with pytest.raises(ConfigError, match=r"k=2\.5; expected a whole number"):
        gradood.KNN(k=np.float32(2.5))
