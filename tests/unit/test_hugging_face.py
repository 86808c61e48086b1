"""Pipelines of Transformers with a reject option, on a stand-in, and on the real one if there."""

import pytest
import torch
from torch import nn

import gradood
from gradood.errors import ConfigError, DataError
from gradood.hugging_face import GuardedPipeline


class StandIn:
    """What the wrapper uses of an image-classification pipeline: images are vectors."""

    task = "image-classification"

    def __init__(self) -> None:
        self.model = nn.Sequential(nn.ReLU(), nn.Linear(4, 3))
        with torch.no_grad():
            self.model[1].weight.copy_(torch.eye(4)[:3])
            self.model[1].bias.zero_()

    def preprocess(self, image):
        return {"pixel_values": image[None]}

    def postprocess(self, outputs, top_k=5):
        assert outputs["logits"].shape == (1, 3)
        values = outputs["logits"][0].softmax(0)
        order = values.argsort(descending=True)[:top_k].tolist()
        return [{"label": f"class {k}", "score": float(values[k])} for k in order]


def images(n: int, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 4, generator=generator)
    x[range(n), torch.arange(n) % 3] += 4
    return list(x)


def test_images_are_named_or_rejected():
    pipeline = StandIn()
    guarded = GuardedPipeline.of(pipeline, images(300, 0), [k % 3 for k in range(300)])
    assert "mahalanobis++" in guarded.guard.detectors
    fresh = images(40, 1)
    answers = guarded(fresh, top_k=2)
    assert len(answers) == 40
    labels = [answer[0]["label"] for answer in answers]
    assert labels.count("out-of-distribution") < 8
    flagged = guarded.guard(torch.stack(fresh)) == -1
    assert [label == "out-of-distribution" for label in labels] == flagged.tolist()
    named = next(answer for answer in answers if answer[0]["label"] != "out-of-distribution")
    assert len(named) == 2
    (one,) = guarded(torch.full((4,), 9.0))
    assert one["label"] == "out-of-distribution" and 0.95 <= one["score"] < 1
    assert guarded([]) == []


def test_wrong_use():
    with pytest.raises(ConfigError, match="task is 'text-classification'"):
        broken = StandIn()
        broken.task = "text-classification"
        GuardedPipeline.of(broken, images(40, 0))
    with pytest.raises(DataError, match="3 labels for 40 images"):
        GuardedPipeline.of(StandIn(), images(40, 0), [0, 1, 2])
    guard = gradood.guard(StandIn().model, torch.stack(images(40, 0)))
    with pytest.raises(ConfigError, match="another model"):
        GuardedPipeline(StandIn(), guard)


def test_a_real_pipeline():
    transformers = pytest.importorskip("transformers", reason="Transformers is not installed")
    image = pytest.importorskip("PIL.Image")
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=4
    )
    torch.manual_seed(0)
    pipeline = transformers.pipeline(
        "image-classification",
        model=transformers.ResNetForImageClassification(config).eval(),
        image_processor=transformers.ConvNextImageProcessor(size={"shortest_edge": 32}),
    )
    pixels = torch.randint(0, 256, (60, 32, 32, 3), dtype=torch.uint8).numpy()
    photos = [image.fromarray(one) for one in pixels]
    guarded = GuardedPipeline.of(pipeline, photos)
    answers, plain = guarded(photos[:8], top_k=2), pipeline(photos[:8], top_k=2)
    for own, known in zip(plain, answers, strict=True):
        if known[0]["label"] != "out-of-distribution":
            assert [one["label"] for one in own] == [one["label"] for one in known]
            assert own[0]["score"] == pytest.approx(known[0]["score"], abs=1e-5)
