"""What a job scores: folders in any layout, lists, Parquet and URLs; ids that stay apart."""

import io
import os
import pickle

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gradood.batch import list_images
from gradood.data._decode import decode
from gradood.data._storage import fetch
from gradood.data.image_source import FileSource, printable
from gradood.errors import BadImageError, ConfigError, DataError


def png(shade=0):
    stream = io.BytesIO()
    Image.new("L", (2, 2), shade).save(stream, "PNG")
    return stream.getvalue()


def put(path, content=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png() if content is None else content)


def ids(listing):
    return [listing.id(row) for row in range(len(listing))]


def uris(listing):
    return [listing.uri(row) for row in range(len(listing))]


@pytest.fixture
def memory():
    files = fsspec.filesystem("memory")
    files.store.clear()
    yield files
    files.store.clear()


def table(count, **columns):
    images = [{"bytes": png(i), "path": f"p{i}.png"} for i in range(count)]
    return pa.table({"image": images, **columns})


def test_a_folder_in_any_layout(tmp_path):
    for name in ["b.png", "a/x.JPG", "a/deep/y.webp", "a/notes.txt", ".hidden/z.png", "a/._x.jpg"]:
        put(tmp_path / name)
    listing = list_images(str(tmp_path))
    assert ids(listing) == ["a/deep/y.webp", "a/x.JPG", "b.png"]
    assert uris(listing) == [f"{tmp_path}/{name}" for name in ids(listing)]
    assert listing.encoded(2) == tmp_path / "b.png"
    assert list_images(f"file://{tmp_path}").digest() == listing.digest()


def test_what_is_named_like_an_image_is_a_row_whatever_it_is(tmp_path):
    put(tmp_path / "deep" / "a.png")
    (tmp_path / "gone.png").symlink_to("nowhere")
    (tmp_path / "self.png").symlink_to("self.png")
    (tmp_path / "deep" / "up.png").symlink_to("..")
    (tmp_path / "deep" / "up").symlink_to("..")
    os.mkfifo(tmp_path / "pipe.png")
    listing = list_images(str(tmp_path))
    expected = ["deep/a.png", "deep/up.png", "gone.png", "pipe.png", "self.png"]
    assert ids(listing) == expected
    for row in range(1, 5):
        with pytest.raises(BadImageError) as caught:
            decode(listing.encoded(row))
        assert caught.value.status == "unreadable"


def test_names_that_are_no_text(tmp_path):
    put(tmp_path / os.fsdecode(b"caf\xe9.png"))
    put(tmp_path / "caf\\xe9.png")  # What the other is shown as.
    put(tmp_path / "two\nlines.png")
    listing = list_images(str(tmp_path))
    assert ids(listing) == ["caf\\xe9.png", "caf\\xe9.png#2", "two\\nlines.png"]
    odd = [row for row in range(3) if listing.remark(row)]
    assert len(odd) == 1
    assert listing.remark(odd[0])[0] == "name_not_utf8"
    assert all(decode(listing.encoded(row)) for row in range(3))
    assert all(uri.isprintable() for uri in uris(listing))


@given(st.lists(st.sampled_from(["a", "a#2", "a#2#2", "a#3", "b", "\udcff", "\\xff"]), max_size=12))
def test_ids_are_distinct_and_the_first_keeps_its_name(names):
    listing = FileSource("-", names, "/x/")
    found = ids(listing)
    assert len(set(found)) == len(names)
    firsts = [names.index(name) for name in dict.fromkeys(names)]
    kept = [row for row in firsts if found[row] == printable(names[row])]
    assert len(kept) == len({printable(name) for name in names})


def test_a_list_of_paths_and_urls(tmp_path, memory, monkeypatch):
    memory.pipe("/d/m.png", png(7))
    put(tmp_path / "a b.png")
    lines = ["a b.png", "", "memory://d/m.png\r", f"{tmp_path}/a b.png", "a b.png", "absent.png"]
    put(tmp_path / "list.txt", b"\xef\xbb\xbf" + "\n".join(lines).encode())
    monkeypatch.chdir(tmp_path)
    listing = list_images("list.txt")
    assert ids(listing) == [lines[0], "memory://d/m.png", lines[3], "a b.png#2", "absent.png"]
    assert uris(listing)[0] == uris(listing)[3] == f"{tmp_path}/a b.png"
    assert decode(listing.encoded(1)).getpixel((0, 0)) == 7
    assert decode(listing.encoded(3)).size == (2, 2)
    with pytest.raises(BadImageError, match="cannot be opened: No such file"):
        decode(listing.encoded(4))


def test_parquet_rows(tmp_path):
    pq.write_table(table(2), tmp_path / "a.parquet")
    pq.write_table(table(1), tmp_path / "b.parquet")
    listing = list_images(str(tmp_path))
    assert ids(listing) == ["a.parquet:0:p0.png", "a.parquet:1:p1.png", "b.parquet:0:p0.png"]
    assert uris(listing)[2] == f"{tmp_path}/b.parquet#0"
    assert decode(listing.encoded(1)).getpixel((0, 0)) == 1
    assert len(list_images(str(tmp_path / "b.parquet"))) == 1
    again = pickle.loads(pickle.dumps(listing))
    assert again.encoded(1) == listing.encoded(1)
    assert again.digest() == listing.digest()


def test_parquet_rows_without_names_or_bytes(tmp_path):
    pq.write_table(pa.table({"pixels": [png(), None]}), tmp_path / "a.parquet")
    listing = list_images(str(tmp_path / "a.parquet"), image_column="pixels")
    assert ids(listing) == ["a.parquet:0", "a.parquet:1"]
    with pytest.raises(BadImageError, match="holds no bytes") as caught:
        listing.encoded(1)
    assert caught.value.status == "empty"
    with pytest.raises(ConfigError, match="no column 'image'"):
        list_images(str(tmp_path / "a.parquet"))


