"""Variances of posterior means, for counting active latent units."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ancestral.data.device_data import DeviceData
from ancestral.models.latent import LatentModel
from ancestral.probability.distributions import rsample_or_sample
from ancestral.training import engine


@torch.no_grad()
def unit_variances(
    model: LatentModel, data: DeviceData, *, n_samples: int = 100, seed: int = 0
) -> np.ndarray:
    """Variance over rows of each latent unit's posterior mean, Var_x(E_q[z | x]), [n_latents].

    The posterior of an unused unit does not depend on x and its variance is zero. Units above 0.01
    are called active (Burda et al., 2016, section 5.2).

    Parameters
    ----------
    model : LatentModel
        Model in evaluation mode.
    data : Data
        Rows to encode.
    n_samples : int
        Number of samples of z per row, at least 2. Each half gives an independent estimate of the
        posterior mean; the covariance of the two estimates over rows is unbiased for any number of
        samples and any posterior.
    seed : int
        Seed of the samples. The global random state is not changed.

    Raises
    ------
    ValueError
        If there are fewer than two rows or samples.
    """
    if len(data) < 2 or n_samples < 2:
        raise ValueError(
            f"data with {len(data)} rows, n_samples={n_samples}: expected at least 2 of each"
        )
    halves: list[list[Tensor]] = [[], []]
    with engine.fork_rng(data.device):
        for chunk, (batch, n_rows) in enumerate(data.padded_chunks(min(100, len(data)))):
            engine.seed(seed, chunk)
            z = rsample_or_sample(model.encode(batch), (2 * (n_samples // 2),))
            for means, half in zip(
                halves, z.to(engine.widest_float_dtype(data.device)).chunk(2), strict=True
            ):
                means.append(half.mean(0)[:n_rows])
    first, second = (torch.cat(means) for means in halves)
    covariance = ((first - first.mean(0)) * (second - second.mean(0))).sum(0) / (len(first) - 1)
    return covariance.cpu().numpy()
