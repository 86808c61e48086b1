"""A monitor that is none, small images, and a job on them."""

from dataclasses import dataclass, field

import pyarrow.parquet as pq
import torch
from PIL import Image

from gradood.batch import Identity, Settings, list_images, score_images
from gradood.data import Preprocess


@dataclass
class Answer:
    """A result of the fake: the mean of the image is its score."""

    score: torch.Tensor
    p_value: torch.Tensor
    is_ood: torch.Tensor
    label: torch.Tensor
    status: tuple
    overrides: tuple = ()

    @property
    def class_conditional(self):
        return self.label % 2 == 0

    @classmethod
    def of(cls, x, offset=0.0, status=None):
        score = x.double().mean((1, 2, 3)) + offset
        n = len(x)
        return cls(
            score,
            (1 - score).clamp(0.01, 1),
            score > 0.5,
            (score * 10).long(),
            status or ("ok",) * n,
        )


class Answers(dict):
    """Results of several detectors."""

    def __init__(self, each, fused=None):
        super().__init__(each)
        first = next(iter(each.values()))
        self.label, self.status, self.overrides = first.label, first.status, ()
        if fused is not None:
            self.score, self.p_value, self.is_ood = fused.score, fused.p_value, fused.is_ood
            self.class_conditional = fused.class_conditional


@dataclass
class Fake:
    """A monitor that has seen nothing but what it is given."""

    detectors: dict = field(default_factory=lambda: {"mean": None})
    combine: str | None = None
    overrides: tuple = ()
    bare: bool = True
    per_class: bool = False
    seen: list = field(default_factory=list)

    def predict(self, data, /):
        self.seen.append(tuple(data.shape))
        if self.bare:
            return Answer.of(data)
        each = {name: Answer.of(data, i / 10) for i, name in enumerate(self.detectors)}
        fused = Answer.of(data, 0.05) if self.combine else None
        return Answers(each, fused)


def put(folder, name, shade, size=(4, 4), kind="PNG"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade % 256, 0, 0)).save(path, kind)


IDENTITY = Identity(artifact="a" * 64, model="m" * 64, preprocess={"mode": "RGB"})


def job(images, out, monitor=None, *, identity=IDENTITY, **settings):
    settings = {"batch_size": 4, "shard_rows": 10, "progress": False} | settings
    return score_images(
        Fake() if monitor is None else monitor,
        list_images(str(images)),
        out,
        preprocess=Preprocess(),
        identity=identity,
        settings=Settings(**settings),
    )


def rows(out):
    return pq.read_table(out).to_pylist()


def content(out):
    return {path.name: path.read_bytes() for path in out.glob("*.parquet")}


class Failing(Fake):
    """Fails, in some way, after so many predictions."""

    def __init__(self, after, error):
        super().__init__()
        self.after, self.error = after, error

    def predict(self, data, /):
        if len(self.seen) == self.after:
            raise self.error
        return super().predict(data)
