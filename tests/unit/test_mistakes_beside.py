"""Plausible mistakes in calls that explain, map, review, pack and spread: each is answered."""

import atexit
import contextlib
import random
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mistakes import check_calls, option, pick
from safetensors.torch import save_file
from torch import nn

import gradood
from gradood import hub, scale, triage
from gradood.attribution import contributions
from gradood.evidence import FEATURES, LOGITS, Evidence, Linear
from gradood.models import build

CALLS = 348
X = torch.randn(24, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Net(nn.Sequential):
    def __init__(self) -> None:
        torch.manual_seed(0)
        super().__init__(
            nn.Conv2d(3, 6, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(6, 4),
        )


MODEL = Net().eval()


@cache
def monitor() -> gradood.Monitor:
    made = gradood.Monitor(MODEL, ["energy", "msp"], combine="fisher", progress=False)
    made.calibrate(X, fpr=0.2)
    return made.remember(X, ids=range(24))


@cache
def results() -> Any:
    return monitor().predict(X, keep=("logits", "features"))


@cache
def why() -> Any:
    return monitor().explain(X[:1])[0]


@cache
def region() -> gradood.RegionMap:
    return gradood.region_map(monitor(), X[:2], method="occlusion", detector="energy")


@cache
def package() -> Path:
    """A sound one, with the monitor's file beside it."""
    folder = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    model = build("digits_net").eval()
    made = gradood.Monitor(model, "energy", progress=False)
    made.calibrate(torch.rand(40, 1, 8, 8), fpr=0.2)
    made.save(folder / "detector.safetensors")
    save_file(model.state_dict(), folder / "weights.safetensors")
    hub.pack(
        folder / "package",
        folder / "detector.safetensors",
        "digits_net",
        folder / "weights.safetensors",
    )
    return folder / "package"


def huge() -> torch.Tensor:
    return torch.full((2, 3, 6, 6), 3e38)


def items(count: int = 6) -> triage.Items:
    p = np.linspace(0.01, 0.9, count)
    return triage.Items(
        ids=[f"a/{n}.png" for n in range(count)],
        uris=["" for _ in range(count)],
        names=("energy",),
        each=p[None],
        p_value=p,
        score=-p,
        flagged=p < 0.05,
        label=np.zeros(count, np.int64),
        status=["ok"] * count,
        artifact="0" * 64,
        job="job",
        place="",
    )


MONITORS: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "model": lambda: MODEL,
    "class": lambda: gradood.Monitor,
    "detector": lambda: gradood.Energy(),
    "name": lambda: "energy",
    "path": lambda: "detector.safetensors",
    "data": lambda: X,
    "results": results,
    "unfitted": lambda: gradood.Monitor(MODEL, "knn"),
    "not calibrated": lambda: gradood.Monitor(MODEL, ["energy", "msp"]),
    "sound": monitor,
}
DATA: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "number": lambda: 5,
    "text": lambda: "images/",
    "empty": lambda: [],
    "no rows": lambda: X[:0],
    "one image": lambda: X[0],
    "all nan": lambda: X[:3] * torch.nan,
    "first batch nan": lambda: [X[:3] * torch.nan, X[3:6]],
    "last batch nan": lambda: [X[:3], X[3:6] * torch.nan],
    "some nan": lambda: torch.cat([X[:2] * torch.nan, X[2:4]]),
    "infinite": lambda: X[:2] * torch.inf,
    "overflows": huge,
    "overflows first": lambda: [huge(), X[:2]],
    "pixels": lambda: X[:, :, :1, :1],
    "a column": lambda: X[:, :, :, :1],
    "other size": lambda: [X[:2], torch.rand(2, 3, 9, 5)],
    "one channel": lambda: X[:, :1],
    "flat": lambda: X.flatten(1),
    "whole numbers": lambda: (X * 10).long(),
    "a pair": lambda: (X, torch.zeros(24)),
    "a model": lambda: MODEL,
    "array": lambda: X[:2].numpy(),
    "sound": lambda: X[:4],
}
COUNTS = [-1, 2.5, "3", None, True, float("nan"), [], 10**9, 0, 3, X, torch.tensor(2)]
REGIONS: dict[str, list[Any]] = {
    "method": ["path", "paths", "channels", "occlusion", "known", None, 3, ["path"], MODEL],
    "detector": ["energy", "energi", 5, ["energy"], "", True, gradood.Energy, "all"],
    "layers": [[], 5, "0", ["0"], ["9"], [3], "all", [None], True, {"0"}, MODEL, ["4"], ["3"]],
}
DEVICES = ["cpu", "cuda", "bogus", 5, None, "", "cuda:99", torch.device("cpu"), ["cpu"], "cpu:3"]
FILES: dict[str, Callable[[], Any]] = {
    "none": lambda: None,
    "number": lambda: 5,
    "empty": lambda: "",
    "absent": lambda: "/proc/none/at/all",
    "absent path": lambda: Path("/proc/none/all.parquet"),
    "folder": lambda: "/usr",
    "monitor": monitor,
    "model": lambda: MODEL,
    "bytes": lambda: b"detector",
    "a null": lambda: "a\0b",
    "list": lambda: ["a"],
}


