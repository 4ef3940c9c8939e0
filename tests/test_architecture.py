"""Structure of the package: import order, import cost, class tree, public names."""

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
from ancestral.utils.hooks import is_hook

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
    assert set(ancestral.__all__) <= {"__version__", *ancestral._HOME, *ancestral._PACKAGES}
    assert set(ORDER) - {"_version"} == ancestral._PACKAGES
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        ancestral.nothing  # noqa: B018


def test_the_reference_has_every_name_that_can_be_imported():
    page = (ROOT.parent.parent / "docs" / "reference.md").read_text()
    listed = set(re.findall(r"^::: (\S+)$", page, re.MULTILINE))
    for name, module in ancestral._HOME.items():
        definition = getattr(ancestral, name)
        places = {f"ancestral.{module}", f"ancestral.{module}.{name}", definition.__module__}
        assert {*places, f"{definition.__module__}.{name}"} & listed, name


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


def own_classes():
    for path in FILES:
        name = ".".join(("ancestral", *path.relative_to(ROOT).with_suffix("").parts))
        for cls in vars(importlib.import_module(name.removesuffix(".__init__"))).values():
            if isinstance(cls, type) and cls.__module__.startswith("ancestral"):
                yield cls


def test_only_hooks_and_abstract_methods_are_overridden():
    """Every other method of a base class is final, except those that scikit-learn asks for."""
    allowed = {"score", "__sklearn_tags__"}
    for cls in set(own_classes()):
        for base in cls.__mro__[1:]:
            if not base.__module__.startswith("ancestral"):
                continue
            methods = {
                name
                for name, value in vars(base).items()
                if inspect.isfunction(value) or isinstance(value, property)
            }
            abstract = getattr(base, "__abstractmethods__", frozenset())
            hooks = {name for name in methods if is_hook(vars(base)[name])}
            overridden = (methods & vars(cls).keys()) - abstract - hooks - allowed
            assert {n for n in overridden if not n.startswith("__")} == set(), (cls, base)


def test_class_tree_is_shallow():
    for method in METHODS.values():
        above = [b for b in method.load().__mro__[1:] if b.__module__.startswith("ancestral")]
        assert len(above) <= (6 if method.name == "vae" else 8), (method.name, above)


def test_base_classes_do_not_inspect_their_subclasses():
    for path in (ROOT / "estimators" / "base").glob("*.py"):
        assert "isinstance(self," not in path.read_text(), path.name
