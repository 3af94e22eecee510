"""nemlib.data: what the loaders give, what they refuse, and that a download is whole or absent."""

import gzip
import importlib
import importlib.util
import inspect
import io
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.ndimage
import scipy.stats
import torch

from nemlib.data import (
    CHARACTERS,
    BadDataFile,
    DataUnavailable,
    Dataset,
    alphadigits,
    binarize,
    binarize_fixed,
    binarize_threshold,
    binarized_mnist,
    glyphs,
    mnist,
    read_sequences,
    static_shapes,
)
from nemlib.data.alphadigits import decode_mat
from nemlib.data.binarized import SHA256 as AMAT_SHA256
from nemlib.data.binarized import decode_amat
from nemlib.data.checks import sha256
from nemlib.data.download import RemoteFile, fetch
from nemlib.data.glyphs import FONTS, draw_glyphs, thin
from nemlib.data.idx import decode_idx, idx_header, read_idx
from nemlib.data.mnist import CONTENT_SHA256, FILES
from nemlib.data.sequences import write_sequences
from nemlib.data.shapes import SEEDS, SIZES, draw_shapes

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"   # originals that may not be shipped; tests that need them skip
MODULE = {name: importlib.import_module(f"nemlib.data.{name}")   # the package's functions hide these names
          for name in ("alphadigits", "binarized", "glyphs", "mnist", "shapes")}
NOWHERE = "http://127.0.0.1:9/"   # a port that nobody listens on


@pytest.fixture
def empty(tmp_path, monkeypatch) -> Path:
    """No data beside the package, an empty folder of the user's: that folder."""
    monkeypatch.setattr("nemlib.data.folders.repository_folder", lambda: tmp_path / "nothing")
    monkeypatch.setenv("NEMLIB_DATA", str(tmp_path / "cache"))
    monkeypatch.setenv("NEMLIB_QUIET", "1")
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def test_digits() -> Dataset:
    return mnist("test")


def refused(kind: type[Exception], call, *words: str) -> str:
    """The message of the error that `call` raises: one sentence, with all of `words` in it."""
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and message.endswith("."), message
    assert all(word in message for word in words), message
    return message


def mutant(function, old: str, new: str):
    """`function` with one piece of its source replaced: a fault made on purpose."""
    source = textwrap.dedent(inspect.getsource(function))
    assert old in source
    namespace = dict(function.__globals__)
    exec(source.replace(old, new), namespace)
    return namespace[function.__name__]


def shared(name: str) -> dict[str, np.ndarray]:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"the original {name} is not beside the repository")
    return dict(np.load(path))


# --- the object that every loader returns ------------------------------------------------------------------

def example(**changes) -> Dataset:
    fields = dict(images=torch.rand(6, 2, 3), labels=torch.arange(6), groups=torch.zeros(6, 2, 3).long())
    return Dataset(**(fields | dict(name="example", source="a test", licence="none") | changes))


@pytest.mark.parametrize("changes, words", [
    (dict(images=torch.rand(6, 2, 3).double()), ["float32", "float64"]),
    (dict(images=np.zeros((6, 2, 3))), ["ndarray"]),
    (dict(images=torch.rand(6, 6)), ["(N, height, width)", "(6, 6)"]),
    (dict(images=torch.rand(0, 2, 3), labels=None, groups=None), ["(0, 2, 3)"]),
    (dict(images=torch.full((6, 2, 3), 1.01)), ["[0, 1]", "1.01"]),
    (dict(images=torch.full((6, 2, 3), -0.5)), ["[0, 1]", "-0.5"]),
    (dict(images=torch.rand(6, 2, 3).index_fill(0, torch.tensor(3), float("nan"))), ["finite", "nan"]),
    (dict(images=torch.rand(6, 2, 3).index_fill(0, torch.tensor(3), float("inf"))), ["finite", "inf"]),
    (dict(labels=torch.arange(5)), ["labels", "(6,)", "(5,)"]),
    (dict(labels=torch.arange(6).int()), ["labels", "int64", "int32"]),
    (dict(labels=torch.arange(6) - 1), ["labels", "-1"]),
    (dict(groups=torch.zeros(6, 3, 2).long()), ["groups", "(6, 2, 3)", "(6, 3, 2)"]),
    (dict(groups=torch.zeros(6, 2, 3)), ["groups", "int64", "float32"]),
    (dict(groups=torch.full((6, 2, 3), -1)), ["groups", "-1"]),
])
def test_a_dataset_refuses_what_it_should_not_hold(changes, words):
    refused(ValueError, lambda: example(**changes), *words)


def test_a_dataset_gives_subsets_vectors_and_its_length():
    data = example()
    assert len(data) == 6 and data.flat().shape == (6, 6) and data.to("cpu").name == "example"
    chosen = {"count": 2, "slice": slice(0, 2), "index": torch.tensor([0, 1]), "mask": torch.arange(6) < 2}
    for which in chosen.values():
        part = data.subset(which)
        assert len(part) == 2 and part.labels.tolist() == [0, 1] and part.groups.shape == (2, 2, 3)
        assert torch.equal(part.images, data.images[:2]) and part.licence == "none"
    assert torch.equal(data.flat()[4], data.images[4].reshape(-1))
    assert repr(data) == "Dataset('example': 6 images of 2 × 3, labels, groups)"
    assert repr(Dataset(torch.rand(2, 5, 2, 3), name="s")) == "Dataset('s': 2 images of 5 × 2 × 3)"
    for count in (0, -1, 7):
        refused(ValueError, lambda: data.subset(count), str(count), "1 to 6")


