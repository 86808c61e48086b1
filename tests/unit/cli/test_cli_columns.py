"""Rows of tables by the shell: commands agree on columns, and a broken row says why."""

import json
import sys
import types

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from gradood.cli import main


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


@pytest.fixture(autouse=True)
def nets(monkeypatch):
    module = types.ModuleType("column_nets")
    module.encoder, module.mixed = Encoder, Mixed  # type: ignore[attr-defined]
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
