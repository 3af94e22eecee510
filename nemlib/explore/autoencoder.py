"""The interactive figures of chapter 3: the cloud of codes in space, and a line turned under a cloud."""

import base64
import copy as copies
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Canvas
from torch import Tensor, nn

from nemlib.autoencoder import Autoencoder, PrincipalComponents
from nemlib.autoencoder import linear as linear_autoencoder
from nemlib.data import Dataset
from nemlib.explore.figure import INK, LINE, MUTED, Figure, pack, picture
from nemlib.plot import COLOURS, PALETTE, SLOTS

STILL = {"font.size": 9, "axes.titlesize": 9, "axes.labelsize": 9}

Layer = tuple[Tensor, Tensor]           # W (outputs, inputs) and b (outputs,), float64

MOST_SHOWN = 1_000
MOST_CLASSES = 10
MOST_BITS = 2_200_000                   # of all weights together: 367 kB as base64 text
WIDEST = 15                             # bits of one weight
MOST_ERROR = 0.02                       # of the pixels that the page draws, root mean square
LARGEST_CLOUD = 600_000                 # bytes of HTML: most of it is the decoder, in the reader's hand
INVISIBLE = 1 / 128                     # what a pixel shows is left out if it is nowhere more
MARGIN = 0.04                           # of the space around the codes, on each side
PROBES = 17                             # to a side of the grid that looks for what the decoder never uses
BULK = 0.95                             # of the codes lie within the first view, in each direction
EYE = 8.0                               # how far the eye is from the middle of the view, half of which is 1
STEPS = 100                             # of a line between two codes, in the search for holes
HOLES = 5
FIRST_VIEW = (35.0, 20.0)               # degrees: around the vertical axis, and up from the horizontal plane
# Classes 8 and 9 share the colours of those that look least like them: 1 and 2.
CLASS_COLOURS = (*range(len(SLOTS)), 1, 2)

MOST_POINTS = 200
ROLES = {"point": "blue", "kept": "green", "lost": "vermilion", "line": "ink", "paper": "paper"}
SCALES = (0.25, 4.0)                    # of the encoder, as far as the reader may go


# --- the cloud of codes -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cloud:
    """Codes (n, 3) as the page has them, rounded to half precision, float64; the digits' squared errors (n,).

    labels: (n,). typical: for each class in order the digit whose code has the smallest summed distance to
    the others of its class. spacing: what nine codes in ten are nearer than to another one. holes: lines
    (from, to, share) between typical codes, by class, with the place on each that is farthest from all codes;
    the emptiest first, and no two places nearer than the spacing.
    """

    codes: Tensor
    errors: Tensor
    labels: Tensor

    @cached_property
    def box(self) -> Tensor:
        """The space that the page shows, (2, 3): the codes' lowest and highest numbers with a margin."""
        low, high = self.codes.amin(0), self.codes.amax(0)
        room = (MARGIN * (high - low)).clamp(min=1e-3)
        return torch.stack([low - room, high + room])

    @cached_property
    def focus(self) -> tuple[Tensor, float]:
        """The middle of the first view, (3,), and half of its side: each way 95 % of the codes are in it.

        Half of the view is at least a third of half of the box, so that no corner comes near the eye.
        """
        middle = self.codes.median(0).values
        bulk = (self.codes - middle).abs().quantile(BULK, 0).max().item()
        return middle, max(bulk, (self.box[1] - self.box[0]).max().item() / 6)

    @cached_property
    def spacing(self) -> float:
        far = distances(self.codes, self.codes).fill_diagonal_(math.inf).amin(1).sort().values
        return far[min(len(far) - 1, int(0.9 * len(far)))].item()

    @cached_property
    def typical(self) -> list[int]:
        rows = [torch.nonzero(self.labels == label)[:, 0] for label in self.labels.unique()]
        return [int(own[distances(self.codes[own], self.codes[own]).sum(1).argmin()]) for own in rows]

    @cached_property
    def holes(self) -> list[tuple[int, int, float]]:
        share = torch.arange(STEPS + 1, dtype=torch.float64)[:, None] / STEPS
        ends, found, kept = self.codes[self.typical], [], []
        for a, b in itertools.combinations(range(len(ends)), 2):
            line = ends[a] + share * (ends[b] - ends[a])
            far = distances(line, self.codes).amin(1)
            found.append((far.max().item(), a, b, share[far.argmax()].item(), line[far.argmax()]))
        for one in sorted(found, key=lambda one: -one[0]):
            if all((one[4] - other[4]).norm() > self.spacing for other in kept):
                kept.append(one)
        return [(a, b, at) for _, a, b, at, _ in kept[:HOLES]]

    def packed(self) -> dict[str, Any]:
        middle, unit = self.focus
        return {"codes": pack(self.codes, "float16"), "errors": pack(self.errors, "float16"),
                "box": self.box.tolist(), "middle": middle.tolist(), "unit": unit, "typical": self.typical,
                "holes": self.holes, "spacing": self.spacing}


