"""Registry of the estimators: name, module and summary of each, importable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ancestral.fields import suggest

if TYPE_CHECKING:
    from ancestral.estimator import Estimator


@dataclass(frozen=True)
class Method:
    """Registry entry of an estimator.

    Attributes
    ----------
    name : str
        Name on the command line.
    module, class_name : str
        Module and name of the estimator class.
    summary : str
        Description of at most one line.
    """

    name: str
    module: str
    class_name: str
    summary: str

    def load(self) -> type[Estimator]:
        """Import and return the estimator class."""
        return getattr(import_module(self.module), self.class_name)


METHODS = {
    m.name: m
    for m in (
        Method("vae", "ancestral.methods.vae", "VAE", "variational autoencoder (ELBO)"),
        Method("iwae", "ancestral.methods.vae", "IWAE", "importance weighted autoencoder (L_K)"),
        Method(
            "memory-vae",
            "ancestral.methods.memory",
            "MemoryVAE",
            "variational autoencoder with memory and attention (MEM-VAE, MEM-IWAE)",
        ),
        Method(
            "factor-analysis",
            "ancestral.methods.factor",
            "FactorAnalysis",
            "factor analysis and probabilistic PCA (EM)",
        ),
        Method(
            "mixture",
            "ancestral.methods.mixture",
            "MixtureModel",
            "finite mixture model, latent class analysis (EM)",
        ),
        Method(
            "belief-net",
            "ancestral.methods.belief",
            "BeliefNet",
            "sigmoid belief network (binary latent variables, VIMCO)",
        ),
        Method(
            "max-margin-vae",
            "ancestral.methods.margin",
            "MaxMarginVAE",
            "max-margin deep generative classifier (MMVA, CMMVA)",
        ),
        Method(
            "class-conditional-vae",
            "ancestral.methods.conditional",
            "ClassConditionalVAE",
            "semi-supervised variational autoencoder with the class as a latent variable (M2)",
        ),
        Method(
            "network-classifier",
            "ancestral.methods.classifier",
            "NetworkClassifier",
            "dense or convolutional network with a multi-class hinge (CNN)",
        ),
        Method(
            "autoencoder",
            "ancestral.methods.autoencoder",
            "Autoencoder",
            "deterministic autoencoder",
        ),
        Method(
            "pbp",
            "ancestral.methods.pbp",
            "PBP",
            "Bayesian neural network (probabilistic backpropagation)",
        ),
        Method("gan", "ancestral.methods.gan", "GAN", "generative adversarial network"),
        Method(
            "conditional-gan",
            "ancestral.methods.gan",
            "ConditionalGAN",
            "class-conditional generative adversarial network",
        ),
        Method("gmmn", "ancestral.methods.gmmn", "GMMN", "moment-matching network (MMD)"),
        Method(
            "cgmmn",
            "ancestral.methods.cgmmn",
            "CGMMN",
            "class-conditional moment-matching network (CMMD)",
        ),
        Method(
            "cgmmn-classifier",
            "ancestral.methods.matching",
            "CGMMNClassifier",
            "conditional moment-matching classifier (CMMD)",
        ),
        Method(
            "cgmmn-regressor",
            "ancestral.methods.matching",
            "CGMMNRegressor",
            "conditional moment-matching regressor (CMMD)",
        ),
        Method(
            "pegasos",
            "ancestral.methods.pegasos",
            "Pegasos",
            "multi-class linear support vector machine (Pegasos)",
        ),
    )
}


def find(name: str) -> Method:
    """Return the registry entry of a command-line name or of a class name.

    Raises
    ------
    ValueError
        If the name is not registered; the message lists the registered names.

    Examples
    --------
    >>> find("VAE").name
    'vae'
    """
    for method in METHODS.values():
        if name in (method.name, method.class_name):
            return method
    raise ValueError(f"unknown method {name!r}{suggest(name, METHODS)}")


def load(path: Path | str) -> Estimator:
    """Load a fitted estimator of any class.

    Parameters
    ----------
    path : path
        Folder of a saved model, or of a run that contains one.

    Raises
    ------
    ancestral.storage.ModelFileError
        If the folder holds no saved model, a damaged one, or one of another format.
    """
    from ancestral import storage

    path = storage.model_folder(path)
    name = storage.load_model(path)[1].get("method", "")
    try:
        method = find(name)
    except ValueError as error:
        raise storage.ModelFileError(f"{path}: {error}") from None
    return method.load().load(path)
