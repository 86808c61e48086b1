"""Plausible mistakes in calls of the public API: each is answered, none by an untyped error."""

import contextlib
import inspect
import random
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from mistakes import check_calls, option, pick
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import gradood
from gradood.data import Preprocess
from gradood.errors import (
    CalibrationError,
    ConfigError,
    OptionError,
)

CALLS = 400
X = torch.randn(24, 3, 4, 4, generator=torch.Generator().manual_seed(0))
Y = torch.arange(24) % 4


class Frame:
    """As a table of pandas."""

    columns = ("a", "b")

    def to_numpy(self):
        return np.zeros((4, 2))

    def __iter__(self):
        return iter(self.columns)


class Net(nn.Sequential):
    def __init__(self, *last: nn.Module) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Linear(8, 4), *last)


def image() -> Image.Image:
    return Image.new("RGB", (4, 4))


MODEL = Net().eval()


@cache
def known_monitor() -> gradood.Monitor:
    monitor = gradood.Monitor(MODEL, ["energy", "mahalanobis"]).fit([(X, Y)])
    return monitor.calibrate([X], fpr=0.1, allow_overlap="a test")


DATA: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "number": lambda: 3,
    "text": lambda: "images/",
    "bytes": lambda: b"images",
    "empty list": lambda: [],
    "empty dict": lambda: {},
    "nested empty list": lambda: [[]],
    "a pair": lambda: (X, Y),
    "a list of a pair": lambda: [X, Y],
    "one image": lambda: X[0],
    "images one by one": lambda: list(X),
    "one channel": lambda: X[:, :1],
    "channels last": lambda: X.permute(0, 2, 3, 1),
    "other size": lambda: torch.randn(2, 3, 5, 7),
    "flat": lambda: X.flatten(1)[:, :40],
    "double": lambda: X.double(),
    "half": lambda: X.half(),
    "whole numbers": lambda: (X * 10).to(torch.uint8),
    "complex": lambda: X.to(torch.complex64),
    "boolean": lambda: X > 0,
    "not a number": lambda: X * torch.nan,
    "infinite": lambda: [X * torch.inf],
    "array": lambda: X.numpy(),
    "array of doubles": lambda: X.double().numpy(),
    "array of objects": lambda: np.array([None, 1]),
    "array of texts": lambda: np.array(["a", "b"]),
    "scalar": lambda: torch.tensor(1.0),
    "no rows": lambda: X[:0],
    "meta": lambda: torch.empty(2, 3, 4, 4, device="meta"),
    "two views": lambda: [[X, X + 1]],
    "two views and labels": lambda: [((X, X + 1), Y)],
    "an image": image,
    "a list of images": lambda: [image(), image()],
    "a batch of images": lambda: [[image(), image()]],
    "a table": Frame,
    "a batch that is a table": lambda: [Frame()],
    "a model": lambda: MODEL,
    "a class": lambda: Net,
    "a data set": lambda: TensorDataset(X, Y),
    "a loader of single images": lambda: DataLoader(TensorDataset(X, Y), batch_size=None),
    "a used generator": lambda: iter(()),
    "a function": lambda: lambda: X,
    "a mapping": lambda: {"pixel_values": X, "labels": Y},
    "a mapping of unknown keys": lambda: [{"data": X}],
    "a mapping in a mapping": lambda: [{"image": {"x": X}}],
    "a mapping and labels": lambda: [({"pixel_values": X}, Y)],
    "paths": lambda: ["a.png", "b.png"],
    "a list of lists": lambda: [[1.0, 2.0], [3.0, 4.0]],
    "numbers": lambda: [1, 2, 3],
    "one-hot labels": lambda: [(X, nn.functional.one_hot(Y))],
    "texts as labels": lambda: [(X, ["cat"] * 24)],
    "float labels": lambda: [(X, Y.float())],
    "labels out of range": lambda: [(X, Y + 5)],
    "negative labels": lambda: [(X, Y - 1)],
    "too few labels": lambda: [(X, Y[:5])],
    "no labels": lambda: [X],
    "labels of None": lambda: [(X, None)],
    "labels with an axis": lambda: [(X, Y[:, None])],
    "labels in an array": lambda: [(X, Y.numpy().astype(float))],
    "labels first": lambda: [(Y, X)],
    "sound": lambda: [(X, Y)],
}
DETECTORS: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "number": lambda: 3,
    "no detector": lambda: [],
    "class": lambda: gradood.KNN,
    "classes": lambda: [gradood.KNN, "energy"],
    "capitals": lambda: "ViM",
    "underscores": lambda: ["max_logit"],
    "comma": lambda: "energy,msp",
    "unknown": lambda: "energi",
    "twice": lambda: ["energy", "energy"],
    "a model": lambda: MODEL,
    "data": lambda: X,
    "a set of numbers": lambda: {1, 2},
    "a function": lambda: len,
    "mapping of numbers": lambda: {"a": 3},
    "numbers as names": lambda: {1: "energy"},
    "a slash": lambda: {"a/b": "energy"},
    "nested": lambda: [["energy"]],
    "all": lambda: "all",
    "sound": lambda: ["energy", gradood.KNN(k=3)],
}
MODELS: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "text": lambda: "resnet18",
    "class": lambda: Net,
    "weights": MODEL.state_dict,
    "function": lambda: lambda x: x,
    "detectors": lambda: ["energy"],
    "data": lambda: X,
    "monitor": known_monitor,
    "probabilities": lambda: Net(nn.Softmax(1)).eval(),
    "no weights": lambda: nn.Flatten(),
    "sound": lambda: MODEL,
}
OPTIONS: dict[str, list[Any]] = {
    "combine": ["Fisher", "all", 3, ["fisher"], "fisher"],
    "head": [3, MODEL, "fc9", "3", ["3"]],
    "output": [3.5, True, "", [0], nn.Module, 4, "logits", len],
    "preprocess": [3, "resize", Preprocess(resize=4, crop=4), [1]],
    "skip_unusable": ["energy", 3, None, ["nope"], [3], True],
    "progress": ["yes", False],
}
PROMISES: dict[str, list[Any]] = {
    "fpr": [5, 0, 1, -0.1, "0.05", None, True, float("nan"), 0.0001],
    "mode": ["PAC", None, 3, "marginal"],
    "confidence": [95, "high", None],
    "per_class": ["yes", None, 1],
    "allow_overlap": [True, 3, "", "reason"],
}
VALUES = [None, "5", -1, 0, 3.7, True, [], (), {}, float("nan"), MODEL, X, "all", lambda: 1, 10**9]


