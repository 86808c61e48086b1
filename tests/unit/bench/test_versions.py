"""What results depend on besides the data."""

import copy
import importlib
import sys
from functools import partial

import pytest
import torch
from torch import fx, nn

from gradood import KNN, Energy
from gradood.bench._cache_key import detector_version, model_version, reading_version
from gradood.models import digits_net


class Shifted(nn.Module):
    """Subtracts a mean that is no buffer."""

    def __init__(self, mean):
        super().__init__()
        self.mean = mean
        self.inner = nn.Linear(3, 2)

    def forward(self, x):
        return self.inner(x - self.mean)


@pytest.fixture
def model():
    torch.manual_seed(0)
    return digits_net(4).eval()


def test_a_model_is_told_by_its_content(model):
    same = copy.deepcopy(model)
    assert model_version(model) == model_version(same)
    assert model_version(model) == model_version(nn.DataParallel(same))
    with torch.no_grad():
        next(same.parameters()).view(-1)[0].add_(1e-7)
    assert model_version(model) != model_version(same)
    same = copy.deepcopy(model)
    next(m for m in same.modules() if isinstance(m, nn.BatchNorm2d)).eps = 1e-4
    assert model_version(model) != model_version(same)


@pytest.mark.parametrize(
    ("mean", "other"),
    [
        (0.5, 0.25),
        ((0.5, [1]), (0.5, [2])),
        ({"a": 1}, {"a": 2}),
        (torch.zeros(3), torch.ones(3)),
        (torch.zeros(3).numpy(), torch.ones(3).numpy()),
    ],
)
def test_plain_attributes_count_too(mean, other):
    torch.manual_seed(0)
    one = Shifted(mean)
    two = copy.deepcopy(one)
    assert model_version(one) == model_version(two)
    two.mean = other
    assert model_version(one) != model_version(two)


def test_the_source_of_a_models_own_class_counts(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    source = "import torch\nclass Net(torch.nn.Linear):\n    pass\n"
    file = tmp_path / "own_net_of_versions.py"
    file.write_text(source)
    torch.manual_seed(0)
    model = importlib.import_module("own_net_of_versions").Net(2, 2)
    before = model_version(model)
    assert model_version(model) == before
    file.write_text(source + "# changed\n")
    assert model_version(model) != before


def test_a_detector_is_told_by_its_module_and_what_that_imports(tmp_path, monkeypatch):
    assert detector_version(KNN) == detector_version(KNN) != detector_version(Energy)
    monkeypatch.syspath_prepend(str(tmp_path))
    folder = tmp_path / "own_package_of_versions"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "inner.py").write_text("X = 1\n")
    (folder / "outer.py").write_text(
        "from own_package_of_versions import inner\nfrom gradood import Energy\n"
        "class Mine:\n    pass\n"
    )
    kind = importlib.import_module("own_package_of_versions.outer").Mine
    before = detector_version(kind)
    detector_version.cache_clear()
    (folder / "inner.py").write_text("X = 2\n")
    assert detector_version(kind) != before
    sys.modules.pop("own_package_of_versions.outer")


def test_readings_depend_on_the_code_that_decodes_and_taps():
    found = reading_version()
    assert found["torch"] == torch.__version__ and len(found["sources"]) == 64


def test_a_function_that_a_model_holds_counts():
    torch.manual_seed(0)
    one = Shifted(torch.relu)
    found = {model_version(one)}
    for other in (nn.functional.gelu, partial(nn.functional.gelu, approximate="tanh"), nn.GELU):
        one.mean = other
        found.add(model_version(one))
    for kind in (torch.float32, torch.float64):
        one.mean = kind
        found.add(model_version(one))
    assert len(found) == 6


def test_the_source_of_an_inherited_forward_counts(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    base = "import torch\nclass Base(torch.nn.Linear):\n    pass\n"
    (tmp_path / "own_base_of_versions.py").write_text(base)
    (tmp_path / "own_heir_of_versions.py").write_text(
        "from own_base_of_versions import Base\nclass Heir(Base):\n    pass\n"
    )
    model = importlib.import_module("own_heir_of_versions").Heir(2, 2)
    before = model_version(model)
    (tmp_path / "own_base_of_versions.py").write_text(base + "# changed\n")
    assert model_version(model) != before


def test_the_code_of_a_traced_graph_counts():
    class Net(nn.Module):
        def forward(self, x):
            return x.relu()

    class Other(nn.Module):
        def forward(self, x):
            return x.tanh()

    one, other = (fx.symbolic_trace(kind()) for kind in (Net, Other))
    assert model_version(one) == model_version(fx.symbolic_trace(Net()))
    assert model_version(one) != model_version(other)


@pytest.mark.parametrize(
    "how", ["from . import inner", "from .inner import X", "from .sub import Y"]
)
def test_what_a_detector_imports_relatively_counts(tmp_path, monkeypatch, how):
    monkeypatch.syspath_prepend(str(tmp_path))
    package = f"own_relatives_of_versions_{abs(hash(how))}"
    folder = tmp_path / package
    (folder / "sub").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "sub" / "__init__.py").write_text("from ..inner import X as Y\n")
    (folder / "inner.py").write_text("X = 1\n")
    (folder / "outer.py").write_text(f"{how}\nclass Mine:\n    pass\n")
    kind = importlib.import_module(f"{package}.outer").Mine
    before = detector_version(kind)
    detector_version.cache_clear()
    (folder / "inner.py").write_text("X = 2\n")
    assert detector_version(kind) != before
