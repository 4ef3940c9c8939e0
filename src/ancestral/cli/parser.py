"""Argument parser of the command line."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from ancestral._version import __version__
from ancestral.estimators import registry

EXAMPLES = """\
examples:
  ancestral demo                                   fit two models offline and write report pages
  ancestral fit vae digits                         fit a model in the run folder runs/vae-digits
  ancestral fit iwae mnist --n-importance-samples 5 --max-epochs 20
  ancestral fit vae my_table.csv --n-latents 5     fit your own table; empty cells are missing
  ancestral fit vae --help                         list the options of a method with defaults
  ancestral fit my_module:MyVAE my_table.csv       fit your own estimator, of a file my_module.py
  ancestral evaluate runs/vae-digits               log-likelihood of the test rows
  ancestral sample runs/vae-digits -n 100 --out samples.png
  ancestral impute runs/vae-table my_table.csv --out imputed.csv
"""


class Parser(argparse.ArgumentParser):
    """Argument parser that suggests the closest option for an unknown one."""

    def options(self) -> dict[str, argparse.Action]:
        """Actions of the parser by option string."""
        return dict(self._option_string_actions)

    def error_unknown(self, unknown: Sequence[str]) -> NoReturn:
        """Exit with an error message that names the unknown arguments."""
        option = unknown[0].partition("=")[0]
        close = get_close_matches(option, self.options(), n=1)
        hint = f": did you mean {close[0]}?" if close else ""
        self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")


def build_parser(arguments: Sequence[str] = ()) -> Parser:
    """Build the parser. The options of a method are added only if ``arguments`` name it."""
    parser = Parser(
        prog="ancestral",
        description="Classical deep generative models, exact, fast and reproducible.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"ancestral {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_fit(commands, arguments)
    _add_evaluate(commands)
    _add_sample(commands)
    _add_predict(commands)
    _add_evaluate_imputation(commands)
    _add_impute(commands)
    report = _add(commands, "report", "rewrite the report page of a run")
    report.add_argument("run", type=Path, help="run folder")
    _add_import(report)
    report.add_argument(
        "--n-importance-samples",
        type=int,
        default=100,
        metavar="S",
        help="importance samples for the log-likelihood of the first 500 rows (default: 100)",
    )
    _add_reproduce(commands)
    demo = _add(commands, "demo", "fit a VAE and an IWAE on digits, offline, and write reports")
    demo.add_argument("--out", type=Path, default=Path("demo"), help="folder (default: demo)")
    _add(commands, "methods", "list the available estimators")
    _add(commands, "datasets", "list the available data sets")
    return parser


def _add(commands: Any, name: str, text: str, **options: Any) -> Parser:
    """Add a subcommand; its description is the help text as a sentence."""
    sentence = f"{text[0].upper()}{text[1:]}."
    parser = commands.add_parser(
        name, help=text, description=sentence, allow_abbrev=False, **options
    )
    parser.set_defaults(parser=parser)
    return parser


def _add_fit(commands: Any, arguments: Sequence[str]) -> None:
    """Add the subcommand ``fit``, with the options of the method that the arguments name."""
    fit = _add(
        commands,
        "fit",
        "fit an estimator to data and write a run folder",
        epilog="`ancestral fit METHOD --help` lists the options of a method.",
    )
    method_names = ", ".join(registry.METHODS)
    fit.add_argument(
        "method",
        nargs="?",
        help=f"one of: {method_names}; or module:Class of an estimator of your own, which is "
        "imported",
        metavar="METHOD",
    )
    fit.add_argument(
        "data",
        nargs="?",
        metavar="DATA",
        help="name of a data set (`ancestral datasets`), .npy, .npz, .csv or .parquet file, or "
        "folder of images",
    )
    fit.add_argument("--out", type=Path, help="run folder (default: runs/METHOD-DATA)")
    fit.add_argument("--overwrite", action="store_true", help="replace an existing run folder")
    fit.add_argument(
        "--config", type=Path, help="TOML configuration; command-line options override it"
    )
    fit.add_argument("--no-report", action="store_true", help="do not write the report page")
    _add_data_options(fit)
    fit.add_argument(
        "--test-fraction", type=float, metavar="F", help="fraction of rows held out for testing"
    )
    fit.add_argument(
        "--n-valid", type=int, metavar="N", help="use the last N training rows for validation"
    )
    fit.add_argument("--n-train", type=int, metavar="N", help="use the first N training rows only")
    fit.add_argument(
        "--n-labels", type=int, metavar="N", help="keep N training labels, balanced over classes"
    )
    fit.add_argument(
        "--label-seed", type=int, metavar="N", help="seed of the choice of labelled rows"
    )
    _add_import(fit)
    if "fit" in arguments[:1]:
        name = _first_positional(fit, arguments[1:])
        if name is not None:
            _add_method_options(fit, name)


def _add_method_options(fit: Parser, name: str) -> None:
    """Add the options of a method, if its name is known, after importing its class.

    Exit with an error if a ``module:Class`` cannot be imported.
    """
    try:
        cls = registry.import_class(name)
    except ValueError as error:
        if ":" in name:
            fit.error(str(error))
        return
    _add_estimator_options(fit, cls)


def _first_positional(parser: Parser, arguments: Sequence[str]) -> str | None:
    """Return the first positional argument. An option that the parser lacks has one value."""
    options, is_value = parser.options(), False
    for argument in arguments:
        if is_value:
            is_value = False
        elif not argument.startswith("-"):
            return argument
        else:
            takes_value = argument not in options or options[argument].nargs != 0
            is_value = takes_value and "=" not in argument
    return None


def _add_import(parser: argparse.ArgumentParser) -> None:
    """Add the option that imports the modules of estimators outside this package."""
    parser.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module first, for a saved model whose class is defined there (may be "
        "repeated)",
    )


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the user's own data."""
    group = parser.add_argument_group("your own data")
    group.add_argument("--target", metavar="COLUMN", help="column of labels or targets of a table")
    group.add_argument(
        "--drop", metavar="COLUMNS", help="columns of a table to ignore, for example id,name"
    )
    group.add_argument("--separator", metavar="CHARACTER", help="separator of a CSV file")
    group.add_argument("--no-header", action="store_true", help="CSV file has no column names")
    group.add_argument("--grayscale", action="store_true", help="convert images to grey scale")
    group.add_argument("--size", metavar="H,W", help="height and width to resize images to")
    group.add_argument("--contrast", action="store_true", help="normalise the contrast of images")
    group.add_argument(
        "--halves",
        action="store_true",
        help="use the left halves of images as rows and the right halves as targets",
    )