def fresh(draw: random.Random) -> gradood.Monitor:
    detectors = draw.choice(["energy", ["energy", "mahalanobis"], [gradood.KNN(k=3)]])
    return gradood.Monitor(MODEL, detectors)


def made(draw: random.Random) -> None:
    gradood.Monitor(pick(draw, MODELS), pick(draw, DETECTORS), **option(draw, OPTIONS))


def swapped(draw: random.Random) -> None:
    gradood.Monitor(pick(draw, DETECTORS), pick(draw, MODELS)).score(X)


def optioned(draw: random.Random) -> None:
    gradood.Monitor(MODEL, "energy", **option(draw, OPTIONS)).score(X)


def fitted(draw: random.Random) -> None:
    fresh(draw).fit(pick(draw, DATA))


def scored(draw: random.Random) -> None:
    draw.choice([known_monitor(), fresh(draw)]).score(pick(draw, DATA))


def predicted(draw: random.Random) -> None:
    draw.choice([known_monitor(), fresh(draw)]).predict(pick(draw, DATA))


def calibrated(draw: random.Random) -> None:
    monitor = gradood.Monitor(MODEL, ["energy", "msp"])
    data = draw.choice([pick(draw, DATA), X])
    monitor.calibrate(data, **option(draw, PROMISES))


