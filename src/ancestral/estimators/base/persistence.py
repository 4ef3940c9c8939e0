"""Saving and loading of fitted estimators: a folder of weights and a description."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from torch import nn

from ancestral.training import History, engine
from ancestral.utils import distributed, files, serialization
from ancestral.utils.quantization import Bits, quantize
from ancestral.utils.validation import as_tuples

if TYPE_CHECKING:
    from ancestral.data.device_data import DeviceData
    from ancestral.estimators.base.estimator import Estimator


E = TypeVar("E", bound="Estimator")

NON_IDENTIFYING_PARAMS = ("checkpoint_path", "verbose", "random_state", "log_path")
"""Parameters that do not change a training, or are part of its identity in another form."""


def save(
    estimator: Estimator, path: Path | str, *, overwrite: bool, bits: Bits, whole: bool
) -> None:
    """Save a fitted estimator as a new folder; see ``Estimator.save``."""
    if distributed.is_main():
        files.write_folder(
            path, lambda folder: write_model(estimator, folder, bits, whole), overwrite=overwrite
        )


def write_model(estimator: Estimator, folder: Path, bits: Bits = 32, whole: bool = True) -> None:
    """Write the weights and the description of a fitted estimator into an existing folder."""
    omitted = estimator._omitted_weights if whole else estimator._training_only_prefixes
    weights = {
        f"{name}.{key}": value
        for name, module in estimator._modules().items()
        for key, value in module.state_dict().items()
        if not f"{name}.{key}".startswith(omitted)
    }
    details = {"history": list(estimator.history_), "versions": serialization.versions()}
    details |= {"left_out": list(omitted)} if omitted else {}
    serialization.save_model(folder, quantize(weights, bits), describe(estimator) | details)


def load(cls: type[E], path: Path | str) -> E:
    """Read a saved estimator of a class; see ``Estimator.load``."""
    weights, description = serialization.load_model(path)
    if not _is_saved_class(cls, str(description["method"])):
        raise serialization.ModelFileError(
            f"{path} holds a {description['method']}, not a {class_id(cls)}: "
            "ancestral.load(path) selects the class by itself"
        )
    try:
        estimator = from_description(cls, description)
        estimator.history_ = History(description["history"])
        with engine.single_precision():
            estimator._set_modules(estimator._build())
        estimator._omitted_weights = tuple(description.get("left_out", ()))
        for name, module in estimator._modules().items():
            _load_weights(module, f"{name}.", weights, estimator._omitted_weights)
    except serialization.ModelFileError as error:
        raise serialization.ModelFileError(f"{path}: {error}") from None
    except (KeyError, TypeError, RuntimeError, AttributeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise serialization.ModelFileError(
            f"{path}: its description does not fit its weights ({reason})"
        ) from None
    return estimator


def _load_weights(
    module: nn.Module, prefix: str, weights: Mapping[str, Any], left_out: tuple[str, ...]
) -> None:
    """Load the weights of one module; those that were left out keep their initial values."""
    initial = {f"{prefix}{k}": v for k, v in module.state_dict().items()}
    values = {k: v for k, v in initial.items() if k.startswith(left_out)} | dict(weights)
    module.load_state_dict(
        {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}
    )
    module.eval()


def describe(estimator: Estimator) -> dict[str, Any]:
    """Return the class, hyper-parameters and fitted attributes of an estimator, without weights."""
    fitted = {
        k: v
        for k, v in vars(estimator).items()
        if k.endswith("_") and k != "history_" and not isinstance(v, nn.Module)
    }
    local = {
        "random_state": estimator.seed_,
        "checkpoint_path": None,
        "log_path": None,
        "init_from": None,
    }
    params = estimator.get_params(deep=False) | local
    return {"method": class_id(type(estimator)), "params": params, "fitted": fitted}


def class_id(cls: type) -> str:
    """Return the name of a class in saved models: ``module:Class`` for one outside this package."""
    own = cls.__module__.startswith("ancestral.")
    return cls.__name__ if own else f"{cls.__module__}:{cls.__qualname__}"


def _is_saved_class(cls: type, saved: str) -> bool:
    """Whether a saved class name is that of a class, which may have moved to another module."""
    own, is_outside = class_id(cls), ":" in saved
    return saved == own or (":" in own and is_outside and saved.rpartition(":")[2] == cls.__name__)


def from_description(cls: type[E], description: Mapping[str, Any]) -> E:
    """Return the estimator of a description, without modules."""
    estimator = cls(**{k: as_tuples(v) for k, v in description["params"].items()})
    estimator.__dict__.update(description["fitted"])
    estimator.seed_ = int(estimator.seed_)
    estimator._is_loaded = True
    return estimator


def training_identity(estimator: Estimator, data: DeviceData) -> str:
    """Return a digest of everything that determines the result of a training."""
    params = estimator.get_params(deep=False)
    identifying = {k: v for k, v in params.items() if k not in NON_IDENTIFYING_PARAMS}
    training = [type(estimator).__name__, identifying, estimator.seed_, data.fingerprint()]
    return serialization.digest([*training, serialization.versions()])


def load_parameters(estimator: Estimator, path: str) -> None:
    """Initialise ``model_`` with the parameters of a saved model of the same architecture.

    Raises
    ------
    ValueError
        If the saved model has other parameters or shapes.
    """
    with serialization.prefix_errors(f"init_from={path!r}"):
        weights, description = serialization.load_model(serialization.model_folder(path))
    prefix = "model_."
    saved = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    try:
        estimator.model_.load_state_dict(saved)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip()
        raise ValueError(
            f"init_from={path!r} holds a {description['method']} of another shape than this one: "
            f"{reason}"
        ) from None
