"""Kinds of heads: features @ weight.T + bias is what the model returns, or the reason is said."""

import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations

import gradood
from gradood.errors import DataError, TapError
from gradood.evidence import FEATURES, LOGITS, gather
from gradood.taps import Arguments, observe


class Body(nn.Module):
    """Tokens (batch, positions, 6) of vectors, and `ending` on top."""

    def __init__(self, ending):
        super().__init__()
        self.embed = nn.Linear(4, 6)
        self.ending = ending

    def forward(self, x):
        return self.ending(torch.tanh(self.embed(x)))


class Pool(nn.Module):
    """`head` on what `reduce` makes of the tokens, or `reduce` on what the head makes of each."""

    def __init__(self, head, reduce, *, after=False):
        super().__init__()
        self.head, self.reduce, self.after = head, reduce, after

    def forward(self, tokens):
        if self.after:
            return self.reduce(self.head(tokens))
        return self.head(self.reduce(tokens))


class Adapter(nn.Module):
    """W x + s · B A x."""

    def __init__(self, base, rank=2, scale=0.5):
        super().__init__()
        self.base, self.scale = base, scale
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)

    def forward(self, x):
        return self.base(x) + self.scale * self.up(self.down(x))


class Cosine(nn.Module):
    def __init__(self, width, classes, scale=7.0, name="weight", bias=False):
        super().__init__()
        self.scale, self.name = scale, name
        setattr(self, name, nn.Parameter(torch.randn(classes, width)))
        self.shift = nn.Parameter(torch.randn(classes)) if bias else None

    def forward(self, x):
        logits = self.scale * F.linear(F.normalize(x), F.normalize(getattr(self, self.name)))
        return logits if self.shift is None else logits + self.shift


class OtherName(nn.Module):
    """A linear layer whose weight is the transpose, under a name of its own."""

    def __init__(self, width, classes):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(width, classes))
        self.offset = nn.Parameter(torch.randn(classes))

    def forward(self, x):
        return x @ self.kernel + self.offset


class Attention(nn.Module):
    """Pooling that weighs positions by what they hold."""

    def __init__(self):
        super().__init__()
        self.query = nn.Linear(6, 1)

    def forward(self, tokens):
        return (torch.softmax(self.query(tokens), 1) * tokens).sum(1)


class Mlp(nn.Module):
    """RoBERTa's classification head: the first token, dense, tanh, out_proj."""

    def __init__(self):
        super().__init__()
        self.dense, self.dropout, self.out_proj = nn.Linear(6, 6), nn.Dropout(0.1), nn.Linear(6, 5)

    def forward(self, tokens):
        hidden = self.dropout(torch.tanh(self.dense(self.dropout(tokens[:, 0]))))
        return self.out_proj(hidden)


class Recurrent(nn.Module):
    """The last state of an LSTM."""

    def __init__(self):
        super().__init__()
        self.lstm, self.fc = nn.LSTM(6, 7, batch_first=True), nn.Linear(7, 5)

    def forward(self, tokens):
        _, (state, _) = self.lstm(tokens)
        return self.fc(state[-1])


class Prefixed(nn.Module):
    """An FT-Transformer's end: a class token, attention over all, then norm, ReLU and a layer."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 6))
        self.block = nn.TransformerEncoderLayer(6, 2, 8, batch_first=True)
        self.norm, self.fc = nn.LayerNorm(6), nn.Linear(6, 5)

    def forward(self, tokens):
        h = torch.cat([self.token.expand(len(tokens), 1, 6), tokens], 1)
        return self.fc(torch.relu(self.norm(self.block(h)[:, 0])))


class Projected(nn.Module):
    """wav2vec2's end: a projection of every frame, their mean, and a layer."""

    def __init__(self):
        super().__init__()
        self.projector, self.classifier = nn.Linear(6, 7), nn.Linear(7, 5)

    def forward(self, tokens):
        return self.classifier(self.projector(tokens).mean(1))


def first(tokens):
    return tokens[:, 0]


def last(tokens):
    return tokens[:, -1]


def middle(tokens):
    return tokens[:, 2]


def mean(tokens):
    return tokens.mean(1)


