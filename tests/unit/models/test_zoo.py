"""Models by name."""

import sys

import pytest
from torch import nn

import gradood.models
from gradood.data import Preprocess
from gradood.errors import ConfigError
from gradood.models import REFERENCES, build


def linear(size=3):
    return nn.Linear(size, 2)


def number():
    return 1


class Holder:
    nested = staticmethod(linear)


@pytest.fixture
def importable(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize("name", sorted(REFERENCES))
def test_reference_networks_by_bare_name(name):
    reference = REFERENCES[name]
    assert reference.name == name
    assert callable(getattr(gradood.models, name))
    preprocess = Preprocess(**reference.preprocess)
    assert preprocess.crop == preprocess.resize == reference.size
    assert type(build(name)) is type(build(f"gradood.models:{name}"))
    assert (reference.weights is None) == (reference.accuracy is None)


def test_records_cannot_be_changed():
    with pytest.raises(TypeError):
        REFERENCES["resnet20"].preprocess["mode"] = "L"  # pyright: ignore
    with pytest.raises(TypeError):
        REFERENCES["mine"] = REFERENCES["resnet20"]  # pyright: ignore


def test_factory_with_options():
    assert build("resnet20", num_classes=5).linear.out_features == 5
    assert build(f"{__name__}:linear", size=7).in_features == 7
    assert build(f"{__name__}:Holder.nested").in_features == 3
    assert isinstance(build("torch.nn:Identity"), nn.Identity)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("resnet2", "no reference network 'resnet2': did you mean 'resnet20'"),
        ("", "no reference network '': choose from convnet_mnist, densenet101"),
        ("gradood.model:resnet20", "no module 'gradood.model' .* did you mean 'gradood.models'"),
        ("gradod.models:resnet20", "no module 'gradod' .* did you mean 'gradood'"),
        ("xyzzyplugh:net", "no module 'xyzzyplugh' .*PYTHONPATH"),
        ("gradood.errors.deeper:net", r"no module 'gradood\.errors\.deeper'"),
        ("gradood.models:resnet2", "no factory 'resnet2' .* did you mean 'resnet20'"),
        ("gradood.models:", "no factory ''"),
        ("gradood.models:resnet20.nothing", r"no factory 'resnet20\.nothing'"),
        ("gradood.models:REFERENCES", "is mappingproxy; expected something to call"),
        (":resnet20", "names no module"),
        ("weights/net.pt:resnet20", "names no module"),
        (f"{__name__}:number", "returned int; expected a torch.nn.Module"),
    ],
)
def test_misspelt_names(spec, message):
    with pytest.raises(ConfigError, match=message):
        build(spec)


def test_wrong_option_is_named():
    with pytest.raises(ConfigError, match=r"called with \{'classes': 5\} failed: TypeError"):
        build("resnet20", classes=5)


def test_module_of_ones_own_that_fails(importable):
    (importable / "gradood_test_broken.py").write_text("import gradood_test_absent\n")
    with pytest.raises(ConfigError, match=r"importing 'gradood_test_broken' .*test_absent"):
        build("gradood_test_broken:net")
    (importable / "gradood_test_raises.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError, match="failed: ZeroDivisionError"):
        build("gradood_test_raises:net")