def distances(a: Tensor, b: Tensor) -> Tensor:
    """(n, 3) and (m, 3) → (n, m), exact for near points too."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def cloud(
    autoencoder: Autoencoder, digits: Dataset, *, components: PrincipalComponents | None = None,
    shown: int = MOST_SHOWN, ends: tuple[int, int] | None = None, copy: int = 1,
) -> Figure:
    """The codes of digits in space: turn them, move a cursor among them, and the page decodes what is there.

    autoencoder: with a code of three numbers, and a decoder of linear layers with ReLU between them; the page
    computes with `PageDecoder`.  digits: images (n, height, width) with labels, of at most ten classes; the
    first `shown` of them are seen, at most 1,000, in four shades.  components: three, whose cloud the reader
    may compare; found in all the digits given, if not given.  ends: labels between whose typical codes the
    line runs at first; where it leads through the emptiest place if not given.  copy: 2 for a second copy on
    the same page.
    Raises ValueError for what does not fit together, or not on a page.
    """
    known = _checked(autoencoder, digits, shown)
    classes = known.labels.unique().tolist()
    if ends is not None and (len(ends) != 2 or not set(ends) <= set(classes)):
        raise ValueError(f"ends is {ends!r}: it should be two labels of {classes}.")
    components = _components(components, digits)
    clouds = (code_cloud(autoencoder, known), code_cloud(components, known))
    decoder = PageDecoder.of(autoencoder, clouds[0])
    first = clouds[0].holes[0][:2] if ends is None else [classes.index(label) for label in ends]
    roles = {"ink": "ink", "paper": "paper", "point": "vermilion", "line": "muted"}
    roles |= {f"c{k}": name for k, name in enumerate(SLOTS)}
    height, width = known.images.shape[1:]
    return Figure(
        name="autoencoder-cloud", title="The cloud of digits in the space of their codes", copy=copy,
        scripts=("vae_network.js", "autoencoder_cloud_maths.js", "rbm_parts.js", "autoencoder_cloud.js",
                 "rbm.css", "autoencoder_cloud.css"),
        data={"clouds": [one.packed() for one in clouds], "decoder": decoder.packed,
              "components": _flat(components), "images": pack_images(known.images.numpy()),
              "labels": known.labels.tolist(), "height": height, "width": width, "ends": list(first),
              "colours": [CLASS_COLOURS[k] for k in range(len(classes))], "view": FIRST_VIEW, "eye": EYE,
              "palette": {role: PALETTE[name] for role, name in roles.items()}},
        still=_still_cloud(clouds[0], decoder, known, first),
        largest=LARGEST_CLOUD,
        words="Interactive figure «The cloud of digits in the space of their codes»: classes have regions of "
              "their own; the decoder answers everywhere, also in the holes between them, where no digit is.")


def _checked(autoencoder: Autoencoder, digits: Dataset, shown: int) -> Dataset:
    """The digits that are shown, on the CPU. Raises ValueError where they do not fit the page."""
    if digits.labels is None or digits.images.dim() != 3:
        raise ValueError("The cloud shows images (n, height, width) with labels, and "
                         f"{digits!r} came: give a data set such as mnist('test').")
    if not 2 <= shown <= MOST_SHOWN:
        raise ValueError(f"shown is {shown}: it should be from 2 to {MOST_SHOWN}.")
    known = digits.subset(min(shown, len(digits))).to("cpu")
    classes = len(known.labels.unique())
    if len(known) < 2 or not 2 <= classes <= MOST_CLASSES:
        raise ValueError(f"{len(known)} digits of {classes} classes came: it should be two digits or more, "
                         f"of 2 to {MOST_CLASSES} classes.")
    if (pixels := known.images[0].numel()) != (given := layers_of(autoencoder)[-1].out_features):
        raise ValueError(f"The decoder gives {given} numbers, and images of {known.images.shape[1]} × "
                         f"{known.images.shape[2]} have {pixels} pixels: give images of its own size.")
    return known


def _components(components: PrincipalComponents | None, digits: Dataset) -> PrincipalComponents:
    if components is None:
        return PrincipalComponents.fit(digits.flat().cpu(), 3)
    pixels = digits.images[0].numel()
    if components.components.shape != (pixels, 3):
        raise ValueError(f"components has shape {tuple(components.components.shape)}: it should be three "
                         f"components of {pixels} pixels, PrincipalComponents.fit(…, latent=3).")
    return PrincipalComponents(*(tensor.cpu() for tensor in vars(components).values()))


@torch.no_grad()
def code_cloud(machine: Autoencoder | PrincipalComponents, digits: Dataset) -> Cloud:
    """The digits' codes and their errors ‖x − x̂‖² by a machine with a code of three numbers."""
    x = digits.flat()
    if isinstance(machine, Autoencoder):
        machine, x = copies.deepcopy(machine).cpu().double(), x.double()
    codes = machine.encode(x).double()
    return Cloud(codes.half().double(), machine.squared_error(x).double(), digits.labels)


