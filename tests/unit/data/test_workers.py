"""Processes that decode: order, time limits, deaths by chance or by a row, and start methods."""

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from PIL import Image

from gradood.data import ImageFolder, Preprocess, loader
from gradood.data import _worker_pool as worker_pool
from gradood.data._worker_pool import run_chunks
from gradood.data._workers import RowTask, in_worker
from gradood.errors import DataError

# Python 3.12 and later, where torch has started threads before a worker is forked.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")

CHUNKS = [range(start, start + 4) for start in range(0, 24, 4)]


class Numbers(RowTask):
    """Rows as tensors; some are slow, some end their process a few times, some raise."""

    def __init__(self, *, slow=(), deadly=(), wrong=(), folder=None, times=99):
        self.slow, self.deadly, self.wrong = slow, deadly, wrong
        self.folder, self.times = folder, times

    def decode(self, row):
        if row in self.wrong:
            raise KeyError(row)
        if row in self.slow:
            time.sleep(600)
        if row in self.deadly and self._died(row) < self.times:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.tensor([row])

    def _died(self, row):
        """How often before, noted in a file, as the process remembers nothing."""
        with open(self.folder / str(row), "a+b") as stream:
            stream.write(b".")
            return stream.tell() - 1

    def stand_in(self, row, status, reason):
        return torch.tensor([-row])

    def collate(self, items):
        return torch.cat(items)


def rows(results):
    return torch.cat(list(results)).tolist()


@pytest.fixture(autouse=True)
def short_pause(monkeypatch):
    monkeypatch.setattr(worker_pool, "_PAUSE", 0.05)
    yield
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_chunks_come_in_order(workers):
    assert rows(run_chunks(Numbers(), CHUNKS, workers=workers)) == list(range(24))
    assert not in_worker()


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_every_start_method(method, monkeypatch, tmp_path):
    context = multiprocessing.get_context(method)
    monkeypatch.setattr(worker_pool.multiprocessing, "get_context", lambda: context)
    task = Numbers(deadly=[5], folder=tmp_path, times=1)
    assert rows(run_chunks(task, CHUNKS, workers=1)) == list(range(24))


