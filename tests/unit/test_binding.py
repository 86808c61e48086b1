"""Binding: inputs that do not fit are told from broken models; plans are united."""

import pytest
import torch
from torch import nn

from gradood._engine.binding import bind, observed, probe_of
from gradood._engine.rows import described
from gradood.detectors import KNN, MSP, Energy, GradNorm
from gradood.errors import DataError
from gradood.evidence import FEATURES, KEYS, LOGITS


def classifier():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    ).eval()


X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(8))


def test_what_is_read_is_the_union():
    detectors = {"a": MSP(), "b": Energy(), "c": GradNorm(), "d": KNN()}
    binding = bind(classifier(), X, detectors)
    assert binding.reads == (LOGITS, FEATURES)
    assert binding.fit_reads == (FEATURES, KEYS)
    assert list(binding.plans) == list(detectors)
    assert binding.caveats == ()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 1, 6, 6), r"\(batch, 1, 6, 6\) float32; the model expects 4 dim.* 3 chan"),
        (
            torch.zeros(2, 6, 6, 3),
            r"with 3 channels \(channels come first: x.permute\(0, 3, 1, 2\)",
        ),
        (torch.zeros(2, 3), r"expects 4 dimensions with 3 channels(?! \()"),
        (X[0], r"with 3 channels \(a single input needs a batch axis: x\[None\]\)"),
        (X.double(), "float64; the model expects float32"),
        (torch.zeros(2, 3, 6, 6, dtype=torch.uint8), "uint8; the model expects float32"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(x, message):
    with pytest.raises(DataError, match=message):
        observed(classifier(), x)


def test_a_linear_first_layer_says_its_width():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    with pytest.raises(DataError, match="the model expects 12 features"):
        observed(model, torch.zeros(2, 3, 3, 3))
    with pytest.raises(DataError, match=r"12 features \(a single input .* x\[None\]"):
        observed(model, torch.zeros(3, 2, 2))


def test_errors_of_the_model_itself_name_the_input():
    class Broken(nn.Module):
        def forward(self, x):
            raise RuntimeError("out of order")

    with pytest.raises(DataError, match=r"^the model raised RuntimeError .*: out of order$"):
        observed(nn.Sequential(nn.Conv2d(3, 4, 3), Broken()), X)


@pytest.mark.parametrize("n", [1, 3, 32, 50, 200])
def test_a_probe_has_at_least_32_rows_and_begins_with_those_given(n):
    x = torch.randn(n, 3, 6, 6)
    probe = probe_of(x)
    assert len(probe) >= 32
    assert torch.equal(probe[: min(n, 64)], x[:64])
    assert probe.dtype == x.dtype
    if n == 1:
        assert len(probe.flatten(1).unique(dim=0)) == 32


def test_a_probe_of_tokens_stays_tokens():
    tokens = torch.randint(100, (2, 7))
    probe = probe_of(tokens)
    assert probe.dtype == torch.int64 and bool((probe < 100).all())


def test_inputs_in_words():
    assert described(X) == "(batch, 3, 6, 6) float32"


class Embedded(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.fc = nn.Embedding(10, 4), nn.Linear(4, 3)

    def forward(self, x):
        if x.shape[1] > 5:
            raise RuntimeError("too long")
        return self.fc(self.embed(x).mean(1))


def test_tokens_are_not_asked_to_be_numbers_of_another_kind():
    with pytest.raises(DataError, match=r"^the model raised RuntimeError .*: too long$"):
        observed(Embedded(), torch.zeros(2, 6, dtype=torch.int64))
    with pytest.raises(DataError, match="float32; the model expects whole numbers"):
        observed(Embedded(), torch.zeros(2, 3))
    assert observed(Embedded(), torch.zeros(2, 3, dtype=torch.int64)).classes == 3


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X[:0], r"\(batch, 3, 6, 6\) float32 are empty; expected some like those to be scored"),
        (X * torch.nan, "hold NaN or infinity"),
    ],
)
def test_nothing_can_be_observed_without_inputs(x, message):
    with pytest.raises(DataError, match=message):
        observed(classifier(), x)