KINDS = {
    "first token": lambda: Pool(nn.Linear(6, 5), first),
    "last token": lambda: Pool(nn.Linear(6, 5), last),
    "mean": lambda: Pool(nn.Linear(6, 5), mean),
    "attention pooling": lambda: Pool(nn.Linear(6, 5), Attention()),
    "first token's logits": lambda: Pool(nn.Linear(6, 5), first, after=True),
    "last token's logits": lambda: Pool(nn.Linear(6, 5), last, after=True),
    "a middle token's logits": lambda: Pool(nn.Linear(6, 5), middle, after=True),
    "mean of logits": lambda: Pool(nn.Linear(6, 5), mean, after=True),
    "dense, tanh, out_proj": Mlp,
    "pre_classifier": lambda: Pool(
        nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Dropout(0.2), nn.Linear(6, 5)), first
    ),
    "pooler, dropout, classifier": lambda: Pool(
        nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Dropout(0.1), nn.Linear(6, 5)), first
    ),
    "last state of an LSTM": Recurrent,
    "class token of an FT-Transformer": Prefixed,
    "projection, mean, classifier": Projected,
    "weight norm": lambda: Pool(parametrizations.weight_norm(nn.Linear(6, 5)), mean),
    "spectral norm": lambda: Pool(parametrizations.spectral_norm(nn.Linear(6, 5)), mean),
    "cosine": lambda: Pool(Cosine(6, 5), mean),
    "cosine, bias": lambda: Pool(Cosine(6, 5, bias=True), mean),
    "cosine, prototypes": lambda: Pool(Cosine(6, 5, name="prototypes"), mean),
    "low-rank adapter": lambda: Pool(Adapter(nn.Linear(6, 5)), mean),
    "low-rank adapter on positions": lambda: Pool(Adapter(nn.Linear(6, 5)), last, after=True),
    "transposed weight": lambda: Pool(OtherName(6, 5), mean),
    "a bottleneck without activation": lambda: Pool(
        nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 5)), mean
    ),
    "batch norm after": lambda: Pool(nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5)), mean),
}


SCRIPT = pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")


def seeded(make):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return make().eval()


def rows(n=6, positions=5, seed=0):
    return torch.randn(n, positions, 4, generator=torch.Generator().manual_seed(seed))


def check(model, x, **options):
    """Features and head give the logits of other batches too, alone and together."""
    network = observe(model, x[:2], **options)
    evidence = gather(network, x, (FEATURES, LOGITS))
    weight, bias = network.head.linear()
    ours = evidence.features.double() @ weight.double().T
    ours = ours if bias is None else ours + bias.double()
    torch.testing.assert_close(ours, evidence.logits, rtol=1e-5, atol=1e-5)
    rows = (x[i : i + 1] for i in range(len(x)))
    alone = torch.cat([gather(network, row, (FEATURES,)).features for row in rows])
    torch.testing.assert_close(alone, evidence.features, rtol=1e-5, atol=1e-5)
    return network


@pytest.mark.parametrize("name", KINDS)
def test_the_head_gives_the_logits_of_every_batch(name):
    check(Body(seeded(KINDS[name])).eval(), rows(40, seed=1))


@pytest.mark.filterwarnings("ignore::gradood.errors.MeaninglessScoreWarning")
@pytest.mark.parametrize("name", KINDS)
def test_closed_forms_are_the_gradients_of_the_effective_weight(name):
    """GradNorm's closed form against autograd with features and effective weight as leaves."""
    model, x = Body(seeded(KINDS[name])).eval(), rows(4, seed=2)
    network = check(model, x)
    scores = gradood.Monitor(model, "gradnorm").score(x)
    weight, bias = network.head.linear()
    features = gather(network, x, (FEATURES,)).features
    for row, score in zip(features, scores, strict=True):
        own = weight.double().clone().requires_grad_()
        logits = own @ row.double() + (0 if bias is None else bias.double())
        divergence = -torch.log_softmax(logits, 0).mean()
        (gradient,) = torch.autograd.grad(divergence, own)
        assert float(score) == pytest.approx(-float(gradient.abs().sum()), rel=1e-5)


