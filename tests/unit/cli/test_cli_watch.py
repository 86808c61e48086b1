"""``gradood watch`` on results of ``gradood score`` and on JSON lines, killed and gone on with."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict

import numpy as np
import pytest
import torch

import gradood
from gradood.batch import Settings, finished_shards, list_images, load_predictor, score_images
from gradood.batch._store import Store
from gradood.cli import main
from gradood.data import Preprocess
from gradood.models import REFERENCES, build

PREPROCESS = Preprocess(**REFERENCES["digits_net"].preprocess)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A calibrated detector, and the results of a job on 40 images in shards of 16."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("watch")
    torch.manual_seed(0)
    model = build("digits_net").eval()
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    for i, pixels in enumerate(rng.integers(0, 256, (40, 12, 10), dtype=np.uint8)):
        Image.fromarray(pixels).save(folder / "images" / f"{i:02}.png")
    (folder / "images" / "zz.png").write_bytes(b"no image")
    for name, methods, combine in [("one", "energy", None), ("two", ["energy", "msp"], "fisher")]:
        monitor = gradood.Monitor(model, methods, combine=combine, progress=False)
        monitor.calibrate(torch.rand(80, 1, 8, 8), fpr=0.1)
        monitor.save(folder / f"{name}.safetensors")
        artifact = gradood.artifact.read(folder / f"{name}.safetensors")
        predictor = load_predictor(artifact, model)
        score_images(
            predictor.monitor,
            list_images(str(folder / "images")),
            folder / name,
            preprocess=PREPROCESS,
            identity=predictor.identity(asdict(PREPROCESS), "cpu"),
            settings=Settings(shard_rows=16, max_bad_fraction=1, progress=False),
        )
    return folder


def words(made, state, source=None, detector="one"):
    files = ["--detector", str(made / f"{detector}.safetensors"), "--state", str(state)]
    return ["watch", *([] if source is None else [str(source)]), *files]


def told(capsys):
    out, _ = capsys.readouterr()
    return json.loads(out)


@pytest.mark.parametrize("detector", ["one", "two"])
def test_every_shard_is_taken_in_once(made, tmp_path, capsys, detector):
    state = tmp_path / "watch.json"
    first = main([*words(made, state, made / detector, detector), "--json"])
    found = told(capsys)
    assert (found["seen"], found["mode"], found["alpha"]) == (40, "marginal", 0.01)
    assert first == int(found["alarm"])
    before = state.read_bytes()
    assert main([*words(made, state, made / detector, detector), "--json"]) == first
    assert told(capsys) == found
    assert state.read_bytes() == before
    watch = gradood.Watch(made / f"{detector}.safetensors")
    for shard in finished_shards(made / detector):
        watch.update(shard.results())
    assert found["evidence"] == watch.evidence


def test_rows_taken_out_of_a_shard_do_not_make_it_another(made, tmp_path):
    import shutil

    shutil.copytree(made / "one", tmp_path / "out")
    before = [shard.sha256 for shard in finished_shards(tmp_path / "out")]
    store = Store(tmp_path / "out")
    store.load()
    entry = store.entries[0]
    table = next(iter(finished_shards(tmp_path / "out"))).table
    counts = {"rows": 15, "unscored": 0, "statuses": {}, "flagged": {}}
    store.rewrite(entry, table.slice(1), table.slice(0, 1), counts)
    after = list(finished_shards(tmp_path / "out"))
    assert [shard.sha256 for shard in after] == before
    assert after[0].table.num_rows == 15


def test_lines_of_json_and_the_alarm(made, tmp_path, capsys):
    lines, state = tmp_path / "scores.jsonl", tmp_path / "watch.json"
    lines.write_text("".join(f'{{"score": {score}}}\n' for score in [1e3] * 60 + ["null"]))
    assert main(words(made, state, lines)) == 1
    out, err = capsys.readouterr()
    assert "ALARM" in out and "alarm: scores are higher than before" in err
    assert main(words(made, state)) == 1  # It stays.
    assert main([*words(made, state), "--acknowledge", "a test"]) == 0
    assert main([*words(made, state), "--json"]) == 0
    out, _ = capsys.readouterr()
    found = json.loads(out[out.index("{") :])
    assert (found["seen"], found["acknowledged"][0]["reason"]) == (61, "a test")


def test_groups_labels_and_foresight(made, tmp_path, capsys):
    lines = tmp_path / "scores.jsonl"
    lines.write_text("".join(f'{{"score": -5, "label": 1, "r": {i // 8}}}\n' for i in range(32)))
    flags = ["--group", "r", "--foresight", "1", "--json", "--mode", "pac"]
    assert main([*words(made, tmp_path / "w.json", lines), *flags]) == 0
    found = told(capsys)
    assert (found["steps"], found["seen"], found["mode"]) == (4, 32, "pac")
    assert "100 % of items out-of-distribution" in found["foresight"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("x", "line 2 is no JSON"),
        ("[" * 200_000, "line 2 is no JSON"),
        (f'{{"g": 1, "score": 1{"0" * 400}}}', "line 2 has a score beyond any float"),
        ("[1]", "line 2 has no score"),
        ('{"score": "1"}', "line 2 has no score"),
        ('{"score": 1, "label": 1.5}', "line 2 has the label 1.5"),
        ('{"score": 1}', "line 2 has no 'g'"),
    ],
    ids=lambda value: value[:20],
)
def test_a_line_that_cannot_be_taken_in(made, tmp_path, capsys, line, said):
    (tmp_path / "s.jsonl").write_text(f'{{"score": 1, "g": 1}}\n{line}\n')
    assert main([*words(made, tmp_path / "w.json", tmp_path / "s.jsonl"), "--group", "g"]) == 2
    assert said in capsys.readouterr().err


def test_without_a_score_there_need_be_no_class(tmp_path, capsys):
    torch.manual_seed(0)
    monitor = gradood.Monitor(build("digits_net").eval(), "energy", progress=False)
    monitor.calibrate(torch.rand(300, 1, 8, 8), fpr=0.5, per_class=True)
    monitor.save(tmp_path / "one.safetensors")
    lines, state = tmp_path / "s.jsonl", tmp_path / "w.json"
    lines.write_text('{"score": null}\n{"score": -9, "label": 2}\n{"score": -9, "label": 2}\n')
    assert main([*words(tmp_path, state, lines), "--json"]) == 0
    assert told(capsys)["seen"] == 3
    lines.write_text('{"score": 1}\n')
    assert main([*words(tmp_path, state, lines), "--json"]) == 2
    assert "give the predicted class" in capsys.readouterr().err


def test_what_is_refused(made, tmp_path, capsys):
    state = tmp_path / "watch.json"
    assert main(words(made, state, made / "two")) == 3
    assert "was scored by another detector" in capsys.readouterr().err
    assert main(words(made, state, tmp_path)) == 2
    assert "no finished results" in capsys.readouterr().err
    assert main([*words(made, state), "--alpha", "0.1"]) == 2
    assert "was begun with 0.01" in capsys.readouterr().err
    assert main(words(made, state, detector="two")) == 3
    assert "another calibration" in capsys.readouterr().err
    state.write_bytes(state.read_bytes()[:-9])
    assert main(words(made, state)) == 3
    assert "was cut short" in capsys.readouterr().err
    assert main([*words(made, state), "--restart", "--alpha", "0.1"]) == 0
    assert len(list(tmp_path.glob("watch.json.*"))) == 1
    assert main(words(made, tmp_path / "none" / "w.json")) == 2


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_to_the_last_bit(made, tmp_path):
    """Lines arrive one by one; the process is killed in between, and the rest is fed again."""
    lines = [f'{{"score": {i % 7 - 5}}}\n'.encode() for i in range(12)]
    program = [sys.executable, "-m", "gradood", *words(made, tmp_path / "cut.json", "-")]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        seen = 0
        process.stdin.write(b"".join(lines[:5]))
        process.stdin.flush()
        until = time.monotonic() + 60
        while seen < 5 and time.monotonic() < until:
            time.sleep(0.05)
            if (tmp_path / "cut.json").exists():
                seen = json.loads((tmp_path / "cut.json").read_bytes())["watch"]["seen"]
        os.kill(process.pid, signal.SIGKILL)
    assert seen == 5
    (tmp_path / "rest.jsonl").write_bytes(b"".join(lines[5:]))
    (tmp_path / "all.jsonl").write_bytes(b"".join(lines))
    code = main(words(made, tmp_path / "cut.json", tmp_path / "rest.jsonl"))
    assert main(words(made, tmp_path / "whole.json", tmp_path / "all.jsonl")) == code
    assert (tmp_path / "cut.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
