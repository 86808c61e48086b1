"""A network by name for `benchmarks/scale.py`, and a kind of file that ends its decoder."""

import os
import signal

import torch
from PIL import Image
from torch import nn

__all__ = ["DEADLY", "network"]

DEADLY = b"ENDSITSDECODER"
"""How a file begins at which the process that decodes it ends, as by a fault in a library."""


def network() -> nn.Module:
    """Two layers, the same weights in every process; from here on, files may be deadly."""
    Image.init()
    opened, accepted = Image.OPEN["PNG"]
    Image.OPEN["PNG"] = (
        lambda stream, name: _end(stream) or opened(stream, name),
        lambda start: start.startswith(DEADLY) or accepted(start),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Linear(16, 4)).eval()


def _end(stream):
    start = stream.read(len(DEADLY))
    stream.seek(0)
    if start == DEADLY:
        os.kill(os.getpid(), signal.SIGKILL)
