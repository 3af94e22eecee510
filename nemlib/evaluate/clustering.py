"""How well a grouping agrees with the true one: mutual information and pairs, both adjusted for chance.

A grouping gives every pixel (or every datum) a label, and the truth gives it a group. What they have in
common is counted in a table, n_kg = how many pixels have label k and belong to group g; every score here is a
function of that table, computed for a whole batch of images at once:

- the adjusted mutual information of Vinh, Epps and Bailey, "Information Theoretic Measures for Clusterings
  Comparison", JMLR 11 (2010), by both of its usual normalisations. Greff, van Steenkiste and Schmidhuber,
  "Neural Expectation Maximization" (2017), report the one by the `max`, scikit-learn's default of that year;
  today's default is the `arithmetic` mean, which reads higher on the same grouping;
- the adjusted Rand index of Hubert and Arabie, "Comparing Partitions", Journal of Classification 2 (1985);
- homogeneity and completeness of Rosenberg and Hirschberg, "V-Measure", EMNLP-CoNLL (2007);
- accuracy under the best matching of labels and groups, one to one (Kuhn's assignment, Naval Research
  Logistics Quarterly 2, 1955), and mutual information over the mean entropy: chapter 5's.

Pixels of group 0, background and overlap, are not counted. Where a score's formula is 0/0 it takes
scikit-learn's value, which for two identical groupings is 1, also when both put everything into one cluster
(some published code gives an ARI of 0 there). An image without any pixel to count has no score: NaN,
which `Scores.mean` leaves out; scikit-learn says 1.

Scores are float64, on the CPU, and information is in nats. At the end of the file stand the baselines, which
group the same images by their pixels' places alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "Scores", "accuracy", "adjusted_mutual_information", "adjusted_rand_index", "connected_components",
    "contingency", "expected_mutual_information", "gmm_coordinates", "kmeans_coordinates", "labels_of", "matching",
    "mean_by_overlap", "mutual_information", "normalised_mutual_information", "scores", "split_by_overlap",
]

NORMS = ("arithmetic", "max")
MOST_TERMS = 2**20       # terms of the expected information that are held in memory at once
MOST_CELLS = 2**28       # entries of a batch's tables; more are labels that were never numbered from 0


# --- from responsibilities to a table -----------------------------------------------------------------------


def labels_of(gamma: Tensor) -> Tensor:
    """The slot that answers for each pixel: argmax of γ over the slots, the first of several equal ones.

    gamma: (batch, K, height, width). Returns (batch, height, width), int64 in 0 … K − 1.
    Raises ValueError for other shapes, for no slot at all and for NaN.
    """
    if gamma.dim() != 4:
        raise ValueError("γ of one step has shape (batch, K, height, width); "
                         f"{tuple(gamma.shape)} came: of several steps, pass one, gamma[-1].")
    if gamma.shape[1] < 1:
        raise ValueError(f"At least one slot is needed, K ≥ 1, but γ of shape {tuple(gamma.shape)} came.")
    if gamma.isnan().any():
        raise ValueError("γ holds NaN, and no slot is the largest there: look for a loss that diverged, or "
                         "for pixels that every slot thinks impossible.")
    return gamma.argmax(1)


def contingency(labels: Tensor, groups: Tensor, ignore: int | None = 0) -> Tensor:
    """n_kg, the number of pixels with label k and group g.

    labels, groups: integers from 0, both (batch, …), a table for each entry of the first axis; or both (N,),
    labels of N data, for a batch of one table. ignore: the group that is not counted, None to count all.
    Returns (batch, K, G), int64 on the CPU, K and G one more than the largest label and the largest group;
    column g is group g, and the column of `ignore` is 0. Raises ValueError for shapes that differ, for
    fractions and for negative numbers.
    """
    _check_labels(labels, groups)
    labels, groups = (x.reshape(len(x) if x.dim() > 1 else 1, -1).long() for x in (labels, groups))
    batch, label_count, group_count = len(labels), int(labels.max()) + 1, int(groups.max()) + 1
    if batch * label_count * group_count > MOST_CELLS:
        raise ValueError(f"Labels up to {label_count - 1} and groups up to {group_count - 1} make tables "
                         "that fill the memory: number them anew, from 0, with torch.unique.")
    image = torch.arange(batch, device=labels.device)[:, None]
    cell = (image * label_count + labels) * group_count + groups
    counted = cell.flatten() if ignore is None else cell[groups != ignore]
    table = torch.bincount(counted, minlength=batch * label_count * group_count)
    return table.view(batch, label_count, group_count).cpu()


# --- mutual information -------------------------------------------------------------------------------------


def mutual_information(tables: Tensor) -> Tensor:
    """I = Σ_kg n_kg/N log[N n_kg / (n_k n_g)]: what the labels tell of the groups.

    tables: (batch, K, G). Returns (batch,), nats; NaN for a table of zeros.
    Equation eq-nem-mutual-information.
    """
    _check_tables(tables)
    n = tables.double()
    joint = n / n.sum((1, 2), keepdim=True)
    independent = joint.sum(2, keepdim=True) * joint.sum(1, keepdim=True)
    return (torch.xlogy(joint, joint) - torch.xlogy(joint, independent)).sum((1, 2)).clamp(min=0)


def expected_mutual_information(tables: Tensor) -> Tensor:
    """E I, the mean of I over all ways to deal the same labels out to the pixels again; part of eq-nem-ami.

    With the sums n_k and n_g of the table fixed and all N! permutations equally likely, n_kg follows the
    hypergeometric law, so that (Vinh, Epps and Bailey 2010)

        E I = Σ_kg Σ_n  n/N log[N n / (n_k n_g)] · C(n_g, n) C(N − n_g, n_k − n) / C(N, n_k) ,

    with n from max(1, n_k + n_g − N) to min(n_k, n_g).
    tables: (batch, K, G). Returns (batch,), nats; 0 for a table of zeros.
    """
    _check_tables(tables)
    of_label, of_group, total = tables.sum(2), tables.sum(1), tables.sum((1, 2))
    image, k, g = (of_label[:, :, None] * of_group[:, None, :]).nonzero(as_tuple=True)
    a, b, total = of_label[image, k], of_group[image, g], total[image]
    expected = torch.zeros(len(tables), dtype=torch.float64)
    if len(a) == 0:
        return expected
    log_factorial = torch.lgamma(torch.arange(int(total.max()) + 1).double() + 1)
    longest = int(torch.minimum(a, b).max())
    for part in torch.arange(len(a)).split(max(1, MOST_TERMS // longest)):
        expected.index_add_(0, image[part], _expected_terms(a[part], b[part], total[part], log_factorial))
    return expected


def _expected_terms(a: Tensor, b: Tensor, total: Tensor, log_factorial: Tensor) -> Tensor:
    """E[n/N log(N n/(a b))] of cells whose row sums to a and column to b, each of shape (cells,)."""
    first = (a + b - total).clamp(min=1)
    count = torch.minimum(a, b) - first + 1
    # every cell has a number of terms of its own: they are laid end to end, and summed back at the end
    cell = torch.repeat_interleave(count)
    n = torch.arange(len(cell)) - (count.cumsum(0) - count - first)[cell]
    f = log_factorial
    fixed = f[a] + f[b] + f[total - a] + f[total - b] - f[total]
    a, b, total = a[cell], b[cell], total[cell]
    log_prob = fixed[cell] - f[n] - f[a - n] - f[b - n] - f[total - a - b + n]
    value = n.double() / total * (n.double() * total / (a * b)).log()
    return torch.zeros(len(count), dtype=torch.float64).index_add_(0, cell, log_prob.exp() * value)


def adjusted_mutual_information(
    tables: Tensor, norm: str = "arithmetic", expected: Tensor | None = None
) -> Tensor:
    """AMI = (I − E I) / (norm − E I): 1 for equal groupings, 0 on average for a random one.

    tables: (batch, K, G). norm: "arithmetic", the mean of the entropies of labels and groups, or "max", the
    larger one. expected: E I, (batch,), where it is known already.
    Returns (batch,): 1 for two identical groupings, also where the formula is 0/0; NaN for a table of zeros.
    Raises ValueError for another norm. Equation eq-nem-ami.
    """
    if norm not in NORMS:
        raise ValueError(f"The norm is one of {', '.join(NORMS)}, but {norm!r} came.")
    information = mutual_information(tables)
    expected = expected_mutual_information(tables) if expected is None else expected
    entropies = torch.stack([_entropy(tables.sum(2)), _entropy(tables.sum(1))])
    upper = entropies.amax(0) if norm == "max" else entropies.mean(0)
    value = (information - expected) / (upper - expected)
    return _known(torch.where(_identical(tables), 1.0, value), tables)      # where identical, perhaps 0/0


def _entropy(counts: Tensor) -> Tensor:
    """−Σ p log p of counts (batch, M): (batch,), nats."""
    share = counts.double() / counts.sum(1, keepdim=True)
    return -torch.xlogy(share, share).sum(1)


def _identical(tables: Tensor) -> Tensor:
    """(batch,): every label has one group and every group one label."""
    filled = tables > 0
    return ((filled.sum(1) <= 1).all(1)) & ((filled.sum(2) <= 1).all(1))


def _known(values: Tensor, tables: Tensor) -> Tensor:
    """The values, NaN where nothing was counted."""
    return torch.where(tables.sum((1, 2)) > 0, values, math.nan)


# --- pairs --------------------------------------------------------------------------------------------------


def adjusted_rand_index(tables: Tensor) -> Tensor:
    """ARI = (S − E S) / (½(A + B) − E S), about the pairs that labels and groups both put together.

    With C(n, 2) the number of pairs among n pixels: S = Σ_kg C(n_kg, 2), A = Σ_k C(n_k, 2) and
    B = Σ_g C(n_g, 2); over all permutations of the labels E S = A B / C(N, 2). Equation eq-nem-ari,
    Hubert and Arabie (1985).
    tables: (batch, K, G). Returns (batch,): 1 for two identical groupings, NaN for a table of zeros.
    """
    _check_tables(tables)
    together, by_label, by_group, total = (
        (n.double() * (n - 1) / 2).flatten(1).sum(1)
        for n in (tables, tables.sum(2), tables.sum(1), tables.sum((1, 2))[:, None])
    )
    expected = by_label * by_group / total
    value = (together - expected) / ((by_label + by_group) / 2 - expected)
    return _known(torch.where(_identical(tables), 1.0, value), tables)


# --- one to one: the scores of chapter 5 ---------------------------------------------------------------------


def matching(table: Tensor) -> Tensor:
    """The group that each label stands for, so that most data are right: no group twice.

    table: (K, G), of `contingency(labels, groups, ignore=None)[0]` where group 0 counts as any other. Returns
    (K,), int64, −1 for a label that no group is left for (K > G). Kuhn (1955), by
    scipy.optimize.linear_sum_assignment. Equation eq-vg-accuracy. Uses the true groups: a score, never a
    choice. Raises ValueError for a table of another shape.
    """
    _check_tables(table[None])
    from scipy.optimize import linear_sum_assignment

    labels, groups = linear_sum_assignment(table.cpu().numpy(), maximize=True)
    found = torch.full((len(table),), -1, dtype=torch.long)
    found[torch.from_numpy(labels)] = torch.from_numpy(groups)
    return found


def accuracy(tables: Tensor) -> Tensor:
    """The share of data whose label stands for their group under the best matching, one to one.

    tables: (batch, K, G). Returns (batch,), NaN for a table of zeros. Equation eq-vg-accuracy. With more
    labels than groups, the labels left over are wrong by definition. Raises ValueError for tables of another
    shape.
    """
    _check_tables(tables)
    right = torch.stack([_matched(table) for table in tables.cpu()])
    return _known(right / tables.sum((1, 2)).double(), tables)


def _matched(table: Tensor) -> Tensor:
    groups = matching(table)
    known = groups >= 0
    return table[known, groups[known]].sum().double()


def normalised_mutual_information(tables: Tensor) -> Tensor:
    """NMI = I / ½(H(labels) + H(groups)): 1 for equal groupings; not adjusted for chance, as AMI is.

    tables: (batch, K, G). Returns (batch,): 1 for two identical groupings, 0 where one grouping is a single
    cluster and the other is not, NaN for a table of zeros. Equation eq-vg-nmi.
    """
    information = mutual_information(tables)
    upper = (_entropy(tables.sum(2)) + _entropy(tables.sum(1))) / 2
    return _known(torch.where(_identical(tables), 1.0, information / upper), tables)


# --- all scores of a batch ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Scores:
    """The scores of each image, all (batch,) float64 on the CPU, NaN for an image without a counted pixel."""

    ami_arithmetic: Tensor       # adjusted mutual information over the mean of the two entropies
    ami_max: Tensor              # the same over the larger one: the one to compare with published figures
    ari: Tensor                  # adjusted Rand index
    homogeneity: Tensor          # I / entropy of the groups: 1 if no slot mixes objects
    completeness: Tensor         # I / entropy of the labels: 1 if no object is split among slots

    def __len__(self) -> int:
        return len(self.ari)

    def mean(self) -> dict[str, float]:
        """The mean of every score over the images that have one; NaN if none has."""
        return {name: float(values.nanmean()) for name, values in vars(self).items()}

    def select(self, mask: Tensor) -> Scores:
        """The scores of the images that a mask (batch,) or an index tensor (M,) chooses."""
        mask = mask.cpu()
        if mask.dtype == torch.bool and mask.shape != self.ari.shape:
            raise ValueError(f"A mask has one entry for each of the {len(self)} images; "
                             f"{tuple(mask.shape)} came.")
        return Scores(**{name: values[mask] for name, values in vars(self).items()})


def scores(labels: Tensor, groups: Tensor, ignore: int | None = 0) -> Scores:
    """Compare labels with the true groups, image by image, over the pixels whose group is not `ignore`.

    labels, groups: integers from 0, both (batch, …), for images (batch, height, width); or both (N,), labels
    of N data, for scores of shape (1,). ignore: 0, the group of background and overlap, or None to count all.
    How the labels are numbered makes no difference. Equations eq-nem-mutual-information, eq-nem-ami and
    eq-nem-ari. Raises ValueError for shapes that differ, for fractions and for negative numbers.
    """
    tables = contingency(labels, groups, ignore)
    expected, information = expected_mutual_information(tables), mutual_information(tables)
    of_labels, of_groups = _entropy(tables.sum(2)), _entropy(tables.sum(1))

    def share(entropy: Tensor) -> Tensor:
        return _known(torch.where(entropy > 0, information / entropy, 1.0), tables)

    return Scores(
        ami_arithmetic=adjusted_mutual_information(tables, "arithmetic", expected),
        ami_max=adjusted_mutual_information(tables, "max", expected),
        ari=adjusted_rand_index(tables),
        homogeneity=share(of_groups), completeness=share(of_labels),
    )


def split_by_overlap(images: Tensor, groups: Tensor) -> Tensor:
    """Which images have pixels that lie in several objects: above ½ in the image, 0 in the groups.

    images: binary, and groups of the same shape (batch, …). Returns (batch,), bool.
    Raises ValueError for shapes that differ.
    """
    if images.shape != groups.shape or images.dim() < 2:
        raise ValueError("images and groups both have shape (batch, height, width); "
                         f"{tuple(images.shape)} and {tuple(groups.shape)} came.")
    return ((images > 0.5) & (groups == 0)).flatten(1).any(1)


def mean_by_overlap(found: Scores, images: Tensor, groups: Tensor) -> dict[str, dict[str, float]]:
    """Mean scores over "all", "with overlap" and "without overlap": where a grouping's errors are.

    found: the scores of these images. images, groups: (batch, height, width). A part without an image has
    the mean NaN. Raises ValueError where the numbers of images differ.
    """
    overlap = split_by_overlap(images, groups)
    parts = {"with overlap": found.select(overlap), "without overlap": found.select(~overlap)}
    return {"all": found.mean()} | {name: part.mean() for name, part in parts.items()}


# --- baselines ----------------------------------------------------------------------------------------------
# scikit-learn and scipy.ndimage load in these functions: nobody else should wait a second for them


def kmeans_coordinates(images: Tensor, slots: int, seed: int) -> Tensor:
    """k-means, best of three starts, on the places of the foreground pixels: shapes play no part in it.

    images: (batch, height, width) in [0, 1], foreground above ½. slots: K clusters. seed: of the starts,
    the same for each image, so that an image's labels do not depend on the images beside it.
    Returns (batch, height, width), int64 on the CPU: 1 … K, and 0 in the background. An image with at most K
    foreground pixels gives each a cluster of its own. Raises ValueError for other shapes, values, or K < 1.
    """
    from sklearn.cluster import KMeans

    return _by_place(images, slots, lambda: KMeans(slots, n_init=3, random_state=seed))


def gmm_coordinates(images: Tensor, slots: int, seed: int) -> Tensor:
    """A mixture of K Gaussians with full covariances on the places of the foreground pixels, image by image.

    Arguments, result and errors as in `kmeans_coordinates`; a pixel's label is its likeliest component.
    """
    from sklearn.mixture import GaussianMixture

    return _by_place(images, slots, lambda: GaussianMixture(slots, max_iter=500, random_state=seed))


def connected_components(images: Tensor) -> Tensor:
    """Foreground pixels are one object if a path of foreground pixels joins them, with no diagonal step.

    Our shapes need no diagonal step to hold together, and two that touch at a corner only stay two.
    images: (batch, height, width) in [0, 1], foreground above ½. Returns (batch, height, width), int64 on the
    CPU: 1, 2, … for the components, as many as there are, and 0 in the background. Raises ValueError for
    other shapes or values.
    """
    from scipy import ndimage

    _check_images(images)
    ink = (images > 0.5).cpu().numpy()
    return torch.stack([torch.from_numpy(ndimage.label(image)[0]) for image in ink]).long()


def _by_place(images: Tensor, slots: int, model: Callable[[], object]) -> Tensor:
    """Cluster each image's foreground by (row, column); `model` makes an estimator with `fit_predict`."""
    _check_images(images)
    if not isinstance(slots, int) or isinstance(slots, bool) or slots < 1:
        raise ValueError(f"slots must be a whole number of at least 1, but {slots!r} came.")
    ink = (images > 0.5).cpu()
    labels = torch.zeros(ink.shape, dtype=torch.int64)
    for mask, label in zip(ink, labels):
        places = mask.nonzero().double().numpy()
        if len(places) > slots:
            label[mask] = torch.from_numpy(model().fit_predict(places)).long() + 1
        else:
            label[mask] = torch.arange(len(places)) + 1
    return labels


