"""Extension of griffe: the reference shows the inherited parameters of estimators.

Docstrings of estimators are completed when their classes are created
(`ancestral.utils.docstrings`), but mkdocstrings reads the source files. This extension, listed in
mkdocs.yml, replaces the docstrings from the sources by those of the classes.
"""

from __future__ import annotations

import inspect
from typing import Any

import griffe

from ancestral.estimators.base.estimator import Estimator


class InheritedParameters(griffe.Extension):
    """Replaces the docstring of an estimator by that of the imported class."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Replace the docstring if the class is an estimator."""
        if cls.path.count(".") < 2 or cls.docstring is None:
            return
        imported = griffe.dynamic_import(cls.path)
        if isinstance(imported, type) and issubclass(imported, Estimator):
            cls.docstring.value = inspect.getdoc(imported) or cls.docstring.value
