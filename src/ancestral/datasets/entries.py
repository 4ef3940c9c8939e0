"""Catalogue of data sets: contents, files, licences and splits.

The .npz layouts are compact copies for a data folder; the other layouts are the public original
files. The raw arrays are the same for all layouts.
"""

from __future__ import annotations

from ancestral.datasets import builders as b
from ancestral.datasets import housenumbers
from ancestral.datasets.checksums import CHECKSUMS
from ancestral.datasets.entry import Entry, Form
from ancestral.datasets.fetch import RemoteFile

IDX = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
MNIST_MD5 = (
    "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "d53e105ee54ea40749a09fcbcd1e9432",
    "9fb629c4189551a2d022fa330f9573f3",
    "ec29112dd5afa0611ce80d1b7f02629c",
)
FASHION_MD5 = (
    "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "25c81989df183df01b3e8a0aad5dffbe",
    "bef4ecab320f06d8554ea6380940ec79",
    "bb300cfdad3c16e7a12a480ee83cd310",
)
MNIST_URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
FASHION_URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
BITS_URL = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"
OMNIGLOT_URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"
SVHN_URL = "http://ufldl.stanford.edu/housenumbers/"
FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)


def _idx_forms(url: str, md5: tuple[str, ...]) -> tuple[Form, ...]:
    packed = tuple(
        RemoteFile(f"{name}.gz", f"{url}{name}.gz", f"md5:{digits}")
        for name, digits in zip(IDX, md5, strict=True)
    )
    plain = tuple(RemoteFile(name) for name in IDX)
    return Form(packed, b.read_idx_splits), Form(plain, b.read_idx_splits)


def _remote(base: str, files: dict[str, str | None]) -> tuple[RemoteFile, ...]:
    return tuple(
        RemoteFile(name, base + name, f"md5:{digits}" if digits else None)
        for name, digits in files.items()
    )


def _local(name: str) -> tuple[RemoteFile, ...]:
    return (RemoteFile(name),)


