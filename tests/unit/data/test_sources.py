"""One world of images: a URI names the same rows as a data set and as a source, local or remote."""

import io
import subprocess
import sys

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import gradood
from gradood.data import (
    ImageFolder,
    ImageList,
    ImageSource,
    ParquetImages,
    Preprocess,
    list_images,
    loader,
    open_images,
)
from gradood.data._decode import decode
from gradood.data._listing import read_list
from gradood.data._storage import file_digest, joined
from gradood.errors import DataError

GRAY = Preprocess(mode="L")


def png(shade):
    stream = io.BytesIO()
    Image.new("L", (2, 2), shade).save(stream, "PNG")
    return stream.getvalue()


NAMES = ["a/0.png", "a/x y.png", "a-b/1.png", "c/deep/2.png", "c/3 7.png"]


@pytest.fixture
def world(tmp_path):
    """The same files on this machine and in memory."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    files = {f"images/{name}": png(30 * i) for i, name in enumerate(NAMES)}
    stream = io.BytesIO()
    rows = {"image": [png(30 * i) for i in range(5)], "label": [0, 1, 2, 1, 0]}
    pq.write_table(pa.table(rows), stream)
    files["table/t.parquet"] = stream.getvalue()
    files["images/bare.lst"] = "\n".join(NAMES).encode()
    files["images/labels.txt"] = "".join(f"{n} {i}\n" for i, n in enumerate(NAMES)).encode()
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        memory.pipe(f"/w/{name}", content)
    yield tmp_path
    memory.store.clear()


KINDS = {
    "images": ImageFolder,
    "images/bare.lst": ImageList,
    "images/labels.txt": ImageList,
    "table": ParquetImages,
    "table/t.parquet": ParquetImages,
}


@pytest.mark.parametrize("part", ["", "[1:4]"])
@pytest.mark.parametrize("name", KINDS)
def test_every_command_reads_the_same(world, name, part, monkeypatch):
    monkeypatch.chdir(world)
    expected = None
    for root in (str(world), f"file://{world}", ".", "memory://w"):
        dataset = open_images(f"{root}/{name}{part}", GRAY)
        source = list_images(f"{root}/{name}{part}")
        assert isinstance(dataset, KINDS[name]) and isinstance(source, ImageSource)
        pixels = [
            round(float((x if isinstance(x, torch.Tensor) else x[0]).max()) * 255) for x in dataset
        ]
        assert pixels == [decode(source.encoded(i)).getpixel((0, 0)) for i in range(len(source))]
        labels = None if dataset.labels is None else dataset.labels.tolist()
        found = [source.id(i) for i in range(len(source))], pixels, labels, dataset.content()
        expected = expected or found
        assert found == expected
        assert [dataset.name(i) in source.id(i) for i in range(len(source))] == [True] * len(source)


def test_folders_are_in_the_order_of_sorted_paths_with_labels_or_without(world):
    ordered = sorted(NAMES)
    assert ordered.index("a-b/1.png") == 0  # A hyphen comes before the slash.
    dataset = ImageFolder(world / "images", GRAY)
    assert [dataset.name(i) for i in range(5)] == ordered
    assert dataset.classes == ("a", "a-b", "c")
    assert dataset.labels.tolist() == [1, 0, 0, 2, 2]


def test_one_image_is_a_source(world):
    for uri in (str(world / "images/a/0.png"), "memory://w/images/a/0.png"):
        assert len(open_images(uri)) == len(list_images(uri)) == 1
        with pytest.raises(DataError, match="is one image, without a label"):
            open_images(uri, labeled=True)


def test_a_monitor_is_fitted_and_calibrated_on_what_is_remote(world):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3)).eval()
    scores = []
    for root in (str(world), "memory://w"):
        images = open_images(f"{root}/table", GRAY)
        monitor = gradood.Monitor(model, "mahalanobis", progress=False)
        monitor.fit(loader(images, batch_size=2))
        scores.append(monitor.score(loader(images, batch_size=2, workers=1)))
    assert torch.equal(*scores)


# -- lists --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "paths", "labels"),
    [
        ("a.png 1\nb c.png 2\n", ["a.png", "b c.png"], [1, 2]),
        ("a.png\t-1\r\n\r\n b.png  -1 \r\n", ["a.png", "b.png"], [-1, -1]),
        ("a.png\nb c.png\r\n\n", ["a.png", "b c.png"], None),
        ("scan 1\nscan two\n", ["scan 1", "scan two"], None),
        ("a 1.png\nb 2.png\n", ["a 1.png", "b 2.png"], None),
        ("scan 1\nscan 2\n", ["scan", "scan"], [1, 2]),
        (
            "/d/a.png 1\ns3://b/c.png 2\n../e.png 3\n",
            ["/d/a.png", "s3://b/c.png", "../e.png"],
            [1, 2, 3],
        ),
        (" a.png \n", [" a.png "], None),
        ("", [], None),
    ],
)
def test_what_the_lines_of_a_list_mean(tmp_path, text, paths, labels):
    (tmp_path / "list.txt").write_bytes(text.encode())
    lines = read_list(tmp_path / "list.txt")
    assert (list(lines.paths), lines.labels and list(lines.labels)) == (paths, labels)


@pytest.mark.parametrize("text", ["a.png 1\nb.png\n", "b.png\na.png 1\n"])
def test_a_label_on_some_lines_is_refused(tmp_path, text):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(DataError, match=r"is 'b\.png'; expected a path or URL, on all lines or no"):
        list_images(str(tmp_path / "list.txt"))


def test_a_list_of_names_that_are_no_text_is_read(tmp_path):
    (tmp_path / "list.lst").write_bytes(b"caf\xe9.png 3\n")
    assert read_list(tmp_path / "list.lst").paths == ("caf\udce9.png",)
    (tmp_path / "list.lst").write_text("a.png\n", encoding="utf-16")
    with pytest.raises(DataError, match="it is not UTF-8 but UTF-16"):
        open_images(tmp_path / "list.lst")


def test_a_path_that_the_working_folder_has_is_explained(world, monkeypatch):
    (world / "lists").mkdir()
    (world / "lists" / "l.txt").write_text("images/a/0.png\nabsent.png\n")
    monkeypatch.chdir(world)
    dataset, source = open_images("lists/l.txt"), list_images("lists/l.txt")
    assert "The working folder has it, but paths in a list are relative" in source.hint(0)
    with pytest.raises(DataError, match=r"No such file.* The working folder has it, but"):
        dataset[0]
    assert source.hint(1) == ""
    with pytest.raises(DataError, match=r"No such file or directory\.$"):
        dataset[1]


def test_names_that_end_in_a_number_and_were_taken_for_labels_are_explained(tmp_path):
    for name in ("scan 1", "scan 2"):
        (tmp_path / name).write_bytes(png(0))
    (tmp_path / "l.txt").write_text("scan 1\nscan 2\n")
    assert "taken for a label" in list_images(str(tmp_path / "l.txt")).hint(0)
    with pytest.raises(DataError, match="taken for a label; there is a file of the whole name"):
        open_images(tmp_path / "l.txt")[0]


def test_a_list_with_a_folder_of_its_own_names_nothing_outside(world):
    listed = ImageList(world / "images" / "bare.lst", root=world / "images")
    assert len(listed) == 5 and not listed.labeled
    (world / "out.txt").write_text("../x.png\n")
    with pytest.raises(DataError, match="expected a path inside the folder of images"):
        ImageList(world / "out.txt", root=world / "images")


# -- storage ------------------------------------------------------------------------------


def test_digests_of_what_is_remote(world):
    assert file_digest("memory://w/table/t.parquet") == file_digest(world / "table/t.parquet")
    remote = open_images("memory://w/images", GRAY)
    assert remote.root == "memory://w/images"
    assert next(remote.origins()) == "memory://w/images/a-b/1.png"
    here, there = open_images(str(world / "table")), open_images("memory://w/table")
    assert list(here.origins()) == list(there.origins())


@pytest.mark.parametrize(
    ("folder", "uri", "whole"),
    [
        ("data", "a", "data/a"),
        (".", "a", "a"),
        ("data", "/a", "/a"),
        ("data", "s3://b/a", "s3://b/a"),
        ("s3://b/", "a", "s3://b/a"),
    ],
)
def test_paths_below_a_folder(folder, uri, whole):
    assert joined(folder, uri) == whole


@pytest.mark.slow
def test_local_files_need_no_fsspec(world):
    program = (
        "import sys; sys.modules['fsspec'] = None\n"
        "from gradood.data import list_images, open_images\n"
        "for name in sys.argv[2:]:\n"
        "    for use in (open_images, list_images): assert len(use(f'{sys.argv[1]}/{name}')) == 5\n"
        "for use in (open_images, list_images):\n"
        "    try: use('s3://bucket/photos')\n"
        "    except ModuleNotFoundError as error: assert 'gradood[data]' in str(error), error\n"
        "    else: raise SystemExit('no error')\n"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(world), *KINDS]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