def _add_estimator_options(parser: argparse.ArgumentParser, cls: type) -> None:
    """Add an option for each field of an estimator, with help from its docstring."""
    from ancestral.utils.docstrings import field_help
    from ancestral.utils.validation import describe_hint, field_defaults, field_hints

    descriptions = field_help(cls)
    group = parser.add_argument_group(f"options of {cls.__name__}")
    values = field_defaults(cls)
    for name, hint in field_hints(cls).items():
        text = f"{descriptions.get(name, '')} [{describe_hint(hint)}; default: {values[name]}]"
        group.add_argument(
            f"--{name.replace('_', '-')}",
            dest=f"field.{name}",
            metavar=name.split("_")[-1].upper(),
            help=text.strip().replace("%", "%%"),
        )


def _add_evaluate(commands: Any) -> None:
    """Add the subcommands ``evaluate``, ``compare`` and ``active-units``."""
    evaluate = _add(
        commands, "evaluate", "score held-out rows: log-likelihood, error rate or other metrics"
    )
    evaluate.add_argument("run", type=Path, help="run folder, or a saved model")
    _add_import(evaluate)
    _add_evaluation_options(evaluate)
    evaluate.add_argument("--out", type=Path, metavar="FILE", help="CSV file of row-wise values")
    evaluate.add_argument(
        "--bidirectional",
        type=int,
        metavar="N",
        help="draw N samples from the model and compute lower and upper bounds on their "
        "log-likelihood by annealing; the gap measures the accuracy of annealing",
    )
    evaluate.add_argument(
        "--classifier",
        type=Path,
        metavar="RUN",
        help="classifier that predicts the classes of generated samples: class frequencies, and "
        "the label error of class-conditional samples",
    )
    evaluate.add_argument(
        "--retrain",
        action="store_true",
        help="with --classifier: retrain it on samples only and score it on real rows",
    )
    _add_second_stage(evaluate)
    compare = _add(commands, "compare", "compare two models on the same held-out rows, row by row")
    compare.add_argument("run", type=Path, metavar="FIRST", help="run folder, or a saved model")
    compare.add_argument(
        "second", type=Path, metavar="SECOND", help="second run folder, or saved model"
    )
    _add_import(compare)
    _add_evaluation_options(compare)
    compare.add_argument(
        "--out", type=Path, metavar="FILE.json", help="JSON file of the differences"
    )
    active_units = _add(commands, "active-units", "count the active latent units of a model")
    active_units.add_argument("run", type=Path, help="run folder, or a saved model")
    _add_import(active_units)
    active_units.add_argument("data", nargs="?", help="data to use instead of the run's own")
    active_units.add_argument(
        "--n-rows",
        type=int,
        default=500,
        metavar="N",
        help="number of training rows (default: 500)",
    )
    _add_data_options(active_units)


