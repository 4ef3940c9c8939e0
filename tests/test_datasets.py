"""Data sets: published counts and means, round trips of file formats, and errors for damaged files.

Downloads use a local server only."""

from __future__ import annotations

import gzip
import hashlib
import inspect
import json
import os
import subprocess
import sys
import threading
import zipfile
from dataclasses import FrozenInstanceError, replace
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image

from ancestral import datasets
from ancestral.cli.main import main
from ancestral.datasets import DataError, archive_formats, content_checksum, download, load, svhn
from ancestral.datasets.builders import BOSTON_SPLITS, grey_image_builder, read_idx_splits
from ancestral.datasets.catalogue import ENTRIES, IDX_FILES, Entry, FileLayout
from ancestral.datasets.catalogue_loading import load_entry
from ancestral.datasets.download import RemoteFile

DATA = os.environ.get("ANCESTRAL_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="ANCESTRAL_DATA names no folder with the data")


@pytest.fixture(autouse=True)
def _isolated(monkeypatch, tmp_path):
    """Replace the user's cache folder, and bypass proxies."""
    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(
        "ancestral.datasets.catalogue_loading.cache_folder", lambda: tmp_path / "cache"
    )
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def no_data(monkeypatch):
    monkeypatch.delenv("ANCESTRAL_DATA", raising=False)


# ------------------------------------------------------------- catalogue, against published facts

SHAPES = {
    "digits": (1500, 0, 297, 64, "float32"),
    "mnist": (60_000, 0, 10_000, 784, "uint8"),
    "binarized_mnist": (50_000, 10_000, 10_000, 784, "bool"),
    "fashion_mnist": (60_000, 0, 10_000, 784, "uint8"),
    "ocr_letters": (32_152, 10_000, 10_000, 128, "bool"),
    "omniglot": (24_345, 0, 8_115, 784, "uint8"),
    "frey_faces": (1_865, 0, 100, 560, "uint8"),
    "boston_housing": (455, 0, 51, 13, "float64"),
    "svhn_part": (7_000, 1_000, 2_000, 3_072, "uint8"),
}
LETTER_COUNTS = [
    *(4034, 1284, 2114, 1442, 4955, 921, 2472, 861, 4913, 189, 909, 3140, 1602),
    *(5024, 3897, 1377, 341, 2673, 1394, 2136, 2562, 664, 520, 413, 1221, 1094),
]


load_cached = cache(load)  # several tests use the larger data sets


def concatenate_splits(data, key):
    return np.concatenate([a for name, a in data.arrays().items() if name.startswith(key)])


def counts(y):
    return np.bincount(y).tolist()


@pytest.mark.parametrize(
    "name", [n if n == "digits" else pytest.param(n, marks=needs_data) for n in SHAPES]
)
def test_sizes_dtype_and_checksum(name):
    data = load_cached(name)
    *sizes, width, dtype = SHAPES[name]
    splits = (data.x_train, data.x_valid, data.x_test)
    assert [0 if x is None else len(x) for x in splits] == sizes
    assert all(x.shape[1] == width and x.dtype == dtype for x in splits if x is not None)
    assert all(x.flags.writeable for x in splits if x is not None)
    assert data.checksum == content_checksum(data.arrays()) == ENTRIES[name].checksums[0]
    assert data.source
    assert data.licence


def test_digits_equal_scikit_learn_digits():
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    data = load_cached("digits")
    rows = np.concatenate(
        [concatenate_splits(data, "x") * 16, concatenate_splits(data, "y")[:, None]], axis=1
    )
    assert sorted(map(tuple, rows)) == sorted(map(tuple, np.c_[x, y]))
    # Stratified: the class counts of the 297 test rows are proportional, to within one row.
    share = np.bincount(y) * 297 / 1797
    assert np.all(np.abs(np.bincount(data.y_test) - share) < 1)


@needs_data
def test_mnist_counts_and_mean():
    data = load_cached("mnist")
    train = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    test = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert counts(data.y_train) == train
    assert counts(data.y_test) == test
    assert data.x_train.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert data.x_train.std() / 255 == pytest.approx(0.3081, abs=5e-5)


@needs_data
def test_binarized_mnist_means_agree_with_mnist():
    data = load_cached("binarized_mnist")
    means = [data.x_train.mean(), data.x_valid.mean(), data.x_test.mean()]
    assert means == pytest.approx([0.130562, 0.131127, 0.132512], abs=5e-7)
    # Pixels are Bernoulli samples of the grey values, so their means over the test set agree.
    grey = load_cached("mnist").x_test.mean(axis=0) / 255
    assert np.abs(data.x_test.mean(axis=0) - grey).max() < 5 * 0.5 / np.sqrt(10_000)


@needs_data
def test_fashion_mnist_counts_and_mean():
    data = load_cached("fashion_mnist")
    assert counts(data.y_train) == [6000] * 10
    assert counts(data.y_test) == [1000] * 10
    assert data.x_train.mean() / 255 == pytest.approx(0.2860, abs=5e-5)
    assert data.x_train.std() / 255 == pytest.approx(0.3530, abs=5e-5)


@needs_data
def test_letter_counts_and_mean():
    data = load_cached("ocr_letters")
    assert counts(concatenate_splits(data, "y")) == LETTER_COUNTS
    assert concatenate_splits(data, "x").mean() == pytest.approx(0.21968, abs=5e-6)
    # The letters are shuffled: every letter is in every split.
    assert len(np.unique(data.y_test)) == len(np.unique(data.y_valid)) == 26


@needs_data
def test_omniglot_counts_and_mean():
    data = load_cached("omniglot")
    assert counts(data.y_train) == [15] * 1623
    assert counts(data.y_test) == [5] * 1623
    assert concatenate_splits(data, "x").mean() / 255 == pytest.approx(0.0805, abs=5e-5)


@needs_data
def test_frey_faces_mean_std_and_range():
    x = concatenate_splits(load_cached("frey_faces"), "x")
    assert x.mean() / 255 == pytest.approx(0.6057, abs=5e-5)
    assert x.std() / 255 == pytest.approx(0.1761, abs=5e-5)
    assert (x.min(), x.max()) == (8, 238)


@needs_data
def test_svhn_part_counts_and_pixel_order():
    data = load_cached("svhn_part")
    expected = [684, 1968, 1590, 1104, 964, 909, 773, 767, 621, 620]
    assert counts(concatenate_splits(data, "y")) == expected
    with np.load(Path(DATA) / "svhn" / "svhn_test_first10000.npz") as file:
        image = file["x_test"][8_000]
    assert np.array_equal(data.x_test[0].reshape(data.image_shape), image.transpose(2, 0, 1))


@needs_data
def test_boston_housing_targets_and_twenty_distinct_splits():
    checksums = set()
    for split in range(BOSTON_SPLITS):
        data = load("boston_housing", split=split)
        y = concatenate_splits(data, "y")
        assert (y.mean(), y.std()) == pytest.approx((22.5328, 9.1880), abs=5e-5)
        checksums.add(data.checksum)
    assert len(checksums) == BOSTON_SPLITS
    assert data.feature_names[5] == "RM"
    assert np.corrcoef(concatenate_splits(data, "x")[:, 5], y)[0, 1] == pytest.approx(
        0.695, abs=1e-3
    )


def test_boston_housing_rejects_split_out_of_range():
    with pytest.raises(DataError, match="0 to 19"):
        ENTRIES["boston_housing"].build({"x": np.zeros((506, 13)), "y": np.zeros(506)}, split=20)


# ------------------------------------------- public original files, compared with the .npz copies


@needs_data
def test_ocr_letters_do_not_depend_on_row_order_of_file(tmp_path, monkeypatch):
    with np.load(Path(DATA) / "ocr_letters" / "ocr_letters.npz") as file:
        x, y = file["x"].reshape(-1, 128), file["y"]
    order = np.random.default_rng(0).permutation(len(x))
    line = np.frombuffer(b"7\t?\t-1\t1\t1\t0\t" + b"?\t" * 128 + b"\n", np.uint8)
    text = np.tile(line, (len(x), 1))
    text[:, 2] = y[order] + ord("a")
    text[:, -257:-1:2] = x[order] + ord("0")
    folder = tmp_path / "ocr_letters"
    folder.mkdir()
    (folder / "letter.data.gz").write_bytes(gzip.compress(text.tobytes(), 1))
    monkeypatch.setenv("ANCESTRAL_DATA", str(tmp_path))
    assert load("ocr_letters").checksum == ENTRIES["ocr_letters"].checksums[0]


@needs_data
def test_binarized_mnist_from_text_equals_npz(tmp_path):
    arrays = {name: x[:300] for name, x in load_cached("binarized_mnist").arrays().items()}
    layout = ENTRIES["binarized_mnist"].layouts[1]
    for file, name in zip(layout.files, ("x_train", "x_valid", "x_test"), strict=True):
        np.savetxt(tmp_path / file.name, arrays[name], fmt="%d")
    raw = layout.read(*(tmp_path / file.name for file in layout.files))
    assert content_checksum(raw) == content_checksum(arrays)


@needs_data
def test_frey_faces_from_mat_and_boston_housing_from_text_equal_npz(tmp_path, monkeypatch):
    from scipy.io import savemat

    with np.load(Path(DATA) / "frey_faces" / "frey_faces.npz") as file:
        frames = file["x"].reshape(-1, 560).T
    rows = (Path(DATA) / "boston_housing" / "boston_housing.txt").read_text().splitlines()
    lines = ("\n  ".join([" ".join(r.split()[:11]), " ".join(r.split()[11:])]) for r in rows)
    for name in ("frey_faces", "boston_housing"):
        (tmp_path / name).mkdir()
    savemat(tmp_path / "frey_faces" / "frey_rawface.mat", {"ff": frames})
    header = " The Boston house-price data of 1978\n CRIM  per capita crime rate by town\n\n"
    (tmp_path / "boston_housing" / "boston").write_text(header + "\n".join(lines))
    monkeypatch.setenv("ANCESTRAL_DATA", str(tmp_path))
    for name in ("frey_faces", "boston_housing"):
        assert load(name).checksum == ENTRIES[name].checksums[0]


@needs_data
def test_downsampled_omniglot_drawings_equal_npz():
    with np.load(Path(DATA) / "omniglot" / "omniglot_28x28.npz") as file:
        expected = {x.tobytes() for x in file["x"]}
    with np.load(Path(DATA) / "omniglot" / "images_evaluation.npz") as file:
        drawings = file["images"][::60].reshape(-1, 105, 105)
    assert all(
        archive_formats.downsample_drawing(~drawing).tobytes() in expected for drawing in drawings
    )


def test_downsampling_of_drawings_preserves_mean():
    ink = np.random.default_rng(0).random((105, 105)) < 0.3
    assert archive_formats.downsample_drawing(ink).mean() / 255 == pytest.approx(
        ink.mean(), abs=1e-3
    )
    assert np.all(archive_formats.downsample_drawing(np.ones((105, 105), bool)) == 255)


def test_read_drawings_from_zip(tmp_path):
    ink = np.zeros((105, 105), bool)
    ink[:15, :15] = True  # four by four target pixels
    stream = BytesIO()
    Image.fromarray(~ink).save(stream, "png")
    path = tmp_path / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images/Latin/character02/0683_07.png", stream.getvalue())
        archive.writestr("__MACOSX/images/Latin/._0683_07.png", b"")
    drawings = archive_formats.read_drawings(path)
    assert list(drawings) == [(683, 7)]
    assert drawings[683, 7].sum() == 16 * 255
    assert np.all(drawings[683, 7][:4, :4] == 255)


# ---------------------------------------------------------------------- SVHN from synthetic files


def numbered_images(numbers):
    """Images (32, 32, 3, n) that encode their number in two pixels of different channels."""
    x = np.zeros((32, 32, 3, len(numbers)), np.uint8)
    x[0, 1, 0], x[2, 0, 2] = numbers % 256, numbers // 256
    return x


@pytest.fixture
def svhn_folder(tmp_path, monkeypatch):
    from scipy.io import savemat

    monkeypatch.setattr(svhn, "VALID_FROM_TRAIN", 4)
    monkeypatch.setattr(svhn, "VALID_FROM_EXTRA", 2)
    monkeypatch.setattr(svhn, "IMAGES_PER_BLOCK", 7)
    (tmp_path / "svhn").mkdir()
    start = 0
    for split, n in (("train", 110), ("extra", 230), ("test", 40)):
        numbers = np.arange(start, start + n)
        content = {"X": numbered_images(numbers), "y": (numbers % 10 + 1)[:, None]}
        savemat(tmp_path / "svhn" / f"{split}_32x32.mat", content)
        start += n
    return tmp_path


def test_svhn_training_and_validation_rows_are_a_stratified_partition(svhn_folder):
    paths = [svhn_folder / "svhn" / f"{s}_32x32.mat" for s in ("train", "extra", "test")]
    raw = svhn.read_svhn(*paths)
    numbers = {}
    for split in ("train", "valid", "test"):
        x = raw[f"x_{split}"].reshape(-1, 3, 32, 32)
        numbers[split] = x[:, 0, 0, 1].astype(int) + 256 * x[:, 2, 2, 0].astype(int)
        assert np.array_equal(raw[f"y_{split}"], (numbers[split] % 10 + 1) % 10)
    assert np.array_equal(numbers["test"], np.arange(340, 380))
    assert np.array_equal(np.sort(np.r_[numbers["train"], numbers["valid"]]), np.arange(340))
    assert counts(raw["y_valid"]) == [6] * 10
    assert counts(raw["y_valid"][:40]) == [4] * 10
    assert np.all(numbers["valid"][:40] < 110)


def test_svhn_files_are_verified_by_published_checksums(svhn_folder, monkeypatch):
    monkeypatch.setenv("ANCESTRAL_DATA", str(svhn_folder))
    with pytest.raises(DataError, match=r"train_32x32\.mat: md5 is .* expected e26dedcc"):
        load("svhn")
    layout = ENTRIES["svhn"].layouts[0]
    unchecked = tuple(replace(file, checksum=None) for file in layout.files)
    data = load_entry(replace(ENTRIES["svhn"], layouts=(replace(layout, files=unchecked),)))
    assert data.checksum == content_checksum(data.arrays())
    assert data.image_shape == (3, 32, 32)


def test_svhn_recipe_runs_on_synthetic_files(svhn_folder, monkeypatch, tmp_path, capsys):
    from scipy.io import loadmat, savemat

    for path in (svhn_folder / "svhn").glob("*.mat"):
        y = loadmat(path)["y"]
        noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3, len(y)), dtype=np.uint8)
        savemat(path, {"X": noise, "y": y})
    entry = ENTRIES["svhn"]
    layout = entry.layouts[0]
    unchecked = tuple(replace(file, checksum=None) for file in layout.files)
    monkeypatch.setitem(
        ENTRIES, "svhn", replace(entry, layouts=(replace(layout, files=unchecked),))
    )
    monkeypatch.setenv("ANCESTRAL_DATA", str(svhn_folder))
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "svhn-classes/cmmva", "--size", "smoke", "--select"]) == 0
    assert (
        capsys.readouterr().out.count("training") == 2
    )  # the classifier first, then the full model
    record = json.loads((tmp_path / "results/svhn-classes/cmmva/smoke-0-valid.json").read_text())
    assert record["data_options"] == {"contrast": True, "n_train": 200}
    assert record["evaluations"][0]["n_rows"] == 50


