"""Files that were changed and sealed again: two kinds of error, whatever is in them."""

import importlib.util
from pathlib import Path

import pytest

import gradood
from gradood.artifact import Spec
from gradood.cli import main
from gradood.detectors.base import Learner
from gradood.errors import ArtifactError, ModelMismatchError
from gradood.registry import detector_class

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "artifact_load.py"
SPEC = importlib.util.spec_from_file_location("artifact_load", SCRIPT)
assert SPEC is not None and SPEC.loader is not None
benchmark = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(benchmark)


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """A file of three detectors, calibrated and combined, taken apart."""
    folder = tmp_path_factory.mktemp("load")
    return benchmark.originals(folder, ["energy", "knn", "mahalanobis"])[0]


@pytest.fixture(scope="module")
def model():
    return benchmark.net()


@pytest.fixture
def load(parts, model, tmp_path):
    """Load the parts as a function changed them."""

    def load(change):
        manifest, arrays = benchmark.deepcopy(parts[0]), dict(parts[1])
        change(manifest, arrays)
        (tmp_path / "x").write_bytes(benchmark.sealed((manifest, arrays)))
        return gradood.load(tmp_path / "x", model)

    return load


def detector(manifest, name):
    return next(record for record in manifest["detectors"] if record["name"] == name)


def test_unchanged_it_loads(load, parts):
    assert list(load(lambda manifest, arrays: None).detectors) == ["energy", "knn", "mahalanobis"]


@pytest.mark.filterwarnings("ignore::gradood.errors.GradoodWarning")
def test_mutants_are_refused_with_the_errors_of_the_contract(tmp_path):
    found = benchmark.fuzz(80, 5, tmp_path, ["knn", "gaia-z", "nac", "grood"], large=False)
    assert not found["other errors"] and not found["beyond the limits"]
    assert found["ArtifactError"] > 20


def test_every_detector_that_learns_says_what():
    for method in gradood.methods():
        kind = detector_class(method.name)
        if issubclass(kind, Learner):
            assert kind.state_shapes, method.name


KNN_UNIT = "detectors/knn/state/unit"


def reshaped(name, shape, dtype=None):
    def change(manifest, arrays):
        spec, data = arrays[name]
        arrays[name] = (Spec(dtype or spec.dtype, shape), data if 0 not in shape else b"")

    return change


def without(name, key):
    def change(manifest, arrays):
        del arrays[detector(manifest, name)["state"].pop(key)]

    return change


def option(name, key, value):
    return lambda manifest, arrays: detector(manifest, name)["options"].update({key: value})


def calibrated(*path, value):
    def change(manifest, arrays):
        owner = manifest["calibration"]
        for key in path[:-1]:
            owner = owner[key]
        owner[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (reshaped(KNN_UNIT, (0, 2**63)), "too large for any memory"),
        (reshaped(KNN_UNIT, (0, 2**40, 2**40)), "too large for any memory"),
        (reshaped(KNN_UNIT, (0, 2**40)), r"expected float \(samples, features\)"),
        (reshaped(KNN_UNIT, (720,)), r"expected float \(samples, features\)"),
        (reshaped(KNN_UNIT, (90, 8), "I32"), r"'unit' is torch.int32 \(90, 8\); expected float"),
        (reshaped("detectors/mahalanobis/state/centers", (8, 3)), "'mahalanobis' learned is not"),
        (without("knn", "unit"), "parts do not fit together .*'unit'"),
        (without("mahalanobis", "centers"), "'centers' is missing"),
        (option("knn", "k", 10**18), "parts do not fit together|cannot be run as before"),
        (option("knn", "k", 10**30), "beyond 64 bits"),
        (lambda m, a: detector(m, "knn").update(reads=[]), "parts do not fit|cannot be run"),
        (
            lambda m, a: m.update(combine="stouffer"),
            "combine='stouffer'.* calibrated with 'fisher'",
        ),
        (lambda m, a: m.update(combine=None), "combine=None, but was calibrated with 'fisher'"),
        (lambda m, a: m["fit"].update(class_counts=[2**64 - 1] * 3), "parts do not fit together"),
        (calibrated("detectors", "knn", "promise", "fpr", value=1e-320), "parts do not fit"),
        (lambda m, a: m["numerics"].update(autocast="x"), "numerics.autocast is 'x'"),
        (lambda m, a: m["detectors"].extend([m["detectors"][0]] * 2000), "expected at most 1,000"),
    ],
)
def test_monstrous_parts(load, change, words):
    with pytest.raises((ArtifactError, ModelMismatchError), match=words):
        load(change)


def test_the_shell_says_3(parts, tmp_path, capsys):
    manifest, arrays = benchmark.deepcopy(parts[0]), dict(parts[1])
    reshaped(KNN_UNIT, (0, 2**63))(manifest, arrays)
    (tmp_path / "x").write_bytes(benchmark.sealed((manifest, arrays)))
    assert main(["verify", str(tmp_path / "x")]) == 3
    assert "too large for any memory" in capsys.readouterr().err
