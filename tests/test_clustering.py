"""The scores of a grouping: each equation against an enumeration, all of them against scikit-learn, and the
baselines on images where the answer is known."""

import ast
import inspect
import itertools
import math

import pytest
import torch
from sklearn import metrics

from nemlib.data.shapes import draw_shapes
from nemlib.evaluate import clustering

EXACT = 1e-12
SKLEARN = {
    "ami_arithmetic": metrics.adjusted_mutual_info_score,
    "ami_max": lambda true, found: metrics.adjusted_mutual_info_score(true, found, average_method="max"),
    "ari": metrics.adjusted_rand_score,
    "homogeneity": metrics.homogeneity_score,
    "completeness": metrics.completeness_score,
}


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(20171204)


def integers(generator, below, *shape):
    return torch.randint(below, shape, generator=generator)


def related(generator, batch, label_count, group_count, pixels, noise):
    """Labels that follow the groups but for a share of `noise`, and the groups, both (batch, pixels)."""
    groups = integers(generator, group_count, batch, pixels)
    random = torch.rand(batch, pixels, generator=generator) < noise
    return torch.where(random, integers(generator, label_count, batch, pixels), groups % label_count), groups


# --- the table ----------------------------------------------------------------------------------------------


def counted_by_hand(labels, groups, ignore):
    table = torch.zeros(len(labels), int(labels.max()) + 1, int(groups.max()) + 1, dtype=torch.int64)
    for image, (row, true) in enumerate(zip(labels.flatten(1).tolist(), groups.flatten(1).tolist())):
        for label, group in zip(row, true):
            if group != ignore:
                table[image, label, group] += 1
    return table


@pytest.mark.parametrize("ignore", [0, 2, None])
def test_the_table_counts_every_pixel_but_the_ignored(generator, ignore):
    labels, groups = integers(generator, 5, 7, 4, 6), integers(generator, 4, 7, 4, 6)
    table = clustering.contingency(labels, groups, ignore)
    assert torch.equal(table, counted_by_hand(labels, groups, ignore))
    assert torch.equal(table, clustering.contingency(labels.int(), groups.to(torch.uint8), ignore))
    single = clustering.contingency(labels[0].flatten(), groups[0].flatten(), ignore)
    assert torch.equal(single, clustering.contingency(labels[:1], groups[:1], ignore))


def test_labels_are_the_argmax_over_the_slots(generator):
    gamma = torch.rand(3, 4, 5, 7, generator=generator)
    labels = clustering.labels_of(gamma)
    assert labels.shape == (3, 5, 7) and labels.dtype == torch.int64
    for image, row, column in itertools.product(range(3), range(5), range(7)):
        slots = gamma[image, :, row, column].tolist()
        assert labels[image, row, column] == slots.index(max(slots))
    assert (clustering.labels_of(torch.full((1, 3, 2, 4), 1 / 3)) == 0).all()


# --- mutual information: enumeration ------------------------------------------------------------------------


def information_by_hand(labels, groups):
    """I as a sum over the data, of log p(k, g) / (p(k) p(g)): no table, no tensor."""
    pairs, size = list(zip(labels, groups)), len(labels)
    ratios = (size * pairs.count((k, g)) / (labels.count(k) * groups.count(g)) for k, g in pairs)
    return sum(math.log(ratio) for ratio in ratios) / size


def one_table(labels, groups):
    return clustering.contingency(torch.tensor(labels), torch.tensor(groups), None)


SMALL = [
    ([0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 1]), ([0, 1, 1, 1, 1, 1], [0, 0, 1, 1, 2, 3]),
    ([0, 1, 2, 0, 1, 2], [0, 0, 1, 1, 1, 1]), ([0, 0, 0, 0, 1, 2], [0, 0, 0, 1, 2, 2]),
]


@pytest.mark.equation("eq-nem-mutual-information", how="enumeration")
@pytest.mark.parametrize("labels, groups", SMALL)
def test_mutual_information_is_the_sum_over_the_data(labels, groups, largest_error):
    table = one_table(labels, groups)
    exact = information_by_hand(labels, groups)
    error = abs(float(clustering.mutual_information(table)) - exact)
    largest_error(error)
    assert error < EXACT
    # the mutants: logarithms to base 2, and N left out of the logarithm
    assert abs(exact / math.log(2) - exact) > 0.05 and abs(exact - math.log(len(labels)) - exact) > 0.05


