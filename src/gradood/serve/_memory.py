"""Memory that a worker gives back to the system."""

import ctypes
import time

__all__ = ["HeapTrimmer"]

_SECONDS = 10.0


class HeapTrimmer:
    """Gives free pages of the heap back, at most every ten seconds, where the C library is glibc.

    Activations come and go between kernels that oneDNN compiles for each shape of a batch and
    keeps, so that the heap gets holes, which `free` gives back only at its end. A call costs some
    5 ms: the pages that are used again have to be mapped again.

    Args:
        seconds: between two calls.
    """

    def __init__(self, seconds: float = _SECONDS) -> None:
        self._seconds = seconds
        self._trim = _malloc_trim()
        self._last = time.monotonic()

    def trim(self) -> bool:
        """Give memory back if it is time to; whether it was."""
        now = time.monotonic()
        if self._trim is None or now - self._last < self._seconds:
            return False
        self._last = now
        self._trim(0)
        return True


def _malloc_trim() -> "ctypes._NamedFuncPointer | None":
    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # Other C libraries; Windows.
        return None
