"""Data sets on a device: minibatches, masks, transforms and fingerprints."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ancestral.data.device_data import DeviceData, sample_bernoulli
from ancestral.utils.random import mix_seed

RNG = np.random.default_rng(0)


@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.integers(1, 50), st.integers(1, 60), st.booleans(), st.integers(0, 3))
def test_epoch_visits_every_row_in_batches_of_constant_size(n, size, shuffle, epoch):
    data = DeviceData(RNG.random((n, 2)))
    batches = list(data.batch_indices(size, seed=1, epoch=epoch, shuffle=shuffle))
    assert {len(b) for b in batches} == {min(size, n)}
    assert len(batches) == -(-n // min(size, n))
    order = torch.cat(batches)
    assert set(order.tolist()) == set(range(n))
    assert len(set(order[:n].tolist())) == n  # each once, before the last batch is completed


def test_batch_order_is_determined_by_seed_and_epoch():
    data = DeviceData(RNG.random((30, 2)))
    order = {
        (s, e): torch.cat(list(data.batch_indices(7, seed=s, epoch=e))).tolist()
        for s in (0, 1)
        for e in (0, 1)
    }
    assert len({tuple(o) for o in order.values()}) == 4
    assert torch.cat(list(data.batch_indices(7, seed=1, epoch=1))).tolist() == order[1, 1]


@settings(deadline=None, derandomize=True, max_examples=30)
@given(st.integers(1, 40), st.integers(1, 50))
def test_padded_chunks_have_constant_size_and_cover_all_rows(n, size):
    x = RNG.random((n, 3))
    chunks = [(b.x, k) for b, k in DeviceData(x, dtype=torch.float64).padded_chunks(size)]
    assert {len(chunk) for chunk, _ in chunks} == {size}
    np.testing.assert_array_equal(torch.cat([chunk[:k] for chunk, k in chunks]), x)


def test_missing_entries_are_zero_and_masked():
    x = np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, np.nan]])
    batch = DeviceData(x, missing=True, batch_transform=lambda rows: rows + 10).batch_at(
        torch.tensor([0, 1])
    )
    np.testing.assert_array_equal(batch.x, [[11, 0, 13], [0, 0, 0]])
    np.testing.assert_array_equal(batch.mask, [[1, 0, 1], [0, 0, 0]])


def test_bytes_are_scaled_when_batch_is_taken():
    data = DeviceData(np.array([[0, 51, 255]], dtype=np.uint8), unit=1 / 255)
    assert data.x.dtype == torch.uint8
    torch.testing.assert_close(data.batch_at(torch.tensor([0])).x, torch.tensor([[0.0, 0.2, 1.0]]))


def test_float64_offset_is_subtracted_before_cast_to_float32():
    x = 1.6e9 + np.array([[0.25], [0.5]])
    batch = DeviceData(x, batch_transform=lambda rows: rows - 1.6e9).batch_at(torch.tensor([0, 1]))
    np.testing.assert_array_equal(batch.x, [[0.25], [0.5]])


def test_epoch_transform_is_constant_within_epoch():
    data = DeviceData(np.full((100, 20), 0.5), epoch_transform=sample_bernoulli)
    rows = torch.arange(100)
    torch.manual_seed(0)
    data.start_epoch()
    first = data.batch_at(rows).x
    assert torch.equal(data.batch_at(rows).x, first)
    assert set(first.unique().tolist()) == {0.0, 1.0}
    data.start_epoch()
    assert not torch.equal(data.batch_at(rows).x, first)


def test_epoch_transform_of_memory_mapped_rows_is_applied_per_batch(tmp_path):
    np.save(tmp_path / "x.npy", np.full((50, 20), 0.5, dtype=np.float32))
    data = DeviceData(np.load(tmp_path / "x.npy", mmap_mode="r"), epoch_transform=sample_bernoulli)
    data.start_epoch()
    assert set(data.batch_at(torch.arange(50)).x.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    "x", [np.arange(12.0).reshape(4, 3)[::-1], np.arange(12.0).reshape(3, 4).T]
)
def test_arrays_of_any_memory_layout(x):
    np.testing.assert_array_equal(DeviceData(x, dtype=torch.float64).batch_at(torch.arange(4)).x, x)


def test_fingerprint_depends_on_values_order_and_dtype():
    x = RNG.random((500, 3))
    assert DeviceData(x).fingerprint() == DeviceData(x.copy()).fingerprint()
    others = [x[::-1], x[:-1], x.astype(np.float32), x + 1]
    assert len({DeviceData(o).fingerprint() for o in [x, *others]}) == 5


def test_mix_seed_is_injective_for_small_integers():
    seeds = {mix_seed(a, b) for a in range(30) for b in range(30)}
    assert len(seeds) == 900
    assert all(0 <= s < 2**63 for s in seeds)
