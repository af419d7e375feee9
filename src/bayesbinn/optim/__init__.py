"""Optimizers for the latent parameters of binary weights."""

from .bayesbinn import BayesBiNN as BayesBiNN
