"""``gradood score`` from end to end: a saved detector, a folder, Parquet."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import gradood
from gradood.cli import main
from gradood.data import Preprocess
from gradood.models import REFERENCES, build


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Weights, a calibrated detector and images."""
    folder = tmp_path_factory.mktemp("score")
    torch.manual_seed(0)
    model = build("digits_net").eval()
    save_file(model.state_dict(), folder / "weights.safetensors")
    preprocess = Preprocess(**REFERENCES["digits_net"].preprocess)
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    shades = [rng.integers(0, 256, (12, 10), dtype=np.uint8) for _ in range(30)]
    for i, pixels in enumerate(shades):
        Image.fromarray(pixels).save(folder / "images" / f"{i:02}.png")
    x = torch.stack([preprocess(Image.fromarray(pixels)) for pixels in shades])
    for name, methods, combine in [("one", "energy", None), ("two", ["energy", "msp"], "fisher")]:
        monitor = gradood.Monitor(
            model, methods, combine=combine, preprocess=asdict(preprocess), progress=False
        )
        monitor.calibrate(torch.cat([x, torch.rand(70, 1, 8, 8)]), fpr=0.1)
        monitor.save(folder / f"{name}.safetensors")
    return folder


def words(made, out, detector="one", source=None):
    return [
        *("score", str(made / "images" if source is None else source)),
        *("--detector", str(made / f"{detector}.safetensors"), "--model", "digits_net"),
        *("--weights", str(made / "weights.safetensors"), "--out", str(out)),
        *("--batch-size", "8", "--shard-rows", "12", "--workers", "0"),
    ]


def test_it_scores_a_folder(made, tmp_path, capsys):
    assert main([*words(made, tmp_path / "out"), "--workers", "1"]) == 0
    out, err = capsys.readouterr()
    assert "rows" in out and "30 of 30" in out
    assert err == ""
    rows = pq.read_table(tmp_path / "out").to_pylist()
    assert [row["id"] for row in rows] == [f"{i:02}.png" for i in range(30)]
    model = build("digits_net")
    gradood.models.load_weights(model, made / "weights.safetensors")
    monitor = gradood.load(made / "one.safetensors", model)
    preprocess = Preprocess(**monitor.preprocess)
    images = [Image.open(made / "images" / row["id"]) for row in rows]
    expected = monitor.predict(torch.stack([preprocess(image) for image in images]))
    assert [row["score"] for row in rows] == pytest.approx(expected.score.tolist(), rel=1e-5)
    assert [row["is_ood"] for row in rows] == expected.is_ood.tolist()
    assert [row["label"] for row in rows] == expected.label.tolist()


