import copy
import io
import json
import warnings
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from gradood._io.records import decode, to_plain
from gradood.artifact import Fingerprint, differences, mismatch
from gradood.artifact.fingerprint import fingerprint
from gradood.artifact.manifest import manifest_rules
from gradood.errors import DataError, ModelMismatchError, TapError


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.bn2 = nn.BatchNorm2d(4)

    def forward(self, x):
        return x + self.bn2(torch.relu(self.bn(self.conv(x))))


class Net(nn.Module):
    def __init__(self, block: str = "block") -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.add_module(block, Block())
        self.register_buffer("scale", torch.ones(1))
        self.register_buffer("hidden", torch.arange(3.0), persistent=False)
        self.fc = nn.Linear(4, 5)
        self._block = block

    def forward(self, x):
        return self.fc(getattr(self, self._block)(self.stem(x)).mean((2, 3)) * self.scale)


@pytest.fixture
def model() -> nn.Module:
    net = Net().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return net


def found(model: nn.Module, changed: nn.Module) -> list[str]:
    return differences(fingerprint(model), fingerprint(changed))


def next_up(tensor: torch.Tensor) -> None:
    with torch.no_grad():
        flat = tensor.view(-1)
        flat[0] = torch.nextafter(flat[0], torch.tensor(torch.inf))


def swap(a: torch.Tensor, b: torch.Tensor) -> None:
    with torch.no_grad():
        kept = a.clone()
        a.copy_(b)
        b.copy_(kept)


# -- wrong models ---------------------------------------------------------------------------------


def ulp(net):
    next_up(net.block.conv.weight)


def statistics(net):
    swap(net.block.bn.running_mean, net.block.bn2.running_mean)


def classes(net):
    with torch.no_grad():
        order = torch.tensor([1, 0, 2, 3, 4])
        net.fc.weight.copy_(net.fc.weight[order])
        net.fc.bias.copy_(net.fc.bias[order])


def epsilon(net):
    net.block.bn.eps = 1e-3


def stride(net):
    net.stem.stride = (2, 2)


def buffer(net):
    net.scale.fill_(2)


def hidden_buffer(net):
    net.hidden[1] = 7


def head_type(net):
    net.fc.double()


def other_activation(net):
    net.fc = nn.Sequential(OrderedDict(fc=net.fc, relu=nn.ReLU()))


def rounded(net):
    with torch.no_grad():
        for parameter in net.parameters():
            step = parameter.abs().max() / 127
            parameter.copy_((parameter / step).round() * step)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (ulp, "block.conv.weight differs"),
        (statistics, "block.bn.running_mean differs"),
        (classes, "fc.weight differs"),
        (epsilon, "block.bn has eps=0.001; expected 1e-05"),
        (stride, "stem has stride=[2, 2]; expected [1, 1]"),
        (buffer, "scale differs"),
        (hidden_buffer, "hidden differs"),
        (head_type, "fc.weight is float64[5,4]; expected float32[5,4]"),
        (other_activation, "fc is a Sequential; expected a Linear"),
        (rounded, "block.conv.weight differs"),
    ],
)
def test_another_model_is_told_from_this_one(model, change, line):
    changed = copy.deepcopy(model)
    change(changed)
    assert line in found(model, changed)
    expected, other = fingerprint(model), fingerprint(changed)
    assert (expected.digest == other.digest) == (change in (epsilon, stride))


def test_only_what_differs_is_named(model):
    changed = copy.deepcopy(model)
    ulp(changed)
    statistics(changed)
    assert found(model, changed) == [
        "block.bn.running_mean differs",
        "block.bn2.running_mean differs",
        "block.conv.weight differs",
    ]


def test_a_renamed_layer(model):
    renamed = Net("layer").eval()
    renamed.layer.load_state_dict(model.block.state_dict())
    lines = found(model, renamed)
    assert "module 'block' is missing" in lines and "module 'layer' is unexpected" in lines


def test_another_architecture(model):
    lines = found(model, nn.Sequential(nn.Flatten(), nn.Linear(27, 5)))
    assert lines[0].startswith("module") and len(lines) <= 12
    assert any("more differences of tensors" in line for line in lines)


