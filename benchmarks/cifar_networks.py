"""A thin ResNet-18 and a small vision transformer, trained on half of CIFAR-10's training images.

    python benchmarks/cifar_networks.py thin_resnet18 --work FOLDER --epochs 24
    python benchmarks/cifar_networks.py small_vit --work FOLDER --epochs 30

Trained on `cifar10_train_a` of ../shared alone, so that `cifar10_train_b` is data that the network
has not seen; tested once, at the end, on `cifar10_test`. A run that was interrupted goes on from
its last epoch. Weights are written to the work folder as safetensors, beside a JSON record.
Load them with `load_weights(thin_resnet18(), "FOLDER/thin_resnet18.safetensors")`, or at the shell
with `--model benchmarks.cifar_networks:thin_resnet18 --weights ...`.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from gradood import data

__all__ = ["MEAN", "PREPROCESS", "STD", "SmallViT", "ThinResNet18", "small_vit", "thin_resnet18"]

SHARED = Path(os.environ.get("GRADOOD_SHARED", Path(__file__).parents[2] / "shared"))
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
PREPROCESS = {"resize": (32, 32), "mean": MEAN, "std": STD}
BATCH, SEED = 128, 0


class _Residual(nn.Module):
    """Two 3×3 convolutions and a projected shortcut, post-activation."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.relu2 = nn.ReLU()
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != width:
            projection = nn.Conv2d(channels, width, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(projection, nn.BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(y + self.shortcut(x))


@final
class ThinResNet18(nn.Module):
    """ResNet-18 for 32×32 images with 16 instead of 64 channels [he2016resnet]: 0.035 GFLOP.

    Four stages of two blocks with 16, 32, 64 and 128 channels; 128 features, head `fc`.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.relu = nn.ReLU()
        widths = (16, 16, 32, 64, 128)
        for stage in range(1, 5):
            first = _Residual(widths[stage - 1], widths[stage], 1 if stage == 1 else 2)
            blocks = nn.Sequential(first, _Residual(widths[stage], widths[stage], 1))
            self.add_module(f"layer{stage}", blocks)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(128, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, num_classes) of normalized images (batch, 3, 32, 32)."""
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.pool(x).flatten(1))


class _Attention(nn.Module):
    """Self-attention of several heads: (batch, tokens, width) to the same."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, tokens, width = x.shape
        parts = self.qkv(x).reshape(n, tokens, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        return self.proj(attended.transpose(1, 2).reshape(n, tokens, width))


class _Block(nn.Module):
    """Attention and two linear layers, each behind a LayerNorm and with a shortcut."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 2 * width)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.fc2(self.act(self.fc1(self.norm2(x))))


@final
class SmallViT(nn.Module):
    """Vision transformer: 6 blocks of width 96, 4×4 patches, class token [dosovitskiy2021vit].

    0.5 million parameters, 0.033 GFLOP; 96 features (the class token after the last LayerNorm),
    head `head`.
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 96, 4, stride=4)
        self.cls_token = nn.Parameter(torch.randn(1, 1, 96) * 0.02)
        self.pos_embed = nn.Parameter(torch.randn(1, 65, 96) * 0.02)
        self.blocks = nn.Sequential(*(_Block(96, 4) for _ in range(6)))
        self.norm = nn.LayerNorm(96)
        self.head = nn.Linear(96, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, num_classes) of normalized images (batch, 3, 32, 32)."""
        x = self.patch_embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embed
        return self.head(self.norm(self.blocks(x))[:, 0])


def thin_resnet18(num_classes: int = 10) -> ThinResNet18:
    """ResNet-18 with 16 channels in its first stage; RGB 32×32, MEAN and STD of this module."""
    return ThinResNet18(num_classes)


def small_vit(num_classes: int = 10) -> SmallViT:
    """A vision transformer of 6 blocks; RGB 32×32, MEAN and STD of this module."""
    return SmallViT(num_classes)


FACTORIES = {"thin_resnet18": thin_resnet18, "small_vit": small_vit}


def pixels(name: str, work: Path) -> tuple[Tensor, Tensor]:
    """Images (N, 3, 32, 32) uint8 and labels (N,) of a set of ../shared, decoded once."""
    kept = work / f"{name}.npz"
    if not kept.exists():
        loader = data.loader(data.open_images(SHARED / "data" / f"{name}.parquet"), batch_size=500)
        parts = [(x.mul(255).round().byte().numpy(), y.numpy()) for x, y in loader]
        images, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
        np.savez(kept, images=images, labels=labels)
    with np.load(kept) as arrays:
        return torch.from_numpy(arrays["images"]), torch.from_numpy(arrays["labels"]).long()


def normalized(images: Tensor) -> Tensor:
    """Network inputs (N, 3, 32, 32) of uint8 images, channels last."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    scaled = (images.float() / 255 - mean) / std
    return scaled.contiguous(memory_format=torch.channels_last)


def batches(
    images: Tensor, labels: Tensor, random: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in random order: images mirrored at random and shifted by up to 4 pixels."""
    for rows in torch.randperm(len(images), generator=random).split(BATCH):
        padded = F.pad(images[rows], (4, 4, 4, 4))
        flip = torch.rand(len(rows), generator=random) < 0.5
        padded = torch.where(flip.view(-1, 1, 1, 1), padded.flip(3), padded)
        across, down = torch.randint(0, 9, (2, len(rows), 1), generator=random)
        index = torch.arange(len(rows)).view(-1, 1, 1)
        y, x = (down + torch.arange(32)).unsqueeze(2), (across + torch.arange(32)).unsqueeze(1)
        yield normalized(padded.permute(0, 2, 3, 1)[index, y, x].permute(0, 3, 1, 2)), labels[rows]


def optimizer_of(name: str, model: nn.Module, steps: int) -> tuple[Any, Any]:
    """Optimizer and one-cycle schedule: SGD for the ResNet, AdamW for the transformer."""
    if name == "small_vit":
        optimizer: Any = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
        rate = 2e-3
    else:
        optimizer = torch.optim.SGD(
            model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
        )
        rate = 0.2
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.2)
    return optimizer, schedule


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of images that a model in evaluation mode classifies right."""
    model.eval()
    with torch.inference_mode():
        right = [
            (model(normalized(x)).argmax(1) == y).sum()
            for x, y in zip(images.split(500), labels.split(500), strict=True)
        ]
    return int(torch.stack(right).sum()) / len(labels)


def train(name: str, work: Path, epochs: int) -> None:
    """Train a network, or go on with it, and write its weights and record."""
    work.mkdir(parents=True, exist_ok=True)
    images, labels = pixels("cifar10_train_a", work)
    torch.manual_seed(SEED)
    model = FACTORIES[name]().to(memory_format=torch.channels_last)
    random = torch.Generator().manual_seed(SEED)
    optimizer, schedule = optimizer_of(name, model, epochs * -(-len(images) // BATCH))
    kept = work / f"{name}.checkpoint.pt"
    parts = {"model": model, "optimizer": optimizer, "schedule": schedule}
    first, seconds = 0, 0.0
    if kept.exists():
        state = torch.load(kept, weights_only=True)
        for key, part in parts.items():
            part.load_state_dict(state[key])
        random.set_state(state["random"])
        first, seconds = state["epoch"], state["seconds"]
    for epoch in range(first, epochs):
        start, model = time.perf_counter(), model.train()
        for x, y in batches(images, labels, random):
            with torch.autocast("cpu", torch.bfloat16, enabled=name != "small_vit"):
                logits = model(x)
            loss = F.cross_entropy(logits.float(), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        seconds += time.perf_counter() - start
        state = {key: part.state_dict() for key, part in parts.items()}
        extra = {"random": random.get_state(), "epoch": epoch + 1, "seconds": seconds}
        partial = kept.with_suffix(".partial")
        torch.save(state | extra, partial)
        partial.replace(kept)
        print(
            f"{name}: epoch {epoch + 1} of {epochs}, loss {loss.item():.3f}, {seconds:.0f} s",
            flush=True,
        )
    finish(name, model, work, {"epochs": epochs, "seconds": round(seconds), "seed": SEED})


def finish(name: str, model: nn.Module, work: Path, record: dict[str, Any]) -> None:
    """Write the weights, and how well the network classifies."""
    for part in ("cifar10_train_a", "cifar10_test"):
        record[f"accuracy on {part}"] = accuracy(model, *pixels(part, work))
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(weights, work / f"{name}.safetensors")
    (work / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
    print(name, record)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("network", choices=FACTORIES)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=24)
    options = parser.parse_args()
    train(options.network, options.work, options.epochs)


if __name__ == "__main__":
    main()