def mapped(draw: random.Random) -> None:
    options = option(draw, REGIONS)
    if draw.random() < 0.4:
        options["known"] = pick(draw, DATA)
    gradood.region_map(monitor(), pick(draw, DATA), **options)


def mapped_known(draw: random.Random) -> None:
    method = draw.choice(["channels", "known"])
    data, known = draw.choice([X[:2], X[:3] * torch.nan]), pick(draw, DATA)
    gradood.region_map(monitor(), data, method=method, known=known, detector="energy")


def mapped_other(draw: random.Random) -> None:
    gradood.region_map(pick(draw, MONITORS), X[:2], **option(draw, REGIONS))


def map_read(draw: random.Random) -> None:
    getattr(region(), draw.choice(["pixels", "peak", "gap", "tokens", "__repr__"]))


def explained(draw: random.Random) -> None:
    options = option(
        draw, {"neighbors": COUNTS, "reference": [None, 3, "mean", X, [1.0] * 6, X[0, 0, 0], [2]]}
    )
    draw.choice([monitor, monitor, lambda: gradood.Monitor(MODEL, "knn")])().explain(
        pick(draw, DATA), **options
    )


def explained_why(draw: random.Random) -> None:
    result = draw.choice([results(), results()["energy"], results().combined])
    result = draw.choice([result, monitor().predict(X[:2])])
    with contextlib.suppress(IndexError):  # As documented: there is no such sample.
        result.why(draw.choice(COUNTS), reference=draw.choice([None, 3, "mean", X, [1.0] * 6]))


def told(draw: random.Random) -> None:
    found = why()
    draw.choice([found.text, found.lines, found.to_dict])(draw.choice(COUNTS))


def contributed(draw: random.Random) -> None:
    found = why().contributions["energy"]
    with contextlib.suppress(IndexError):  # As documented.
        draw.choice([found.leading, found.__getitem__])(draw.choice(COUNTS))


def contributed_arrays(draw: random.Random) -> None:
    features = torch.rand(5, 6)
    head = Linear(MODEL[4].weight.detach(), MODEL[4].bias.detach())
    readings = {FEATURES: features, LOGITS: MODEL[4](features).detach()}
    evidence = Evidence.of(readings, classes=4, head=head)
    pool = [gradood.Energy(), gradood.Energy, "energy", None, gradood.KNN(), MODEL, gradood.Gram()]
    given = draw.choice([evidence, evidence, None, features, readings])
    contributions(draw.choice(pool), given, draw.choice([features[0], None, 5, "mean"]))


def remembered(draw: random.Random) -> None:
    ids = draw.choice([None, 5, "names", ["a"], range(24), [None] * 24, [1.5] * 24, X, iter("ab")])
    gradood.Monitor(MODEL, "energy").remember(draw.choice([pick(draw, DATA), X]), ids=ids)


def guarded(draw: random.Random) -> None:
    options = option(draw, {"ids": [5, "a", ["b"], range(24)], "explain": ["yes", None, 3, True]})
    gradood.guard(MODEL, X, detectors="energy", **options)


def packed(draw: random.Random) -> None:
    options = option(
        draw,
        {
            "weights": [None, 5, "/proc/none", MODEL, {}],
            "num_classes": [-1, "4", 2.5, None, True],
            "details": [{}, 5, "mit", hub.Details(classes=["a"]), hub.Details(force=True)],
        },
    )
    model = draw.choice([MODEL, "digits_net", None, 5, Net, monitor(), "resnet999", "a/b.pt"])
    beside = package().parent
    hub.pack(
        draw.choice([beside / "new", beside, pick(draw, FILES)]),
        draw.choice([beside / "detector.safetensors", pick(draw, FILES)]),
        model,
        **options,
    )


def opened(draw: random.Random) -> None:
    options = option(
        draw,
        {
            "device": DEVICES,
            "trust": ["all", True, "package", None, []],
            "override": [5, "", True],
            "model_folder": [5, "/proc/none", MODEL],
        },
    )
    hub.load(draw.choice([package(), package(), pick(draw, FILES)]), **options)


def opened_other(draw: random.Random) -> None:
    draw.choice([hub.open_package, hub.package_of])(pick(draw, FILES | MONITORS))


def spread(draw: random.Random) -> None:
    text = draw.choice(
        [
            None,
            5,
            "",
            "cpu:0",
            "cpu:-1",
            "cpu:99999999",
            "cpu:1.5",
            "tpu",
            "cuda:0,cpu",
            ",",
            "cpu:",
        ]
    )
    scale.Devices.named(text, threads=draw.choice([None, *COUNTS]))