def test_from_a_thread_beside_others():
    results = [None, None]

    def work(place):
        results[place] = rows(run_chunks(Numbers(), CHUNKS, workers=1))

    threads = [threading.Thread(target=work, args=(place,)) for place in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [list(range(24))] * 2


@pytest.mark.parametrize("workers", [1, 2])
def test_a_row_that_takes_too_long_costs_itself_alone(workers, caplog):
    began = time.monotonic()
    task = Numbers(slow=[6, 7, 17])
    expected = [-row if row in task.slow else row for row in range(24)]
    assert rows(run_chunks(task, CHUNKS, workers=workers, timeout=0.4)) == expected
    assert time.monotonic() - began < 20
    assert "row 6: reading and decoding it took longer than 0.4 seconds" in caplog.text


def test_a_process_killed_by_chance_costs_nothing(tmp_path, caplog):
    task = Numbers(deadly=[6, 13], folder=tmp_path, times=2)
    assert rows(run_chunks(task, CHUNKS, workers=2)) == list(range(24))
    assert caplog.text.count("a process that decodes images ended (exit code -9)") == 4


def test_a_row_that_always_kills_is_tried_three_times(tmp_path):
    task = Numbers(deadly=[6, 7], folder=tmp_path)
    expected = [-row if row in (6, 7) else row for row in range(24)]
    assert rows(run_chunks(task, CHUNKS, workers=2)) == expected
    assert [(tmp_path / str(row)).stat().st_size for row in (6, 7)] == [3, 3]


def test_the_last_try_has_no_neighbors(tmp_path, monkeypatch):
    """Another process that decodes at that time would note it."""

    class Watched(Numbers):
        def decode(self, row):
            marker = self.folder / f"busy-{os.getpid()}"
            marker.touch()
            if row == 6 and self._died(6) < 3:
                busy = len([name for name in os.listdir(self.folder) if name.startswith("busy")])
                (self.folder / f"neighbors-{self._died(99)}").write_text(str(busy - 1))
                marker.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(0.02)
            marker.unlink()
            return torch.tensor([row])

    task = Watched(folder=tmp_path)
    found = rows(run_chunks(task, CHUNKS * 4, workers=2))
    assert found[6] == -6
    last = (tmp_path / "neighbors-2").read_text()
    assert last == "0"


def test_what_a_row_raises_comes_at_its_turn():
    stream = run_chunks(Numbers(wrong=[9]), CHUNKS, workers=2)
    assert next(stream).tolist() == [0, 1, 2, 3]
    assert next(stream).tolist() == [4, 5, 6, 7]
    with pytest.raises(KeyError, match="9") as caught:
        next(stream)
    assert "decode" in caught.value.__notes__[0]


def test_processes_that_end_at_no_row_end_the_whole(monkeypatch):
    class Unstartable(Numbers):
        def start(self):
            os._exit(3)

    with pytest.raises(ChildProcessError, match=r"ended 4 times \(exit code 3\)"):
        list(run_chunks(Unstartable(), CHUNKS, workers=1))


def test_a_chunk_that_cannot_be_sent_is_an_error():
    class Odd(Numbers):
        def collate(self, items):
            return lambda: items

    with pytest.raises(RuntimeError, match="pickle"):
        list(run_chunks(Odd(), CHUNKS, workers=1))


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc"), reason="needs /proc")
def test_processes_end_with_a_parent_that_is_killed(tmp_path):
    program = (
        "import sys, time, os, pathlib; sys.path.insert(0, sys.argv[2])\n"
        "from test_workers import Numbers, CHUNKS, run_chunks\n"
        "class Told(Numbers):\n"
        "    def start(self): pathlib.Path(sys.argv[1], f'pid-{os.getpid()}').touch()\n"
        "list(run_chunks(Told(slow=range(24)), CHUNKS, workers=2))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path), os.path.dirname(__file__)]
    parent = subprocess.Popen(command)
    until = time.monotonic() + 60
    while len(list(tmp_path.glob("pid-*"))) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    children = [int(path.name.removeprefix("pid-")) for path in tmp_path.glob("pid-*")]
    assert len(children) == 2
    time.sleep(0.2)
    parent.kill()
    parent.wait()
    while any(map(_alive, children)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not any(map(_alive, children))


def _alive(process):
    try:
        with open(f"/proc/{process}/stat") as stream:
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# -- images -------------------------------------------------------------------------------


@pytest.fixture
def images(tmp_path):
    for i in range(10):
        Image.new("L", (4, 4), 20 * i).save(tmp_path / f"{i}.png")
    return tmp_path


def slow_for_5(image):
    if image.getpixel((0, 0)) == 100:
        time.sleep(600)
    return Preprocess(mode="L")(image)


def deadly_for_5(image):
    if image.getpixel((0, 0)) == 100:
        os.kill(os.getpid(), signal.SIGKILL)
    return Preprocess(mode="L")(image)


@pytest.mark.parametrize(
    ("preprocess", "said"),
    [
        (slow_for_5, r"5\.png' cannot be used: reading and decoding it took longer than 3 sec"),
        (deadly_for_5, r"5\.png' cannot be used: the process that decoded it ended, 3 times"),
    ],
)
def test_a_loader_names_the_image(images, preprocess, said, caplog):
    caplog.set_level(logging.CRITICAL)
    dataset = ImageFolder(images, preprocess)
    with pytest.raises(DataError, match=said):
        list(loader(dataset, batch_size=3, workers=2, decode_timeout=3.0))
    batches = loader(dataset[6:], batch_size=3, workers=2, decode_timeout=3.0)
    assert len(batches) == 2
    assert [len(batch) for batch in batches] == [3, 1]