def test_urls(memory):
    for name in ["/d/b.png", "/d/s/a.png", "/d/.x/c.png", "/d/s/notes.txt"]:
        memory.pipe(name, png())
    listing = list_images("memory://d/")
    assert ids(listing) == ["b.png", "s/a.png"]
    assert uris(listing) == ["memory://d/b.png", "memory://d/s/a.png"]
    assert listing.encoded(1) == png()
    memory.pipe("/list.txt", b"memory://d/b.png\n")
    assert ids(list_images("memory://list.txt")) == ["memory://d/b.png"]
    assert ids(list_images("memory://d/b.png")) == ["memory://d/b.png"]


def test_parquet_at_a_url(memory, tmp_path):
    pq.write_table(table(3), tmp_path / "t.parquet")
    memory.pipe("/q/t.parquet", (tmp_path / "t.parquet").read_bytes())
    for source in ("memory://q", "memory://q/t.parquet"):
        listing = list_images(source)
        assert ids(listing)[2] == "t.parquet:2:p2.png"
        assert uris(listing)[2] == "memory://q/t.parquet#2"
        assert decode(pickle.loads(pickle.dumps(listing)).encoded(2)).getpixel((0, 0)) == 2


def test_what_cannot_be_fetched(memory):
    memory.pipe("/big.png", bytes(11))
    with pytest.raises(BadImageError, match="cannot be fetched: FileNotFoundError") as caught:
        fetch("memory://gone.png")
    assert caught.value.status == "unreadable"
    with pytest.raises(BadImageError, match="more than 10 bytes") as caught:
        fetch("memory://big.png", max_bytes=10)
    assert caught.value.status == "too_large"


def test_a_digest_tells_listings_apart(tmp_path):
    for name in ("a.png", "b.png"):
        put(tmp_path / "one" / name)
        put(tmp_path / "two" / name)
    one = list_images(str(tmp_path / "one")).digest()
    assert one == list_images(str(tmp_path / "one")).digest()
    assert one != list_images(str(tmp_path / "two")).digest()
    put(tmp_path / "one" / "c.png")
    assert one != list_images(str(tmp_path / "one")).digest()


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("absent", "does not exist; expected a folder"),
        ("memory://absent", "nothing at 'memory://absent'"),
        ("odd://x/y", "begins with odd://, which fsspec does not know"),
        ("empty", "no image in 'empty': expected files ending in"),
        ("notes.pdf", "is neither a folder, nor Parquet"),
        ("binary.txt", "is no text"),
        ("odd.txt", "begins with odd://"),
        ("blank.txt", "no image in 'blank.txt'"),
    ],
)
def test_what_is_no_input(source, said, tmp_path, monkeypatch, memory):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    put(tmp_path / "notes.pdf")
    put(tmp_path / "binary.txt", b"\0\1")
    put(tmp_path / "odd.txt", b"odd://x/y\n")
    put(tmp_path / "blank.txt", b"\n \n")
    with pytest.raises(DataError, match=said):
        list_images(source)


def test_a_package_that_reads_urls_and_is_not_there(tmp_path):
    pytest.importorskip("fsspec")
    missing = next((name for name in ("oci", "hdfs3", "gs", "s3") if not _there(name)), None)
    if missing is None:
        pytest.skip("every such package is installed")
    put(tmp_path / "list.txt", f"{missing}://bucket/a.png\n".encode())
    with pytest.raises(ImportError):
        list_images(str(tmp_path / "list.txt"))


def _there(protocol):
    try:
        fsspec.get_filesystem_class(protocol)
    except (ImportError, ValueError) as error:
        return isinstance(error, ValueError)
    return True


def test_a_slice_may_follow_whatever_is_scored(tmp_path, memory, monkeypatch):
    names = [f"{i}.png" for i in range(5)]
    for name in names:
        put(tmp_path / "images" / name)
        memory.pipe(f"/d/{name}", png(1))
    listing = list_images(f"{tmp_path}/images[1:3]")
    assert (ids(listing), listing.source) == (names[1:3], f"{tmp_path}/images[1:3]")
    assert listing.encoded(0) == tmp_path / "images" / "1.png"
    assert listing.digest() != list_images(f"{tmp_path}/images[2:4]").digest()
    assert ids(list_images(f"file://{tmp_path}/images[-1:]")) == names[-1:]
    assert ids(list_images("memory://d[0:2]")) == names[:2]
    drawn = ids(list_images("memory://d[:2]"))
    assert drawn == ids(list_images(f"{tmp_path}/images[:2]")) == names[1:4:2]
    assert ids(list_images("memory://d[2:]")) == [name for name in names if name not in drawn]
    assert ids(list_images(f"{tmp_path}/images[:]")) == names
    pq.write_table(table(4), tmp_path / "a.parquet")
    assert ids(list_images(f"{tmp_path}/a.parquet[2:4]")) == [
        "a.parquet:2:p2.png",
        "a.parquet:3:p3.png",
    ]
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "list.txt", b"images/0.png\nimages/0.png\nimages/1.png\n")
    assert ids(list_images("list.txt[1:3]")) == ["images/0.png#2", "images/1.png"]
    put(tmp_path / "odd[:2]" / "own.png")
    assert ids(list_images("odd[:2]")) == ["own.png"]


def test_a_slice_that_leaves_nothing_is_refused(tmp_path):
    put(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"1 images in .* and none in .*\[4:\]'; expected some"):
        list_images(f"{tmp_path}[4:]")
    with pytest.raises(DataError, match=r"absent' does not exist"):
        list_images(f"{tmp_path}/absent[:4]")