# --- checks -------------------------------------------------------------------------------------------------


def _check_labels(labels: Tensor, groups: Tensor) -> None:
    for name, values in (("labels", labels), ("groups", groups)):
        if not isinstance(values, Tensor) or values.is_floating_point() or values.is_complex():
            kind = values.dtype if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(f"{name} must be a tensor of whole numbers, but {kind} came: of γ take "
                             "labels_of(gamma), of an array torch.as_tensor(…).long().")
    if labels.shape != groups.shape:
        raise ValueError(f"labels and groups must have one shape, but {tuple(labels.shape)} and "
                         f"{tuple(groups.shape)} came.")
    if labels.numel() == 0:
        raise ValueError(f"There is nothing to compare in labels and groups of shape {tuple(labels.shape)}.")
    for name, values in (("labels", labels), ("groups", groups)):
        if values.min() < 0:
            raise ValueError(f"{name} must be 0 or more, but {int(values.min())} came.")


def _check_tables(tables: Tensor) -> None:
    if tables.dim() != 3 or tables.is_floating_point() or (tables < 0).any():
        raise ValueError("Tables are counts of shape (batch, K, G), whole and not negative, as contingency "
                         f"gives them; {tables.dtype} of shape {tuple(tables.shape)} came.")


def _check_images(images: Tensor) -> None:
    if images.dim() != 3 or images.numel() == 0:
        raise ValueError("images must have shape (batch, height, width), none of them 0, but "
                         f"{tuple(images.shape)} came.")
    low, high = (bound.item() for bound in images.aminmax())   # NaN anywhere makes both NaN
    if not (low >= 0 and high <= 1):
        raise ValueError(f"Pixels lie in [0, 1], but the range {low:g} to {high:g} came: scale the images.")