def _flat(components: PrincipalComponents) -> dict[str, Any]:
    """The decoder x̄ + U z as the page has it."""
    return {"mean": pack(components.mean, "float16"), "axes": pack(components.components.mT, "float16")}


# --- a decoder small enough for a page ----------------------------------------------------------------------


def layers_of(autoencoder: Autoencoder) -> list[nn.Linear]:
    """The linear layers of a decoder that the page can compute. Raises ValueError for another one."""
    decoder = autoencoder.decoder
    parts = list(decoder) if isinstance(decoder, nn.Sequential) else [decoder]
    layers, between = parts[::2], parts[1::2]
    known = len(parts) % 2 == 1 and all(isinstance(one, nn.Linear) for one in layers)
    if not known or any(type(one) is not nn.ReLU for one in between):
        raise ValueError("The page computes decoders of linear layers with ReLU between them, the last layer "
                         f"linear, and this came: {[type(one).__name__ for one in parts]}.")
    if not all(parameter.isfinite().all() for parameter in decoder.parameters()):
        raise ValueError("The decoder's weights hold NaN or infinity: train it anew, with smaller steps.")
    if layers[0].in_features != 3:
        raise ValueError(f"The decoder takes {layers[0].in_features} numbers, and space has 3: train an "
                         "autoencoder with latent=3.")
    return layers


