"""The authors' released code on real images and trained networks, number by number."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

import gradood
from gradood.data import ParquetImages, Preprocess, loader
from gradood.models import REFERENCES, build, load_weights

pq = pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.real

FILES = {"id": "cifar10_test", "svhn": "svhn_test", "textures": "textures10_test"}
CLASSES = 10
BATCH = 8
"""So few that the readings stay in the caches of a processor: half the time of 64."""


@dataclass(frozen=True)
class Reference:
    """A trained network, the rows of its reference file and how to read their images."""

    shared: Path
    network: str
    file: str

    @property
    def model(self) -> nn.Module:
        weights = f"{REFERENCES[self.network].weights}.safetensors"
        return load_weights(build(self.network), self.shared / "weights" / weights)

    def images(self, data: str, names: list[str]) -> ParquetImages:
        """The images of that file with those names, in that order."""
        path = self.shared / "data" / f"{data}.parquet"
        place = {
            n: i for i, n in enumerate(pq.read_table(path, columns=["name"])["name"].to_pylist())
        }
        images = ParquetImages(path, Preprocess(**REFERENCES[self.network].preprocess))
        return images.subset([place[name] for name in names])

    def rows(self, each: int | None) -> tuple[dict[str, list[str]], dict[str, np.ndarray]]:
        """Names per set, the first `each` of them, and the columns of those rows in that order."""
        table = pq.read_table(self.shared / "reference" / f"{self.file}.parquet").to_pydict()
        kind = np.array(table.pop("set"))
        chosen = np.concatenate([np.flatnonzero(kind == name)[:each] for name in FILES])
        names = np.array(table.pop("name"))[chosen]
        by_set = {name: names[kind[chosen] == name].tolist() for name in FILES}
        return by_set, {key: np.array(column)[chosen] for key, column in table.items()}

    def scores(
        self, monitor: gradood.Monitor, names: dict[str, list[str]]
    ) -> dict[str, np.ndarray]:
        parts = [
            monitor.score(loader(self.images(FILES[name], some), batch_size=BATCH))
            for name, some in names.items()
        ]
        return {key: torch.cat([part[key] for part in parts]).numpy() for key in parts[0]}


def same_order(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(spearmanr(a, b).statistic >= 0.99995)


@pytest.fixture(scope="module")
def on_densenet(shared: Path, request: pytest.FixtureRequest) -> tuple[dict, dict]:
    """Scores and the authors': fitted on their rows, of 360 of theirs; with ``--full`` of all."""
    full = request.config.getoption("--full")
    densenet = Reference(shared, "densenet101", "densenet101_cifar10")
    fit = pq.read_table(shared / "reference" / "densenet101_cifar10_fit.parquet")
    named = densenet.images("cifar10_train_a", fit["name"].to_pylist())
    assert len(named) == 2084
    detectors = {
        "gradnorm": "gradnorm",
        "energy": "energy",
        "msp": "msp",
        "line": gradood.LINe(weight_percentile=90, activation_percentile=90, clip=1.0),
        "grood": gradood.GROOD(ood_prototype="class-mean"),
        "grood_norm": gradood.GROOD(ood_prototype="class-mean", score="norm"),
    }
    monitor = gradood.Monitor(densenet.model, detectors).fit(loader(named, batch_size=BATCH))
    names, columns = densenet.rows(None if full else 120)
    scores = densenet.scores(monitor, names)
    assert len(scores["line"]) == (1900 if full else 360)
    return scores, columns


@pytest.mark.slow
def test_gradnorm_energy_and_msp_on_densenet(on_densenet):
    scores, columns = on_densenet
    np.testing.assert_allclose(-CLASSES * scores["gradnorm"], columns["gradnorm"], rtol=1e-5)
    np.testing.assert_allclose(-scores["energy"], columns["energy"], rtol=1e-4)
    np.testing.assert_allclose(-scores["msp"], columns["msp"], rtol=1e-4)
    for name in ("gradnorm", "energy"):
        assert same_order(-scores[name], columns[name])


@pytest.mark.slow
def test_line_and_grood_on_densenet(on_densenet):
    scores, columns = on_densenet
    np.testing.assert_allclose(-scores["line"], columns["line"], rtol=1e-4)
    np.testing.assert_allclose(scores["grood"], columns["grood"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(scores["grood_norm"], columns["grood_norm"], rtol=0, atol=1e-5)
    assert same_order(-scores["line"], columns["line"])
    assert same_order(scores["grood"], columns["grood"])


@pytest.mark.slow
def test_gaia_on_resnet(shared, full):
    reference = Reference(shared, "resnet20", "resnet20_cifar10_gaia")
    model = reference.model
    norms = [name for name, layer in model.named_modules() if isinstance(layer, nn.BatchNorm2d)]
    inner = [name for name in norms if name.startswith(("layer2.", "layer3."))]
    assert (len(norms), len(inner)) == (19, 12)
    detectors = [gradood.GAIAZ(layers=norms), gradood.GAIAA(layers=inner, last="layer3")]
    names, columns = reference.rows(None if full else 120)
    scores = reference.scores(gradood.Monitor(model, detectors), names)
    assert len(scores["gaia-z"]) == (1200 if full else 360)
    np.testing.assert_allclose(scores["gaia-z"], columns["gaia_z"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(scores["gaia-a"], columns["gaia_a"], rtol=5e-3)
    assert same_order(scores["gaia-z"], columns["gaia_z"])
    assert same_order(scores["gaia-a"], columns["gaia_a"])
