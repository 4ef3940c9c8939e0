"""Tests of data-parallel training: two processes against one."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from ancestral.nn import BatchNorm
from ancestral.probability.distributions import rsample_or_sample
from ancestral.utils import distributed
from ancestral.utils.distributed import World
from train_data_parallel import CASES, train_small_model

SCRIPT = str(Path(__file__).with_name("train_data_parallel.py"))


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results of every case in this process, without compilation, and in two processes."""
    one_process = {
        name: train_small_model(make_model, objective, **options | {"compile": False})
        for name, (make_model, objective, options) in CASES.items()
    }
    path = tmp_path_factory.mktemp("processes") / "two.json"
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *torchrun, SCRIPT, str(path)]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    return one_process, json.loads(path.read_text())


@pytest.mark.parametrize("name", CASES)
def test_training_in_two_processes_matches_one_process(name, results):
    one, two = (result[name] for result in results)
    np.testing.assert_allclose(two["parameters"], one["parameters"], atol=2e-5, rtol=2e-4)
    for record, expected in zip(two["history"], one["history"], strict=True):
        assert record == pytest.approx(expected, rel=1e-5)


def test_objective_that_compares_samples_is_rejected_in_two_processes(results):
    assert "mmd" in results[1]["mmd"]
    assert "can't be split among 2 processes" in results[1]["mmd"]


@pytest.mark.parametrize(
    "p",
    [
        Normal(torch.arange(6.0).view(3, 2), torch.ones(3, 2)),
        MultivariateNormal(torch.arange(6.0).view(3, 2), scale_tril=torch.eye(2).expand(3, 2, 2)),
    ],
)
def test_samples_of_shards_equal_slices_of_full_batch_sample(p):
    shards = [type(p)(p.loc[i : i + 1], **_scale(p, i), validate_args=False) for i in range(3)]
    torch.manual_seed(0)
    full_sample = rsample_or_sample(p, (4,))
    for rank, shard in enumerate(shards):
        torch.manual_seed(0)
        with distributed.sharded_batch(World(rank, 3)):
            torch.testing.assert_close(
                rsample_or_sample(shard, (4,)), full_sample[:, rank : rank + 1]
            )


def _scale(p, i):
    name = "scale_tril" if isinstance(p, MultivariateNormal) else "scale"
    return {name: getattr(p, name)[i : i + 1]}


def test_single_process_does_not_split_or_average():
    u = torch.randn(4, 2)
    assert distributed.world() == World(0, 1)
    assert distributed.local_shard(u) is u
    assert distributed.all_reduce_mean(u) is u
    assert torch.isfinite(BatchNorm(2)(u)).all()
