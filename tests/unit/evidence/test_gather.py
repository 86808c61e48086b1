"""One look: each pass once, every reading right, and nothing else shown."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gradood.errors import TapError
from gradood.evidence import (
    FEATURE_SUM,
    FEATURES,
    INPUT_RANGE,
    KEYS,
    LOG_SOFTMAX_SUM,
    LOGITS,
    MAP,
    MAX_LOGIT,
    MEAN,
    NONZERO_SHARE,
    POSITIVE_SHARE,
    Activation,
    Gradient,
    ParameterNorm,
    content_keys,
    gather,
)
from gradood.taps import Site, observe


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv2, self.norm2 = nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        x = self.relu(self.norm1(self.conv1(x)))
        x = self.relu(self.norm2(self.conv2(x)))
        return self.fc(x.mean((2, 3)))


X = torch.randn(5, 3, 6, 6, generator=torch.Generator().manual_seed(7))
READS = (
    LOGITS,
    FEATURES,
    KEYS,
    INPUT_RANGE,
    Activation(Site("norm1"), POSITIVE_SHARE),
    Activation(Site("norm2"), MAP),
    Gradient(MAX_LOGIT, Site("norm1"), NONZERO_SHARE),
    Gradient(MAX_LOGIT, Site("norm2"), MEAN),
    Gradient(MAX_LOGIT, Site("norm2"), NONZERO_SHARE),
    Gradient(FEATURE_SUM, Site("norm1"), MEAN),
    Gradient(LOG_SOFTMAX_SUM, Site("norm2"), MAP),
)


@pytest.fixture
def model():
    return Net().eval()


@pytest.fixture
def network(model):
    return observe(model, X)


def naive(model):
    """Every reading of READS by autograd on a plain forward."""
    n1 = model.norm1(model.conv1(X))
    n2 = model.norm2(model.conv2(F.relu(n1)))
    h = F.relu(n2).mean((2, 3))
    z = model.fc(h)

    def gradient(of, at):
        return torch.autograd.grad(of, at, retain_graph=True)[0]

    largest = z.amax(1).sum()
    flat = X.flatten(2)
    return (
        z.double(),
        h,
        content_keys(X),
        torch.stack([flat.amin(2), flat.amax(2)], 1),
        (n1 > 0).float().mean((2, 3)),
        n2,
        (gradient(largest, n1) != 0).float().mean((2, 3)),
        gradient(largest, n2).mean((2, 3)),
        (gradient(largest, n2) != 0).float().mean((2, 3)),
        gradient(h.sum(), n1).mean((2, 3)),
        gradient(torch.log_softmax(z, 1).sum(), n2),
    )


def test_every_reading_equals_the_naive_one(model, network):
    evidence = gather(network, X, READS, torch.arange(5) % 4)
    for read, found, expected in zip(READS, evidence.tensors, naive(model), strict=True):
        torch.testing.assert_close(found, expected.detach(), rtol=1e-5, atol=1e-6, msg=str(read))
        assert not found.requires_grad and found.grad_fn is None
        assert len(found) == 5
    assert (evidence.size, evidence.classes) == (5, 4)
    assert torch.equal(evidence.linear.weight, model.fc.weight)
    assert torch.equal(evidence.linear.bias, model.fc.bias)
    assert evidence.labels.tolist() == [0, 1, 2, 3, 0]


@pytest.mark.parametrize("frozen", [False, True])
def test_one_forward_and_one_backward_per_objective(model, network, frozen):
    model.requires_grad_(not frozen)
    forwards, backwards = [], []

    def count(_, __, output):
        forwards.append(1)
        if output.requires_grad:
            output.register_hook(lambda g: backwards.append(1))

    model.fc.register_forward_hook(count)
    gather(network, X, READS + READS)
    # The feature sum does not pass the logits.
    assert (len(forwards), len(backwards)) == (1, 2)
    forwards.clear()
    backwards.clear()
    gather(network, X, (FEATURES, Activation(Site("norm1"), MEAN)))
    assert (len(forwards), len(backwards)) == (1, 0)


def test_without_gradients_no_graph_is_made(model, network):
    graphs = []
    model.fc.register_forward_hook(lambda _, __, output: graphs.append(output.requires_grad))
    gather(network, X, (LOGITS, Activation(Site("norm1"), MEAN)))
    assert graphs == [False]


def test_equal_requests_share_one_tensor(network):
    again = Gradient(MAX_LOGIT, Site("norm2"), MEAN)
    evidence = gather(network, X, (*READS, again, KEYS))
    assert evidence.tensors[-2] is evidence[READS[7]]
    assert evidence.tensors[-1] is evidence.tensors[2]
    assert len(evidence.tensors) == len(READS) + 2


def test_readings_alone_are_those_in_company(network):
    together = gather(network, X, READS)
    for read in READS:
        alone = gather(network, X, (read,))
        torch.testing.assert_close(alone[read], together[read], rtol=1e-5, atol=1e-6)


def test_only_hides_the_rest(network):
    evidence = gather(network, X, READS)
    part = evidence.only((KEYS, READS[4]))
    assert part.reads == (KEYS, READS[4]) and len(part.tensors) == 2
    assert part.head is None
    with pytest.raises(KeyError):
        _ = part.features
    with pytest.raises(KeyError):
        _ = part[READS[5]]
    for read in (FEATURES, READS[9]):
        assert evidence.only((read,)).head is not None
    assert evidence.only((READS[6],)).head is None


def test_a_head_is_needed_only_for_features():
    class Headless(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x):
            return torch.relu(self.norm(x)).mean((2, 3))

    network = observe(Headless().eval(), X)
    reads = (LOGITS, Gradient(MAX_LOGIT, Site("norm"), NONZERO_SHARE))
    assert gather(network, X, reads).head is None
    for read in (FEATURES, Gradient(FEATURE_SUM, Site("norm"), MEAN)):
        with pytest.raises(TapError, match="could not be verified"):
            gather(network, X, (read,))


def test_logits_are_double_and_features_at_least_single():
    model = Net().eval().bfloat16()
    x = X.bfloat16()
    evidence = gather(observe(model, x), x, (LOGITS, FEATURES, READS[7]))
    assert evidence.logits.dtype == torch.float64
    assert evidence.features.dtype == torch.float32
    assert evidence.tensors[2].dtype == torch.float32


def test_rows_must_match(network, monkeypatch):
    monkeypatch.setattr(Net, "forward", lambda self, x: torch.zeros(1, 4))
    with pytest.raises(TapError, match="1 rows of logits for 5 inputs"):
        gather(network, X, (LOGITS,))


# -- parameter gradients ----------------------------------------------------------------------


@pytest.mark.parametrize("order", [1.0, 2.0, float("inf")])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("names", [("fc.weight",), ("conv1.weight", "norm2.bias", "fc.bias")])
def test_parameter_norms_equal_a_loop_of_autograd(model, network, names, temperature, order):
    model.requires_grad_(False)
    found = gather(network, X, (read := ParameterNorm(names, temperature, order),))[read]
    model.requires_grad_()
    chosen = [model.get_parameter(name) for name in names]
    for i in range(len(X)):
        loss = -torch.log_softmax(model(X[i : i + 1]) / temperature, 1).mean()
        parts = torch.autograd.grad(loss, chosen)
        norm = torch.linalg.vector_norm(torch.cat([p.flatten().double() for p in parts]), order)
        assert float(found[i]) == pytest.approx(float(norm), rel=1e-4)
    assert all(p.grad is None for p in model.parameters())


def test_parameter_norms_do_not_depend_on_chunks(network, monkeypatch):
    from gradood.evidence import _per_sample as per_sample

    read = ParameterNorm(("conv2.weight",), 1.0, 1.0)
    whole = gather(network, X, (read,))[read]
    monkeypatch.setattr(per_sample, "_BUDGET", 1)
    torch.testing.assert_close(gather(network, X, (read,))[read], whole, rtol=1e-6, atol=0)
    assert whole.dtype == torch.float64


def test_an_unknown_parameter_is_refused_with_a_suggestion(network):
    with pytest.raises(TapError, match=r"no parameter 'fc.wieght'; did you mean 'fc.weight'"):
        gather(network, X, (ParameterNorm(("fc.wieght",), 1.0, 1.0),))


def test_what_cannot_be_vectorized_is_refused(network, monkeypatch):
    def forward(self, x):
        return self.fc(x.mean((2, 3)).repeat(1, 3)[:, :8]) * (1 if float(x.sum()) > 0 else 2)

    monkeypatch.setattr(Net, "forward", forward)
    with pytest.raises(TapError, match=r"per-sample gradients of fc.weight.*Leave parameters=None"):
        gather(network, X, (ParameterNorm(("fc.weight",), 1.0, 1.0),))


class Normalizing(Net):
    """Changes its input and, after the head, its features."""

    def forward(self, x):
        x -= 0.5
        h = self.relu(self.norm1(self.conv1(x))).mean((2, 3))
        logits = self.head(h)
        if not torch.is_grad_enabled():
            h /= h.norm(dim=1, keepdim=True)
        return {"logits": logits, "embedding": h}

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(6, 4)


def test_what_a_model_changes_in_place_is_read_before():
    model, x = Normalizing().eval(), X.clone()
    reads = (LOGITS, FEATURES, KEYS, INPUT_RANGE)
    seen = gather(observe(model, x), x, reads)
    assert torch.equal(x, X)
    assert torch.equal(seen[KEYS], content_keys(X))
    torch.testing.assert_close(seen[INPUT_RANGE][:, 0], X.amin((2, 3)))
    ours = seen.features @ model.head.weight.T + model.head.bias
    torch.testing.assert_close(ours.detach().double(), seen.logits)


def test_labels_come_to_where_the_readings_are():
    class Moving:
        """Labels somewhere else."""

        def to(self, device):
            return ("moved to", device)

    seen = gather(observe(Net().eval(), X), X, (LOGITS,), Moving())
    assert seen.labels == ("moved to", torch.device("cpu"))


def test_memory_that_ran_out_is_not_taken_for_a_model_that_cannot_be_vectorized(monkeypatch):
    network = observe(Net().eval(), X)

    def full(*_, **__):
        raise torch.cuda.OutOfMemoryError("out of memory")

    monkeypatch.setattr("gradood.evidence._per_sample.vmap", full)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        gather(network, X, (ParameterNorm(("fc.weight",), 1.0, 1.0),))


def test_rows_without_an_answer_are_told():
    class Given(nn.Module):
        def forward(self, x):
            return x

    inf, nan = torch.inf, torch.nan
    rows = [[0.0, 1.0], [-inf, 2.0], [nan, 1.0], [inf, 0.0], [-inf, -inf], [inf, -inf]]
    network = observe(Given(), torch.zeros(2, 2))
    seen = gather(network, torch.tensor(rows), (LOGITS,))
    assert seen.sound.tolist() == [True, True, False, False, False, False]
