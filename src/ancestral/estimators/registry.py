"""Registry of the estimators: name, module and summary of each, importable without torch.

An estimator class outside this package is named ``module:Class``. Only :func:`import_class` and
:func:`import_module`, which the command line calls for names that the user types, import its
module; a name in a file selects a class that is imported already.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
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
        Name on the command line; ``module:Class`` for a class outside this package.
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
        return getattr(importlib.import_module(self.module), self.class_name)


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
    """Return the entry of a command-line name, of a class name or of an imported ``module:Class``.

    Nothing outside this package is imported.

    Raises
    ------
    ValueError
        If the name is not registered, or names a module that is not imported or a class that is
        not an estimator.

    Examples
    --------
    >>> find("VAE").name
    'vae'
    """
    for method in METHODS.values():
        if name in (method.name, method.class_name):
            return method
    if ":" in name:
        return _find_imported(name)
    raise ValueError(f"unknown method {name!r}{suggest(name, METHODS)}")


def _find_imported(name: str) -> Method:
    """Return an entry for a class ``module:Class`` of a module that is imported already."""
    module_name, _, class_name = name.partition(":")
    module = sys.modules.get(module_name)
    if module is None:
        raise ValueError(
            f"method {name!r}: import {module_name} first, or use --import {module_name} on the "
            "command line"
        )
    cls = vars(module).get(class_name)  # not getattr, which could run code of the module
    if cls is None:
        names = [k for k, v in vars(module).items() if isinstance(v, type)]
        hint = suggest(class_name, names) if names else ""
        raise ValueError(f"method {name!r}: {module_name} has no class {class_name!r}{hint}")
    from ancestral.estimators.base.estimator import Estimator

    if not isinstance(cls, type) or not issubclass(cls, Estimator):
        raise ValueError(
            f"method {name!r}: {class_name} is no estimator: expected a subclass of "
            "ancestral.estimators.base.estimator.Estimator"
        )
    if inspect.isabstract(cls):
        raise ValueError(
            f"method {name!r}: {class_name} is an abstract class: implement "
            f"{', '.join(sorted(cls.__abstractmethods__))}"
        )
    return Method(name, module_name, class_name, "")


def import_class(name: str) -> type[Estimator]:
    """Import and return the estimator class of a name typed by the user.

    Parameters
    ----------
    name : str
        Name of a registered estimator, or ``module:Class``; the module is imported, from the
        current directory or an installed package.

    Raises
    ------
    ValueError
        If the name is unknown, the module can't be imported, or the class is missing or is not an
        estimator.
    """
    module_name, colon, class_name = name.partition(":")
    if colon:
        if not class_name:
            raise ValueError(f"method {name!r}: expected module:Class")
        import_module(module_name)
    return find(name).load()


def import_module(name: str) -> ModuleType:
    """Import a module named by the user, with the current directory on the path.

    The current directory is put first on ``sys.path``, as ``python -m`` does.

    Raises
    ------
    ValueError
        If there is no such module, or its import raises an exception.
    """
    if not all(part.isidentifier() for part in name.split(".")):
        raise ValueError(
            f"{name!r} is not the name of a module: expected a name such as my_package.my_module"
        )
    if not sys.flags.safe_path and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise _import_error(name, error) from error
        raise ValueError(
            f"there is no module {error.name}: expected a file in the current directory or an "
            "installed package"
        ) from None
    except Exception as error:
        raise _import_error(name, error) from error


def _import_error(name: str, error: Exception) -> ValueError:
    """Return an error that names the line at which the import of a module failed."""
    if isinstance(error, SyntaxError):
        place = f"{error.filename}:{error.lineno}"
    else:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{frame.filename}:{frame.lineno}"
    return ValueError(f"the import of {name} failed at {place}: {type(error).__name__}: {error}")


def find_saved(name: object) -> type[Estimator]:
    """Return the class that a saved model names; no module outside this package is imported.

    Raises
    ------
    ancestral.utils.serialization.ModelFileError
        If the class is unknown, or its module is not imported.
    """
    from ancestral.utils.serialization import ModelFileError

    module_name, colon, class_name = str(name).partition(":")
    if colon and module_name not in sys.modules:
        raise ModelFileError(
            f"this model was saved by {name}: import that module first, or use "
            f"--import {module_name} on the command line"
        )
    if colon and module_name == "__main__" and class_name not in vars(sys.modules["__main__"]):
        raise ModelFileError(
            f"this model was saved by a class {class_name} of a script or notebook: move the class "
            f"to a module, import it and load the model by {class_name}.load(path)"
        )
    try:
        return find(str(name)).load()
    except ValueError as error:
        raise ModelFileError(str(error)) from None


def load(path: Path | str) -> Estimator:
    """Load a fitted estimator of any class; no code is executed.

    Parameters
    ----------
    path : path
        Folder of a saved model, or of a run that contains one. If its class is not one of this
        package, import the module of the class first.

    Raises
    ------
    ancestral.utils.serialization.ModelFileError
        If the folder holds no saved model, a damaged one, one of another format, or one of a class
        that is not imported.
    """
    from ancestral.utils import serialization

    path = serialization.model_folder(path)
    name = serialization.load_model(path)[1].get("method", "")
    with serialization.prefix_errors(str(path)):
        cls = find_saved(name)
    return cls.load(path)
