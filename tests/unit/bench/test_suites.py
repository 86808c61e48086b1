"""Suites, and what is held against them."""

import hashlib
from pathlib import Path

import pytest
from PIL import Image

from gradood.bench import find_root, load_suite, suites, take_inventory
from gradood.bench.suite import Suite
from gradood.errors import ConfigError, DataError, UnknownNameError

OWN = """
name = "mine"
version = 2
title = "Mine"

[id]
test = "test"
fit = ["list.txt"]
images = "pictures"

[[ood]]
name = "other"
group = "near"
path = "other.bin"

[rows]
"test" = 3
"list.txt" = 4

[hashes]
"other.bin" = "{digest}"
"""


@pytest.fixture
def own(tmp_path) -> Path:
    """A suite of one's own: a folder, a list, and a file that is no data set at all."""
    for folder in ("test", "pictures"):
        (tmp_path / folder).mkdir()
        for i in range(3):
            Image.new("L", (2, 2), i).save(tmp_path / folder / f"{i}.png")
    (tmp_path / "list.txt").write_text("".join(f"{i}.png 0\n" for i in range(25)))
    (tmp_path / "other.bin").write_bytes(b"x")
    digest = hashlib.sha256(b"x").hexdigest()
    (tmp_path / "mine.toml").write_text(OWN.replace("{digest}", digest))
    return tmp_path / "mine.toml"


@pytest.mark.parametrize("name", suites())
def test_every_suite_that_comes_with_the_library(name):
    found = load_suite(name)
    assert found.name == name and found.title and found.version >= 1
    assert found.id.fit and found.id.classes
    assert {one.group for one in found.ood} == {"near", "far"}
    assert found.rows and set(found.rows) <= set(found.paths)


def test_the_groups_of_openood_are_those_of_version_1_5():
    near = {name: {o.name for o in load_suite(name).ood if o.group == "near"} for name in suites()}
    assert near["openood-cifar10"] == {"cifar100", "tin"}
    assert near["openood-cifar100"] == {"cifar10", "tin"}
    assert near["openood-imagenet200"] == near["openood-imagenet1k"] == {"ssb_hard", "ninco"}
    far = [one for one in load_suite("openood-imagenet1k").ood if one.group == "far"]
    assert [one.name for one in far] == ["inaturalist", "textures", "openimage_o"]
    assert [one.images for one in far if one.images != "images_largescale"] == ["images_classic"]
    assert load_suite("openood-cifar10").rows["benchmark_imglist/cifar10/test_tin.txt"] == 7793


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('group = "near"', 'group = "naer"', "did you mean 'near'"),
        ("version = 2", "version = 2\nlayuot = 1", "has no option 'layuot'; did you mean 'layout'"),
        ("version = 2", "version = 0", "expected a whole number ≥ 1"),
        ("version = 2", 'version = "2"', "is '2'; expected a whole number"),
        ('title = "Mine"', "", "lacks the option 'title'"),
        ('name = "other"', 'name = "id"', "other than 'id'"),
        ('name = "other"', 'name = "a|b"', "expected a printable name without a slash or a bar"),
        ('name = "other"', 'name = "a\\nb"', "expected a printable name without a slash"),
        ('path = "other.bin"', 'path = "test"', "'test' is read with images in 'pictures' and in"),
        ('"list.txt" = 4', '"lst.txt" = 4', "which no set reads; did you mean 'list.txt'"),
        ("[rows]", "[preprocess]\nrezise = 3\n[rows]", "has no option 'rezise'; did you mean"),
        ("[rows]", "[preprocess]\nresize = 0\n[rows]", "resize is 0; expected pixels"),
        ("[rows]", "[rows", "is no TOML"),
    ],
)
def test_what_is_wrong_in_a_file_is_told(own, old, new, said):
    own.write_text(own.read_text().replace(old, new))
    with pytest.raises(ConfigError, match=said.replace("[", r"\[").replace("?", r"\?")):
        load_suite(own)


def test_an_unknown_suite_is_told_with_the_closest():
    with pytest.raises(UnknownNameError, match=r"no suite 'cifar10-lokal'; did you mean 'cifar10-"):
        load_suite("cifar10-lokal")
    with pytest.raises(ConfigError, match=r"'absent.toml' cannot be read: No such file"):
        load_suite("absent.toml")


def test_more_outliers_are_added_under_names_of_their_own(own):
    found = load_suite(own).with_ood({"mine": ("far", "photos")})
    assert [(one.name, one.group, one.rooted) for one in found.ood] == [
        ("other", "near", True),
        ("mine", "far", False),
    ]
    assert "photos" not in found.paths
    with pytest.raises(ConfigError, match=r"--ood 'other': the suite mine has a set of that name"):
        found.with_ood({"other": ("far", "x")})


def test_all_that_is_missing_or_differs_is_told_at_most_twenty_lines(own):
    found = load_suite(own)
    inventory = take_inventory(found, find_root(found, None, source=str(own)))
    assert inventory.rows == {"test": 3, "list.txt": 25}
    assert inventory.faults[0] == "list.txt has 25 images, expected 4"
    assert inventory.faults[1] == "pictures/3.png, which list.txt lists, is missing"
    assert len(inventory.faults) == 1 + 22 + 1  # The last: other.bin is no data set.
    with pytest.raises(DataError, match=r"version 2 of the suite.*list.txt has 25.*and 4 more"):
        inventory.require(found)
    (own.parent / "other.bin").write_bytes(b"y")
    faults = take_inventory(found, own.parent).faults
    assert any("other.bin has the SHA-256 a1fce4363854ff88…, expected 2d7116" in f for f in faults)
    (own.parent / "other.bin").unlink()
    assert "other.bin is missing" in take_inventory(found, own.parent).faults


def test_an_openood_root_is_its_data_folder_or_the_one_above(tmp_path):
    found = load_suite("openood-cifar10")
    (tmp_path / "data" / "benchmark_imglist").mkdir(parents=True)
    assert find_root(found, tmp_path) == find_root(found, tmp_path / "data") == tmp_path / "data"
    with pytest.raises(DataError, match=r"'benchmark_imglist' in it at .* and .*--root"):
        find_root(found, tmp_path / "absent")
    faults = take_inventory(found, tmp_path / "data").faults
    assert len(faults) == len(found.paths) and all(fault.endswith("missing") for fault in faults)


def test_the_shared_root_is_beside_the_current_folder_or_named(tmp_path, monkeypatch):
    found = load_suite("cifar10-local")
    (tmp_path / "shared" / "data").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("GRADOOD_SHARED", raising=False)
    assert find_root(found, None).resolve() == tmp_path / "shared" / "data"
    monkeypatch.setenv("GRADOOD_SHARED", str(tmp_path))
    with pytest.raises(DataError, match=r"with --root, or with GRADOOD_SHARED the one above it"):
        find_root(found, None)


@pytest.mark.real
def test_the_local_suite_is_what_is_there(shared):
    found: Suite = load_suite("cifar10-local")
    inventory = take_inventory(found, shared / "data")
    assert inventory.faults == ()
    assert inventory.rows["textures10_test.parquet"] == 1200
