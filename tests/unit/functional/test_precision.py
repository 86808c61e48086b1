"""Products are exact inside, and the user's own setting is back afterwards."""

import threading

import pytest
import torch

from gradood.functional import line, neighbors
from gradood.functional.neighbors import Bank, kth_distance, polar
from gradood.functional.precision import full_products


@pytest.fixture(autouse=True)
def restored():
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("allowed", ["highest", "high", "medium"])
def test_the_setting_is_raised_and_restored(allowed):
    torch.set_float32_matmul_precision(allowed)
    with pytest.raises(KeyboardInterrupt), full_products():
        assert torch.get_float32_matmul_precision() == "highest"
        assert not torch.backends.cuda.matmul.allow_tf32
        raise KeyboardInterrupt
    assert torch.get_float32_matmul_precision() == allowed


@pytest.mark.skipif(
    not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="torch before 2.9"
)
def test_the_newer_switches_are_raised_and_restored():
    switches = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
    before = [switch.fp32_precision for switch in switches]
    try:
        switches[0].fp32_precision = "tf32"
        with full_products():
            assert [switch.fp32_precision for switch in switches] == ["ieee", "ieee"]
        assert switches[0].fp32_precision == "tf32"
        assert switches[1].fp32_precision == before[1]
    finally:
        for switch, precision in zip(switches, before, strict=True):
            switch.fp32_precision = precision


def watched(monkeypatch, module):
    """The settings under which matrices of float32 are multiplied."""
    seen = []

    def noted(product):
        def multiply(*factors):
            seen.append(torch.get_float32_matmul_precision())
            return product(*factors)

        return multiply

    monkeypatch.setattr(torch.Tensor, "__matmul__", noted(torch.Tensor.__matmul__))
    monkeypatch.setattr(torch, "addmm", noted(torch.addmm))
    return seen


def test_the_search_and_the_pruned_logits_ask_for_it(monkeypatch):
    torch.set_float32_matmul_precision("medium")
    seen = watched(monkeypatch, neighbors)
    kth_distance(polar(torch.randn(4, 3)), Bank.of(polar(torch.randn(9, 3))), 2)
    assert seen and set(seen) == {"highest"}
    seen.clear()
    weight = torch.randn(3, 5)
    low = torch.full_like(weight, -torch.inf)
    line.pruned_logits(torch.randn(4, 5), weight, None, low, torch.tensor([0, 1, 1, 2]))
    assert seen and set(seen) == {"highest"}


def test_the_switch_returns_when_the_last_of_several_threads_has_finished():
    before = torch.get_float32_matmul_precision()
    inside, leave, seen = threading.Barrier(2, timeout=10), threading.Event(), []

    def searching():
        with full_products():
            inside.wait()
            leave.wait(10)
            seen.append(torch.get_float32_matmul_precision())

    try:
        torch.set_float32_matmul_precision("high")
        thread = threading.Thread(target=searching)
        with full_products():
            thread.start()
            inside.wait()
        assert torch.get_float32_matmul_precision() == "highest", "another thread still searches"
        leave.set()
        thread.join()
        assert seen == ["highest"] and torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
