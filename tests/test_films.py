"""nemlib.data.films: the likes follow the law that the file states, and the best guess is Bayes' own."""

import itertools

import pytest
import torch

from nemlib.data import films


def brute_force(likes, film, loved_like=films.LOVED):
    """P(film is liked | the others) by summing over every set of loved genres, in plain Python."""
    genres = [[films.GENRES.index(name) for name in names] for names in films.FILMS.values()]
    joint = [0.0, 0.0]
    for size, share in ((1, films.ONE_GENRE / 4), (2, (1 - films.ONE_GENRE) / 6)):
        for loved in itertools.combinations(range(4), size):
            for value in (0, 1):
                weight = share
                for i, own in enumerate(genres):
                    p = loved_like if set(own) & set(loved) else films.OTHER
                    weight *= p if (value if i == film else likes[i]) else 1 - p
                joint[value] += weight
    return joint[1] / sum(joint)


def test_the_films_are_twenty_four_of_four_genres():
    table = films.film_genres()
    assert table.shape == (24, 4) and table.any(1).all()
    assert table.sum(0).tolist() == [7, 7, 7, 7]            # five of its own, and two that cross over


def test_the_law_is_a_law():
    share, like = films.taste_law()
    assert len(share) == len(films.TASTES) == 10
    assert share.sum().item() == pytest.approx(1, abs=1e-12)
    assert torch.minimum((like - films.LOVED).abs(), (like - films.OTHER).abs()).max() < 1e-12


def test_draws_follow_the_law():
    """Rates of films and of pairs within four standard errors; of other films' rates they are not."""
    found = films.draw_likes(40_000, torch.Generator().manual_seed(0))
    share, like = films.taste_law()
    v = found.likes.double()
    expected, error = share @ like, (share @ like * (1 - share @ like) / len(v)).sqrt()
    assert ((v.mean(0) - expected).abs() < 4 * error).all()
    assert not ((v.mean(0).roll(1) - expected).abs() < 4 * error).all()
    pairs = like.T @ (share[:, None] * like)
    off = ~torch.eye(24, dtype=torch.bool)
    error = (pairs * (1 - pairs) / len(v)).sqrt()
    assert ((v.T @ v / len(v) - pairs).abs() < 5 * error)[off].all()
    independent = expected[:, None] * expected                # the mutant: films without a common cause
    assert not ((v.T @ v / len(v) - independent).abs() < 5 * error)[off].all()
    assert abs((found.loved.sum(1) == 2).double().mean() - (1 - films.ONE_GENRE)) < 0.01


def test_the_best_guess_is_bayes_rule():
    likes = films.draw_likes(3, torch.Generator().manual_seed(1)).likes
    found = films.exact_like(likes)
    for user, film in itertools.product(range(3), (0, 5, 17)):
        others = likes[user].tolist()
        assert found[user, film].item() == pytest.approx(brute_force(others, film), abs=1e-12)
        assert found[user, film].item() != pytest.approx(brute_force(others, film, 0.8), abs=1e-6)


def test_the_law_of_a_row_of_likes_sums_to_one():
    """Over all 2^24 rows there are too many; so over those of six films, whatever the others are."""
    states = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 6)
    row = films.draw_likes(1, torch.Generator().manual_seed(4)).likes.repeat(64, 1)
    row[:, :6] = states
    found = films.exact_log_prob(row)
    conditional = films.exact_like(row)[:, 0]
    on, off = found[states[:, 0] > 0], found[states[:, 0] == 0]
    assert torch.allclose((on - off).sigmoid(), conditional[states[:, 0] > 0], atol=1e-12)
    share, like = films.taste_law()
    rest = torch.where(row[0, 6:] > 0, like[:, 6:], 1 - like[:, 6:]).prod(1)
    assert found.exp().sum().item() == pytest.approx((share @ rest).item(), rel=1e-12)
    equal_shares = rest.mean().item()                        # the mutant
    assert found.exp().sum().item() != pytest.approx(equal_shares, rel=1e-3)


def test_the_withheld_film_is_not_looked_at():
    likes = films.draw_likes(5, torch.Generator().manual_seed(2)).likes
    turned = likes.clone()
    turned[:, 7] = 1 - turned[:, 7]
    before, after = films.exact_like(likes), films.exact_like(turned)
    assert torch.allclose(before[:, 7], after[:, 7], atol=1e-12)
    assert not torch.allclose(before[:, 6], after[:, 6], atol=1e-6)


def test_the_same_seed_gives_the_same_users():
    first, again = (films.draw_likes(9, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first.likes, again.likes) and torch.equal(first.loved, again.loved)


def test_what_is_refused():
    with pytest.raises(ValueError, match="At least one user; 0 came."):
        films.draw_likes(0, torch.Generator())
    with pytest.raises(ValueError, match=r"\(users, 24\); \(2, 23\) came"):
        films.exact_like(torch.zeros(2, 23))
    with pytest.raises(ValueError, match=r"\(users, 24\); \(24,\) came"):
        films.exact_log_prob(torch.zeros(24))
