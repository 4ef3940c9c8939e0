"""Catalogue of data sets: contents, files, licences and splits.

The .npz layouts are compact copies for a data folder; the other layouts are the public original
files. The raw arrays are the same for all layouts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ancestral.datasets import builders, svhn
from ancestral.datasets.builders import Fields, Raw
from ancestral.datasets.download import RemoteFile

IDX_FILES = (
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


def _idx_layouts(url: str, md5: tuple[str, ...]) -> tuple[FileLayout, ...]:
    packed = tuple(
        RemoteFile(f"{name}.gz", f"{url}{name}.gz", f"md5:{digits}")
        for name, digits in zip(IDX_FILES, md5, strict=True)
    )
    plain = tuple(RemoteFile(name) for name in IDX_FILES)
    return FileLayout(packed, builders.read_idx_splits), FileLayout(plain, builders.read_idx_splits)


def _remote_files(base: str, files: dict[str, str | None]) -> tuple[RemoteFile, ...]:
    return tuple(
        RemoteFile(name, base + name, f"md5:{digits}" if digits else None)
        for name, digits in files.items()
    )


def _local_file(name: str) -> tuple[RemoteFile, ...]:
    return (RemoteFile(name),)


CHECKSUMS: dict[str, tuple[str, ...]] = {
    "digits": ("29958f1d39855e2fb76e13147ad6cca89247f59b87ad2c310ed81e08c0489a1d",),
    "mnist": ("3fb1e872aaf96d38d962300b6b75c348d4d4051ece6fc340c5b0efa53ffd8e71",),
    "binarized_mnist": ("d8b18c2838103dc57c8529f977057f213afa42e7ec428d341c352483cfe9f030",),
    "fashion_mnist": ("b473185276e87afd3bdc93641c82c5599c0520ee4677dfa285413ccbbe4fa16b",),
    "ocr_letters": ("2f01fd772956f5413fababeb34fbe017f2966b068b6c38223dc626f9364eef18",),
    "omniglot": ("73f076124209562c1f859d35a590427fd4bdc3d30f3cc8fba2b6666079fe9390",),
    "frey_faces": ("c7792511ea66005bc17c12e07273abd2ec07240a655edea73f2f3b7714d77b86",),
    "boston_housing": (
        "447a76a8b2c92acc1d959d44af492d020b07191c05a47e85cb282458b141955e",
        "a86d57c02371107ebac4b954d7d0ff4dfd81827b6cd0955805ee467741cca9b4",
        "6b26e751d987700b89769cf550c85c208e5c28e21d5cdbf808c3896298d7b15f",
        "53df9eb0a09ac060dd24e46b949e0938c3eaa61788405fbdf2b311b6cb91829d",
        "0851ee6c6e13e8b9e5feb5d68e30c4eb9ac573785f1f71049e642cda29b875da",
        "dd98715d8fc9409a57b8521c032cdca87b53209bc65916678ce9092298b50674",
        "f5e9705245618ddd1912d50657a2261d1b116a508d969a99e2b3f65234bdfdbf",
        "c4a3ec71221c28b8082a2a12ab81e78f78d6bf0d2ee8f3909f590b71c669cd31",
        "c74224ec9d115dd9f083d5409ce4864a908d8469cd2cb47c05a00f037f266026",
        "3abfba383f64bd9bf1a5045370e09a9620f582b3268d84edba2dd112e0347dc5",
        "431a423816292a6d1978b2ecd25df9a8a3f2ddbe7383c8cb0e6d0ace3bfdc613",
        "f26f352384b04933028399ee403f10683d6c7bdcb55d0e6e2d7d18d32ad8a8fd",
        "dcff54b8033a6f38aac41e249d23486ed9b1e4253b41633d993d56c1a795fa5e",
        "de2ee5eb914ee67990ae55830543d07eb59be058aefd5d50dbdf943d5a794079",
        "86110755c233849c15323ddb9b9822b01d071e0752b70f17e20f560667aac34e",
        "bd9e414b17828bd640e21e06fe74a8f9cc15494dd26b237d713228093c36486a",
        "0c31376ff1a98dc273b952b0ed42a848dfa9553a2f45c61339d55ee974df08b3",
        "3cc11d12ffa934f12cac920bbb8e77de04ddb00775aa3efb8a13e68fe83b9565",
        "2105b2797bced8d1ed74661196a23701e933812044017edb087402a615d2d191",
        "8a71093559c8ba0d8fcb85371e36abb7f9b83525c1d2b0813d0094a116626e75",
    ),
    "svhn_part": ("c8d42a8c7d06e7d6cde86172b341e616abfbdb07e23ce90b8e4ae567d815b954",),
}


@dataclass(frozen=True)
class Entry:
    """Catalogue entry of a data set.

    Parameters
    ----------
    name, summary, size, source, licence, note : str
        Metadata returned by `describe`; name, source, licence and note are also fields of
        `Dataset`.
    layouts : tuple of FileLayout
        File layouts in order of preference.
    build : callable
        Function of raw arrays and keyword options that returns fields of `Dataset`.
    checksums : tuple of str
        Expected `content_checksum`, one per value of the option ``split``. If empty, the files are
        verified by their published checksums instead.
    folder : str
        Name of the folder of the files; ``name`` if empty.
    subset : str
        Name of a data set that is a subset of this one, suggested if only its files are present.
    """

    name: str
    summary: str
    size: str
    source: str
    licence: str
    layouts: tuple[FileLayout, ...]
    build: Callable[..., Fields]
    note: str = ""
    checksums: tuple[str, ...] = ()
    folder: str = ""
    subset: str = ""


@dataclass(frozen=True)
class FileLayout:
    """File layout of a data set: a set of files and their reader.

    Parameters
    ----------
    files : tuple of RemoteFile
        Files of the layout, all required.
    read : callable
        Function of one path per file that returns raw arrays by name.
    """

    files: tuple[RemoteFile, ...]
    read: Callable[..., Raw]


ENTRIES: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            name="digits",
            summary="handwritten digits, 8x8 grey; 1,500 train, 297 test, 10 classes",
            size="included in scikit-learn",
            source="scikit-learn's load_digits (E. Alpaydin, C. Kaynak, UCI)",
            licence="CC BY 4.0 (UCI); scikit-learn: BSD 3-clause",
            layouts=(FileLayout((), builders.read_digits),),
            build=builders.build_digits,
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
            layouts=_idx_layouts(MNIST_URL, MNIST_MD5),
            build=builders.grey_image_builder(*builders.DIGIT_CLASSES),
            checksums=CHECKSUMS["mnist"],
        ),
        Entry(
            name="binarized_mnist",
            summary="MNIST with fixed binarisation, 28x28 binary; 50,000 train, 10,000 valid, "
            "10,000 test, no labels",
            size="3 MB as .npz, 110 MB as text",
            source="H. Larochelle, after R. Salakhutdinov and I. Murray (2008)",
            licence="none stated",
            layouts=(
                FileLayout(_local_file("binarized_mnist.npz"), builders.read_bit_arrays),
                FileLayout(
                    _remote_files(
                        BITS_URL,
                        {f"binarized_mnist_{s}.amat": None for s in ("train", "valid", "test")},
                    ),
                    builders.read_bit_texts,
                ),
            ),
            build=builders.grey_image_builder(),
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
            layouts=_idx_layouts(FASHION_URL, FASHION_MD5),
            build=builders.grey_image_builder(*FASHION_CLASSES),
            checksums=CHECKSUMS["fashion_mnist"],
        ),
        Entry(
            name="ocr_letters",
            summary="handwritten letters a to z, 16x8 binary; 32,152 train, 10,000 valid, "
            "10,000 test, 26 classes",
            size="1 MB",
            source="R. Kassel (MIT), B. Taskar (Stanford): OCR data set",
            licence="none stated",
            layouts=(
                FileLayout(_local_file("ocr_letters.npz"), builders.read_letter_arrays),
                FileLayout(
                    _remote_files("http://ai.stanford.edu/~btaskar/ocr/", {"letter.data.gz": None}),
                    builders.read_letter_text,
                ),
                FileLayout(_local_file("letter.data"), builders.read_letter_text),
            ),
            build=builders.build_letters,
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
            layouts=(
                FileLayout(_local_file("omniglot_28x28.npz"), builders.read_omniglot_arrays),
                FileLayout(
                    _remote_files(
                        OMNIGLOT_URL,
                        {
                            "images_background.zip": "68d2efa1b9178cc56df9314c21c6e718",
                            "images_evaluation.zip": "6b91aef0f799c5bb55b94e3f2daec811",
                        },
                    ),
                    builders.read_omniglot_zips,
                ),
            ),
            build=builders.build_omniglot,
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
            layouts=(
                FileLayout(_local_file("frey_faces.npz"), builders.read_frey_arrays),
                FileLayout(
                    _remote_files("https://cs.nyu.edu/~roweis/data/", {"frey_rawface.mat": None}),
                    builders.read_frey_mat,
                ),
            ),
            build=builders.build_frey,
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
            layouts=(
                FileLayout(_local_file("boston_housing.npz"), builders.read_boston_arrays),
                FileLayout(_local_file("boston_housing.txt"), builders.read_boston_text),
                FileLayout(
                    _remote_files("http://lib.stat.cmu.edu/datasets/", {"boston": None}),
                    builders.read_boston_text,
                ),
            ),
            build=builders.build_boston,
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
            layouts=(
                FileLayout(
                    _remote_files(
                        SVHN_URL,
                        {
                            "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
                            "extra_32x32.mat": "a93ce644f1a588dc4d68dda5feec44a7",
                            "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
                        },
                    ),
                    svhn.read_svhn,
                ),
            ),
            build=svhn.build_svhn,
            note="The files train and extra together; valid is 400 images per class from train and "
            "200 per class from extra, sampled with seed 1234. Loading needs about 4 GB of memory.",
            subset="svhn_part",
        ),
        Entry(
            name="svhn_part",
            summary="first 10,000 test images of SVHN, 3x32x32 colour; 7,000 train, 1,000 valid, "
            "2,000 test, 10 classes",
            size="26 MB",
            source="Y. Netzer et al. (2011): Street View House Numbers",
            licence="non-commercial use only",
            layouts=(FileLayout(_local_file("svhn_test_first10000.npz"), svhn.read_svhn_part),),
            build=svhn.build_svhn_part,
            note="Contiguous splits, since adjacent images are of one house number. All images are "
            "from the official test split: results are not comparable with published SVHN results.",
            checksums=CHECKSUMS["svhn_part"],
            folder="svhn",
        ),
    )
}
