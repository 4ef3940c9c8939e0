"""Two processes that share every batch against one, this one, that has it all."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from ancestral import parallel
from ancestral.distributions import draw
from ancestral.networks import BatchNorm
from ancestral.parallel import World
from shared_batches import CASES, fitted

SCRIPT = str(Path(__file__).with_name("shared_batches.py"))


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """What each case comes to here, uncompiled, and in two processes."""
    one = {
        name: fitted(make, objective, **how | {"compile": False})
        for name, (make, objective, how) in CASES.items()
    }
    out = tmp_path_factory.mktemp("processes") / "two.json"
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *torchrun, SCRIPT, str(out)]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    return one, json.loads(out.read_text())


@pytest.mark.parametrize("name", CASES)
def test_two_processes_train_the_model_that_one_trains(name, ends):
    one, two = (end[name] for end in ends)
    np.testing.assert_allclose(two["end"], one["end"], atol=2e-5, rtol=2e-4)
    for ours, theirs in zip(two["history"], one["history"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


def test_a_loss_that_compares_rows_is_refused(ends):
    assert "mmd" in ends[1]["mmd"]
    assert "can't share its batches" in ends[1]["mmd"]


@pytest.mark.parametrize(
    "p",
    [
        Normal(torch.arange(6.0).view(3, 2), torch.ones(3, 2)),
        MultivariateNormal(torch.arange(6.0).view(3, 2), scale_tril=torch.eye(2).expand(3, 2, 2)),
    ],
)
def test_shares_of_a_draw_make_up_the_whole_one(p):
    rows = [type(p)(p.loc[i : i + 1], **_scale(p, i), validate_args=False) for i in range(3)]
    torch.manual_seed(0)
    whole = draw(p, (4,))
    for rank, row in enumerate(rows):
        torch.manual_seed(0)
        with parallel.splitting(World(rank, 3)):
            torch.testing.assert_close(draw(row, (4,)), whole[:, rank : rank + 1])


def _scale(p, i):
    name = "scale_tril" if isinstance(p, MultivariateNormal) else "scale"
    return {name: getattr(p, name)[i : i + 1]}


def test_alone_nothing_is_split():
    u = torch.randn(4, 2)
    assert parallel.world() == World(0, 1)
    assert parallel.share(u) is u
    assert parallel.mean(u) is u
    assert torch.isfinite(BatchNorm(2)(u)).all()
