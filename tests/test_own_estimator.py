"""A user's own estimator, in a module outside the package: Python, command line, saved models."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import numpy as np
import polars as pl
import pytest

import ancestral
from ancestral.cli.main import main
from ancestral.estimators import registry
from ancestral.utils.serialization import ModelFileError

OWN_ESTIMATORS = '''
"""Own estimators."""

from __future__ import annotations

from ancestral import VAE, NetworkClassifier
from ancestral.estimators.base.deep_latent import DeepLatentEstimator
from ancestral.objectives import Objective, elbo
from ancestral.utils.validation import Positive


class BetaVAE(DeepLatentEstimator):
    """The beta-VAE.

    Parameters
    ----------
    beta : float
        Weight of the KL term.
    """

    beta: Positive = 4.0

    def _objective(self) -> Objective:
        bound = elbo()
        weighted = {"kl": lambda model, run: self.beta * bound.terms["kl"](model, run)}
        return Objective({**bound.terms, **weighted}, bound.run)


class Undocumented(VAE):
    n_latents = 3


class OwnClassifier(NetworkClassifier):
    """An own classifier."""


class NotImplementedYet(DeepLatentEstimator):
    """Lacks its objective."""


class Other:
    """No estimator."""


not_a_class = 3
'''

TINY = ("--n-latents", 2, "--hidden", 8, "--max-epochs", 2)


def write_files(folder):
    """Write a package with the module of own estimators, and a table."""
    package = folder / "my_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "my_module.py").write_text(OWN_ESTIMATORS)
    rng = np.random.default_rng(0)
    size = rng.normal(5, 2, 120)
    frame = {"size": size, "weight": 3 * size + rng.normal(size=120)}
    frame["kind"] = ["small" if s < 5 else "large" for s in size]
    pl.DataFrame(frame).write_csv(folder / "table.csv")


def forget_modules(folder):
    """Remove the modules of a folder from those imported, as in a new process."""
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(folder)):
            del sys.modules[name]


@pytest.fixture
def workdir(tmp_path, monkeypatch):
    """Current directory with own modules, which are not imported, and a table."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(tmp_path))])
    write_files(tmp_path)
    yield tmp_path
    forget_modules(tmp_path)


def run(*arguments):
    """Exit code of a command."""
    try:
        return main([str(a) for a in arguments])
    except SystemExit as error:
        return error.code


METHOD, IMPORT = "my_package.my_module:BetaVAE", ("--import", "my_package.my_module")


@pytest.fixture(scope="module")
def own_run(tmp_path_factory):
    """Run folder of an own estimator, fitted on the command line."""
    folder = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", list(sys.path))
        write_files(folder)
        options = ("--beta", 2, "--target", "kind", "--test-fraction", 0.25, *TINY)
        assert run("fit", METHOD, "table.csv", *options, "--out", "own") == 0
    forget_modules(folder)
    return folder / "own"


@pytest.fixture
def fitted(workdir, own_run):
    """Current directory with a run folder ``own`` whose module is not imported."""
    shutil.copytree(own_run, workdir / "own")
    config = workdir / "own" / "config.toml"
    config.write_text(config.read_text().replace(str(own_run.parent), str(workdir)))
    return workdir


def test_fit_reads_the_fields_of_the_class_and_writes_a_run_folder(fitted, capsys):
    config = Path("own/config.toml").read_text()
    assert f'method = "{METHOD}"' in config
    assert "beta = 2" in config
    description = json.loads(Path("own/model/model.json").read_text())
    assert description["method"] == METHOD
    assert description["params"]["beta"] == 2
    assert "BetaVAE" in Path("own/report.html").read_text()


def test_help_of_an_own_method_lists_its_fields(workdir, capsys):
    assert run("fit", METHOD, "--help") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "options of BetaVAE" in out
    assert "Weight of the KL term. [a number above 0 and below inf; default: 4.0]" in out


