"""The experiments there are: one module of this folder for each model family, one line here for each
module.
"""

from __future__ import annotations

import difflib

from nemlib.experiments import autoencoder, gan, gibbs, made, neural_em, rbm, vae, vae_gmm
from nemlib.experiments.experiment import Experiment

FAMILIES = (
    gibbs,
    rbm,
    autoencoder,
    vae,
    vae_gmm,
    made,
    gan,
    neural_em,
)


def experiments() -> dict[str, Experiment]:
    """All experiments by name, in the order of the chapters."""
    return {experiment.name: experiment for family in FAMILIES for experiment in family.EXPERIMENTS}


def find(name: str) -> Experiment:
    """The experiment of that name; a ValueError for another name gives the nearest one."""
    known = experiments()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
    raise ValueError(f"There is no experiment {name!r}; the nearest is {near!r}: `nemlib list` shows all.")