def expectation(score, labels, groups):
    """The mean of a score over all ways to deal the labels out again."""
    values = [score(dealt, groups) for dealt in itertools.permutations(labels)]
    return sum(values) / len(values)


@pytest.mark.equation("eq-nem-ami", how="enumeration")
@pytest.mark.parametrize("labels, groups", SMALL)
def test_the_adjusted_information_is_that_of_all_permutations(labels, groups, largest_error):
    table = one_table(labels, groups)
    information = information_by_hand(labels, groups)
    expected = expectation(information_by_hand, labels, groups)
    entropies = [information_by_hand(values, values) for values in (labels, groups)]
    exact = {"arithmetic": (information - expected) / (sum(entropies) / 2 - expected),
             "max": (information - expected) / (max(entropies) - expected)}
    found = {norm: float(clustering.adjusted_mutual_information(table, norm)) for norm in exact}
    errors = [abs(found[norm] - exact[norm]) for norm in exact]
    errors.append(abs(float(clustering.expected_mutual_information(table)) - expected))
    largest_error(max(errors))
    assert max(errors) < EXACT
    # the mutants: the expectation left out, and one norm for the other
    unadjusted = clustering.adjusted_mutual_information(table, "arithmetic", torch.zeros(1).double())
    assert abs(float(unadjusted) - exact["arithmetic"]) > 0.05
    assert abs(found["max"] - exact["arithmetic"]) > 0.005


@pytest.mark.equation("eq-nem-ari", how="enumeration")
@pytest.mark.parametrize("labels, groups", SMALL)
def test_the_adjusted_rand_index_is_that_of_all_permutations(labels, groups, largest_error):
    def together(first, second):
        pairs = itertools.combinations(range(len(first)), 2)
        return sum(first[i] == first[j] and second[i] == second[j] for i, j in pairs)

    index, expected = together(labels, groups), expectation(together, labels, groups)
    both = [together(values, values) for values in (labels, groups)]
    exact = (index - expected) / (sum(both) / 2 - expected)
    found = float(clustering.adjusted_rand_index(one_table(labels, groups)))
    largest_error(abs(found - exact))
    assert abs(found - exact) < EXACT
    # the mutants: the expectation left out, and the larger number of pairs for the mean of the two
    assert abs(index / (sum(both) / 2) - exact) > 0.05
    assert abs((index - expected) / (max(both) - expected) - exact) > 0.005


def test_a_random_grouping_scores_zero_on_average(generator):
    groups = integers(generator, 3, 1, 90).expand(4000, -1)
    labels = groups[0][torch.rand(4000, 90, generator=generator).argsort(1)]
    found = clustering.scores(labels, groups, None)
    for values in (found.ami_arithmetic, found.ami_max, found.ari):
        assert abs(values.mean() / (values.std() / math.sqrt(4000))) < 4
    plain = found.homogeneity                                # unadjusted, and therefore above 0
    assert plain.mean() / (plain.std() / math.sqrt(4000)) > 40


# --- all scores: scikit-learn -------------------------------------------------------------------------------


def largest_difference(found, labels, groups, ignore=0):
    """From scikit-learn's scores, image by image, over all five."""
    worst = 0.0
    for image, (row, true) in enumerate(zip(labels.flatten(1), groups.flatten(1))):
        counted = torch.ones_like(true, dtype=torch.bool) if ignore is None else true != ignore
        for name, score in SKLEARN.items():
            exact = score(true[counted].numpy(), row[counted].numpy())
            worst = max(worst, abs(float(getattr(found, name)[image]) - exact))
    return worst


