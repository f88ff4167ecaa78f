"""The command line: python -m nbutils run | build-paper | ship | train-prior | overview."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from nbutils.dataset_names import seen_from
from nbutils.files import NOTEBOOKS
from nbutils.parameters import parsed_value

os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # else each kernel warns about the debugger
sys.modules.setdefault("rfc3987_syntax", None)  # else importing jsonschema compiles a grammar of IRIs for seconds


def chosen(parameters: Iterable[tuple[str, str]]) -> dict[str, object]:
    """Return the values of parameters given as text; a path in the data set's name is relative to this folder."""
    values = {name: parsed_value(text) for name, text in parameters}
    if isinstance(values.get("dataset"), str):
        values["dataset"] = seen_from(Path.cwd(), values["dataset"])
    return values


def run(arguments: argparse.Namespace) -> None:
    """Run one notebook. Raises ValueError, with the cell's error and the half-run notebook's path, if a cell fails."""
    from papermill import PapermillExecutionError

    from nbutils.results import last_line
    from nbutils.runner import find_notebook, run_notebook

    try:
        folder = run_notebook(find_notebook(arguments.notebook), chosen(arguments.parameter), store=arguments.store)
    except PapermillExecutionError as error:
        kept = getattr(error, "__notes__", [])
        raise ValueError(" ".join([*f"{error.ename}: {error.evalue}".split(), *kept])) from error
    print(last_line(folder))


def build_paper(arguments: argparse.Namespace) -> None:
    """Build every network at paper scale."""
    from nbutils.paper_build import build_all

    build_all()


def ship(arguments: argparse.Namespace) -> None:
    """Train, or find in the cache, what data/weights ships for a data set at demo scale, and put it there."""
    from nbutils.shipping import ship_all

    ship_all(arguments.dataset, seeds=arguments.seeds)


def train_prior(arguments: argparse.Namespace) -> None:
    """Train a prior and all that it needs, resumably, and put it into data/weights/priors."""
    from nbutils import priors

    print(priors.get(arguments.name).ship())


def overview(arguments: argparse.Namespace) -> None:
    """Write the gallery and the verdicts into README.md and figures/, from the committed results."""
    from nbutils.overview import write

    print(*write(), sep="\n")


class Parser(argparse.ArgumentParser):
    """A parser whose epilog is a function, called only when help is asked for: some lists need slow imports."""

    def __init__(self, *arguments, epilog: Callable[[], str] = lambda: "", **options):
        super().__init__(*arguments, formatter_class=argparse.RawDescriptionHelpFormatter, **options)
        self.list_names = epilog

    def format_help(self) -> str:
        self.epilog = self.list_names()
        return super().format_help()


def run_epilog() -> str:
    """Return an example of a run, and the notebooks."""
    example = "python -m nbutils run 30 -p scale smoke -p dataset folder:my_images"
    return f"example: {example}\nnotebooks: {', '.join(sorted(path.stem for path in NOTEBOOKS.glob('*.ipynb')))}"


def prior_epilog() -> str:
    """Return the names of the priors."""
    from nbutils import priors

    return f"names: {', '.join(priors.names())}"


def parser() -> Parser:
    """Return the parser of the command line; the function that does a command is its `function`."""
    top = Parser(prog="python -m nbutils", description=__doc__)
    commands = top.add_subparsers(required=True)
    command = commands.add_parser("run", help="run a notebook: its number, name or path", epilog=run_epilog)
    command.add_argument("notebook", help="its number, name or path")
    text = "a value in place of the notebook's own, as NAME VALUE or NAME=VALUE; may be given several times"
    pair = {"nargs": 2, "action": "append", "default": [], "metavar": ("NAME", "VALUE")}
    command.add_argument("-p", "--parameter", **pair, help=text)
    command.add_argument("--store", action="store_true", help="keep the outputs in notebooks/ too")
    command.set_defaults(function=run)
    command = commands.add_parser("build-paper", help="build every network at paper scale and take one step")
    command.set_defaults(function=build_paper)
    command = commands.add_parser("ship", help="train demo artefacts in the background and put them into data/weights")
    command.add_argument("--dataset", default="phantom:liver", help="a phantom (default: %(default)s)")
    command.add_argument("--seeds", type=int, default=1, help="generator seeds to train; the first is shipped")
    command.set_defaults(function=ship)
    text = "train a prior on the corpus (hours, resumable) and ship it"
    command = commands.add_parser("train-prior", help=text, epilog=prior_epilog)
    command.add_argument("name", help="one of the names below")
    command.set_defaults(function=train_prior)
    text = "write the gallery and all verdicts into README.md and figures/README.md, from the committed results"
    commands.add_parser("overview", help=text).set_defaults(function=overview)
    return top


def pairs_apart(given: Sequence[str]) -> list[str]:
    """Return a command line in which -p NAME=VALUE has become -p NAME VALUE."""
    apart = []
    for before, word in zip(["", *given], given, strict=False):
        is_pair = before in ("-p", "--parameter") and re.match(r"\w+=", word)
        apart += word.split("=", 1) if is_pair else [word]
    return apart


def main() -> int:
    """Parse the command line and do it; a mistake in it is one line on stderr and exit status 2."""
    arguments = parser().parse_args(pairs_apart(sys.argv[1:]))
    try:
        arguments.function(arguments)
    except ValueError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
