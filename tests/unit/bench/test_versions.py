"""What results depend on besides the data."""

import copy
import importlib
import sys

import pytest
import torch
from torch import nn

from gradood import KNN, Energy
from gradood.bench.versions import detector_version, model_version, reading_version
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
