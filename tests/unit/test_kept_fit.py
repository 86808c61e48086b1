"""The partials of a fit in a file: bound to their detectors and to what these read."""

import json
from pathlib import Path

import pytest
import torch

import gradood
from gradood.artifact.container import understand, unseal
from gradood.artifact.file import read_partials, write_partials
from gradood.errors import ArtifactError, ConfigError, NotFittedError
from gradood.monitor import load_partials, save_partials
from gradood.testing import networks

NETWORK = networks()["resnet"]
X, Y = NETWORK.inputs(64, 2), NETWORK.labels(64)


def monitor(*methods, **options) -> gradood.Monitor:
    return gradood.Monitor(NETWORK.model(), list(methods), progress=False, **options)


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("kept") / "p.safetensors"
    one = monitor("knn", "gram")
    assert save_partials(path, one, one.accumulate([(X, Y)])) == path.stat().st_size
    return path


def test_it_is_read_back_by_another_monitor_to_the_last_bit(file):
    one, other = monitor("knn", "gram"), monitor("knn", "gram")
    other.bind(X)
    one.fit([(X, Y)])
    other.finish(load_partials(file, other))
    for name, state in one.states.items():
        assert all(torch.equal(other.states[name][key], tensor) for key, tensor in state.items())
    with pytest.raises(gradood.errors.CalibrationError, match="also fitted on"):
        other.calibrate(X, fpr=0.5)


def test_it_is_no_pickle_and_says_no_module(file):
    content = file.read_bytes()
    header, _ = unseal(content[: 8 + int.from_bytes(content[:8], "little")])
    text = json.dumps(header)
    assert "pickle" not in text and "gradood.detectors" not in text


@pytest.mark.parametrize(
    ("other", "error", "match"),
    [
        (("knn",), ConfigError, "'gram' is in one alone"),
        ((gradood.KNN(k=3), "gram"), ConfigError, "another 'knn': options differ"),
        ((gradood.Gram(layers=("layer1",)), "knn"), ConfigError, "another 'gram'"),
    ],
)
def test_it_is_of_its_detectors(file, other, error, match):
    one = monitor(*other)
    one.bind(X)
    with pytest.raises(error, match=match):
        load_partials(file, one)


def test_a_monitor_that_saw_nothing_is_told_to(file):
    with pytest.raises(NotFittedError, match="bind"):
        load_partials(file, monitor("knn", "gram"))


def test_what_fits_no_detector_is_refused_though_sealed(file, tmp_path):
    manifest, arrays = read_partials(file)
    name = next(n for n in arrays if n.endswith("knn/key"))
    short = {**arrays, name: arrays[next(n for n in arrays if n.endswith("gram/sizes"))]}
    path = tmp_path / "odd.safetensors"
    write_partials(path, manifest, short)
    one = monitor("knn", "gram")
    one.bind(X)
    with pytest.raises(ArtifactError, match="refused"):
        load_partials(path, one)


def test_a_header_of_another_kind_is_told_apart(file):
    with pytest.raises(ArtifactError, match="holds the partials of a fit, and no detector"):
        gradood.load(file, NETWORK.model())
    content = file.read_bytes()
    raw = content[: 8 + int.from_bytes(content[:8], "little")]
    assert understand(raw, unseal(raw)[0]).payload_size == len(content) - len(raw)