def test_svhn_error_suggests_svhn_part_if_only_its_file_is_present(tmp_path, monkeypatch):
    (tmp_path / "svhn").mkdir()
    (tmp_path / "svhn" / "svhn_test_first10000.npz").touch()
    monkeypatch.setenv("ANCESTRAL_DATA", str(tmp_path))
    with pytest.raises(DataError, match="'svhn_part'"):
        load("svhn")


# ------------------------------------------------------------------- damaged files of the catalogue


def idx(array):
    head = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    return head + array.astype(np.uint8).tobytes()


@pytest.fixture
def tiny():
    """Catalogue entry with the file layout of MNIST, and the contents of its files."""
    rng = np.random.default_rng(0)
    arrays = [
        rng.integers(0, 256, (12, 28, 28)),
        rng.integers(0, 10, 12),
        rng.integers(0, 256, (5, 28, 28)),
        rng.integers(0, 10, 5),
    ]
    bodies = {f"{n}.gz": gzip.compress(idx(a)) for n, a in zip(IDX_FILES, arrays, strict=True)}
    files = tuple(
        RemoteFile(name, None, f"md5:{hashlib.md5(body).hexdigest()}")
        for name, body in bodies.items()
    )
    rows = [a.reshape(len(a), -1).astype(np.uint8) for a in arrays[::2]]
    content = {"x_train": rows[0], "x_test": rows[1], "y_train": arrays[1], "y_test": arrays[3]}
    entry = Entry(
        name="tiny",
        summary="random bytes",
        size="10 kB",
        source="drawn here",
        licence="none",
        layouts=(FileLayout(files, read_idx_splits),),
        build=grey_image_builder(*"0123456789"),
        checksums=(content_checksum(content),),
    )
    return entry, bodies