# --- MNIST -------------------------------------------------------------------------------------------------

def test_mnist_is_whole_and_in_its_well_known_order(test_digits):
    digits = mnist("train")
    assert digits.images.shape == (60_000, 28, 28) and test_digits.images.shape == (10_000, 28, 28)
    assert digits.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert test_digits.labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert digits.images.dtype == torch.float32 and digits.labels.dtype == torch.int64
    assert digits.licence == "CC BY-SA 3.0" and "LeCun" in digits.source and digits.groups is None
    # the mean and standard deviation by which half the world normalises MNIST
    assert digits.images.mean().item() == pytest.approx(0.1307, abs=5e-5)
    assert digits.images.std().item() == pytest.approx(0.3081, abs=5e-5)


def test_mnist_equals_the_original_files(test_digits):
    if not (SHARED / "mnist").is_dir():
        pytest.skip("the original files are not beside the repository")
    images, labels = (read_idx(SHARED / "mnist" / f"{name}.gz") for name in FILES["test"].values())
    assert torch.equal(test_digits.images, torch.from_numpy(images / np.float32(255)))
    assert np.array_equal(test_digits.labels, labels)


def embedded(split: str, part: str) -> np.ndarray:
    with h5py.File(ROOT / "data" / "mnist.h5") as file:
        return file[split][part][...]


def idx_bytes(array: np.ndarray) -> bytes:
    return idx_header(array.shape) + array.tobytes()


@pytest.mark.parametrize("ending, pack", [("", bytes), (".gz", lambda data: gzip.compress(data, 1))])
def test_mnist_comes_from_the_originals_where_the_packed_file_is_missing(empty, test_digits, ending, pack):
    for part, name in FILES["test"].items():
        (empty / f"{name}{ending}").write_bytes(pack(idx_bytes(embedded("test", part))))
    digits = mnist("test")
    assert torch.equal(digits.images, test_digits.images) and torch.equal(digits.labels, test_digits.labels)


@pytest.mark.parametrize("spoil, words", [
    (lambda data: data[:-1], ["7,840,016", "7,840,015"]),
    (lambda data: data + b"\0", ["7,840,017"]),
    (lambda data: data[:11], ["16 bytes", "11"]),
    (lambda data: b"", ["nothing"]),
    (lambda data: b"<!DOCTYPE html>", ["00 00 08", "3c 21 44"]),
    (lambda data: data[:-1] + bytes([data[-1] ^ 1]), ["checksum"]),
    (lambda data: idx_bytes(np.swapaxes(decode_idx(data), 1, 2)), ["checksum"]),
    (lambda data: idx_bytes(decode_idx(data)[:100]), ["(10000, 28, 28)", "(100, 28, 28)"]),
    (lambda data: gzip.compress(data, 1)[:-100], ["cannot be read"]),
    (lambda data: gzip.compress(data, 1)[:-8] + bytes(8), ["cannot be read"]),
])
def test_spoilt_original_files_are_refused_by_name(empty, spoil, words):
    for part, name in FILES["test"].items():
        (empty / f"{name}.gz").write_bytes(idx_bytes(embedded("test", part)))
    images = empty / "t10k-images-idx3-ubyte.gz"
    images.write_bytes(spoil(images.read_bytes()))
    refused(BadDataFile, lambda: mnist("test"), str(images), *words)


def test_idx_files_of_any_rank_are_read(tmp_path):
    for shape in [(5,), (4, 3), (2, 3, 4), (0, 3)]:
        array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
        (tmp_path / "file").write_bytes(idx_bytes(array))
        assert np.array_equal(read_idx(tmp_path / "file"), array)
    swapped = mutant(decode_idx, "reshape(shape)", "reshape(shape[::-1])")
    assert not np.array_equal(swapped(idx_bytes(np.zeros((4, 3), np.uint8))).shape, (4, 3))


def edited(path: Path, name: str, change) -> None:
    """Replace the array `name` of an HDF5 file by what `change` makes of it."""
    with h5py.File(path, "r+") as file:
        array = file[name][...]
        del file[name]
        if (changed := change(array)) is not None:
            file[name] = changed


@pytest.mark.parametrize("name, change, words", [
    ("test/images", lambda x: np.swapaxes(x, 1, 2), ["not MNIST's", "t10k-images"]),
    ("test/images", lambda x: x[::-1], ["not MNIST's"]),
    ("test/images", lambda x: x.astype(np.float32) * np.nan, ["uint8", "float32"]),
    ("test/images", lambda x: x[:, :27], ["(10000, 28, 28)", "(10000, 27, 28)"]),
    ("test/labels", lambda y: np.roll(y, 1), ["not MNIST's", "labels"]),
    ("test/labels", lambda y: None, ["'labels'", "images"]),
    ("test", lambda group: None, ["'test'", "train"]),
])
def test_a_changed_mnist_file_is_refused_by_name(empty, name, change, words):
    path = Path(shutil.copy(ROOT / "data" / "mnist.h5", empty))
    if name == "test":
        with h5py.File(path, "r+") as file:
            del file["test"]
    else:
        edited(path, name, change)
    refused(BadDataFile, lambda: mnist("test"), str(path), *words)


@pytest.mark.parametrize("load", [mnist, static_shapes, binarized_mnist])
def test_an_unknown_split_is_refused(load):
    refused(ValueError, lambda: load("dev"), "'dev'", "'test'")


# --- static shapes -----------------------------------------------------------------------------------------

