"""A detector of another package on the command line, wherever one of gradood's own goes."""

import json
import re
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from gradood import registry
from gradood.cli import main
from gradood.detectors.base import Detector, Plan
from gradood.evidence import LOGITS
from gradood.models import build

NET = ["--model", "digits_net", "--num-classes", "3", "--weights", "net.safetensors"]


class Margin(Detector):
    """Negative difference of the two largest logits.

    Args:
        power: of the difference.
    """

    name, title, paper = "margin", "Difference of the two largest logits.", "nobody2026"
    needs, cost, fails_when = ("logits",), "one forward", "Always."

    def __init__(self, *, power: float = 1.0) -> None:
        self.power = power

    def plan(self, network, probe):
        return Plan((LOGITS,))

    def measure(self, evidence, state):
        top = evidence[LOGITS].double().topk(2, dim=1).values
        return -((top[:, 0] - top[:, 1]) ** self.power)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Images, weights, and the detector as if a package that declares it were installed."""
    monkeypatch.chdir(tmp_path)
    point = SimpleNamespace(load=lambda: Margin)
    monkeypatch.setattr(registry, "entry_points", lambda group: [point])
    registry._classes.cache_clear()
    generator = torch.Generator().manual_seed(0)
    for name in ("id", "ood"):
        (tmp_path / name).mkdir()
        for i in range(30):
            pixels = (torch.rand(8, 8, generator=generator) * 255).byte().numpy()
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    torch.manual_seed(0)
    save_file(build("digits_net", num_classes=3).state_dict(), tmp_path / "net.safetensors")
    yield tmp_path
    monkeypatch.undo()
    registry._classes.cache_clear()


def test_it_is_listed_and_has_a_page(place, capsys):
    assert main(["methods"]) == 0
    assert "margin " in capsys.readouterr().out
    assert main(["methods", "margin"]) == 0
    assert "`power`" in capsys.readouterr().out
    assert main(["methods", "margn"]) == 2
    assert "did you mean 'margin'" in capsys.readouterr().err


def test_it_is_benchmarked_and_inspected(place, capsys):
    methods = ["--methods", "msp,margin,square=margin", "--option", "square.power=2"]
    data = ["--id", "id", "--ood", "far=ood", "--no-costs", "--no-cache"]
    assert main(["bench", *NET, *data, *methods, "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert run["methods"]["square"]["options"] == {"power": 2.0}
    assert {row["method"] for row in run["rows"]} == {"msp", "margin", "square"}
    assert main(["inspect", *NET]) == 0
    assert re.search(r"^margin +works", capsys.readouterr().out, re.MULTILINE)


def test_it_is_fitted_calibrated_and_scores(place, capsys):
    words = ["--methods", "margin", "--option", "margin.power=2", "--out", "d.safetensors"]
    assert main(["fit", *NET, "--data", "id", *words, "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["detectors"]["margin"]["options"] == {"power": 2.0}
    given = [*NET, "--detector", "d.safetensors"]
    words = ["--data", "id", "--fpr", "0.1", "--out", "d.safetensors"]
    assert main(["calibrate", *given, *words]) == 0
    assert main(["score", "ood", *given, "--out", "scores", "--workers", "0"]) == 0
    assert len(pq.read_table(place / "scores")) == 30
    assert main(["verify", "d.safetensors"]) == 0
    assert "detectors       margin" in capsys.readouterr().out