def test_default_run_folder_has_the_name_of_the_class(workdir, capsys):
    options = ("--target", "kind", *TINY, "--no-report")
    assert run("fit", METHOD, "table.csv", *options) == 0
    assert Path("runs/BetaVAE-table/model").is_dir()
    quote = "ancestral evaluate runs/BetaVAE-table --import my_package.my_module"
    assert quote in capsys.readouterr().out


COMMANDS = {
    "evaluate": ("own", "--n-importance-samples", 20),
    "compare": ("own", "own", "--n-importance-samples", 20),
    "active-units": ("own",),
    "sample": ("own", "-n", 5, "--out", "samples.csv"),
    "impute": ("own", "holes.csv", "--out", "filled.csv", "--n-iter", 2),
    "report": ("own",),
    "evaluate-imputation": ("own", "--corruption", "random:0.5", "--n-iter", 2),
}


def write_holes():
    table = pl.read_csv("table.csv")
    table[:5].with_columns(weight=pl.lit(None, dtype=pl.Float64)).write_csv("holes.csv")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_that_opens_a_run_imports_the_module_by_an_option(fitted, capsys, command):
    write_holes()
    arguments = (command, *COMMANDS[command])
    assert run(*arguments) == 2
    expected = (
        f"this model was saved by {METHOD}: import that module first, or use --import "
        "my_package.my_module on the command line"
    )
    assert expected in capsys.readouterr().err
    assert "my_package.my_module" not in sys.modules
    assert run(*arguments, *IMPORT) == 0, capsys.readouterr().err


def test_predict_and_second_stage_of_an_own_classifier(workdir, capsys):
    name = "my_package.my_module:OwnClassifier"
    options = ("--target", "kind", "--test-fraction", 0.25, "--out", "own", "--no-report")
    options += ("--hidden", 8, "--max-epochs", 1)
    assert run("fit", name, "table.csv", *options) == 0
    forget_modules(Path.cwd())
    assert run("predict", "own", "table.csv", "--out", "y.csv") == 2
    assert run("predict", "own", "table.csv", "--out", "y.csv", *IMPORT) == 0
    assert len(pl.read_csv("y.csv")) == 120
    assert run("evaluate", "own", *IMPORT) == 0


def test_the_installed_command_finds_modules_of_the_current_directory(fitted):
    script = Path(sys.executable).with_name("ancestral")
    arguments = ["sample", "own", "-n", "5", "--out", "samples.npy", *IMPORT]
    subprocess.run([script, *arguments], check=True, capture_output=True)
    assert np.load("samples.npy").shape == (5, 2)


def test_with_a_safe_path_the_current_directory_is_not_searched(fitted):
    code = f"from ancestral.cli.main import main; main({['active-units', 'own', *IMPORT]})"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True)
    assert "there is no module my_package" in done.stderr


def test_a_configuration_with_an_own_method_needs_import_or_method(fitted, capsys):
    again = ("fit", "--config", "own/config.toml", "--no-report", "--out")
    assert run(*again, "a") == 2
    assert "--import my_package.my_module" in capsys.readouterr().err
    assert "my_package.my_module" not in sys.modules
    assert run(*again, "b", *IMPORT) == 0
    forget_modules(Path.cwd())
    assert run("fit", METHOD, *again[1:], "c") == 0
    b, c = (ancestral.load(path) for path in ("b", "c"))
    np.testing.assert_array_equal(b.sample(3, random_state=0), c.sample(3, random_state=0))


