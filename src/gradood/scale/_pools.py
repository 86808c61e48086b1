"""Which workers do a piece of work: actors of a cluster, or processes of this machine."""

from functools import partial

from gradood._io.arguments import instance
from gradood.scale._process_pool import process_pool
from gradood.scale._ray_pool import ray_pool
from gradood.scale._worker import PoolOf
from gradood.scale.cluster import Cluster
from gradood.scale.devices import Devices

__all__ = ["Place", "pool_on"]

Place = Cluster | Devices
"""Where work is spread over."""


def pool_on(place: Place | None) -> PoolOf:
    """From work to workers of a place.

    Args:
        place: None for a cluster that is started on this machine.

    Raises:
        ConfigError: it is another object.
    """
    if place is not None:
        hint = "Devices.named('cpu:2') and Cluster.named('ray') make them of what the shell takes."
        instance(place, (Cluster, Devices), "cluster", "gradood.scale.Devices or Cluster", hint)
    if isinstance(place, Devices):
        return partial(process_pool, place)
    return partial(ray_pool, Cluster() if place is None else place)
