"""Layers that give something odd, and names of layers that are none."""

import pytest
import torch
from torch import nn

from gradood import Monitor, inspect
from gradood.errors import TapError

X = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
Y = torch.arange(60) % 4


class Balance(nn.Module):
    """A loss of the shares of experts, without a batch."""

    def forward(self, shares):
        return shares.mean(0).square().sum()


class Experts(nn.Module):
    """A mixture of experts that keeps its loss beside the logits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.router, self.balance = nn.Linear(8, 3), Balance()
        self.experts = nn.ModuleList(nn.Linear(8, 16) for _ in range(3))
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        shares = self.router(x).softmax(1)
        self.balance(shares)
        return self.head(sum(shares[:, i : i + 1] * e(x) for i, e in enumerate(self.experts)))


def test_a_layer_that_gives_one_number_hinders_nothing():
    model = Experts().eval()
    monitor = Monitor(model, ["energy", "knn"]).fit([(X, Y)])
    scores = monitor.score(X)
    with torch.no_grad():
        expected = -model(X).double().logsumexp(1)
    assert torch.allclose(scores["energy"], expected, atol=1e-5)
    with pytest.raises(TapError, match="'balance' gives no floating tensor with a batch"):
        Monitor(model, "knn", features="balance").fit(X)


class Encoder(nn.Module):
    """An encoder of torch, which nests padded sequences in evaluation unless told otherwise."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.word = nn.Embedding(50, 16)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(16, 4)

    def forward(self, input_ids, attention_mask):
        x = self.encoder(self.word(input_ids), src_key_padding_mask=attention_mask == 0)
        kept = attention_mask[..., None].float()
        return self.head((x * kept).sum(1) / kept.sum(1))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_layers_inside_an_encoder_that_nests_are_read():
    drawn = torch.Generator().manual_seed(1)
    mask = (torch.arange(10) < torch.randint(2, 11, (60, 1), generator=drawn)).long()
    ids = torch.randint(1, 50, (60, 10), generator=drawn) * mask
    model = Encoder().eval()
    monitor = Monitor(model, ["gram", "gaia-a"]).fit(
        {"input_ids": ids, "attention_mask": mask, "labels": Y}
    )
    together = monitor.score({"input_ids": ids, "attention_mask": mask})
    count = int(mask[5].sum())
    assert 0 < count < 10
    alone = monitor.score({"input_ids": ids[5:6, :count], "attention_mask": mask[5:6, :count]})
    for name, scores in together.items():
        assert torch.allclose(scores[5:6], alone[name], rtol=1e-5, atol=1e-5)
    assert model.encoder.use_nested_tensor


def test_a_head_that_is_no_layer_is_answered_with_those_there_are():
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    with pytest.raises(TapError, match=r"no layer '9'; choose from 0, 1, 2\."):
        Monitor(model, "knn", head="9").fit(X)
    with pytest.raises(TapError, match="'1' is no linear layer or 1×1 convolution that ran"):
        Monitor(model, "knn", head="1").fit(X)
    assert "no layer '9'" in inspect(model, X, head="9").head
