"""Small reference networks, written from their papers, and how a model is named and loaded."""

from gradood.models.convnet import ConvNet, convnet_mnist
from gradood.models.densenet import CifarDenseNet, densenet101
from gradood.models.digits import DigitsNet, digits_net
from gradood.models.opened import REFERENCES, OpenedModel, Reference
from gradood.models.resnet import CifarResNet, resnet20, resnet56
from gradood.models.source import build, open_model
from gradood.models.weights import load_weights

__all__ = [
    "CifarDenseNet",
    "CifarResNet",
    "ConvNet",
    "DigitsNet",
    "OpenedModel",
    "REFERENCES",
    "Reference",
    "build",
    "convnet_mnist",
    "densenet101",
    "digits_net",
    "load_weights",
    "open_model",
    "resnet20",
    "resnet56",
]
