"""Packages as models of MLflow."""

import json
import warnings

import numpy as np
import pytest
import torch

import gradood.hub
from gradood.errors import ConfigError, DataError, ModelMismatchError
from gradood.hub.mlflow import PackagedDetector, _load_pyfunc

COLUMNS = ["label", "is_ood", "p_value", "score", "status"]


def test_arrays_become_a_data_frame_of_decisions(made):
    found, expected = _load_pyfunc(str(made.package)), made.monitor.predict(made.x)
    frame = found.predict(made.x.numpy())
    assert list(frame.columns) == COLUMNS
    assert frame["score"].tolist() == expected.score.tolist()
    assert frame["is_ood"].tolist() == expected.is_ood.tolist()
    assert frame["label"].tolist() == expected.label.tolist()
    assert found.predict(made.x.double().numpy())["score"].equals(frame["score"])
    assert found.get_raw_model().combine == "fisher"


def test_an_input_without_a_score_has_a_status(made):
    x = made.x[:2].clone()
    x[0, 0, 0, 0] = float("nan")
    frame = _load_pyfunc(str(made.package)).predict(x.numpy())
    assert frame["status"].tolist() == ["nonfinite_input", "ok"]
    assert frame["is_ood"][0] and np.isinf(frame["score"][0])


def test_detectors_that_are_not_combined_decide_each(made):
    monitor = gradood.Monitor(made.model, ["energy", "msp"], progress=False)
    monitor.calibrate(made.x, fpr=0.1)
    frame = PackagedDetector(monitor, (1, 8, 8)).predict(made.x.numpy())
    assert list(frame.columns)[1:4] == ["energy.is_ood", "energy.p_value", "energy.score"]
    monitor = gradood.Monitor(made.model, "msp", progress=False)
    monitor.calibrate(made.x, fpr=0.1)
    assert list(PackagedDetector(monitor, (1, 8, 8)).predict(made.x.numpy()).columns) == COLUMNS


def test_a_guard_answers_alike(made, tmp_path):
    guard = gradood.guard(made.model, made.x, fpr=0.1, detectors=["energy", "msp"])
    frame = PackagedDetector(guard, (1, 8, 8)).predict(made.x.numpy())
    assert list(frame.columns) == COLUMNS
    assert frame["is_ood"].tolist() == guard.predict(made.x).is_ood.tolist()


def test_inputs_of_another_form_are_refused(made):
    found = _load_pyfunc(str(made.package))
    x = made.x.numpy()
    for odd in (x[0], x[:0], x.astype("U8"), found.predict(x)):
        with pytest.raises(DataError, match="expected"):
            found.predict(odd)
    with pytest.raises(ConfigError, match="unknown"):
        found.predict(x, {"fpr": 0.1})
    with pytest.raises(ConfigError, match="expected device or model_folder"):
        _load_pyfunc(str(made.package), {"code": "x"})


@pytest.fixture
def mlflow(monkeypatch, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("mlflow")
        importlib_pyfunc = pytest.importorskip("mlflow.pyfunc")
        assert importlib_pyfunc
        monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
        module.set_tracking_uri((tmp_path / "runs").as_uri())
        yield module


@pytest.mark.slow
def test_a_model_of_mlflow_holds_the_package_and_no_path_of_this_machine(made, mlflow, tmp_path):
    path = tmp_path / "model"
    gradood.hub.mlflow.save_model(made.package, path, metadata={"team": "a"})
    text = (path / "MLmodel").read_text()
    assert str(tmp_path) not in text and str(made.folder) not in text and "pickle" not in text
    assert {file.name for file in (path / "data").iterdir()} == {
        file.name for file in made.package.iterdir()
    }
    found = mlflow.pyfunc.load_model(str(path), model_config={"device": "cpu"})
    frame = found.predict(made.x.numpy())
    assert frame["score"].tolist() == made.monitor.predict(made.x).score.tolist()
    assert gradood.hub.mlflow.load_model(str(path)).combine == "fisher"
    with pytest.raises(mlflow.exceptions.MlflowException, match="schema"):
        found.predict(made.x.numpy()[:, :, :7])
    with pytest.raises(ConfigError, match="there already"):
        gradood.hub.mlflow.save_model(made.package, path)


@pytest.mark.slow
def test_a_run_logs_it_and_a_factory_needs_trust(made, mlflow, copied, monkeypatch, tmp_path):
    (tmp_path / "another_net.py").write_text(
        "import gradood.models\n\n\ndef make():\n    return gradood.models.build('digits_net')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    spec = json.loads((copied / "spec.json").read_text())
    (copied / "spec.json").write_text(json.dumps({**spec, "model": "another_net:make"}))
    with mlflow.start_run():
        uri = gradood.hub.mlflow.log_model(copied, "detector").model_uri
    with pytest.raises(ConfigError, match="trust='package'"):
        mlflow.pyfunc.load_model(uri)
    with pytest.raises(ConfigError, match="expected device or model_folder"):
        _load_pyfunc(str(copied), {"trust": "package"})
    assert torch.equal(
        gradood.hub.mlflow.load_model(uri, trust="package").predict(made.x).score,
        made.monitor.predict(made.x).score,
    )


def test_other_weights_in_a_model_of_mlflow_are_another_model(made, mlflow, tmp_path):
    path = tmp_path / "model"
    gradood.hub.mlflow.save_model(made.package, path)
    weights = path / "data" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelMismatchError):
        mlflow.pyfunc.load_model(str(path))