def test_the_embedded_shapes_are_those_of_the_generator():
    for split, size in SIZES.items():
        shapes = static_shapes(split)
        images, groups = draw_shapes(size, torch.Generator().manual_seed(SEEDS[split]))
        assert shapes.images.shape == (size, 28, 28) and shapes.labels is None
        assert torch.equal(shapes.images, images.float()) and torch.equal(shapes.groups, groups.long())
    assert len({static_shapes(split, 9).images.numpy().tobytes() for split in SIZES}) == 3
    few = static_shapes("test", samples=7)   # the last split of the loop above
    assert torch.equal(few.images, shapes.images[:7]) and few.name == "static shapes (test)"


def outlines_found(images: torch.Tensor, groups: torch.Tensor) -> Counter:
    """How often each outline stands in the groups of images without overlap, cut to its box."""
    found: Counter = Counter()
    for image, group in zip(images, groups):
        if ((image > 0) == (group > 0)).all():
            for label in group.unique()[1:]:
                rows, columns = (group == label).nonzero(as_tuple=True)
                box = (group == label)[rows.min():rows.max() + 1, columns.min():columns.max() + 1]
                found["\n".join("".join("#" if pixel else "." for pixel in row) for row in box.tolist())] += 1
    return found


def looks_right(draw) -> bool:
    """Whether a generator draws the published shapes, and only those, with the right labels."""
    images, groups = draw(400, torch.Generator().manual_seed(0), height=30, width=40)
    square, triangle = (MODULE["shapes"].SQUARE.strip(), MODULE["shapes"].TRIANGLE.strip())
    upside_down = "\n".join(reversed(triangle.splitlines()))
    drawn, found = set(groups.unique().tolist()), outlines_found(images, groups)
    overlap = ((images == 1) & (groups == 0)).any()
    return drawn == {0, 1, 2, 3} and set(found) == {square, triangle, upside_down} and bool(overlap)


@pytest.mark.parametrize("old, new", [
    ("groups[covered > 1] = 0", "pass"),
    ("outlines[kind] == 1, group,", "outlines[kind] >= 0, group,"),
    ("range(1, objects + 1)", "range(1, objects)"),
    ("top[:, None, None] + rows", "top[:, None, None] + 6 - rows // 2 * 2"),
])
def test_each_group_is_one_of_the_three_outlines(old, new):
    assert looks_right(draw_shapes)
    assert not looks_right(mutant(draw_shapes, old, new))


def uniform_p(draw) -> float:
    """The smallest p-value of χ² for kind, row and column of single shapes on a canvas of 9 × 15."""
    images, _ = draw(6000, torch.Generator().manual_seed(0), objects=1, height=9, width=15)
    top, left = images.any(2).int().argmax(1), images.any(1).int().argmax(1)
    square = images.flatten(1).sum(1) == 40   # 7 × 7 less the hole of 3 × 3
    counts = [torch.bincount(square.int(), minlength=2), torch.bincount(top, minlength=3),
              torch.bincount(left[square], minlength=9), torch.bincount(left[~square], minlength=4)]
    shares = [torch.tensor([2, 1])] + [torch.ones(len(count)) for count in counts[1:]]
    return min(
        scipy.stats.chisquare(count.double(), count.sum() * share.double() / share.sum()).pvalue
        for count, share in zip(counts, shares)
    )


@pytest.mark.parametrize("old, new", [
    ("width - widths[kind] + 1", "width - widths[kind]"),
    ("width - widths[kind] + 1", "width - 12 + 1"),
    ("torch.randint(height - 7 + 1", "torch.randint(height - 7"),
    ("torch.randint(len(outlines)", "torch.randint(2"),
])
def test_shapes_are_placed_and_chosen_uniformly(old, new):
    assert uniform_p(draw_shapes) > 1e-4
    assert uniform_p(mutant(draw_shapes, old, new)) < 1e-4


def test_the_shapes_have_the_statistics_of_the_literature():
    shapes = static_shapes("test")
    ink, overlap = shapes.images == 1, (shapes.images == 1) & (shapes.groups == 0)
    assert ink.float().mean() == pytest.approx(0.16, abs=0.01)
    assert overlap.sum() / ink.sum() == pytest.approx(0.08, abs=0.01)
    assert overlap.flatten(1).any(1).float().mean() == pytest.approx(0.7, abs=0.05)


@pytest.mark.parametrize("settings", [dict(count=0), dict(objects=0), dict(height=6), dict(width=11)])
def test_shapes_that_cannot_be_drawn_are_refused(settings):
    arguments = dict(count=1, generator=torch.Generator()) | settings
    refused(ValueError, lambda: draw_shapes(**arguments), "7 × 12")


def test_shapes_and_glyphs_are_generated_once_where_the_repository_is_missing(empty, monkeypatch):
    for split in SIZES:
        monkeypatch.setitem(SIZES, split, 50)
    for load, name, size in ((static_shapes, "shapes.h5", 50), (glyphs, "glyphs.h5", 1404)):
        with pytest.warns(UserWarning, match=f"{name} is not beside the package"):
            first = load()
        written = (empty / name).stat().st_mtime_ns
        assert len(first) == size and torch.equal(load().images, first.images)
        assert (empty / name).stat().st_mtime_ns == written
    assert left_in(empty) == ["glyphs.h5", "shapes.h5"]


# --- files in the Neural EM authors' layout ----------------------------------------------------------------