@pytest.mark.parametrize("label_count, group_count, pixels, noise", [
    (4, 4, 784, 1.0), (4, 4, 130, 0.2), (8, 3, 61, 0.5), (2, 9, 40, 0.7), (3, 3, 5, 1.0), (2, 2, 2, 1.0),
    (30, 30, 30, 1.0),
])
def test_scores_equal_those_of_scikit_learn(generator, label_count, group_count, pixels, noise):
    labels, groups = related(generator, 12, label_count, group_count, pixels, noise)
    groups[:, 0] = 1                                              # something to count in every image
    assert largest_difference(clustering.scores(labels, groups), labels, groups) < 1e-10
    assert largest_difference(clustering.scores(labels, groups, None), labels, groups, None) < 1e-10


@pytest.mark.parametrize("labels, groups", [
    ([0, 0, 0, 0], [1, 1, 1, 1]), ([0, 1, 2, 3], [1, 1, 1, 1]), ([0, 0, 0, 0], [1, 2, 3, 4]),
    ([0, 1, 2, 3], [4, 3, 2, 1]), ([0, 1, 2, 3], [1, 1, 2, 2]), ([5], [3]), ([1, 0], [2, 2]),
    ([1, 0], [2, 1]), ([3, 3, 0, 0], [1, 1, 2, 2]), ([0, 0, 0, 1], [1, 1, 2, 2]),
    ([0, 1, 0, 1], [1, 1, 2, 2]),
    ([0, 0, 1], [1, 1, 0]),                                       # the second label has no counted pixel
])
def test_degenerate_groupings_score_as_in_scikit_learn(labels, groups):
    labels, groups = torch.tensor([labels]), torch.tensor([groups])
    assert largest_difference(clustering.scores(labels, groups), labels, groups) < 1e-10


def test_identical_groupings_score_one_even_a_single_cluster(generator):
    """Published code that says 0 where one group and one slot are left is the mutant."""
    groups = torch.stack([torch.full((24,), 2), integers(generator, 3, 24) + 1, torch.arange(24) + 1])
    for values in vars(clustering.scores(groups + 3, groups)).values():
        assert (values - 1).abs().max() < EXACT


@pytest.mark.parametrize("score", ["ami_arithmetic", "ami_max", "ari"])
def test_only_the_pixels_of_one_object_count(generator, score):
    """The mutants: background counted, and overlap counted, as a group of its own."""
    images, groups = draw_shapes(12, generator, height=20, width=26)
    random, groups = torch.rand(groups.shape, generator=generator) < 0.3, groups.long()
    labels = torch.where(random, integers(generator, 4, *groups.shape), groups)
    found, overlap = clustering.scores(labels, groups), clustering.split_by_overlap(images, groups)
    assert largest_difference(found, labels, groups) < 1e-10
    elsewhere = torch.where(groups > 0, labels, integers(generator, 4, *groups.shape))
    assert torch.equal(getattr(clustering.scores(elsewhere, groups), score), getattr(found, score))
    with_background = clustering.scores(labels, groups, None)
    assert (getattr(with_background, score) - getattr(found, score)).abs().min() > 0.005
    with_overlap = clustering.scores(labels, torch.where((images > 0) & (groups == 0), 4, groups))
    assert (getattr(with_overlap, score) - getattr(found, score))[overlap].abs().mean() > 0.005


def test_the_two_norms_differ_and_the_larger_one_is_the_stricter(generator):
    found = clustering.scores(*related(generator, 50, 6, 3, 100, 0.5))
    assert (found.ami_max < found.ami_arithmetic).all()


def test_numbering_batch_and_chunks_make_no_difference(generator, monkeypatch):
    labels, groups = related(generator, 9, 5, 4, 60, 0.4)
    found = clustering.scores(labels, groups)
    renumbered = clustering.scores(torch.tensor([7, 2, 0, 4, 1])[labels], groups)
    alone = [clustering.scores(labels[i], groups[i]) for i in range(9)]
    monkeypatch.setattr(clustering, "MOST_TERMS", 50)
    chunked = clustering.scores(labels.view(9, 5, 12), groups.view(9, 5, 12))
    for name, values in vars(found).items():
        assert values.shape == (9,) and values.dtype == torch.float64
        assert (getattr(renumbered, name) - values).abs().max() < EXACT
        assert (torch.cat([getattr(one, name) for one in alone]) - values).abs().max() < EXACT
        assert (getattr(chunked, name) - values).abs().max() < EXACT


