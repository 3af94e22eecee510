"""Films and users: likes that are drawn from a stated law, in which genres are the hidden causes.

The films are invented, and so are the users: nobody's taste is in here, and the law that made it is known, so
that every guess about a withheld film can be held against the best one possible. It is, for each user:

- the number of genres that the user loves is 1 with probability .6 and 2 with .4, and which ones is uniform;
- a film of a loved genre is liked with probability .85, any other with .08;
- a crossover film has two genres and is liked with .85 if the user loves either.

All likes are independent given the loved genres. So the law of a row of likes is a mixture of 4 + 6 products.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["FILMS", "GENRES", "TASTES", "Likes", "draw_likes", "exact_like", "exact_log_prob"]

GENRES = ("space", "heist", "romance", "ghosts")
LOVED, OTHER = 0.85, 0.08       # P(like) of a film of a loved genre, and of any other
ONE_GENRE = 0.6                 # share of users who love one genre; the others love two

# title: its genres. Seven films each; four of them are crossovers, with two genres
FILMS: dict[str, tuple[str, ...]] = {
    "Orbit of Salt": ("space",),
    "The Ninth Airlock": ("space",),
    "A Comet Named Olga": ("space",),
    "A Garden on Phobos": ("space",),
    "Long Way to Vega": ("space",),
    "Gravity's Thief": ("space", "heist"),
    "Eleven Keys and a Cat": ("heist",),
    "The Quiet Vault": ("heist",),
    "Marble and Wire": ("heist",),
    "A Safe in Lisbon": ("heist",),
    "Three False Rubies": ("heist",),
    "A Waltz for Two Thieves": ("heist", "romance"),
    "Ink for Miss June": ("romance",),
    "Rain on Harbour Street": ("romance",),
    "The Baker's Polka": ("romance",),
    "Two Umbrellas, One Bus": ("romance",),
    "Late Train to Spring": ("romance",),
    "The Bride Who Hovered": ("romance", "ghosts"),
    "The Cellar Door Hums": ("ghosts",),
    "Pale Lodger, Room Four": ("ghosts",),
    "Candles at Wick Hall": ("ghosts",),
    "Whispers in the Flour": ("ghosts",),
    "The Chair That Waited": ("ghosts",),
    "Station Nobody": ("ghosts", "space"),
}

# Every set of loved genres, of one or two, (tastes, genres)
TASTES = torch.tensor([[genre in loved for genre in range(len(GENRES))]
                       for size in (1, 2) for loved in itertools.combinations(range(len(GENRES)), size)])


@dataclass(frozen=True)
class Likes:
    """Who likes what, and why.

    likes: (users, films), zeros and ones, float32. loved: (users, genres), bool: the hidden causes.
    """

    likes: Tensor
    loved: Tensor


def film_genres() -> Tensor:
    """Which film has which genres, (films, genres), bool."""
    return torch.tensor([[genre in genres for genre in GENRES] for genres in FILMS.values()])


def taste_law() -> tuple[Tensor, Tensor]:
    """P(taste), (tastes,), and P(like | taste), (tastes, films), float64."""
    single = (TASTES.sum(1) == 1).double()
    share = ONE_GENRE * single / single.sum() + (1 - ONE_GENRE) * (1 - single) / (1 - single).sum()
    touched = TASTES.double() @ film_genres().double().T > 0
    return share, OTHER + (LOVED - OTHER) * touched.double()


def draw_likes(users: int, generator: torch.Generator) -> Likes:
    """That many users from the law above. Raises ValueError for fewer than one."""
    if users < 1:
        raise ValueError(f"At least one user; {users} came.")
    share, like = taste_law()
    taste = torch.multinomial(share, users, replacement=True, generator=generator)
    uniform = torch.rand(users, len(FILMS), generator=generator, dtype=torch.float64)
    return Likes((uniform < like[taste]).float(), TASTES[taste])


def exact_like(likes: Tensor) -> Tensor:
    """P(film i is liked | all other films) of each user, by the law itself: no guess is better.

    likes: (users, films) of 0 and 1. Returns (users, films) float64. Raises ValueError for another width.
    """
    share, each = _log_terms(likes)
    others = share.log()[:, None] + each.sum(2, keepdim=True) - each     # without film i
    return (others.softmax(1) * taste_law()[1]).sum(1)


def exact_log_prob(likes: Tensor) -> Tensor:
    """log p of each row of likes under the law itself, nats: no model of the users is better on average.

    likes: (users, films) of 0 and 1. Returns (users,) float64. Raises ValueError for another width.
    """
    share, each = _log_terms(likes)
    return (share.log() + each.sum(2)).logsumexp(1)


def _log_terms(likes: Tensor) -> tuple[Tensor, Tensor]:
    """P(taste), (tastes,), and log P(like or not | taste), (users, tastes, films)."""
    if likes.dim() != 2 or likes.shape[1] != len(FILMS):
        raise ValueError(f"Likes have shape (users, {len(FILMS)}); {tuple(likes.shape)} came.")
    share, like = taste_law()
    return share, torch.where(likes[:, None] > 0, like.log(), torch.log1p(-like))
