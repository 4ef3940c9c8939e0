"""The divergence that a trained critic finds, beside the exact one."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from ancestral.divergence import jensen_shannon


def exact(p, q):
    """Jensen-Shannon divergence of two densities on the line, in nats, by quadrature."""

    def excess(x):
        middle = (p(x) + q(x)) / 2
        return p(x) * np.log(p(x) / middle) / 2 + q(x) * np.log(q(x) / middle) / 2

    return quad(excess, -12, 12)[0]


@pytest.mark.parametrize(("shift", "width"), [(2.0, 1.0), (1.0, 3.0)])
def test_a_critic_reaches_the_exact_divergence_of_gaussians(shift, width):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(60_000, 1)), rng.normal(shift, width, size=(60_000, 1))
    state = torch.get_rng_state()
    found = jensen_shannon(a, b, held_out=0.85, max_epochs=15, batch_size=300, hidden=(32, 32))
    truth = exact(norm.pdf, norm(shift, width).pdf)
    assert found.value == pytest.approx(truth, rel=0.02)
    assert abs(found.value - truth) < 4 * found.standard_error
    assert torch.equal(state, torch.get_rng_state())


def test_samples_of_one_distribution_are_not_told_apart():
    a, b = np.random.default_rng(0).normal(size=(2, 2000, 3))
    found = jensen_shannon(a, b, max_epochs=20)
    assert found.value < 4 * found.standard_error  # unseen rows tell no tales
    assert found.training > found.value  # those learnt from do
    assert str(found).startswith("JSD >= ")


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
def test_bad_settings_are_named(setting):
    a, b = np.random.default_rng(0).normal(size=(2, 50, 2))
    ((name, _),) = setting.items()
    with pytest.raises(ValueError, match=f"^{name}="):
        jensen_shannon(a, b, **setting)


@pytest.mark.parametrize(
    ("a", "b", "held_out", "message"),
    [
        (np.zeros((50, 2)), np.zeros((50, 3)), 0.5, "rows of the same columns"),
        (np.zeros((50, 2)), np.zeros((12, 2)), 0.5, "10 rows or more on either side"),
        (np.zeros((50, 2)), np.zeros((50, 2)), 1.0, "held_out=1.0"),
        (np.zeros((50, 2)), np.full((50, 2), np.nan), 0.5, "finite values"),
    ],
)
def test_bad_samples_are_named(a, b, held_out, message):
    with pytest.raises(ValueError, match=message):
        jensen_shannon(a, b, held_out=held_out)
