"""Expected content checksums of the data sets (`ancestral.datasets.content_checksum`).

A data set with the option ``split`` has one checksum per value. They were computed from copies
with verified label counts and pixel means, and change only if the definition of a split changes.
"""

from __future__ import annotations

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
