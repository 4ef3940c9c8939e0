"""Critic estimate of the Jensen-Shannon divergence against quadrature."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from ancestral.evaluation.jensen_shannon import jensen_shannon


def exact(p, q):
    """Jensen-Shannon divergence of two densities on the real line, in nats, by quadrature."""

    def integrand(x):
        mixture = (p(x) + q(x)) / 2
        return p(x) * np.log(p(x) / mixture) / 2 + q(x) * np.log(q(x) / mixture) / 2

    return quad(integrand, -12, 12)[0]


@pytest.mark.parametrize(("shift", "width"), [(2.0, 1.0), (1.0, 3.0)])
def test_jensen_shannon_matches_quadrature_for_gaussians(shift, width):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(60_000, 1)), rng.normal(shift, width, size=(60_000, 1))
    state = torch.get_rng_state()
    result = jensen_shannon(a, b, held_out=0.85, max_epochs=15, batch_size=300, hidden=(32, 32))
    expected = exact(norm.pdf, norm(shift, width).pdf)
    assert result.estimate.value == pytest.approx(expected, rel=0.02)
    assert abs(result.estimate.value - expected) < 4 * result.estimate.standard_error
    assert torch.equal(state, torch.get_rng_state())


def test_jensen_shannon_of_equal_distributions_is_zero_on_held_out_rows():
    a, b = np.random.default_rng(0).normal(size=(2, 2000, 3))
    result = jensen_shannon(a, b, max_epochs=20)
    assert result.estimate.value < 4 * result.estimate.standard_error
    assert result.training > result.estimate.value  # the critic overfits
    assert str(result).startswith("JSD >= ")


@pytest.mark.parametrize(
    "setting",
    [
        {"max_epochs": 0},
        {"hidden": (0,)},
        {"hidden": 5},
        {"learning_rate": -1.0},
        {"batch_size": 0},
    ],
    ids=str,
)
def test_jensen_shannon_error_names_invalid_setting(setting):
    a, b = np.random.default_rng(0).normal(size=(2, 50, 2))
    ((name, _),) = setting.items()
    with pytest.raises(ValueError, match=f"^{name}="):
        jensen_shannon(a, b, **setting)


@pytest.mark.parametrize(
    ("a", "b", "held_out", "message"),
    [
        (np.zeros((50, 2)), np.zeros((50, 3)), 0.5, "same number of features"),
        (np.zeros((50, 2)), np.zeros((12, 2)), 0.5, "at least 10 training and held-out rows"),
        (np.zeros((50, 2)), np.zeros((50, 2)), 1.0, "held_out=1.0"),
        (np.zeros((50, 2)), np.full((50, 2), np.nan), 0.5, "finite values"),
    ],
)
def test_jensen_shannon_rejects_invalid_samples(a, b, held_out, message):
    with pytest.raises(ValueError, match=message):
        jensen_shannon(a, b, held_out=held_out)
