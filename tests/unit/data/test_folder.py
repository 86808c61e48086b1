"""Image folders: layout, order, labels, links, and files that are not what they seem."""

import os
import pickle

import pytest
import torch
from PIL import Image

from gradood.data import ImageFolder, Preprocess
from gradood.errors import DataError


def put(path, shade=0, size=(4, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, shade).save(path)


def names(dataset):
    return [dataset.name(i) for i in range(len(dataset))]


@pytest.fixture
def classes(tmp_path):
    for shade, name in enumerate(["cat/b.png", "cat/a.png", "ant/z.png", "dog/deep/er/x.PNG"]):
        put(tmp_path / name, shade)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "cat" / "._a.png").write_text("a trace of another system")
    (tmp_path / ".cache").mkdir()
    put(tmp_path / ".cache" / "thumb.png")
    (tmp_path / "bee").mkdir()  # Empty, and still a class.
    return tmp_path


@pytest.fixture
def flat(tmp_path):
    for shade, name in enumerate(["10.png", "9.png", "A.png", "a.jpg"]):
        put(tmp_path / name, shade)
    return tmp_path


def test_class_folders(classes):
    dataset = ImageFolder(classes)
    assert names(dataset) == ["ant/z.png", "cat/a.png", "cat/b.png", "dog/deep/er/x.PNG"]
    assert dataset.classes == ("ant", "bee", "cat", "dog")
    assert dataset.num_classes == 4
    assert dataset.labeled
    assert dataset.labels.tolist() == [0, 2, 2, 3]
    assert dataset.labels.dtype == torch.int64
    for i, shade in enumerate([2, 1, 0, 3]):
        image, label = dataset[i]
        assert image.shape == (3, 4, 4)
        assert float(image.max()) == pytest.approx(shade / 255)
        assert type(label) is int
        assert label == dataset.labels[i]


def test_flat_folder(flat):
    dataset = ImageFolder(flat, Preprocess(mode="L"))
    assert names(dataset) == ["10.png", "9.png", "A.png", "a.jpg"]
    assert dataset.labels is None
    assert dataset.classes is None
    assert dataset.num_classes is None
    assert not dataset.labeled
    assert dataset[2].shape == (1, 4, 4)


def test_labels_can_be_left(classes):
    dataset = ImageFolder(classes, labeled=False)
    assert names(dataset) == ["ant/z.png", "cat/a.png", "cat/b.png", "dog/deep/er/x.PNG"]
    assert isinstance(dataset[0], torch.Tensor)


def test_labels_cannot_be_invented(flat):
    with pytest.raises(DataError, match="no class folders"):
        ImageFolder(flat, labeled=True)


def test_mixed_layout_must_be_decided(classes):
    put(classes / "zoo.png")
    with pytest.raises(DataError, match=r"holds both images, such as 'zoo\.png', and folders"):
        ImageFolder(classes)
    assert len(ImageFolder(classes, labeled=True)) == 4
    assert names(ImageFolder(classes, labeled=False))[-1] == "zoo.png"


def test_slices_and_subsets(classes):
    dataset = ImageFolder(classes)
    part = dataset[1:]
    assert isinstance(part, ImageFolder)
    assert len(part) == 3
    assert part.labels.tolist() == [2, 2, 3]
    assert part.num_classes == 4
    assert names(part[::-1]) == ["dog/deep/er/x.PNG", "cat/b.png", "cat/a.png"]
    assert names(dataset.subset(torch.tensor([3, 0]))) == ["dog/deep/er/x.PNG", "ant/z.png"]
    assert names(dataset[-1:]) == [dataset.name(-1)]
    assert torch.equal(dataset[-1][0], part[2][0])
    assert len(dataset) == 4
    assert len(list(dataset)) == 4
    for wrong in (4, -5):
        with pytest.raises(IndexError):
            dataset[wrong]
    with pytest.raises(IndexError):
        dataset.subset([9])


def test_pickled(classes):
    dataset = pickle.loads(pickle.dumps(ImageFolder(classes)[1:]))
    assert names(dataset) == ["cat/a.png", "cat/b.png", "dog/deep/er/x.PNG"]
    assert dataset[0][1] == 2


def test_links_are_followed_but_not_loops(tmp_path):
    put(tmp_path / "elsewhere" / "x.png")
    root = tmp_path / "root"
    put(root / "ant" / "a.png")
    (root / "ant" / "again").symlink_to(root)
    (root / "ant" / "self").symlink_to(root / "ant")
    (root / "bee").symlink_to(tmp_path / "elsewhere")
    (root / "ant" / "l.png").symlink_to(root / "ant" / "a.png")
    dataset = ImageFolder(root)
    assert names(dataset) == ["ant/a.png", "ant/l.png", "bee/x.png"]


def test_broken_files_are_listed_and_named_when_read(tmp_path):
    put(tmp_path / "good.png")
    (tmp_path / "bad.jpg").write_text("<html>not found</html>")
    (tmp_path / "empty.png").touch()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    os.mkfifo(tmp_path / "pipe.png")
    dataset = ImageFolder(tmp_path)
    assert names(dataset) == [
        *("bad.jpg", "empty.png", "gone.png", "good.png", "loop.png", "pipe.png")
    ]
    for i in (0, 1, 2, 4, 5):
        with pytest.raises(DataError, match=f"{dataset.name(i)}' cannot be used: it"):
            dataset[i]
    assert dataset[3].shape == (3, 4, 4)


def test_name_that_is_not_utf8(tmp_path):
    try:
        with open(os.fsencode(tmp_path) + b"/caf\xe9.png", "wb") as file:
            Image.new("L", (2, 2)).save(file, "PNG")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    dataset = ImageFolder(tmp_path)
    assert dataset.name(0) == "caf\\xe9.png"
    dataset.name(0).encode()
    assert dataset[0].shape == (3, 2, 2)


def test_preprocess_of_ones_own(flat):
    dataset = ImageFolder(flat, lambda image: torch.tensor(image.size))
    assert dataset[0].tolist() == [4, 4]
    with pytest.raises(DataError, match=r"10\.png' cannot be preprocessed: ZeroDivisionError"):
        ImageFolder(flat, lambda image: 1 / 0)[0]


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match=r"no image in .*expected files ending in \.avif, \.bmp"):
        ImageFolder(tmp_path)
    with pytest.raises(DataError, match="cannot be listed: No such file"):
        ImageFolder(tmp_path / "none")
    with pytest.raises(DataError, match="cannot be listed: Not a directory"):
        put(tmp_path / "x.png")
        ImageFolder(tmp_path / "x.png")