def _add_predict(commands: Any) -> None:
    """Add the subcommand ``predict``."""
    predict = _add(commands, "predict", "predict class labels or targets for new data")
    predict.add_argument("run", type=Path, help="run folder, or a saved model")
    _add_import(predict)
    predict.add_argument("data", help="rows to predict for")
    _add_split(predict)
    predict.add_argument(
        "--out",
        type=Path,
        required=True,
        help="output file: .csv (with class probabilities or standard deviations) or .npy",
    )
    _add_data_options(predict)


def _add_evaluate_imputation(commands: Any) -> None:
    """Add the subcommand ``evaluate-imputation``."""
    imputation = _add(
        commands,
        "evaluate-imputation",
        "corrupt rows and score their imputation and classification",
    )
    add = imputation.add_argument
    add("run", type=Path, help="run folder, or a saved model")
    _add_import(imputation)
    add("data", nargs="?", help="data to use instead of the run's own")
    add(
        "--corruption",
        default="square:12,random:0.6,half",
        metavar="CORRUPTIONS",
        help="comma-separated corruptions: square:SIDE, random:PROBABILITY or half "
        "(default: %(default)s)",
    )
    add("--split", choices=["test", "valid", "train"], help="split of the rows")
    add("--n-rows", type=int, metavar="N", help="use the first N rows only")
    _add_imputation_options(imputation)
    _add_second_stage(imputation)
    add("--seed", type=int, default=0, help="seed of corruption and imputation (default: 0)")
    add(
        "--out",
        type=Path,
        metavar="FILE.png",
        help="image of original, corrupted and imputed rows for each corruption",
    )
    _add_data_options(imputation)


def _add_split(parser: argparse.ArgumentParser) -> None:
    """Add the option of the split to compute outputs for."""
    parser.add_argument(
        "--split",
        choices=["train", "valid", "test"],
        default="train",
        help="split of the rows, for data with several splits (default: %(default)s)",
    )


def _add_second_stage(parser: argparse.ArgumentParser) -> None:
    """Add the option of second-stage classification."""
    parser.add_argument(
        "--linear-classifier",
        choices=["pegasos", "adagrad", "liblinear"],
        help="classify by a linear SVM fitted to features of the run's training rows",
    )


