"""Wrappers are looked through, outputs of any container are understood, the rest is refused."""

import warnings
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from gradood.errors import TapError
from gradood.taps import Site, Tap, device_of, left_as_found, logits_of, observe, unwrap


def classifier():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(64, 3)
    )


X = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(2))


def compiled(model):
    return torch.compile(model, backend="eager")


def compiled_in_place(model):
    model.compile(backend="eager")
    return model


def part_compiled(model):
    model[0] = torch.compile(model[0], backend="eager")
    return model


@pytest.mark.parametrize("wrap", [compiled, compiled_in_place, nn.DataParallel])
def test_wrapped_models_are_read_like_bare_ones(wrap):
    model = classifier().eval()
    with torch.no_grad():
        expected = model(X)
        norm = model[1](model[0](X))
    wrapped = wrap(model)
    inner = unwrap(wrapped)
    assert inner is model
    wrapped(X)  # compiled before the first hook
    seen, gradient = [], []
    with Tap(inner) as tap:
        tap.value(Site("1"), lambda t: seen.append(t.detach().clone()))
        tap.gradient(Site("1"))
        logits = tap.run(X)
        tap.backward(logits.sum(), {Site("1"): gradient.append})
    torch.testing.assert_close(logits.detach(), expected)
    torch.testing.assert_close(seen[0], norm)
    assert len(gradient) == 1
    network = observe(wrapped, X)
    assert network.head.layer == "4" and network.layers["1"].positive == Site("1")
    torch.compiler.reset()


def test_a_compiled_part_runs_eagerly_inside():
    model = part_compiled(classifier().eval())
    network = observe(model, X)
    assert network.head.layer == "4"
    with left_as_found(model) as view:
        assert torch.is_grad_enabled() is False
        assert torch.equal(view.module(X), model(X))
    torch.compiler.reset()


@pytest.mark.parametrize("how", ["trace", "script"])
def test_a_script_module_is_refused(how):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = classifier().eval()
        scripted = torch.jit.trace(model, X) if how == "trace" else torch.jit.script(model)
    with pytest.raises(TapError, match=r"TorchScript.*give the eager nn.Module"):
        unwrap(scripted)


def test_what_is_no_module_is_refused():
    with pytest.raises(TapError, match=r"a function; expected a torch\.nn\.Module"):
        unwrap(lambda x: x)


LOGITS = torch.randn(2, 3)


@pytest.mark.parametrize(
    "output",
    [
        LOGITS,
        {"logits": LOGITS, "loss": torch.zeros(())},
        SimpleNamespace(logits=LOGITS),
        (torch.zeros(()), LOGITS),
        [LOGITS, torch.zeros(2, 5)],
        LOGITS[:, :, None, None],
    ],
    ids=["tensor", "mapping", "object", "tuple", "list", "1x1 map"],
)
def test_logits_are_found(output):
    assert torch.equal(logits_of(output), LOGITS)


@pytest.mark.parametrize(
    ("output", "given"),
    [
        (torch.zeros(2, 3, 4), r"a tensor \(2, 3, 4\)"),
        (torch.zeros(2, 3, dtype=torch.int64), "torch.int64"),
        ({"out": LOGITS}, r"keys \['out'\]"),
        ((torch.zeros(2),), "a tuple"),
        ("logits", "a str"),
        (None, "a NoneType"),
    ],
)
def test_what_holds_no_logits_is_described(output, given):
    with pytest.raises(TapError, match=given + ".*Wrap the model"):
        logits_of(output)


def test_device_of_a_model_without_parameters_is_the_cpu():
    assert device_of(nn.ReLU()) == torch.device("cpu")


def test_a_model_without_weights_has_no_device():
    empty = nn.Linear(2, 2, device="meta")
    with pytest.raises(
        TapError, match=r"on the meta device and holds no weights.*load its weights"
    ):
        device_of(empty)
    # Parts may be elsewhere, as where weights are loaded layer by layer.
    assert device_of(nn.Sequential(empty, nn.Linear(2, 2))) == torch.device("cpu")
