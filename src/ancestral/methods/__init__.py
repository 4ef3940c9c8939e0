"""One file per system. The registry names them without importing torch."""

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
    """An entry of the registry.

    Attributes
    ----------
    name : str
        On the command line.
    module, class_name : str
        Where the estimator is.
    summary : str
        One line.
    """

    name: str
    module: str
    class_name: str
    summary: str

    def load(self) -> type[Estimator]:
        """Import the estimator's class."""
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
            "linear model of latent features (factor analysis, EM)",
        ),
        Method(
            "mixture",
            "ancestral.methods.mixture",
            "MixtureModel",
            "finite mixture (latent classes, EM)",
        ),
        Method(
            "belief-net",
            "ancestral.methods.belief",
            "BeliefNet",
            "sigmoid belief net (layers of latent bits, VIMCO)",
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
            "autoencoder (rows to codes and back)",
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
            "generative adversarial network, rows of a class",
        ),
        Method("gmmn", "ancestral.methods.gmmn", "GMMN", "moment-matching generator (MMD)"),
        Method(
            "cgmmn",
            "ancestral.methods.cgmmn",
            "CGMMN",
            "conditional moment-matching generator, rows of a class (CMMD)",
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
    )
}


def find(name: str) -> Method:
    """Return the method of that name, or of that class name.

    Raises
    ------
    ValueError
        If there is none; it lists those there are.

    Examples
    --------
    >>> find("VAE").name
    'vae'
    """
    for method in METHODS.values():
        if name in (method.name, method.class_name):
            return method
    raise ValueError(f"there is no method {name!r}{suggest(name, METHODS)}")


def load(path: Path | str) -> Estimator:
    """Load a fitted estimator of whatever method from the folder it was saved in, or of a run.

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
