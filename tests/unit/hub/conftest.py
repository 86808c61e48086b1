"""A small model, its detector, and the package of both."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

import gradood
import gradood.hub
from gradood.data import Preprocess
from gradood.models import REFERENCES, build


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """Weights, a calibrated detector, and their package."""
    folder = tmp_path_factory.mktemp("hub")
    torch.manual_seed(0)
    model = build("digits_net").eval()
    save_file(model.state_dict(), folder / "weights.safetensors")
    x = torch.rand(100, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    monitor = gradood.Monitor(
        model,
        ["energy", "msp"],
        combine="fisher",
        preprocess=Preprocess(**REFERENCES["digits_net"].preprocess).to_dict(),
        progress=False,
    )
    monitor.calibrate(x, fpr=0.1)
    monitor.save(folder / "detector.safetensors")
    package = gradood.hub.pack(
        folder / "package",
        folder / "detector.safetensors",
        "digits_net",
        folder / "weights.safetensors",
        details=gradood.hub.Details(classes=[f"digit {n}" for n in range(10)], license="mit"),
    )
    return SimpleNamespace(folder=folder, model=model, monitor=monitor, x=x, package=package.folder)


@pytest.fixture
def copied(made, tmp_path):
    """A copy of the package, to be changed."""
    import shutil

    return shutil.copytree(made.package, tmp_path / "package")