def placed(draw: random.Random) -> None:
    names = draw.choice([("cpu",), (), None, 5, "cpu", ["cpu"], ("bogus",), (5,), ("cpu",) * 5000])
    scale.Devices(names=names, threads=draw.choice([None, *COUNTS]))


def clustered(draw: random.Random) -> None:
    options = option(
        draw,
        {"actors": COUNTS, "threads": COUNTS, "start_timeout": COUNTS, "address": [5, "", None]},
    )
    scale.Cluster(**options)
    scale.Cluster.named(draw.choice([None, 5, "ray", "spark", "ray:", "", "ray://a"]))


def loaded(draw: random.Random) -> None:
    scale.Loading(**option(draw, {"batch_size": COUNTS, "workers": COUNTS}))


def subject(draw: random.Random) -> None:
    options = option(
        draw,
        {
            "weights": [5, "/proc/none", MODEL],
            "num_classes": COUNTS,
            "device": DEVICES,
            "detector": [5, "/proc/none", MODEL],
            "pretrained": ["yes", 3],
        },
    )
    made = scale.Subject(model=draw.choice(["digits_net", 5, None, MODEL, "nothing"]), **options)
    draw.choice([made.absolute, made.load, made.opened])()


def scaled(draw: random.Random) -> None:
    place = draw.choice([None, 5, "ray", "cpu:2", ["cpu"], MODEL])
    named = draw.choice([scale.Subject(model="digits_net"), None, 5, "digits_net", MODEL])
    data = draw.choice([X, None, [], "images/", MODEL])
    call = draw.choice([scale.fit, scale.calibrate, scale.score_images, scale.bench])
    if call is scale.bench:
        call(draw.choice([None, 5, "suite.toml", {}]), cluster=place)
    elif call is scale.fit:
        call(draw.choice([monitor(), MODEL, None]), data, named, cluster=place or 5)
    elif call is scale.calibrate:
        options = option(draw, {"promise": [0.05, "5 %"], "loading": [3, {}], "per_class": [1]})
        call(named, data, cluster=place or 5, **options)
    else:
        call(data, pick(draw, FILES), named, cluster=place or 5)


def reviewed(draw: random.Random) -> None:
    ids = draw.choice([["a", "b"], None, 5, "abc", [1, 2], X, [None]])
    triage.review_sample(ids, draw.choice(COUNTS), draw.choice([0, *COUNTS]), "job")


def stepped(draw: random.Random) -> None:
    p = draw.choice([np.array([0.1, 0.2]), None, 5, "p", ["a"], [0.1, 2.0], X, [], [np.nan]])
    triage.steps(p, draw.choice([(0.05,), None, 0.05, ("a",), (2.0,), ()]))


def listed(draw: random.Random) -> None:
    reads = [triage.read_items, triage.read_details, lambda f: triage.read_marks(f, "job")]
    draw.choice(reads)(pick(draw, FILES))


def fed(draw: random.Random) -> None:
    sound = items()
    sample = triage.review_sample(sound.ids, 2, 0, "job")
    mark = triage.Mark(id="a/0.png", mark="known", label=None)
    triage.feed_back(
        draw.choice([sound, None, sound.ids]),
        draw.choice([{"a/0.png": mark}, {}, None, [mark], {"b": mark}, {"a/0.png": "known"}]),
        draw.choice([sample, sample, None, 5]),
        draw.choice([None, None, X, "images/", 5]),
        pick(draw, FILES),
    )


def paged(draw: random.Random) -> None:
    options = option(
        draw, {"limit": COUNTS, "side": COUNTS, "seed": COUNTS, "classes": COUNTS, "title": COUNTS}
    )
    sound = items()
    with contextlib.suppress(OSError):  # As documented: the folder is absent.
        triage.write_page(
            Path("/proc/none/page.html"),
            draw.choice([sound, sound, None]),
            draw.choice([triage.review_sample(sound.ids, 2, 0, "job"), None]),
            draw.choice([triage.read_details(None), None, {}]),
            draw.choice([None, X, "images/"]),
            triage.PageOptions(**options),
        )


def selected(draw: random.Random) -> None:
    draw.choice([triage.selection_of, triage.check_known])(pick(draw, FILES))


CALLED = [
    mapped,
    mapped,
    mapped,
    mapped_known,
    mapped_other,
    map_read,
    explained,
    explained,
    explained_why,
    told,
    contributed,
    contributed_arrays,
    remembered,
    guarded,
    packed,
    opened,
    opened_other,
    spread,
    placed,
    clustered,
    loaded,
    subject,
    scaled,
    reviewed,
    stepped,
    listed,
    fed,
    paged,
    selected,
]


@pytest.mark.parametrize("part", range(2))
def test_no_mistake_is_answered_by_an_untyped_error(part):
    check_calls(CALLED, range(part, CALLS, 2))
