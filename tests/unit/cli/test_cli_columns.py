"""Rows of tables by the shell: commands agree on columns, and a broken row says why."""

import io
import json
import sys
import types
import wave

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from gradood.cli import main
from gradood.data import AudioInput, TokenInput, open_columns
from gradood.errors import DataError


class Encoder(nn.Module):
    """Token ids and a mask to logits by the mean of the states."""

    def __init__(self, num_classes=3):
        super().__init__()
        torch.manual_seed(0)
        self.word = nn.Embedding(50, 16)
        self.inner = nn.Linear(16, 16)
        self.head = nn.Linear(16, num_classes)

    def forward(self, input_ids, attention_mask=None):
        kept = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        x = torch.relu(self.inner(self.word(input_ids)))
        weights = kept[..., None].to(x.dtype)
        return self.head((x * weights).sum(1) / weights.sum(1))


class Mixed(nn.Module):
    """Numbers and a category to logits."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.kind = nn.Embedding(3, 4)
        self.inner = nn.Linear(6, 16)
        self.head = nn.Linear(16, 3)

    def forward(self, x_num, x_cat):
        joined = torch.cat([x_num, self.kind(x_cat[:, 0])], 1)
        return self.head(torch.relu(self.inner(joined)))


class Tones(nn.Module):
    """Waveforms of any length to logits by the mean over time."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Conv1d(1, 16, 9, stride=4)
        self.head = nn.Linear(16, 3)

    def forward(self, input_values):
        return self.head(torch.relu(self.inner(input_values[:, None])).mean(2))


@pytest.fixture(autouse=True)
def nets(monkeypatch):
    module = types.ModuleType("column_nets")
    module.encoder, module.mixed = Encoder, Mixed  # type: ignore[attr-defined]
    module.tones = Tones  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "column_nets", module)


def texts(tmp_path, name, count, seed, bad=()):
    generator = torch.Generator().manual_seed(seed)
    rows = []
    for _ in range(count):
        label = int(torch.randint(3, (1,), generator=generator))
        size = int(torch.randint(2, 9, (1,), generator=generator))
        ids = (torch.randint(15, (size,), generator=generator) + 1 + 15 * label).tolist()
        rows.append({"ids": ids, "label": label})
    for row, ids in bad:
        rows[row]["ids"] = ids
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)
    return str(tmp_path / name)


def said(capsys, words, code=0):
    assert main([str(word) for word in words]) == code, capsys.readouterr().err
    return capsys.readouterr().out


def test_ids_from_fit_to_score(tmp_path, capsys):
    detector, model = tmp_path / "d.safetensors", ["--model", "column_nets:encoder"]
    fit = texts(tmp_path, "fit.parquet", 90, 1)
    words = ["fit", *model, "--data", fit, "--methods", "energy,mahalanobis", "--out", detector]
    said(capsys, [*words, "--input-column", "ids"])
    held = texts(tmp_path, "held.parquet", 80, 2)
    words = ["calibrate", *model, "--data", held, "--detector", detector, "--out", detector]
    said(capsys, words)
    bad = [(3, None), (5, [1, 99]), (8, [-1])]
    test = texts(tmp_path, "test.parquet", 60, 3, bad)
    words = ["score", test, *model, "--detector", detector, "--out", tmp_path / "s", "--json"]
    summary = json.loads(said(capsys, [*words, "--workers", 0], code=4))
    assert summary["statuses"] == {"empty": 1, "ok": 57, "out_of_vocabulary": 2}
    rows = pq.read_table(tmp_path / "s").to_pylist()
    rows.sort(key=lambda row: int(row["id"].split(":")[1]))
    assert rows[3]["error"] == "it has no value; expected token ids."
    assert rows[3]["energy.is_ood"] and rows[3]["energy.score"] == float("inf")
    alone = ["score", f"{test}[7:8]", *model, "--detector", detector, "--out", tmp_path / "one"]
    said(capsys, [*alone, "--workers", 0])
    one = pq.read_table(tmp_path / "one").to_pylist()[0]
    assert one["mahalanobis.score"] == pytest.approx(rows[7]["mahalanobis.score"], rel=1e-4)
    with_other = [*words[:-1], "--input-column", "label", "--out", tmp_path / "t"]
    assert main([str(word) for word in with_other]) == 2
    assert "fitted with column 'ids'; leave the options of columns out" in capsys.readouterr().err


