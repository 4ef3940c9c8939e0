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
    from ancestral.data.batch import Batch
    from ancestral.data.device_data import Data
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
    from ancestral.evaluation.ais import Annealing
    from ancestral.evaluation.log_likelihood import compare
    from ancestral.models.implicit import Generator
    from ancestral.models.latent import LatentModel
    from ancestral.objectives import Objective
    from ancestral.training import Player

_HOME = {
    "Autoencoder": "estimators.autoencoder",
    "BeliefNet": "estimators.belief_net",
    "CGMMN": "estimators.cgmmn",
    "CGMMNClassifier": "estimators.cgmmn_supervised",
    "CGMMNRegressor": "estimators.cgmmn_supervised",
    "ConditionalGAN": "estimators.gan",
    "FactorAnalysis": "estimators.factor_analysis",
    "GAN": "estimators.gan",
    "GMMN": "estimators.gmmn",
    "VAE": "estimators.vae",
    "IWAE": "estimators.vae",
    "ClassConditionalVAE": "estimators.class_conditional_vae",
    "MaxMarginVAE": "estimators.max_margin_vae",
    "MemoryVAE": "estimators.memory_vae",
    "MixtureModel": "estimators.mixture",
    "NetworkClassifier": "estimators.network_classifier",
    "PBP": "estimators.pbp",
    "Pegasos": "estimators.pegasos",
    "Annealing": "evaluation.ais",
    "Batch": "data.batch",
    "Data": "data.device_data",
    "Generator": "models.implicit",
    "LatentModel": "models.latent",
    "Objective": "objectives",
    "Player": "training",
    "compare": "evaluation.log_likelihood",
    "load": "estimators.registry",
    "data": "",
    "datasets": "",
    "evaluation": "",
    "models": "",
    "nn": "",
    "objectives": "",
    "probability": "",
    "training": "",
}

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
    "ConditionalGAN",
    "Data",
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
    "training",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'ancestral' has no attribute {name!r}")
    home = _HOME[name]
    if not home:
        return import_module(f"ancestral.{name}")
    return getattr(import_module(f"ancestral.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
