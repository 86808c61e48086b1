"""What one forward says of a network: which ReLU decides, stages, the last map, mixing."""

import gc
import weakref

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gradood.detectors import GAIAZ
from gradood.errors import DataError, TapError
from gradood.taps import Site, is_norm, observe


class Block(nn.Module):
    """conv, norm, then `after`(norm's output)."""

    def __init__(self, after, norm=None):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = norm or nn.BatchNorm2d(6)
        self.after = after
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        x = self.after(self.norm(self.conv(x)))
        return self.fc(x.mean((2, 3)))


class Apply(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


X = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(3))


def positive(model, name="norm"):
    return observe(model.eval(), X).layers[name].positive


@pytest.mark.parametrize(
    "after",
    [
        nn.ReLU(),
        nn.ReLU(inplace=True),
        Apply(F.relu),
        Apply(lambda x: F.relu(x, inplace=True)),
        Apply(lambda x: x.clamp_min(0) if False else torch.relu(x.clone())),
        Apply(lambda x: F.threshold(x, 0, 0)),
        nn.Sequential(nn.Dropout(0.5), nn.ReLU()),
    ],
    ids=["module", "in place", "functional", "functional in place", "clone", "threshold", "drop"],
)
def test_a_relu_after_a_norm_is_read_at_the_norm(after):
    assert positive(Block(after)) == Site("norm")


@pytest.mark.parametrize(
    "after",
    [
        nn.GELU(),
        nn.SiLU(),
        nn.Identity(),
        Apply(lambda x: torch.relu(x) + x),
        Apply(lambda x: torch.relu(-x)),
        Apply(lambda x: F.hardtanh(x, 0.0, 1.0)),
        Apply(lambda x: torch.relu(F.avg_pool2d(x, 2))),
    ],
    ids=["gelu", "silu", "none", "also elsewhere", "negated", "clipped", "pooled first"],
)
def test_without_a_relu_alone_nothing_decides(after):
    assert positive(Block(after)) is None


def test_a_max_pooling_module_after_the_relu_is_the_place():
    model = Block(nn.Sequential(nn.ReLU(inplace=True), nn.MaxPool2d(2)))
    assert positive(model) == Site("after.1", "input")


class PostActivation(nn.Module):
    """Two norms of a block feed one residual sum; the ReLU module is shared."""

    def __init__(self, functional):
        super().__init__()
        self.functional = functional
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(6)
        self.short = nn.Sequential(nn.Conv2d(3, 6, 1), nn.BatchNorm2d(6))
        self.relu = nn.ReLU(inplace=not functional)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        residual = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        total = residual + self.short(x)
        out = F.relu(total) if self.functional else self.relu(total)
        return self.fc(self.pool(out).flatten(1))


def test_a_residual_sum_is_read_after_its_relu():
    layers = observe(PostActivation(functional=False).eval(), X).layers
    assert layers["bn1"].positive == Site("bn1")
    assert layers["bn2"].positive == layers["short.1"].positive == Site("relu", "output", 1)
    assert layers["relu"].calls == 2


def test_a_functional_relu_after_the_sum_is_read_where_it_is_visible():
    layers = observe(PostActivation(functional=True).eval(), X).layers
    assert layers["bn2"].positive == layers["short.1"].positive == Site("pool", "input")


class NormAct(nn.BatchNorm2d):
    """As timm's BatchNormAct2d: the activation is a child of the norm."""

    def __init__(self, width, inplace):
        super().__init__(width)
        self.drop = nn.Identity()
        self.act = nn.ReLU(inplace=inplace)

    def forward(self, x):
        return self.act(self.drop(super().forward(x)))


@pytest.mark.parametrize("inplace", [False, True])
def test_a_norm_with_an_inner_activation_is_read_before_it(inplace):
    network = observe(Block(nn.Identity(), NormAct(6, inplace)).eval(), X)
    layer = network.layers["norm"]
    assert layer.norm
    assert layer.output == Site("norm.drop", "input")
    assert layer.positive == Site("norm.drop", "input")
    assert [k.name for k in network.norms] == ["norm"]


def test_the_map_before_a_pooling_module_is_the_last_map():
    model = Block(nn.Sequential(nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1)))
    last = observe(model.eval(), X).last_map
    assert last.site in (Site("after.0"), Site("norm"))
    assert last.positions == 64


def test_the_map_before_functional_pooling_is_the_last_map():
    model = Block(nn.ReLU(inplace=True))
    last = observe(model.eval(), X).last_map
    assert last.site in (Site("after"), Site("norm"))
    assert last.positions == 64