def test_it_scores_parquet_with_several_detectors(made, tmp_path, capsys):
    import pyarrow as pa

    images = [{"bytes": (made / "images" / f"{i:02}.png").read_bytes()} for i in range(5)]
    pq.write_table(pa.table({"picture": images}), tmp_path / "images.parquet")
    given = words(made, tmp_path / "out", "two", tmp_path / "images.parquet")
    assert main([*given, "--image-column", "picture", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["rows"] == 5 and summary["complete"] is True
    assert set(summary["flagged"]) == {"energy", "msp", "decision"}
    row = pq.read_table(tmp_path / "out").to_pylist()[4]
    assert row["id"] == "images.parquet:4"
    assert {"energy.score", "msp.is_ood", "p_value"} <= row.keys()


def bad(made, tmp_path, count):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(30):
        content = (made / "images" / f"{i:02}.png").read_bytes()
        (folder / f"{i:02}.png").write_bytes(b"" if i < count else content)
    return folder


def test_bad_images_exit_4(made, tmp_path, capsys):
    given = words(made, tmp_path / "out", source=bad(made, tmp_path, 1))
    assert main([*given, "--json"]) == 4
    summary = json.loads(capsys.readouterr().out)
    assert summary["statuses"] == {"empty": 1, "ok": 29}
    assert main(given) == 4  # There is nothing left to do, and it is still so.
    out, err = capsys.readouterr()
    assert (
        re.search(r"status empty +1; the first is \S+: \w", out)
        and "3 shards, 3 of them before" in out
    )
    assert err == ""


def test_too_many_stop_it(made, tmp_path, capsys):
    given = words(made, tmp_path / "out", source=bad(made, tmp_path, 4))
    assert main(given) == 4
    assert "stopped: 4 of the first 12 rows could not be scored" in capsys.readouterr().err
    assert len(pq.read_table(tmp_path / "out")) == 12
    assert main([*given, "--max-bad-fraction", "0.2"]) == 4
    assert len(pq.read_table(tmp_path / "out")) == 30


def test_flags_that_agree_with_the_detector(made, tmp_path):
    assert main([*words(made, tmp_path / "out"), "--mode", "L", "--resize", "8"]) == 0


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--resize", "9"], 2, "--resize is 9, but the detector was fitted with 8; leave it out"),
        (["--mode", "RGB"], 2, "--mode is 'RGB', but the detector was fitted with 'L'"),
        (["--max-bad-fraction", "2"], 2, "max-bad-fraction"),
        (["--out", "nosuch://bucket/x"], 2, "which fsspec does not know"),
        (["--detector", "absent"], 2, "absent"),
        (["--num-classes", "3"], 2, "weights"),
        (["--model", "gradood.models:convnet_mnist"], 2, "weights"),
    ],
)
def test_what_is_wrong(made, tmp_path, capsys, more, code, said):
    assert main([*words(made, tmp_path / "out"), *more]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_another_model_exits_3_unless_it_is_meant(made, tmp_path, capsys):
    torch.manual_seed(1)
    save_file(build("digits_net").state_dict(), tmp_path / "other.safetensors")
    given = [*words(made, tmp_path / "out"), "--weights", str(tmp_path / "other.safetensors")]
    assert main(given) == 3
    assert "belongs to another model" in capsys.readouterr().err
    assert main([*given, "--override", "retrained"]) == 0
    rows = pq.read_table(tmp_path / "out").to_pylist()
    assert {row["overrides"] for row in rows} == {"model mismatch: retrained"}


def test_another_detector_is_refused(made, tmp_path, capsys):
    assert main(words(made, tmp_path / "out")) == 0
    assert main(words(made, tmp_path / "out", "two")) == 2
    assert "holds results of another job: artifact was" in capsys.readouterr().err


def test_a_full_disk_exits_5(made, tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("gradood.batch._store.Store._append", full)
        assert main(words(made, tmp_path / "out")) == 5
    err = capsys.readouterr().err
    assert "cannot be written: No space left on device" in err and err.count("\n") == 1
    assert main(words(made, tmp_path / "out")) == 0


@pytest.mark.slow
def test_ctrl_c_exits_130_and_the_next_run_goes_on(made, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    content = (made / "images" / "00.png").read_bytes()
    for i in range(1500):
        (images / f"{i:04}.png").write_bytes(content)
    given = [*words(made, tmp_path / "out", source=images), "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "gradood.cli", *given],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        # A shell that starts the tests in its background has them ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    manifest = tmp_path / "out" / "_manifest.jsonl"
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None and not manifest.exists():
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGINT)  # As a terminal does: every process of the group.
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    lines = err.splitlines()
    assert any(line.startswith("finished shards are in") for line in lines), err
    assert lines[-1] == "error: interrupted" and "Traceback" not in err, err
    done = len(manifest.read_text().splitlines())
    assert 0 < done < 125
    assert main(given) == 0
    assert len(pq.read_table(tmp_path / "out")) == 1500


def test_there_is_no_bar_where_there_is_no_terminal(made, tmp_path, capsys):
    main(words(made, tmp_path / "out"))
    assert "image/s" not in capsys.readouterr().err


def test_what_was_scored_is_explained_by_the_same_ids(made, tmp_path, capsys):
    assert main([*words(made, tmp_path / "out"), "--workers", "1"]) == 0
    flagged = [row["id"] for row in pq.read_table(tmp_path / "out").to_pylist() if row["is_ood"]]
    model = ["--model", "digits_net", "--weights", str(made / "weights.safetensors")]
    given = ["explain", *model, "--detector", str(made / "one.safetensors")]
    given += ["--data", str(made / "images"), "--known", str(made / "images")]
    capsys.readouterr()
    file = tmp_path / "why.parquet"
    assert main([*given, "--out", str(file), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    rows = pq.read_table(file).to_pylist()
    assert [row["id"] for row in rows] == flagged == [item["id"] for item in said["items"]]
    assert said["explained"] == len(flagged) and len(said["known"]) == 4
    assert main([*given, "--all", "--out", str(file), "--force"]) == 0
    (first, *_) = rows = pq.read_table(file).to_pylist()
    assert len(rows) == 30 and len(first["features"]) == 64
    assert "out-of-distribution; p-value of" in first["why"][0]
    assert "Nearest known samples: 00.png" in first["why"][-1]
    capsys.readouterr()
    assert main([*given, "--all"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("00.png: ") and "explained  30 of 30 images" in err
    assert main([*given, "--out", str(file)]) == 2
    assert "give --force" in capsys.readouterr().err


def test_what_cannot_be_read_is_told_and_the_others_are_explained(made, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("00.png", "01.png"):
        shutil.copyfile(made / "images" / name, folder / name)
    (folder / "00a.png").write_bytes(b"no image")
    model = ["--model", "digits_net", "--weights", str(made / "weights.safetensors")]
    given = ["explain", *model, "--detector", str(made / "one.safetensors"), "--all"]
    given += ["--data", str(folder), "--known", str(made / "images"), "--workers", "0"]
    assert main([*given, "--json"]) == 4
    said = json.loads(capsys.readouterr().out)
    assert [item["id"] for item in said["items"]] == ["00.png", "01.png"]
    assert [row["id"] for row in said["unreadable"]] == ["00a.png"]
    assert said["data"]["unusable"] == {said["unreadable"][0]["status"]: 1}
    assert main([*given, "--out", str(tmp_path / "why.parquet")]) == 4
    err = capsys.readouterr().err
    assert "00a.png (" in err and "explained  2 of 3 images" in err
    assert pq.read_table(tmp_path / "why.parquet").column("id").to_pylist() == ["00.png", "01.png"]
    assert main([*given, "--max-bad-fraction", "0.1"]) == 2
    assert "1 of 3 rows cannot be read, more than 0.1" in capsys.readouterr().err
    for name in ("00.png", "01.png"):
        (folder / name).unlink()
    assert main([*given, "--json"]) == 4
