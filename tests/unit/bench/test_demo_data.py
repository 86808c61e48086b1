import importlib

import pytest
import torch

from gradood.bench._demo import CLASSES, accuracy, load_digits, one_thread, train
from gradood.errors import ConfigError


@pytest.fixture(scope="module")
def digits():
    return load_digits()


def test_known_near_and_far_in_one_range(digits):
    assert digits.train_x.shape == (1000, 1, 8, 8)
    assert digits.test_x.shape == (443, 1, 8, 8)
    assert digits.ood["near"].shape == (354, 1, 8, 8)
    assert digits.ood["far"].shape == (520, 1, 8, 8)
    for x in (digits.train_x, digits.test_x, *digits.ood.values()):
        assert x.dtype == torch.float32
        assert 0 <= float(x.min()) < float(x.max()) <= 1
        assert torch.equal((x * 16).round(), x * 16)  # no telltale in the levels of gray
    assert set(digits.train_y.tolist()) == set(digits.test_y.tolist()) == set(range(CLASSES))


def test_no_image_is_in_two_sets(digits):
    parts = [digits.train_x, digits.test_x, digits.ood["near"]]
    rows = torch.cat([part.flatten(1) for part in parts])
    every = {tuple(row) for row in rows.tolist()}
    kept = [{tuple(row) for row in part.flatten(1).tolist()} for part in parts]
    assert len(every) == sum(map(len, kept))


def test_the_split_follows_the_seed(digits):
    again, other = load_digits(seed=0), load_digits(seed=1)
    assert torch.equal(digits.test_x, again.test_x)
    assert not torch.equal(digits.test_x, other.test_x)
    assert torch.equal(digits.ood["near"], other.ood["near"])


def test_training_is_deterministic_learns_and_leaves_the_random_state_alone(digits):
    state = torch.get_rng_state()
    with one_thread():
        first, second = (train(digits, epochs=3, seed=3) for _ in range(2))
    assert torch.equal(state, torch.get_rng_state())
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert accuracy(first, digits.test_x, digits.test_y) > 0.8
    assert not first.training
    assert all(parameter.grad is None for parameter in first.parameters())


def test_no_epoch_is_refused(digits):
    with pytest.raises(ConfigError, match="epochs is 0; expected at least 1"):
        train(digits, epochs=0)


def test_one_thread_gives_the_others_back():
    before = torch.get_num_threads()
    with pytest.raises(RuntimeError), one_thread():
        assert torch.get_num_threads() == 1
        raise RuntimeError
    assert torch.get_num_threads() == before


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    real = importlib.import_module

    def absent(name, *args):
        if name.startswith("sklearn"):
            raise ModuleNotFoundError(name, name="sklearn")
        return real(name, *args)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'gradood\[demo\]'"):
        load_digits()