def bound(draw: random.Random) -> None:
    fresh(draw).bind(pick(draw, DATA))


def inspected(draw: random.Random) -> None:
    gradood.inspect(pick(draw, MODELS), pick(draw, DATA), draw.choice(["energy", ["MSP"], None]))


def evaluated(draw: random.Random) -> None:
    ood = draw.choice([pick(draw, DATA), {"far": pick(draw, DATA)}, {3: X}, {"far": X}])
    monitor = draw.choice([known_monitor(), MODEL, "energy", fresh(draw)])
    gradood.evaluate(monitor, id=pick(draw, DATA), ood=ood, level=draw.choice([0.95, 2, "x", None]))


def learned(draw: random.Random) -> None:
    monitor = gradood.Monitor(MODEL, "mahalanobis")
    parts = [monitor.accumulate([(X, Y)]), None, {}, X, known_monitor()]
    draw.choice([monitor.finish, lambda part: monitor.merge(part, parts[0])])(draw.choice(parts))


def stored(draw: random.Random) -> None:
    path = draw.choice([None, 3, X, MODEL, "", "/nowhere/file", "/"])
    calls = [
        known_monitor().save,
        lambda p: gradood.load(p, pick(draw, MODELS)),
        lambda p: gradood.load(MODEL, p),
    ]
    with contextlib.suppress(OSError):  # As documented: the folder is absent, or is none.
        draw.choice(calls)(path)


def constructed(draw: random.Random) -> None:
    name = draw.choice([m.detector for m in gradood.methods() if m.detector in dir(gradood)])
    kind = getattr(gradood, name)
    options = list(kind().options())
    if not options or draw.random() < 0.1:
        kind(draw.choice(VALUES))
    kind(**{draw.choice([*options, "n_neighbors"]): draw.choice(VALUES)})


CALLED = [
    made,
    swapped,
    optioned,
    fitted,
    fitted,
    scored,
    scored,
    predicted,
    calibrated,
    bound,
    inspected,
    evaluated,
    learned,
    stored,
    constructed,
    constructed,
]


@pytest.mark.parametrize("part", range(8))
def test_no_mistake_is_answered_by_an_untyped_error(part):
    check_calls(CALLED, range(part, CALLS, 8))


def test_labels_beside_the_data_are_told_where_they_belong():
    for call, said in [
        (lambda: known_monitor().fit(X, Y), r"give pairs: monitor\.fit\(\[\(x, y\)\]\)"),
        (lambda: known_monitor().accumulate(X, Y), r"give pairs: monitor\.accumulate"),
        (lambda: known_monitor().score(X, Y), r"labels are not used.* monitor\.score\(x\)"),
        (lambda: known_monitor().predict(X, Y), r"monitor\.predict\(x\)"),
        (lambda: known_monitor().calibrate(X, 0.05), r"options are named; monitor\.calibrate\(x\)"),
    ]:
        with pytest.raises(ConfigError, match=said):
            call()
    assert list(inspect.signature(gradood.Monitor.fit).parameters) == ["self", "data"]


def test_near_names_are_suggested():
    with pytest.raises(AttributeError, match="did you mean 'Mahalanobis'"):
        _ = gradood.Mahalonobis
    with pytest.raises(AttributeError, match=r"no attribute 'qqqq'\.$"):
        _ = gradood.qqqq
    with pytest.raises(OptionError, match="no option 'n'; did you mean 'M'"):
        gradood.GEN(n=5)
    with pytest.raises(OptionError, match="did you mean 'normalize'"):
        gradood.KNN(norm=True)


def test_what_was_not_fitted_is_to_be_fitted_first():
    with pytest.raises(CalibrationError, match=r"^knn must be fitted first: monitor\.fit"):
        gradood.Monitor(MODEL, ["energy", "knn"]).predict(X)
    with pytest.raises(CalibrationError, match=r"^nothing was promised"):
        gradood.Monitor(MODEL, "energy").predict(X)