def test_a_quantized_model(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of torch, that this way to quantize is going away.
        quantize = torch.ao.quantization.quantize_dynamic
        try:
            quantized = quantize(copy.deepcopy(model), {nn.Linear}, dtype=torch.qint8)
        except RuntimeError as error:
            pytest.skip(f"this torch cannot quantize here: {error}")
        lines = found(model, quantized)
        assert any(line.startswith("fc is a torch.ao.nn.quantized.dynamic") for line in lines)
        assert any("'fc._packed_params" in line for line in lines)
        again = quantize(copy.deepcopy(model), {nn.Linear}, dtype=torch.qint8)
        assert found(quantized, again) == []
        with torch.no_grad():
            model.fc.weight[0, 0] += 1
        other = quantize(copy.deepcopy(model), {nn.Linear}, dtype=torch.qint8)
        assert any("_packed_params" in line for line in found(quantized, other))


def test_half_precision(model):
    lines = found(model, copy.deepcopy(model).to(torch.bfloat16))
    assert "block.bn.bias is bfloat16[4]; expected float32[4]" in lines


def test_a_wrapper_that_normalizes_is_seen_only_where_its_numbers_are_tensors(model):
    class Normalized(nn.Module):
        def __init__(self, mean: float, inner: nn.Module) -> None:
            super().__init__()
            self.mean, self.inner = mean, inner
            self.register_buffer("std", torch.tensor([2.0]), persistent=False)

    first, other = Normalized(0.5, model), Normalized(0.4, model)
    assert found(first, other) == []  # Left to the canary, see test_artifact_canary.
    other.std.fill_(3)
    assert found(first, other) == ["std differs"]


# -- the same model -------------------------------------------------------------------------------


def compiled(net):
    return torch.compile(net)


def compiled_inside(net):
    net.block = torch.compile(net.block)
    return net


def compiled_in_place(net):
    net.compile()
    return net


def data_parallel(net):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.DataParallel(net)


def wrapped_inside(net):
    net.block = data_parallel(net.block)
    return data_parallel(torch.compile(net))


def written_and_read(net):
    state = load(save({k: v.contiguous() for k, v in net.state_dict().items()}))
    other = Net().eval()
    other.load_state_dict(state)
    return other


def pickled(net):
    file = io.BytesIO()
    torch.save(net.state_dict(), file)
    file.seek(0)
    other = Net().eval()
    other.load_state_dict(torch.load(file, weights_only=True), assign=True)
    return other


def frozen(net):
    return net.requires_grad_(False)


def flat(net):
    """All parameters as views of one buffer, as optimizers of large models lay them out."""
    whole = nn.utils.parameters_to_vector(net.parameters()).detach().clone()
    place = 0
    for parameter in net.parameters():
        parameter.data = whole[place : place + parameter.numel()].view(parameter.shape)
        place += parameter.numel()
    return net


def strided(net):
    for parameter in net.parameters():
        wide = torch.zeros(*parameter.shape, 2)
        wide[..., 0] = parameter.detach()
        parameter.data = wide[..., 0]
    return net


def channels_last(net):
    return net.to(memory_format=torch.channels_last)


def training(net):
    net.train()
    net.block.bn.momentum = 0.3
    return net


def counted(net):
    net.block.bn.num_batches_tracked += 5
    return net


def hooked(net):
    net.fc.register_forward_hook(lambda *_: None)
    return net


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # Of torch.compile's import.
@pytest.mark.parametrize(
    "change",
    [
        *(compiled, compiled_inside, compiled_in_place, data_parallel, wrapped_inside),
        *(written_and_read, pickled, frozen, flat, strided, channels_last),
        *(training, counted, hooked, copy.deepcopy),
    ],
)
def test_the_same_model_is_the_same(model, change):
    expected = fingerprint(model)
    changed = change(copy.deepcopy(model))
    if change is written_and_read or change is pickled:
        changed.hidden.copy_(model.hidden)
    assert fingerprint(changed).digest == expected.digest
    assert found(model, changed) == []


def test_distributed(model, tmp_path):
    distributed = torch.distributed
    if not distributed.is_available() or not distributed.is_gloo_available():
        pytest.skip("this torch has no gloo")
    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    try:
        wrapped = nn.parallel.DistributedDataParallel(copy.deepcopy(model))
        assert found(model, wrapped) == []
        next_up(wrapped.module.fc.weight)
        assert found(model, wrapped) == ["fc.weight differs"]
    finally:
        distributed.destroy_process_group()


@pytest.mark.gpu
def test_on_another_device(model):
    assert found(model, copy.deepcopy(model).cuda()) == []


def test_a_device_whose_memory_cannot_be_read_from_here(model):
    """Stands for a GPU where there is none: the bytes are there only after `cpu()`."""

    class Far(torch.Tensor):
        fetched = 0

        def cpu(self, *arguments, **options):
            Far.fetched += 1
            return self.as_subclass(torch.Tensor)

        def numpy(self, *arguments, **options):
            raise TypeError("can't convert far tensors to numpy; use cpu()")

    far = copy.deepcopy(model)
    for module in far.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = parameter.detach().as_subclass(Far)
    assert found(model, far) == []
    assert Far.fetched == len(list(model.parameters()))


# -- the fingerprint itself -----------------------------------------------------------------------


def test_nothing_is_changed(model):
    model.train()
    model.block.eval()
    state = {name: (id(t), t._version, t.grad) for name, t in model.state_dict().items()}
    flags = [(m.training, len(m._forward_hooks)) for m in model.modules()]
    fingerprint(model)
    assert [(m.training, len(m._forward_hooks)) for m in model.modules()] == flags
    after = {name: (t._version, t.grad) for name, t in model.state_dict().items()}
    assert after == {name: value[1:] for name, value in state.items()}


def test_it_is_plain_json(model):
    made = fingerprint(model)
    plain = json.loads(json.dumps(to_plain(made), allow_nan=False))
    assert decode(Fingerprint, plain, "fingerprint", manifest_rules(1, 0)) == made
    assert made.tensors["fc.weight"].startswith("float32[5,4] ")
    assert made.modules["stem"]["kernel_size"] == [3, 3] and made.modules[""] == {"class": "Net"}
    assert "block.bn.num_batches_tracked" not in made.tensors


def test_settings_that_only_one_torch_has_are_not_compared(model):
    old, new = fingerprint(model), fingerprint(model)
    new.modules["fc"]["brand_new_setting"] = True
    assert differences(old, new) == differences(new, old) == []


BUFFERS = {
    "sparse": lambda: torch.randn(3, 3).to_sparse(),
    "csr": lambda: torch.eye(3).to_sparse_csr(),
    "conjugate": lambda: torch.randn(3, dtype=torch.complex64).conj(),
    "bool": lambda: torch.tensor(True),
    "empty": lambda: torch.zeros(0, 2),
    "float8": lambda: torch.zeros(2, dtype=torch.float8_e5m2),
    "quantized": lambda: torch.quantize_per_tensor(torch.randn(4), 0.1, 0, torch.qint8),
    "by channel": lambda: torch.quantize_per_channel(
        torch.randn(2, 2), torch.tensor([0.1, 0.2]), torch.tensor([0, 0]), 0, torch.qint8
    ),
}


@pytest.mark.parametrize("kind", BUFFERS)
@pytest.mark.filterwarnings("ignore:Sparse CSR")
@pytest.mark.filterwarnings("ignore:torch.quantize_per")
def test_buffers_of_any_kind(kind):
    tensor = BUFFERS[kind]()

    def holding(value):
        module = nn.Module()
        module.register_buffer("it", value)
        return module

    assert found(holding(tensor), holding(tensor.clone())) == []
    assert found(holding(tensor), holding(torch.ones(7))) != []


def test_extra_state_counts():
    class Stateful(nn.Module):
        def __init__(self, value) -> None:
            super().__init__()
            self.value = value

        def get_extra_state(self):
            return {"value": self.value, "more": (1, b"x", io.BytesIO(b"y"), object)}

        def set_extra_state(self, state):
            self.value = state["value"]

    assert found(Stateful(1), Stateful(1)) == []
    assert found(Stateful(1), Stateful(2)) == ["_extra_state differs"]
    assert found(Stateful(torch.ones(2)), Stateful(torch.zeros(2))) == ["_extra_state differs"]


def test_shared_and_repeated_modules():
    shared = nn.Linear(3, 3)
    tied = nn.Sequential(shared, nn.ReLU(), shared)
    untied = nn.Sequential(shared, nn.ReLU(), copy.deepcopy(shared))
    assert found(tied, untied) == []  # They compute the same.
    next_up(untied[2].weight)
    assert found(tied, untied) == ["2.weight differs"]


def test_a_module_that_holds_itself_ends():
    a, b = nn.Sequential(nn.Linear(2, 2)), nn.Sequential()
    a.append(b)
    b.append(a)
    assert "0.weight" in fingerprint(a).tensors


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_inside_is_hashed_as_it_is(model):
    model.fc = torch.jit.script(model.fc)
    other = copy.deepcopy(model)
    assert found(model, other) == []
    next_up(other.fc.weight)
    assert found(model, other) == ["fc.weight differs"]


def test_what_has_no_fingerprint():
    with pytest.raises(DataError, match=r"(weight|bias) holds no data yet"):
        fingerprint(nn.Linear(2, 2, device="meta"))
    with pytest.raises(DataError, match=r"(weight|bias) holds no data yet"):
        fingerprint(nn.LazyLinear(2))
    with pytest.raises(TapError, match=r"expected a torch.nn.Module"):
        fingerprint("resnet")


def test_the_error_says_what_differs_and_how_to_go_on(model):
    changed = copy.deepcopy(model)
    ulp(changed)
    error = mismatch(found(model, changed), "'detector.safetensors'")
    assert isinstance(error, ModelMismatchError)
    said = str(error)
    assert "'detector.safetensors' belongs to another model" in said
    assert "block.conv.weight differs" in said
    assert "fit and calibrate again" in said and "override='the reason'" in said
