"""The head is found by running the model, verified in numbers, and refused with reasons."""

import pytest
import torch
from torch import nn

from gradood.errors import TapError
from gradood.taps import observe


class Net(nn.Module):
    """A convolution, then whatever `ending` makes logits of the map (batch, 6, 4, 4)."""

    def __init__(self, ending):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)
        self.ending = ending

    def forward(self, x):
        return self.ending(torch.relu(self.conv(x)))


class Pooled(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x.mean((2, 3)))


class Tokens(nn.Module):
    """Positions as tokens, summarized by `reduce` before the head sees them, or after."""

    def __init__(self, reduce, after):
        super().__init__()
        self.reduce, self.after = reduce, after
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        return self.reduce(self.fc(tokens)) if self.after else self.fc(self.reduce(tokens))


class ConvEnding(nn.Module):
    def __init__(self, pool_first, bias=True):
        super().__init__()
        self.pool_first = pool_first
        self.fc = nn.Conv2d(6, 5, 1, bias=bias)

    def forward(self, x):
        if self.pool_first:
            return self.fc(x.mean((2, 3), keepdim=True))
        return self.fc(x).mean((2, 3))


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        pooled = x.mean((2, 3))
        return self.fc(pooled) + self.fc(2 * pooled)


class Then(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.fc = nn.Linear(6, 5)
        self.function = function

    def forward(self, x):
        return self.function(self.fc(x.mean((2, 3))))


def first(tokens):
    return tokens[:, 0]


def average(tokens):
    return tokens.mean(1)


ENDINGS = {
    "bias": (Pooled(nn.Linear(6, 5)), "ending.layers.0", "as given"),
    "no bias": (Pooled(nn.Linear(6, 5, bias=False)), "ending.layers.0", "as given"),
    "dropout": (Pooled(nn.Dropout(0.5), nn.Linear(6, 5)), "ending.layers.1", "as given"),
    "two layers": (
        Pooled(nn.Linear(6, 7), nn.ReLU(inplace=True), nn.Linear(7, 5)),
        "ending.layers.2",
        "as given",
    ),
    "conv after pool": (ConvEnding(pool_first=True), "ending.fc", "mean over positions"),
    "conv before pool": (ConvEnding(pool_first=False), "ending.fc", "mean over positions"),
    "conv, no bias": (ConvEnding(False, bias=False), "ending.fc", "mean over positions"),
    "first token": (Tokens(first, after=False), "ending.fc", "as given"),
    "mean token": (Tokens(average, after=False), "ending.fc", "as given"),
    "mean over tokens' logits": (Tokens(average, after=True), "ending.fc", "mean over positions"),
    "first token's logits": (Tokens(first, after=True), "ending.fc", "first token"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_head_is_found_and_gives_the_logits(name):
    ending, layer, reduction = ENDINGS[name]
    model, x = Net(ending).eval(), torch.randn(3, 3, 4, 4)
    head = observe(model, x).head
    assert (head.layer, head.reduction) == (layer, reduction)
    assert head.site.layer == layer and head.site.port == "input"
    seen = []
    handle = head.module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    expected = model(x).flatten(1)
    handle.remove()
    ours = head.features(seen[0]) @ head.weight.T
    if head.bias is not None:
        ours = ours + head.bias
    torch.testing.assert_close(ours, expected)
    assert head.weight.shape == (5, head.features(seen[0]).shape[1])
    assert not head.weight.requires_grad
    assert head.error < 1e-5


def test_head_may_be_named():
    model = Net(Pooled(nn.Linear(6, 5))).eval()
    head = observe(model, torch.randn(2, 3, 4, 4), head="ending.layers.0").head
    assert head.layer == "ending.layers.0"


def test_the_weights_are_read_as_they_are_now():
    model = Net(Pooled(nn.Linear(6, 5))).eval()
    head = observe(model, torch.randn(2, 3, 4, 4)).head
    with torch.no_grad():
        model.ending.layers[0].weight.fill_(2.0)
    assert bool((head.weight == 2.0).all())


def refusal(ending, name=None):
    network = observe(Net(ending).eval(), torch.randn(2, 3, 4, 4), head=name)
    assert not network.head_found
    with pytest.raises(TapError) as caught:
        _ = network.head
    return str(caught.value)


def test_a_wrong_name_is_refused_and_says_what_was_asked_for():
    ending = Pooled(nn.Linear(6, 7), nn.ReLU(), nn.Linear(7, 5))
    assert "no layer 'ending.layers.5'; did you mean 'ending.layers.2'" in refusal(
        ending, "ending.layers.5"
    )
    message = refusal(ending, "ending.layers.0")
    assert "'ending.layers.0' gives 7 values, not 5" in message
    assert "head='module.name'" in message


def test_logits_changed_after_the_head_are_refused_with_what_was_tried():
    message = refusal(Then(lambda z: 3.0 * z + z.square()))
    assert "the last linear layer could not be verified" in message
    assert "'ending.fc' is off by" in message
    assert "(2, 5) logits" in message
    assert "probabilities" not in message


def test_probabilities_are_recognized():
    message = refusal(Then(lambda z: z.softmax(1)))
    assert "looks like probabilities: let the model return its logits" in message


def test_a_head_that_runs_twice_is_refused():
    assert "'ending.fc' runs 2 times" in refusal(Twice())


def test_a_model_without_linear_layer_is_refused():
    class Means(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    assert "no linear layer or 1×1 convolution ran" in refusal(Means())


def test_a_grouped_convolution_is_no_head():
    class Grouped(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Conv2d(6, 6, 1, groups=6)

        def forward(self, x):
            return self.fc(x).mean((2, 3))

    assert "no linear layer or 1×1 convolution ran" in refusal(Grouped())


def test_half_precision_heads_are_verified():
    model = Net(Pooled(nn.Linear(6, 5))).eval().bfloat16()
    head = observe(model, torch.randn(2, 3, 4, 4, dtype=torch.bfloat16)).head
    assert head.layer == "ending.layers.0"


def test_logits_that_are_not_finite_say_so():
    model = Net(Pooled(nn.Linear(6, 5))).eval()
    with torch.no_grad():
        model.ending.layers[0].weight[0] = torch.nan
    with pytest.raises(TapError, match="logits on the example hold NaN or infinity"):
        _ = observe(model, torch.randn(2, 3, 4, 4)).head


def test_a_shared_head_is_known_by_all_its_names():
    model = Net(Pooled(nn.Linear(6, 5))).eval()
    model.classifier = model.ending.layers[0]
    x = torch.randn(2, 3, 4, 4)
    assert observe(model, x, head="ending.layers.0").head.layer == "ending.layers.0"
    assert observe(model, x, head="classifier").head.layer == "ending.layers.0"
    assert observe(model, x).layer("classifier").name == "ending.layers.0"


class Returning(nn.Module):
    """Features as wide as `width`, logits, and what `give` makes of the two."""

    def __init__(self, give, width=6):
        super().__init__()
        self.fc, self.embed, self.give = nn.Linear(6, 5), nn.Linear(6, width), give

    def forward(self, x):
        h = x.mean((2, 3))
        return self.give(h, self.fc(h), self.embed(h))


def test_logits_behind_their_features_are_refused():
    ending = Returning(lambda h, z, e: (h, z))
    with pytest.raises(TapError, match=r"item 1 .* of layer .*, item 0 \(batch, 6\), is not"):
        observe(Net(ending).eval(), torch.randn(2, 3, 4, 4))


@pytest.mark.parametrize(
    "give",
    [lambda h, z, e: (z, h), lambda h, z, e: (z * 2 + 1, e), lambda h, z, e: [z * z, None, h]],
    ids=["features second", "embedding of other features", "features third"],
)
def test_other_tensors_behind_the_logits_are_allowed(give):
    network = observe(Net(Returning(give, width=4)).eval(), torch.randn(2, 3, 4, 4))
    assert network.classes == 5


def test_reduced_products_are_still_verified(monkeypatch):
    """TF32 and the like round a product to about one part in a thousand."""
    model, x = Net(Then(lambda z: z * (1 + 1e-3))).eval(), torch.randn(2, 3, 4, 4)
    assert not observe(model, x).head_found
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    assert observe(model, x).head_found

    def mixed():
        raise RuntimeError("mix of the legacy and new APIs")

    monkeypatch.setattr(torch, "get_float32_matmul_precision", mixed)
    assert observe(model, x).head_found
