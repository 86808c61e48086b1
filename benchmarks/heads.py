"""The heads of GradNorm, LINe and GROOD at ImageNet size, against a ResNet-50's forward pass.

    python benchmarks/heads.py [--batch 256] [--bank 100000] [--rounds 5] [--json F]

1,000 classes, 2,048 features, a bank of 100,000; the forward is a ResNet-50 at 224 × 224 (4 GMAC
per image) on the same batch, timed in the same run. Features, head and bank are synthetic: sparse,
non-negative, class-structured features of the length real ones have.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from measure import interleaved, peak_bytes
from torch import Tensor, nn

import gradood
from gradood.detectors.base import Detector, State
from gradood.evidence import FEATURES, LOGITS, Evidence, Linear
from gradood.functional.grood import ood_gradient
from gradood.functional.line import contributions, pruning_thresholds
from gradood.functional.neighbors import Bank, Polar

CLASSES, WIDTH = 1000, 2048


class Bottleneck(nn.Module):
    """The residual block of a ResNet-50."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        out = 4 * width
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, out, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut = nn.Identity()
        if stride > 1 or channels != out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )

    def forward(self, x: Tensor) -> Tensor:
        """The block."""
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet50() -> nn.Sequential:
    """A ResNet-50 with random weights: 4.1 GMAC per 224 × 224 image."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
    ]
    channels = 64
    for width, blocks, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for i in range(blocks):
            layers.append(Bottleneck(channels, width, stride if i == 0 else 1))
            channels = 4 * width
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES)]
    return nn.Sequential(*layers).eval()


def features(n: int, centers: Tensor) -> tuple[Tensor, Tensor]:
    """Sparse non-negative features around class centers, and their classes."""
    labels = torch.randint(0, CLASSES, (n,))
    return (centers[labels] + 0.4 * torch.randn(n, WIDTH)).clamp_min(0), labels


def states(head: Linear, centers: Tensor, bank: int) -> dict[str, tuple[Detector, State]]:
    """The three detectors, with states made from synthetic class means and bank."""
    line = gradood.LINe(weight_percentile=10, activation_percentile=10, clip=0.8)
    strength = contributions(centers, head.weight, "signed")
    thresholds = pruning_thresholds(strength, head.weight, 10, 10)
    grood = gradood.GROOD()
    prototypes, ood = centers.double(), centers.double().mean(0)
    parts = [ood_gradient(features(5000, centers)[0], prototypes, ood) for _ in range(bank // 5000)]
    vectors = Bank.of(
        Polar(torch.cat([p.unit for p in parts]), torch.cat([p.log_length for p in parts]))
    ).vectors
    return {
        "gradnorm": (gradood.GradNorm(), {}),
        "line": (line, {"thresholds": thresholds, "clip": torch.tensor(0.8)}),
        "grood": (
            grood,
            {
                "prototypes": prototypes,
                "ood": ood,
                "unit": vectors.unit,
                "log_length": vectors.log_length,
            },
        ),
    }


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--bank", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.manual_seed(0)
    centers = torch.relu(torch.randn(CLASSES, WIDTH) - 0.5)
    head = Linear(0.03 * torch.randn(CLASSES, WIDTH) + 0.02 * centers, torch.zeros(CLASSES))
    h, _ = features(given.batch, centers)
    known = {FEATURES: h, LOGITS: h.double() @ head.weight.double().T}
    evidence = Evidence(given.batch, CLASSES, head, None, (FEATURES,), known)
    detectors = states(head, centers, given.bank)
    model, images = resnet50(), torch.randn(given.batch, 3, 224, 224)

    def forward() -> None:
        with torch.inference_mode():
            for part in images.split(32):
                model(part)

    calls = {"forward": forward}
    for name, (detector, state) in detectors.items():
        calls[name] = lambda d=detector, s=state: d.measure(evidence, s)
    ratios = interleaved(calls, given.rounds)
    results = {
        name: {
            "time": ratios[name],
            "megabytes": peak_bytes(calls[name]) / 1e6,
        }
        for name in detectors
    }
    print(f"{given.batch} images, bank of {given.bank:,}; time / ResNet-50 forward, peak MB")
    for name, row in results.items():
        print(f"{name:10}{row['time']:9.4f}{row['megabytes']:9.1f}")
    if given.json:
        given.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