def test_an_own_model_is_part_of_another(workdir, capsys):
    """GMMN of the codes of an own autoencoder: its description is read when the GMMN is loaded."""
    Path("codes.py").write_text(
        "from ancestral import Autoencoder\n\nclass OwnAutoencoder(Autoencoder):\n    '''Own.'''\n"
    )
    options = ("--target", "kind", "--test-fraction", 0.25, "--no-report", "--max-epochs", 1)
    sizes = ("--n-latents", 2, "--hidden", 8)
    assert run("fit", "codes:OwnAutoencoder", "table.csv", *options, *sizes, "--out", "ae") == 0
    gmmn = ("fit", "gmmn", "table.csv", *options, "--hidden", 8, "--autoencoder", "ae")
    forget_modules(Path.cwd())
    assert run(*gmmn, "--out", "gmmn") == 2
    assert "autoencoder" in capsys.readouterr().err
    assert run(*gmmn, "--out", "gmmn", "--import", "codes") == 0
    forget_modules(Path.cwd())
    sample = ("sample", "gmmn", "-n", 3, "--out", "rows.npy")
    assert run(*sample) == 2
    assert "saved by codes:OwnAutoencoder: import that module first" in capsys.readouterr().err
    assert run(*sample, "--import", "codes") == 0


# ---- in Python


def test_load_finds_an_imported_class(fitted):
    with pytest.raises(ModelFileError, match=f"^own/model: this model was saved by {METHOD}:"):
        ancestral.load("own")
    cls = registry.import_class(METHOD)
    estimator = ancestral.load("own")
    assert type(estimator) is cls
    assert estimator.beta == 2
    same = cls.load("own/model")
    np.testing.assert_array_equal(same.sample(3), estimator.sample(3))
    estimator.save("copy")
    np.testing.assert_array_equal(ancestral.load("copy").sample(3), estimator.sample(3))


def test_load_by_the_class_after_its_module_was_renamed(fitted):
    Path("my_package/my_module.py").rename("renamed.py")
    cls = registry.import_class("renamed:BetaVAE")
    assert cls.load("own/model").beta == 2
    with pytest.raises(ModelFileError, match=f"holds a {METHOD}, not a renamed:Undocumented"):
        registry.import_class("renamed:Undocumented").load("own/model")


def test_an_own_class_with_the_name_of_a_registered_one_is_another(workdir):
    Path("own_vae.py").write_text("import ancestral\nclass VAE(ancestral.VAE):\n    beta: int = 1")
    cls = registry.import_class("own_vae:VAE")
    x = np.random.default_rng(0).normal(size=(50, 3))
    cls(hidden=(4,), max_epochs=1, beta=7).fit(x).save("model")
    assert type(ancestral.load("model")) is cls
    with pytest.raises(ModelFileError, match="holds a own_vae:VAE, not a VAE"):
        ancestral.VAE.load("model")


def test_a_model_of_a_script_says_how_to_load_it(workdir):
    Path("script.py").write_text(
        dedent("""
        import numpy as np
        from my_package.my_module import BetaVAE
        class Own(BetaVAE):
            '''Own.'''
        x = np.random.default_rng(0).normal(size=(50, 3))
        Own(hidden=(4,), max_epochs=1).fit(x).save("model")
        import ancestral
        assert type(ancestral.load("model")) is Own
        """)
    )
    subprocess.run([sys.executable, "script.py"], check=True)
    with pytest.raises(ModelFileError, match="class Own of a script or notebook"):
        ancestral.load("model")


# ---- bad input


BAD_METHODS = {
    "no_such_module:VAE": "there is no module no_such_module",
    "my_package.no_such:VAE": "there is no module my_package.no_such",
    "my_package.my_module:BetaVAR": "has no class 'BetaVAR': did you mean 'BetaVAE'?",
    "my_package.my_module:Other": "Other is no estimator: expected a subclass of",
    "my_package.my_module:not_a_class": "not_a_class is no estimator",
    "my_package.my_module:NotImplementedYet": "is an abstract class: implement _objective",
    "my_package.my_module:": "expected module:Class",
    ":BetaVAE": "'' is not the name of a module",
    "my_package/my_module.py:BetaVAE": "is not the name of a module",
    "broken:VAE": "the import of broken failed at",
    "needs:VAE": "ModuleNotFoundError: No module named 'no_such_library'",
    "raises:VAE": "raises.py:2: RuntimeError: no licence",
}


