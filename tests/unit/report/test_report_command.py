import json

import pytest
from report_samples import arena, drawn_scores
from safetensors.numpy import save_file

from gradood.cli import main


@pytest.fixture
def folder(tmp_path):
    """As `gradood bench --out FOLDER` leaves it, of images in folders beside it."""
    scores = drawn_scores(methods=("knn", "msp"), size=20)
    record = arena(scores)
    record["suite"]["name"] = "own"
    for name, entry in [("id", record["suite"]["id"])] + [
        (entry["name"], entry) for entry in record["suite"]["ood"]
    ]:
        entry.update(path=f"images/{name}", sha256=None)
    made = tmp_path / "results"
    made.mkdir()
    (made / "arena.json").write_text(json.dumps(record), encoding="utf-8")
    flat = {
        f"{run}/{name}/{method}": values
        for run, sets in scores.items()
        for name, methods in sets.items()
        for method, values in methods.items()
    }
    save_file(flat, made / "scores.safetensors")
    return made


def draw(folder, count):
    from PIL import Image

    folder.mkdir(parents=True)
    for number in range(count):
        shade = (number * 10, 80, 200)
        Image.new("RGB", (32, 32), shade).save(folder / f"{number:03}.png")


def test_a_folder_of_results_becomes_a_page_with_thumbnails(folder, capsys):
    for name in ("id", "cifar100", "tinyimagenet", "svhn"):
        draw(folder.parent / "images" / name, 20)
    draw(folder.parent / "images" / "textures", 3)
    assert main(["report", str(folder), "--root", str(folder.parent)]) == 0
    said = capsys.readouterr()
    assert said.out == ""
    assert "no thumbnails of textures: " in said.err
    assert "3 images, and 20 were scored" in said.err
    assert said.err.count("no thumbnails") == 1
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert html.count("data:image/jpeg;base64,") == 4
    twin = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert twin["format"] == "gradood-report"
    assert twin["notes"] == [
        "The images of textures were not at hand: the positions of the images are given instead."
    ]


def test_images_that_changed_since_are_not_shown(folder, capsys):
    record = json.loads((folder / "arena.json").read_text(encoding="utf-8"))
    record["suite"]["id"].update(path="digits.parquet", sha256="0" * 64)
    (folder / "arena.json").write_text(json.dumps(record), encoding="utf-8")
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    draw(folder.parent / "some", 20)
    images = [path.read_bytes() for path in sorted((folder.parent / "some").iterdir())]
    parquet.write_table(arrow.table({"image": images}), folder.parent / "digits.parquet")
    assert main(["report", str(folder), "--root", str(folder.parent)]) == 0
    assert "no thumbnails of id: " in (told := capsys.readouterr().err)
    assert "digits.parquet' has changed since it was scored" in told


def test_an_image_that_can_be_decoded_no_longer_costs_no_page(folder, capsys):
    for name in ("id", "svhn"):
        draw(folder.parent / "images" / name, 20)
    for broken in (folder.parent / "images" / "svhn").iterdir():
        broken.write_bytes(b"no image")
    assert main(["report", str(folder), "--root", str(folder.parent)]) == 0
    assert "no thumbnails of svhn: " in capsys.readouterr().err
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert html.count("data:image/jpeg;base64,") == 1


def test_sets_of_the_users_own_are_not_looked_for_below_the_root(folder, monkeypatch, capsys):
    record = json.loads((folder / "arena.json").read_text(encoding="utf-8"))
    next(one for one in record["suite"]["ood"] if one["name"] == "svhn")["rooted"] = False
    (folder / "arena.json").write_text(json.dumps(record), encoding="utf-8")
    draw(folder.parent / "root" / "images" / "svhn", 3)  # Another set at the same path.
    draw(folder.parent / "images" / "svhn", 20)
    monkeypatch.chdir(folder.parent)
    assert main(["report", str(folder), "--root", "root"]) == 0
    assert "no thumbnails of svhn" not in capsys.readouterr().err


def test_no_images_and_no_scores(folder, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["report", str(folder), "--no-images", "--out", str(page)]) == 0
    assert "thumbnails" not in capsys.readouterr().err
    (folder / "scores.safetensors").unlink()
    before = page.read_bytes()
    assert main(["report", str(folder), "--out", str(page)]) == 2
    assert "is there already; name another with --out, or give --force" in capsys.readouterr().err
    assert page.read_bytes() == before
    assert main(["report", str(folder), "--out", str(page), "--force"]) == 0
    assert "the page has no curves" in capsys.readouterr().err
    assert page.is_file()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no record in "),
        ("{", "is no JSON"),
        ("[]", "this is no arena record (no table)"),
        ('{"format": "other"}', "expected 'gradood-arena', version 1"),
    ],
)
def test_a_folder_of_anything_else_is_refused(tmp_path, capsys, content, message):
    if content is not None:
        (tmp_path / "arena.json").write_text(content, encoding="utf-8")
    assert main(["report", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_a_bad_target_is_told_before_any_work(folder, capsys):
    assert main(["report", str(folder), "--out", "page.pdf"]) == 2
    assert "expected a name ending in .html" in capsys.readouterr().err
    before = (folder / "arena.json").read_bytes()
    assert main(["report", str(folder), "--out", str(folder / "arena.html")]) == 2
    assert "would take the place of arena.json" in capsys.readouterr().err
    assert (folder / "arena.json").read_bytes() == before
    assert main(["report", str(folder), "--out", "absent/page.html"]) == 2
    assert "its folder does not exist" in capsys.readouterr().err


def test_a_folder_that_is_not_there_is_told_as_such(tmp_path, capsys):
    assert main(["report", str(tmp_path / "absent")]) == 2
    err = capsys.readouterr().err
    assert "no record in " in err and "a folder that gradood bench --out FOLDER wrote" in err
    assert "--out" not in err.replace("gradood bench --out", "")