def test_the_map_before_a_functional_relu_is_found_by_its_positive_part():
    last = observe(Block(Apply(F.relu), nn.Identity()).eval(), X).last_map
    assert last is not None and last.positions == 64


def test_features_that_are_no_mean_have_no_last_map():
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 2, 3), nn.Linear(72, 4)

        def forward(self, x):
            return self.fc(torch.relu(self.conv(x)).flatten(1))

    network = observe(Flat().eval(), X)
    assert network.last_map is None
    assert [layer.name for layer in network.hook_layers] == ["conv"]
    assert network.norms == ()


def test_stages_and_concatenation():
    class Dense(nn.Module):
        def __init__(self, width):
            super().__init__()
            self.norm = nn.BatchNorm2d(width)
            self.conv = nn.Conv2d(width, 2, 3, padding=1)

        def forward(self, x):
            return torch.cat([x, self.conv(F.relu(self.norm(x)))], 1)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stage1 = nn.Sequential(Dense(3), Dense(5))
            self.stage2 = nn.Sequential(Dense(7), Dense(9))
            self.norm = nn.BatchNorm2d(11)
            self.fc = nn.Linear(11, 4)

        def forward(self, x):
            return self.fc(F.relu(self.norm(self.stage2(self.stage1(x)))).mean((2, 3)))

    network = observe(Net().eval(), X)
    assert [stage.container for stage in network.stages] == ["stage1", "stage2"]
    assert network.concatenates
    assert not network.attends
    assert observe(PostActivation(False).eval(), X).concatenates is False


def test_batch_statistics_are_refused_by_name():
    model = Block(nn.ReLU(), nn.BatchNorm2d(6, track_running_stats=False))
    with pytest.raises(TapError, match="BatchNorm without running statistics: norm"):
        observe(model.eval(), X)


def test_any_mixing_of_samples_is_refused():
    model = Block(Apply(lambda x: x - x.mean(0, keepdim=True)))
    with pytest.raises(TapError, match="other logits alone than in a batch"):
        observe(model.eval(), X)


@pytest.mark.filterwarnings("ignore:std")
def test_mixing_that_leaves_nan_of_a_sample_alone_is_refused():
    model = Block(Apply(lambda x: x / x.std(0, keepdim=True)))
    with pytest.raises(TapError, match="other logits alone than in a batch"):
        observe(model.eval(), X)
    model = Block(nn.ReLU())
    with torch.no_grad():
        next(p for p in reversed(list(model.parameters())) if p.ndim == 1)[0] = float("nan")
    observe(model.eval(), X)  # Its own, alone as in a batch.


@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_a_layer_without_a_shape_is_refused_by_name():
    with pytest.raises(TapError, match=r"2 tensors .* such as '1.weight' of a lazy layer"):
        observe(nn.Sequential(nn.Flatten(), nn.LazyLinear(4)), X)


def test_rows_that_do_not_match_are_refused():
    class Halved(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(192, 4)

        def forward(self, x):
            return self.fc(x.flatten(1)).repeat_interleave(2, 0)

    with pytest.raises(TapError, match="4 rows of logits for 2 inputs"):
        observe(Halved(), X)


def test_one_input_is_enough_and_a_frozen_model_is_read_alike():
    model = PostActivation(False).eval()
    alone = observe(model, X[:1])
    frozen = observe(model.requires_grad_(False), X)
    assert alone.layers == frozen.layers == observe(model.requires_grad_(), X).layers
    assert alone.last_map == frozen.last_map


def test_layer_lookup_says_what_is_wrong():
    model = PostActivation(False).eval()
    model.spare = nn.Linear(2, 2)
    network = observe(model, X)
    assert network.layer("bn1").shape == (6, 8, 8)
    with pytest.raises(TapError, match="no layer 'bn3'; did you mean"):
        network.layer("bn3")
    with pytest.raises(TapError, match="'spare' exists but did not run"):
        network.layer("spare")
    with pytest.raises(TapError, match="'relu' runs 2 times"):
        network.layer("relu")


def test_replay_from_an_early_layer_gives_the_features():
    model = Block(nn.ReLU(inplace=True)).eval()
    network = observe(model, X)
    with torch.no_grad():
        early = model.norm(model.conv(X))
        expected = torch.relu(early).mean((2, 3))
    torch.testing.assert_close(network.replay(Site("norm"), early.clone()), expected)


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.BatchNorm1d(2), True),
        (nn.InstanceNorm2d(2), True),
        (nn.GroupNorm(1, 2), True),
        (nn.LayerNorm(2), True),
        (type("LlamaRMSNorm", (nn.Module,), {})(), True),
        (nn.Sequential(nn.BatchNorm1d(2)), False),
        (nn.ReLU(), False),
    ],
)
def test_is_norm(module, expected):
    assert is_norm(module) is expected


