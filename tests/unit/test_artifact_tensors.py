import pytest
import torch
from artifact_samples import sample

from gradood.artifact import Spec, Stored, read, write
from gradood.artifact.tensors import _DTYPES, from_torch, pack, to_torch, unpack
from gradood.errors import ArtifactError


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and bytes(_raw(a)) == bytes(_raw(b))


def _raw(tensor: torch.Tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy()


@pytest.mark.parametrize("dtype", list(_DTYPES.values()), ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5,), (2, 3)], ids=str)
def test_tensors_go_through_bytes_and_back(dtype, shape):
    count = torch.Size(shape).numel()
    tensor = torch.randint(0, 2, (count,)).to(dtype).reshape(shape)
    if dtype.is_floating_point and count:
        tensor.view(-1)[0] = float("nan")
    assert same(to_torch(from_torch(tensor)), tensor)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(4, 6).T,
        torch.randn(10)[::2],
        torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
        torch.randn(3, 1).expand(3, 4),
        torch.randn(4, requires_grad=True),
    ],
)
def test_views_are_stored_as_what_they_show(tensor):
    assert same(to_torch(from_torch(tensor)), tensor.detach())


def test_a_contiguous_tensor_is_not_copied():
    tensor = torch.zeros(3)
    stored = from_torch(tensor)
    tensor[1] = 1
    assert to_torch(stored).tolist() == [0, 1, 0]


def test_read_only_bytes_become_a_tensor_of_their_own():
    tensor = to_torch(Stored(Spec("F32", (2,)), bytes(8)))
    tensor += 1
    assert tensor.tolist() == [1, 1]


def test_any_byte_but_zero_is_true():
    tensor = to_torch(Stored(Spec("BOOL", (4,)), b"\0\1\2\xff"))
    assert tensor.view(torch.uint8).tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize(
    "tensor",
    [torch.zeros(2, dtype=torch.complex64), torch.zeros(2, 2).to_sparse()],
)
def test_what_cannot_be_stored_is_refused(tensor):
    with pytest.raises(ArtifactError, match="expected a dense one of"):
        from_torch(tensor)


def test_values_are_packed_and_unpacked():
    value = {
        "order": float("inf"),
        "least": -float("inf"),
        "layers": ("a", ["b", ("c",)]),
        "prototype": torch.arange(3.0),
        "deep": {"more": [None, True, 2, 0.5, torch.zeros(0)]},
    }
    plain, tensors = pack(value, "detectors/x/options")
    assert plain["prototype"] == {"$tensor": "detectors/x/options/prototype"}
    assert set(tensors) == {"detectors/x/options/prototype", "detectors/x/options/deep/more/4"}
    back = unpack(plain, tensors)
    assert torch.equal(back.pop("prototype"), value.pop("prototype"))
    assert back["deep"]["more"].pop().shape == value["deep"]["more"].pop().shape
    assert back == value
    assert pack(float("nan"), "x")[0] == {"$float": "nan"}


@pytest.mark.parametrize("value", [object(), {1: 2}, {"$tensor": "x"}, [{"a": b"x"}], {1.5}])
def test_what_cannot_be_packed_is_named(value):
    with pytest.raises(ArtifactError, match=r"^where"):
        pack(value, "where")


@pytest.mark.parametrize(
    "value",
    [
        {"$tensor": "absent"},
        {"$tensor": ["x"]},
        {"$float": "1"},
        {"$float": []},
        {"$tuple": "ab"},
        {"$eval": "1"},
        {"$tensor": "x", "more": 1},
        {"more": 1, "$float": "inf"},
    ],
)
def test_unknown_tags_are_refused(value):
    with pytest.raises(ArtifactError, match="the file is refused"):
        unpack([value], {"x": torch.zeros(1)})


def test_tensors_of_a_file_are_bitwise_those_written(tmp_path):
    manifest, arrays = sample()
    given = {name: to_torch(stored) for name, stored in arrays.items()}
    write(tmp_path / "x", manifest, {name: from_torch(t) for name, t in given.items()})
    found = read(tmp_path / "x").arrays
    assert all(same(to_torch(found[name]), tensor) for name, tensor in given.items())
