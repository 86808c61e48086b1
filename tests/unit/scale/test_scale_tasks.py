"""The driver's loop: each task is done once, whichever workers end, and not for ever."""

import random

import pytest
from scale_samples import FakePool

from gradood.errors import DataError
from gradood.scale._tasks import Task, completed
from gradood.scale._worker import Failure


def tasks(count):
    return [Task(n, range(10 * n, 10 * n + 10)) for n in range(count)]


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("order", [min, max])
def test_each_task_is_done_once(workers, order):
    pool = FakePool(lambda task: task.index, workers, order)
    done = [(task.index, value) for task, value in completed(pool, tasks(20))]
    assert sorted(done) == [(n, n) for n in range(20)]
    assert len(pool.given) == 20


@pytest.mark.parametrize("seed", range(5))
def test_workers_that_end_at_random_cost_their_tasks_a_repetition(seed):
    rng = random.Random(seed)
    pool = FakePool(lambda t: t.index if rng.random() < 0.8 else None, 3, rng.choice)
    assert sorted(task.index for task, _ in completed(pool, tasks(30))) == list(range(30))
    given = [task.index for _, task in pool.given]
    assert len(given) == 30 + pool.number - 3  # One for each worker that ended, no more.


def test_a_task_at_which_workers_end_is_done_with_care_after_the_third():
    pool = FakePool(lambda task: None if task.index == 1 and not task.careful else 0)
    assert sorted(task.index for task, _ in completed(pool, tasks(3))) == [0, 1, 2]
    assert [task.careful for _, task in pool.given if task.index == 1] == [False] * 3 + [True]


def test_a_task_at_which_all_workers_end_is_given_up():
    pool = FakePool(lambda task: None if task.index == 1 else 0)
    with pytest.raises(ChildProcessError, match="6 workers ended at rows 10 to 19, also with rows"):
        list(completed(pool, tasks(3)))
    assert len([task for _, task in pool.given if task.index == 1]) == 6


def test_workers_that_all_end_at_their_start_are_given_up():
    class Stillborn(FakePool):
        def event(self):
            from gradood.scale._tasks import Lost

            return Lost(self.starting.popleft(), "no memory")

    with pytest.raises(ChildProcessError, match=r"6 workers ended before they did a task.*memory"):
        list(completed(Stillborn(lambda task: 0), tasks(3)))


def test_an_error_of_a_task_ends_the_whole():
    pool = FakePool(lambda task: Failure.of(DataError("no such layer")) if task.index == 2 else 0)
    with pytest.raises(DataError, match="no such layer"):
        list(completed(pool, tasks(4)))


def test_tasks_are_taken_as_workers_are_free():
    taken = []

    def source():
        for task in tasks(1000):
            taken.append(task.index)
            yield task

    done = completed(FakePool(lambda task: 0), source())
    next(done)
    assert len(taken) <= 3
    done.close()
