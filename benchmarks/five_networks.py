"""Six networks with the images that their settings are compared on, as many of each set.

Those of CIFAR-10 are in ../shared/weights, the small vision transformer and the thin ResNet-18 are
trained by benchmarks/cifar_networks.py, and MobileNet-V2 with its photographs is in ../shared.
Runs with the version that was audited (commit 1331942) too, so it imports what that has.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from cifar_networks import PREPROCESS as CIFAR
from cifar_networks import SHARED, small_vit, thin_resnet18
from photo_network import PREPROCESS as PHOTOS
from photo_network import mobilenet_v2
from torch import Tensor, nn

from gradood.data import Preprocess, loader, open_images
from gradood.models import REFERENCES, build, load_weights

__all__ = ["NETWORKS", "OUTLIERS", "SHARED", "Sample", "Sizes", "opened"]

OUTLIERS = {
    "svhn": "svhn_test",
    "textures": "textures10_test",
    "cifar100": "cifar100_test",
    "mnist": "mnist_test",
    "tin": "tinyimagenet_val",
}
SCENES = ("ood_caltech", "ood_scenes")
Labeled = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Sizes:
    """Images to fit on, held-out ones to fit on, in-distribution ones, and of each other set."""

    fit: int
    held: int
    test: int
    outliers: int


NETWORKS = {
    "resnet20_cifar10": Sizes(1000, 500, 500, 300),
    "resnet56_cifar10": Sizes(400, 100, 100, 60),
    "densenet101_cifar10": Sizes(400, 100, 100, 50),
    "small_vit": Sizes(1000, 300, 300, 200),
    "thin_resnet18": Sizes(400, 100, 100, 60),
    "mobilenet_photos": Sizes(180, 50, 60, 40),
}


@dataclass(frozen=True)
class Sample:
    """A network with images.

    Attributes:
        model: in evaluation mode, channels last.
        preprocess: how images become inputs, for detectors that ask.
        fit: inputs and labels of images to fit on (the network's training images on CIFAR-10).
        held: the same of images that the network was not trained on.
        test: in-distribution inputs.
        outliers: inputs by the name of their set.
    """

    model: nn.Module
    preprocess: dict[str, object]
    fit: Labeled
    held: Labeled
    test: Tensor
    outliers: dict[str, Tensor]


def images(source: str, preprocess: Preprocess) -> Labeled:
    """Inputs and labels of a source, such as ``data/svhn_test.parquet[:100]``."""
    found = list(loader(open_images(f"{SHARED}/{source}", preprocess)))
    x = torch.cat([x for x, _ in found]).contiguous(memory_format=torch.channels_last)
    return x, torch.cat([y for _, y in found])


def opened(name: str, work: Path) -> Sample:
    """A network of `NETWORKS` and its images; `work` has the weights that were trained here."""
    sizes = NETWORKS[name]
    if name == "mobilenet_photos":
        return _photographs(sizes)
    if name in ("small_vit", "thin_resnet18"):
        made = small_vit() if name == "small_vit" else thin_resnet18()
        model, stated = load_weights(made, work / f"{name}.safetensors"), dict(CIFAR)
    else:
        reference = REFERENCES[name.removesuffix("_cifar10")]
        weights = SHARED / f"weights/{reference.weights}.safetensors"
        model = load_weights(build(name.removesuffix("_cifar10")), weights)
        stated = dict(reference.preprocess)
    prepare = Preprocess(**stated)

    def part(source: str, start: int, count: int) -> Labeled:
        return images(f"data/{source}.parquet[{start}:{start + count}]", prepare)

    return Sample(
        model.eval().to(memory_format=torch.channels_last),
        stated,
        part("cifar10_train_a", 0, sizes.fit),
        part("cifar10_test", 0, sizes.held),
        part("cifar10_test", 3000, sizes.test)[0],
        {key: part(source, 0, sizes.outliers)[0] for key, source in OUTLIERS.items()},
    )


def _photographs(sizes: Sizes) -> Sample:
    """MobileNet-V2 for ImageNet and photographs of 30 of its classes, in a seeded order."""
    weights = SHARED / "photos/mobilenet_v2_imagenet.safetensors"
    model = load_weights(mobilenet_v2(), weights)
    prepare = Preprocess(**PHOTOS)
    x, y = images("photos/id_caltech.parquet", prepare)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    ends = torch.tensor([sizes.fit, sizes.held, sizes.test]).cumsum(0).tolist()
    fit, held, test = order[: ends[0]], order[ends[0] : ends[1]], order[ends[1] : ends[2]]
    return Sample(
        model.eval().to(memory_format=torch.channels_last),
        dict(PHOTOS),
        (x[fit], y[fit]),
        (x[held], y[held]),
        x[test],
        {n: images(f"photos/{n}.parquet[:{sizes.outliers}]", prepare)[0] for n in SCENES},
    )
