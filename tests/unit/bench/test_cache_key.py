"""Models, settings and code that the cache must tell apart, and what it cannot tell."""

import sys
import threading
import types
from dataclasses import dataclass
from enum import Enum
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from gradood import Energy
from gradood._io.cache import Cache
from gradood._io.content import NoContentError, content_digest
from gradood.bench._cache_key import detector_key, model_key, model_version, numerics
from gradood.detectors.base import Plan
from gradood.errors import GradoodWarning

SCALE = 1.0
X = torch.rand(4, 3, 8, 8)


@dataclass
class Config:
    scale: float


class Mode(Enum):
    ONE = 1
    TWO = 2


class Plain:
    def __init__(self, scale):
        self.scale = scale

    def __call__(self, x):
        return x * self.scale


class Slotted:
    __slots__ = ("scale",)

    def __init__(self, scale):
        self.scale = scale


class Net(nn.Module):
    """A linear classifier that holds something that no fingerprint sees."""

    def __init__(self, held):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(192, 3)
        self.held = held

    def forward(self, x):
        return self.head(x.flatten(1))


class Looking(Net):
    """Scales by what it looks up in another module."""

    def forward(self, x):
        return self.head(x.flatten(1) * sys.modules["scales_of_tests"].scale)


class Drawing(Net):
    def forward(self, x):
        return self.head(x.flatten(1)) + torch.rand(3)


class Picky(Net):
    def forward(self, x):
        if float(x.detach().min()) < self.held:
            raise KeyError("too dark")
        return self.head(x.flatten(1))


def closure(k):
    return lambda x: x * k


def default(k):
    def scaled(x, by=k):
        return x * by

    return scaled


def made_class(k):
    class Inner(nn.Module):
        def forward(self, x):
            return x * k

    return Inner()


def named(k):
    """A function whose code is the same, and whose global is not."""
    return types.FunctionType((lambda x: x * SCALE).__code__, {"SCALE": k})


@pytest.mark.parametrize(
    "make",
    [
        lambda k: SimpleNamespace(scale=k),
        lambda k: {"a": [SimpleNamespace(scale=(k,))]},
        Config,
        Plain,
        Slotted,
        closure,
        default,
        named,
        made_class,
        lambda k: [made_class(k)],
        lambda k: Plain(k).__call__,
        lambda k: partial(closure(k)),
        lambda k: Mode(int(k)),
        lambda k: {Mode(int(k))},
        lambda k: [nn.LeakyReLU(k)],
        lambda k: torch.tensor([k]).to_sparse(),
        lambda k: torch.Generator().manual_seed(int(k)).get_state(),
        lambda k: types.MappingProxyType({"k": k}),
        lambda k: property(closure(k)),
    ],
)
def test_what_a_model_holds_counts_by_content(make):
    assert model_version(Net(make(1.0))) == model_version(Net(make(1.0)))
    assert model_version(Net(make(1.0))) != model_version(Net(make(2.0)))


def test_two_activations_of_a_layer_of_torch_are_told_apart():
    def layer(activation):
        torch.manual_seed(0)
        return nn.TransformerEncoderLayer(8, 2, 16, activation=activation)

    gelu = nn.functional.gelu
    assert model_version(layer(gelu)) == model_version(layer(gelu))
    assert model_version(layer(closure(2))) != model_version(layer(closure(3)))
    assert model_version(layer(gelu)) != model_version(layer(closure(3)))


def test_hooks_count():
    model = Net(None)
    bare = model_version(model)
    handles = []
    for k in (2.0, 3.0):
        handles.append(model.register_forward_hook(lambda m, i, o, k=k: o * k))
        assert model_version(model) != bare
        bare = model_version(model)
    for handle in handles:
        handle.remove()
    assert model_version(model) == model_version(Net(None))


@pytest.mark.parametrize(
    "held", [threading.Lock(), (i for i in range(3)), {"deep": [sys.stderr.buffer]}]
)
def test_what_has_no_content_keeps_a_model_out_of_the_cache_with_one_warning(held, tmp_path):
    with pytest.raises(NoContentError, match=r"Net\.held"):
        model_version(Net(held))
    with pytest.warns(GradoodWarning, match=r"cannot be told from others: Net\.held") as warned:
        assert model_key(Net(held), X, Cache(tmp_path)) is None
    assert len(warned) == 1 and list(tmp_path.iterdir()) == []


def test_a_value_that_no_key_sees_is_noticed_by_the_logits(tmp_path, monkeypatch):
    module = types.ModuleType("scales_of_tests")
    monkeypatch.setitem(sys.modules, "scales_of_tests", module)
    cache, keys = Cache(tmp_path), {}
    for scale in (1.0, 5.0):
        module.scale = scale
        model = Looking(None)
        if scale == 1.0:
            keys[scale] = model_key(model, X, cache)
        else:
            with pytest.warns(GradoodWarning, match="another Looking with the same weights"):
                keys[scale] = model_key(model, X, cache)
        assert model_key(model, X, cache) == keys[scale]  # Known now, without a warning.
    assert keys[1.0] != keys[5.0]
    assert {**keys[1.0], "canary": ""} == {**keys[5.0], "canary": ""}


def test_rounding_does_not_make_another_model(tmp_path, monkeypatch):
    cache, model = Cache(tmp_path), Net(None)
    key = model_key(model, X, cache)
    plain = nn.Linear.forward
    monkeypatch.setattr(nn.Linear, "forward", lambda m, x: plain(m, x) * (1 + 1e-7))
    assert model_key(model, X, cache) == key


