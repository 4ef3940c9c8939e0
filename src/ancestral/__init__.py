"""ancestral: the classical deep generative models, exact, fast and reproducible.

The names a user needs are loaded when they are first used, so that importing the package, and
asking the command line for help, costs next to nothing.

>>> import ancestral
>>> ancestral.VAE(n_latents=2).n_latents
2
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ancestral._version import __version__

if TYPE_CHECKING:
    from ancestral.data import Batch, DeviceData
    from ancestral.estimators.autoencoder import Autoencoder
    from ancestral.estimators.belief_net import BeliefNet
    from ancestral.estimators.cgmmn import CGMMN
    from ancestral.estimators.cgmmn_supervised import CGMMNClassifier, CGMMNRegressor
    from ancestral.estimators.class_conditional_vae import ClassConditionalVAE
    from ancestral.estimators.factor_analysis import FactorAnalysis
    from ancestral.estimators.gan import GAN, ConditionalGAN
    from ancestral.estimators.gmmn import GMMN
    from ancestral.estimators.max_margin_vae import MaxMarginVAE
    from ancestral.estimators.memory_vae import MemoryVAE
    from ancestral.estimators.mixture import MixtureModel
    from ancestral.estimators.network_classifier import NetworkClassifier
    from ancestral.estimators.pbp import PBP
    from ancestral.estimators.pegasos import Pegasos
    from ancestral.estimators.registry import load
    from ancestral.estimators.vae import IWAE, VAE
    from ancestral.evaluation import Annealing, compare
    from ancestral.models import Generator, LatentModel, Run
    from ancestral.objectives import Objective
    from ancestral.probability import Conditional
    from ancestral.training import Player, train

_HOME = {
    "Annealing": "evaluation",
    "Autoencoder": "estimators.autoencoder",
    "Batch": "data",
    "BeliefNet": "estimators.belief_net",
    "CGMMN": "estimators.cgmmn",
    "CGMMNClassifier": "estimators.cgmmn_supervised",
    "CGMMNRegressor": "estimators.cgmmn_supervised",
    "ClassConditionalVAE": "estimators.class_conditional_vae",
    "Conditional": "probability",
    "ConditionalGAN": "estimators.gan",
    "DeviceData": "data",
    "FactorAnalysis": "estimators.factor_analysis",
    "GAN": "estimators.gan",
    "GMMN": "estimators.gmmn",
    "Generator": "models",
    "IWAE": "estimators.vae",
    "LatentModel": "models",
    "MaxMarginVAE": "estimators.max_margin_vae",
    "MemoryVAE": "estimators.memory_vae",
    "MixtureModel": "estimators.mixture",
    "NetworkClassifier": "estimators.network_classifier",
    "Objective": "objectives",
    "PBP": "estimators.pbp",
    "Pegasos": "estimators.pegasos",
    "Player": "training",
    "Run": "models",
    "VAE": "estimators.vae",
    "compare": "evaluation",
    "load": "estimators.registry",
    "train": "training",
}
"""Module of every public class and function."""

_PACKAGES = {
    "cli",
    "data",
    "datasets",
    "estimators",
    "evaluation",
    "experiments",
    "models",
    "nn",
    "objectives",
    "probability",
    "training",
    "utils",
}
"""Packages that are loaded on first use; those in ``__all__`` are public."""

__all__ = [
    "CGMMN",
    "GAN",
    "GMMN",
    "IWAE",
    "PBP",
    "VAE",
    "Annealing",
    "Autoencoder",
    "Batch",
    "BeliefNet",
    "CGMMNClassifier",
    "CGMMNRegressor",
    "ClassConditionalVAE",
    "Conditional",
    "ConditionalGAN",
    "DeviceData",
    "FactorAnalysis",
    "Generator",
    "LatentModel",
    "MaxMarginVAE",
    "MemoryVAE",
    "MixtureModel",
    "NetworkClassifier",
    "Objective",
    "Pegasos",
    "Player",
    "Run",
    "__version__",
    "compare",
    "data",
    "datasets",
    "evaluation",
    "load",
    "models",
    "nn",
    "objectives",
    "probability",
    "train",
    "training",
]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"ancestral.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'ancestral' has no attribute {name!r}")
    return getattr(import_module(f"ancestral.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
