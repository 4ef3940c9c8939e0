"""The house rules that a machine can check: import order, import cost, names."""

import ast
import dataclasses
import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import ancestral
from ancestral.estimators.registry import METHODS

ROOT = Path(ancestral.__file__).parent
ORDER = [
    "_version",
    "utils",
    "data",
    "datasets",
    "nn",
    "probability",
    "models",
    "objectives",
    "training",
    "evaluation",
    "estimators",
    "experiments",
    "cli",
]
"""From the ground up: a package imports only from itself and those before it."""

FILES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")


def package(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path):
    """Names of the modules of this package that a file imports, inside functions too."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            if parts[0] == "ancestral":
                yield from [parts[1]] if len(parts) > 1 else [a.name for a in node.names]
        elif isinstance(node, ast.Import):
            yield from [a.name.split(".")[1] for a in node.names if a.name[:10] == "ancestral."]


def test_every_module_has_its_package():
    assert {package(p) for p in FILES} == set(ORDER)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_package_imports_only_from_those_before_it(path):
    own = ORDER.index(package(path))
    above = {name for name in imports(path) if ORDER.index(name) > own}
    assert above == set()


def run(code):
    return subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.parametrize(
    "code", ["import ancestral", "from ancestral.cli.parser import build_parser as b; b()"]
)
def test_light_imports(code):
    heavy = run(f"import sys; {code}; print([m for m in ('torch', 'sklearn', 'scipy', 'polars', "
                "'matplotlib', 'jinja2') if m in sys.modules])")  # fmt: skip
    assert heavy.strip() == "[]"


def test_importing_everything_costs_little_beyond_torch_and_scikit_learn():
    code = """
import time, torch, sklearn.base, sklearn.utils.validation
import torch.distributions, safetensors.torch
began = time.process_time()
from ancestral import VAE
print(time.process_time() - began)
"""
    assert min(float(run(code)) for _ in range(2)) < 0.5


def test_all_exported_names_are_there():
    for name in ancestral.__all__:
        assert getattr(ancestral, name) is not None
    assert set(ancestral.__all__) - {"__version__"} == set(ancestral._HOME)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ancestral.nothing  # noqa: B018


def test_the_reference_has_every_name_that_can_be_imported():
    page = (ROOT.parent.parent / "docs" / "reference.md").read_text()
    told = set(re.findall(r"^::: (\S+)$", page, re.MULTILINE))
    for name, home in ancestral._HOME.items():
        whole = f"ancestral.{home or name}"
        found = getattr(ancestral, name)
        places = {whole, f"{whole}.{name}", getattr(found, "__module__", whole)}
        inside = found.__name__ == whole and any(part.startswith(f"{whole}.") for part in told)
        assert places & told or inside, name


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_field_has_the_default_of_the_nearest_class_that_names_one(method):
    """A mixin that is made a dataclass of its own would bring back what others had changed."""
    cls = method.load()
    for field in dataclasses.fields(cls):
        nearest = next(c for c in cls.__mro__ if field.name in inspect.get_annotations(c))
        assert field.default == nearest.__dict__.get(field.name, dataclasses.MISSING), field.name


def test_no_function_is_long():
    long = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                docstring = ast.get_docstring(node, clean=False) or ""
                length = node.end_lineno - node.lineno + 1 - len(docstring.splitlines())
                if length > 60:
                    long.append(f"{path.name}:{node.name} {length}")
    assert long == []


def test_a_method_is_implemented_once():
    """Nothing that is implemented is overridden, but for what scikit-learn asks for."""
    asked = {"score", "__sklearn_tags__"}
    for path in FILES:
        name = ".".join(("ancestral", *path.relative_to(ROOT).with_suffix("").parts))
        for cls in vars(importlib.import_module(name.removesuffix(".__init__"))).values():
            if not isinstance(cls, type) or not cls.__module__.startswith("ancestral"):
                continue
            for base in cls.__mro__[1:]:
                if base.__module__.startswith("ancestral"):
                    there = {k for k, v in vars(base).items() if inspect.isfunction(v)}
                    open_ = getattr(base, "__abstractmethods__", frozenset())
                    again = there & vars(cls).keys() - open_ - asked
                    assert {k for k in again if not k.startswith("__")} == set(), (cls, base)
