"""Registry of the estimators: name, module and summary of each, importable without torch."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ancestral.utils.validation import suggest

if TYPE_CHECKING:
    from ancestral.estimators.base.estimator import Estimator


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
        Method("vae", "ancestral.estimators.vae", "VAE", "variational autoencoder (ELBO)"),
        Method("iwae", "ancestral.estimators.vae", "IWAE", "importance weighted autoencoder (L_K)"),
        Method(
            "memory-vae",
            "ancestral.estimators.memory_vae",
            "MemoryVAE",
            "variational autoencoder with memory and attention (MEM-VAE, MEM-IWAE)",
        ),
        Method(
            "factor-analysis",
            "ancestral.estimators.factor_analysis",
            "FactorAnalysis",
            "factor analysis and probabilistic PCA (EM)",
        ),
        Method(
            "mixture",
            "ancestral.estimators.mixture",
            "MixtureModel",
            "finite mixture model, latent class analysis (EM)",
        ),
        Method(
            "belief-net",
            "ancestral.estimators.belief_net",
            "BeliefNet",
            "sigmoid belief network (binary latent variables, VIMCO)",
        ),
        Method(
            "max-margin-vae",
            "ancestral.estimators.max_margin_vae",
            "MaxMarginVAE",
            "max-margin deep generative classifier (MMVA, CMMVA)",
        ),
        Method(
            "class-conditional-vae",
            "ancestral.estimators.class_conditional_vae",
            "ClassConditionalVAE",
            "semi-supervised variational autoencoder with the class as a latent variable (M2)",
        ),
        Method(
            "network-classifier",
            "ancestral.estimators.network_classifier",
            "NetworkClassifier",
            "dense or convolutional network with a multi-class hinge (CNN)",
        ),
        Method(
            "autoencoder",
            "ancestral.estimators.autoencoder",
            "Autoencoder",
            "deterministic autoencoder",
        ),
        Method(
            "pbp",
            "ancestral.estimators.pbp",
            "PBP",
            "Bayesian neural network (probabilistic backpropagation)",
        ),
        Method("gan", "ancestral.estimators.gan", "GAN", "generative adversarial network"),
        Method(
            "conditional-gan",
            "ancestral.estimators.gan",
            "ConditionalGAN",
            "class-conditional generative adversarial network",
        ),
        Method("gmmn", "ancestral.estimators.gmmn", "GMMN", "moment-matching network (MMD)"),
        Method(
            "cgmmn",
            "ancestral.estimators.cgmmn",
            "CGMMN",
            "class-conditional moment-matching network (CMMD)",
        ),
        Method(
            "cgmmn-classifier",
            "ancestral.estimators.cgmmn_supervised",
            "CGMMNClassifier",
            "conditional moment-matching classifier (CMMD)",
        ),
        Method(
            "cgmmn-regressor",
            "ancestral.estimators.cgmmn_supervised",
            "CGMMNRegressor",
            "conditional moment-matching regressor (CMMD)",
        ),
        Method(
            "pegasos",
            "ancestral.estimators.pegasos",
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
    ancestral.utils.serialization.ModelFileError
        If the folder holds no saved model, a damaged one, or one of another format.
    """
    from ancestral.utils import serialization

    path = serialization.model_folder(path)
    name = serialization.load_model(path)[1].get("method", "")
    try:
        method = find(name)
    except ValueError as error:
        raise serialization.ModelFileError(f"{path}: {error}") from None
    return method.load().load(path)
