import hashlib

import pytest
import torch
from safetensors.torch import save_file

from gradood.bench import json_text
from gradood.data import Preprocess
from gradood.errors import ConfigError
from gradood.models import REFERENCES, build
from gradood.models._load import load_model


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    file = tmp_path_factory.mktemp("subject") / "net.safetensors"
    torch.manual_seed(0)
    save_file(build("digits_net", num_classes=3).state_dict(), file)
    return file


def test_a_reference_network_brings_its_preprocessing(weights):
    for spec in ("digits_net", "gradood.models:digits_net", "gradood.models.digits:digits_net"):
        subject = load_model(spec, weights, num_classes=3)
        assert subject.preprocess == Preprocess(**REFERENCES["digits_net"].preprocess)
        assert not subject.model.training
        assert subject.digest == hashlib.sha256(weights.read_bytes()).hexdigest()


def test_what_is_given_replaces_only_itself(weights):
    found = load_model("digits_net", weights, num_classes=3, preprocess={"resize": None})
    assert found.preprocess == Preprocess(mode="L", crop=8)


def test_a_model_of_ones_own_gets_plain_scaling_and_needs_no_weights():
    subject = load_model("torch.nn:Flatten")
    assert subject.preprocess == Preprocess()
    assert subject.reference is None and subject.published_accuracy is None


def test_a_reference_network_needs_weights_unless_it_may_be_untrained():
    with pytest.raises(ConfigError, match="'resnet20' is untrained without weights; give"):
        load_model("resnet20")
    assert load_model("resnet20", untrained=True).digest is None


def test_weights_of_another_model_are_refused(weights):
    with pytest.raises(ConfigError, match=r"head.weight \(3, 64\), here \(10, 64\)"):
        load_model("digits_net", weights)


def test_published_accuracy_is_told_by_the_name_of_the_file(weights, tmp_path):
    file = tmp_path / "resnet20_cifar10.safetensors"
    save_file(build("resnet20").state_dict(), file)
    assert load_model("resnet20", file).published_accuracy == 0.9173
    assert load_model("digits_net", weights, num_classes=3).published_accuracy is None


def test_says_what_it_is_in_plain_values(weights):
    found = load_model("digits_net", weights, num_classes=3).to_dict()
    assert json_text(found)
    assert found["class"] == "DigitsNet"
    assert found["preprocess"]["mode"] == "L"