def test_a_model_that_cannot_run_on_noise_is_not_kept(tmp_path):
    with pytest.warns(GradoodWarning, match="told from others: .*: 'too dark'. Make"):
        assert model_key(Picky(0.0), X, Cache(tmp_path)) is None
    # Where it cannot run at all, the run says so, once.
    assert model_key(Picky(5.0), X, Cache(tmp_path)) is None
    assert model_key(Drawing(None), X, Cache(tmp_path)) is None


def test_numerical_settings_are_in_the_key(tmp_path):
    cpu = torch.device("cpu")
    found = [numerics(cpu)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found.append(numerics(cpu))
    with torch.autocast("cpu", dtype=torch.float16):
        found.append(numerics(cpu))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    found.append(numerics(cpu))
    torch.set_float32_matmul_precision(before)
    torch.use_deterministic_algorithms(True)
    found.append(numerics(cpu))
    torch.use_deterministic_algorithms(False)
    torch._C._set_mkldnn_enabled(False)
    found.append(numerics(cpu))
    torch._C._set_mkldnn_enabled(True)
    assert all(a != b for i, a in enumerate(found) for b in found[:i])
    assert numerics(cpu) == found[0]
    cuda = numerics(torch.device("cuda"))
    assert {"tf32", "cudnn", "reduced", "attention"} <= cuda.keys()


def test_a_run_under_autocast_is_not_served_to_one_without(tmp_path):
    cache, model = Cache(tmp_path), Net(None)
    plain = model_key(model, X, cache)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model_key(model, X, cache) != plain
    assert model_key(model, X, cache) == plain


def test_options_and_plans_of_a_detector_count_by_content():
    plan = Plan(reads=())
    assert detector_key(Energy(), plan) == detector_key(Energy(), plan)
    assert detector_key(Energy(temperature=2.0), plan) != detector_key(Energy(), plan)
    assert detector_key(Energy(), plan) != detector_key(Energy(), Plan(reads=(), notes=("a",)))


def test_an_object_within_itself_and_shared_ones():
    own = SimpleNamespace()
    own.own = own
    assert content_digest(own) == content_digest(own)
    shared = [1.0]
    assert content_digest([shared, shared]) == content_digest([[1.0], [1.0]])
    assert content_digest([1]) != content_digest([True]) != content_digest([1.0])
    assert content_digest({"a": 1, "b": 2}) != content_digest({"b": 2, "a": 1})
    deep = []
    for _ in range(10_000):
        deep = [deep]
    with pytest.raises(NoContentError, match="nested too deeply"):
        content_digest(deep)


class Scaled(Net):
    def forward(self, x):
        return self.head((x * self.held.scale).flatten(1))


def test_a_cache_never_serves_one_model_the_scores_of_another(tmp_path):
    """The same weights and code, another plain value, one cache."""
    from gradood._engine.batches import Batch, Shard
    from gradood._engine.readings import ReadingCache
    from gradood.bench.comparison import Sets, compare

    cache = Cache(tmp_path)
    parts = {name: torch.rand(40, 3, 8, 8) for name in ("id", "far")}

    def scores(scale, *, kept):
        model = Scaled(SimpleNamespace(scale=scale)).eval()
        sets = {
            name: [Shard(lambda x=x: iter([Batch(x, None)]), len(x), None, lambda n=name: n)]
            for name, x in parts.items()
        }
        key = model_key(model, X, cache) if kept else None
        found = compare(
            model,
            {"energy": Energy()},
            Sets(id=sets["id"], ood={"far": sets["far"]}),
            X,
            cache=None if key is None else ReadingCache(cache, key, detector_key),
        )
        return found.unknown["far"]["energy"]

    first = scores(1.0, kept=True)
    assert torch.equal(scores(1.0, kept=True), first)
    second = scores(5.0, kept=True)
    assert torch.equal(second, scores(5.0, kept=False)) and not torch.equal(second, first)


def test_rows_that_are_not_finite_score_alike_with_and_without_the_cache(tmp_path):
    """They are read as zeros, which must not come back as what the model says of them."""
    from gradood._engine.batches import Batch, Shard
    from gradood._engine.binding import bind
    from gradood._engine.detector_set import DetectorSet
    from gradood._engine.readings import ReadingCache
    from gradood._engine.scoring import score_shards

    model = Scaled(SimpleNamespace(scale=1.0)).eval()
    x = torch.rand(12, 3, 8, 8)
    x[5, 0, 0, 0] = torch.nan
    detectors = {"energy": Energy()}
    cache = Cache(tmp_path)

    def scores():
        kept = ReadingCache(cache, model_key(model, X, cache), detector_key)
        shard = Shard(lambda: (Batch(part) for part in x.split(4)), len(x), None, lambda: "x")
        binding = bind(model, x[:4], detectors, head=None, required=None)
        return score_shards(DetectorSet.of(binding, detectors, cache=kept), [shard])[0]

    first, second = scores(), scores()
    assert torch.equal(first.scores["energy"], second.scores["energy"])
    assert second.scores["energy"].isinf().nonzero().tolist() == [[5]]
    assert second.nonfinite.nonzero().tolist() == [[5]] and int(second.label[5]) == -1