def authors_file(path: Path, steps: int = 1, height: int = 28, width: int = 28, **changes) -> dict:
    """A small file as the authors write theirs: float32, more in it than is needed; its arrays."""
    random = np.random.default_rng(0)
    arrays = {}
    with h5py.File(path, "w") as file:
        for split, size in (("training", 6), ("validation", 4), ("test", 3)):
            shape = (steps, size, height, width, 1)
            for name, high in (("features", 2), ("groups", 4)):
                array = random.integers(0, high, shape).astype(np.float32)
                arrays[split, name] = array = changes.get(name, lambda same: same)(array)
                file.create_dataset(f"{split}/{name}", data=array, compression="gzip",
                                    chunks=(1, 2, *array.shape[2:]))
        file["training/events"] = np.zeros(3)
        file["notes/more"] = np.zeros(2)
    return arrays


def test_the_authors_own_shapes_are_read_by_the_same_code(empty):
    arrays = authors_file(empty / "shapes.h5")
    shapes = static_shapes("validation")
    assert np.array_equal(shapes.images, arrays["validation", "features"][0, ..., 0])
    assert np.array_equal(shapes.groups, arrays["validation", "groups"][0, ..., 0])
    assert shapes.images.dtype == torch.float32 and shapes.groups.dtype == torch.int64
    assert "your own" in shapes.source and shapes.name == "shapes (validation)"


def test_sequences_keep_their_axes_apart(tmp_path):
    arrays = authors_file(tmp_path / "flying.h5", steps=5, height=3, width=7)
    data = read_sequences(tmp_path / "flying.h5", "training")
    assert data.images.shape == data.groups.shape == (6, 5, 3, 7)
    for sample, step in ((0, 0), (2, 4), (5, 1)):
        assert np.array_equal(data.images[sample, step], arrays["training", "features"][step, sample, ..., 0])
        assert np.array_equal(data.groups[sample, step], arrays["training", "groups"][step, sample, ..., 0])
    part = read_sequences(tmp_path / "flying.h5", "training", samples=2, steps=3)
    assert torch.equal(part.images, data.images[:2, :3]) and torch.equal(part.groups, data.groups[:2, :3])
    for asked in (dict(samples=7), dict(steps=6), dict(samples=0), dict(steps=-1)):
        refused(ValueError, lambda: read_sequences(tmp_path / "flying.h5", "training", **asked), *asked)
    refused(FileNotFoundError, lambda: read_sequences(tmp_path / "none.h5", "training"), "none.h5")
    mutated = mutant(read_sequences, "_sample_first(features, part)", "features[part][..., 0]")
    refused(BadDataFile, lambda: mutated(tmp_path / "flying.h5", "training"), "(5, 6, 3, 7)")


def test_sequences_that_stand_for_static_shapes_are_refused(empty):
    authors_file(empty / "shapes.h5", steps=5)
    refused(BadDataFile, lambda: static_shapes("test"), "shapes.h5", "5 steps", "read_sequences")


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.int32, np.float16, np.float64, ">f4"])
def test_sequences_of_any_numeric_type_are_read(tmp_path, dtype):
    def cast(array):
        return array.astype(dtype)

    arrays = authors_file(tmp_path / "a.h5", features=cast, groups=cast)
    data = read_sequences(tmp_path / "a.h5", "test")
    assert np.array_equal(data.groups[:, 0], arrays["test", "groups"][0, ..., 0].astype(np.int64))


def test_what_is_written_is_read_again(tmp_path):
    images, groups = draw_shapes(12, torch.Generator().manual_seed(0), height=9, width=20)
    pair = tuple(tensor.reshape(4, 3, 9, 20).numpy() for tensor in (images, groups))
    write_sequences(tmp_path / "a.h5", {"test": pair}, {"name": "n", "source": "s", "licence": "l"})
    data = read_sequences(tmp_path / "a.h5", "test")
    assert np.array_equal(data.images, pair[0]) and np.array_equal(data.groups, pair[1])
    assert (data.name, data.source, data.licence) == ("n (test)", "s", "l")
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["test/features"].shape == file["test/groups"].shape == (3, 4, 9, 20, 1)


def with_value(value: float):
    return lambda array: np.where(np.arange(array.size).reshape(array.shape) == 40, np.float32(value), array)


@pytest.mark.parametrize("changes, words", [
    (dict(features=with_value(np.nan)), ["finite", "nan"]),
    (dict(features=with_value(np.inf)), ["finite", "inf"]),
    (dict(features=with_value(1.5)), ["[0, 1]", "1.5"]),
    (dict(features=with_value(-1)), ["[0, 1]", "-1"]),
    (dict(features=lambda a: a * 255), ["[0, 1]", "255"]),
    (dict(groups=with_value(np.nan)), ["groups", "whole numbers"]),
    (dict(groups=with_value(-1)), ["groups", "whole numbers"]),
    (dict(groups=with_value(0.5)), ["groups", "whole numbers"]),
    (dict(groups=with_value(300)), ["groups", "0 to 255"]),
    (dict(groups=lambda a: a[:, :, :-1]), ["one shape", "(1, 6, 27, 28, 1)"]),
    (dict(features=lambda a: a.repeat(3, -1)), ["one channel", "(1, 6, 28, 28, 3)"]),
    (dict(features=lambda a: a[..., 0]), ["(time, sample, height, width, channel)", "(1, 6, 28, 28)"]),
    (dict(groups=lambda a: a.astype("S4")), ["numbers", "groups"]),
])
def test_sequences_that_hold_something_else_are_refused_by_name(empty, changes, words):
    authors_file(empty / "shapes.h5", **changes)
    refused(BadDataFile, lambda: static_shapes("training"), str(empty / "shapes.h5"), *words)


