"""The runner: one pass, what is kept of it, and what comes out."""

import json
import os
import signal
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from arena_digits import FEW, settings, write
from safetensors import safe_open

import gradood.data.dataset
from gradood._io.records import to_plain
from gradood.bench import (
    ModelEntry,
    Record,
    Settings,
    json_text,
    load_suite,
    run,
    scores_of,
    write_folder,
)
from gradood.bench._demo import one_thread
from gradood.data import Preprocess, loader, open_images
from gradood.errors import ConfigError, DataError, GradoodWarning
from gradood.models import build, load_weights
from gradood.monitor import Monitor

IMAGES = 150 + 100 + 80 + 50 + 50


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write(tmp_path_factory.mktemp("arena"))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Several shards per set, one thread, and no warnings about the small network."""
    monkeypatch.setattr("gradood.bench.entries._ROWS", 40)
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore", GradoodWarning)
        yield


@pytest.fixture
def decoded(monkeypatch):
    """Counts the images that are decoded."""
    seen = []
    plain = gradood.data.dataset.decode

    def counted(encoded):
        seen.append(1)
        return plain(encoded)

    monkeypatch.setattr("gradood.data.dataset.decode", counted)
    return seen


def timeless(record: Record) -> dict:
    """Without what differs between equal runs."""
    found = json.loads(json_text(record.to_dict()))
    for key in ("date", "machine", "command"):
        found.pop(key)
    for one in found["runs"]:
        one["seconds"] = one["cost"] = None
    return found


def same(a, b):
    assert timeless(a.record) == timeless(b.record)
    for one, sets in a.scores.items():
        for name, methods in sets.items():
            for method, scores in methods.items():
                assert torch.equal(scores, b.scores[one][name][method]), (one, name, method)
    return True


def test_scores_are_those_of_a_monitor(root):
    out = run(settings(root))
    model = load_weights(build("digits_net", num_classes=8), root / "net0.safetensors").eval()
    parts = [
        open_images(root / f"{name}.parquet", Preprocess(mode="L"))
        for name in ("fit_a", "fit_b", "test", "near", "far")
    ]
    fit = [batch for part in parts[:2] for batch in loader(part, batch_size=16)]
    monitor = Monitor(model, FEW.split(",")).fit(fit)
    for name, part in zip(("id", "near", "far"), parts[2:], strict=True):
        for method, scores in monitor.score(loader(part, batch_size=16)).items():
            torch.testing.assert_close(out.scores["net"][name][method], scores)
    (found,) = out.record.runs
    assert found.id_accuracy > 0.8 and found.classes == 8
    assert out.record.suite.checked and out.record.suite.id.sha256


def test_one_pass_over_every_image_and_none_the_second_time(root, tmp_path, decoded):
    first = run(settings(root, cache=tmp_path))
    assert len(decoded) <= IMAGES + 32  # And the example.
    decoded.clear()
    again = run(settings(root, cache=tmp_path))
    assert len(decoded) == 32
    assert same(first, again)
    assert same(first, run(settings(root)))


def test_a_new_method_with_the_same_readings_needs_no_pass(root, tmp_path, decoded):
    run(settings(root, cache=tmp_path, methods="energy,knn"))
    decoded.clear()
    out = run(settings(root, cache=tmp_path, methods="energy,knn,mahalanobis,msp"))
    assert len(decoded) == 32
    assert same(out, run(settings(root, methods="energy,knn,mahalanobis,msp")))


def test_a_new_reading_needs_one_pass_for_it_alone(root, tmp_path, decoded, monkeypatch):
    run(settings(root, cache=tmp_path, methods="energy,knn"))
    asked = []
    plain = gradood._engine.reader.gather

    def gather(network, x, reads, labels=None):
        if x is not network.example:
            asked.append(set(reads))
        return plain(network, x, reads, labels)

    decoded.clear()
    monkeypatch.setattr("gradood._engine.reader.gather", gather)
    out = run(settings(root, cache=tmp_path, methods="energy,knn,gaia-z"))
    assert len(decoded) == 80 + 50 + 50 + 32  # What gaia-z scores; it learns nothing.
    assert asked and all("features" not in str(reads) for reads in asked)
    assert same(out, run(settings(root, methods="energy,knn,gaia-z")))


def test_what_was_learned_from_readings_too_large_to_keep_is_kept(
    root, tmp_path, decoded, monkeypatch
):
    monkeypatch.setattr("gradood._engine.reader.BULKY", 600)
    first = run(settings(root, cache=tmp_path, methods="grood,gaia-z"))
    decoded.clear()
    assert same(first, run(settings(root, cache=tmp_path, methods="grood,gaia-z")))
    assert len(decoded) == 32
    monkeypatch.setattr("gradood._engine.reader.BULKY", 0)  # Nothing but states and scores.
    first = run(settings(root, cache=tmp_path / "b", methods="grood,knn"))
    decoded.clear()
    assert same(first, run(settings(root, cache=tmp_path / "b", methods="grood,knn")))
    # The predicted class takes logits, which are not kept here either.
    assert len(decoded) == 80 + 50 + 50 + 32


@pytest.mark.parametrize("changed", ["weights", "batch", "preprocess", "rows", "option", "file"])
def test_what_results_depend_on_decides_whether_they_are_taken_from_the_cache(
    root, tmp_path, decoded, changed
):
    run(settings(root, cache=tmp_path, methods="knn"))
    options = {"cache": tmp_path, "methods": "knn"}
    if changed == "file":
        for name in (
            "net0.safetensors",
            "digits.toml",
            *(f"{n}.parquet" for n in ("fit_a", "fit_b", "test", "near", "far")),
        ):
            (tmp_path / name).write_bytes((root / name).read_bytes())
        # The same content under other names, in another folder: nothing is new.
        decoded.clear()
        run(settings(tmp_path, **options))
        assert len(decoded) == 32
        (tmp_path / "far.parquet").write_bytes((root / "near.parquet").read_bytes())
        decoded.clear()
        out = run(settings(tmp_path, **options))
        assert len(decoded) == 32  # It is the near set, whatever it is called.
        assert torch.equal(out.scores["net"]["far"]["knn"], out.scores["net"]["near"]["knn"])
        return
    decoded.clear()
    if changed == "option":
        run(settings(root, **options, options=("knn.k=3",)))
        assert len(decoded) == 32
        return
    more = {
        "weights": {},
        "batch": {"batch_size": 8},
        "preprocess": {"preprocess": {"mean": (0.5,)}},
        "rows": {"limit": 50, "fit_limit": 200, "first_rows": True},
    }[changed]
    run(settings(root, *([1] if changed == "weights" else []), **options, **more))
    if changed == "rows":  # Whole shards of 48 are the same as before; their rests are not.
        assert len(decoded) == 2 + 2 + 32
    else:
        assert len(decoded) == IMAGES + 32


def test_a_damaged_entry_is_made_again_with_a_warning(root, tmp_path):
    first = run(settings(root, cache=tmp_path))
    files = sorted(tmp_path.rglob("*.safetensors"), key=lambda file: file.stat().st_size)
    for file in (files[0], files[len(files) // 2], files[-1]):
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    with pytest.warns(GradoodWarning, match=r"is damaged .*computed again"):
        again = run(settings(root, cache=tmp_path))
    assert same(first, again)


def test_a_state_that_was_damaged_is_kept_again(root, tmp_path, decoded, monkeypatch):
    monkeypatch.setattr("gradood._engine.reader.BULKY", 0)  # Nothing but states and scores.
    run(settings(root, cache=tmp_path, methods="knn"))
    (state,) = (file for file in tmp_path.rglob("*.safetensors") if _is_state(file))
    state.write_bytes(b"")
    with pytest.warns(GradoodWarning, match=r"is damaged"):
        run(settings(root, cache=tmp_path, methods="knn"))
    decoded.clear()
    run(settings(root, cache=tmp_path, methods="knn"))
    assert len(decoded) == 80 + 50 + 50 + 32  # Nothing to fit on.


def _is_state(file):
    with safe_open(file, framework="pt") as tensors:
        return "warnings" in tensors.keys()  # noqa: SIM118


def test_detectors_are_given_the_same_rows_whatever_was_kept_before(root, tmp_path, monkeypatch):
    monkeypatch.setattr("gradood._engine.reader.BULKY", 100)
    monkeypatch.setattr("gradood._engine.reader._GROUP_BYTES", 16 * 600)
    seen = []
    plain = gradood._engine.detector_set.DetectorSet.measure

    def measured(detectors, name, reads, evidence):
        seen.append((name, evidence.size))
        return plain(detectors, name, reads, evidence)

    monkeypatch.setattr("gradood._engine.detector_set.DetectorSet.measure", measured)
    run(settings(root, cache=tmp_path, methods="energy,gaia-a"))
    first = [size for name, size in seen if name == "energy"]
    assert 16 in first  # Maps fill what may be held after a batch, and logits would not.
    seen.clear()
    run(settings(root, cache=tmp_path, methods="energy,gaia-a"))
    assert {name for name, _ in seen} == {"energy"}  # The scores of the other were kept.
    assert [size for _, size in seen] == first


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on_to_the_same_result(root, tmp_path):
    whole = run(settings(root))
    write_folder(tmp_path / "whole", whole.record, whole.scores)
    cache, out = tmp_path / "cache", tmp_path / "out"
    kills = []
    for count in (1, 4, 8):
        child = os.fork()
        if child == 0:
            with one_thread():
                done = run(settings(root, cache=cache))
            write_folder(out, done.record, done.scores)
            os._exit(0)
        until = time.monotonic() + 60
        while len(list(cache.rglob("*.safetensors"))) < count and time.monotonic() < until:
            time.sleep(0.0005)
        os.kill(child, signal.SIGKILL)
        kills.append(os.waitpid(child, 0)[1])
        assert not (out / "arena.json").exists()
    assert kills == [signal.SIGKILL] * 3
    done = run(settings(root, cache=cache))
    write_folder(out, done.record, done.scores)
    assert same(whole, done)
    name = "scores.safetensors"
    assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_interrupted_it_keeps_what_was_finished(root, tmp_path, decoded, monkeypatch):
    plain = gradood._engine.scoring.score_shards
    calls = []

    def interrupted(detectors, shards, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return plain(detectors, shards, **options)

    with monkeypatch.context() as patch:
        patch.setattr("gradood.bench.comparison.score_shards", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(settings(root, cache=tmp_path))
    decoded.clear()
    run(settings(root, cache=tmp_path))
    assert len(decoded) == 50 + 50 + 32


def test_seeds_are_runs_of_their_own_and_one_table(root, tmp_path):
    out = run(settings(root, 0, 1, methods="energy,msp"))
    assert [one.run for one in out.record.runs] == ["net#0", "net#1"]
    values = [
        next(row.auroc for row in one.means if (row.method, row.group) == ("msp", "all"))
        for one in out.record.runs
    ]
    found = to_plain(out.record.seeds["msp"]["all"]["auroc"])
    assert found == pytest.approx({"mean": np.mean(values), "sd": np.std(values, ddof=1), "n": 2})
    assert out.record.ranking.blocks == 4
    write_folder(tmp_path, out.record, out.scores)
    again = scores_of(tmp_path)
    assert list(again) == ["net#0", "net#1"]
    assert np.array_equal(again["net#1"]["far"]["msp"], out.scores["net#1"]["far"]["msp"].numpy())
    page = (tmp_path / "arena.md").read_text(encoding="utf-8")
    assert "## net#1" in page and "| suite | digits, version 1; files as the suite says |" in page
    read = Record.from_dict(json.loads((tmp_path / "arena.json").read_text("utf-8")))
    assert read.markdown() == page
    assert timeless(read) == timeless(out.record)


def test_one_network_given_as_two_seeds_is_told(root, tmp_path):
    given = settings(root, 0, 1, methods="msp", limit=8)
    (tmp_path / "copy").write_bytes((root / "net0.safetensors").read_bytes())
    twin = replace(given.contenders[1], weights=tmp_path / "copy")
    twins = replace(given, contenders=(given.contenders[0], twin))
    with pytest.warns(GradoodWarning, match="net#0 and net#1 have the same weights"):
        run(twins)


def test_means_are_over_near_and_far_and_all(root):
    (found,) = run(settings(root, methods="energy")).record.runs
    rows = {row.ood: row.auroc for row in found.rows}
    means = {row.group: row.auroc for row in found.means}
    assert means == pytest.approx(
        {"near": rows["near"], "far": rows["far"], "all": (rows["near"] + rows["far"]) / 2}
    )
    assert all(len(row.intervals["auroc"]) == 2 for row in found.rows)


def test_data_other_than_the_suite_says_is_refused_before_any_pass(root, tmp_path, decoded):
    given = settings(root)
    for name in root.iterdir():
        (tmp_path / name.name).write_bytes(name.read_bytes())
    toml = tmp_path / "digits.toml"
    toml.write_text(toml.read_text().replace('"test.parquet" = 80', '"test.parquet" = 79'))
    with pytest.raises(DataError, match=r"test.parquet has 80 images, expected 79"):
        run(settings(tmp_path))
    assert decoded == [] and given.check


@pytest.mark.slow
def test_a_method_that_refuses_the_fit_data_is_left_out_with_the_reason(root):
    options = ("knn.k=50",)
    given = settings(root, methods="all", fit_limit=30, limit=20, options=options)
    (found,) = run(given).record.runs
    assert found.left_out["knn"].startswith("knn with k=50 was fitted on 30 samples")
    assert "knn" not in found.methods and "energy" in found.methods
    assert {row.method for row in found.rows} == found.methods.keys()


@pytest.mark.parametrize("options", [{"methods": "msp,energy"}, {"fit_limit": 0}])
def test_training_images_that_nobody_learns_from_need_not_be_there(root, tmp_path, options):
    for name in ("net0.safetensors", "digits.toml", "test.parquet", "near.parquet", "far.parquet"):
        (tmp_path / name).write_bytes((root / name).read_bytes())
    given = {"methods": "all", **options}
    out = run(settings(tmp_path, **given))
    assert out.record.suite.id.fit == ()
    assert {"msp", "energy"} <= out.record.runs[0].methods.keys()
    with pytest.raises(DataError, match=r"fit_a.parquet' does not exist|fit_a.parquet is missing"):
        run(settings(tmp_path, methods="all"))


@pytest.mark.parametrize("label", ["a/b", "a|b", "a\nb"])
def test_a_label_that_would_break_a_table_is_refused(root, label):
    with pytest.raises(ConfigError, match=r"expected a printable name without a slash or a bar"):
        run(settings(root, methods=f"{label}=msp"))


def test_all_that_a_suite_lacks_is_told_at_once(root, tmp_path):
    for name in ("net0.safetensors", "digits.toml", "test.parquet"):
        (tmp_path / name).write_bytes((root / name).read_bytes())
    with pytest.raises(DataError, match=r"fit_a.parquet is missing; .*far.parquet is missing"):
        run(settings(tmp_path))


@pytest.mark.parametrize("odd", [{}, {"format": "gradood-arena", "version": 2}, None])
def test_what_is_no_record_is_refused(odd):
    with pytest.raises(DataError, match=r"no arena record|lacks"):
        Record.from_dict(odd)
    with pytest.raises(DataError, match=r"lacks command, suite"):
        Record.from_dict({"format": "gradood-arena", "version": 1})


def test_scores_that_are_not_there_are_told(tmp_path):
    with pytest.raises(DataError, match=r"no scores in .*expected a folder that gradood bench"):
        scores_of(tmp_path)


@pytest.mark.slow
@pytest.mark.real
def test_a_slice_of_the_local_suite(shared, tmp_path, decoded):
    weights = shared / "weights" / "resnet20_cifar10.safetensors"
    given = Settings(
        contenders=(ModelEntry(label="r", model="resnet20", weights=weights),),
        suite=load_suite("cifar10-local"),
        root=shared / "data",
        methods="energy,gradnorm,knn",
        limit=200,
        fit_limit=400,
        cache=tmp_path,
        costs=False,
    )
    first = run(given)
    (found,) = first.record.runs
    assert found.id_accuracy > 0.85
    auroc = {(row.method, row.ood): row.auroc for row in found.rows}
    assert auroc["gradnorm", "svhn"] > 0.88 and auroc["gradnorm", "mnist"] > 0.95
    assert [one.n for one in first.record.suite.ood] == [200] * 5
    decoded.clear()
    assert same(first, run(given))
    assert len(decoded) == 32
