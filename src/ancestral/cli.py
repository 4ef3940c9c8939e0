"""The command line: fit, evaluate, compare, units, sample, predict, repair, impute, ...

Options of ``fit`` are read off the estimator's fields, so they are the constructor's own. Nothing
here imports torch before it is needed: help answers at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from ancestral import methods
from ancestral._version import __version__

EXAMPLES = """\
examples:
  ancestral demo                                   fit real models offline, write a page to look at
  ancestral fit vae digits                         fit; the run folder is runs/vae-digits
  ancestral fit iwae mnist --n-importance-samples 5 --max-epochs 20
  ancestral fit vae my_table.csv --n-latents 5     your own rows; empty cells are missing values
  ancestral fit vae --help                         every option of a method, with its default
  ancestral evaluate runs/vae-digits               log-likelihood of the test rows
  ancestral sample runs/vae-digits -n 100 --out samples.png
  ancestral impute runs/vae-table damaged.csv --out filled.csv
"""


class Parser(argparse.ArgumentParser):
    """A parser that guesses what a misspelt option should have been."""

    def options(self) -> dict[str, argparse.Action]:
        """Return what it knows, by the words that ask for it."""
        return dict(self._option_string_actions)

    def refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Say which words are unknown, and stop."""
        word = unknown[0].partition("=")[0]
        close = get_close_matches(word, self.options(), n=1)
        guess = f": did you mean {close[0]}?" if close else ""
        self.error(f"unrecognized arguments: {' '.join(unknown)}{guess}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for bad input, 130 when interrupted."""
    try:
        return _run(list(sys.argv[1:] if argv is None else argv))
    except KeyboardInterrupt:
        print("\nancestral: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # as when `head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(arguments: Sequence[str]) -> int:
    options, unknown = build_parser(arguments).parse_known_args(arguments)
    if unknown:
        _check_method(options)
        options.parser.refuse(unknown)
    if options.command in LISTS:
        print("\n".join(LISTS[options.command]()), flush=True)
        return 0
    from ancestral import commands  # imports torch

    commands.show_notices()
    try:
        with commands.denormals_flushed():
            commands.COMMANDS[options.command](options)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except commands.FOR_THE_USER as error:
        message = commands.in_options(str(error), options.parser.options())
        print(f"ancestral: error: {message}", file=sys.stderr)
        return 2
    return 0


def _check_method(options: argparse.Namespace) -> None:
    """Stop if there is no such method: options are unknown only because it is."""
    method = getattr(options, "method", None)
    if method is not None:
        try:
            methods.find(method)
        except ValueError as error:
            options.parser.error(str(error))


def _list_methods() -> list[str]:
    width = max(map(len, methods.METHODS))
    return [f"{method.name:{width}} {method.summary}" for method in methods.METHODS.values()]


def _list_datasets() -> list[str]:
    from ancestral import datasets

    return [str(datasets.describe(name)) for name in datasets.names()]


LISTS = {"methods": _list_methods, "datasets": _list_datasets}


def build_parser(arguments: Sequence[str] = ()) -> Parser:
    """Make the parser; the options of a method are added when ``arguments`` name it."""
    parser = Parser(
        prog="ancestral",
        description="The classical deep generative models, exact, fast and reproducible.",
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
    _add_repair(commands)
    _add_impute(commands)
    report = _add(commands, "report", "write the report page of a run again")
    report.add_argument("run", type=Path, help="run folder")
    report.add_argument(
        "--n-importance-samples", type=int, default=100, metavar="S", help="of the first 500 rows"
    )
    _add_reproduce(commands)
    demo = _add(commands, "demo", "fit real models on digits, offline, and write a report page")
    demo.add_argument("--out", type=Path, default=Path("demo"), help="folder (default: demo)")
    _add(commands, "methods", "list the systems that can be fitted")
    _add(commands, "datasets", "list the data sets that can be named")
    return parser


def _add(commands: Any, name: str, text: str, **how: Any) -> Parser:
    sentence = f"{text[0].upper()}{text[1:]}."
    parser = commands.add_parser(name, help=text, description=sentence, allow_abbrev=False, **how)
    parser.set_defaults(parser=parser)
    return parser


def _add_fit(commands: Any, arguments: Sequence[str]) -> None:
    fit = _add(
        commands,
        "fit",
        "fit a system to data and leave a run folder",
        epilog="`ancestral fit METHOD --help` shows the options of a method.",
    )
    listed = ", ".join(methods.METHODS)
    fit.add_argument("method", nargs="?", help=f"one of: {listed}", metavar="METHOD")
    fit.add_argument(
        "data",
        nargs="?",
        metavar="DATA",
        help="a name (`ancestral datasets`), a .npy .npz .csv .parquet file, or a folder of images",
    )
    fit.add_argument("--out", type=Path, help="run folder (default: runs/METHOD-DATA)")
    fit.add_argument("--overwrite", action="store_true", help="replace the run folder")
    fit.add_argument("--config", type=Path, help="TOML file; options given here override it")
    fit.add_argument("--no-report", action="store_true", help="leave out the report page")
    _add_data_options(fit)
    fit.add_argument("--test-fraction", type=float, metavar="F", help="rows held out for testing")
    fit.add_argument(
        "--n-valid", type=int, metavar="N", help="last training rows made the validation split"
    )
    fit.add_argument("--n-train", type=int, metavar="N", help="the first N training rows only")
    fit.add_argument(
        "--n-labels", type=int, metavar="N", help="labels of N training rows only, balanced"
    )
    fit.add_argument("--label-seed", type=int, metavar="N", help="of the draw of those rows")
    if "fit" in arguments:
        named = [a for a in arguments if a in methods.METHODS]
        if named:
            _add_fields(fit, methods.find(named[0]).load())


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("your own data")
    group.add_argument("--target", metavar="COLUMN", help="column of a table that holds labels")
    group.add_argument("--drop", metavar="COLUMNS", help="of a table, to leave out: id,name")
    group.add_argument("--separator", metavar="CHARACTER", help="between the cells of a CSV file")
    group.add_argument("--no-header", action="store_true", help="a CSV file without column names")
    group.add_argument("--grayscale", action="store_true", help="read pictures in grey")
    group.add_argument("--size", metavar="H,W", help="resize pictures")
    group.add_argument("--contrast", action="store_true", help="normalise the contrast of pictures")
    group.add_argument(
        "--halves", action="store_true", help="rows are left halves of pictures, targets the right"
    )


def _add_fields(parser: argparse.ArgumentParser, cls: type) -> None:
    """Add an option for every field of an estimator, its help taken from the docstrings."""
    from ancestral.docstrings import field_help
    from ancestral.fields import defaults, describe, hints

    described = field_help(cls)
    group = parser.add_argument_group(f"options of {cls.__name__}")
    values = defaults(cls)
    for name, hint in hints(cls).items():
        text = f"{described.get(name, '')} [{describe(hint)}; default: {values[name]}]"
        group.add_argument(
            f"--{name.replace('_', '-')}",
            dest=f"field.{name}",
            metavar=name.split("_")[-1].upper(),
            help=text.strip().replace("%", "%%"),
        )


def _add_evaluate(commands: Any) -> None:
    evaluate = _add(
        commands, "evaluate", "score held-out rows: their log-likelihood, a classifier's errors"
    )
    evaluate.add_argument("run", type=Path, help="run folder, or a saved model")
    _add_scoring(evaluate)
    evaluate.add_argument("--out", type=Path, metavar="FILE", help="values row by row, as CSV")
    evaluate.add_argument(
        "--two-sided",
        type=int,
        metavar="N",
        help="draw N rows from the model and bound their likelihood from below and above by "
        "annealing: the gap says how far it can be trusted",
    )
    evaluate.add_argument(
        "--classifier",
        type=Path,
        metavar="RUN",
        help="of drawn rows: which classes this classifier sees in them, and whether they are of "
        "the class that was asked for",
    )
    evaluate.add_argument(
        "--retrain",
        action="store_true",
        help="with --classifier: train it again on drawn rows alone, and score it on real ones",
    )
    _add_second_stage(evaluate)
    compare = _add(commands, "compare", "compare two models on the same held-out rows, row by row")
    compare.add_argument("run", type=Path, metavar="first", help="run folder, or a saved model")
    compare.add_argument("second", type=Path, help="another")
    _add_scoring(compare)
    compare.add_argument("--out", type=Path, metavar="FILE.json", help="the differences")
    units = _add(commands, "units", "count the latent units that a model uses")
    units.add_argument("run", type=Path, help="run folder, or a saved model")
    units.add_argument("data", nargs="?", help="other data than the run's own")
    units.add_argument(
        "--rows", type=int, default=500, metavar="N", help="training rows to look at (default: 500)"
    )
    _add_data_options(units)


def _add_predict(commands: Any) -> None:
    predict = _add(commands, "predict", "tell the classes of rows")
    predict.add_argument("run", type=Path, help="run folder, or a saved model, of a classifier")
    predict.add_argument("data", help="rows")
    _add_split(predict)
    predict.add_argument(
        "--out", type=Path, required=True, help=".csv, with probabilities, or .npy"
    )
    _add_data_options(predict)


def _add_repair(commands: Any) -> None:
    repair = _add(commands, "repair", "take entries away, and score what a model fills in")
    add = repair.add_argument
    add("run", type=Path, help="run folder, or a saved model")
    add("data", nargs="?", help="other data than the run's own")
    add(
        "--damage",
        default="rect:12,random:0.6,half",
        metavar="WAYS",
        help="rect:SIDE, random:PROBABILITY, half; several with commas (default: %(default)s)",
    )
    add("--split", choices=["test", "valid", "train"], help="which rows")
    add("--rows", type=int, metavar="N", help="the first N rows only")
    _add_rounds(repair)
    _add_second_stage(repair)
    add("--seed", type=int, default=0, help="of the damage and of the noise (default: 0)")
    add("--out", type=Path, metavar="FILE.png", help="a strip for each way: original to repaired")
    _add_data_options(repair)


def _add_split(parser: argparse.ArgumentParser) -> None:
    """Add which rows are answered for."""
    parser.add_argument(
        "--split",
        choices=["train", "valid", "test"],
        default="train",
        help="which rows, of data that have several splits (default: %(default)s)",
    )


def _add_second_stage(parser: argparse.ArgumentParser) -> None:
    """Add what tells classes in a model's place."""
    parser.add_argument(
        "--second-stage",
        choices=["pegasos", "adagrad", "liblinear"],
        help="tell classes by a linear SVM learned afresh on features of the run's training rows",
    )


def _add_rounds(parser: argparse.ArgumentParser) -> None:
    """Add what says how gaps are filled in."""
    add = parser.add_argument
    add("--n-iter", type=int, default=100, help="rounds (default: 100)")
    add("--n-chains", type=int, default=1, metavar="C", help="repairs averaged (default: 1)")
    add(
        "--gaps",
        choices=["noise", "zero"],
        default="noise",
        help="what stands in the gaps at first (default: noise)",
    )
    add(
        "--batch-statistics",
        action="store_true",
        help="batch normalisation by the rows at hand, as the memory paper does",
    )


def _add_scoring(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data", nargs="?", help="other data than the run's own")
    add = parser.add_argument
    add(
        "--metric",
        choices=["log_likelihood", "error"],
        help="what to score (default: the likelihood; `evaluate` shows a classifier's errors too)",
    )
    add(
        "--n-importance-samples",
        type=int,
        default=5000,
        metavar="S",
        help="samples per row of the bound L_S (default: 5000)",
    )
    add("--split", choices=["test", "valid", "train"], help="which rows")
    add(
        "--precision",
        choices=["float32", "bfloat16", "auto"],
        default="float32",
        help="of matrix products; numbers to publish are float32 (default)",
    )
    add("--rows", type=int, metavar="N", help="the first N rows only")
    add(
        "--binarize-seed",
        default="0",
        metavar="SEED",
        help="of the one binarisation of grey values; several as 0,1,2 (default: 0)",
    )
    annealed = parser.add_argument_group("annealed importance sampling")
    add = annealed.add_argument
    add("--annealed", action="store_true", help="in place of L_S: slower, tighter")
    add("--n-steps", type=int, metavar="T", help="distributions (default: 1000)")
    add("--n-chains", type=int, metavar="C", help="chains per row (default: 16)")
    add("--start", choices=["prior", "posterior"], help="where chains start (default: prior)")
    add("--n-leapfrog", type=int, metavar="L", help="a trajectory's steps (default: 10)")
    add(
        "--first-step-size",
        type=float,
        metavar="E",
        help="of the leapfrog, before it adapts (default: 0.1)",
    )
    add(
        "--observation-variance",
        type=float,
        metavar="S",
        help="of a generator, which has no likelihood: that of its rows with normal noise on top",
    )
    _add_data_options(parser)


def _add_reproduce(commands: Any) -> None:
    reproduce = _add(
        commands,
        "reproduce",
        "run a row or a table of a paper and leave records",
        epilog="What was interrupted goes on; what is done in the run folders is not done again.",
    )
    add = reproduce.add_argument
    add("target", nargs="?", help="TABLE, or TABLE/ROW", metavar="TARGET")
    add("--list", action="store_true", help="published numbers, ours, the gap, and the command")
    add("--size", choices=["smoke", "fast", "paper"], default="fast", help="default: fast")
    add("--seeds", type=int, default=1, metavar="N", help="run seeds 0 to N - 1 (default: 1)")
    add("--seed", type=int, metavar="SEED", help="this seed alone")
    add(
        "--select",
        action="store_true",
        help="choose settings: train without held-out rows and score those, not the test rows",
    )
    add(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="with --select: change an option of the recipe, to see whether it should be "
        "(start.NAME: of the fit that it starts from)",
    )
    add("--runs", type=Path, default=Path("runs/reproduce"), help="default: runs/reproduce")
    add("--results", type=Path, default=Path("results"), help="records (default: results)")
    add("--jobs", type=int, default=1, metavar="N", help="processes here that share the cores")
    add(
        "--cluster",
        choices=["slurm", "local"],
        help="submit every run by submitit (pip install ancestral[cluster])",
    )
    add("--partition", help="of SLURM")
    add(
        "--reuse",
        type=Path,
        metavar="FOLDER",
        help="take the models that other rows trained from here, as --ship wrote them, where the "
        "settings are the same",
    )
    add("--ship", type=Path, metavar="FOLDER", help="write the first seed's models there, small")


def _add_sample(commands: Any) -> None:
    sample = _add(commands, "sample", "draw rows from a fitted model")
    sample.add_argument("run", type=Path, help="run folder, or a saved model")
    sample.add_argument("-n", type=int, default=64, help="how many (default: 64)")
    sample.add_argument(
        "--out", type=Path, required=True, help=".npy, .npz, .csv, .parquet, or .png for images"
    )
    sample.add_argument("--label", help="of this class, from a conditional model")
    sample.add_argument("--mean", action="store_true", help="E[x | z] in place of a draw of x")
    sample.add_argument("--random-state", type=int, help="seed (default: the fit's own)")


def _add_impute(commands: Any) -> None:
    impute = _add(commands, "impute", "fill in missing values")
    impute.add_argument("run", type=Path, help="run folder, or a saved model")
    impute.add_argument("data", help="rows with missing values (NaN, empty cells)")
    _add_split(impute)
    impute.add_argument(
        "--out", type=Path, required=True, help=".npy, .npz, .csv, .parquet, or .png for images"
    )
    _add_rounds(impute)
    impute.add_argument("--random-state", type=int, help="seed (default: the fit's own)")
    impute.add_argument(
        "--fill",
        choices=["mean", "sample"],
        default="mean",
        help="expected values (of bits and counts, fractions), or draws (default: %(default)s)",
    )
    _add_data_options(impute)


if __name__ == "__main__":
    sys.exit(main())