class PageDecoder:
    """The decoder that the page computes with: within its box nearly the same, in a sixth of the bytes.

    Left out is what is not seen there, on a grid of 17³ codes and at the codes themselves: hidden units that
    are always 0, and pixels that never show more than 1/128. The weights of a layer are whole multiples of
    one step, each output's in as many bits as its largest needs, and biases are float16.
    """

    def __init__(self, packed: dict[str, Any], pixels: int) -> None:
        self.packed, self.pixels = packed, pixels
        self.layers = [_unpacked(one) for one in packed["layers"]]

    @classmethod
    @torch.no_grad()
    def of(cls, autoencoder: Autoencoder, shown: Cloud) -> "PageDecoder":
        """Of an autoencoder, for the box of its codes. Raises ValueError for one that no page can hold."""
        probes, law = _probes(shown), autoencoder.pixels
        layers, kept = _what_is_seen(autoencoder, probes)
        some = probes[::4]
        steps = _steps(layers, some, law)
        made = cls({"layers": [_packed(W, b, step) for (W, b), step in zip(layers, steps)],
                    "kept": kept.tolist(), "law": law}, layers_of(autoencoder)[-1].out_features)
        error = _moved(layers, made.layers, some, law)
        if error > MOST_ERROR:
            weights = sum(W.numel() for W, _ in layers)
            raise ValueError(f"Rounded until its {weights} weights fit a page, the decoder would draw pixels "
                             f"with an error of {error:.2g}: train one with narrower layers.")
        return made

    def mean(self, z: Tensor) -> Tensor:
        """f(z) as the page shows it, in [0, 1]. (..., 3) → (..., pixels), float64."""
        made = z.new_zeros(*z.shape[:-1], self.pixels, dtype=torch.float64)
        made[..., self.packed["kept"]] = _drawn(self.layers, z, self.packed["law"])
        return made


def _probes(shown: Cloud) -> Tensor:
    """Places all over the box, and the codes: (17³ + n, 3)."""
    low, high = shown.box
    steps = torch.linspace(0, 1, PROBES, dtype=torch.float64)
    grid = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(-1, 3)
    return torch.cat([low + grid * (high - low), shown.codes])


def _what_is_seen(autoencoder: Autoencoder, z: Tensor) -> tuple[list[Layer], Tensor]:
    """The layers (W, b) without the units that all of these codes leave at 0, and which pixels are left."""
    used, h, made = torch.arange(3), z.float(), []      # half the time, and nothing depends on the last digit
    layers = layers_of(autoencoder)
    for k, layer in enumerate(layers):
        W = layer.weight.detach().double().cpu()
        b = W.new_zeros(len(W)) if layer.bias is None else layer.bias.detach().double().cpu()
        h = h @ W.float().mT + b.float()
        if k + 1 < len(layers):
            h = h.relu()
            seen = h.amax(0) > 0
        else:
            seen = autoencoder.picture(h).amax(0) > INVISIBLE
        if not seen.any():
            raise ValueError("The decoder draws one and the same image for all codes: nothing can be shown.")
        kept = torch.nonzero(seen)[:, 0]
        made.append((W[kept][:, used], b[kept]))
        used = kept
    return made, used


def _drawn(layers: Sequence[Layer], z: Tensor, law: str) -> Tensor:
    """The pixels that are left, in [0, 1]. (..., 3) → (..., outputs of the last layer)."""
    h = z.double()
    for k, (W, b) in enumerate(layers):
        h = (h if k == 0 else h.relu()) @ W.mT + b
    return h.sigmoid() if law == "bernoulli" else h.clamp(0, 1)


def _moved(layers: Sequence[Layer], others: Sequence[Layer], z: Tensor, law: str) -> float:
    """How far apart two decoders draw these codes' pixels, root mean square."""
    return (_drawn(layers, z, law) - _drawn(others, z, law)).square().mean().sqrt().item()


