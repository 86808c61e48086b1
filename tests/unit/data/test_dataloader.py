"""Batches: order, workers, the global random state, and images that do not fit together."""

import io
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch._utils import ExceptionWrapper
from torch.utils.data import TensorDataset

from gradood.data import ImageFolder, ParquetImages, Preprocess, loader
from gradood.errors import ConfigError, DataError

# Python 3.12 and later, where torch has started threads before a worker is forked.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


def png(shade, size=(4, 4)):
    stream = io.BytesIO()
    Image.new("L", size, shade).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def dataset(tmp_path):
    table = pa.table({"image": [png(i) for i in range(11)], "label": list(range(11))})
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=3)
    return ParquetImages(tmp_path / "x.parquet", Preprocess(mode="L"))


@pytest.mark.parametrize("workers", [0, 2])
def test_all_items_in_order(dataset, workers):
    dataset[0]  # What was read here must not disturb the workers.
    batches = list(loader(dataset, batch_size=4, workers=workers))
    assert [tuple(x.shape) for x, _ in batches] == [(4, 1, 4, 4), (4, 1, 4, 4), (3, 1, 4, 4)]
    assert torch.cat([y for _, y in batches]).tolist() == list(range(11))
    shades = torch.cat([x[:, 0, 0, 0] for x, _ in batches]) * 255
    assert shades.round().tolist() == list(range(11))
    assert batches[0][1].dtype == torch.int64


def test_default_batch_size_and_no_labels(tmp_path):
    (tmp_path / "x.png").write_bytes(png(3))
    (batch,) = loader(ImageFolder(tmp_path))
    assert batch.shape == (1, 3, 4, 4)
    assert loader(ImageFolder(tmp_path)).batch_size == 128


def test_global_random_state_is_left_alone(dataset):
    before = torch.random.get_rng_state()
    for _ in loader(dataset):
        pass
    assert torch.equal(torch.random.get_rng_state(), before)


def test_any_map_style_dataset():
    (batch,) = loader(TensorDataset(torch.arange(3)))
    assert batch[0].tolist() == [0, 1, 2]


def test_images_of_different_sizes(tmp_path):
    (tmp_path / "a.png").write_bytes(png(1, (4, 4)))
    (tmp_path / "b.png").write_bytes(png(1, (5, 4)))
    dataset = ImageFolder(tmp_path)
    with pytest.raises(DataError, match=r"differ in size: \(3, 4, 4\), \(3, 4, 5\).*Preprocess"):
        list(loader(dataset))
    assert len(list(loader(dataset, batch_size=1))) == 2


def test_broken_image_in_a_worker_is_a_data_error(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no")
    # How a worker sends an error; a real worker that failed takes torch five seconds to end.
    try:
        ImageFolder(tmp_path)[0]
    except DataError:
        sent = pickle.dumps(ExceptionWrapper(where="in a worker"))
    with pytest.raises(DataError, match=r"a\.png' cannot be used"):
        pickle.loads(sent).reraise()


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"workers": -1}])
def test_wrong_options(dataset, options):
    with pytest.raises(ConfigError, match="expected at least 1 and 0"):
        loader(dataset, **options)
