"""Heads of models that take token ids with a mask: padding changes neither head nor features."""

import pytest
import torch
from torch import nn

import gradood
from gradood.evidence import FEATURES, LOGITS, gather
from gradood.taps import Arguments, observe

WORDS, WIDTH, CLASSES = 17, 6, 5


class Encoder(nn.Module):
    """Attention over the tokens that the mask leaves, and `ending` on top of them."""

    def __init__(self, ending):
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.query, self.norm = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)
        self.ending = ending

    def forward(self, input_ids, attention_mask):
        h = self.words(input_ids)
        weights = self.query(h) @ h.transpose(1, 2)
        weights = weights.masked_fill(attention_mask[:, None] == 0, -1e9).softmax(2)
        return self.ending(self.norm(h + weights @ h), attention_mask)


class Ending(nn.Module):
    def __init__(self, head, *, kind, after):
        super().__init__()
        self.head, self.kind, self.after = head, kind, after

    def pool(self, h, mask):
        if self.kind == "first":
            return h[:, 0]
        if self.kind == "last":
            places = torch.arange(h.shape[1]).expand(mask.shape).where(mask != 0, -1).amax(1)
            return h[torch.arange(len(h)), places]
        weight = mask.to(h)[..., None]
        return (h * weight).sum(1) / weight.sum(1)

    def forward(self, h, mask):
        if self.after:
            return self.pool(self.head(h), mask)
        return self.head(self.pool(h, mask))


def model(kind, after, head=None):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return Encoder(Ending(head or nn.Linear(WIDTH, CLASSES), kind=kind, after=after)).eval()


def rows(n=24, length=7, seed=0):
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, WORDS, (n, length), generator=generator)
    sizes = torch.randint(2, length + 1, (n,), generator=generator)
    mask = (torch.arange(length) < sizes[:, None]).long()
    return ids * mask, mask


def arguments(ids, mask):
    return Arguments(named={"input_ids": ids, "attention_mask": mask})


KINDS = [(kind, after) for kind in ("first", "last", "mean") for after in (False, True)]


@pytest.mark.parametrize(("kind", "after"), KINDS)
@pytest.mark.parametrize("unpadded", [True, False], ids=["seen unpadded", "seen padded"])
def test_features_give_the_logits_of_padded_batches(kind, after, unpadded):
    net, (ids, mask) = model(kind, after), rows()
    if unpadded:  # The first batch shows no padding, and the next has some.
        first = arguments(ids[:2].clamp(min=1), torch.ones_like(mask[:2]))
    else:
        first = arguments(ids[:2], mask[:2])
    network = observe(net, first)
    evidence = gather(network, arguments(ids, mask), (FEATURES, LOGITS))
    weight, bias = network.head.linear()
    ours = evidence.features.double() @ weight.double().T + bias.double()
    torch.testing.assert_close(ours, evidence.logits, rtol=1e-5, atol=1e-5)
    for row in range(6):  # Alone, without its padding.
        size = int(mask[row].sum())
        alone = arguments(ids[row : row + 1, :size], mask[row : row + 1, :size])
        features = gather(network, alone, (FEATURES,)).features
        torch.testing.assert_close(features[0], evidence.features[row], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("kind", "after"), KINDS)
def test_scores_do_not_depend_on_padding(kind, after):
    net, (ids, mask) = model(kind, after), rows(64)
    batch = {"input_ids": ids, "attention_mask": mask, "labels": torch.arange(64) % CLASSES}
    monitor = gradood.Monitor(net, ["mahalanobis", "knn", "nci", "gradnorm", "react"])
    with pytest.warns() as _:  # of labels that are none of this model's
        monitor.fit([batch])
    scores = monitor.score([batch])
    more = torch.zeros(64, 9, dtype=torch.int64)
    padded = {
        "input_ids": torch.cat([ids, more], 1),
        "attention_mask": torch.cat([mask, more], 1),
    }
    for name, score in monitor.score([padded]).items():
        torch.testing.assert_close(score, scores[name], rtol=1e-4, atol=1e-5)


def test_one_logit_and_a_mask():
    net, (ids, mask) = model("last", after=True, head=nn.Linear(WIDTH, 1)), rows()
    network = observe(net, arguments(ids[:2], mask[:2]), pairs=True)
    evidence = gather(network, arguments(ids, mask), (FEATURES, LOGITS))
    weight, bias = network.head.linear()
    ours = evidence.features.double() @ weight.double().T + bias.double()
    torch.testing.assert_close(ours, evidence.logits, rtol=1e-5, atol=1e-5)
