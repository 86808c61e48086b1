"""Reading a user's model: views, hooks, wrappers, the head, and what follows what."""

from gradood.taps._backward import OverwrittenError, failed_backward
from gradood.taps._failures import out_of_memory
from gradood.taps.arguments import Arguments, Inputs, called, described, joined, leaves_of
from gradood.taps.attended import (
    attended,
    full_mask,
    is_mask,
    left_aligned,
    of_one_length,
    padded,
    padding_of,
    sequences,
    shifted,
    stepped,
    unpadded,
)
from gradood.taps.feature_layer import FeatureLayer, named_layer
from gradood.taps.graph import Stage
from gradood.taps.head import Head
from gradood.taps.head_reading import HeadReading
from gradood.taps.isolation import device_of, left_as_found
from gradood.taps.network import LastMap, Layer, Network, paired
from gradood.taps.observe import observe
from gradood.taps.site import INPUT, Site, channel_dim, is_norm, positions
from gradood.taps.tap import Reading, Tap
from gradood.taps.view import View, Views
from gradood.taps.wrap import (
    LINKS,
    Link,
    Output,
    check_link,
    check_output,
    first_matrix,
    logits_of,
    unwrap,
)

__all__ = [
    "Arguments",
    "FeatureLayer",
    "Head",
    "HeadReading",
    "INPUT",
    "Inputs",
    "LINKS",
    "LastMap",
    "Layer",
    "Link",
    "Network",
    "Output",
    "OverwrittenError",
    "Reading",
    "Site",
    "Stage",
    "Tap",
    "View",
    "Views",
    "attended",
    "called",
    "channel_dim",
    "check_link",
    "check_output",
    "described",
    "device_of",
    "failed_backward",
    "first_matrix",
    "full_mask",
    "is_mask",
    "is_norm",
    "joined",
    "leaves_of",
    "left_aligned",
    "left_as_found",
    "logits_of",
    "named_layer",
    "observe",
    "of_one_length",
    "out_of_memory",
    "padded",
    "padding_of",
    "paired",
    "positions",
    "sequences",
    "shifted",
    "stepped",
    "unpadded",
    "unwrap",
]
