"""What is kept between runs, and what happens to what is damaged."""

import os
import time

import pytest
import torch

from gradood._io.cache import Cache, default_folder, key_of
from gradood._io.hashing import tensors_digest
from gradood.errors import GradoodWarning

KEY = key_of(what="a shard")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture
def tensors():
    return {
        "double": torch.randn(5, 3, dtype=torch.float64),
        "half": torch.randn(5).to(torch.bfloat16),
        "whole": torch.arange(5),
        "flag": torch.tensor([True, False]),
        "none": torch.empty(0, 4),
        "one": torch.tensor(2.5),
        "turned": torch.randn(4, 6).T,
    }


def test_what_was_kept_is_there_to_the_last_bit(tmp_path, tensors):
    place = Cache(tmp_path).place(KEY)
    assert place.load() == {}
    place.save(tensors)
    assert same(place.load(), tensors)
    assert same(Cache(tmp_path).place(KEY).load(["whole", "absent"]), {"whole": torch.arange(5)})
    assert Cache(tmp_path).place(key_of(what="another")).load() == {}
    place.save({"more": torch.ones(2)})
    assert same(place.load(), {**tensors, "more": torch.ones(2)})
    assert sorted(p.suffix for p in place.folder.iterdir()) == [".safetensors"] * 2


def test_keys_are_of_values_and_not_of_their_order():
    assert key_of(a=1, b=[2]) == key_of(b=[2], a=1) != key_of(a=1, b=2)
    a, b = {"x": torch.ones(2)}, {"x": torch.ones(2, dtype=torch.float64)}
    assert tensors_digest(a) == tensors_digest({"x": torch.ones(2)}) != tensors_digest(b)


@pytest.mark.parametrize("where", [0, 9, -1, "cut", "empty"])
def test_a_damaged_file_is_dropped_with_a_warning(tmp_path, tensors, where):
    place = Cache(tmp_path).place(KEY)
    place.save(tensors)
    (file,) = place.folder.iterdir()
    content = bytearray(file.read_bytes())
    if where == "cut":
        content = content[:-3]
    elif where == "empty":
        content = bytearray()
    else:
        content[where] ^= 4
    file.write_bytes(content)
    with pytest.warns(GradoodWarning, match=r"is damaged .* computed again"):
        found = place.load()
    assert not file.exists()
    assert all(torch.equal(found[name], tensors[name]) for name in found)
    place.save(tensors)
    assert same(place.load(), tensors)


def test_a_full_disk_warns_once_and_keeps_nothing_more(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    cache = Cache(tmp_path)
    monkeypatch.setattr("gradood._io.cache.save_file", full)
    with pytest.warns(GradoodWarning, match=r"nothing more is kept .*No space left.*--cache"):
        cache.place(KEY).save({"a": torch.ones(1)})
    cache.place(KEY).save({"a": torch.ones(1)})
    assert list(tmp_path.rglob("*.tmp")) == []


def test_what_a_killed_process_left_is_removed_once_it_is_old(tmp_path):
    place = Cache(tmp_path).place(KEY)
    place.save({"a": torch.ones(1)})
    new, old = place.folder / ".x.1.tmp", place.folder / ".x.2.tmp"
    for file in (new, old):
        file.write_bytes(b"half")
    os.utime(old, (0, time.time() - 7200))
    assert same(place.load(), {"a": torch.ones(1)})
    place.save({"b": torch.ones(1)})
    assert new.exists() and not old.exists()


def test_the_default_folder_follows_the_users_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "gradood" / "arena"
    for odd in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", odd)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert default_folder() == tmp_path / ".cache" / "gradood" / "arena"


def test_tensors_that_share_memory_are_kept_too(tmp_path):
    whole = torch.randn(4, 3)
    found = {"whole": whole, "same": whole, "part": whole[1:3], "empty": torch.empty(0)}
    place = Cache(tmp_path).place(KEY)
    place.save(found)
    assert same(place.load(), found)


def test_its_size_is_that_of_all_files_in_it(tmp_path, tensors):
    cache = Cache(tmp_path / "kept")
    assert cache.size() == 0
    cache.place(KEY).save(tensors)
    cache.place(key_of(what="another")).save({"more": torch.ones(200)})
    files = [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert len(files) == 2
    assert cache.size() == sum(path.stat().st_size for path in files) > 800