def _add_imputation_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of imputation."""
    add = parser.add_argument
    add(
        "--method",
        choices=["weighted", "pseudo-gibbs"],
        default="weighted",
        help="importance-weighted latents, or the unweighted chains of the papers "
        "(default: %(default)s)",
    )
    add("--n-iter", type=int, default=100, help="number of imputation iterations (default: 100)")
    add(
        "--n-chains",
        type=int,
        default=1,
        metavar="C",
        help="number of pseudo-Gibbs chains to average (default: 1)",
    )
    add(
        "--init",
        choices=["noise", "zero"],
        default="noise",
        help="initial values of missing entries (default: noise)",
    )
    add(
        "--batch-statistics",
        action="store_true",
        help="use the batch statistics of the imputed rows in batch normalisation; requires "
        "--method pseudo-gibbs",
    )


def _add_evaluation_options(parser: argparse.ArgumentParser) -> None:
    """Add the data, the metric and the options of log-likelihood estimation."""
    parser.add_argument("data", nargs="?", help="data to use instead of the run's own")
    add = parser.add_argument
    add(
        "--metric",
        choices=["log_likelihood", "error"],
        help="metric (default: log_likelihood; `evaluate` also reports a classifier's error rate)",
    )
    add(
        "--n-importance-samples",
        type=int,
        default=5000,
        metavar="S",
        help="samples per row of the bound L_S (default: 5000)",
    )
    add("--split", choices=["test", "valid", "train"], help="split of the rows")
    add(
        "--precision",
        choices=["float32", "bfloat16", "auto"],
        default="float32",
        help="precision of matrix products; use float32 for published results (default: float32)",
    )
    add("--n-rows", type=int, metavar="N", help="use the first N rows only")
    add(
        "--binarize-seed",
        default="0",
        metavar="SEED",
        help="seed of the fixed binarisation of grey values, or several as 0,1,2 (default: 0)",
    )
    annealed = parser.add_argument_group("annealed importance sampling")
    add = annealed.add_argument
    add("--annealed", action="store_true", help="use AIS instead of L_S: slower and more accurate")
    add("--n-steps", type=int, metavar="T", help="number of distributions (default: 1000)")
    add("--n-chains", type=int, metavar="C", help="chains per row (default: 16)")
    add(
        "--initial-distribution",
        choices=["prior", "posterior"],
        help="initial distribution of the chains (default: prior)",
    )
    add("--n-leapfrog", type=int, metavar="L", help="leapfrog steps per trajectory (default: 10)")
    add(
        "--initial-step-size",
        type=float,
        metavar="E",
        help="initial leapfrog step size, before adaptation (default: 0.1)",
    )
    add(
        "--observation-variance",
        type=float,
        metavar="S",
        help="variance of Gaussian observation noise, which gives a generator a likelihood",
    )
    _add_data_options(parser)


def _add_reproduce(commands: Any) -> None:
    """Add the subcommand ``reproduce``."""
    reproduce = _add(
        commands,
        "reproduce",
        "reproduce a row or a table of a paper and write records",
        epilog="Interrupted runs are resumed; completed work in the run folders is reused.",
    )
    add = reproduce.add_argument
    add("target", nargs="?", help="TABLE, or TABLE/ROW", metavar="TARGET")
    add(
        "--list",
        action="store_true",
        help="list published and reproduced values, their differences and the commands",
    )
    add(
        "--size",
        choices=["smoke", "fast", "paper"],
        default="fast",
        help="training budget (default: fast)",
    )
    add("--seeds", type=int, default=1, metavar="N", help="run seeds 0 to N - 1 (default: 1)")
    add("--seed", type=int, metavar="SEED", help="run this seed only")
    add(
        "--select",
        action="store_true",
        help="model selection: train without the validation rows and score them instead of the "
        "test rows",
    )
    add(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="with --select: override an option of the recipe (init_from.NAME: an option of the "
        "fit that initialises it)",
    )
    _add_reproduce_folders(reproduce)


def _add_reproduce_folders(reproduce: argparse.ArgumentParser) -> None:
    """Add the options of folders and of parallel runs to ``reproduce``."""
    add = reproduce.add_argument
    add(
        "--runs",
        type=Path,
        default=Path("runs/reproduce"),
        help="folder of run folders (default: runs/reproduce)",
    )
    add(
        "--results", type=Path, default=Path("results"), help="folder of records (default: results)"
    )
    add(
        "--jobs",
        type=int,
        default=1,
        metavar="N",
        help="number of local processes, which share the cores (default: 1)",
    )
    add(
        "--cluster",
        choices=["slurm", "local"],
        help="submit every run by submitit (pip install ancestral[cluster])",
    )
    add("--partition", help="SLURM partition")
    add(
        "--reuse",
        type=Path,
        metavar="FOLDER",
        help="use models of other rows shipped to this folder, if their settings are the same",
    )
    add(
        "--ship",
        type=Path,
        metavar="FOLDER",
        help="write the models of the first seed to this folder, with quantised weights",
    )


def _add_sample(commands: Any) -> None:
    """Add the subcommand ``sample``."""
    sample = _add(commands, "sample", "draw samples from a fitted model")
    sample.add_argument("run", type=Path, help="run folder, or a saved model")
    _add_import(sample)
    sample.add_argument("-n", type=int, default=64, help="number of samples (default: 64)")
    sample.add_argument(
        "--out",
        type=Path,
        required=True,
        help="output file: .npy, .npz, .csv, .parquet, or .png for images",
    )
    sample.add_argument("--label", help="class of the samples, for a class-conditional model")
    sample.add_argument(
        "--mean", action="store_true", help="write E[x | z] instead of a draw from p(x | z)"
    )
    sample.add_argument("--random-state", type=int, help="seed (default: that of the fit)")


def _add_impute(commands: Any) -> None:
    """Add the subcommand ``impute``."""
    impute = _add(commands, "impute", "impute missing values")
    impute.add_argument("run", type=Path, help="run folder, or a saved model")
    _add_import(impute)
    impute.add_argument("data", help="rows with missing values (NaN, empty cells)")
    _add_split(impute)
    impute.add_argument(
        "--out",
        type=Path,
        required=True,
        help="output file: .npy, .npz, .csv, .parquet, or .png for images",
    )
    _add_imputation_options(impute)
    impute.add_argument("--random-state", type=int, help="seed (default: that of the fit)")
    impute.add_argument(
        "--result",
        choices=["mean", "sample"],
        default="mean",
        help="impute expected values (fractions for bits and counts) or draws "
        "(default: %(default)s)",
    )
    _add_data_options(impute)