def put(folder, bodies):
    folder.mkdir(parents=True, exist_ok=True)
    for name, body in bodies.items():
        (folder / name).write_bytes(body)


IMAGES, LABELS = f"{IDX_FILES[0]}.gz", f"{IDX_FILES[1]}.gz"
TWELVE = np.zeros((12, 28, 28))
DAMAGE = {
    "truncated gzip": (IMAGES, lambda body: body[:-50], "decompressed"),
    "not gzip": (IMAGES, lambda body: b"<html>not found</html>", "decompressed"),
    "empty": (IMAGES, lambda body: b"", "magic number"),
    "labels for images": (IMAGES, lambda body: gzip.compress(idx(np.zeros(12))), "magic number"),
    "header only": (IMAGES, lambda body: gzip.compress(idx(TWELVE)[:10]), "fewer than"),
    "short data": (IMAGES, lambda body: gzip.compress(idx(TWELVE)[:-1]), "expected 9408 from its"),
    "other pixels": (IMAGES, lambda body: gzip.compress(idx(TWELVE)), "has checksum .*, expected"),
    "fewer labels": (
        LABELS,
        lambda body: gzip.compress(idx(np.zeros(11))),
        "has checksum .*, expected",
    ),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_files_raise_data_error(case, tiny, tmp_path, monkeypatch):
    entry, bodies = tiny
    name, damage, message = DAMAGE[case]
    put(tmp_path / "tiny", {**bodies, name: damage(bodies[name])})
    monkeypatch.setenv("ANCESTRAL_DATA", str(tmp_path))
    with pytest.raises(DataError, match=message) as error:
        load_entry(entry)
    assert name in str(error.value)
    assert "valid copy" in str(error.value)
    assert error.value.__cause__ is None
    assert error.value.__suppress_context__ or error.value.__context__ is None


def test_compressed_and_uncompressed_files_are_read(tiny, tmp_path, monkeypatch):
    entry, bodies = tiny
    compressed = entry.layouts[0]
    plain = FileLayout(tuple(RemoteFile(f.name[:-3]) for f in compressed.files), compressed.read)
    put(tmp_path / "tiny", {name[:-3]: gzip.decompress(body) for name, body in bodies.items()})
    monkeypatch.setenv("ANCESTRAL_DATA", str(tmp_path))
    data = load_entry(replace(entry, layouts=(compressed, plain)))
    assert data.checksum == entry.checksums[0]
    assert data.class_names == tuple("0123456789")


def test_incomplete_data_folder_raises_data_error(tiny, tmp_path, monkeypatch):
    entry, bodies = tiny
    del bodies[LABELS]
    put(tmp_path / "tiny", bodies)
    monkeypatch.setenv("ANCESTRAL_DATA", str(tmp_path))
    with pytest.raises(DataError, match=f"{LABELS} is missing in"):
        load_entry(entry)


def test_missing_files_without_download_raise_data_error(tiny, no_data):
    with pytest.raises(DataError, match=r"Put train-images.* ANCESTRAL_DATA"):
        load_entry(tiny[0])


def test_invalid_data_folder_variable_raises_data_error(monkeypatch):
    monkeypatch.setenv("ANCESTRAL_DATA", "/nowhere/at/all")
    with pytest.raises(DataError, match="is not a folder"):
        load("mnist")


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("ocr_letters/ocr_letters.npz", b"not a zip"),
        ("frey_faces/frey_rawface.mat", b"MATLAB 5.0 MAT-file" + bytes(200)),
        ("boston_housing/boston_housing.txt", b"1 2 3\n"),
        ("binarized_mnist/binarized_mnist.npz", b""),
        ("ocr_letters/letter.data", b"1\ta\t2\n"),
        ("svhn/svhn_test_first10000.npz", b"PK\x03\x04"),
    ],
)
def test_damaged_original_files_raise_data_error(name, body, tmp_path, monkeypatch):
    path = tmp_path / name
    put(path.parent, {path.name: body})
    monkeypatch.setenv("ANCESTRAL_DATA", str(tmp_path))
    with pytest.raises(DataError, match=path.name):
        load("svhn_part" if path.parent.name == "svhn" else path.parent.name)