def test_many_data_are_no_trouble(generator):
    labels, groups = related(generator, 1, 10, 10, 20_000, 0.3)
    assert largest_difference(clustering.scores(labels[0], groups[0], None), labels, groups, None) < 1e-9


# --- means --------------------------------------------------------------------------------------------------


def test_an_image_with_nothing_to_count_has_no_score_and_no_part_in_the_mean(generator):
    labels, groups = related(generator, 4, 3, 4, 50, 0.5)
    groups[2] = 0
    found = clustering.scores(labels, groups)
    others = found.select(torch.tensor([0, 1, 3]))
    for name, values in vars(found).items():
        assert values.isnan().tolist() == [False, False, True, False]
        assert found.mean()[name] == pytest.approx(float(getattr(others, name).mean()), abs=EXACT)
    assert len(found) == 4 and len(others) == 3
    assert all(math.isnan(value) for value in clustering.scores(labels, 0 * groups).mean().values())


def best_of_all_matchings(table):
    """The most data that are right under any injective matching, by trying them all."""
    small, large = sorted(table.shape)
    rows = table if table.shape[0] == small else table.T
    return max(sum(int(rows[i, j]) for i, j in enumerate(chosen))
               for chosen in itertools.permutations(range(large), small))


@pytest.mark.parametrize("label_count, group_count", [(4, 4), (6, 4), (3, 5), (1, 4), (5, 1)])
def test_accuracy_is_the_best_over_all_matchings_one_to_one(label_count, group_count, generator):
    labels, groups = related(generator, 5, label_count, group_count, 70, 0.6)
    tables = clustering.contingency(labels, groups, None)
    exact = torch.tensor([best_of_all_matchings(table) / 70 for table in tables]).double()
    assert torch.allclose(clustering.accuracy(tables), exact, atol=EXACT)
    for table in tables:
        groups_of = clustering.matching(table)
        known = groups_of >= 0
        assert groups_of.shape == (len(table),) and known.sum() == min(table.shape)
        assert len(set(groups_of[known].tolist())) == known.sum()                     # no group twice
        assert table[known, groups_of[known]].sum() == best_of_all_matchings(table)
    if label_count > group_count:                # each label by its own majority is another score, never lower
        majority = tables.amax(2).sum(1) / 70
        assert (majority >= exact).all() and (majority > exact + 0.01).any()


def test_accuracy_and_normalised_information_do_not_depend_on_names(generator):
    labels, groups = related(generator, 3, 5, 5, 80, 0.3)
    names = torch.randperm(5, generator=generator)
    first, second = (clustering.contingency(each, groups, None) for each in (labels, names[labels]))
    for score in (clustering.accuracy, clustering.normalised_mutual_information):
        assert torch.allclose(score(first), score(second), atol=EXACT)
        perfect = clustering.contingency(names[groups], groups, None)
        assert torch.allclose(score(perfect), torch.ones(3).double(), atol=EXACT)
        assert (score(first) < 0.95).all()


@pytest.mark.parametrize("label_count, group_count", [(4, 4), (7, 3), (1, 4), (4, 1), (1, 1)])
def test_normalised_information_is_that_of_scikit_learn(label_count, group_count, generator):
    labels, groups = related(generator, 6, label_count, group_count, 50, 0.5)
    found = clustering.normalised_mutual_information(clustering.contingency(labels, groups, None))
    exact = [metrics.normalized_mutual_info_score(true, mine) for true, mine in zip(groups, labels)]
    assert torch.allclose(found, torch.tensor(exact).double(), atol=EXACT)
    if label_count == group_count == 4:
        larger = [metrics.normalized_mutual_info_score(true, mine, average_method="max")
                  for true, mine in zip(groups, labels)]
        assert (found - torch.tensor(larger)).abs().max() > 1e-5


def test_a_table_of_zeros_has_neither_accuracy_nor_information():
    empty = torch.zeros(2, 3, 4, dtype=torch.long)
    assert clustering.accuracy(empty).isnan().all()
    assert clustering.normalised_mutual_information(empty).isnan().all()


