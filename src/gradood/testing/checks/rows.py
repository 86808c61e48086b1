"""Checks that a score belongs to its sample: not to its batch, its place or its neighbors."""

import torch

from gradood.testing.checks.check import Collection
from gradood.testing.subject import Subject, total

__all__ = ["ROWS"]

ROWS = Collection()

_MANY = 256


@ROWS.check()
def score_has_its_form(subject: Subject) -> None:
    """(rows,) float64 on the CPU, finite on ordinary inputs, without graph."""
    scores = subject.scores
    assert isinstance(scores, torch.Tensor), f"a {type(scores).__name__}, not a tensor"
    assert scores.shape == (len(subject.x),), f"{tuple(scores.shape)}, not ({len(subject.x)},)"
    assert scores.dtype == torch.float64, f"{scores.dtype}, not float64"
    assert scores.device.type == "cpu", f"on {scores.device}"
    assert not scores.requires_grad, "the scores carry a graph"
    assert bool(scores.isfinite().all()), "not finite on ordinary inputs"


@ROWS.check()
def alone_as_in_a_batch(subject: Subject) -> None:
    """A sample scores the same alone and in batches of 7, 64 and 256."""
    x = subject.network.inputs(_MANY, seed=3)
    together = subject.monitor.score(x)
    for size in (7, 64):
        some = x if size == 64 else x[:21]
        subject.agree(
            subject.monitor.score(some.split(size)), together[: len(some)], f"batches of {size}"
        )
    alone = [subject.monitor.score(row) for row in x[:5].split(1)]
    subject.agree(total(alone), together[:5], "each alone")


@ROWS.check()
def one_sample(subject: Subject) -> None:
    """One sample is a batch like any other."""
    scores = subject.monitor.score(subject.x[:1])
    assert scores.shape == (1,), f"{tuple(scores.shape)}, not (1,)"
    subject.agree(scores, subject.scores[:1], "one sample")


@ROWS.check()
def empty_batch(subject: Subject) -> None:
    """Empty in, empty out, with the same type; alone, and among other batches."""
    for nothing in (subject.x[:0], [], [subject.x[:0]]):
        scores = subject.monitor.score(nothing)
        assert scores.shape == (0,), f"{tuple(scores.shape)}, not (0,)"
        assert scores.dtype == torch.float64, f"{scores.dtype}, not float64"
    scores = subject.monitor.score([subject.x[:0], subject.x, subject.x[:0]])
    subject.agree(scores, subject.scores, "beside empty batches")


@ROWS.check()
def any_order(subject: Subject) -> None:
    """Shuffling the inputs shuffles the scores."""
    order = torch.randperm(len(subject.x), generator=torch.Generator().manual_seed(0))
    subject.agree(subject.monitor.score(subject.x[order]), subject.scores[order], "shuffled")


@ROWS.check()
def any_subset(subject: Subject) -> None:
    """A part of the inputs gives that part of the scores; a repeated row its score again."""
    some = torch.tensor([5, 2, 2, 14, 5, 11])
    subject.agree(
        subject.monitor.score(subject.x[some]), subject.scores[some], "a part with repetitions"
    )


@ROWS.check()
def neighbors_do_not_matter(subject: Subject) -> None:
    """Replacing all other rows of a batch, by extreme ones too, leaves a row's score."""
    other = 100.0 * subject.network.inputs(len(subject.x), seed=4)
    other[:3] = subject.x[:3]
    subject.agree(subject.monitor.score(other)[:3], subject.scores[:3], "among strangers")


@ROWS.check()
def loaders_as_tensors(subject: Subject) -> None:
    """Batches of x, of (x, y) and of dicts give what the tensor gives; labels do not matter."""
    first, second = subject.x[:7], subject.x[7:]
    wrong = torch.full((len(subject.x),), -7)
    loaders = {
        "tensors": [first, second],
        "pairs": [(first, wrong[:7]), [second, wrong[7:]]],
        "dicts": [{"image": first}, {"pixel_values": second, "labels": wrong[7:]}],
        "a generator": (part for part in (first, second)),
        "arrays": [first.numpy(), second.numpy()],
    }
    for kind, loader in loaders.items():
        subject.agree(subject.monitor.score(loader), subject.scores, kind)


@ROWS.check()
def same_twice(subject: Subject) -> None:
    """Scoring again, after other inputs and whatever the seed, gives the same bits."""
    x = subject.network.inputs(9, seed=5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = subject.monitor.score(x)
        subject.monitor.score(-x)
        torch.manual_seed(2)
        assert torch.equal(subject.monitor.score(x), first), "scoring twice gives other scores"
