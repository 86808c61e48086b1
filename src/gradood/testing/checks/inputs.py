"""Checks of how inputs may lie in memory, and of inputs that cannot be scored."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gradood.errors import DataError, GradoodError
from gradood.testing.case import Case
from gradood.testing.checks.check import Collection

__all__ = ["INPUTS"]

INPUTS = Collection()


@INPUTS.check()
def non_contiguous(case: Case) -> None:
    """Strides do not matter: transposed storage, every second row, one row expanded."""
    x = case.x
    transposed = x.transpose(0, -1).contiguous().transpose(0, -1)
    case.agree(case.monitor.score(transposed), case.scores, "transposed storage")
    spaced = torch.stack([x, -x], 1)[:, 0]
    case.agree(case.monitor.score(spaced), case.scores, "every second row of a tensor")
    expanded = x[:1].expand(4, *x.shape[1:])
    case.agree(case.monitor.score(expanded), case.scores[:1].expand(4), "one row, expanded")


@INPUTS.check()
def channels_last(case: Case) -> None:
    """Images stored with their channels last score the same."""
    if case.x.ndim == 4:
        x = case.x.to(memory_format=torch.channels_last)
        # Other algorithms of the convolutions: the logits themselves differ by nearly 1e-5.
        case.agree(case.monitor.score(x), case.scores, "channels last", relative=3e-5)


@INPUTS.check()
def read_only_memory_map(case: Case) -> None:
    """A NumPy memory map opened for reading scores the same, and is not written to."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inputs.npy"
        np.save(path, case.x.numpy())
        before = path.read_bytes()
        mapped = np.load(path, mmap_mode="r")
        case.agree(case.monitor.score(mapped), case.scores, "a read-only memory map")
        case.agree(case.monitor.score([mapped[:9], mapped[9:]]), case.scores, "two views of it")
        del mapped
        assert path.read_bytes() == before, "the file of a read-only map was changed"


@INPUTS.check()
def inputs_are_not_changed(case: Case) -> None:
    """Neither the values of the inputs nor their `.grad` are touched."""
    x = case.x.clone().requires_grad_()
    before, version = x.detach().clone(), x._version
    case.agree(case.monitor.score(x), case.scores, "inputs that require a gradient")
    assert torch.equal(x.detach(), before), "the inputs were overwritten"
    assert x._version == version, "the inputs were written to"
    assert x.grad is None, "the inputs were given a gradient"


@INPUTS.check()
def nonfinite_rows(case: Case) -> None:
    """A row with a NaN or infinity scores +inf; the other rows score as without it."""
    x = case.x.clone()
    bad = {1: torch.nan, 4: torch.inf, 6: -torch.inf}
    for row, value in bad.items():
        x[row].view(-1)[2] = value
    x[8] = torch.nan
    good = torch.ones(len(x), dtype=torch.bool)
    good[[*bad, 8]] = False
    scores = case.monitor.score(x)
    assert bool((scores[~good] == torch.inf).all()), f"bad rows score {scores[~good].tolist()}"
    case.agree(scores[good], case.scores[good], "rows beside non-finite ones")
    assert bool((case.monitor.score(x[8:9]) == torch.inf).all()), "a bad row alone"


@INPUTS.check()
def nonfinite_rows_first(case: Case) -> None:
    """Meeting bad rows in its very first batch does not change what a monitor does later."""
    if case.learns:
        return
    x = case.x.clone()
    x[0] = torch.nan
    monitor = case.unfitted()
    scores = monitor.score(x)
    assert float(scores[0]) == torch.inf, f"a row of NaN scores {float(scores[0])}"
    case.agree(scores[1:], case.scores[1:], "rows of a first batch with NaN")
    case.agree(monitor.score(case.x), case.scores, "the batch after")


@INPUTS.check(learners=True)
def nonfinite_fit_is_refused(case: Case) -> None:
    """A fit on NaN or infinity is a DataError that counts the rows."""
    data = case.data()
    data[1][0][3] = torch.nan
    data[1][0][5].view(-1)[0] = torch.inf
    _expect(lambda: case.unfitted().fit(data), "a fit on NaN", "2 of a batch of 32", "NaN")


@INPUTS.check()
def wrong_channels(case: Case) -> None:
    """Too many channels are a DataError that names what was given and what was expected."""
    x = torch.cat([case.x, case.x[:, :1]], 1)
    _refused(case, x, "a channel too many", str(x.shape[1]), str(case.x.shape[1]))


@INPUTS.check()
def wrong_rank(case: Case) -> None:
    """Missing and surplus dimensions are a DataError that names both shapes."""
    flat, deep = case.x.flatten(1)[:, :, None].squeeze(-1), case.x[:, None]
    shapes = [", ".join(map(str, x.shape[1:])) for x in (flat, deep, case.x)]
    if case.x.ndim > 2:
        _refused(case, flat, "flattened inputs", shapes[0], _expected(case))
    _expect(lambda: case.monitor.score(deep), "a dimension too many", shapes[1], "expected")
    if case.x.ndim > 2:  # a linear layer alone takes any number of dimensions
        _refused(case, deep, "a dimension too many", shapes[1], _expected(case))


@INPUTS.check()
def wrong_type(case: Case) -> None:
    """Double and integer inputs to a float32 model are a DataError that names both types."""
    for dtype in (torch.float64, torch.int64):
        x = case.x.to(dtype)
        _refused(case, x, f"{dtype} inputs", f"{dtype}"[6:], "float32")


@INPUTS.check()
def wrong_device(case: Case) -> None:
    """A tensor without data is a DataError that names the device."""
    _refused(case, case.x.to("meta"), "inputs on the meta device", "meta")


def _expected(case: Case) -> str:
    return str(case.x.shape[1])


def _refused(case: Case, x: Tensor, what: str, *words: str) -> None:
    """A bound monitor and a new one must both say no before anything is scored."""
    _expect(lambda: case.monitor.score(x), what, *words)
    _expect(lambda: case.unfitted().bind(x), f"{what}, met first", *words)


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
