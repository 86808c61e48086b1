"""Weights from files: what is taken, what is refused, and that a refusal changes nothing."""

import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from gradood.errors import ConfigError, DataError
from gradood.models import convnet_mnist, digits_net, load_weights


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("code of a weights file ran",))


def equal(left, right):
    left, right = left.state_dict(), right.state_dict()
    return left.keys() == right.keys() and all(torch.equal(left[n], right[n]) for n in left)


@pytest.fixture
def trained():
    model = digits_net()
    model(torch.rand(4, 1, 8, 8))  # Moves the BatchNorm statistics.
    return model


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".bin"])
def test_both_formats_whatever_the_suffix(tmp_path, trained, suffix):
    for write in (save_file, torch.save):
        path = tmp_path / f"weights{suffix}"
        write(trained.state_dict(), path)
        model = digits_net().train()
        assert load_weights(model, path) is model
        assert equal(model, trained)
        assert model.training
        assert equal(load_weights(digits_net(), str(path)), trained)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_checkpoint_of_a_training_script(tmp_path, trained, key):
    path = tmp_path / "checkpoint.pth"
    torch.save({"epoch": 3, key: trained.state_dict(), "optimizer": {"state": {}}}, path)
    assert equal(load_weights(digits_net(), path), trained)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "module.module."])
def test_prefixes_of_wrappers(tmp_path, trained, prefix):
    path = tmp_path / "wrapped.safetensors"
    save_file({f"{prefix}{n}": t for n, t in trained.state_dict().items()}, path)
    assert equal(load_weights(digits_net(), path), trained)


def test_into_a_wrapper(tmp_path, trained):
    path = tmp_path / "weights.safetensors"
    save_file(trained.state_dict(), path)
    wrapped = nn.Sequential()
    wrapped.add_module("module", digits_net())
    load_weights(wrapped, path)
    assert equal(wrapped.module, trained)


def test_num_batches_tracked_may_be_absent(tmp_path, trained):
    state = {n: t for n, t in trained.state_dict().items() if "num_batches" not in n}
    save_file(state, tmp_path / "old.safetensors")
    model = load_weights(digits_net(), tmp_path / "old.safetensors")
    assert torch.equal(model.stage1[1].running_mean, trained.stage1[1].running_mean)
    assert int(model.stage1[1].num_batches_tracked) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("head.bias"), r"1 missing in the file: head\.bias\."),
        (lambda s: s.update(extra=torch.ones(1)), r"1 unknown to the model: extra\."),
        (
            lambda s: s.update({"head.weight": torch.ones(9, 64)}),
            r"1 of another shape: head\.weight \(9, 64\), here \(10, 64\)\.",
        ),
        (
            lambda s: [s.pop(n) for n in list(s) if n.startswith("stage1")],
            r"10 missing in the file: stage1\.0\.weight, stage1\.1\.weight, stage1\.1\.bias, …\.",
        ),
    ],
)
def test_mismatch_names_the_keys_and_changes_nothing(tmp_path, trained, change, message):
    state = dict(trained.state_dict())
    change(state)
    save_file(state, tmp_path / "other.safetensors")
    model = digits_net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ConfigError, match=f"not those of DigitsNet: {message}"):
        load_weights(model, tmp_path / "other.safetensors")
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)


def test_another_network(tmp_path, trained):
    save_file(trained.state_dict(), tmp_path / "digits.safetensors")
    with pytest.raises(ConfigError, match=r"8 missing in the file: .*; 38 unknown to"):
        load_weights(convnet_mnist(), tmp_path / "digits.safetensors")


def test_absent_file_and_folder(tmp_path):
    with pytest.raises(DataError, match=r"no weights at '.*none\.pt': it is absent"):
        load_weights(digits_net(), tmp_path / "none.pt")
    with pytest.raises(DataError, match="it is a folder"):
        load_weights(digits_net(), tmp_path)


def test_code_in_a_file_does_not_run(tmp_path):
    path = tmp_path / "evil.pt"
    for write in (lambda: torch.save({"state_dict": Evil()}, path), lambda: plain_pickle(path)):
        write()
        with pytest.raises(DataError, match="damaged or holds more than tensors"):
            load_weights(digits_net(), path)


def plain_pickle(path):
    path.write_bytes(pickle.dumps(Evil(), protocol=2))


@pytest.mark.parametrize("content", [b"", b"hello", b"<html>no weights</html>", b"\0" * 100])
def test_file_that_is_something_else(tmp_path, content):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"weights\.safetensors"):
        load_weights(digits_net(), path)


@pytest.mark.parametrize("write", [save_file, torch.save])
def test_truncated_file(tmp_path, trained, write):
    path = tmp_path / "weights.bin"
    write(trained.state_dict(), path)
    whole = path.read_bytes()
    for size in (4, 9, 200, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"weights\.bin"):
            load_weights(digits_net(), path)


@pytest.mark.parametrize("held", [{"epoch": 1}, torch.ones(3), [1, 2], {}, {0: torch.ones(1)}])
def test_file_without_a_state_dict(tmp_path, held):
    torch.save(held, tmp_path / "other.pt")
    with pytest.raises(DataError, match="expected a state dict"):
        load_weights(digits_net(), tmp_path / "other.pt")


def test_a_lightning_checkpoint_is_read_without_its_prefix(tmp_path, trained):
    path = tmp_path / "epoch=3.ckpt"
    state = {f"model.{name}": tensor for name, tensor in trained.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3, "global_step": 40}, path)
    assert equal(load_weights(digits_net(), path), trained)
    deeper = {f"net.backbone.{name}": t for name, t in trained.state_dict().items()}
    torch.save(deeper, path)
    assert equal(load_weights(digits_net(), path), trained)


def test_a_prefix_beside_other_tensors_is_named(tmp_path, trained):
    path = tmp_path / "last.ckpt"
    state = {f"model.{name}": tensor for name, tensor in trained.state_dict().items()}
    torch.save({"state_dict": {**state, "loss.weight": torch.ones(3)}}, path)
    before = {name: tensor.clone() for name, tensor in digits_net().state_dict().items()}
    model = digits_net()
    model.load_state_dict(before)
    with pytest.raises(ConfigError, match=r"under the prefix 'model\.', beside others \(loss\.w"):
        load_weights(model, path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_prefix_does_not_make_another_model_fit(tmp_path, trained):
    path = tmp_path / "other.ckpt"
    state = {f"model.{name}": tensor for name, tensor in trained.state_dict().items()}
    torch.save(state, path)
    with pytest.raises(ConfigError, match="of another shape"):
        load_weights(digits_net(7), path)
    state.pop("model.head.bias")
    torch.save(state, path)
    with pytest.raises(ConfigError, match="missing in the file"):
        load_weights(digits_net(), path)
