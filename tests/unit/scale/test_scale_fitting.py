"""What a fit by workers learns does not depend on how many there are, nor on their order."""

from functools import partial

import pytest
import torch
from PIL import Image
from scale_samples import CLASSES, network, working

import gradood
from gradood.bench import select
from gradood.data import loader, open_images
from gradood.errors import DataError, ModelMismatchError
from gradood.scale import Loading, Subject
from gradood.scale._fitting import fitted
from gradood.scale._plans import bound_by, plan_of

SUBJECT = Subject(model="scale_samples:network")
LOADING = Loading(batch_size=4)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = torch.Generator().manual_seed(0)
    for i in range(46):
        path = folder / str(i % CLASSES) / f"{i:02}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = torch.randint(0, 256, (8, 8, 3), generator=rng, dtype=torch.uint8)
        Image.fromarray(pixels.numpy()).save(path)
    return open_images(folder)


def monitor_of(methods="all"):
    chosen = select(methods, [])
    return gradood.Monitor(network(), dict(chosen.detectors), skip_unusable=True, progress=False)


def states(monitor):
    return {f"{d}/{key}": x for d, state in monitor.states.items() for key, x in state.items()}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::gradood.errors.GradoodWarning")
def test_any_number_of_workers_learns_the_same_bits(data, monkeypatch):
    monkeypatch.setattr("gradood.scale._fitting._RANGES", 5)
    whole = monitor_of()
    whole.fit(loader(data, batch_size=4))
    deaths = iter([True, False] * 3)
    pools = (
        {"workers": 1},
        {"workers": 3, "order": max},
        {"workers": 2, "dies": lambda task: next(deaths, False)},
    )
    found = []
    for pool in pools:
        monitor = monitor_of()
        fitted(monitor, data, SUBJECT, LOADING, partial(working, **pool))
        assert monitor.left_out == whole.left_out
        found.append(states(monitor))
    one_pass = states(whole)
    assert len(one_pass) > 50
    for one in found:
        assert one.keys() == one_pass.keys()
        assert [key for key in one if not torch.equal(one[key], found[0][key])] == []
    for key, expected in one_pass.items():
        torch.testing.assert_close(
            found[0][key], expected, rtol=1e-6, atol=1e-9, equal_nan=True, msg=key
        )


def test_ranges_depend_on_rows_and_batch_alone():
    for count, size in ((1, 128), (1000, 1), (50_000, 128), (130, 64)):
        ranges = Loading(batch_size=size).ranges(count, 64)
        assert len(ranges) <= 64
        assert [row for rows in ranges for row in rows] == list(range(count))
        assert all(rows.start % size == 0 for rows in ranges)
        assert all(ranges)


@pytest.mark.filterwarnings("ignore::gradood.errors.GradoodWarning")
def test_a_plan_comes_back_from_json(data):
    monitor = monitor_of()
    x = torch.stack([data[i][0] for i in range(8)])
    monitor.bind(x)
    session = monitor._session
    again = bound_by(plan_of(session.state.learning), session.unbound, x)
    for name, plan in session.state.learning.binding.plans.items():
        other = again.binding.plans[name]
        assert tuple(other.reads) == tuple(plan.reads)
        assert tuple(other.fit_reads) == tuple(plan.fit_reads)
    assert plan_of(again) == plan_of(session.state.learning)


def test_another_network_is_refused(data):
    monitor = monitor_of("knn")
    x = torch.stack([data[i][0] for i in range(8)])
    monitor.bind(x)
    plan = plan_of(monitor._session.state.learning)
    other = gradood.Monitor(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 7)), "knn")
    with pytest.raises(ModelMismatchError, match="another network than the driver: its classes"):
        bound_by(plan, other._session.unbound, x)


def test_a_bad_image_leaves_the_monitor_as_it_was(data, tmp_path):
    for i in range(12):
        Image.new("RGB", (8, 8), (i, i, i)).save(tmp_path / f"{i:02}.png")
    (tmp_path / "07.png").write_bytes(b"")
    monitor = monitor_of("knn")
    with pytest.raises(DataError, match=r"07\.png"):
        fitted(monitor, open_images(tmp_path), SUBJECT, LOADING, working)
    assert monitor.states == {}


def test_a_monitor_of_another_model_is_refused(data):
    model = network()
    with torch.no_grad():
        model[0].weight += 1
    with pytest.raises(ModelMismatchError, match="model of a worker is another"):
        fitted(gradood.Monitor(model, "knn"), data, SUBJECT, LOADING, working)