@pytest.mark.parametrize("missing, words", [
    ("training", ["'training'", "notes, test, validation"]),
    ("training/groups", ["'groups'", "events, features"]),
    ("training/features", ["'features'", "events, groups"]),
])
def test_sequences_that_lack_something_are_refused_by_name(empty, missing, words):
    authors_file(empty / "shapes.h5")
    with h5py.File(empty / "shapes.h5", "r+") as file:
        del file[missing]
    refused(BadDataFile, lambda: static_shapes("training"), str(empty / "shapes.h5"), *words)
    with h5py.File(empty / "shapes.h5", "r+") as file:   # something else under the name
        file.create_group(missing) if "/" in missing else file.create_dataset(missing, data=[1])
    refused(BadDataFile, lambda: static_shapes("training"), str(empty / "shapes.h5"), words[0])


# --- damaged files -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, load", [("glyphs.h5", glyphs), ("shapes.h5", static_shapes)])
def test_a_truncated_file_is_refused_wherever_it_was_cut(empty, name, load):
    if name == "shapes.h5":
        authors_file(empty / name)
        whole = (empty / name).read_bytes()
    else:
        whole = (ROOT / "data" / name).read_bytes()
    for length in [0, 1, 8, 100, *np.linspace(200, len(whole) - 1, 20).astype(int)]:
        (empty / name).write_bytes(whole[:length])
        refused(BadDataFile, load, str(empty / name), "restore or remove it")


@pytest.mark.parametrize("content", [b"<!DOCTYPE html><html>", bytes(4096), b"PK\x03\x04", bytes(range(256))])
def test_a_foreign_file_is_refused(empty, content):
    for name, load in (("mnist.h5", mnist), ("shapes.h5", static_shapes), ("glyphs.h5", glyphs)):
        (empty / name).write_bytes(content)
        refused(BadDataFile, load, name, "of another format")


def test_a_flipped_byte_is_noticed_or_does_no_harm(empty):
    path = Path(shutil.copy(ROOT / "data" / "glyphs.h5", empty))
    whole, right = path.read_bytes(), glyphs()
    with h5py.File(path) as file:
        chunk = file["images"].id.get_chunk_info(0)
    pixels = range(chunk.byte_offset, chunk.byte_offset + chunk.size)   # compressed, with zlib's checksum
    noticed = set()
    for place in [*range(0, len(whole), 700), *pixels[::500], pixels[-1]]:
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1:])
        try:
            images = glyphs().images
        except BadDataFile:
            noticed.add(place)
        else:   # a part of the file that nothing uses
            assert torch.equal(images, right.images) and place not in pixels
    assert len(noticed) > 80


# --- glyphs and AlphaDigits --------------------------------------------------------------------------------

def test_the_embedded_glyphs_are_those_of_the_generator():
    data = glyphs()
    assert data.images.shape == (1404, 20, 16) and set(data.images.unique().tolist()) == {0.0, 1.0}
    assert len(CHARACTERS) == 36 and data.labels.bincount().tolist() == [39] * 36
    assert data.labels[:40].tolist() == [0] * 39 + [1]
    drawn = draw_glyphs(torch.Generator().manual_seed(MODULE["glyphs"].SEED))
    assert np.array_equal(data.images, drawn)
    for lines in (data.images.any(2), data.images.any(1)):   # nearly all of them touch all four sides
        assert lines[:, [0, -1]].float().mean() > 0.98


def topology(ink: np.ndarray) -> tuple[int, int]:
    """Pieces of ink (joined at edges or corners) and of background (joined at edges)."""
    ink = np.pad(ink, 1)
    return scipy.ndimage.label(ink, np.ones((3, 3)))[1], scipy.ndimage.label(~ink)[1]


def thins_well(thinning) -> bool:
    """Whether all printed characters keep their pieces and holes, and lines are one pixel wide."""
    bar = np.zeros((15, 60), bool)
    bar[2:13, 5:55] = True   # its middle is row 7
    rows = np.argwhere(thinning(bar)[:, 15:45])[:, 0]
    if len(rows) != 30 or abs(rows - 7).max() > 1:
        return False
    for font in FONTS:
        for character in "08ABEIKQRXWM":
            ink = MODULE["glyphs"]._print(font, character)
            line = thinning(ink)
            blocks = scipy.ndimage.uniform_filter(line.astype(float), 3)[1:-1, 1:-1]
            if topology(line) != topology(ink) or blocks.max() > 0.99 or (line & ~ink).any():
                return False
            if line.sum() > 0.5 * ink.sum():
                return False
    return True


@pytest.mark.parametrize("old, new", [
    ("& (starts == 1)", ""),
    ("count >= 2", "count >= 0"),
    ("((0, 2, 6), (0, 4, 6))", "((0, 2, 4), (2, 4, 6))"),
    ("& ~around[list(second)].all(axis=0)", "& ~ink"),
])
def test_thinning_keeps_the_middle_breaks_no_line_and_fills_no_hole(old, new):
    assert thins_well(thin)
    assert not thins_well(mutant(thin, old, new))


def statistics(images: np.ndarray) -> dict[str, float]:
    """Ink, variance summed over pixels (of the set, within a class), accuracy of the nearest class mean."""
    flat = images.reshape(36, 39, -1).astype(float)
    means = flat.mean(axis=1)
    distances = ((flat[:, :, None] - means) ** 2).sum(axis=3)
    return {
        "ink": flat.mean(), "variance": flat.reshape(1404, -1).var(axis=0).sum(),
        "within": flat.var(axis=1).sum(axis=1).mean(),
        "accuracy": (distances.argmin(axis=2) == np.arange(36)[:, None]).mean(),
    }


