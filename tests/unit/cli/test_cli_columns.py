"""Rows of tables by the shell: commands agree on columns, and a broken row says why."""

import json
import sys
import types

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
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
