"""Reading a user's model: views, hooks, wrappers, the head, and what follows what."""

from gradood.taps._backward import OverwrittenError
from gradood.taps.graph import Stage
from gradood.taps.head import Head
from gradood.taps.isolation import device_of, left_as_found
from gradood.taps.network import LastMap, Layer, Network
from gradood.taps.observe import observe
from gradood.taps.site import INPUT, Site, channel_dim, is_norm, positions
from gradood.taps.tap import Reading, Tap
from gradood.taps.view import View, Views
from gradood.taps.wrap import logits_of, unwrap

__all__ = [
    "Head",
    "INPUT",
    "LastMap",
    "Layer",
    "Network",
    "OverwrittenError",
    "Reading",
    "Site",
    "Stage",
    "Tap",
    "View",
    "Views",
    "channel_dim",
    "device_of",
    "is_norm",
    "left_as_found",
    "logits_of",
    "observe",
    "positions",
    "unwrap",
]
