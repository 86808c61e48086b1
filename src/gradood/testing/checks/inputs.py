"""Checks of how inputs may lie in memory, and of inputs that cannot be scored."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gradood.errors import DataError, GradoodError
from gradood.testing.checks.check import Collection
from gradood.testing.subject import Subject

__all__ = ["INPUTS"]

INPUTS = Collection()


@INPUTS.check()
def non_contiguous(subject: Subject) -> None:
    """Strides do not matter: transposed storage, every second row, one row expanded."""
    x = subject.x
    transposed = x.transpose(0, -1).contiguous().transpose(0, -1)
    subject.agree(subject.monitor.score(transposed), subject.scores, "transposed storage")
    spaced = torch.stack([x, -x], 1)[:, 0]
    subject.agree(subject.monitor.score(spaced), subject.scores, "every second row of a tensor")
    expanded = x[:1].expand(4, *x.shape[1:])
    subject.agree(
        subject.monitor.score(expanded), subject.scores[:1].expand(4), "one row, expanded"
    )


@INPUTS.check()
def channels_last(subject: Subject) -> None:
    """Images stored with their channels last score the same."""
    if subject.x.ndim == 4:
        x = subject.x.to(memory_format=torch.channels_last)
        # Other algorithms of the convolutions: the logits themselves differ by nearly 1e-5.
        subject.agree(subject.monitor.score(x), subject.scores, "channels last", relative=3e-5)


@INPUTS.check()
def read_only_memory_map(subject: Subject) -> None:
    """A NumPy memory map opened for reading scores the same, and is not written to."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inputs.npy"
        np.save(path, subject.x.numpy())
        before = path.read_bytes()
        mapped = np.load(path, mmap_mode="r")
        subject.agree(subject.monitor.score(mapped), subject.scores, "a read-only memory map")
        subject.agree(
            subject.monitor.score([mapped[:9], mapped[9:]]), subject.scores, "two views of it"
        )
        del mapped
        assert path.read_bytes() == before, "the file of a read-only map was changed"


@INPUTS.check()
def inputs_are_not_changed(subject: Subject) -> None:
    """Neither the values of the inputs nor their `.grad` are touched."""
    x = subject.x.clone().requires_grad_()
    before, version = x.detach().clone(), x._version
    subject.agree(subject.monitor.score(x), subject.scores, "inputs that require a gradient")
    assert torch.equal(x.detach(), before), "the inputs were overwritten"
    assert x._version == version, "the inputs were written to"
    assert x.grad is None, "the inputs were given a gradient"


@INPUTS.check()
def nonfinite_rows(subject: Subject) -> None:
    """A row with a NaN or infinity scores +inf; the other rows score as without it."""
    x = subject.x.clone()
    bad = {1: torch.nan, 4: torch.inf, 6: -torch.inf}
    for row, value in bad.items():
        x[row].view(-1)[2] = value
    x[8] = torch.nan
    good = torch.ones(len(x), dtype=torch.bool)
    good[[*bad, 8]] = False
    scores = subject.monitor.score(x)
    assert bool((scores[~good] == torch.inf).all()), f"bad rows score {scores[~good].tolist()}"
    subject.agree(scores[good], subject.scores[good], "rows beside non-finite ones")
    assert bool((subject.monitor.score(x[8:9]) == torch.inf).all()), "a bad row alone"


@INPUTS.check()
def nonfinite_rows_first(subject: Subject) -> None:
    """Meeting bad rows in its very first batch does not change what a monitor does later."""
    if subject.learns:
        return
    x = subject.x.clone()
    x[0] = torch.nan
    monitor = subject.unfitted()
    scores = monitor.score(x)
    assert float(scores[0]) == torch.inf, f"a row of NaN scores {float(scores[0])}"
    subject.agree(scores[1:], subject.scores[1:], "rows of a first batch with NaN")
    subject.agree(monitor.score(subject.x), subject.scores, "the batch after")


@INPUTS.check(learners=True)
def nonfinite_fit_is_refused(subject: Subject) -> None:
    """A fit on NaN or infinity is a DataError that counts the rows."""
    data = subject.data()
    data[1][0][3] = torch.nan
    data[1][0][5].view(-1)[0] = torch.inf
    _expect(lambda: subject.unfitted().fit(data), "a fit on NaN", "2 of a batch of 32", "NaN")


@INPUTS.check()
def wrong_channels(subject: Subject) -> None:
    """Too many channels are a DataError that names what was given and what was expected."""
    x = torch.cat([subject.x, subject.x[:, :1]], 1)
    _refused(subject, x, "a channel too many", str(x.shape[1]), str(subject.x.shape[1]))


@INPUTS.check()
def wrong_rank(subject: Subject) -> None:
    """Missing and surplus dimensions are a DataError that names both shapes."""
    flat, deep = subject.x.flatten(1)[:, :, None].squeeze(-1), subject.x[:, None]
    shapes = [", ".join(map(str, x.shape[1:])) for x in (flat, deep, subject.x)]
    if subject.x.ndim > 2:
        _refused(subject, flat, "flattened inputs", shapes[0], _expected(subject))
    _expect(lambda: subject.monitor.score(deep), "a dimension too many", shapes[1], "expected")
    if subject.x.ndim > 2:  # a linear layer alone takes any number of dimensions
        _refused(subject, deep, "a dimension too many", shapes[1], _expected(subject))


@INPUTS.check()
def wrong_type(subject: Subject) -> None:
    """Double and integer inputs to a float32 model are a DataError that names both types."""
    for dtype in (torch.float64, torch.int64):
        x = subject.x.to(dtype)
        _refused(subject, x, f"{dtype} inputs", f"{dtype}"[6:], "float32")


@INPUTS.check()
def wrong_device(subject: Subject) -> None:
    """A tensor without data is a DataError that names the device."""
    _refused(subject, subject.x.to("meta"), "inputs on the meta device", "meta")


def _expected(subject: Subject) -> str:
    return str(subject.x.shape[1])


def _refused(subject: Subject, x: Tensor, what: str, *words: str) -> None:
    """A bound monitor and a new one must both say no before anything is scored."""
    _expect(lambda: subject.monitor.score(x), what, *words)
    _expect(lambda: subject.unfitted().bind(x), f"{what}, met first", *words)


def _expect(call: Callable[[], object], what: str, *words: str) -> None:
    try:
        call()
    except DataError as error:
        missing = [word for word in words if word not in str(error)]
        assert not missing, f"{what}: the message lacks {', '.join(missing)}: {error}"
    except GradoodError as error:
        raise AssertionError(f"{what}: {type(error).__name__}, not DataError: {error}") from error
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}, not typed: {error}") from error
    else:
        raise AssertionError(f"{what} was accepted")
