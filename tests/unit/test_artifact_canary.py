import pytest
import torch
from artifact_samples import sample
from torch import nn

from gradood.artifact.canary import COUNT, Canary, Tolerance, compare, synthesize, tolerance
from gradood.artifact.fingerprint import fingerprint
from gradood.artifact.identity import differences
from gradood.errors import ArtifactError, DataError


class Normalized(nn.Module):
    """Keeps its mean where no hash of tensors finds it."""

    def __init__(self, mean: float) -> None:
        super().__init__()
        self.mean = mean
        self.inner = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))

    def forward(self, x):
        return self.inner((x - self.mean) / 0.25)


def network(mean: float = 0.5) -> nn.Module:
    torch.manual_seed(1)
    return Normalized(mean).eval()


@torch.no_grad()
def outputs(model: nn.Module, inputs: torch.Tensor):
    logits = model(inputs)
    return logits, {"energy": -logits.double().logsumexp(1)}


def made(model: nn.Module) -> Canary:
    inputs = synthesize(torch.zeros(1, 3, 8, 8), 0.0, 1.0, seed=3)
    return Canary.of(model, inputs, *outputs(model, inputs), seed=3)


# -- inputs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [(3, 8, 8), (1, 28, 28), (3, 7, 5), (5,), (2, 16), (2, 3, 4, 5), (2, 2, 2, 2, 2), ()]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_inputs_have_the_shape_and_type_and_lie_in_the_range(shape, dtype):
    inputs = synthesize(torch.zeros(2, *shape, dtype=dtype), -1.0, 2.0)
    assert inputs.shape == (COUNT, *shape) and inputs.dtype == dtype
    assert bool((inputs >= -1).all() and (inputs <= 2).all())
    assert len(torch.unique(inputs.reshape(COUNT, -1), dim=0)) == COUNT


def test_each_channel_has_its_own_range_and_fills_it():
    low, high = torch.tensor([-2.0, 0.0, 5.0]), torch.tensor([-1.0, 10.0, 5.0])
    inputs = synthesize(torch.zeros(1, 3, 16, 16), low, high)
    assert torch.allclose(inputs.amin((2, 3)), low.expand(COUNT, 3))
    assert torch.allclose(inputs.amax((2, 3)), high.expand(COUNT, 3))


def test_they_go_from_smooth_to_rough():
    inputs = synthesize(torch.zeros(1, 3, 64, 64), 0.0, 1.0)
    roughness = (inputs.diff(dim=3).abs().mean((1, 2, 3))).tolist()
    assert roughness == sorted(roughness) and roughness[-1] > 8 * roughness[0]


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_integers_lie_in_the_range_and_reach_its_ends(dtype):
    inputs = synthesize(torch.zeros(1, 400, dtype=dtype), 3, 9)
    assert inputs.dtype == dtype and inputs.shape == (COUNT, 400)
    assert inputs.unique().tolist() == list(range(3, 10))
    assert synthesize(torch.zeros(1, 4, dtype=torch.bool), 0, 1).dtype == torch.bool


def test_they_depend_on_the_seed_alone_and_leave_the_generator_alone():
    example = torch.zeros(1, 3, 8, 8)
    state = torch.get_rng_state()
    first = synthesize(example, 0.0, 1.0, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(synthesize(example + 7, 0.0, 1.0, seed=5), first)
    assert not torch.equal(synthesize(example, 0.0, 1.0, seed=6), first)


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (1.0, 0.0, "empty or not finite"),
        (0.0, float("inf"), "empty or not finite"),
        (float("nan"), 1.0, "empty or not finite"),
        (torch.zeros(2), 1.0, r"shape \(2,\); expected one number, or one for each of the 3"),
        (torch.zeros(3, 2), 1.0, "expected one number"),
    ],
)
def test_a_range_that_is_none(low, high, words):
    with pytest.raises(DataError, match=words):
        synthesize(torch.zeros(1, 3, 8, 8), low, high)


# -- comparison -----------------------------------------------------------------------------------


def test_the_same_model_gives_the_same():
    model = network()
    canary = made(model)
    assert compare(canary, *outputs(model, canary.inputs), tolerance(canary, model)) == []


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_mean_kept_as_a_plain_attribute_is_caught_here_and_elsewhere(elsewhere):
    model, other = network(0.5), network(0.45)
    assert differences(fingerprint(model), fingerprint(other)) == []
    canary = made(model)
    allowed = tolerance(canary, other)
    if elsewhere:
        allowed = Tolerance(1e-2, 5e-2)
    lines = compare(canary, *outputs(other, canary.inputs), allowed)
    assert lines and lines[0].startswith("canary logits differ by ")