def test_catalogue_arrays_of_wrong_shape_raise_data_error(tmp_path, monkeypatch):
    path = tmp_path / "omniglot" / "omniglot_28x28.npz"
    path.parent.mkdir()
    np.savez(path, x=np.zeros((4, 28, 28), np.uint8), character=np.ones(4), drawer=np.ones(3))
    monkeypatch.setenv("ANCESTRAL_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"omniglot_28x28\.npz"):
        load("omniglot")


def test_pickled_arrays_raise_data_error(tmp_path, monkeypatch):
    path = tmp_path / "frey_faces" / "frey_faces.npz"
    path.parent.mkdir()
    np.savez(path, x=np.array([{}], object))
    monkeypatch.setenv("ANCESTRAL_DATA", str(tmp_path))
    for source in ("frey_faces", path):
        with pytest.raises(DataError, match="plain arrays"):
            load(source)


# ----------------------------------------------------------------------- downloads, from localhost


@pytest.fixture
def server():
    """Local server of ``server.answers``: path -> (status, body, declared length)."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.requests.append(self.path)
            status, body, length = self.server.answers.get(self.path, (404, b"", 0))
            self.send_response(status)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        http.answers, http.requests = {}, []
        http.url = f"http://127.0.0.1:{http.server_port}/"
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield http
        http.shutdown()
        thread.join()


def serve(server, entry, bodies, checksums=True):
    """Return the entry with addresses of the server, which responds with the bodies."""
    server.answers = {f"/{name}": (200, body, len(body)) for name, body in bodies.items()}
    files = tuple(
        replace(f, url=server.url + f.name, checksum=f.checksum if checksums else None)
        for f in entry.layouts[0].files
    )
    return replace(entry, layouts=(replace(entry.layouts[0], files=files),))


def test_download_is_cached(server, tiny, tmp_path, no_data, capsys):
    entry = serve(server, *tiny)
    data = load_entry(entry, cache=tmp_path)
    assert data.checksum == entry.checksums[0]
    assert len(server.requests) == 4
    assert "100%" in capsys.readouterr().err  # the progress bar
    assert load_entry(entry, cache=tmp_path).checksum == data.checksum
    assert len(server.requests) == 4
    assert sorted(p.name for p in (tmp_path / "tiny").iterdir()) == sorted(tiny[1])


def test_only_missing_files_are_downloaded(server, tiny, tmp_path, no_data):
    entry = serve(server, *tiny)
    put(tmp_path / "tiny", {IMAGES: tiny[1][IMAGES]})
    load_entry(entry, cache=tmp_path)
    assert len(server.requests) == 3


FAILED_RESPONSES = {
    "corrupted": (
        lambda body: (200, b"x" + body[1:], len(body)),
        "failed .*hash of",
    ),
    "truncated": (lambda body: (200, body[:-9], len(body)), "failed"),
    "404": (lambda body: (404, b"", 0), "failed .*404"),
    "500": (lambda body: (500, b"", 0), "failed .*500"),
}


@pytest.mark.parametrize("case", FAILED_RESPONSES)
def test_failed_downloads_leave_no_files(case, server, tiny, tmp_path, no_data):
    entry, bodies = tiny
    respond, message = FAILED_RESPONSES[case]
    entry = serve(server, entry, bodies)
    server.answers[f"/{IMAGES}"] = respond(bodies[IMAGES])
    with pytest.raises(DataError, match=message) as error:
        load_entry(entry, cache=tmp_path)
    assert IMAGES in str(error.value)
    assert list((tmp_path / "tiny").iterdir()) == []


def test_unreachable_server_raises_data_error(tiny, tmp_path, no_data):
    entry, _ = tiny
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as http:
        url = f"http://127.0.0.1:{http.server_port}/"
    files = tuple(replace(f, url=url + f.name) for f in entry.layouts[0].files)
    with pytest.raises(DataError, match=r"download from .* failed"):
        load_entry(replace(entry, layouts=(FileLayout(files, read_idx_splits),)), cache=tmp_path)


def test_download_with_wrong_content_checksum_is_deleted(server, tiny, tmp_path, no_data):
    entry, bodies = tiny
    other = {**bodies, IMAGES: gzip.compress(idx(TWELVE))}
    entry = serve(server, entry, other, checksums=False)
    with pytest.raises(DataError, match=r"has checksum \w+, expected"):
        load_entry(entry, cache=tmp_path)
    assert list((tmp_path / "tiny").iterdir()) == []


def test_every_catalogue_entry_has_checksums():
    for entry in ENTRIES.values():
        files = [file for layout in entry.layouts for file in layout.files]
        assert entry.checksums or all(file.checksum for file in files), entry.name
        assert all(file.checksum is None or file.checksum[:4] == "md5:" for file in files)


# ------------------------------------------------------------------------------ names and options


def test_names_and_describe_cover_the_catalogue():
    assert set(datasets.names()) == {*SHAPES, "svhn"}
    for name in datasets.names():
        line = str(datasets.describe(name))
        assert line.startswith(f"{name}: ")
        assert "licence: " in line
        assert "\n" not in line


@pytest.mark.parametrize(("name", "suggestion"), [("minst", "mnist"), ("Boston-Housing", "boston")])
def test_unknown_name_suggests_closest_name(name, suggestion):
    for function in (load, datasets.describe):
        with pytest.raises(DataError, match=rf"Did you mean '{suggestion}.*Names: digits, mnist"):
            function(name)


def test_unknown_options_raise_data_error(tmp_path):
    with pytest.raises(DataError, match=r"digits has no option split; it takes no options"):
        load("digits", split=1)
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((2, 2)))
    with pytest.raises(DataError, match=r"has no option target; valid options: test_fraction"):
        load(path, target="y")


def test_import_does_not_load_heavy_dependencies():
    code = (
        "import sys, ancestral.datasets as d; d.names(); d.describe('mnist')\n"
        "heavy = {'torch', 'sklearn', 'scipy', 'pooch', 'polars', 'PIL'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    path = os.pathsep.join(filter(None, sys.path))
    environment = {**os.environ, "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_public_functions_are_documented():
    for name in datasets.__all__:
        assert inspect.getdoc(getattr(datasets, name))


# ------------------------------------------------------------------------------- Dataset, checksum


def test_content_checksum_matches_documented_definition():
    x, y = np.arange(6, dtype=">f8").reshape(2, 3), np.array([1, 0])
    expected = hashlib.sha256(b"x_train <f8 2x3\n" + x.astype("<f8").tobytes())
    expected.update(b"y_train <i8 2\n" + y.astype("<i8").tobytes())
    assert content_checksum({"y_train": y, "x_train": x, "x_test": None}) == expected.hexdigest()
    assert content_checksum({"x_train": np.asfortranarray(x), "y_train": y}) == expected.hexdigest()


def test_content_checksum_does_not_depend_on_block_size(monkeypatch):
    x = np.random.default_rng(0).random((50, 3))
    expected = content_checksum({"x_train": x})
    monkeypatch.setattr("ancestral.data.sampling.BLOCK_BYTES", 100)
    assert content_checksum({"x_train": x}) == expected


INCONSISTENT_ARRAYS = [
    ({"x_train": np.zeros(3)}, "expected \\(rows, features\\)"),
    ({"x_train": np.zeros((0, 3))}, "at least one"),
    ({"x_train": np.zeros((2, 3)), "y_train": np.zeros(3)}, "y_train has 3 rows"),
    ({"x_train": np.zeros((2, 3)), "y_test": np.zeros(2)}, "x_test is missing"),
    ({"x_train": np.zeros((2, 3)), "x_test": np.zeros((2, 4))}, "x_test has 4 features"),
    ({"x_train": np.zeros((2, 3)), "image_shape": (2, 2)}, "image_shape"),
    ({"x_train": np.zeros((2, 3)), "feature_names": ("a",)}, "feature names"),
]


@pytest.mark.parametrize(("fields", "message"), INCONSISTENT_ARRAYS)
def test_dataset_rejects_inconsistent_arrays(fields, message):
    with pytest.raises(DataError, match=message):
        datasets.Dataset(name="mine", **fields)


@pytest.mark.parametrize(("shape", "dtype"), [((4, 5), np.uint8), ((3, 2, 4), np.float64)])
def test_left_and_right_halves_concatenate_to_images(shape, dtype, tmp_path):
    images = np.random.default_rng(0).integers(2, 255, (10, *shape)).astype(dtype)
    np.savez(
        tmp_path / "pictures.npz", x_train=images, x_test=images[:3], y_train=np.arange(10) % 2
    )
    data = load(tmp_path / "pictures.npz", n_valid=2, halves=True)
    assert (len(data.x_train), len(data.x_valid), len(data.x_test)) == (8, 2, 3)
    for split, expected in (("train", images[:8]), ("valid", images[8:]), ("test", images[:3])):
        left = getattr(data, f"x_{split}").reshape(-1, *data.image_shape)
        right = getattr(data, f"y_{split}").reshape(-1, *data.target_shape)
        unit = 255 if dtype == np.uint8 else 1
        assert left.dtype == dtype
        assert right.dtype == np.float32
        np.testing.assert_allclose(np.concatenate([left, right * unit], -1), expected, rtol=1e-6)
    assert (data.image_shape[-1], data.target_shape[-1]) == (2, shape[-1] - 2)
    assert data.checksum == load(tmp_path / "pictures.npz").checksum


def test_halves_require_images(tmp_path):
    np.save(tmp_path / "rows.npy", np.ones((5, 4)))
    with pytest.raises(DataError, match="halves=True requires images"):
        load(tmp_path / "rows.npy", halves=True)


def test_n_labels_selects_equally_many_true_labels_per_class():
    full = load("digits")
    few = load("digits", n_labels=30, label_seed=1)
    labelled = few.y_train >= 0
    assert np.bincount(few.y_train[labelled]).tolist() == [3] * 10
    np.testing.assert_array_equal(few.y_train[labelled], full.y_train[labelled])
    np.testing.assert_array_equal(few.y_test, full.y_test)
    assert few.checksum == full.checksum
    assert "Only 30 training rows are labelled, sampled with seed 1" in few.note
    other = load("digits", n_labels=30, label_seed=2)
    assert (other.y_train != few.y_train).any()
    with_valid = load("digits", n_valid=300, n_labels=30)  # validation labels are unchanged
    np.testing.assert_array_equal(with_valid.y_valid, full.y_train[-300:])


@pytest.mark.parametrize("n", [0, -10, 7, 100_000])
def test_n_labels_must_be_a_multiple_of_the_number_of_classes(n):
    with pytest.raises(DataError, match=f"n_labels={n}: expected a positive multiple of 10"):
        load("digits", n_labels=n)


def test_n_labels_requires_class_labels(tmp_path):
    np.save(tmp_path / "rows.npy", np.ones((5, 4)))
    with pytest.raises(DataError, match="n_labels=2: rows has no class labels"):
        load(tmp_path / "rows.npy", n_labels=2)


def test_dataset_is_frozen():
    with pytest.raises(FrozenInstanceError):
        load("digits").name = "other"


# -------------------------------------------------------------------------------------- .npy files


def test_npy_is_memory_mapped_without_copy(tmp_path):
    x = np.random.default_rng(0).random((20, 4, 5))
    np.save(tmp_path / "x.npy", x)
    data = load(tmp_path / "x.npy", test_fraction=0.25, shuffle=False)
    assert data.image_shape == (4, 5)
    assert np.array_equal(data.x_train, x[:15].reshape(15, 20))
    assert np.array_equal(data.x_test, x[15:].reshape(5, 20))
    for rows in (data.x_train, data.x_test):
        assert isinstance(rows, np.memmap)
        assert not rows.flags.owndata
        assert not rows.flags.writeable
    assert data.checksum == ""


def test_npy_larger_than_memory(tmp_path):
    path = tmp_path / "sparse.npy"
    shape = (1 << 26, 1 << 14)  # a sparse file of one tebibyte
    with path.open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_2_0(file, header)
        file.write(b"\x05")
        start = file.tell() - 1
        try:
            file.truncate(start + shape[0] * shape[1])
        except OSError:
            pytest.skip("the file system has no sparse files of this size")
    data = load(path)
    assert data.x_train.shape == shape
    assert data.x_train[0, 0] == 5
    assert data.x_train[-1, -1] == 0


def test_uint8_npy_of_zeros_and_ones_is_read_as_bool(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2, (10, 8)).astype(np.uint8)
    np.save(tmp_path / "bits.npy", bits)
    np.save(tmp_path / "bytes.npy", bits * 2)
    assert load(tmp_path / "bits.npy").x_train.dtype == bool
    assert np.array_equal(load(tmp_path / "bits.npy").x_train, bits)
    assert load(tmp_path / "bytes.npy").x_train.dtype == np.uint8


INVALID_ARRAYS = {
    "column": (np.zeros(4), r"reshape\(-1, 1\)"),
    "scalar": (np.array(1.0), "is not supported"),
    "text": (np.array([["a"]]), "expected numbers"),
    "complex": (np.zeros((2, 2), complex), "expected numbers"),
    "object": (np.array([[None]], object), "plain array"),
    "channels last": (np.zeros((2, 8, 8, 3), np.uint8), "moveaxis"),
    "two channels": (np.zeros((2, 2, 8, 8)), "1, 3 or 4 channels"),
    "column-major": (np.asfortranarray(np.zeros((4, 8, 8))), "ascontiguousarray"),
}


@pytest.mark.parametrize("case", INVALID_ARRAYS)
def test_invalid_npy_raises_data_error(case, tmp_path):
    array, message = INVALID_ARRAYS[case]
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "x.npy")


# -------------------------------------------------------------------------------------- .npz files


def test_npz_round_trip_of_all_splits(tmp_path):
    digits = load("digits")
    np.savez(tmp_path / "mine.npz", **digits.arrays())
    data = load(str(tmp_path / "mine.npz"))
    assert data.name == "mine"
    assert data.checksum == digits.checksum


@pytest.mark.parametrize("names", [("x", "y"), ("X", "Y"), ("data", "y"), ("X_train", "y_train")])
def test_npz_array_names(names, tmp_path):
    x, y = np.arange(12.0).reshape(6, 2), np.array([2, 0, 1, 2, 0, -1], np.int32)
    np.savez(tmp_path / "a.npz", **dict(zip(names, (x, y), strict=True)), other=np.zeros(3))
    data = load(tmp_path / "a.npz")
    assert np.array_equal(data.x_train, x)
    assert data.y_train.dtype == np.int64
    assert data.y_train.tolist() == y.tolist()
    assert data.x_test is None


def test_npz_channels_last_images_and_text_labels(tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3)).astype(np.uint8)
    np.savez(
        tmp_path / "a.npz",
        x_train=x,
        y_train=np.array(["dog", "cat", "dog", "cow"]),
        x_test=x[:1],
        y_test=np.array(["cow"]),
    )
    data = load(tmp_path / "a.npz")
    assert data.image_shape == (3, 6, 5)
    assert np.array_equal(data.x_train[1].reshape(3, 6, 5), x[1].transpose(2, 0, 1))
    assert data.class_names == ("cat", "cow", "dog")
    assert data.y_train.tolist() == [2, 0, 2, 1]
    assert data.y_test.tolist() == [1]


def test_text_minus_one_is_unlabelled_and_bool_labels_are_classes(tmp_path):
    (tmp_path / "t.csv").write_text("a,kind,bit\n1,dog,true\n2,-1,false\n3,,true\n4,cat,true\n")
    table = load(tmp_path / "t.csv", target="kind", drop="bit")
    assert table.class_names == ("cat", "dog")
    assert table.y_train.tolist() == [1, -1, -1, 0]
    x, kinds, bits = np.eye(3), np.array(["dog", "-1", "cat"]), np.array([True, False, True])
    np.savez(tmp_path / "kinds.npz", x=x, y=kinds)
    np.savez(tmp_path / "bits.npz", x=x, y=bits)
    arrays = load(tmp_path / "kinds.npz")
    assert arrays.class_names == ("cat", "dog")
    assert arrays.y_train.tolist() == [1, -1, 0]
    for data in (
        load(tmp_path / "t.csv", target="bit", drop="kind"),
        load(tmp_path / "bits.npz"),
    ):
        assert data.class_names == ("false", "true")
        assert data.y_train[:3].tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("i4", "f8"), ("f2", "f4"), ("f4", "f4"), (">f8", "f8"), ("u1", "u1"), ("?", "?")],
)
def test_npz_dtypes(dtype, expected, tmp_path):
    x = np.array([[0, 5], [7, 1]]).astype(dtype)
    np.savez(tmp_path / "a.npz", x=x)
    data = load(tmp_path / "a.npz")
    assert data.x_train.dtype == np.dtype(expected)
    assert data.x_train.dtype.isnative
    assert np.array_equal(data.x_train, x)


INVALID_NPZ = [
    ({"images": np.zeros((2, 2)), "z": np.zeros(1)}, {}, "contains the arrays images, z; expected"),
    ({}, {}, r"\(none\)"),
    ({"x": np.zeros((2, 2)), "y": np.zeros(3)}, {}, "y_train has 3 rows"),
    ({"x": np.zeros((2, 2)), "y": np.zeros(2, complex)}, {}, "labels"),
    (
        {"x_train": np.ones((4, 2)), "x_test": np.ones((4, 2))},
        {"test_fraction": 0.5},
        "contains x_test",
    ),
    ({"x": np.zeros((2, 2))}, {"test_fraction": 0.1}, "leaves a split empty"),
    ({"x": np.zeros((2, 2))}, {"test_fraction": 1.5}, "leaves a split empty"),
]


@pytest.mark.parametrize(("arrays", "options", "message"), INVALID_NPZ)
def test_invalid_npz_raises_data_error(arrays, options, message, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "a.npz", **options)


def test_test_fraction_is_a_seeded_partition(tmp_path):
    x = np.arange(40.0).reshape(20, 2)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(20))
    data, repeated, other = (
        load(tmp_path / "a.npz", test_fraction=0.3, seed=seed) for seed in (1, 1, 2)
    )
    assert (len(data.x_train), len(data.x_test)) == (14, 6)
    assert data.checksum == repeated.checksum != other.checksum
    assert sorted(concatenate_splits(data, "y")) == list(range(20))
    assert np.array_equal(data.x_test, x[data.y_test])
    assert "seed 1" in data.note


# ----------------------------------------------------------------------- .csv and .parquet files


def write_table(path, frame):
    frame.write_csv(path) if path.suffix == ".csv" else frame.write_parquet(path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_table_round_trip(suffix, tmp_path):
    frame = pl.DataFrame(
        {
            "height": [1.5, None, 1.7],
            "kind": ["dog", "cat", None],
            "count": [3, 4, None],
            "tame": [True, False, True],
        }
    )
    data = load(write_table(tmp_path / f"pets{suffix}", frame), target="kind")
    expected = [[1.5, 3, 1], [np.nan, 4, 0], [1.7, np.nan, 1]]
    np.testing.assert_array_equal(data.x_train, expected)
    assert data.x_train.dtype == np.float64
    assert data.feature_names == ("height", "count", "tame")
    assert data.class_names == ("cat", "dog")
    assert data.y_train.tolist() == [1, 0, -1]
    assert data.x_test is None


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_numeric_targets(suffix, tmp_path):
    frame = pl.DataFrame({"a": [1.0, 2.0], "price": [1.5, 2.5], "label": [1, -1]})
    path = write_table(tmp_path / f"t{suffix}", frame)
    price, label = load(path, target="price"), load(path, target="label")
    assert price.y_train.dtype == np.float64
    assert price.y_train.tolist() == [1.5, 2.5]
    assert label.y_train.dtype == np.int64
    assert label.y_train.tolist() == [1, -1]
    assert label.y_train.flags.writeable


def test_parquet_preserves_uint8_bool_and_float32(tmp_path):
    for dtype, cells in ((np.uint8, [0, 200]), (np.float32, [0.5, 1]), (np.bool_, [True, False])):
        frame = pl.DataFrame({"a": np.array(cells, dtype), "b": np.array(cells, dtype)})
        x = load(write_table(tmp_path / "t.parquet", frame)).x_train
        assert x.dtype == dtype
        assert x.tolist() == [[cells[0]] * 2, [cells[1]] * 2]


def test_csv_written_by_pandas(tmp_path):
    import pandas as pd

    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 3)), columns=list("abc"))
    frame.iloc[3, 1] = np.nan
    frame.to_csv(tmp_path / "t.csv", index=False)
    data = load(tmp_path / "t.csv", test_fraction=0.2, seed=3)
    rows = concatenate_splits(data, "x")
    np.testing.assert_array_equal(np.sort(rows, axis=0), np.sort(frame.to_numpy(), axis=0))


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("a;b\n1;2\n", {"separator": ";"}, [[1, 2]]),
        ("1,2\n3,4\n", {"header": False}, [[1, 2], [3, 4]]),
        ("0,1\n3,4\n", {}, [[3, 4]]),
        ("a,b\nNA,1\n2,nan\n,3\n", {}, [[np.nan, 1], [2, np.nan], [np.nan, 3]]),
        ("a,b\n1,\n2,\n", {}, [[1, np.nan], [2, np.nan]]),
    ],
)
def test_csv_dialects(text, options, expected, tmp_path):
    (tmp_path / "t.csv").write_text(text)
    np.testing.assert_array_equal(load(tmp_path / "t.csv", **options).x_train, expected)


INVALID_CSV = [
    ("", {}, "not a readable table"),
    ("a,b\n", {}, "no rows"),
    ("a,city,zip\n1,Rome,x\n2,Oslo,y\n", {}, "'city' .*Rome.*'zip'.*target"),
    ("a,city,zip\n1,Rome,x\n2,Oslo,y\n", {"target": "city"}, "not numeric: 'zip'"),
    ("a;b\n1;2\n", {}, "separator"),
    ("a,b\n1,2\n", {"target": "c"}, "no column 'c'.*a, b"),
    ("colour,b\n1,2\n", {"target": "color"}, "Did you mean 'colour'"),
    ("a\n1\n", {"target": "a"}, "no feature columns"),
    ("a,y\n1,2\n3,\n", {"target": "y"}, "1 empty cells"),
    (",a\n0,1\n", {}, "has no name"),
    ("1.5,2\n3,4\n", {}, "header=False"),
    ("a,b\n1,2,3\n", {}, "line 2 has 3 cells, the first line 2"),
    ("a;b\n1;2\n", {}, "pass separator=';'"),
    ("1.5,NA\n2,3\n", {}, "Pass header=False"),
    ("a,b\n1,2\n", {"drop": "c"}, "no column 'c'"),
    ("a,b\n" + "1,2\n" * 20_000 + "1,late\n", {}, "'b' .'late' in row 20001"),
]


@pytest.mark.parametrize(("text", "options", "message"), INVALID_CSV)
def test_invalid_csv_raises_data_error(text, options, message, tmp_path):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "t.csv", **options)


def test_invalid_parquet_raises_data_error(tmp_path):
    (tmp_path / "t.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match="not a readable parquet"):
        load(tmp_path / "t.parquet")
    nested = write_table(tmp_path / "n.parquet", pl.DataFrame({"a": [[1, 2], [3]]}))
    with pytest.raises(DataError, match="not numeric: 'a'"):
        load(nested)


# ------------------------------------------------------------------------ folders of images


def write_image(path, seed, size=(6, 5), mode="L"):
    channels = () if mode == "L" else (len(mode),)
    x = np.random.default_rng(seed).integers(0, 256, (*size, *channels)).astype(np.uint8)
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.fromarray(x).save(path)
    return x


def test_grey_images_round_trip(tmp_path):
    names = ["a.png", "b.bmp", "c.PNG"]
    images = [write_image(tmp_path / name, i) for i, name in enumerate(names)]
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / ".hidden.png").write_text("no image")
    data = load(tmp_path)
    assert data.image_shape == (6, 5)
    assert data.x_train.dtype == np.uint8
    assert np.array_equal(data.x_train.reshape(3, 6, 5), images)


def test_colour_images_with_classes(tmp_path):
    images = [
        write_image(tmp_path / kind / f"{i}.png", i, mode="RGB")
        for i, kind in enumerate(["cat", "cat", "dog"])
    ]
    data = load(str(tmp_path))
    assert data.image_shape == (3, 6, 5)
    assert np.array_equal(data.x_train.reshape(3, 3, 6, 5), np.transpose(images, (0, 3, 1, 2)))
    assert data.class_names == ("cat", "dog")
    assert data.y_train.tolist() == [0, 0, 1]
    grey = load(tmp_path, grayscale=True)
    luma = np.array(images) @ [0.299, 0.587, 0.114]  # ITU-R 601-2
    assert np.abs(grey.x_train.reshape(3, 6, 5) - luma).max() < 1


def test_grey_image_among_colour_images_is_read_as_rgb(tmp_path):
    grey = write_image(tmp_path / "a.png", 0)
    write_image(tmp_path / "b.png", 1, mode="RGB")
    x = load(tmp_path).x_train[0].reshape(3, 6, 5)
    assert np.array_equal(x, np.stack([grey] * 3))


def test_one_bit_image_is_read_as_0_and_255(tmp_path):
    Image.fromarray(np.eye(4, dtype=bool)).save(tmp_path / "a.png")
    assert np.array_equal(load(tmp_path).x_train.reshape(4, 4), 255 * np.eye(4))


def test_file_of_another_format_is_not_opened_by_its_reader(tmp_path, monkeypatch):
    """Pillow reads EPS by starting Ghostscript, whatever the suffix of the file."""
    (tmp_path / "a.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    )
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_: pytest.fail("started"))
    with pytest.raises(DataError, match=r"a\.png: is not a readable image"):
        load(tmp_path)


def test_images_of_different_sizes_need_size(tmp_path):
    write_image(tmp_path / "a.png", 0)
    write_image(tmp_path / "b.png", 1, size=(7, 5))
    with pytest.raises(DataError, match=r"a\.png is \(6, 5\) and .*b\.png is \(7, 5\)"):
        load(tmp_path)
    data = load(tmp_path, size=(3, 4))
    assert data.image_shape == (3, 4)
    assert data.x_train.shape == (2, 12)


def test_resizing_preserves_constant_image(tmp_path):
    Image.new("RGB", (50, 40), (10, 20, 30)).save(tmp_path / "a.png")
    x = load(tmp_path, size=(8, 9)).x_train.reshape(3, 8, 9)
    assert np.array_equal(x, np.broadcast_to(np.array([10, 20, 30])[:, None, None], x.shape))


def test_exif_orientation_is_applied(tmp_path):
    image = Image.new("L", (4, 2), 0)
    image.putpixel((0, 0), 255)
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees clockwise to display
    image.save(tmp_path / "a.png", exif=exif)
    data = load(tmp_path)
    assert data.image_shape == (4, 2)
    assert (
        np.argmax(data.x_train[0].reshape(4, 2)) == 1
    )  # the top left pixel moves to the top right


def write_16_bit_image(path):
    Image.fromarray(np.full((4, 4), 40_000, np.uint16)).save(path / "a.png")


def write_truncated_image(path):
    write_image(path / "a.png", 0, size=(64, 64))
    (path / "a.png").write_bytes((path / "a.png").read_bytes()[:2000])


INVALID_FOLDERS = {
    "empty": (lambda path: None, {}, "contains no images"),
    "no image": (lambda path: (path / "a.png").write_text("text"), {}, "not a readable image"),
    "truncated": (write_truncated_image, {}, "not a readable image .*truncated"),
    "16 bits": (write_16_bit_image, {}, "more than 8 bits"),
    "empty class": (lambda path: (path / "cat").mkdir(), {}, "this class contains no images"),
    "mixed": (
        lambda path: [write_image(path / "a.png", 0), write_image(path / "cat" / "b.png", 0)],
        {},
        "contains both images .* and sub-folders",
    ),
    "bad size": (lambda path: write_image(path / "a.png", 0), {"size": 28}, r"\(height, width\)"),
}


@pytest.mark.parametrize("case", INVALID_FOLDERS)
def test_invalid_image_folder_raises_data_error(case, tmp_path):
    create, options, message = INVALID_FOLDERS[case]
    create(tmp_path)
    with pytest.raises(DataError, match=message):
        load(tmp_path, **options)


# ------------------------------------------------------------------------------- invalid paths


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.csv", "no such file"),
        ("gone/", "no such file"),
        ("table.xlsx", r"ending in '\.xlsx'"),
        ("broken.npy", "not a readable .npy"),
        ("broken.npz", "not a readable .npz"),
        ("empty.npz", "not a readable .npz"),
    ],
)
def test_invalid_paths_raise_data_error(name, message, tmp_path):
    for file in ("table.xlsx", "broken.npy", "broken.npz"):
        (tmp_path / file).write_bytes(b"nonsense")
    (tmp_path / "empty.npz").touch()
    with pytest.raises(DataError, match=message):
        load(f"{tmp_path}/{name}")
