import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

import gradood
from gradood.errors import ArtifactError, ConfigError, DataError, GradoodWarning, TapError
from gradood.models import load_weights
from gradood.training import Options, Recipe, Trainer, TrainingData, load_recipe
from gradood.training._checkpoint import load, save

SOURCE = str(Path(gradood.__file__).parents[1])


class Net(nn.Module):
    """A small classifier with batch norm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn(self.conv(x))).mean((2, 3))
        return self.head(self.drop(x))


def net(seed: int = 1) -> Net:
    torch.manual_seed(seed)
    return Net()


def data(n: int = 150, m: int = 260) -> TrainingData:
    """Four classes that are bright in one place each, and outliers that are dark."""
    torch.manual_seed(7)
    labels = torch.arange(n) % 4
    x = 0.5 * torch.randn(n, 3, 8, 8)
    x[torch.arange(n), labels.clamp_max(2)] += 2.0
    x[labels == 3] += 1.0
    return TrainingData(
        id=TensorDataset(x, labels), aux=TensorDataset(torch.randn(m, 3, 8, 8) - 1.0)
    )


def recipe(method: str = "greg", *changes: str) -> Recipe:
    given = ["batch.id=16", "validation.id=30", "validation.aux=30", "schedule.epochs=2"]
    if method.startswith(("greg", "energy")):
        given += [f"loss.margin.{m}" for m in ("m_in=-3.0", "m_out=-1.0")]
    if method.startswith("greg"):
        given += [f"loss.gradient.{m}" for m in ("m_in=-1.6", "m_out=-1.5")]
    if method == "greg+":
        given.append("sampling.candidates_per_id=4")
    if method == "vos":
        given += ["loss.virtual.queue=8", "loss.virtual.drawn=20", "loss.virtual.start=0.3"]
    return load_recipe(method, [*given, *changes])


def same(a: nn.Module, b: nn.Module) -> bool:
    theirs = b.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in a.state_dict().items())


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return [{k: v for k, v in r.items() if k != "seconds"} for r in csv.DictReader(file)]


class Killed(Exception):
    pass


def kill_at(step: int):
    def after(done: int) -> None:
        if done == step:
            raise Killed

    return after


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("greg+", ("ema.decay=0.9",)),
        ("vos", ("optimizer.kind=adam", "batch.accumulate=2")),
        ("mixoe", ("batch.statistics=frozen",)),
    ],
)
@pytest.mark.parametrize("at", [4, 8, 10])
def test_a_run_resumed_after_a_kill_is_bit_for_bit_the_same(tmp_path, method, changes, at):
    chosen = recipe(method, "checkpoint.every=3", *changes)
    whole = net()
    Trainer(whole, chosen, data(), out=tmp_path / "a", options=Options(log_every=2)).fit()

    interrupted = Options(log_every=2, after_step=kill_at(at))
    with pytest.raises(Killed):
        Trainer(net(), chosen, data(), out=tmp_path / "b", options=interrupted).fit()
    torch.manual_seed(99)
    resumed = net(seed=55)  # Its own weights have no part in it.
    Trainer(resumed, chosen, data(), out=tmp_path / "b", options=Options(log_every=2)).fit(
        resume=True
    )
    assert same(whole, resumed)
    for name in ("steps.csv", "epochs.csv"):
        assert rows(tmp_path / "a" / name) == rows(tmp_path / "b" / name)
    files = [(tmp_path / folder / "checkpoint.safetensors") for folder in "ab"]
    a, b = map(load, files)
    assert a.document == b.document
    assert a.tensors.keys() == b.tensors.keys()
    assert all(torch.equal(a.tensors[n], b.tensors[n]) for n in a.tensors)


@pytest.mark.slow
def test_a_run_killed_from_outside_goes_on(tmp_path):
    program = (
        "import sys, time, torch\n"
        f"sys.path[:0] = [{str(Path(__file__).parent)!r}]\n"
        "from pathlib import Path\n"
        "from test_training_trainer import Options, Trainer, data, net, recipe\n"
        "torch.set_num_threads(1)\n"
        "options = Options(after_step=lambda done: time.sleep(0.1))\n"
        f"out = Path({str(tmp_path / 'killed')!r})\n"
        "Trainer(net(), recipe('greg', 'checkpoint.every=2', 'schedule.epochs=12'), data(),\n"
        "        out=out, options=options).fit()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": SOURCE}
    )
    checkpoint = tmp_path / "killed" / "checkpoint.safetensors"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        # Replaced between the header and the tensors that are read, a file fits itself no longer.
        with contextlib.suppress(ArtifactError):
            if checkpoint.exists() and load(checkpoint).document["step"] >= 6:
                break
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    chosen = recipe("greg", "checkpoint.every=2", "schedule.epochs=12")
    resumed, whole = net(seed=3), net()
    Trainer(resumed, chosen, data(), out=tmp_path / "killed").fit(resume=True)
    Trainer(whole, chosen, data(), out=tmp_path / "whole").fit()
    assert same(whole, resumed)
    assert not [name for name in os.listdir(tmp_path / "killed") if name.endswith(".tmp")]


def test_the_trained_network_goes_into_a_monitor_and_its_file_loads(tmp_path):
    model = net()
    trained = Trainer(model, recipe("energy"), data(), out=tmp_path).fit()
    assert trained.model is model and not model.training
    x = torch.randn(6, 3, 8, 8)
    scores = gradood.Monitor(model, "energy", progress=False).score(x)
    fresh = load_weights(net(seed=9), tmp_path / "model.safetensors").eval()
    assert torch.equal(scores, gradood.Monitor(fresh, "energy", progress=False).score(x))
    record = json.loads((tmp_path / "recipe.json").read_text())
    assert record["recipe"]["method"] == "energy"
    assert record["data"] == {"id": 120, "id_held_out": 30, "aux": 230, "aux_held_out": 30}
    assert record["steps"] == 16 and record["failure"] is None
    assert load_recipe(tmp_path / "recipe.json") == trained.recipe


def test_energy_training_separates_the_energies(tmp_path):
    trained = Trainer(
        net(), recipe("energy", "schedule.epochs=6", "optimizer.lr=0.05"), data(), out=tmp_path
    ).fit()
    assert trained.after.auroc > trained.before.auroc
    assert trained.after.energy_aux - trained.after.energy_id > 0.5
    told = rows(tmp_path / "epochs.csv")
    assert [row["epoch"] for row in told] == ["0", "1", "2", "3", "4", "5", "6"]
    assert float(told[-1]["auroc"]) == pytest.approx(trained.after.auroc)


def test_margins_auto_are_the_starting_means(tmp_path):
    model = net()
    start = recipe("plain", "schedule.epochs=4", "optimizer.lr=0.1")
    Trainer(model, start, data(), out=tmp_path / "start").fit()
    with torch.no_grad():
        given = data()
        known = -torch.logsumexp(model.eval()(given.id.tensors[0]), 1).mean()
        outliers = -torch.logsumexp(model(given.aux.tensors[0]), 1).mean()
    automatic = load_recipe(
        "greg", ["batch.id=16", "validation.id=5", "validation.aux=5", "schedule.steps=1"]
    )
    trained = Trainer(model, automatic, data(), out=tmp_path / "auto").fit()
    margin, gradient = trained.recipe.loss.margin, trained.recipe.loss.gradient
    assert (margin.m_in, margin.m_out) == (gradient.m_in, gradient.m_out)
    assert margin.m_in == pytest.approx(float(known), abs=0.1)
    assert margin.m_out == pytest.approx(float(outliers), abs=0.1)


def test_margins_auto_need_a_network_that_tells_the_two_apart(tmp_path):
    class Reversed(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) - 5 * x.mean((1, 2, 3), keepdim=True).flatten(1)

    automatic = load_recipe("energy", ["batch.id=16", "validation.id=5", "validation.aux=5"])
    with pytest.raises(ConfigError, match=r"expected the outliers to be higher\. Start from a tr"):
        Trainer(Reversed(), automatic, data(), out=tmp_path).fit()


def test_frozen_statistics_stay_and_coupled_ones_move(tmp_path):
    for statistics, moved in (("frozen", False), ("coupled", True)):
        model = net()
        before = model.bn.running_mean.clone()
        chosen = recipe("greg", f"batch.statistics={statistics}", "schedule.steps=3")
        Trainer(model, chosen, data(), out=tmp_path / statistics).fit()
        assert torch.equal(before, model.bn.running_mean) is not moved


def test_parts_give_the_gradients_of_the_whole(tmp_path):
    """Without dropout and batch statistics, in float64."""
    models = []
    for parts in (1, 3):
        model = net().double()
        model.drop.p = 0.0
        given = data()
        given = TrainingData(
            id=TensorDataset(given.id.tensors[0].double(), given.id.tensors[1]),
            aux=TensorDataset(given.aux.tensors[0].double()),
        )
        chosen = recipe("greg", f"batch.accumulate={parts}", "batch.statistics=frozen")
        Trainer(model, chosen, given, out=tmp_path / str(parts)).fit()
        models.append(model)
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_the_average_is_what_is_saved(tmp_path):
    raw, averaged = net(), net()
    Trainer(raw, recipe("energy"), data(), out=tmp_path / "raw").fit()
    chosen = recipe("energy", "ema.decay=0.95")
    trained = Trainer(averaged, chosen, data(), out=tmp_path / "ema").fit()
    saved = load(tmp_path / "ema" / "checkpoint.safetensors")
    for name, tensor in raw.state_dict().items():
        assert torch.equal(saved.tensors[f"model.{name}"], tensor)
    assert not torch.equal(raw.head.weight, averaged.head.weight)
    assert torch.equal(saved.tensors["ema.module.head.weight"], averaged.head.weight)
    assert float(rows(tmp_path / "ema" / "epochs.csv")[-1]["auroc"]) == trained.after.auroc


def test_early_stop_and_the_best_network(tmp_path):
    model = net()
    options = ["validation.patience=2", "validation.keep=best", "schedule.epochs=30"]
    chosen = recipe("energy", *options, "optimizer.lr=1e-9", "schedule.lr_min=0.0")
    trained = Trainer(model, chosen, data(), out=tmp_path).fit()
    assert trained.stopped and trained.steps < chosen.schedule.epochs * 8
    best = load(tmp_path / "best.safetensors")
    assert all(torch.equal(t, best.tensors[n]) for n, t in model.state_dict().items())
    again = net(seed=4)
    repeated = Trainer(again, chosen, data(), out=tmp_path).fit(resume=True)
    assert repeated.steps == trained.steps
    assert same(again, model)


def test_a_drop_of_accuracy_is_a_failure(tmp_path, caplog):
    model = net()
    start = recipe("plain", "schedule.epochs=6", "optimizer.lr=0.1")
    Trainer(model, start, data(), out=tmp_path / "start").fit()
    harsh = recipe("oe", "loss.exposure.weight=50", "optimizer.lr=0.5", "schedule.steps=6")
    options = Options(max_accuracy_drop=0.0)
    trained = Trainer(model, harsh, data(), out=tmp_path / "harsh", options=options).fit()
    assert trained.after.accuracy < trained.before.accuracy
    assert "accuracy on held-out known samples fell by" in trained.failure
    assert "at most 0.00% was allowed" in caplog.text
    assert json.loads((tmp_path / "harsh" / "recipe.json").read_text())["failure"]
    allowed = Options(max_accuracy_drop=1.0)
    fine = Trainer(model, harsh, data(), out=tmp_path / "fine", options=allowed).fit()
    assert fine.failure is None


def test_bf16_keeps_the_penalty_in_float32(tmp_path, monkeypatch):
    from gradood.training import _forward as forward

    seen = []
    original = forward.InputGradientPenalty.__call__

    def spy(self, energy, x, **options):
        value = original(self, energy, x, **options)
        seen.append((energy.dtype, x.dtype, value.dtype))
        return value

    monkeypatch.setattr(forward.InputGradientPenalty, "__call__", spy)
    model = net()
    chosen = recipe("greg", "precision=bf16", "schedule.steps=2")
    Trainer(model, chosen, data(), out=tmp_path).fit()
    assert set(seen) == {(torch.float32, torch.float32, torch.float32)}
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_attention_is_trained_by_its_plain_kernel(tmp_path):
    class Attending(Net):
        def forward(self, x: Tensor) -> Tensor:
            tokens = torch.relu(self.bn(self.conv(x))).flatten(2).transpose(1, 2)
            tokens = tokens[:, None].contiguous()  # As the fused kernel wants it.
            mixed = nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)
            return self.head(mixed[:, 0].mean(1))

    chosen = recipe("greg", "schedule.steps=2", "loss.gradient.m_in=100", "loss.gradient.m_out=101")
    trained = Trainer(Attending(), chosen, data(), out=tmp_path).fit()
    assert trained.steps == 2


def test_tensorboard_files_are_written(tmp_path):
    pytest.importorskip("tensorboard")
    options = Options(tensorboard=True, log_every=2)
    Trainer(net(), recipe("greg"), data(), out=tmp_path, options=options).fit()
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"epochs/fpr95" in events.read_bytes()


def test_classes_in_both_sets_are_named(tmp_path):
    given = data()
    named = TrainingData(
        id=given.id,
        aux=given.aux,
        id_classes=["cat", "dog", "ship", "truck"],
        aux_classes=["tabby, tabby cat", "teapot", "fire trucks", "dogsled", "truck stop"],
    )
    with pytest.warns(GradoodWarning, match=r"2 aux.*'cat' \('tabby, tabby cat'\), 'truck' \('f"):
        Trainer(net(), recipe("energy", "schedule.steps=1"), named, out=tmp_path).fit()


@pytest.mark.parametrize("purpose", ["id", "aux"])
def test_an_image_that_is_not_finite_is_named(tmp_path, purpose):
    given = data()
    broken = getattr(given, purpose).tensors[0].clone()
    broken[50, 0, 1, 1] = torch.nan
    changed = replace(
        given, **{purpose: TensorDataset(broken, *getattr(given, purpose).tensors[1:])}
    )
    with pytest.raises(DataError, match=rf"image 50 of the {purpose} data holds NaN"):
        Trainer(net(), recipe("greg", "schedule.epochs=3"), changed, out=tmp_path).fit()


class Exploding(Net):
    """From some training step on its loss, or the gradient of it, is not finite."""

    def __init__(self, at: int, what: str) -> None:
        super().__init__()
        self.at, self.what, self.steps = at, what, 0

    def forward(self, x: Tensor) -> Tensor:
        z = super().forward(x)
        self.steps += self.training
        if self.training and self.steps > self.at:
            if self.what == "loss":
                return z * torch.inf
            z.register_hook(lambda gradient: gradient * torch.inf)
        return z


@pytest.mark.parametrize("what", ["loss", "gradient"])
@pytest.mark.parametrize("clip", ["none", "1.0"])
def test_a_run_that_diverges_ends_and_keeps_weights_and_checkpoint(tmp_path, what, clip):
    torch.manual_seed(1)
    model = Exploding(3, what)
    chosen = recipe("energy", "checkpoint.every=1", f"optimizer.clip={clip}")
    with pytest.raises(DataError, match=rf"the {what} of step 4 is not finite \(loss .*clip"):
        Trainer(model, chosen, data(), out=tmp_path).fit()
    assert all(bool(p.isfinite().all()) for p in model.parameters())
    saved = load(tmp_path / "checkpoint.safetensors")
    assert saved.document["step"] == 3
    assert all(bool(t.isfinite().all()) for t in saved.part("model").values())


def test_a_run_shorter_than_the_logs_interval_has_a_row(tmp_path):
    Trainer(net(), recipe("plain", "schedule.steps=3"), data(), out=tmp_path).fit()
    (row,) = rows(tmp_path / "steps.csv")
    assert row["step"] == "3" and float(row["loss"]) > 0


class Sized(Dataset[Any]):
    """Every other image is wider."""

    def __len__(self) -> int:
        return 150

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return torch.zeros(3, 8, 8 + index % 2), index % 4


def test_images_that_make_up_no_batch_are_told(tmp_path):
    given = data()
    with pytest.raises(DataError, match=r"images of one batch differ in size"):
        Trainer(net(), recipe("plain"), TrainingData(id=Sized()), out=tmp_path).fit()
    for outliers in (torch.zeros(260, 3, 9, 9), torch.zeros(260, 3, 8, 8).double()):
        changed = replace(given, aux=TensorDataset(outliers))
        with pytest.raises(DataError, match=r"known images are \(3, 8, 8\) .*, outliers \(3, "):
            Trainer(net(), recipe("greg"), changed, out=tmp_path).fit()


class Flat(nn.Module):
    """Batch norm over rows alone."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.BatchNorm1d(8), nn.ReLU())
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(x))


