"""Sources named by one string."""

import io
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from gradood.data import ImageFolder, ParquetImages, Preprocess, open_images
from gradood.data._extras import pillow
from gradood.errors import ConfigError, DataError


@pytest.fixture
def folder(tmp_path):
    for label in "ab":
        (tmp_path / "images" / label).mkdir(parents=True)
        for i in range(5):
            Image.new("L", (2, 2), i).save(tmp_path / "images" / label / f"{i}.png")
    return tmp_path / "images"


@pytest.fixture
def file(tmp_path):
    stream = io.BytesIO()
    Image.new("L", (2, 2)).save(stream, "PNG")
    path = tmp_path / "shards" / "x.parquet"
    path.parent.mkdir()
    columns = {"image": [stream.getvalue()] * 6, "label": list(range(6)), "other": [1] * 6}
    pq.write_table(pa.table(columns), path)
    return path


def test_kind_of_source_is_seen(folder, file):
    assert isinstance(open_images(folder), ImageFolder)
    assert isinstance(open_images(str(file)), ParquetImages)
    assert isinstance(open_images(file.parent), ParquetImages)
    assert open_images(file, Preprocess(mode="L"))[0][0].shape == (1, 2, 2)


@pytest.mark.parametrize(
    ("part", "labels"),
    [
        ("", [0, 1, 2, 3, 4, 5]),
        ("[0:2]", [0, 1]),
        ("[2:4]", [2, 3]),
        ("[4:6]", [4, 5]),
        ("[:]", [0, 1, 2, 3, 4, 5]),
        ("[-2:]", [4, 5]),
        ("[:-4]", [0, 1]),
        ("[3:100]", [3, 4, 5]),
    ],
)
def test_slices(file, part, labels):
    assert open_images(f"{file}{part}").labels.tolist() == labels


def test_slices_of_folders(folder, file):
    assert open_images(f"{folder}[4:6]").labels.tolist() == [0, 1]
    assert len(open_images(f"{file.parent}[:4]")) == 4


def test_empty_slice(file):
    with pytest.raises(DataError, match=r"6 images in .*, and none in '.*\[6:\]'"):
        open_images(f"{file}[6:]")


def test_path_with_brackets(folder):
    odd = folder.with_name("images[:2]")
    folder.rename(odd)
    assert len(open_images(odd)) == 10
    assert len(open_images(f"{odd}[:3]")) == 3


@pytest.mark.parametrize("part", ["[:2:2]", "[3]", "[:10%]", "[a:b]", "[:2]x"])
def test_what_is_no_slice_is_part_of_the_path(file, part):
    with pytest.raises(DataError, match=r"does not exist; .*\[:2000\]"):
        open_images(f"{file}{part}")


def test_neither_folder_nor_parquet(tmp_path):
    (tmp_path / "data.csv").write_text("a,b")
    with pytest.raises(DataError, match=r"data\.csv' is neither a folder, .*; expected"):
        open_images(tmp_path / "data.csv")


def test_options_reach_the_reader(folder, file):
    assert not open_images(folder, labeled=False).labeled
    assert not open_images(file, labeled=False).labeled
    assert open_images(file, label_column="other").labels.tolist() == [1] * 6
    with pytest.raises(ConfigError, match="no column 'imag'"):
        open_images(file, image_column="imag")


@pytest.mark.slow
def test_without_the_extra_importing_works_and_using_says_what_to_install(folder, file):
    program = (
        "import sys; sys.modules['PIL'] = sys.modules['pyarrow'] = None\n"
        "import gradood.data as data, gradood.models\n"
        "uses = [lambda: data.ImageFolder(sys.argv[1])[0], lambda: data.open_images(sys.argv[2])]\n"
        "for use in uses:\n"
        "    try: use()\n"
        "    except ModuleNotFoundError as error: assert 'gradood[data]' in str(error), error\n"
        "    else: raise SystemExit('no error')\n"
    )
    command = [sys.executable, "-W", "error", "-c", program, str(folder), str(file)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_missing_extra_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'gradood\[data\]'"):
        pillow()
