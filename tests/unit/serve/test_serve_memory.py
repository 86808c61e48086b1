"""Memory of a worker: kernels before the first request, and pages that are given back."""

import resource
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gradood.errors import DataError
from gradood.serve import _memory, _subject
from gradood.serve._memory import HeapTrimmer
from gradood.serve._subject import LoadedSubject, Subject, load_subject


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


def test_a_worker_with_a_graph_computes_every_size_too(files, tmp_path, monkeypatch):
    """Pixels are bytes there; an input of any size cannot be made before it comes."""

    class Judge:
        detectors, combine, overrides = ("energy",), None, ()

        def predict(self, x):
            seen.append((x.shape, x.dtype))
            raise DataError("enough was seen")

    for shape, kinds in (([4, 4, 3], [((2, 4, 4, 3), np.uint8)]), ([-1, -1, 3], [])):
        seen = []
        subject = Subject(detector=None, onnx="graph.onnx", batch=2)
        loaded = LoadedSubject(subject, Judge(), "0", None, shape, "uint8")
        if kinds:
            with pytest.raises(DataError, match="enough"):
                loaded.warm()
        else:
            loaded.warm()
        assert seen == kinds


def test_pages_are_given_back_once_in_ten_seconds_and_where_the_library_can(monkeypatch):
    calls, clock = [], [100.0]
    monkeypatch.setattr(_memory.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(_memory, "_malloc_trim", lambda: calls.append)
    heap, found = HeapTrimmer(), []
    for second in (101.0, 109.9, 110.0, 111.0, 119.9, 120.0):
        clock[0] = second
        found.append(heap.trim())
    assert found == [False, False, True, False, False, True] and calls == [0, 0]
    monkeypatch.setattr(_memory, "_malloc_trim", lambda: None)  # Another C library.
    assert not HeapTrimmer(seconds=0.0).trim() and calls == [0, 0]
    monkeypatch.undo()

    def no_library(name):
        raise OSError(name)

    monkeypatch.setattr(_memory.ctypes, "CDLL", no_library)
    assert _memory._malloc_trim() is None


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