def test_a_single_row_that_batch_norm_refuses_is_told_before_the_first_step(tmp_path):
    given = data(n=143)  # 113 of them to train on: seven steps of 16, and one of 1.
    with pytest.raises(ConfigError, match=r"has a single sample, and the model refuses it"):
        Trainer(Flat(), recipe("plain"), given, out=tmp_path / "a").fit()
    with pytest.raises(ConfigError, match=r"batch\.accumulate lower"):
        parts = recipe("plain", "batch.accumulate=16")
        Trainer(Flat(), parts, data(), out=tmp_path / "b").fit()
    for works in (
        recipe("plain", "batch.statistics=frozen"),
        recipe("plain", "schedule.steps=7"),
        recipe("oe"),
    ):
        Trainer(Flat(), works, given, out=tmp_path / f"{works.method}{works.schedule.steps}").fit()


def test_a_recipe_in_other_words_is_the_same_run(tmp_path):
    chosen = recipe("plain", "schedule.steps=2")
    Trainer(net(), chosen, data(), out=tmp_path).fit()
    told = replace(chosen, summary="Said better.", deviations=("none to speak of",))
    assert Trainer(net(), told, data(), out=tmp_path).fit(resume=True).steps == 2


def test_folders_with_a_run_are_not_overwritten(tmp_path):
    Trainer(net(), recipe("plain"), data(), out=tmp_path).fit()
    with pytest.raises(ConfigError, match=r"holds a run already; go on with it"):
        Trainer(net(), recipe("plain"), data(), out=tmp_path).fit()
    changed = recipe("plain", "optimizer.lr=0.02")
    with pytest.raises(ConfigError, match=r"optimizer\.lr was 0\.01, is 0\.02"):
        Trainer(net(), changed, data(), out=tmp_path).fit(resume=True)
    with pytest.raises(DataError, match=r"was begun on .*'id': 120.*these are .*'id': 110"):
        Trainer(net(), recipe("plain"), data(n=140), out=tmp_path).fit(resume=True)
    with pytest.raises(ArtifactError, match=r"no checkpoint at"):
        Trainer(net(), recipe("plain"), data(), out=tmp_path / "none").fit(resume=True)


