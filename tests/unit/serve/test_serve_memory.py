"""Memory of a worker: kernels before the first request, and pages that are given back."""

import resource
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gradood.serve import _subject
from gradood.serve._memory import HeapTrimmer
from gradood.serve._subject import LoadedSubject, load_subject


def test_a_worker_computes_every_size_of_batch_before_it_answers(files, monkeypatch):
    """Kernels of sizes that came later lay between activations, so that the heap grew."""
    rows, tensors = [], LoadedSubject.tensors

    def noted(self, x):
        rows.append(len(x))
        return tensors(self, x)

    monkeypatch.setattr(LoadedSubject, "tensors", noted)
    load_subject(replace(files[0], batch=6))
    assert rows == [6, 5, 4, 3, 2, 1]
    rows.clear()
    monkeypatch.setattr(_subject, "_WARMING", 0.0)  # A large model is not waited for.
    load_subject(replace(files[0], batch=6))
    assert rows == [6, 1]


@pytest.mark.skipif(sys.platform != "linux", reason="malloc_trim is glibc's")
def test_holes_of_the_heap_are_given_back_now_and_then():
    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    kept, freed = [], []
    for _ in range(2000):  # 64 MB in buffers too small for a mapping of their own.
        freed.append(bytearray(b"x" * 32_000))
        kept.append(bytearray(b"y" * 600))
    held = resident()
    freed.clear()
    heap = HeapTrimmer(seconds=0.0)
    assert heap.trim() and len(kept) == 2000
    assert held - resident() > 30_000_000
    assert not HeapTrimmer(seconds=60.0).trim()