def test_an_adapter_has_the_effective_weight():
    adapter = seeded(lambda: Adapter(nn.Linear(6, 5)))
    network = check(Body(Pool(adapter, mean)).eval(), rows())
    assert (network.head.layer, network.head.form) == ("ending.head", "probed")
    expected = adapter.base.weight + adapter.scale * adapter.up.weight @ adapter.down.weight
    torch.testing.assert_close(network.head.weight, expected.detach())
    torch.testing.assert_close(network.head.bias, adapter.base.bias.detach())
    with torch.no_grad():
        adapter.up.weight.zero_()
    torch.testing.assert_close(network.head.weight, adapter.base.weight.detach())


def test_a_cosine_head_has_unit_features():
    head = seeded(lambda: Cosine(6, 5, bias=True))
    network = check(Body(Pool(head, mean)).eval(), rows())
    torch.testing.assert_close(network.head.weight, 7 * F.normalize(head.weight).detach())
    torch.testing.assert_close(network.head.bias, head.shift.detach())
    features = gather(network, rows(), (FEATURES,)).features
    torch.testing.assert_close(features.norm(dim=1), torch.ones(6))


def test_categories_beside_numbers():
    """An MLP with embeddings of categories, which takes two tensors."""

    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.hidden, self.fc = (
                nn.Embedding(4, 3),
                nn.Linear(7, 6),
                nn.Linear(6, 5),
            )

        def forward(self, numbers, categories):
            given = torch.cat([numbers, self.embedding(categories)], 1)
            return self.fc(torch.relu(self.hidden(given)))

    generator = torch.Generator().manual_seed(1)
    numbers = torch.randn(40, 4, generator=generator)
    categories = torch.randint(0, 4, (40,), generator=generator)
    check(seeded(Table), Arguments((numbers, categories)))


def test_a_model_that_is_its_head_has_one():
    model = seeded(lambda: nn.Linear(4, 3))
    network = check(model, torch.randn(9, 4))
    assert network.head.layer == ""
    monitor = gradood.Monitor(model, ["knn", "nci"]).fit(torch.randn(60, 4))
    assert all(scores.isfinite().all() for scores in monitor.score(torch.randn(5, 4)).values())


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", ["first token", "last token's logits", "cosine", "mean"])
def test_other_precisions(name, kind):
    model = Body(seeded(KINDS[name])).eval().to(kind)
    network = observe(model, rows(2).to(kind))
    assert network.head_found
    gather(network, rows(20, seed=4).to(kind), (FEATURES,))


def test_a_compiled_model_is_read_as_it_was():
    model = Body(seeded(KINDS["mean"])).eval()
    scores = gradood.Monitor(torch.compile(model, backend="eager"), "gradnorm").score(rows())
    assert torch.equal(scores, gradood.Monitor(model, "gradnorm").score(rows()))


def test_a_traced_graph_with_modules_is_read():
    model = torch.fx.symbolic_trace(Body(seeded(KINDS["pre_classifier"])).eval())
    check(model, rows())


@SCRIPT
def test_a_scripted_head_is_read():
    model = Body(Pool(torch.jit.script(nn.Linear(6, 5)).eval(), mean)).eval()
    check(model, rows())


def refusal(model, x=None):
    network = observe(model, rows(3) if x is None else x)
    assert not network.head_found
    with pytest.raises(TapError) as caught:
        _ = network.head
    return str(caught.value)


@SCRIPT
def test_a_scripted_block_around_the_head_is_refused():
    block = torch.jit.script(seeded(KINDS["pre_classifier"]).head).eval()
    assert "TorchScript module" in refusal(Body(Pool(block, first)).eval())


@SCRIPT
def test_a_scripted_model_is_refused():
    model = torch.jit.trace(Body(seeded(KINDS["mean"])).eval(), rows())
    with pytest.raises(TapError, match=r"TorchScript .* give the eager nn.Module"):
        gradood.Monitor(model, "energy")


def test_an_exported_model_is_refused():
    model = Body(seeded(KINDS["mean"])).eval()
    sizes = {"x": {0: torch.export.Dim.DYNAMIC}}
    exported = torch.export.export(model, (rows(),), dynamic_shapes=sizes)
    assert "graph of operations" in refusal(exported.module())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_quantized_head_is_refused():
    model = Body(seeded(KINDS["mean"])).eval()
    with pytest.raises(TapError, match=r"Quantized with one scale|is quantized"):
        quantized = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
        raise TapError(refusal(quantized))