class Normalizing(nn.Module):
    """Changes the tensor it is given, as `x -= mean` does."""

    def __init__(self):
        super().__init__()
        self.inner = Block(nn.ReLU())

    def forward(self, x):
        x -= 0.5
        return self.inner(x)


def test_a_model_that_changes_its_input_is_noticed():
    before = X.clone()
    assert observe(Normalizing().eval(), X).overwrites
    assert torch.equal(X, before)
    assert not observe(Block(nn.ReLU(inplace=True)).eval(), X).overwrites


def test_what_autograd_refuses_is_observed_without_its_graph():
    model = Block(nn.ReLU(inplace=True)).eval()
    handle = model.norm.register_full_backward_hook(lambda *_: None)
    network = observe(model, X)
    assert network.head.layer == "fc" and network.layers["norm"].positive is None
    assert "BackwardHookFunction" in network.opaque
    with pytest.raises(TapError, match="gaia-z reads gradients, and autograd cannot follow this"):
        GAIAZ().plan(network, X)
    handle.remove()
    assert observe(model, X).opaque is None
    with torch.inference_mode():
        loaded = Block(nn.ReLU()).eval()
    network = observe(loaded, X)
    assert network.head.layer == "fc" and "nference tensor" in network.opaque


def test_errors_of_the_model_are_told_with_the_input():
    model = Block(Apply(lambda x: x.view(-1, 999)))
    said = r"the model raised RuntimeError on the input \(batch, .*invalid for input of size"
    with pytest.raises(DataError, match=said) as caught:
        observe(model.eval(), X)
    assert type(caught.value.__cause__) is RuntimeError


@pytest.mark.parametrize("raising", [KeyboardInterrupt, RuntimeError, ValueError])
def test_no_hook_survives_an_interrupted_observation(raising, monkeypatch):
    model = Block(nn.ReLU()).eval()
    register = nn.Module.register_forward_pre_hook
    count = []

    def interrupted(self, *args, **kwargs):
        count.append(1)
        if len(count) == 3:
            raise raising
        return register(self, *args, **kwargs)

    monkeypatch.setattr(nn.Module, "register_forward_pre_hook", interrupted)
    if raising is RuntimeError:  # taken for autograd's, and tried again without
        observe(model, X)
    else:
        with pytest.raises(raising):
            observe(model, X)
    for module in model.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks


def test_a_network_without_a_head_keeps_nothing_of_the_forward():
    kept = []

    class Probabilities(Block):
        def forward(self, x):
            p = super().forward(x).softmax(1)
            kept.append(weakref.ref(p))
            return p

    network = observe(Probabilities(nn.ReLU()).eval(), X)
    gc.collect()
    assert not network.head_found
    assert len(kept) == 2 and all(ref() is None for ref in kept)
    errors = []
    for _ in range(2):
        with pytest.raises(TapError) as caught:
            _ = network.head
        errors.append(caught.value)
    assert errors[0] is not errors[1]


def test_maps_of_one_dimension_have_their_channels_second_and_tokens_last():
    signal = nn.Sequential(
        nn.Conv1d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()
    )
    x = torch.randn(2, 3, 11)
    network = observe(nn.Sequential(signal, nn.Linear(6, 4)).eval(), x)
    assert network.layers["0.0"].channels == network.layers["0.1"].channels == 1
    assert network.last_map.positions == 11

    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch, self.norm = nn.Conv1d(3, 6, 2, stride=2), nn.LayerNorm(6)
            self.act, self.fc = nn.ReLU(), nn.Linear(6, 4)

        def forward(self, x):
            return self.fc(self.act(self.norm(self.patch(x).transpose(1, 2))).mean(1))

    layers = observe(Tokens().eval(), x).layers
    assert (layers["patch"].channels, layers["norm"].channels, layers["act"].channels) == (1, 2, 2)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_last_map_is_the_same_in_any_precision(dtype):
    model = Block(nn.Sequential(nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1))).eval()
    expected = observe(model, X).last_map
    assert observe(model.to(dtype), X.to(dtype)).last_map == expected
    assert expected.positions == 64