ENTRIES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            name="digits",
            summary="handwritten digits, 8x8 grey; 1,500 train, 297 test, 10 classes",
            size="included in scikit-learn",
            source="scikit-learn's load_digits (E. Alpaydin, C. Kaynak, UCI)",
            licence="CC BY 4.0 (UCI); scikit-learn: BSD 3-clause",
            forms=(Form((), b.read_digits),),
            build=b.build_digits,
            note="Values 0 to 16 are divided by 16. Stratified split of the 1,797 rows into 1,500 "
            "and 297 with seed 0.",
            checksums=CHECKSUMS["digits"],
        ),
        Entry(
            name="mnist",
            summary="handwritten digits, 28x28 grey; 60,000 train, 10,000 test, 10 classes",
            size="12 MB",
            source="Y. LeCun, C. Cortes, C. J. C. Burges: The MNIST database",
            licence="terms of the authors; no licence file",
            forms=_idx_forms(MNIST_URL, MNIST_MD5),
            build=b.grey_images(*b.DIGITS),
            checksums=CHECKSUMS["mnist"],
        ),
        Entry(
            name="binarized_mnist",
            summary="MNIST with fixed binarisation, 28x28 binary; 50,000 train, 10,000 valid, "
            "10,000 test, no labels",
            size="3 MB as .npz, 110 MB as text",
            source="H. Larochelle, after R. Salakhutdinov and I. Murray (2008)",
            licence="none stated",
            forms=(
                Form(_local("binarized_mnist.npz"), b.read_bit_arrays),
                Form(
                    _remote(
                        BITS_URL,
                        {f"binarized_mnist_{s}.amat": None for s in ("train", "valid", "test")},
                    ),
                    b.read_bit_texts,
                ),
            ),
            build=b.grey_images(),
            note="No checksum is published. The expected checksum is of a copy that agrees with "
            "MNIST in sizes, order and pixel means.",
            checksums=CHECKSUMS["binarized_mnist"],
        ),
        Entry(
            name="fashion_mnist",
            summary="articles of clothing, 28x28 grey; 60,000 train, 10,000 test, 10 classes",
            size="31 MB",
            source="H. Xiao, K. Rasul, R. Vollgraf (2017): Fashion-MNIST",
            licence="MIT, Zalando SE",
            forms=_idx_forms(FASHION_URL, FASHION_MD5),
            build=b.grey_images(*FASHION_CLASSES),
            checksums=CHECKSUMS["fashion_mnist"],
        ),
        Entry(
            name="ocr_letters",
            summary="handwritten letters a to z, 16x8 binary; 32,152 train, 10,000 valid, "
            "10,000 test, 26 classes",
            size="1 MB",
            source="R. Kassel (MIT), B. Taskar (Stanford): OCR data set",
            licence="none stated",
            forms=(
                Form(_local("ocr_letters.npz"), b.read_letter_arrays),
                Form(
                    _remote("http://ai.stanford.edu/~btaskar/ocr/", {"letter.data.gz": None}),
                    b.read_letter_text,
                ),
                Form(_local("letter.data"), b.read_letter_text),
            ),
            build=b.build_letters,
            note="The split sizes are those of the density-estimation papers, whose shuffled split "
            "is not public. Here rows are sorted by letter and pixels, then shuffled with seed "
            "1234.",
            checksums=CHECKSUMS["ocr_letters"],
        ),
        Entry(
            name="omniglot",
            summary="characters of 50 alphabets, 28x28 grey; 24,345 train, 8,115 test, "
            "1,623 classes",
            size="4 MB as .npz, 15 MB as zips",
            source="B. Lake, R. Salakhutdinov, J. Tenenbaum (2015): Omniglot",
            licence="MIT (repository brendenlake/omniglot)",
            forms=(
                Form(_local("omniglot_28x28.npz"), b.read_omniglot_arrays),
                Form(
                    _remote(
                        OMNIGLOT_URL,
                        {
                            "images_background.zip": "68d2efa1b9178cc56df9314c21c6e718",
                            "images_evaluation.zip": "6b91aef0f799c5bb55b94e3f2daec811",
                        },
                    ),
                    b.read_omniglot_zips,
                ),
            ),
            build=b.build_omniglot,
            note="Drawings of 105x105 pixels averaged to 28x28; drawers 1-15 train, 16-20 test. "
            "The chardata.mat of Burda et al. (2015) was resampled differently and has 24,345 + "
            "8,070 images, so its likelihoods are not comparable.",
            checksums=CHECKSUMS["omniglot"],
        ),
        Entry(
            name="frey_faces",
            summary="video frames of one face, 28x20 grey; 1,865 train, 100 test, no labels",
            size="1 MB",
            source="B. Frey, S. Roweis: Frey faces",
            licence="none stated",
            forms=(
                Form(_local("frey_faces.npz"), b.read_frey_arrays),
                Form(
                    _remote("https://cs.nyu.edu/~roweis/data/", {"frey_rawface.mat": None}),
                    b.read_frey_mat,
                ),
            ),
            build=b.build_frey,
            note="No official split; the test set is the last 100 rows of a permutation with seed "
            "1234. Adjacent video frames are similar, so test likelihoods are optimistic.",
            checksums=CHECKSUMS["frey_faces"],
        ),
        Entry(
            name="boston_housing",
            summary="house prices of 506 districts, 13 features; 455 train, 51 test; "
            "option split=0..19",
            size="50 kB",
            source="D. Harrison, D. Rubinfeld (1978); StatLib",
            licence="none stated",
            forms=(
                Form(_local("boston_housing.npz"), b.read_boston_arrays),
                Form(_local("boston_housing.txt"), b.read_boston_text),
                Form(
                    _remote("http://lib.stat.cmu.edu/datasets/", {"boston": None}),
                    b.read_boston_text,
                ),
            ),
            build=b.build_boston,
            note="Split i of 20 is a permutation with seed i, whose last 51 rows are the test set. "
            "Column B is derived from race: do not base decisions on this data set.",
            checksums=CHECKSUMS["boston_housing"],
        ),
        Entry(
            name="svhn",
            summary="house-number digits, 3x32x32 colour; 598,388 train, 6,000 valid, "
            "26,032 test, 10 classes",
            size="1.6 GB",
            source="Y. Netzer et al. (2011): Street View House Numbers",
            licence="non-commercial use only",
            forms=(
                Form(
                    _remote(
                        SVHN_URL,
                        {
                            "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
                            "extra_32x32.mat": "a93ce644f1a588dc4d68dda5feec44a7",
                            "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
                        },
                    ),
                    housenumbers.read_whole,
                ),
            ),
            build=housenumbers.build_whole,
            note="The files train and extra together; valid is 400 images per class from train and "
            "200 per class from extra, sampled with seed 1234. Loading needs about 4 GB of memory.",
            part="svhn_part",
        ),
        Entry(
            name="svhn_part",
            summary="first 10,000 test images of SVHN, 3x32x32 colour; 7,000 train, 1,000 valid, "
            "2,000 test, 10 classes",
            size="26 MB",
            source="Y. Netzer et al. (2011): Street View House Numbers",
            licence="non-commercial use only",
            forms=(Form(_local("svhn_test_first10000.npz"), housenumbers.read_part),),
            build=housenumbers.build_part,
            note="Contiguous splits, since adjacent images are of one house number. All images are "
            "from the official test split: results are not comparable with published SVHN results.",
            checksums=CHECKSUMS["svhn_part"],
            folder="svhn",
        ),
    )
}