def _steps(layers: list[Layer], z: Tensor, law: str) -> list[float]:
    """A step for the weights of each layer, so that all fit the page and its pixels move least.

    Rounding layer l by a step s moves the pixels by c_l s, which is measured. Halving a step costs as many
    bits as the layer has weights: with all bits spent, Σ (c_l s_l)² is least where c_l s_l ∝ √(weights of l).
    """
    parts = []
    for k, (W, b) in enumerate(layers):
        trial = W.abs().max().item() / 128 or 1.0
        rounded = [*layers[:k], ((W / trial).round() * trial, b), *layers[k + 1:]]
        parts.append(math.sqrt(W.numel()) * trial / max(_moved(layers, rounded, z, law), 1e-12))
    finest = max(W.abs().max().item() / part for (W, _), part in zip(layers, parts)) / (2 ** (WIDEST - 1) - 1)
    low, high = math.log(finest or 1.0), math.log(2.0 ** WIDEST * (finest or 1.0))
    if _bits(layers, [math.exp(low) * part for part in parts]) <= MOST_BITS:
        return [math.exp(low) * part for part in parts]
    for _ in range(20):
        middle = (low + high) / 2
        fits = _bits(layers, [math.exp(middle) * part for part in parts]) <= MOST_BITS
        low, high = (low, middle) if fits else (middle, high)
    return [math.exp(high) * part for part in parts]


def _widths(W: Tensor, step: float) -> Tensor:
    """Bits for the weights of each output: 0 where all are rounded to 0."""
    largest = (W / step).round().abs().amax(1)
    return torch.where(largest > 0, torch.log2(largest + 1).ceil() + 1, 0.0).long()


def _bits(layers: list[Layer], steps: list[float]) -> int:
    return sum(int(_widths(W, step).sum()) * W.shape[1] for (W, _), step in zip(layers, steps))


def _packed(W: Tensor, b: Tensor, step: float) -> dict[str, Any]:
    """Rows of whole numbers of their own width, each above -top = 1 - 2^(width - 1)."""
    widths = _widths(W, step)
    rows = [(np.asarray(row, dtype=int) + (2 ** (width - 1) - 1), width)
            for row, width in zip((W / step).round().tolist(), widths.tolist()) if width]
    return {"inputs": W.shape[1], "step": step, "widths": pack_whole([(widths.numpy(), 4)]),
            "W": pack_whole(rows), "b": pack(b, "float16")}


def _unpacked(layer: dict[str, Any]) -> Layer:
    """W and b as the page reads them, float64."""
    b = np.frombuffer(base64.b64decode(layer["b"]["base64"]), "<f2").astype(float)
    widths = Whole(layer["widths"]).take(len(b), 4)
    read = Whole(layer["W"])
    rows = [read.take(layer["inputs"], width) - (2 ** (width - 1) - 1) if width else np.zeros(layer["inputs"])
            for width in widths.tolist()]
    return torch.from_numpy(np.stack(rows) * layer["step"]), torch.from_numpy(b)


def pack_whole(pieces: Iterable[tuple[np.ndarray, int]]) -> str:
    """Whole numbers, those of each piece (values, width) from 0 to 2^width − 1, as base64.

    They stand one after the other, the highest bit first. width: 1 to 16 bits.
    """
    bits = []
    for values, width in pieces:
        two_bytes = np.asarray(values).astype(">u2").reshape(-1, 1).view(np.uint8)
        bits.append(np.unpackbits(two_bytes, axis=1)[:, 16 - width:].ravel())
    return base64.b64encode(np.packbits(np.concatenate(bits)).tobytes()).decode("ascii")


class Whole:
    """Reads the numbers that `pack_whole` packed."""

    def __init__(self, text: str) -> None:
        self.bits, self.at = np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8)), 0

    def take(self, count: int, width: int) -> np.ndarray:
        """The next so many numbers of so many bits, (count,)."""
        piece = self.bits[self.at:self.at + count * width].reshape(count, width)
        self.at += count * width
        return piece @ (1 << np.arange(width)[::-1])


