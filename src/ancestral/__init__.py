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
    from ancestral.ais import Annealing
    from ancestral.data import Batch, Data
    from ancestral.evaluate import compare
    from ancestral.methods import load
    from ancestral.methods.autoencoder import Autoencoder
    from ancestral.methods.belief import BeliefNet
    from ancestral.methods.cgmmn import CGMMN
    from ancestral.methods.classifier import NetworkClassifier
    from ancestral.methods.conditional import ClassConditionalVAE
    from ancestral.methods.factor import FactorAnalysis
    from ancestral.methods.gan import GAN, ConditionalGAN
    from ancestral.methods.gmmn import GMMN
    from ancestral.methods.margin import MaxMarginVAE
    from ancestral.methods.matching import CGMMNClassifier, CGMMNRegressor
    from ancestral.methods.memory import MemoryVAE
    from ancestral.methods.mixture import MixtureModel
    from ancestral.methods.pbp import PBP
    from ancestral.methods.pegasos import Pegasos
    from ancestral.methods.vae import IWAE, VAE
    from ancestral.models import Generator, LatentModel
    from ancestral.objectives import Objective
    from ancestral.train import Player

_HOME = {
    "Autoencoder": "methods.autoencoder",
    "BeliefNet": "methods.belief",
    "CGMMN": "methods.cgmmn",
    "CGMMNClassifier": "methods.matching",
    "CGMMNRegressor": "methods.matching",
    "ConditionalGAN": "methods.gan",
    "FactorAnalysis": "methods.factor",
    "GAN": "methods.gan",
    "GMMN": "methods.gmmn",
    "VAE": "methods.vae",
    "IWAE": "methods.vae",
    "ClassConditionalVAE": "methods.conditional",
    "MaxMarginVAE": "methods.margin",
    "MemoryVAE": "methods.memory",
    "MixtureModel": "methods.mixture",
    "NetworkClassifier": "methods.classifier",
    "PBP": "methods.pbp",
    "Pegasos": "methods.pegasos",
    "Annealing": "ais",
    "Batch": "data",
    "Data": "data",
    "Generator": "models",
    "LatentModel": "models",
    "Objective": "objectives",
    "Player": "train",
    "compare": "evaluate",
    "load": "methods",
    "ais": "",
    "conditional": "",
    "damage": "",
    "datasets": "",
    "discrepancy": "",
    "divergence": "",
    "evaluate": "",
    "kernels": "",
    "labelled": "",
    "likeness": "",
    "networks": "",
    "objectives": "",
    "preprocess": "",
    "slots": "",
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
    "ais",
    "compare",
    "conditional",
    "damage",
    "datasets",
    "discrepancy",
    "divergence",
    "evaluate",
    "kernels",
    "labelled",
    "likeness",
    "load",
    "networks",
    "objectives",
    "preprocess",
    "slots",
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
