"""Files between ``VAE().fit(X)`` and the first update, against the list in docs/design.md."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import ancestral

ROOT = Path(ancestral.__file__).parent
PAGE = ROOT.parents[1] / "docs" / "design.md"
MAX_FILES = 30

CODE = """
import sys
import numpy as np
from ancestral import VAE
from ancestral.training.state import TrainingState

files = set()


class FirstUpdate(Exception):
    pass


def record(frame, event, _):
    code = frame.f_code
    if event == "call" and code.co_name != "<module>":
        files.add(code.co_filename)
    if event == "return" and code is TrainingState.take_step.__code__:
        raise FirstUpdate


X = np.random.default_rng(0).{data}
sys.setprofile(record)
try:
    VAE().fit(X)
except FirstUpdate:
    sys.setprofile(None)
    print("\\n".join(files))
"""


def run_files(data):
    """Files of the package whose functions run, relative to it."""
    out = subprocess.run(
        [sys.executable, "-c", CODE.format(data=data)], check=True, capture_output=True, text=True
    ).stdout
    paths = [Path(line) for line in out.splitlines()]
    return {str(path.relative_to(ROOT)) for path in paths if path.is_relative_to(ROOT)}


def test_the_page_lists_the_files_up_to_the_first_update():
    section = PAGE.read_text().partition("## From `VAE().fit(X)`")[2].partition("\n**")[0]
    listed = re.findall(r"`([\w/]+\.py)`", section)
    files = run_files("integers(0, 2, (200, 10)).astype(float)")
    assert sorted(listed) == sorted(files)
    assert len(listed) == len(files) <= MAX_FILES


@pytest.mark.parametrize("data", ["normal(size=(200, 10))", "random((200, 10))"])
def test_the_first_update_is_thirty_files_away_for_other_columns(data):
    assert 20 < len(run_files(data)) <= MAX_FILES
