"""What is said of a model before anything is fitted."""

import json
from dataclasses import asdict

import pytest
import torch
from rosters import ZERO_SHOT
from torch import nn

import gradood
from gradood.cli import main
from gradood.data import FeatureInput, TokenInput
from gradood.errors import ConfigError, DataError

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(10))


class Net(nn.Module):
    def __init__(self, head=True):
        super().__init__()
        self.stage1 = nn.Sequential(self.block(3, 6), self.block(6, 6))
        self.stage2 = nn.Sequential(self.block(6, 8), self.block(8, 8))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(8, 4) if head else nn.Identity()

    @staticmethod
    def block(inputs, outputs):
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(True)
        )

    def forward(self, x):
        return self.fc(self.pool(self.stage2(self.stage1(x))).flatten(1))


def test_a_model_as_gradood_sees_it():
    found = gradood.inspect(Net(), X)
    assert found.classes == 4
    assert found.head_layer == "fc"
    assert found.head.startswith("fc (Linear 8 → 4, bias), verified to")
    assert found.norms == tuple(f"stage{i}.{j}.1" for i in (1, 2) for j in (0, 1))
    assert found.stages == ("stage1", "stage2")
    assert found.last_map.endswith("64 positions")
    assert [use.method for use in found.uses] == [m.name for m in gradood.methods()]
    assert [use.method for use in found.uses if not use.works] == list(ZERO_SHOT)
    assert json.loads(json.dumps(found.to_dict()))["classes"] == 4
    text = str(found)
    assert f"{'gaia-z':19} works" in text and "stages    stage1, stage2" in text
    reads = next(use.reads for use in found.uses if use.method == "gaia-a")
    assert "mean of the gradient of feature sum at stage1.0.1" in reads


def test_a_model_without_head_says_why_and_what_still_works():
    found = gradood.inspect(Net(head=False), X)
    assert found.head_layer is None
    assert found.head.startswith("not found: the last linear layer could not be verified")
    uses = {use.method: use for use in found.uses}
    assert uses["energy"].works and uses["gaia-z"].works
    # What reads features has none to read.
    assert not uses["gaia-a"].works and "could not be verified" in uses["gaia-a"].notes[0]
    assert "cannot" in str(found)
    json.dumps(found.to_dict())


def test_detectors_may_be_chosen_and_the_head_named():
    found = gradood.inspect(Net(), X, ["energy", gradood.KNN(k=2)], head="fc")
    assert [use.method for use in found.uses] == ["energy", "knn"]


def test_a_batch_in_a_mapping():
    model = Net()
    plain = gradood.inspect(model, X, ["energy", "knn"])
    assert str(gradood.inspect(model, {"pixel_values": X}, ["energy", "knn"])) == str(plain)
    with pytest.raises(DataError, match=r"a batch has keys \['a'\]"):
        gradood.inspect(Net(), {"a": X})


def test_columns_are_as_wide_as_the_longest_name():
    text = str(gradood.inspect(Net(), X))
    uses = text.partition("\n\n")[2].splitlines()
    width = len("temperature-scaling")
    assert {line[width:].split()[0] for line in uses} <= {"works", "cannot", "caution"}
    few = str(gradood.inspect(Net(), X, ["energy", "knn"])).splitlines()
    assert few[-1].startswith("knn    works")


def test_a_model_without_norms_or_stages():
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.GELU(), nn.Linear(6, 3))
    found = gradood.inspect(model, X)
    assert found.norms == () and found.stages == () and found.last_map is None
    uses = {use.method: use for use in found.uses}
    assert not uses["gaia-z"].works and "has neither" in uses["gaia-z"].notes[0]
    assert "norms     0" in str(found) and "last map  none" in str(found)


def test_one_detector_may_be_given_bare_or_several_by_name():
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).eval(), torch.randn(2, 3, 2, 2)
    assert [use.method for use in gradood.inspect(model, x, "energy").uses] == ["energy"]
    named = {"a": gradood.MSP(), "b": "energy"}
    assert [use.method for use in gradood.inspect(model, x, named).uses] == ["a", "b"]
    with pytest.raises(DataError, match="are empty"):
        gradood.inspect(model, x[:0])


def test_odin_takes_its_step_of_the_preprocessing_that_is_stated():
    """The shell's --std was read and not heeded."""
    std = {"std": (0.5, 0.25, 0.2)}
    told = str(gradood.inspect(Net().eval(), X, ["odin"], preprocess=std))
    assert "the preprocessing's std (0.5, 0.25, 0.2)" in told
    assert "the preprocessing is not known" in str(gradood.inspect(Net().eval(), X, ["odin"]))
    with pytest.raises(ConfigError, match="expected a mapping"):
        gradood.inspect(Net().eval(), X, ["odin"], preprocess=0.5)


def test_the_shell_heeds_the_preprocessing(capsys):
    words = ["inspect", "--model", "digits_net", "--std", "0.5", "--mode", "L"]
    assert main(words) == 0
    assert "the preprocessing's std (0.5,)" in capsys.readouterr().out


@pytest.mark.parametrize("given", [TokenInput(column="ids"), FeatureInput(numbers=("a", "b"))])
def test_columns_without_their_kind_are_refused(given):
    """`asdict` leaves the kind out, so that a file was asked for a column of images later on."""
    with pytest.raises(ConfigError, match="give what to_dict"):
        gradood.Monitor(Net().eval(), "energy", preprocess=asdict(given))
    gradood.Monitor(Net().eval(), "energy", preprocess=given.to_dict())