@pytest.fixture
def bad_modules(workdir):
    Path("broken.py").write_text("def f(:\n")
    Path("needs.py").write_text("import no_such_library\n")
    Path("raises.py").write_text("\nraise RuntimeError('no licence')\n")


@pytest.mark.parametrize("name", BAD_METHODS)
def test_a_bad_method_exits_with_a_message(bad_modules, capsys, name):
    for arguments in ((), ("--max-epochs", 1), ("--help",)):
        assert run("fit", name, "table.csv", *arguments) == 2
        assert BAD_METHODS[name] in capsys.readouterr().err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("no_such_module", "there is no module no_such_module"),
        ("my_package/my_module.py", "expected a name such as my_package.my_module"),
        ("broken", "the import of broken failed at"),
        ("my_package", f"saved by {METHOD}: import that module first"),
    ],
)
def test_a_bad_import_exits_with_a_message(fitted, bad_modules, capsys, module, message):
    assert run("active-units", "own", "--import", module) == 2
    assert message in capsys.readouterr().err


def test_an_unknown_option_of_an_own_method_is_named(workdir, capsys):
    assert run("fit", METHOD, "table.csv", "--bet", 3) == 2
    assert "unrecognized arguments: --bet 3: did you mean --beta?" in capsys.readouterr().err
    assert run("fit", METHOD, "table.csv", "--beta", "-1") == 2
    assert "--beta -1: expected a number above 0" in capsys.readouterr().err


def test_a_value_with_a_colon_is_no_method(workdir, capsys):
    """Only the first positional argument names a module."""
    Path("size.py").write_text("raise RuntimeError\n")
    options = ("--drop", "size:weight", "--overwrite", "--n-latents", "size:weight")
    assert run("fit", *options, "vae", "table.csv") == 2
    assert "n-latents" in capsys.readouterr().err
    assert "size" not in sys.modules


# ---- no file names a module that is imported


@pytest.fixture
def stranger(fitted, monkeypatch):
    """A run folder that names a module, which would write a file."""
    Path("evil.py").write_text("open('written', 'w').close()\nfrom ancestral import VAE as Evil\n")
    Path("evil_package").mkdir()
    Path("evil_package/__init__.py").write_text("open('written', 'w').close()\n")
    monkeypatch.syspath_prepend(fitted)
    return fitted


NAMES = (
    "evil:Evil", "evil:", ":evil", "evil", "evil:Evil:Evil", "evil_package.evil:Evil",
    "subprocess:Popen", "os:system", "builtins:exec", "ancestral.estimators.vae:open",
    "my_package.my_module:BetaVAE", "", 3, None, ["evil:Evil"], {"evil": "Evil"},
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=str)
def test_a_folder_that_names_a_module_imports_nothing(stranger, capsys, name):
    path = Path("own/model/model.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"method": name}))
    config = Path("own/config.toml")
    if isinstance(name, str):
        config.write_text(config.read_text().replace(METHOD, name))
    before = set(sys.modules)
    write_holes()
    with pytest.raises(ModelFileError):
        ancestral.load("own")
    for command, arguments in COMMANDS.items():
        assert run(command, *arguments) == 2
    assert run("fit", "--config", config, "--out", "new", "--no-report") == 2
    fit = ("fit", "vae", "table.csv", *TINY, "--no-report", "--init-from", "own", "--out", "new")
    run(*fit, "--target", "kind")  # parameters alone are read: this may succeed
    run("fit", "gmmn", "table.csv", "--autoencoder", "own", "--no-report", "--out", "codes")
    imported = {name for name in set(sys.modules) - before if not name.startswith("ancestral")}
    assert not imported & {"evil", "evil_package", "my_package", "my_package.my_module"}
    assert not Path("written").exists()