def test_glyphs_resemble_the_real_characters_in_what_their_page_says():
    real, ours = statistics(shared("alphadigits.npz")["images"]), statistics(glyphs().images.numpy())
    assert ours["ink"] == pytest.approx(real["ink"], abs=0.03)
    assert ours["variance"] == pytest.approx(real["variance"], rel=0.1)
    assert ours["within"] == pytest.approx(real["within"], rel=0.1)
    assert ours["accuracy"] == pytest.approx(real["accuracy"], abs=0.1)


def characters() -> np.ndarray:
    """The glyphs, as images that AlphaDigits might be."""
    with h5py.File(ROOT / "data" / "glyphs.h5") as file:
        return file["images"][...]


def mat_bytes(images: np.ndarray, name: str = "dat", rows: int = 36) -> bytes:
    """Characters in a MATLAB file such as the published one."""
    cells = np.empty((rows, len(images) // rows), dtype=object)
    for index, image in enumerate(images):
        cells[divmod(index, cells.shape[1])] = image
    file = io.BytesIO()
    scipy.io.savemat(file, {name: cells, "numclasses": 36}, do_compression=True)
    return file.getvalue()


def test_alphadigits_are_decoded_from_the_published_format(empty):
    images = shared("alphadigits.npz")["images"]
    (empty / "binaryalphadigs.mat").write_bytes(mat_bytes(images))
    data = alphadigits()
    assert data.images.shape == (1404, 20, 16) and np.array_equal(data.images, images)
    assert np.array_equal(data.labels, shared("alphadigits.npz")["labels"])
    (empty / "binaryalphadigs.mat").write_bytes(mat_bytes(images[::-1]))
    refused(BadDataFile, alphadigits, "checksum")
    digit_0, letter_o = (data.images[data.labels == CHARACTERS.index(c)] for c in "0O")
    assert torch.equal(digit_0, letter_o)   # as the module says


def test_characters_keep_their_axes_and_order_in_both_formats(tmp_path):
    images = characters()
    (tmp_path / "characters.mat").write_bytes(mat_bytes(images))
    assert np.array_equal(decode_mat(tmp_path / "characters.mat"), images)
    binary = np.random.default_rng(0).integers(0, 2, (5, 28, 28), np.uint8)
    assert np.array_equal(decode_amat(amat_bytes(binary.reshape(5, 784)), 5), binary)


@pytest.mark.parametrize("spoil, words", [
    (lambda x: mat_bytes(x)[:-200], ["cannot be read"]),
    (lambda x: b"not a MATLAB file", ["binaryalphadigs.mat"]),
    (lambda x: b"", ["binaryalphadigs.mat"]),
    (lambda x: mat_bytes(x, name="data"), ["'dat'", "None"]),
    (lambda x: mat_bytes(x, rows=39), ["36 × 39", "(39, 36)"]),
    (lambda x: mat_bytes(np.swapaxes(x, 1, 2)), ["(1404, 20, 16)", "(1404, 16, 20)"]),
    (lambda x: mat_bytes(x * 2), ["zeros and ones"]),
    (lambda x: mat_bytes(x * np.nan), ["zeros and ones"]),
    (lambda x: mat_bytes(x), ["checksum", "not the published ones"]),
])
def test_spoilt_alphadigits_are_refused_by_name(empty, spoil, words):
    path = empty / "binaryalphadigs.mat"
    path.write_bytes(spoil(characters()))
    refused(BadDataFile, alphadigits, str(path), *words)


@pytest.mark.parametrize("name, change, words", [
    ("images", lambda x: x[:-1], ["(1404, 20, 16)", "(1403, 20, 16)"]),
    ("images", lambda x: np.swapaxes(x, 1, 2), ["(1404, 16, 20)"]),
    ("images", lambda x: x * 3, ["zeros and ones"]),
    ("images", lambda x: x * np.nan, ["zeros and ones"]),
    ("labels", lambda y: y[::-1], ["labels", "0 to 35"]),
    ("labels", lambda y: None, ["'labels'"]),
])
def test_changed_glyphs_are_refused_by_name(empty, name, change, words):
    shutil.copy(ROOT / "data" / "glyphs.h5", empty)
    edited(empty / "glyphs.h5", name, change)
    refused(BadDataFile, glyphs, str(empty / "glyphs.h5"), *words)


# --- binarization ------------------------------------------------------------------------------------------

def amat_bytes(images: np.ndarray) -> bytes:
    """Binary images (N, 784) in Larochelle's text format."""
    text = np.full((len(images), 784, 2), ord(" "), np.uint8)
    text[..., 0], text[:, -1, 1] = images + ord("0"), ord("\n")
    return text.tobytes()


def larochelle(split: str) -> np.ndarray:
    return np.unpackbits(shared("binarized_mnist.npz")[split], axis=1)


def test_our_reading_of_the_fixed_binarization_has_the_published_checksums():
    for split, digest in AMAT_SHA256.items():
        assert sha256(amat_bytes(larochelle(split))) == digest


def test_the_fixed_binarization_is_decoded_from_the_published_format(empty, test_digits):
    (empty / "binarized_mnist_test.amat").write_bytes(amat_bytes(larochelle("test")))
    data = binarized_mnist("test")
    assert data.images.shape == (10_000, 28, 28) and data.labels is None
    assert np.array_equal(data.flat(), larochelle("test"))
    # each of its images can be drawn from some grey test image, but hardly one from that in its own place
    binary, grey = data.flat()[:50], test_digits.flat()
    impossible = binary @ (grey == 0).float().T + (1 - binary) @ (grey == 1).float().T
    assert (impossible.min(dim=1).values == 0).all() and (impossible.diagonal() == 0).float().mean() < 0.1


@pytest.mark.parametrize("spoil, words", [
    (lambda data: data[:-1], ["15,680,000", "15,679,999"]),
    (lambda data: data.replace(b"\n", b"\r\n"), ["15,690,000"]),
    (lambda data: b"2" + data[1:], ["0 and 1"]),
    (lambda data: b"." + data[1:], ["0 and 1"]),
    (lambda data: data[:1] + b"," + data[2:], ["0 and 1"]),
    (lambda data: data.replace(b"\n", b" "), ["0 and 1"]),
    (lambda data: b"1" + data[1:], ["checksum"]),
])
def test_a_spoilt_fixed_binarization_is_refused_by_name(empty, spoil, words):
    path = empty / "binarized_mnist_test.amat"
    path.write_bytes(spoil(amat_bytes(np.zeros((10_000, 784), np.uint8))))
    refused(BadDataFile, lambda: binarized_mnist("test"), str(path), *words)


def frequencies_fit(draw) -> bool:
    """Whether pixels are 1 as often as their grey value says, |z| < 4 each, and only 0 or 1."""
    grey = torch.tensor([[0.0, 0.1, 0.5], [0.8, 0.98, 1.0]])
    drawn = draw(grey.expand(20_000, 2, 3), torch.Generator().manual_seed(0))
    z = (drawn.mean(dim=0) - grey) / (grey * (1 - grey) / len(drawn)).sqrt().clamp(min=1e-6)
    return bool((z.abs() < 4).all()) and set(drawn.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("old, new", [
    ("torch.bernoulli(images,", "torch.bernoulli(1 - images,"),
    ("torch.bernoulli(images,", "torch.bernoulli((images > 0.5).float(),"),
    ("torch.bernoulli(images, generator=generator)", "images"),
    ("torch.bernoulli(images,", "torch.bernoulli(images**2,"),
])
def test_dynamic_binarization_draws_each_pixel_with_its_grey_value(old, new):
    assert frequencies_fit(binarize)
    assert not frequencies_fit(mutant(binarize, old, new))


def test_binarization_leaves_global_randomness_alone_and_repeats_by_seed():
    grey = torch.rand(50, 4, 7, dtype=torch.float64)
    state = torch.random.get_rng_state()
    generator = torch.Generator().manual_seed(3)
    first, second = binarize(grey, generator), binarize(grey, generator)
    assert not torch.equal(first, second) and first.dtype == torch.float64 and first.shape == grey.shape
    assert torch.equal(first, binarize(grey, torch.Generator().manual_seed(3)))
    assert torch.equal(binarize_fixed(grey, 3), first) and not torch.equal(binarize_fixed(grey, 4), first)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_thresholding_is_exact_at_the_threshold():
    grey = torch.tensor([0.0, 0.5, 0.5000001, 1.0])
    assert binarize_threshold(grey).tolist() == [0, 0, 1, 1]
    assert binarize_threshold(grey, threshold=0).tolist() == [0, 1, 1, 1]
    refused(ValueError, lambda: binarize_threshold(grey, threshold=1.0), "[0, 1)", "1.0")


@pytest.mark.parametrize("images, words", [
    (torch.tensor([0.5, 1.5]), ["[0, 1]", "1.5"]),
    (torch.tensor([0.5, float("nan")]), ["finite"]),
    (torch.tensor([0, 255], dtype=torch.uint8), ["uint8", "255"]),
])
def test_what_is_not_grey_is_not_binarized(images, words):
    for call in (lambda: binarize(images, torch.Generator()), lambda: binarize_fixed(images, 0),
                 lambda: binarize_threshold(images)):
        refused(ValueError, call, *words)


def test_a_generator_on_another_device_is_refused():
    refused(ValueError, lambda: binarize(torch.zeros(2), FakeGenerator()), "cuda:0", "cpu")


class FakeGenerator:
    """Stands for a generator on a GPU, where there is none."""

    device = torch.device("cuda:0")


# --- downloads ---------------------------------------------------------------------------------------------

BODY = bytes(range(256)) * 4096   # 1 MiB


class Server(ThreadingHTTPServer):
    """A server that answers well, slowly, in part, wrongly or not at all, by the path it is asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.asked: Counter = Counter()
        self.url = f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, request, client_address):
        pass   # a client that was killed is what some tests want


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked[self.path] += 1
        if self.path == "/missing":
            return self.send_error(404)
        body = b"<html>Sign in to the network</html>" if self.path == "/wrong" else BODY
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for start in range(0, len(body) // 2 if self.path == "/truncated" else len(body), 2**16):
            self.wfile.write(body[start:start + 2**16])
            time.sleep(0.05 if self.path == "/slow" else 0)

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    with Server() as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running
        running.shutdown()


def remote(*addresses: str) -> RemoteFile:
    return RemoteFile("file.bin", sha256(BODY), addresses)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_download_is_checked_kept_and_not_repeated(empty, server):
    for _ in range(2):
        path = fetch(remote(server.url + "good"))
        assert path == empty / "file.bin" and path.read_bytes() == BODY
    assert server.asked == {"/good": 1} and left_in(empty) == ["file.bin"]


@pytest.mark.parametrize("path, reason", [
    ("truncated", "broke off"), ("wrong", "published checksum"), ("missing", "answered 404"),
])
def test_a_bad_answer_leaves_nothing_behind(empty, server, path, reason):
    refused(DataUnavailable, lambda: fetch(remote(server.url + path)), reason, "file.bin", str(empty))
    assert left_in(empty) == []


def test_the_checksum_is_what_refuses_a_wrong_answer(empty, server):
    from nemlib.data import download

    trusting = mutant(download._download, "== remote.sha256", "is not None")
    trusting(remote(server.url + "wrong"), empty / "file.bin")
    assert b"Sign in" in (empty / "file.bin").read_bytes()


def test_mirrors_are_tried_in_turn(empty, server):
    addresses = [server.url + path for path in ("missing", "truncated", "wrong", "good")]
    assert fetch(remote(NOWHERE, *addresses)).read_bytes() == BODY
    assert sum(server.asked.values()) == 4 and left_in(empty) == ["file.bin"]


@pytest.mark.parametrize("load, file", [
    (lambda: mnist("test"), "t10k-images-idx3-ubyte.gz"),
    (alphadigits, "binaryalphadigs.mat"),
    (lambda: binarized_mnist("valid"), "binarized_mnist_valid.amat"),
])
def test_without_network_one_sentence_says_which_file_whence_and_whither(empty, monkeypatch, load, file):
    monkeypatch.setattr(MODULE["mnist"], "MIRRORS", (NOWHERE, NOWHERE))
    monkeypatch.setattr(MODULE["binarized"], "ADDRESS", NOWHERE)
    monkeypatch.setattr(MODULE["alphadigits"], "PUBLISHED", RemoteFile(file, "0", (NOWHERE + file,)))
    refused(DataUnavailable, load, file, NOWHERE + file, str(empty), "no connection")
    assert left_in(empty) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path, empty, monkeypatch):
    (tmp_path / "taken").write_text("a file where the folder should be")
    monkeypatch.setenv("NEMLIB_DATA", str(tmp_path / "taken"))
    refused(DataUnavailable, lambda: fetch(remote(NOWHERE)), str(tmp_path / "taken"), "NEMLIB_DATA")


CLIENT = """
import sys
from pathlib import Path
import nemlib.data.folders as folders
from nemlib.data.download import RemoteFile, fetch
folders.repository_folder = lambda: Path("nothing")
print("ready", flush=True)
sys.stdin.readline()
print(len(fetch(RemoteFile("file.bin", sys.argv[2], (sys.argv[1],))).read_bytes()), flush=True)
"""


def client(url: str) -> subprocess.Popen:
    """Another process that fetches `url` when a line is sent to it."""
    process = subprocess.Popen([sys.executable, "-c", CLIENT, url, sha256(BODY)], cwd=ROOT, text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return process


def started(process: subprocess.Popen) -> subprocess.Popen:
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    process.stdin.write("go\n")
    process.stdin.flush()
    return process


def test_processes_that_ask_at_once_share_one_download_and_a_killed_one_does_no_harm(empty, server):
    killed, other = client(server.url + "slow"), client(server.url + "slow")
    started(killed)
    while not server.asked["/slow"]:
        time.sleep(0.005)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert not (empty / "file.bin").exists() and left_in(empty)   # only a piece under another name
    started(other)
    path = fetch(remote(server.url + "slow"))   # this process asks at the same time
    assert other.communicate(timeout=60) == (f"{len(BODY)}\n", "")
    assert server.asked["/slow"] == 2   # the killed process's, and one for the other two
    assert path.read_bytes() == BODY and left_in(empty) == ["file.bin"]


# --- what the repository says about its files --------------------------------------------------------------

def make_data():
    """tools/make_data.py as a module."""
    spec = importlib.util.spec_from_file_location("make_data", ROOT / "tools" / "make_data.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_readme_code_and_files_agree():
    tool = make_data()
    with h5py.File(ROOT / "data" / "shapes.h5") as file:
        if file.attrs.get("name") != MODULE["shapes"].ATTRIBUTES["name"]:
            pytest.skip("data/shapes.h5 is a file of your own, which data/README.md does not describe")
    readme = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    assert tool.with_facts(readme, tool.facts(ROOT / "data")) == readme, "run tools/make_data.py"
    for name in tool.NAMES:
        digest = tool.file_sha256(ROOT / "data" / f"{name}.h5")
        assert readme.count(digest) == 1
        assert readme.replace(digest, "0" * 64) != tool.with_facts(readme, tool.facts(ROOT / "data"))
        with h5py.File(ROOT / "data" / f"{name}.h5") as file:
            assert dict(file.attrs) == MODULE[name].ATTRIBUTES
    for licence in ("CC BY-SA 3.0", "Attribution-Share Alike 3.0", "MIT"):
        assert licence in readme
    assert all(digest in readme for digest in [*CONTENT_SHA256.values(), *AMAT_SHA256.values()])


def test_a_rebuild_repeats_the_bytes_and_a_changed_number_is_noticed(tmp_path):
    tool, path = make_data(), ROOT / "data" / "glyphs.h5"
    for name in ("one.h5", "two.h5"):
        MODULE["glyphs"].write_glyphs(tmp_path / name)
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()
    assert tool.same_numbers(tmp_path / "one.h5", path)
    edited(tmp_path / "one.h5", "labels", lambda labels: labels[::-1])
    assert not tool.same_numbers(tmp_path / "one.h5", path)


def test_the_embedded_files_are_small_enough_to_be_cloned():
    size = {name: (ROOT / "data" / f"{name}.h5").stat().st_size for name in ("mnist", "shapes", "glyphs")}
    assert size["mnist"] < 12e6 and size["shapes"] < 6e6 and size["glyphs"] < 1e5
