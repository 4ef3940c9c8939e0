"""The reference shows estimators as `help` does: with the parameters that they inherit.

Docstrings of estimators are completed when their classes are made (`ancestral.utils.docstrings`),
and mkdocstrings reads the sources; this extension of griffe, named in mkdocs.yml, gives it what the
classes themselves say.
"""

from __future__ import annotations

import inspect
from typing import Any

import griffe

from ancestral.estimators.base.estimator import Estimator


class InheritedParameters(griffe.Extension):
    """Puts the docstring of the class in the place of the one in its source."""

    def on_class(self, *, cls: griffe.Class, **_: Any) -> None:
        """Complete a class that is an estimator."""
        if cls.path.count(".") < 2 or cls.docstring is None:
            return
        found = griffe.dynamic_import(cls.path)
        if isinstance(found, type) and issubclass(found, Estimator):
            cls.docstring.value = inspect.getdoc(found) or cls.docstring.value
