"""Saving and loading: a fitted estimator as a folder of weights and a description."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from sklearn.base import BaseEstimator
from torch import nn

from ancestral import engine, parallel, storage
from ancestral.fields import as_tuples, check
from ancestral.rounding import Bits, rounded
from ancestral.train import History


class Saved(BaseEstimator, ABC):
    """What can be written to a folder and read again: modules, and what is known beside them."""

    _trained_against: ClassVar[tuple[str, ...]] = ()
    """Weights that training alone needs, by how their names begin."""

    @abstractmethod
    def _build(self) -> dict[str, nn.Module]:
        """Make the modules (``model_`` among them) from fields and what ``_prepare`` learnt."""

    @abstractmethod
    def _check_fitted(self) -> None:
        """Raise if nothing was learnt yet."""

    def save(
        self, path: Path | str, *, overwrite: bool = False, bits: Bits = 32, whole: bool = True
    ) -> None:
        """Save the fitted estimator as a folder of safetensors and JSON, whole or not at all.

        Under ``torchrun``, where all processes hold the same model, the first one writes it.

        Parameters
        ----------
        path : path
            The folder to make.
        overwrite : bool
            Put it in the place of a folder that is there.
        bits : {32, 16, 12, 8}
            Of the numbers in matrices and kernels; see :func:`ancestral.rounding.rounded`. Fewer
            are for shipping; loading makes them float32 again.
        whole : bool
            With False, what only training needs (the critic of a game, the encoder whose codes a
            generator draws) is left out: the model loaded from it answers the same, but no training
            can start from it.

        Raises
        ------
        FileExistsError
            If ``path`` is there and ``overwrite`` false.
        sklearn.exceptions.NotFittedError
            If there is nothing to save yet.
        """
        self._check_fitted()
        check("bits", bits, Bits)
        if parallel.is_main():
            storage.write_folder(path, lambda f: self._write(f, bits, whole), overwrite=overwrite)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Load what :meth:`save` wrote, on the CPU; no code is executed.

        Raises
        ------
        ancestral.storage.ModelFileError
            If it is missing, damaged, altered, of another format, or of another system.
        """
        weights, description = storage.load_model(path)
        if description["method"] != cls.__name__:
            raise storage.ModelFileError(
                f"{path} holds a {description['method']}, not a {cls.__name__}: "
                "ancestral.load(path) finds the right class by itself"
            )
        try:
            estimator = cls._described(description)
            estimator.history_ = History(description["history"])
            with engine.single_precision():
                estimator._adopt(estimator._build())
            estimator._left_out = tuple(description.get("left_out", ()))
            for name, module in estimator._modules().items():
                prefix = f"{name}."
                own = {f"{prefix}{k}": v for k, v in module.state_dict().items()}
                untold = {k: v for k, v in own.items() if k.startswith(estimator._left_out)}
                there = {k: v for k, v in (untold | weights).items() if k.startswith(prefix)}
                module.load_state_dict({k.removeprefix(prefix): v for k, v in there.items()})
                module.eval()
        except (KeyError, TypeError, RuntimeError, AttributeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise storage.ModelFileError(
                f"{path}: its description does not fit its weights ({reason})"
            ) from None
        return estimator

    def _description(self) -> dict[str, Any]:
        """Return all that is known of the fitted estimator but its weights."""
        fitted = {
            k: v
            for k, v in vars(self).items()
            if k.endswith("_") and k != "history_" and not isinstance(v, nn.Module)
        }
        here = {"random_state": self.seed_, "checkpoint": None, "log": None, "start": None}
        params = self.get_params(deep=False) | here
        return {"method": type(self).__name__, "params": params, "fitted": fitted}

    @classmethod
    def _described(cls, description: Mapping[str, Any]) -> Self:
        """Return the estimator of a description, its modules yet to be made."""
        estimator = cls(**{k: as_tuples(v) for k, v in description["params"].items()})
        estimator.__dict__.update(description["fitted"])
        estimator.seed_ = int(estimator.seed_)
        estimator._as_described = True
        return estimator

    def _write(self, folder: Path, bits: Bits, whole: bool = True) -> None:
        left_out = self._left_out if whole else self._trained_against
        weights = {
            f"{name}.{key}": value
            for name, module in self._modules().items()
            for key, value in module.state_dict().items()
            if not f"{name}.{key}".startswith(left_out)
        }
        about = {"history": list(self.history_), "versions": storage.versions()}
        about |= {"left_out": list(left_out)} if left_out else {}
        storage.save_model(folder, rounded(weights, bits), self._description() | about)

    def _modules(self) -> dict[str, nn.Module]:
        return {k: v for k, v in vars(self).items() if isinstance(v, nn.Module)}

    def _adopt(self, modules: Mapping[str, nn.Module]) -> None:
        for name, module in modules.items():
            setattr(self, name, module)

    if TYPE_CHECKING:
        history_: History
        seed_: int
        _left_out: tuple[str, ...]
        _as_described: bool
