"""What one look at a text classifier costs, as a ratio to its plain forward pass.

    python benchmarks/text_cost.py [--rounds 9] [--length 64] [--batch 32]

A network of DistilBERT's size (6 layers, 768 wide, 12 heads; random weights) on batches of 32 texts
of up to 64 tokens, padded. Forward-only methods alone, and all of them together; interleaved with
plain forwards as in benchmarks/cost.py.
"""

import argparse
import os
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from measure import interleaved
from torch import Tensor, nn

import gradood

METHODS = ("msp", "energy", "max-logit", "gradnorm", "knn", "mahalanobis", "mahalanobis++", "vim")


class Distilled(nn.Module):
    """A text classifier of DistilBERT's size."""

    def __init__(self) -> None:
        super().__init__()
        self.word, self.position = nn.Embedding(30522, 768), nn.Embedding(512, 768)
        layer = nn.TransformerEncoderLayer(768, 12, 3072, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
        self.dense, self.head = nn.Linear(768, 768), nn.Linear(768, 20)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Logits (batch, 20)."""
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.word(input_ids) + self.position(places)
        x = self.encoder(x, src_key_padding_mask=attention_mask == 0)
        return self.head(F.relu(self.dense(x[:, 0])))


def batch(size: int, length: int, device: str) -> dict[str, Tensor]:
    """Random ids of half to full length, with their mask."""
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(length // 2, length + 1, (size,), generator=generator)
    mask = (torch.arange(length) < counts[:, None]).long()
    ids = torch.randint(1000, 30000, (size, length), generator=generator) * mask
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    model = Distilled().eval().to(options.device)
    x = batch(options.batch, options.length, options.device)
    fit = batch(400, 16, options.device)
    parts = [{n: leaf[i : i + 50] for n, leaf in fit.items()} for i in range(0, 400, 50)]
    with torch.no_grad():
        data = [{**part, "labels": model(**part).argmax(1)} for part in parts]
    monitors = {name: gradood.Monitor(model, name, progress=False) for name in METHODS}
    monitors["all of these"] = gradood.Monitor(model, list(METHODS), progress=False)
    calls: dict[str, Callable[[], object]] = {}

    def plain() -> object:
        with torch.inference_mode():
            return model(**x).cpu()

    calls["plain forward"] = plain
    for name, monitor in monitors.items():
        monitor.fit(data)
        calls[name] = lambda monitor=monitor: monitor.score(x)
    print(f"load {os.getloadavg()[0]:.1f}, {torch.get_num_threads()} threads")
    for name, ratio in interleaved(calls, options.rounds).items():
        print(f"{name:20}{ratio:8.3f}", flush=True)
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
