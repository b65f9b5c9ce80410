"""Run one stage: `python -m espalier STAGE --spec JSON --NAME PATH…`; the options are the stage's own arguments.

Commands for people have options of their own: `python -m espalier trace PATH`, `python -m espalier verify`.

Where the fork server runs the stage, this process only waits. Functions import what it then does not need.
"""

import ast
import errno
import inspect
import os
import sys
from argparse import ArgumentParser
from argparse import RawDescriptionHelpFormatter as AsWritten
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

from espalier.runtime.errors import TRY_AGAIN, Interrupted, UserError, WorkerDone
from espalier.runtime.process import PROCESSES, keep_freed_memory
from espalier.runtime.watching import go_on_watched
from espalier.stages import FILES, MODULES, TRAINING

OUTSIDE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
"""What a disk or its owner refuses: nothing that a traceback would explain."""
COMMANDS = {file.stem.replace("_", "-"): file for file in sorted((Path(__file__).parent / "commands").glob("[a-z]*.py"))}


def summary(file: Path) -> str:
    """First line of a module's docstring, without importing the module."""
    return (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]


def overview() -> ArgumentParser:
    """The parser for the name of a command or stage."""
    usage = "%(prog)s COMMAND …\n       %(prog)s STAGE --spec JSON --NAME PATH…"
    parser = ArgumentParser("python -m espalier", usage, formatter_class=AsWritten)
    parser.add_argument("name", choices={**COMMANDS, **FILES}, metavar="NAME")
    parser.epilog = "\n\n".join(_listed(kind, files) for kind, files in (("commands", COMMANDS), ("stages", FILES)))
    return parser


def _listed(kind: str, files: dict[str, Path]) -> str:
    return "\n".join([f"{kind}:", *(f"  {name:<10} {summary(file)}" for name, file in files.items())])


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


def share(stage: str, arguments: list[str]) -> None:
    """Become the launcher of as many processes as the configuration asks for, which share a training stage's batches."""
    processes = os.environ.get(PROCESSES, "1")
    if stage in TRAINING and processes != "1" and "RANK" not in os.environ:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes, "-m"]
        # without the two dashes the launcher takes `--start` for an abbreviation of an option of its own
        os.execv(sys.executable, [sys.executable, *launcher, "--", "espalier", stage, *arguments])


def run_stage(stage: str, arguments: list[str]) -> int:
    """Run a stage and record what it wrote."""
    from espalier.provenance.job_records import job_record

    share(stage, arguments)
    if stage in TRAINING:  # elsewhere latency is measured, as a user's process has it
        keep_freed_memory()
    run = import_module(MODULES[stage]).run
    options = vars(parser_of(stage, run).parse_args(arguments))
    with job_record(stage, _paths(options), str(options.get("spec", ""))):
        run(**options)
    return 0


def _paths(options: dict[str, object]) -> Iterator[Path]:
    for value in options.values():
        yield from (path for path in (value if isinstance(value, list) else [value]) if isinstance(path, Path))


def main(arguments: list[str]) -> int:
    """Run a command or a stage; what the user can put right is said in plain words, with status 1; 75 is: run it again."""
    from pydantic import ValidationError

    from espalier.config.blocks import printable

    name = overview().parse_args(arguments[:1] or ["--help"]).name
    try:
        if name in COMMANDS:
            return import_module(f"espalier.commands.{COMMANDS[name].stem}").main(arguments[1:])
        return run_stage(name, arguments[1:])
    except WorkerDone:
        return 0
    except Interrupted as error:
        print(f"{name}: {error}", file=sys.stderr)
        return TRY_AGAIN
    except UserError as error:
        print(f"{name}:", "\n".join(map(printable, str(error).splitlines())), file=sys.stderr)
    except OSError as error:
        if error.errno not in OUTSIDE:
            raise
        print(f"{name}: {error.filename or 'while writing'}: {error.strerror}", file=sys.stderr)
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            place = ".".join(map(str, problem["loc"]))
            print(f"{name}: --spec {place}: {problem['msg']}; got {problem['input']!r}", file=sys.stderr)
    return 1


def status_of(arguments: list[str]) -> int:
    """Run a command or a stage; the exit status, also where the user or a reader of the output stops it."""
    try:
        status = main(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # `… | head` has read enough; Python would complain when it closes the stream
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status


def program() -> None:
    """The installed program `espalier`, which is `python -m espalier`: exit with the status of what the arguments ask for."""
    if (stage := sys.argv[1] if sys.argv[1:] else "") in MODULES:
        go_on_watched(stage, stage in TRAINING)
    sys.exit(status_of(sys.argv[1:]))


if __name__ == "__main__":
    program()
