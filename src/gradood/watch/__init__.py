"""Streams of scores, watched with a promise about false alarms however long they are."""

from gradood.watch._foresight import Foresight
from gradood.watch._state import Acknowledgment, WatchOptions
from gradood.watch.watch import Watch

__all__ = ["Acknowledgment", "Foresight", "Watch", "WatchOptions"]