def pack_images(images: np.ndarray) -> str:
    """Images (n, height, width) of [0, 1] in four shades, each cut out to what is not the lightest.

    Of each, 8 bits for the piece's first row, first column, height and width, then 2 bits a pixel, row by
    row. Raises ValueError for images of more than 255 pixels to a side.
    """
    if max(images.shape[1:]) > 255:
        raise ValueError(f"Images have at most 255 pixels to a side, and {images.shape[1:]} came.")
    pieces = []
    for levels in np.round(3 * images).astype(int):
        rows, columns = (np.flatnonzero(levels.any(axis)) for axis in (1, 0))
        top, left = (rows[0], columns[0]) if len(rows) else (0, 0)
        piece = levels[top:rows[-1] + 1, left:columns[-1] + 1] if len(rows) else levels[:0, :0]
        pieces += [(np.array([top, left, *piece.shape]), 8), (piece, 2)]
    return pack_whole(pieces)


# --- space on paper -----------------------------------------------------------------------------------------


def look_from(yaw: float, pitch: float) -> Tensor:
    """Unit vectors to the right, up, and towards the eye, rows of (3, 3). Degrees; the third axis is up."""
    a, b = math.radians(yaw), math.radians(pitch)
    return torch.tensor([[-math.sin(a), math.cos(a), 0],
                         [-math.sin(b) * math.cos(a), -math.sin(b) * math.sin(a), math.cos(b)],
                         [math.cos(b) * math.cos(a), math.cos(b) * math.sin(a), math.sin(b)]],
                        dtype=torch.float64)


def project(z: Tensor, focus: tuple[Tensor, float], yaw: float, pitch: float) -> Tensor:
    """Codes (n, 3) as the eye sees them: to the right, up, and how near, (n, 3), in halves of the view."""
    middle, unit = focus
    seen = (z - middle) / unit @ look_from(yaw, pitch).mT
    return torch.cat([seen[:, :2] * (EYE / (EYE - seen[:, 2:])), seen[:, 2:]], 1)


@rc_context(STILL)
def _still_cloud(shown: Cloud, decoder: PageDecoder, digits: Dataset, ends: tuple[int, int]) -> str:
    """Some codes as digits in their box; beside them three test digits, and the line between two of them."""
    figure = Canvas(figsize=(7.4, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    classes = digits.labels.unique().tolist()
    corners = torch.tensor(list(itertools.product((0, 1), repeat=3)), dtype=torch.float64)
    corners = project(shown.box[0] + corners * (shown.box[1] - shown.box[0]), shown.focus, *FIRST_VIEW)
    for a, b in itertools.combinations(range(8), 2):
        if (a ^ b).bit_count() == 1:
            left.plot(*corners[[a, b], :2].T, color=LINE, linewidth=0.8, zorder=0)
    for k, place in enumerate((4, 2, 1), 1):
        left.text(*corners[place, :2], f"z{'₁₂₃'[k - 1]}", color=MUTED, ha="center")
    seen = project(shown.codes, shown.focus, *FIRST_VIEW)[:90]
    for n in seen[:, 2].argsort().tolist():
        label = digits.labels[n].item()
        left.text(*seen[n, :2], str(label), fontsize=7, ha="center", va="center", clip_on=True,
                  color=COLOURS[SLOTS[CLASS_COLOURS[classes.index(label)]]])
    left.set(xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), aspect="equal")
    left.set_title("Codes of test digits", color=INK)
    left.axis("off")
    _still_rows(right, shown, decoder, digits, ends)
    a, b = (classes[k] for k in ends)
    return picture(figure, alt=(
        f"Left, the space of the three code numbers with the codes of {len(seen)} test digits, each drawn as "
        "its label: classes have regions of their own, with empty places between them. Right, five test "
        "digits, their reconstructions, and what the decoder draws on the straight line from a typical "
        f"{a} to a typical {b}: digits at the ends, and between them other pictures, some of which nobody "
        "would write."))


def _still_rows(
    ax: Axes, shown: Cloud, decoder: PageDecoder, digits: Dataset, ends: tuple[int, int]
) -> None:
    """Three rows of five pictures."""
    share = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]
    start, end = shown.codes[[shown.typical[k] for k in ends]]
    some = list(dict.fromkeys([*shown.typical[:5], *range(5)]))[:5]
    rows = [digits.images[some].double(), decoder.mean(shown.codes[some]),
            decoder.mean(start + share * (end - start))]
    height, width = digits.images.shape[1:]
    rows = [torch.cat(list(row.reshape(-1, height, width)), 1) for row in rows]
    sheet = torch.cat(rows).numpy()
    ramp = LinearSegmentedColormap.from_list("ink", [COLOURS["paper"], COLOURS["ink"]])
    ax.imshow((255 * ramp(np.round(5 * sheet) / 5)[..., :3]).round().astype(np.uint8), interpolation="none")
    for k, words in enumerate(("test", "redrawn", "a line")):
        ax.text(-2, (k + 0.5) * height, words, color=MUTED, ha="right", va="center", fontsize=8)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_color(LINE)
    ax.set_title("Digits, and between two of them", color=INK)