def test_a_weight_that_is_used_past_its_layer_is_told():
    class Past(nn.Module):
        def __init__(self, function):
            super().__init__()
            self.fc, self.function = nn.Linear(6, 5), function

        def forward(self, tokens):
            return F.linear(self.function(tokens.mean(1)), self.fc.weight, self.fc.bias)

    assert "'ending.fc' did not run as a module" in refusal(Body(Past(torch.tanh)).eval())
    check(Body(Past(nn.Identity())).eval(), rows())  # What holds it is a linear map itself.


def test_a_position_is_told_batch_by_batch():
    """The logits of the last position that holds no padding, without a mask."""

    class LastUnpadded(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.score = nn.Embedding(11, 6), nn.Linear(6, 5, bias=False)

        def forward(self, ids):
            hidden = torch.tanh(self.embedding(ids).cumsum(1))
            place = torch.arange(ids.shape[1]).expand_as(ids).where(ids != 0, -1).amax(1)
            return self.score(hidden)[torch.arange(len(ids)), place]

    model = seeded(LastUnpadded)
    ids = torch.randint(1, 11, (12, 6), generator=torch.Generator().manual_seed(0))
    network = observe(model, ids[:2])
    assert network.head.reduction == "position of the logits"
    padded = torch.cat([ids, torch.zeros(12, 3, dtype=torch.int64)], 1)
    features = gather(network, ids, (FEATURES,)).features
    torch.testing.assert_close(gather(network, padded, (FEATURES,)).features, features)


def test_features_that_a_batch_does_not_give_are_refused():
    class Unpadded(nn.Module):
        """A mean of logits over the positions that are not zero."""

        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(6, 5)

        def forward(self, tokens):
            kept = (tokens.abs().sum(2) > 1e-3).to(tokens)[..., None]
            return (self.fc(tokens) * kept).sum(1) / kept.sum(1)

    model = Body(seeded(Unpadded)).eval()
    nn.init.zeros_(model.embed.bias)
    network = observe(model, rows())
    x = rows()
    x[:, 3:] = 0
    with pytest.raises((TapError, DataError), match="features of this batch cannot be told"):
        gather(network, x, (FEATURES,))


AFTER = {
    "temperature": (lambda z: z / 2.5, "multiplied by 0.4 (a temperature"),
    "logit scale": (lambda z: z * 20.0, "multiplied by 20 (a temperature"),
    "negated": (lambda z: -z, "multiplied by -1 (a temperature"),
    "bias": (lambda z: z + torch.arange(5.0), "they are shifted by a constant"),
    "both": (lambda z: 3 * z + torch.arange(5.0), "multiplied by 3 and shifted"),
}


class After(nn.Module):
    """A linear layer, and a function of what it gives."""

    def __init__(self, change):
        super().__init__()
        self.fc, self.change = nn.Linear(16, 5), change

    def forward(self, x):
        return self.change(self.fc(x))


class Behind(nn.Module):
    def __init__(self, change, *, within):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
        self.top = After(change) if within else nn.Linear(16, 5)
        self.change = (lambda z: z) if within else change

    def forward(self, x):
        return self.change(self.top(self.body(x)))


@pytest.mark.parametrize("kind", AFTER)
def test_an_affine_function_after_the_head_is_named(kind):
    change, said = AFTER[kind]
    torch.manual_seed(0)
    monitor = gradood.Monitor(Behind(change, within=False).eval(), "knn", progress=False)
    with pytest.raises(TapError, match=re.escape(said)):
        monitor.fit(torch.randn(40, 8))


@pytest.mark.parametrize("kind", AFTER)
def test_an_affine_function_in_one_module_with_the_head_is_the_head(kind):
    torch.manual_seed(0)
    model, x = Behind(AFTER[kind][0], within=True).eval(), torch.randn(40, 8)
    head = observe(model, x).head
    assert head.layer == "top"
    assert torch.allclose(
        head.features(model.body(x)) @ head.weight.T + head.bias, model(x), 1e-4, 1e-4
    )


@pytest.mark.parametrize("change", [lambda z: z - z.mean(1, keepdim=True), torch.relu])
def test_what_is_no_affine_function_is_not_called_one(change):
    torch.manual_seed(0)
    monitor = gradood.Monitor(Behind(change, within=False).eval(), "knn", progress=False)
    with pytest.raises(TapError, match="is off by"):
        monitor.fit(torch.randn(40, 8))