def test_rounding_is_tolerated_and_a_little_more_is_not():
    model = network()
    canary = made(model)
    logits, scores = outputs(model, canary.inputs)
    scale = float(logits.abs().max())
    allowed = tolerance(canary, model)
    nudged = logits.clone()
    nudged[3, 2] += 0.5e-5 * scale
    assert compare(canary, nudged, scores, allowed) == []
    nudged[3, 2] += 2e-5 * scale
    assert len(compare(canary, nudged, scores, allowed)) == 1


def test_scores_are_compared_by_name():
    model = network()
    canary = made(model)
    logits, scores = outputs(model, canary.inputs)
    allowed = tolerance(canary, model)
    assert compare(canary, logits, {}, allowed) == ["canary scores of 'energy' are missing"]
    wrong = {"energy": scores["energy"] * 1.1}
    (line,) = compare(canary, logits, wrong, allowed)
    assert line.startswith("canary scores of 'energy' differ by 1.0e-01 of the largest")


def test_shapes_and_what_is_not_finite_must_agree():
    model = network()
    canary = made(model)
    logits, scores = outputs(model, canary.inputs)
    allowed = Tolerance(1.0, 1.0)
    assert (
        "have shape (8, 4); expected (8, 5)" in compare(canary, logits[:, 1:], scores, allowed)[0]
    )
    for value in (float("nan"), float("inf")):
        broken = logits.clone()
        broken[0, 0] = value
        assert "not finite in the same places" in compare(canary, broken, scores, allowed)[0]
    infinite = {"energy": torch.full((COUNT,), torch.inf)}
    always = Canary.of(model, canary.inputs, logits, infinite, seed=3)
    assert compare(always, logits, infinite, allowed) == []
    assert len(compare(always, logits, {"energy": -infinite["energy"]}, allowed)) == 1


def test_zeros_must_stay_zeros():
    model = network()
    canary = made(model)
    logits, _ = outputs(model, canary.inputs)
    zeros = {"energy": torch.zeros(COUNT)}
    still = Canary.of(model, canary.inputs, logits, zeros, seed=3)
    assert compare(still, logits, zeros, Tolerance(1e-3, 1e-3)) == []
    assert len(compare(still, logits, {"energy": zeros["energy"] + 1e-9}, Tolerance(1, 1))) == 1


def test_tolerance_is_tight_in_the_same_place_and_looser_elsewhere():
    model = network()
    canary = made(model)
    assert (canary.device, canary.precision) == ("cpu", "float32")
    assert tolerance(canary, model) == Tolerance(1e-5, 1e-3)
    for change in ({"torch": "2.4.0"}, {"device": "cuda"}):
        other = Canary(**{**vars(canary), **change})
        assert tolerance(other, model) == Tolerance(1e-2, 5e-2)


@pytest.mark.parametrize(
    ("dtype", "logits"), [(torch.float64, 1e-10), (torch.bfloat16, 5e-2), (torch.float16, 1e-2)]
)
def test_tolerance_goes_by_the_coarsest_type(dtype, logits):
    model = nn.Linear(2, 3)
    model.weight.data = model.weight.data.to(dtype)
    if dtype == torch.float64:
        model = model.double()
    inputs = synthesize(torch.zeros(1, 2, dtype=torch.float64), 0.0, 1.0)
    canary = Canary.of(model, inputs, torch.zeros(8, 3), {}, seed=0)
    assert canary.precision == str(dtype).removeprefix("torch.")
    assert tolerance(canary, model).logits == logits


# -- in the file ----------------------------------------------------------------------------------


def test_a_canary_goes_through_its_record():
    canary = made(network())
    record, tensors = canary.record()
    assert set(tensors) == {"canary/inputs", "canary/logits", "canary/scores/energy"}
    back = Canary.restore(record, tensors)
    assert torch.equal(back.inputs, canary.inputs) and torch.equal(back.logits, canary.logits)
    assert back.scores.keys() == canary.scores.keys()
    for name in ("seed", "torch", "device", "precision"):
        assert getattr(back, name) == getattr(canary, name)


@pytest.mark.parametrize(
    "change",
    [
        {"canary/inputs": torch.zeros(7, 3, 8, 8)},
        {"canary/inputs": torch.zeros(())},
        {"canary/logits": torch.zeros(8)},
        {"canary/logits": torch.zeros(8, 5, dtype=torch.int64)},
        {"canary/scores/energy": torch.zeros(8, 1)},
    ],
)
def test_tensors_that_are_no_canary_are_refused(change):
    record, tensors = made(network()).record()
    with pytest.raises(ArtifactError, match="expected 8 rows of each and of every score"):
        Canary.restore(record, tensors | change)


def test_a_precision_that_is_none_is_refused():
    record = sample()[0].canary
    tensors = {name: torch.zeros(8, 2) for name in (record.inputs, record.logits)}
    tensors[record.scores["knn"]] = torch.zeros(8)
    assert Canary.restore(record, tensors).precision == "float32"
    object.__setattr__(record, "precision", "os.system")
    with pytest.raises(ArtifactError, match=r"'os.system'"):
        Canary.restore(record, tensors)