@pytest.mark.slow
def test_a_detector_of_columns_is_exported_and_verified_or_refused(tmp_path, capsys, monkeypatch):
    """`gradood export` took the columns' description for options of images: exit code 70."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")

    def table(name, count, seed):
        values = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed)).tolist()
        rows = [f"{a},{b},{int(a > 0)}" for a, b in values]
        (tmp_path / name).write_text("\n".join(["a,b,label", *rows]) + "\n")
        return tmp_path / name

    def classifier(num_classes=2):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2)).eval()

    monkeypatch.setattr(sys.modules["column_nets"], "numbers", classifier, raising=False)
    model, file = ["--model", "column_nets:numbers"], tmp_path / "d.safetensors"
    fit = ["fit", *model, "--data", table("fit.csv", 60, 0), "--methods", "knn", "--out", file]
    said(capsys, [*fit, "--feature-columns", "a,b"])
    held = ["--data", table("held.csv", 80, 1), "--detector", file, "--out", file]
    said(capsys, ["calibrate", *model, *held])
    check = [*model, "--detector", file, "--check", table("check.csv", 30, 2)]
    said(capsys, ["export", *check, "--out", tmp_path / "g.onnx"])
    said(capsys, ["verify", tmp_path / "g.onnx", *check])

    model, file = ["--model", "column_nets:encoder"], tmp_path / "t.safetensors"
    known = texts(tmp_path, "fit.parquet", 90, 1)
    fit = ["fit", *model, "--data", known, "--methods", "energy", "--input-column", "ids"]
    said(capsys, [*fit, "--out", file])
    said(capsys, ["calibrate", *model, "--data", known, "--detector", file, "--out", file])
    words = ["export", *model, "--detector", file, "--check", known, "--out", tmp_path / "t.onnx"]
    assert main([str(word) for word in words]) == 2
    assert "takes one tensor" in capsys.readouterr().err


def test_a_broken_row_ends_a_fit_and_is_named(tmp_path, capsys):
    source = texts(tmp_path, "fit.parquet", 40, 1, [(7, None)])
    words = ["fit", "--model", "column_nets:encoder", "--data", source, "--methods", "knn"]
    words += ["--input-column", "ids", "--out", str(tmp_path / "d.safetensors")]
    assert main(words) == 2
    assert "row 7 of" in (told := capsys.readouterr().err) and "it has no value" in told


def test_numbers_and_categories_in_a_bench(tmp_path, capsys):
    def csv(name, count, shift):
        lines = ["a,b,kind,label"]
        for i in range(count):
            label = i % 3
            lines.append(f"{label + shift + i / count},{-label + shift},{'xyz'[label]},{label}")
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        return str(tmp_path / name)

    words = ["bench", "--model", "column_nets:mixed", "--methods", "energy,knn", "--no-cache"]
    words += ["--feature-columns", "a,b", "--category-columns", "kind", "--no-costs"]
    words += ["--id", csv("id.csv", 30, 0), "--fit", csv("fit.csv", 30, 0.1)]
    said(capsys, [*words, "--ood", f"far={csv('far.csv', 30, 30)}", "--out", tmp_path / "b"])
    record = json.loads((tmp_path / "b" / "arena.json").read_text())
    made = record["runs"][0]
    assert {row["method"] for row in made["rows"]} == {"energy", "knn"}


def test_settings_are_not_chosen_on_outliers_made_of_ids(tmp_path, capsys):
    known = texts(tmp_path, "fit.parquet", 40, 1)
    words = ["bench", "--model", "column_nets:encoder", "--methods", "knn,react", "--no-cache"]
    words += ["--input-column", "ids", "--id", known, "--fit", known, "--ood", f"o={known}"]
    assert main([*words, "--hyper-parameters", "id-only"]) == 2
    assert "leave out --hyper-parameters id-only" in capsys.readouterr().err


def test_training_on_ids_takes_the_gradient_at_their_embedding(tmp_path, capsys, caplog):
    known = texts(tmp_path, "known.parquet", 120, 1)
    other = texts(tmp_path, "other.parquet", 120, 5)
    words = ["train", "--model", "column_nets:encoder", "--method", "greg", "--id", known]
    words += ["--aux", other, "--input-column", "ids", "--out", tmp_path / "run"]
    changes = ["batch.id=16", "schedule.steps=3", "validation.id=20", "validation.aux=20"]
    changes += ["loss.gradient.m_in=-2.0", "loss.gradient.m_out=-1.0", "start=either"]
    changes += ["loss.margin.m_in=-2.0", "loss.margin.m_out=-1.0"]
    said(capsys, [*words, *(word for change in changes for word in ("--set", change))])
    assert "gradient penalty is taken at the output of their embedding" in caplog.text
    assert (tmp_path / "run" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--input-column", "ids", "--text-column", "t"], "several kinds of input were given"),
        (["--padding-id", "0"], "an option of columns was given without a column"),
        (["--text-column", "t"], "--text-column needs a model with a tokenizer of its own"),
        (["--input-column", "ids", "--input-name", "idz=x"], "did you mean 'ids'"),
        (["--input-column", "ids", "--shape", "a"], "expected sizes such as 1,49,10"),
        (["--input-column", "ids", "--mean", "0.5,0.5,0.5"], "is of images"),
    ],
)
def test_options_that_do_not_go_together(tmp_path, capsys, words, message):
    source = texts(tmp_path, "fit.parquet", 9, 1)
    full = ["fit", "--model", "column_nets:encoder", "--data", source, "--methods", "energy"]
    assert main([*full, "--out", str(tmp_path / "d.safetensors"), *words]) == 2
    assert message in capsys.readouterr().err


def without_bad_rows(tmp_path, name, count, seed):
    """The same rows as `texts` with the bad ones of `BAD` taken out."""
    table = pq.read_table(texts(tmp_path, name, count, seed)).to_pylist()
    kept = [row for index, row in enumerate(table) if index not in dict(BAD)]
    pq.write_table(pa.Table.from_pylist(kept), tmp_path / name)
    return str(tmp_path / name)


BAD = [(3, None), (5, [1, 99])]


def test_broken_rows_are_counted_and_left_out_up_to_a_share(tmp_path, capsys):
    detector, model = tmp_path / "d.safetensors", ["--model", "column_nets:encoder"]
    limit = ["--max-bad-fraction", 0.05, "--json"]
    words = ["fit", *model, "--methods", "energy,knn", "--input-column", "ids", "--out", detector]
    source = texts(tmp_path, "f.parquet", 60, 1, BAD)
    told = json.loads(said(capsys, [*words, "--data", source, *limit]))["fit"]
    assert (told["n"], told["unusable"]) == (58, {"empty": 1, "out_of_vocabulary": 1})
    words = ["calibrate", *model, "--detector", detector, "--out", tmp_path / "c.safetensors"]
    held = texts(tmp_path, "h.parquet", 80, 2, BAD)
    told = json.loads(said(capsys, [*words, "--data", held, *limit]))
    assert told["data"]["unusable"] == {"empty": 1, "out_of_vocabulary": 1}
    # As if they had never been there.
    same = without_bad_rows(tmp_path, "r.parquet", 80, 2)
    said(capsys, [*words[:-1], tmp_path / "e.safetensors", "--data", same])
    one, other = load_file(tmp_path / "c.safetensors"), load_file(tmp_path / "e.safetensors")
    assert one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_more_broken_rows_than_the_share_end_it(tmp_path, capsys):
    source = texts(tmp_path, "fit.parquet", 60, 1, BAD)
    words = ["fit", "--model", "column_nets:encoder", "--data", source, "--methods", "energy"]
    words += ["--input-column", "ids", "--out", str(tmp_path / "d"), "--max-bad-fraction", "0.01"]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "2 of 60 rows cannot be used, more than 0.01 of them" in told and "row 3 of" in told


def test_a_bench_leaves_out_rows_without_cell_or_label(tmp_path, capsys):
    def csv(name, shift, broken):
        lines = ["a,b,kind,label"]
        lines += [f"{i % 3 + shift},{-i % 3},{'xyz'[i % 3]},{i % 3}" for i in range(30)]
        for row, line in broken.items():
            lines[row + 1] = line
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        return str(tmp_path / name)

    words = ["bench", "--model", "column_nets:mixed", "--methods", "energy,knn", "--no-cache"]
    words += ["--feature-columns", "a,b", "--category-columns", "kind", "--no-costs"]
    known = csv("id.csv", 0, {4: "nan,1,x,0", 6: "1,1,x,"})
    words += ["--id", known, "--fit", csv("fit.csv", 0.1, {2: "word,1,y,1"})]
    words += ["--ood", f"far={csv('far.csv', 30, {9: ',1,x,0'})}", "--out", tmp_path / "b"]
    said(capsys, [*words, "--max-bad-fraction", 0.1])
    suite = json.loads((tmp_path / "b" / "arena.json").read_text())["suite"]
    assert suite["id"]["n"] == 28
    assert suite["id"]["unusable"] == {"no_label": 1, "nonfinite_input": 1}
    assert suite["id"]["fit"][0]["unusable"] == {"wrong_type": 1}
    assert suite["ood"][0]["unusable"] == {"empty": 1}


def tagged(tmp_path, name, seed, shift=0.0):
    """Rows of two numbers, a category and up to three labels, as names with a separator."""
    x = torch.randn(60, 2, generator=torch.Generator().manual_seed(seed)) + shift
    lines = ["a,b,kind,tags"]
    for i, (a, b) in enumerate(x.tolist()):
        held = [name for name, holds in (("p", a > 0), ("q", b > 0), ("r", a > b)) if holds]
        lines.append(f"{a},{b},{'xyz'[i % 3]},{'; '.join(held)}")
    lines[7] = lines[7].rpartition(",")[0] + ",p; q; r"
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    return str(tmp_path / name)


def test_several_labels_from_a_column_by_fit_bench_and_train(tmp_path, capsys):
    columns = ["--feature-columns", "a,b", "--category-columns", "kind", "--link", "sigmoid"]
    columns += ["--model", "column_nets:mixed", "--label-column", "tags:;"]
    known, other = tagged(tmp_path, "k.csv", 0), tagged(tmp_path, "o.csv", 1)
    words = ["fit", *columns, "--data", known, "--methods", "joint-energy,mahalanobis", "--json"]
    told = json.loads(said(capsys, [*words, "--out", tmp_path / "d.safetensors"]))
    assert set(told["detectors"]) == {"joint-energy", "mahalanobis"} and not told["left_out"]
    words = ["bench", *columns, "--methods", "joint-energy,mahalanobis,knn", "--no-cache"]
    words += ["--id", other, "--fit", known, "--ood", f"far={tagged(tmp_path, 'f.csv', 2, 9)}"]
    said(capsys, [*words, "--no-costs", "--out", tmp_path / "b"])
    run = json.loads((tmp_path / "b" / "arena.json").read_text())["runs"][0]
    assert set(run["methods"]) == {"joint-energy", "mahalanobis", "knn"} and not run["left_out"]
    assert run["id_accuracy"] is None
    words = ["train", *columns, "--method", "plain", "--id", known, "--out", tmp_path / "t"]
    changes = ["batch.id=16", "schedule.steps=3", "validation.id=20", "start=either"]
    said(capsys, [*words, *(word for change in changes for word in ("--set", change))])


def test_labels_in_lists_of_parquet(tmp_path):
    rows = [{"ids": [1, 2], "tags": tags} for tags in (["b"], ["a", "b"], [])]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    found = open_columns(tmp_path / "t.parquet", TokenInput(column="ids"), label_column="tags")
    assert found.classes == ("a", "b") and found.num_classes == 2
    assert found.labels.tolist() == [[0, 1], [1, 1], [0, 0]]
    assert found.collate([found[1], found[2]])[1].tolist() == [[1, 1], [0, 0]]
    assert open_columns(tmp_path / "t.parquet", TokenInput(column="ids")).labels is None


def tone(seed, label, size=400):
    """A wave file of a tone with noise, of a pitch for each label."""
    noise = 0.1 * np.random.default_rng(seed).standard_normal(size)
    wanted = 0.5 * np.sin(np.arange(size) * (label + 1) / 8) + noise
    found = io.BytesIO()
    with wave.open(found, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes((32767 * wanted.clip(-1, 1)).astype("<i2").tobytes())
    return found.getvalue()


def sounds(folder, count, seed):
    """A folder for each of three classes, with a wave file for each input."""
    for row in range(count):
        inner = folder / f"pitch{row % 3}"
        inner.mkdir(parents=True, exist_ok=True)
        (inner / f"{row:03d}.wav").write_bytes(tone(seed + row, row % 3))
    return folder


def test_a_folder_of_sounds_from_fit_to_score(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("gradood.data._waves.soundfile", lambda: None)
    train, held = sounds(tmp_path / "train", 30, 0), sounds(tmp_path / "held", 60, 1000)
    test = sounds(tmp_path / "test", 30, 2000)
    (test / "pitch1" / "a.wav").write_bytes(b"")
    (test / "pitch1" / "b.wav").write_bytes(b"no sound at all")
    (test / "pitch2" / "c.wav").write_bytes(tone(1, 1)[:-300])
    (test / "notes.txt").write_text("x")
    model = ["--model", "column_nets:tones"]
    file = tmp_path / "d.safetensors"
    fit = ["fit", *model, "--data", train, "--audio-column", "audio", "--methods", "energy"]
    said(capsys, [*fit, "--out", file])
    calibrate = [
        "calibrate",
        "--detector",
        file,
        *model,
        "--data",
        held,
        "--fpr",
        "0.1",
        "--out",
        file,
    ]
    said(capsys, [*calibrate, "--force"])
    out = tmp_path / "scores"
    score = ["score", test, *model, "--detector", file, "--out", out, "--workers", 0, "--json"]
    found = json.loads(said(capsys, [*score, "--max-bad-fraction", 1], code=4))
    assert found["statuses"] == {"empty": 1, "not_audio": 1, "ok": 30, "truncated": 1}
    assert found["passed_over"] == {".txt": 1}
    rows = pq.read_table(next(out.glob("*.parquet"))).to_pylist()
    assert [row["id"] for row in rows[:2]] == ["pitch0/000.wav:0", "pitch0/003.wav:0"]
    assert all(row["is_ood"] and row["error"] for row in rows if row["status"] != "ok")


def test_a_folder_of_sounds_is_labeled_by_its_folders(tmp_path):
    inputs = AudioInput(column="audio")
    rows = open_columns(sounds(tmp_path / "a", 9, 0), inputs)
    assert rows.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert len(open_columns(f"{tmp_path / 'a'}[:6]", inputs)) == 6
    (tmp_path / "a" / "top.wav").write_bytes(tone(1, 1))
    assert not open_columns(tmp_path / "a", inputs).labeled
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match="sound files"):
        open_columns(tmp_path / "b", inputs)