def test_the_first_group_counts_only_where_none_is_ignored(generator):
    """Digit 0 is a digit: without ignore=None a tenth of the data would be left out."""
    groups = torch.arange(10).repeat(10)
    labels = torch.where(groups == 0, 1, groups)
    assert clustering.accuracy(clustering.contingency(labels, groups, None)).item() == pytest.approx(0.9)
    assert clustering.accuracy(clustering.contingency(labels, groups)).item() == 1


@pytest.mark.parametrize("score", [clustering.accuracy, clustering.normalised_mutual_information])
@pytest.mark.parametrize("tables", [torch.ones(2, 2), torch.ones(1, 2, 2), -torch.ones(1, 2, 2, dtype=torch.long),
                                    torch.ones(2, 2, dtype=torch.long)])
def test_scores_of_other_tables_are_refused(score, tables):
    with pytest.raises(ValueError, match="Tables are counts of shape"):
        score(tables)
    with pytest.raises(ValueError, match="Tables are counts|shape"):
        clustering.matching(torch.ones(1, 2, 2, dtype=torch.long))


def test_the_split_by_overlap_and_the_means_of_its_parts(generator):
    images, groups = draw_shapes(60, generator, height=24, width=30)
    covered = [bool(((image > 0) & (group == 0)).any()) for image, group in zip(images, groups)]
    overlap = clustering.split_by_overlap(images.float(), groups.long())
    assert overlap.tolist() == covered and 5 < sum(covered) < 55
    labels = torch.where(overlap[:, None, None], groups // 2, groups).long()
    means = clustering.mean_by_overlap(clustering.scores(labels, groups), images, groups)
    assert means["without overlap"]["ari"] == 1 and means["with overlap"]["ari"] < 0.8
    share = sum(covered) / 60
    assert means["all"]["ari"] == pytest.approx(share * means["with overlap"]["ari"] + 1 - share)
    clear = ~overlap
    found = clustering.scores(labels[clear], groups[clear])
    means = clustering.mean_by_overlap(found, images[clear], groups[clear])
    assert math.isnan(means["with overlap"]["ami_max"]) and means["without overlap"] == means["all"]


# --- baselines ----------------------------------------------------------------------------------------------


def picture(*lines):
    return torch.tensor([[float(mark == "#") for mark in line] for line in lines])[None]


@pytest.mark.parametrize("baseline", [clustering.kmeans_coordinates, clustering.gmm_coordinates])
def test_a_baseline_finds_blobs_that_lie_apart(baseline):
    apart = picture("##......", "##......", ".......#", "......##", "......##")
    labels = baseline(apart, 2, 0)
    assert labels.shape == apart.shape and labels.dtype == torch.int64
    assert torch.equal(labels > 0, apart > 0.5)
    assert labels.unique().tolist() == [0, 1, 2]
    assert labels[0, 0, 0] == labels[0, 1, 1] and labels[0, 2, 7] == labels[0, 4, 6]


@pytest.mark.parametrize("baseline", [clustering.kmeans_coordinates, clustering.gmm_coordinates])
def test_a_baseline_looks_at_each_image_alone(generator, baseline):
    images = draw_shapes(4, generator, height=16, width=20)[0].float()
    assert torch.equal(baseline(images, 3, 5), torch.cat([baseline(image[None], 3, 5) for image in images]))


@pytest.mark.parametrize("baseline", [clustering.kmeans_coordinates, clustering.gmm_coordinates])
def test_a_baseline_takes_images_with_few_pixels_or_none(baseline):
    few = torch.cat([picture("....", "...."), picture("..#.", "#..."), picture("#...", "....")])
    assert baseline(few, 3, 0).flatten(1).amax(1).tolist() == [0, 2, 1]
    assert baseline(few[2:], 1, 0).sum() == 1


def test_components_hold_together_by_sides_and_not_by_corners():
    two = torch.cat([picture("##...", "##...", "..##."), picture(".....", ".###.", ".#...")])
    labels = clustering.connected_components(two)
    assert labels.flatten(1).amax(1).tolist() == [2, 1] and labels.dtype == torch.int64
    assert torch.equal(labels > 0, two > 0.5)
    assert labels[0, 0, 0] == labels[0, 1, 1] != labels[0, 2, 2]


def test_the_baselines_reach_what_is_known_of_them(generator):
    """AMI by the mean, on 60 fresh images, within four standard errors of what the test images gave."""
    images, groups = draw_shapes(60, torch.Generator().manual_seed(3))
    images, groups = images.float(), groups.long()
    known = {
        0.81: clustering.kmeans_coordinates(images, 3, 0), 0.77: clustering.gmm_coordinates(images, 3, 0),
        0.605: clustering.connected_components(images),
    }
    for value, labels in known.items():
        ami = clustering.scores(labels, groups).ami_arithmetic
        assert abs(ami.mean() - value) < 4 * ami.std() / math.sqrt(60) < 0.2


# --- bad input ----------------------------------------------------------------------------------------------

LABELS, GAMMA = torch.zeros(2, 3, 4, dtype=torch.int64), torch.full((2, 3, 4, 5), 1 / 3)
IMAGES, TABLES = torch.zeros(2, 3, 4), torch.ones(2, 3, 4, dtype=torch.int64)


@pytest.mark.parametrize("call, words", [
    (lambda: clustering.scores(LABELS, LABELS[:, :2]), r"\(2, 3, 4\) and \(2, 2, 4\)"),
    (lambda: clustering.scores(LABELS, LABELS - 1), "groups must be 0 or more, but -1"),
    (lambda: clustering.scores(LABELS - 2, LABELS), "labels must be 0 or more, but -2"),
    (lambda: clustering.scores(LABELS.float(), LABELS), "labels must be a tensor of whole numbers"),
    (lambda: clustering.scores(LABELS, LABELS.numpy()), "ndarray"),
    (lambda: clustering.scores(LABELS[:0], LABELS[:0]), "nothing to compare"),
    (lambda: clustering.scores(LABELS + 2**40, LABELS), "from 0, with torch.unique"),
    (lambda: clustering.labels_of(GAMMA[0]), r"\(batch, K, height, width\); \(3, 4, 5\) came"),
    (lambda: clustering.labels_of(GAMMA[None]), "pass one"),
    (lambda: clustering.labels_of(GAMMA[:, :0]), "At least one slot"),
    (lambda: clustering.labels_of(GAMMA / 0 * 0), "NaN"),
    (lambda: clustering.adjusted_mutual_information(TABLES, "geometric"), "arithmetic, max, but 'geometric'"),
    (lambda: clustering.adjusted_rand_index(TABLES[0]), r"\(3, 4\) came"),
    (lambda: clustering.mutual_information(TABLES.double()), "float64"),
    (lambda: clustering.expected_mutual_information(-TABLES), "not negative"),
    (lambda: clustering.split_by_overlap(IMAGES, LABELS[:1]), r"\(2, 3, 4\) and \(1, 3, 4\)"),
    (lambda: clustering.scores(LABELS, LABELS).select(torch.ones(3, dtype=torch.bool)), "of the 2 images"),
    (lambda: clustering.kmeans_coordinates(IMAGES, 0, 0), "at least 1, but 0 came"),
    (lambda: clustering.gmm_coordinates(IMAGES, True, 0), "but True came"),
    (lambda: clustering.kmeans_coordinates(IMAGES[0], 3, 0), r"\(batch, height, width\)"),
    (lambda: clustering.connected_components(IMAGES + 255), "255 to 255"),
    (lambda: clustering.connected_components(IMAGES / 0), "nan"),
])
def test_bad_input_is_refused_in_one_sentence(call, words):
    with pytest.raises(ValueError, match=words) as refused:
        call()
    assert str(refused.value).endswith(".") and "\n" not in str(refused.value)


def test_scikit_learn_and_scipy_load_only_for_the_baselines():
    tree = ast.parse(inspect.getsource(clustering))
    on_top = [ast.unparse(line) for line in tree.body if isinstance(line, ast.Import | ast.ImportFrom)]
    assert on_top and not any("sklearn" in line or "scipy" in line for line in on_top)