def test_damaged_checkpoints_are_refused(tmp_path):
    file = tmp_path / "checkpoint.safetensors"
    save(file, {"model.a": torch.arange(5.0), "b": torch.zeros(0)}, {"step": 3})
    assert load(file).part("model")["a"].tolist() == [0, 1, 2, 3, 4]
    content = file.read_bytes()
    for damaged in (content[:-3], content[:-1] + bytes([content[-1] ^ 1]), b"", b"{}" * 40):
        file.write_bytes(damaged)
        with pytest.raises(ArtifactError, match=r"damaged|no checkpoint"):
            load(file)


def test_data_that_does_not_fit_is_told(tmp_path):
    given = data()
    with pytest.raises(DataError, match=r"needs auxiliary outliers, and none were given"):
        Trainer(net(), recipe("greg"), TrainingData(id=given.id), out=tmp_path).fit()
    with pytest.raises(DataError, match=r"150 id samples, of which 100 are to be held out"):
        Trainer(net(), recipe("plain", "validation.id=100"), given, out=tmp_path).fit()
    labels = given.id.tensors[1] + 1
    wrong = TrainingData(id=TensorDataset(given.id.tensors[0], labels), aux=given.aux)
    with pytest.raises(DataError, match=r"a label is 4, and the model has 4 classes"):
        Trainer(net(), recipe("plain"), wrong, out=tmp_path).fit()
    with pytest.raises(DataError, match=r"auxiliary set has 33 .* one step takes 64 candidates"):
        Trainer(net(), recipe("greg+"), data(m=63), out=tmp_path).fit()
    with pytest.raises(DataError, match=r"without a length"):
        Trainer(net(), recipe("plain"), TrainingData(id=iter(())), out=tmp_path).fit()
    with pytest.raises(ConfigError, match=r"expected workers ≥ 0"):
        Options(workers=-1)


def test_a_model_without_a_head_cannot_cluster(tmp_path):
    class Headless(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * 2.0

    with pytest.raises(TapError, match=r"could not be verified"):
        Trainer(Headless(), recipe("greg+"), data(), out=tmp_path).fit()
    Trainer(Headless(), recipe("greg", "schedule.steps=1"), data(), out=tmp_path).fit()


def test_a_failed_run_leaves_the_training_flags(tmp_path):
    model = net().eval()
    with pytest.raises(Killed):
        options = Options(after_step=kill_at(2))
        Trainer(model, recipe("greg"), data(), out=tmp_path, options=options).fit()
    assert not any(module.training for module in model.modules())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in model.modules())
