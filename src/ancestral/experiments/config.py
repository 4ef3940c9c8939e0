"""Configuration of a run."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tomli_w

from ancestral import datasets
from ancestral.estimators import registry
from ancestral.estimators.base.estimator import Estimator
from ancestral.utils.validation import as_tuples, check_field, field_hints, suggest

NON_MODEL_OPTIONS = (
    "init_from",
    "autoencoder",
    "base_model",
    "teacher",
    "verbose",
    "checkpoint_path",
    "log_path",
)
"""Options for paths of other files and for output. They do not change the fitted model."""


@dataclass
class Config:
    """Configuration of a run.

    Attributes
    ----------
    method : str
        Name of the estimator in the registry, or ``module:Class`` of an imported module.
    data : str
        Name of a data set, or the path of a file or folder.
    options : dict
        Estimator parameters that differ from their defaults.
    data_options : dict
        Keyword arguments of :func:`ancestral.datasets.load`.
    """

    method: str
    data: str
    options: dict[str, Any] = field(default_factory=dict)
    data_options: dict[str, Any] = field(default_factory=dict)

    def to_toml(self) -> str:
        """Configuration as TOML text."""
        tables = {
            title: {k: v for k, v in table.items() if v is not None}  # TOML has no null
            for title, table in (("options", self.options), ("data_options", self.data_options))
        }
        return tomli_w.dumps({"method": self.method, "data": self.data, **tables})

    def estimator(self) -> Estimator:
        """Create the estimator.

        Raises
        ------
        ValueError
            If an option is unknown or its value is invalid.
        """
        cls = registry.find(self.method).load()
        fields = field_hints(cls)
        for name, value in self.options.items():
            if name not in fields:
                raise ValueError(f"{cls.__name__} has no option {name!r}{suggest(name, fields)}")
            check_field(name, value, fields[name])
        return cls(**self.options)

    def without_run_options(self) -> Config:
        """Configuration without paths of other files and without output options."""
        return replace(
            self, options={k: v for k, v in self.options.items() if k not in NON_MODEL_OPTIONS}
        )

    def trains_same_model_as(self, other: Config) -> bool:
        """Whether both configurations train the same model."""
        return bool(
            as_tuples(vars(self.without_run_options()))
            == as_tuples(vars(other.without_run_options()))
        )

    def dataset(self) -> datasets.Dataset:
        """Load the data."""
        return datasets.load(self.data, **self.data_options)


def read_config(path: Path | str) -> Config:
    """Read a configuration from a TOML file.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is not TOML, or has an unknown key or an invalid value.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"config {path}: the file does not exist")
    try:
        table = as_tuples(tomllib.loads(Path(path).read_text("utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"config {path} is not valid TOML: {error}") from None
    keys = ("method", "data", "options", "data_options")
    for key, value in table.items():
        if key not in keys:
            raise ValueError(f"config {path}: unknown key {key!r}{suggest(key, keys)}")
        expected = str if key in ("method", "data") else dict
        if not isinstance(value, expected):
            raise ValueError(f"config {path}: {key}={value!r}: expected a {expected.__name__}")
    return Config(**{"method": "", "data": "", **table})
