"""Shape annotations are checked at run time, in tests only."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run side by side

from jaxtyping import install_import_hook

CHECKED = ("distributions", "conditional", "networks", "models", "kernels", "objectives", "impute",
           "evaluate")  # fmt: skip

install_import_hook([f"ancestral.{name}" for name in CHECKED], "beartype.beartype")
