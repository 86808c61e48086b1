import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gradood
from gradood.training.checkpoint import load

SOURCE = str(Path(gradood.__file__).parents[1])
PROGRAM = """
import sys, torch
from torch import nn
from torch.utils.data import TensorDataset
from gradood.training import Options, Trainer, TrainingData, load_recipe
from gradood.training.distributed import Processes, joined

torch.set_num_threads(1)
jobs = sys.argv[1:]
for_all = ["batch.id=9", "validation.id=3", "validation.aux=8", "schedule.epochs=2",
           "augment.crop_padding=1", "optimizer.lr=0.05", "checkpoint.every=2"]

def stop(done):
    if done == 7:
        raise InterruptedError

def fit(out, method, action):
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.Tanh(), nn.Flatten(), nn.Linear(96, 8), nn.Tanh(),
        nn.Linear(8, 3),
    ).double()
    n, m = 63, 150
    x = torch.randn(n, 2, 4, 4).double() + (torch.arange(n) % 3)[:, None, None, None]
    aux = torch.randn(m, 2, 4, 4).double() - 1.0
    with torch.no_grad():
        low, high = (float(-model(t).logsumexp(1).quantile(q)) for t, q in ((x, 0.7), (aux, 0.3)))
    low = min(low, high - 1e-3)
    changes = list(for_all)
    if method in ("greg", "greg+"):
        changes += [f"loss.{t}.{k}={v}" for t in ("margin", "gradient")
                    for k, v in (("m_in", low), ("m_out", high))]
    if method == "greg" and Processes.current().size > 1:
        changes += ["batch.accumulate=2"]
    if method == "greg+":
        changes += ["sampling.candidates_per_id=5"]
    if method == "vos":
        changes += ["loss.virtual.queue=4", "loss.virtual.drawn=9", "loss.virtual.start=0.2"]
    data = TrainingData(id=TensorDataset(x, torch.arange(n) % 3), aux=TensorDataset(aux))
    options = Options(log_every=1, after_step=stop if action == "interrupt" else None)
    trainer = Trainer(model, load_recipe(method, changes), data, out=out, options=options)
    try:
        trainer.fit(resume=action == "resume")
    except InterruptedError:
        pass

with joined("cpu"):
    for job in jobs:
        out, method, action = job.split(":")
        fit(out, method, action)
"""
METHODS = ("greg", "greg+", "vos")


def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def launch(processes: int, jobs: list[str]) -> None:
    """As torchrun does; a job is ``folder:method:action``."""
    plain = {k: v for k, v in os.environ.items() if k not in ("RANK", "WORLD_SIZE")}
    common = plain | {"PYTHONPATH": SOURCE, "OMP_NUM_THREADS": "1"}
    if processes > 1:
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port())}
        common |= address | {"WORLD_SIZE": str(processes)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *jobs],
            env=common | ({"RANK": str(rank)} if processes > 1 else {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    for process in running:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
        assert "deprecated" not in said


def weights(folder: Path, method: str) -> dict[str, torch.Tensor]:
    return load(folder / method / "checkpoint.safetensors").part("model")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path, Path]:
    """Every method trained by one process, and by two; and GReg by two, interrupted and resumed."""
    one, two, again = (tmp_path_factory.mktemp(name) for name in ("one", "two", "again"))
    launch(1, [f"{one / method}:{method}:" for method in METHODS])
    resumed = [f"{again / 'greg'}:greg:{action}" for action in ("interrupt", "resume")]
    launch(2, [f"{two / method}:{method}:" for method in METHODS] + resumed)
    return one, two, again


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_two_processes_train_what_one_trains(folders, method):
    """The last step of an epoch has six samples: the parts are uneven."""
    one, two = (weights(folder, method) for folder in folders[:2])
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-9, atol=1e-11)
    a, b = ((f / method / "steps.csv").read_text().splitlines() for f in folders[:2])
    assert len(a) == len(b) > 10
    for ours, theirs in zip(a[1:], b[1:], strict=True):
        left, right = ([float(cell) for cell in line.split(",")] for line in (ours, theirs))
        assert left == pytest.approx(right, rel=1e-9)


@pytest.mark.slow
def test_an_interrupted_run_of_two_is_resumed_bit_for_bit(folders):
    _, two, again = folders
    whole, resumed = (weights(folder, "greg") for folder in (two, again))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    logs = [(folder / "greg" / "steps.csv").read_text() for folder in (two, again)]
    assert logs[0] == logs[1]
