"""The data of the demo, and a network trained on it: nothing is downloaded.

Known are eight of scikit-learn's handwritten digits; near are the other two, far are patches of its
two bundled photographs.
"""

import importlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from gradood.errors import ConfigError
from gradood.models import DigitsNet, digits_net

__all__ = ["CLASSES", "Digits", "accuracy", "load_digits", "one_thread", "train"]

CLASSES = 8
"""Digits 0 to 7 are known, 8 and 9 are not."""

_TRAIN = 1000
_BATCH, _RATE, _MOMENTUM, _DECAY = 100, 0.1, 0.9, 5e-4
_LEVELS = 16
_PATCH = 32


@dataclass(frozen=True, eq=False, slots=True)
class Digits:
    """Images (n, 1, 8, 8) in [0, 1], in 17 levels of gray, and labels (n,).

    Attributes:
        train_x: to train and to fit on.
        train_y: their digits, below `CLASSES`.
        test_x: other images of the same digits.
        test_y: their digits.
        ood: ``near``, the digits held out; ``far``, patches of photographs.
    """

    train_x: Tensor
    train_y: Tensor
    test_x: Tensor
    test_y: Tensor
    ood: Mapping[str, Tensor]


def load_digits(*, seed: int = 0) -> Digits:
    """The data, split at random; from the installed scikit-learn alone.

    Args:
        seed: of the split.

    Raises:
        ModuleNotFoundError: scikit-learn, or Pillow for its photographs, is not installed.
    """
    datasets = _sklearn_datasets()
    found = datasets.load_digits()
    x = torch.tensor(found.images / _LEVELS, dtype=torch.float32)[:, None]
    y = torch.tensor(found.target, dtype=torch.int64)
    known = (y < CLASSES).nonzero()[:, 0]
    order = known[torch.randperm(len(known), generator=torch.Generator().manual_seed(seed))]
    photographs = datasets.load_sample_images().images
    far = torch.cat([_patches(image) for image in photographs])
    return Digits(
        train_x=x[order[:_TRAIN]],
        train_y=y[order[:_TRAIN]],
        test_x=x[order[_TRAIN:]],
        test_y=y[order[_TRAIN:]],
        ood={"near": x[y >= CLASSES], "far": far},
    )


def train(data: Digits, *, epochs: int, seed: int = 0) -> DigitsNet:
    """A small convolutional network that tells the known digits apart.

    Args:
        data: only its training part is used.
        epochs: passes over it, at least 1.
        seed: of the first weights and of the order; the global random state is left alone.

    Raises:
        ConfigError: no epoch.
    """
    if epochs < 1:
        raise ConfigError(f"epochs is {epochs}; expected at least 1.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = digits_net(CLASSES)
    order = torch.Generator().manual_seed(seed)
    parameters = list(model.parameters())
    velocities = [torch.zeros_like(parameter) for parameter in parameters]
    batches = [
        rows
        for _ in range(epochs)
        for rows in torch.randperm(len(data.train_x), generator=order).split(_BATCH)
    ]
    for step, rows in enumerate(batches):
        loss = cross_entropy(model(data.train_x[rows]), data.train_y[rows])
        gradients = torch.autograd.grad(loss, parameters)
        rate = _RATE * math.sin(math.pi * (step + 0.5) / len(batches))
        _descend(parameters, velocities, gradients, rate)
    return model.eval()


def accuracy(model: DigitsNet, x: Tensor, y: Tensor) -> float:
    """Share of images classified correctly, by a model in evaluation mode."""
    with torch.inference_mode():
        return float((model(x).argmax(1) == y).double().mean())


def _descend(
    parameters: Sequence[Tensor],
    velocities: Sequence[Tensor],
    gradients: Sequence[Tensor],
    rate: float,
) -> None:
    """One step of descent with Nesterov's momentum and weight decay.

    By hand, as `torch.optim` loads the compiler with it, which takes longer than the training.
    """
    with torch.no_grad():
        for parameter, velocity, gradient in zip(parameters, velocities, gradients, strict=True):
            gradient = gradient + _DECAY * parameter
            velocity.mul_(_MOMENTUM).add_(gradient)
            parameter.sub_(rate * (gradient + _MOMENTUM * velocity))


@contextmanager
def one_thread() -> Iterator[None]:
    """A block in which torch uses one thread.

    Faster for a network this small where cores are shared (four times, on two busy ones), and the
    same numbers however many there are.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _patches(image: np.ndarray) -> Tensor:
    """(n, 1, 8, 8) squares of a photograph, side by side, in the digits' levels of gray.

    Args:
        image: (height, width, 3) of bytes.
    """
    gray = image @ np.array([0.299, 0.587, 0.114])
    rows, columns = (side // _PATCH for side in gray.shape)
    cell = _PATCH // 8
    cells = gray[: rows * _PATCH, : columns * _PATCH].reshape(rows, 8, cell, columns, 8, cell)
    patches = cells.mean((2, 5)).transpose(0, 2, 1, 3).reshape(-1, 1, 8, 8)
    return torch.tensor(np.round(patches / 255 * _LEVELS) / _LEVELS, dtype=torch.float32)


def _sklearn_datasets() -> Any:
    try:
        importlib.import_module("PIL")
        return importlib.import_module("sklearn.datasets")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "scikit-learn, whose bundled digits and photographs the demo uses, is not installed "
            "with all it needs: pip install 'gradood[demo]'.",
            name=error.name,
        ) from error