# --- the linear autoencoder: a line under a cloud -----------------------------------------------------------


class Turn(NamedTuple):
    """What a line through the mean keeps of the points' variance and what it loses: kept + lost = total.

    lost is the mean of ‖x − x̂‖², as the linear autoencoder has it. Equation eq-ae-error.
    """

    kept: float
    lost: float
    total: float


def linear(points: Tensor | None = None, *, angle: float = 110.0, copy: int = 1) -> Figure:
    """The linear autoencoder with one code number, on points of the plane: the reader turns its line.

    points: (n, 2), n from 3 to 200; forty of a fixed Gaussian if not given.  angle: of the line at first,
    degrees from the first axis.  copy: 2 for a second copy on the same page.
    Raises ValueError for points of another shape, that are not finite, or that vary as much in every
    direction, so that no line is best.
    """
    x = some_points() if points is None else points.detach().double().cpu()
    if x.dim() != 2 or x.shape[1] != 2 or not 3 <= len(x) <= MOST_POINTS or not x.isfinite().all():
        raise ValueError(f"points has shape {tuple(x.shape)}: it should be (n, 2) with n from 3 to "
                         f"{MOST_POINTS}, all finite.")
    x = x.float().double()
    first, second = PrincipalComponents.fit(x, 1).eigenvalues.tolist()
    if not first > (1 + 1e-6) * second:
        raise ValueError(f"The points vary as much in every direction (eigenvalues {first:g} and "
                         f"{second:g}): no line is better than another.")
    return Figure(
        name="autoencoder-linear", title="The linear autoencoder with one number turns a line", copy=copy,
        scripts=("autoencoder_linear_maths.js", "rbm_parts.js", "autoencoder_linear.js", "rbm.css",
                 "autoencoder_linear.css"),
        data={"points": pack(x), "angle": angle % 180, "scales": SCALES,
              "palette": {role: PALETTE[name] for role, name in ROLES.items()}},
        still=_still_linear(tuple(map(tuple, x.tolist())), angle % 180),
        words="Interactive figure «The linear autoencoder with one number turns a line»: what the line keeps "
              "of the variance and what it loses add up, and the first principal component loses least.")


@cache
def some_points() -> Tensor:
    """Forty points of a Gaussian, float64: standard deviations 1.6 and 0.6, the long axis 25 degrees up."""
    noise = torch.randn(40, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    return torch.tensor([2.0, 1.5]) + (noise * torch.tensor([1.6, 0.6])) @ _axes(25.0)


def _axes(angle: float) -> Tensor:
    """A unit vector at so many degrees and the one across, as rows (2, 2)."""
    a = math.radians(angle)
    return torch.tensor([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]], dtype=torch.float64)


