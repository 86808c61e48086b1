"""Reading a user's model: hooks, wrappers, the head, and what follows what."""

from gradood.taps.head import Head
from gradood.taps.network import LastMap, Layer, Network
from gradood.taps.observation import observe
from gradood.taps.site import INPUT, Site, channel_dim, is_norm, positions
from gradood.taps.stages import Stage
from gradood.taps.tap import Reading, Tap, device_of
from gradood.taps.wrap import left_as_found, logits_of, unwrap

__all__ = [
    "Head",
    "INPUT",
    "LastMap",
    "Layer",
    "Network",
    "Reading",
    "Site",
    "Stage",
    "Tap",
    "channel_dim",
    "device_of",
    "is_norm",
    "left_as_found",
    "logits_of",
    "observe",
    "positions",
    "unwrap",
]
