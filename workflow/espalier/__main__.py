"""Run one stage: `python -m espalier STAGE --spec JSON --NAME PATH…`; the options are the stage's own arguments."""

import ast
import inspect
import sys
from argparse import ArgumentParser
from argparse import RawDescriptionHelpFormatter as AsWritten
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from pydantic import ValidationError

from espalier.core.runtime import UserError

STAGES = {file.stem: file for file in sorted((Path(__file__).parent / "stages").glob("[a-z]*.py"))}


def summary(file: Path) -> str:
    """First line of a module's docstring, without importing the module."""
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def overview() -> ArgumentParser:
    """The parser for the stage's name."""
    parser = ArgumentParser("python -m espalier", "%(prog)s STAGE --spec JSON --NAME PATH…", formatter_class=AsWritten)
    parser.add_argument("stage", choices=STAGES, metavar="STAGE")
    parser.epilog = "\n".join(["stages:", *(f"  {name:<10} {summary(file)}" for name, file in STAGES.items())])
    return parser


def parser_of(stage: str, run: Callable[..., None]) -> ArgumentParser:
    """One required option an argument: a text, a path, or a list of paths, which may be empty."""
    parser = ArgumentParser(f"python -m espalier {stage}", description=inspect.getdoc(run), formatter_class=AsWritten)
    for name, parameter in inspect.signature(run, eval_str=True).parameters.items():
        option = f"--{name.replace('_', '-')}"
        if parameter.annotation == list[Path]:
            parser.add_argument(option, type=Path, nargs="*", required=True, metavar="PATH")
        elif parameter.annotation is Path:
            parser.add_argument(option, type=Path, required=True, metavar="PATH")
        else:
            parser.add_argument(option, required=True, metavar="JSON")
    return parser


def main(arguments: list[str]) -> int:
    """Run a stage; what the user can put right is said in plain words and exits with 1."""
    stage = overview().parse_args(arguments[:1] or ["--help"]).stage
    run = import_module(f"espalier.stages.{stage}").run
    options = vars(parser_of(stage, run).parse_args(arguments[1:]))
    try:
        run(**options)
    except UserError as error:
        print(f"{stage}: {error}", file=sys.stderr)
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            place = ".".join(map(str, problem["loc"]))
            print(f"{stage}: --spec {place}: {problem['msg']}; got {problem['input']!r}", file=sys.stderr)
    else:
        return 0
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
