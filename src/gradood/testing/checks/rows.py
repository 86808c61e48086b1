"""Checks that a score belongs to its sample: not to its batch, its place or its neighbors."""

import torch

from gradood.testing.case import Case, total
from gradood.testing.checks.check import Collection

__all__ = ["ROWS"]

ROWS = Collection()

_MANY = 256


@ROWS.check()
def score_has_its_form(case: Case) -> None:
    """(rows,) float64 on the CPU, finite on ordinary inputs, without graph."""
    scores = case.scores
    assert isinstance(scores, torch.Tensor), f"a {type(scores).__name__}, not a tensor"
    assert scores.shape == (len(case.x),), f"{tuple(scores.shape)}, not ({len(case.x)},)"
    assert scores.dtype == torch.float64, f"{scores.dtype}, not float64"
    assert scores.device.type == "cpu", f"on {scores.device}"
    assert not scores.requires_grad, "the scores carry a graph"
    assert bool(scores.isfinite().all()), "not finite on ordinary inputs"


@ROWS.check()
def alone_as_in_a_batch(case: Case) -> None:
    """A sample scores the same alone and in batches of 7, 64 and 256."""
    x = case.network.inputs(_MANY, seed=3)
    together = case.monitor.score(x)
    for size in (7, 64):
        some = x if size == 64 else x[:21]
        case.agree(
            case.monitor.score(some.split(size)), together[: len(some)], f"batches of {size}"
        )
    alone = [case.monitor.score(row) for row in x[:5].split(1)]
    case.agree(total(alone), together[:5], "each alone")


@ROWS.check()
def one_sample(case: Case) -> None:
    """One sample is a batch like any other."""
    scores = case.monitor.score(case.x[:1])
    assert scores.shape == (1,), f"{tuple(scores.shape)}, not (1,)"
    case.agree(scores, case.scores[:1], "one sample")


@ROWS.check()
def empty_batch(case: Case) -> None:
    """Empty in, empty out, with the same type; alone, and among other batches."""
    for nothing in (case.x[:0], [], [case.x[:0]]):
        scores = case.monitor.score(nothing)
        assert scores.shape == (0,), f"{tuple(scores.shape)}, not (0,)"
        assert scores.dtype == torch.float64, f"{scores.dtype}, not float64"
    scores = case.monitor.score([case.x[:0], case.x, case.x[:0]])
    case.agree(scores, case.scores, "beside empty batches")


@ROWS.check()
def any_order(case: Case) -> None:
    """Shuffling the inputs shuffles the scores."""
    order = torch.randperm(len(case.x), generator=torch.Generator().manual_seed(0))
    case.agree(case.monitor.score(case.x[order]), case.scores[order], "shuffled")


@ROWS.check()
def any_subset(case: Case) -> None:
    """A part of the inputs gives that part of the scores; a repeated row its score again."""
    some = torch.tensor([5, 2, 2, 14, 5, 11])
    case.agree(case.monitor.score(case.x[some]), case.scores[some], "a part with repetitions")


@ROWS.check()
def neighbors_do_not_matter(case: Case) -> None:
    """Replacing all other rows of a batch, by extreme ones too, leaves a row's score."""
    other = 100.0 * case.network.inputs(len(case.x), seed=4)
    other[:3] = case.x[:3]
    case.agree(case.monitor.score(other)[:3], case.scores[:3], "among strangers")


@ROWS.check()
def loaders_as_tensors(case: Case) -> None:
    """Batches of x, of (x, y) and of dicts give what the tensor gives; labels do not matter."""
    first, second = case.x[:7], case.x[7:]
    wrong = torch.full((len(case.x),), -7)
    loaders = {
        "tensors": [first, second],
        "pairs": [(first, wrong[:7]), [second, wrong[7:]]],
        "dicts": [{"image": first}, {"pixel_values": second, "labels": wrong[7:]}],
        "a generator": (part for part in (first, second)),
        "arrays": [first.numpy(), second.numpy()],
    }
    for kind, loader in loaders.items():
        case.agree(case.monitor.score(loader), case.scores, kind)


@ROWS.check()
def same_twice(case: Case) -> None:
    """Scoring again, after other inputs and whatever the seed, gives the same bits."""
    x = case.network.inputs(9, seed=5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        first = case.monitor.score(x)
        case.monitor.score(-x)
        torch.manual_seed(2)
        assert torch.equal(case.monitor.score(x), first), "scoring twice gives other scores"
