"""nemlib.data.moving: objects that fly and bounce as the authors' do, the pixels they own, and the files."""

import inspect
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.stats
import torch

from nemlib.data import BadDataFile, Dataset, flying_mnist, flying_shapes, mnist, moving, read_sequences
from nemlib.data.moving import SEEDS, SIZES, bounce, draw_flying_mnist, draw_flying_shapes, film
from nemlib.data.shapes import SQUARE, TRIANGLE, write_shapes

OUTLINES = {SQUARE.strip(), TRIANGLE.strip(), "\n".join(reversed(TRIANGLE.strip().splitlines()))}


@pytest.fixture(scope="module")
def digits() -> dict[str, torch.Tensor]:
    return {split: mnist(split).images for split in ("train", "test")}


@pytest.fixture
def empty(tmp_path, monkeypatch, digits) -> Path:
    """Nothing beside the package but MNIST, an empty folder of the user's: that folder. Small files."""
    monkeypatch.setattr("nemlib.data.folders.repository_folder", lambda: tmp_path / "nothing")
    monkeypatch.setattr(moving, "mnist", lambda split: Dataset(digits[split]))
    monkeypatch.setenv("NEMLIB_DATA", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    for split, size in zip(SIZES, (6, 4, 3)):
        monkeypatch.setitem(SIZES, split, size)
    return tmp_path / "cache"


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def refused(kind: type[Exception], call, *words: str) -> None:
    """`call` raises an error of one sentence with all of `words` in it."""
    with pytest.raises(kind) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and message.endswith("."), message
    assert all(word in message for word in words), message


def mutant(function, old: str, new: str):
    """`function` with one piece of its source replaced: a fault made on purpose."""
    source = textwrap.dedent(inspect.getsource(function))
    assert old in source
    namespace = dict(function.__globals__)
    exec(source.replace(old, new), namespace)
    return namespace[function.__name__]


def strewn(count: int, height: int, width: int) -> torch.Tensor:
    """Digits for tests: grey dots strewn over a quarter of the canvas, each image another."""
    ink = torch.rand(count, height, width, generator=seeded(7))
    return torch.where(ink > 0.6, ink, 0).clamp(max=1)


# --- how objects move --------------------------------------------------------------------------------------

# Room, start, velocity and places (row, column) of the five shapes in the 20 frames of
# illustrations/flying_shapes.png of github.com/sjoerdvansteenkiste/Neural-EM: the only five shapes
# whose union is what the frames show, found by trying all places.
SEEN = [
    ((21, 16), (8, 10), (0, -1), [[8] * 20, [*range(10, -1, -1), *range(1, 10)]]),
    ((21, 16), (15, 2), (-1, 1), [[*range(15, -1, -1), *range(1, 5)], [*range(2, 17), *range(15, 10, -1)]]),
    ((21, 16), (16, 12), (1, 0), [[*range(16, 22), *range(20, 6, -1)], [12] * 20]),
    ((21, 21), (13, 12), (1, 1), [[*range(13, 22), *range(20, 9, -1)], [*range(12, 22), *range(20, 10, -1)]]),
    ((21, 21), (2, 19), (0, 0), [[2] * 20, [19] * 20]),
]


def flies_as_published(law) -> bool:
    room, start, velocity, places = (torch.tensor(column) for column in zip(*SEEN))
    return torch.equal(law(start, velocity, room, 20), places)


def keeps_its_speed(law) -> bool:
    """Whether random flights stay within their room at constant speed, where there is room at all."""
    room = torch.randint(0, 9, (500, 2), generator=seeded())
    start = (torch.rand(500, 2, generator=seeded(1)) * (room + 1)).long()
    velocity = torch.randint(-1, 2, (500, 2), generator=seeded(2))
    places = law(start, velocity, room, 40)
    speed = places.diff(dim=-1).abs() == (velocity.abs() * (room > 0))[..., None]
    inside = (places >= 0) & (places <= room[..., None])
    return torch.equal(places[..., 0], start) and bool(speed.all()) and bool(inside.all())


@pytest.mark.parametrize("old, new", [
    ("straight.remainder(there_and_back.clamp(min=1))", "straight"),                        # it leaves
    ("torch.minimum(folded, there_and_back - folded)", "folded"),                           # it leaves
    ("2 * room[..., None]", "2 * room[..., None] + 2"),                                     # one pixel out
    ("2 * room[..., None]", "2 * room[..., None] + 1"),                                     # rests at an end
    ("torch.minimum(folded, there_and_back - folded)", "folded.remainder(room[..., None] + 1)"),   # re-enters
    ("torch.arange(steps)", "torch.arange(1, steps + 1)"),
])
def test_objects_bounce_as_in_the_authors_own_sequence(old, new):
    assert flies_as_published(bounce) and keeps_its_speed(bounce)
    fault = mutant(bounce, old, new)
    assert not flies_as_published(fault) and not keeps_its_speed(fault)


def motion(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Place of the ink's box in films of one object, and the box's size: (count, steps, 2) each."""
    places, sizes = [], []
    for other in (3, 2):   # rows, then columns
        inked = (images > 0).any(other).int()
        places.append(inked.argmax(2))
        sizes.append(inked.shape[2] - inked.flip(2).argmax(2) - places[-1])
    return torch.stack(places, -1), torch.stack(sizes, -1)


def is_outline(picture: torch.Tensor) -> bool:
    return "\n".join("".join("#" if pixel else "." for pixel in row) for row in picture.tolist()) in OUTLINES


STREWN = strewn(5, 12, 17)
SMALL = STREWN[:, :, :16].reshape(5, 6, 2, 8, 2).mean((2, 4)).mul(256).round() / 256   # an odd column is lost


def is_digit(picture: torch.Tensor) -> bool:
    parts = SMALL.unfold(1, len(picture), 1).unfold(2, picture.shape[1], 1).flatten(0, 2)
    return bool((parts == picture).all(2).all(1).any())


def draw_strewn(*arguments, **settings) -> tuple[torch.Tensor, torch.Tensor]:
    return draw_flying_mnist(*arguments, digits=STREWN, **settings)


def flies_well(draw, known) -> bool:
    """Whether single objects are whole in every frame, of a known kind, and as fast in each as before."""
    try:
        images, _ = draw(300, seeded(), objects=1, steps=30, height=13, width=30)
    except ValueError:   # an object has left the canvas
        return False
    places, sizes = motion(images)
    moves = places.diff(dim=1).abs()
    cut = [frame[row:row + tall, column:column + wide]
           for frame, (row, column), (tall, wide) in zip(images[:, -1], places[:, -1], sizes[:, -1])]
    return all((
        bool((sizes == sizes[:, :1]).all()),
        images.sum((2, 3), dtype=torch.float64).diff(dim=1).abs().max() < 1e-9,
        bool((moves == moves[:, :1]).all()) and moves.max() == 1,
        places.min() == 0 and (places + sizes).amax((0, 1)).tolist() == [13, 30],
        all(known(picture) for picture in cut),
    ))


@pytest.mark.parametrize("old, new", [
    ("torch.tensor(canvas)", "torch.tensor(canvas[::-1])"),
    ("velocity, room, steps)", "velocity, room + 2, steps)"),
    ("velocity, room, steps)", "velocity, room - 2, steps)"),
    ("torch.randint(-1, 2, room.shape", "2 * torch.randint(-1, 2, room.shape"),
])
def test_every_object_stays_whole_and_keeps_its_speed(monkeypatch, old, new):
    assert flies_well(draw_flying_shapes, is_outline) and flies_well(draw_strewn, is_digit)
    monkeypatch.setattr(moving, "_fly", mutant(moving._fly, old, new))
    assert not flies_well(draw_flying_shapes, is_outline) and not flies_well(draw_strewn, is_digit)


def uniform_p(draw) -> float:
    """The smallest p-value of χ² for kind, start and velocity of single shapes on a canvas of 12 × 20."""
    images, _ = draw(6000, seeded(), objects=1, steps=2, height=12, width=20)
    (start, after), sizes = motion(images)[0].unbind(1), motion(images)[1][:, 0]
    square, room = sizes[:, 1] == 7, torch.tensor([12, 20]) - sizes
    upright = images[:, 0].sum(2).max(1).indices > start[:, 0] + 2   # the triangle's widest row is low
    free = ((start > 0) & (start < room)).all(1)                      # who does not turn round at once
    velocity = (after - start)[free] + 1
    counts = [
        torch.bincount(torch.where(square, 0, 1 + upright.int()), minlength=3),
        torch.bincount(start[:, 0], minlength=6),
        torch.bincount(start[square, 1], minlength=14), torch.bincount(start[~square, 1], minlength=9),
        torch.bincount(3 * velocity[:, 0] + velocity[:, 1], minlength=9),
    ]
    return min(scipy.stats.chisquare(count.double()).pvalue for count in counts)


@pytest.mark.parametrize("function, old, new", [
    (draw_flying_shapes, "torch.randint(len(drawings)", "torch.randint(2"),
    (moving._fly, "(room + 1)", "room"),
    (moving._fly, "(room + 1)", "(room + 3)"),
    (moving._fly, "torch.randint(-1, 2, room.shape", "torch.randint(0, 2, room.shape"),
    (moving._fly, "torch.randint(-1, 2, room.shape", "torch.randint(-1, 2, (*room.shape[:-1], 1)"),
])
def test_kinds_starts_and_velocities_are_uniform(monkeypatch, function, old, new):
    assert uniform_p(draw_flying_shapes) > 1e-4
    monkeypatch.setattr(moving, function.__name__, mutant(function, old, new))
    if function is moving._fly:
        monkeypatch.setattr(moving, "bounce", lambda start, velocity, room, steps: bounce(
            start, velocity.expand_as(start), room, steps))
    assert uniform_p(moving.draw_flying_shapes) < 1e-4


# --- which pixel belongs to which object -------------------------------------------------------------------

def filmed_plainly(boxes, places, height, width, ink) -> tuple[np.ndarray, np.ndarray]:
    """What `film` should give, pixel by pixel."""
    objects, count, steps, _ = places.shape
    images, groups = np.zeros((count, steps, height, width)), np.zeros((count, steps, height, width), int)
    for sample, step, row, column in np.ndindex(images.shape):
        owners = []
        for number in range(objects):
            y, x = (np.array([row, column]) - places[number, sample, step].numpy()).tolist()
            if 0 <= y < boxes.shape[2] and 0 <= x < boxes.shape[3]:
                value = boxes[number, sample, y, x].item()
                images[sample, step, row, column] = max(value, images[sample, step, row, column])
                owners += [number + 1] * (value > ink)
        groups[sample, step, row, column] = owners[0] if len(owners) == 1 else 0
    return images, groups


def films_well(shoot) -> bool:
    """Whether films of two sets of boxes, crowded on a canvas that is not square, are right throughout."""
    for kind, ink in ((torch.float64, 0.3), (torch.uint8, 0)):
        boxes = strewn(8, 3, 4).reshape(4, 2, 3, 4)
        boxes = (boxes > 0).to(kind) if kind == torch.uint8 else boxes.to(kind) - 0.6 * (boxes > 0.6)
        places = torch.stack([torch.randint(0, 3, (4, 2, 3), generator=seeded(1)),
                              torch.randint(0, 8, (4, 2, 3), generator=seeded(2))], dim=-1)
        try:
            images, groups = shoot(boxes, places, 5, 9, ink)
        except IndexError:   # a pixel beyond all canvases
            return False
        plain_images, plain_groups = filmed_plainly(boxes, places, 5, 9, ink)
        if not np.array_equal(images, plain_images) or not np.array_equal(groups, plain_groups):
            return False
    return images.dtype == groups.dtype == torch.uint8


@pytest.mark.parametrize("old, new", [
    ("torch.where(before == 0, number, OVERLAP)", "torch.where(before < 0, 0, number)"),   # the last one
    ("torch.where(before == 0, number, OVERLAP)", "torch.where(before == 0, number, before)"),   # the first
    ("torch.where(before == 0, number, OVERLAP)", "torch.where(before == 0, number, 0)"),   # the third
    ("torch.where(box > ink, after, before)", "after"),                                      # the whole box
    ("box > ink", "box > 0"),
    ("torch.maximum(image.take(pixels), box)", "image.take(pixels) + box"),
    ("torch.maximum(image.take(pixels), box)", "box"),
    ("start=1", "start=2"),
    ("place[:, 0] * columns + place[:, 1]", "place[:, 1] * columns + place[:, 0]"),
    ("places[:, :, step]", "places[:, :, 0]"),
    ("groups.masked_fill_(groups == OVERLAP, 0)", "groups"),
])
def test_films_show_each_object_and_name_the_owner_of_each_pixel(old, new):
    assert films_well(film)
    assert not films_well(mutant(film, old, new))


def test_objects_out_of_the_canvas_are_refused():
    for corner in ((-1, 0), (0, -1), (5, 0), (0, 9)):
        places = torch.tensor(corner).expand(1, 1, 1, 2)
        refused(ValueError, lambda: film(torch.ones(1, 1, 2, 2), places, 5, 9), "5 × 9")


def test_flying_shapes_have_the_statistics_of_static_ones():
    images, groups = draw_flying_shapes(400, seeded(), steps=5)
    assert images.shape == groups.shape == (400, 5, 28, 28) and images.dtype == groups.dtype == torch.uint8
    ink, overlap = images == 1, (images == 1) & (groups == 0)
    assert ink.float().mean() == pytest.approx(0.16, abs=0.01)
    assert overlap.sum() / ink.sum() == pytest.approx(0.08, abs=0.02)
    assert set(groups.unique().tolist()) == {0, 1, 2, 3} and bool(ink[groups > 0].all())
    five = draw_flying_shapes(50, seeded(), objects=5, steps=2)[1]
    assert set(five.unique().tolist()) == set(range(6))


# --- digits ------------------------------------------------------------------------------------------------

def test_digits_have_half_the_size_and_are_cut_to_their_ink(digits):
    some = digits["test"][:2000]
    images, groups = draw_flying_mnist(500, seeded(), some, objects=1, steps=1)
    assert images.shape == (500, 1, 24, 24) and images.dtype == torch.float32 and groups.dtype == torch.uint8
    assert motion(images)[1].amax((0, 1)).tolist() == [11, 11]
    assert torch.equal(images, images.half().float()) and images.max() <= 1
    assert torch.equal(groups > 0, images > moving.INK)
    halved = some.reshape(2000, 14, 2, 14, 2).mean((2, 4))
    whole = images.sum((1, 2, 3)).double()
    nearest = (whole[:, None] - halved.sum((1, 2)).double()).abs().min(1).values
    assert nearest.max() < 0.1   # a digit's ink, but for rounding: 50 pixels of at most 1/512 each


def test_variations_are_the_first_so_many_digits():
    digits = torch.eye(6)[:, :, None].repeat_interleave(2, 1).expand(6, 12, 2)   # a dot each, in another row
    digits = digits * torch.linspace(0.5, 1, 6)[:, None, None]                   # and of another grey

    def greys(**settings):
        images, _ = draw_flying_mnist(60, seeded(), digits, steps=1, height=3, width=9, **settings)
        return len(images.unique()) - 1

    assert [greys(), greys(variations=6), greys(variations=2), greys(variations=1)] == [6, 6, 2, 1]


def test_films_are_drawn_by_the_generator_that_is_passed():
    before = torch.get_rng_state()
    for draw in (draw_flying_shapes, draw_strewn):
        one, again, other = (draw(3, seeded(seed), steps=4) for seed in (0, 0, 1))
        assert all(torch.equal(a, b) for a, b in zip(one, again)) and not torch.equal(one[0], other[0])
        generator = seeded(0)
        assert torch.equal(draw(3, generator, steps=4)[0], one[0])
        assert not torch.equal(draw(3, generator, steps=4)[0], one[0])   # it goes on
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("settings", [
    dict(count=0), dict(objects=0), dict(objects=255), dict(steps=0), dict(height=2), dict(width=2)])
def test_films_that_cannot_be_drawn_are_refused(settings):
    arguments = dict(count=1, generator=seeded(), steps=1) | settings
    refused(ValueError, lambda: draw_flying_shapes(**arguments), "canvas of at least 7 × 12", "1 to 254")
    needed = " × ".join(map(str, motion(SMALL[:, None])[1].amax((0, 1)).tolist()))
    refused(ValueError, lambda: draw_strewn(**arguments), f"canvas of at least {needed}", "1 to 254")


@pytest.mark.parametrize("digits, settings, words", [
    (torch.ones(4, 8), {}, ["(N, height, width)", "(4, 8)"]),
    (torch.ones(0, 8, 8), {}, ["(0, 8, 8)"]),
    (torch.ones(2, 1, 8), {}, ["2 × 2", "(2, 1, 8)"]),
    (torch.ones(2, 8, 8, dtype=torch.uint8), {}, ["floating", "uint8"]),
    (torch.ones(2, 8, 8) * 255, {}, ["[0, 1]", "255"]),
    (torch.ones(2, 8, 8) * float("nan"), {}, ["finite", "nan"]),
    (torch.eye(3)[:, :, None].expand(3, 3, 4), {}, ["ink", "index 2"]),   # its third row is the odd one
    (torch.ones(2, 8, 8), dict(variations=3), ["1 to 2", "3"]),
    (torch.ones(2, 8, 8), dict(variations=0), ["1 to 2", "0"]),
])
def test_digits_that_cannot_fly_are_refused(digits, settings, words):
    refused(ValueError, lambda: draw_flying_mnist(1, seeded(), digits, **settings), *words)


# --- files -------------------------------------------------------------------------------------------------

def test_flying_shapes_are_generated_once_in_the_authors_layout(empty):
    for objects, name in ((3, "flying_shapes.h5"), (4, "flying_shapes_4.h5")):
        with pytest.warns(UserWarning, match=f"{name} is not beside the package"):
            first = flying_shapes("test", objects=objects)
        written = (empty / name).stat().st_mtime_ns
        again = flying_shapes("test", None, objects)
        assert torch.equal(again.images, first.images) and (empty / name).stat().st_mtime_ns == written
        images, groups = draw_flying_shapes(3, seeded(SEEDS["test"]), objects=objects, steps=21)
        assert torch.equal(first.images, images.float()) and torch.equal(first.groups, groups.long())
        assert first.groups.max() == objects and first.name == "flying shapes (test)"
        with h5py.File(empty / name) as file:
            assert file["training/features"].shape == file["training/groups"].shape == (21, 6, 28, 28, 1)
    few = flying_shapes("training", samples=2, steps=5)
    assert torch.equal(few.images, flying_shapes().images[:2, :5]) and len(flying_shapes("validation")) == 4


def test_flying_mnist_keeps_the_test_digits_for_the_test(empty, monkeypatch, digits):
    pools = {}

    def draw(count, generator, *, digits, **settings):   # notes the digits, and goes on with the first fifty
        pools[count] = digits
        return draw_flying_mnist(count, generator, digits[:50], **settings)

    monkeypatch.setattr(moving, "draw_flying_mnist", draw)
    known, unseen = digits["train"], digits["test"]
    expected = {
        "flying_mnist.h5": (dict(), known[:50_000], known[50_000:]),
        "flying_mnist_hard_3digits.h5": (dict(objects=3), known[:50_000], known[50_000:]),
        "flying_mnist_medium20_2digits.h5": (dict(variations=20), known[:20], known[:20]),
    }
    for name, (settings, training, validation) in expected.items():
        pools.clear()
        with pytest.warns(UserWarning, match=name):
            films = flying_mnist("training", **settings)
        for count, pool in zip(SIZES.values(), (training, validation, unseen)):
            assert pools[count].shape == pool.shape and torch.equal(pools[count], pool)
        assert films.images.shape == (6, 21, 24, 24) and films.groups.max() == settings.get("objects", 2)
        images, groups = draw_flying_mnist(6, seeded(SEEDS["training"]), training[:50], steps=21,
                                           objects=settings.get("objects", 2))
        assert torch.equal(films.images, images) and torch.equal(films.groups, groups.long())
    assert films.licence == "CC BY-SA 3.0"


def authors_file(path: Path, steps: int, size: int) -> dict[tuple[str, str], np.ndarray]:
    """A small file as the authors write theirs: float32, chunks of their own, and more than is needed."""
    random, arrays = np.random.default_rng(0), {}
    with h5py.File(path, "w") as file:
        for split, count in (("training", 5), ("validation", 4), ("test", 3)):
            features = random.random((steps, count, size, size, 1), np.float32)
            groups = random.integers(0, 4, features.shape).astype(np.float32)
            for name, array in (("features", features), ("groups", groups), ("events", groups[..., 0, 0])):
                arrays[split, name] = array
                file.create_dataset(f"{split}/{name}", data=array, compression="gzip",
                                    chunks=(1, 2, *array.shape[2:]))
        file["flags"] = np.zeros(3)
    return arrays


@pytest.mark.parametrize("load, name, settings", [
    (flying_shapes, "flying_shapes.h5", {}),
    (flying_shapes, "flying_shapes_5.h5", dict(objects=5)),
    (flying_mnist, "flying_mnist.h5", {}),
    (flying_mnist, "flying_mnist_hard_2digits.h5", {}),
    (flying_mnist, "flying_mnist_hard_3digits.h5", dict(objects=3)),
    (flying_mnist, "flying_mnist_medium20_2digits.h5", dict(variations=20)),
    (flying_mnist, "flying_mnist_medium500_2digits.h5", dict(variations=500)),
])
def test_the_authors_own_files_are_read_under_their_names(empty, load, name, settings):
    arrays = authors_file(empty / name, steps=23, size=9)
    films = load("validation", **settings)
    assert films.images.shape == films.groups.shape == (4, 23, 9, 9)
    for part, name_there in ((films.images, "features"), (films.groups, "groups")):
        for sample, step in ((0, 0), (3, 22), (1, 7)):
            assert np.array_equal(part[sample, step], arrays["validation", name_there][step, sample, ..., 0])
    assert "your own" in films.source and [path.name for path in empty.iterdir()] == [name]


def test_files_that_do_not_serve_are_refused_by_name(empty):
    path = empty / "flying_shapes.h5"
    authors_file(path, steps=4, size=9)
    refused(ValueError, lambda: flying_shapes("dev"), "'dev'", "'test'")
    refused(ValueError, lambda: flying_shapes("test", samples=4), "4 samples", str(path), "3")
    refused(ValueError, lambda: flying_shapes("test", steps=5), "5 steps", str(path), "4")
    refused(ValueError, lambda: flying_shapes("test", samples=0), "samples", "0")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1000])
    refused(BadDataFile, lambda: flying_shapes("test"), str(path), "truncated")
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        del file["test"]
    refused(BadDataFile, lambda: flying_shapes("test"), str(path), "'test'", "training")
    write_shapes(path, dict.fromkeys(SIZES, 5))
    refused(BadDataFile, lambda: flying_shapes("test"), str(path), "single images")
    assert flying_shapes("test", steps=1).images.shape == (5, 1, 28, 28)
    refused(ValueError, lambda: flying_shapes("test", steps=2), "2 steps", "1")


def test_settings_that_cannot_be_generated_leave_no_file(empty):
    for load, settings, word in ((flying_shapes, dict(objects=0), "objects"),
                                 (flying_mnist, dict(variations=60_001), "1 to 60000")):
        with pytest.warns(UserWarning):
            refused(ValueError, lambda: load(**settings), word)
    assert not [path for path in empty.iterdir() if path.suffix != ".lock"]


def test_a_file_with_too_few_samples_is_refused_before_it_is_read(empty):
    authors_file(empty / "a.h5", steps=4, size=9)
    with h5py.File(empty / "a.h5", "r+") as file:
        file["test/features"][...] = np.nan   # which whoever reads them cannot miss
    refused(BadDataFile, lambda: read_sequences(empty / "a.h5", "test"), "nan")
    for asked in (dict(samples=4), dict(steps=5)):
        refused(ValueError, lambda: read_sequences(empty / "a.h5", "test", **asked), *asked, "asked for")
        late = mutant(read_sequences, "number > there[what]", "number > 100")
        refused(BadDataFile, lambda: late(empty / "a.h5", "test", **asked), "nan")