@torch.no_grad()
def line_autoencoder(points: Tensor, angle: float, scale: float = 1.0) -> Autoencoder:
    """z = m uᵀ(x − x̄) and x̂ = x̄ + u z / m: u at that angle, degrees, m = scale. Points (n, 2); float64."""
    mean, u = points.double().mean(0), _axes(angle)[:1]
    made = linear_autoencoder(2, 1).double()
    encoder, decoder = made.encoder[0], made.decoder[0]
    encoder.weight.copy_(scale * u)
    encoder.bias.copy_(-scale * u @ mean)
    decoder.weight.copy_(u.mT / scale)
    decoder.bias.copy_(mean)
    return made


@torch.no_grad()
def turn(points: Tensor, angle: float, scale: float = 1.0) -> Turn:
    """What `line_autoencoder` keeps and loses of the points (n, 2)."""
    points = points.double()
    machine = line_autoencoder(points, angle, scale)
    kept = (machine.reconstruct(points) - points.mean(0)).square().sum(1).mean().item()
    lost = machine.squared_error(points).mean().item()
    return Turn(kept, lost, (points - points.mean(0)).square().sum(1).mean().item())


@cache
@rc_context(STILL)
def _still_linear(points: tuple[tuple[float, float], ...], angle: float) -> str:
    """The points with two lines and what each loses, and the error over all angles."""
    x = torch.tensor(points, dtype=torch.float64)
    best = PrincipalComponents.fit(x, 1).components[:, 0]
    best = math.degrees(math.atan2(*best.flip(0).tolist())) % 180
    figure = Canvas(figsize=(7.4, 2.9), layout="constrained")
    *panels, curve = figure.subplots(1, 3, width_ratios=(1, 1, 1.1))
    for ax, at, name in zip(panels, (angle, best), ("Some line", "The first component")):
        _still_line(ax, x, at, name)
    degrees = np.linspace(0, 180, 61)
    curve.plot(degrees, [turn(x, at).lost for at in degrees], color=COLOURS["vermilion"])
    curve.axhline(turn(x, 0).total, color=MUTED, linestyle="--", linewidth=1)
    for at in (angle, best):
        curve.plot(at, turn(x, at).lost, "o", color=COLOURS["vermilion"], markersize=5)
    curve.set(xlabel="angle of the line, degrees", xticks=[0, 90, 180], ylim=(0, None))
    curve.set_title("Lost (dashed: all there is)", color=INK)
    _plain(curve)
    lost = [turn(x, at).lost for at in (angle, best)]
    return picture(figure, alt=(
        f"A cloud of {len(x)} points in the plane, longer than wide, twice, with a line through its mean and "
        f"the way from each point to the line. Left the line lies at {angle:.0f} degrees and the mean "
        f"squared way is {lost[0]:.2f}; in the middle it lies along the cloud, at {best:.0f} degrees, and "
        f"{lost[1]:.2f} is lost. Right, what is lost over the angle of the line: one valley, at the first "
        "principal component."))


def _still_line(ax: Axes, x: Tensor, angle: float, name: str) -> None:
    found, feet = turn(x, angle), line_autoencoder(x, angle).reconstruct(x).detach()
    ways = torch.stack([x, feet, torch.full_like(x, math.nan)], 1).reshape(-1, 2)      # one path, with gaps
    ax.plot(*ways.T, color=COLOURS["vermilion"], linewidth=0.8)
    ax.plot(*x.T, "o", color=COLOURS["blue"], markersize=2.5)
    reach = (x - x.mean(0)).norm(dim=1).max()
    ends = x.mean(0) + torch.tensor([[-1.0], [1.0]]) * reach * _axes(angle)[0]
    ax.plot(*ends.T, color=INK, linewidth=1.4)
    ax.set(xticks=[], yticks=[], aspect="equal")
    ax.set_title(f"{name}: kept {found.kept:.2f},\nlost {found.lost:.2f} of {found.total:.2f}", color=INK)
    ax.spines[:].set_visible(False)


def _plain(ax: Axes) -> None:
    ax.tick_params(color=LINE, labelcolor=MUTED, labelsize=8)
    ax.xaxis.label.set_color(MUTED)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(LINE)
