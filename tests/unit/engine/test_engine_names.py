"""Names of detectors: one rule everywhere, and nothing is saved that could not be loaded."""

import pytest
import torch
from torch import nn

import gradood
from gradood import Monitor
from gradood._engine.roster import roster, usable_name
from gradood.bench import Sets, compare
from gradood.detectors import KNN, Energy
from gradood.errors import ArtifactError, ConfigError
from gradood.monitor import _saved as saved
from gradood.monitor import _saving as saving

Z = torch.randn(400, 3, 2, 2, generator=torch.Generator().manual_seed(1))
ODD = ["a/b", "/", "a|b", "", " ", "a\nb", "a\tb", "\x00", "\x7f", "\u2028", "\ud800", 3, None]


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval()


@pytest.mark.parametrize("name", ODD, ids=repr)
def test_a_name_that_files_cannot_hold_is_refused_everywhere(name):
    assert not usable_name(name)
    detectors = {"msp": "msp", name: "energy"}
    for call in (
        lambda: roster(detectors),
        lambda: Monitor(model(), detectors),
        lambda: gradood.inspect(model(), Z[:4], detectors),
        lambda: compare(model(), {name: Energy()}, Sets(id=Z, ood={"a": Z}), Z[:4]),
    ):
        with pytest.raises(ConfigError, match="a printable name without a slash or a bar"):
            call()


@pytest.mark.parametrize("name", ["a b", "ü", "knn k=5", "scores", "a.b", "a:b", "名", "'", '"'])
def test_other_names_are_saved_and_loaded(name, tmp_path):
    path = tmp_path / "d.safetensors"
    monitor = Monitor(model(), {"a": "energy", name: KNN(k=2)}, combine="fisher")
    monitor.fit([Z[:100]]).calibrate(Z[100:]).save(path)
    found = gradood.load(path, model()).predict(Z[:9])
    expected = monitor.predict(Z[:9])
    assert list(found) == ["a", name] and torch.equal(found.p_value, expected.p_value)


def as_before(monkeypatch):
    """Names as files of the first release could have them."""
    for module in ("gradood._engine.roster", "gradood.monitor._saving"):
        monkeypatch.setattr(f"{module}.usable_name", lambda name: True)


def test_old_files_with_such_names_still_load_and_say_so_when_saved(tmp_path, monkeypatch):
    path = tmp_path / "old.safetensors"
    names = {"knn": KNN(k=3), "knn/k=1": KNN(k=1), "knn/scores": "energy"}
    with monkeypatch.context() as patch:
        as_before(patch)
        monitor = Monitor(model(), names).fit([Z[:100]]).calibrate(Z[100:])
        monitor.save(path)
    loaded = gradood.load(path, model())
    expected = monitor.predict(Z[:9])
    for name, result in loaded.predict(Z[:9]).items():
        assert torch.equal(result.p_value, expected[name].p_value), name
    with pytest.raises(
        ArtifactError, match="'knn/k=1', as an older file allowed; expected a print"
    ):
        loaded.save(path)
    assert list(gradood.load(path, model()).detectors) == list(names)


@pytest.mark.parametrize("part", ["_created", "_rule", "_fitted"])
def test_what_could_not_be_loaded_does_not_replace_what_was_there(tmp_path, monkeypatch, part):
    path = tmp_path / "d.safetensors"
    monitor = Monitor(model(), [KNN(k=3), "energy"]).fit([Z[:100]]).calibrate(Z[100:])
    monitor.save(path)
    before = path.read_bytes()

    def refuse(*args):
        raise ArtifactError("it cannot be read.")

    monkeypatch.setattr(saved, part, refuse)
    with pytest.raises(ArtifactError, match=r"it cannot be read\."):
        monitor.save(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_rule_that_lost_a_tensor_is_found_before_it_is_saved(tmp_path, monkeypatch):
    path = tmp_path / "d.safetensors"
    monitor = Monitor(model(), ["msp", "energy"], combine="min").calibrate(Z)
    plain = saving.DecisionRule.tensors
    monkeypatch.setattr(
        saving.DecisionRule,
        "tensors",
        lambda rule: {n: t for n, t in plain(rule).items() if "knots.1" not in n},
    )
    with pytest.raises(ArtifactError, match="fusion record"):
        monitor.save(path)
    assert list(tmp_path.iterdir()) == []
