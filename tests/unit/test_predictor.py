"""A saved monitor made of what was read once, with the hashes of what it is made of."""

import pytest
import torch
from torch import nn

import gradood
from gradood.artifact import check, read
from gradood.artifact import fingerprint as fingerprint_module
from gradood.batch import Identity, load_predictor
from gradood.batch import predictor as predictor_module
from gradood.errors import ModelMismatchError


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval()
    monitor = gradood.Monitor(model, "energy", progress=False)
    monitor.calibrate(torch.randn(100, 3, 2, 2), fpr=0.1).save(tmp_path / "d.safetensors")
    return model, tmp_path / "d.safetensors"


def test_model_and_file_are_hashed_once(saved, monkeypatch):
    model, file = saved
    calls = []

    def counted(hashed):
        calls.append(hashed)
        return fingerprint_module.fingerprint(hashed)

    monkeypatch.setattr(predictor_module, "fingerprint", counted)
    monkeypatch.setattr("gradood.monitor.loading.fingerprint", counted)
    loaded = load_predictor(read(file), model, source=str(file))
    assert len(calls) == 1
    assert loaded.identity({"mode": "L"}, "cpu") == Identity(
        artifact=check(file).sha256,
        model=fingerprint_module.fingerprint(model).digest,
        preprocess={"mode": "L"},
        device="cpu",
    )
    x = torch.randn(5, 3, 2, 2)
    assert torch.equal(loaded.monitor.score(x), gradood.load(file, model).score(x))


def test_the_hash_is_of_what_was_read_whatever_the_file_holds_by_now(saved):
    model, file = saved
    artifact, before = read(file), check(file).sha256
    gradood.load(file, model).calibrate(torch.randn(50, 3, 2, 2), fpr=0.5).save(file)
    loaded = load_predictor(artifact, model)
    assert loaded.artifact == before != check(file).sha256


def test_another_model_is_refused_unless_it_is_meant(saved):
    _, file = saved
    torch.manual_seed(1)
    other = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval()
    with pytest.raises(ModelMismatchError, match=r"'d\.st'.* belongs to another model"):
        load_predictor(read(file), other, source="d.st")
    assert load_predictor(read(file), other, override="retrained").monitor.overrides
