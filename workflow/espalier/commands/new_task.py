"""Look at a data file and print the task that it holds, for config.yaml; say what is uncertain, and write it where asked to."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from espalier.config.blocks import NAME, printable
from espalier.config.known_tasks import KNOWN
from espalier.data.guessing.columns import looks_of
from espalier.data.guessing.config_file import block_lines, with_task, write_config
from espalier.data.guessing.kinds import Guess, guess, with_length
from espalier.data.guessing.splits import SHARE, TRAIN_NAMES, VALIDATION_NAMES, divide, divided_names, partners
from espalier.runtime.errors import UserError

EXAMPLES = """examples:
  espalier new-task data/reviews.csv                      print the block; lines that are uncertain say so
  espalier new-task data/reviews.csv --write              divide the rows, add the task to config.yaml, keep its comments
  espalier new-task data/train.parquet --name reviews     a validation file beside it is found by its name
"""


def main(arguments: Sequence[str]) -> int:
    """Guess and print; with --write, write."""
    options = _parser().parse_args(arguments)
    path = Path(options.file)
    pair = partners(path) if path.is_file() else None
    first = pair[0] if pair else path

    looks = looks_of(first)
    guessed = with_length(guess(first, looks), looks)
    pair = _checked(pair, guessed)
    name = _name(options, first)
    keys = _with_files(guessed, first, pair)

    if options.write:
        _write(options, name, keys, guessed, first if pair is None else None)
    print("\n".join(["tasks:", *block_lines(name, keys, guessed.doubts)]))
    _say(options, first, pair, guessed)
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "python -m espalier new-task", description=__doc__, epilog=EXAMPLES, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("file", metavar="FILE", help="rows: .parquet, .csv, .tsv, .jsonl; .txt for text without labels")
    parser.add_argument("--name", help="name of the task; default: the file's, or its folder's")
    parser.add_argument("--write", action="store_true", help="divide a single file, and add the task to the configuration")
    parser.add_argument("--config", type=Path, default=Path("config.yaml"), help="the configuration; default: %(default)s")
    return parser


def _checked(pair: tuple[Path, Path] | None, guessed: Guess) -> tuple[Path, Path] | None:
    """The two files, where the second one has the columns and the labels that are needed."""
    if pair is None:
        return None
    columns = {look.name: look for look in looks_of(pair[1])}
    if "text" not in guessed.keys:
        return pair
    needed = [*guessed.keys.get("text", []), *filter(None, [guessed.keys.get("label")])]
    lacking = [
        name for name in needed if name not in columns or columns[name].form == "empty" or set(columns[name].counts) == {-1}
    ]
    if lacking:
        guessed.doubts["validation"] = f"{pair[1].name} beside it has no {lacking[0]}, so rows of {pair[0].name} are set apart"
        return None
    if "test" in pair[1].stem.lower():
        guessed.doubts["validation"] = "a test file: scores on it choose nothing; better a validation file"
    return pair


def _name(options: Namespace, path: Path) -> str:
    """The task's name: as asked for, or made from the name of the file or of its folder."""
    if options.name is not None:
        if not re.fullmatch(NAME, options.name):
            raise UserError(f"--name: got {options.name!r}; allowed: lower-case letters, digits and hyphens")
        return options.name
    words = "|".join((*TRAIN_NAMES, *VALIDATION_NAMES))
    stem = re.sub(rf"(?<![a-z])({words})(?![a-z])", "", path.stem.lower())
    folder, own = _slug(path.absolute().parent.name), _slug(stem)
    # what is left of a name such as train.en says too little
    made = (own if len(own) > 3 else "-".join(filter(None, [folder, own]))) or "mine"
    # a known name would bring the keys of another data set
    return f"{made}-files" if made in KNOWN else made


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:50].strip("-")


def _with_files(guessed: Guess, path: Path, pair: tuple[Path, Path] | None) -> dict[str, Any]:
    """The keys of the block with the files in their place."""
    train, validation = pair or divided_names(path)
    for file in (train, validation):
        if "{" in str(file) or "}" in str(file):
            raise UserError(f"{file}: braces are wildcards to Snakemake: rename it")
    files = {"source": "files", "train": _from_here(train), "validation": _from_here(validation)}
    return {"kind": guessed.keys["kind"], **files, **guessed.keys}


def _from_here(path: Path) -> str:
    """A path as config.yaml has it: from the working folder where it lies below it."""
    absolute = path.resolve()
    return str(absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute)


def _write(options: Namespace, name: str, keys: dict[str, Any], guessed: Guess, single: Path | None) -> None:
    """Divide a single file, and add the task; the configuration is looked at first, so that nothing is left half done."""
    text = with_task(options.config, name, keys, guessed.doubts)
    if single is not None:
        labelled = keys["kind"] == "classification"
        # all texts of a query go to the same side
        together = [keys.get("query", keys["text"][0])] if keys["kind"] == "ranking" else keys["text"]
        train, validation = divide(single, together, keys["label"] if labelled else None)
        print(f"{single}: {train:,} training and {validation:,} validation rows in files of their own", file=sys.stderr)
    write_config(options.config, text)
    print(f"{options.config}: task {name} added", file=sys.stderr)


def _say(options: Namespace, path: Path, pair: tuple[Path, Path] | None, guessed: Guess) -> None:
    """What to do next, beside the block, on the standard error."""
    said = [f"unsure of {key}: {printable(doubt)}" for key, doubt in guessed.doubts.items()]
    if pair is None and not options.write:
        said.append(
            f"the two files are not there yet: --write sets {SHARE:.0%} of {path.name} apart, with equal texts on one side"
        )
    if not options.write:
        said.append(f"paste the block into {options.config}, or add --write; `snakemake --dry-run` checks it")
    print("\n".join(said), file=sys.stderr)
