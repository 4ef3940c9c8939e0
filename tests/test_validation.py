"""Tests of hyper-parameter validation, text parsing and docstring inheritance."""

from typing import Literal

import numpy as np
import pytest

from ancestral import VAE
from ancestral.estimators import registry
from ancestral.utils.docstrings import field_help, parse_parameters
from ancestral.utils.validation import (
    Count,
    Fraction,
    Positive,
    RandomState,
    Sizes,
    Weight,
    check_field,
    describe_hint,
    field_hints,
    parse_field,
)

NESTED = Sizes | tuple[Sizes, ...]

VALID = [
    (3, Count), (np.int64(3), Count), (0.5, Positive), (1, Positive), (np.float32(0.1), Positive),
    (0.0, Fraction), (True, bool), (None, Count | None), ((1, 2), Sizes), ([1, 2], Sizes),
    ((), Sizes), (((1,), (2, 3)), NESTED), ("auto", Count | Literal["auto"]),
    (np.random.default_rng(0), RandomState), (np.random.RandomState(0), RandomState),
]  # fmt: skip
INVALID = [
    (0, Count), (True, Count), (1.0, Count), ("3", Count), (0, Positive), (1.0, Fraction),
    (-0.1, Fraction), (float("nan"), Positive), (1, bool), ((1, 0), Sizes), (5, Sizes),
    ("often", Count | Literal["auto"]), (1.5, RandomState), (True, Literal[0, 1]),
    (float("inf"), Positive), (float("inf"), Weight),
]  # fmt: skip


@pytest.mark.parametrize(("value", "hint"), VALID, ids=str)
def test_check_accepts_valid_values(value, hint):
    check_field("field", value, hint)


@pytest.mark.parametrize(("value", "hint"), INVALID, ids=str)
def test_check_rejects_invalid_values(value, hint):
    with pytest.raises(ValueError, match=r"field=.*expected "):
        check_field("field", value, hint)


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("3", Count, 3),
        ("1e-3", Positive, 1e-3),
        ("500,500", Sizes, (500, 500)),
        ("500", Sizes, (500,)),
        ("500,", Sizes, (500,)),
        ("[]", Sizes, ()),
        ("[[200,200],[100]]", NESTED, ((200, 200), (100,))),
        ("50", Count | Sizes, 50),
        ("100,50", Count | Sizes, (100, 50)),
        ("none", Count | None, None),
        ("true", bool, True),
        ("auto", str | tuple[str, ...], "auto"),
        ("gaussian,poisson", str | tuple[str, ...], ("gaussian", "poisson")),
        ("a,b", str, "a,b"),
        ("0", Literal[0, 1], 0),
        ("7", RandomState, 7),
    ],
)
def test_parse_text(text, hint, value):
    assert parse_field("field", text, hint) == value


@pytest.mark.parametrize(
    ("text", "hint"), [("0", Count), ("a,b", Sizes), ("1.5", Count), ("", Count)]
)
def test_parse_rejects_invalid_text(text, hint):
    with pytest.raises(ValueError, match=r"field=.*expected"):
        parse_field("field", text, hint)


def test_describe_returns_readable_constraints():
    assert describe_hint(Count | Literal["auto"]) == "a whole number of at least 1, or auto"
    assert describe_hint(Fraction) == "a number of at least 0 and below 1"


@pytest.mark.parametrize("method", list(registry.METHODS))
def test_help_describes_every_field_without_markup(method):
    descriptions = field_help(registry.find(method).load())
    assert set(descriptions) == set(field_hints(registry.find(method).load()))
    assert not [text for text in descriptions.values() if not text or "`" in text]


def test_docstring_inherits_parameter_entries_of_base_classes():
    class Annealed(VAE):
        """VAE with further parameters.

        Parameters
        ----------
        warmup_steps, heat : int
            Annealing parameters.

        References
        ----------
        None.
        """

        warmup_steps: Count = 5
        heat: Count = 1

    docstring = Annealed.__doc__
    entries = parse_parameters(docstring)
    assert list(entries)[:3] == ["warmup_steps", "heat", "n_latent_samples"]
    expected = "warmup_steps, heat : int\n    Annealing parameters.\n"
    assert entries["warmup_steps"] == entries["heat"] == expected
    assert docstring.count("Other Parameters") == docstring.count("References") == 1
    assert docstring.endswith("None.")
