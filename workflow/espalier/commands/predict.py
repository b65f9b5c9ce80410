"""Answer texts with an exported model: rows of a file, lines of the standard input, or a sentence from the shell."""

from __future__ import annotations

import sys
import tempfile
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import datasets
import pandas as pd
import pyarrow as pa
from tqdm import tqdm
from transformers.utils.logging import disable_progress_bar

from espalier.config.blocks import nearest
from espalier.config.deployment.formats import FORMATS
from espalier.config.kinds.rules import FILE_FORMATS
from espalier.data.files import read_file
from espalier.data.labelled import SourceTable
from espalier.deployment.predicting import ANSWERED_AT_ONCE, open_served, predictions_for
from espalier.deployment.serving import read_serving
from espalier.runtime.errors import UserError
from espalier.runtime.files import atomic

WAYS_OF_ASKING = """examples:
  espalier predict FOLDER --text "A sentence."                label and probabilities of a sentence
  espalier predict FOLDER --text "One." --pair "Another."     for tasks on pairs, and for a question and its context
  espalier predict FOLDER new.csv --output answers.csv        rows of a file; the output's ending tells its format
  espalier predict FOLDER --text "words of a sentence ."     a tag for each word, for tasks of kind tokens
  head -1000 new.csv | espalier predict FOLDER - --format onnx-int8 > answers.csv

Rows have the columns of the task's text; --columns gives other names. Answers stand in the rows' order.
"""
WRITTEN = (".csv", ".parquet", ".jsonl")
"""Endings of output files."""
LINES = ".txt"
"""Ending of files with a text a line, for tasks with one text."""


def main(arguments: Sequence[str]) -> int:
    """Read, compute and write; progress goes to the standard error."""
    options = _parser().parse_args(arguments)
    _check(options)
    serving = read_serving(options.folder)

    columns = tuple(options.columns or serving.text)
    if len(columns) != len(serving.text):
        raise UserError(f"--columns: got {_listed(columns)}; task {serving.task} reads {_listed(serving.text)}")
    source = _from_shell(options, columns) if options.text else _from_file(options, columns)

    # one bar, that of rows, says enough
    datasets.disable_progress_bars()
    disable_progress_bar()
    model = open_served(options.folder, options.format)
    pieces = _watched(predictions_for(model, source, columns), source.table.num_rows)
    if options.text and not options.output:
        _say(pd.concat(pieces), model.classes)
    else:
        _write(pieces, options.output)
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "python -m espalier predict", description=__doc__, epilog=WAYS_OF_ASKING, formatter_class=RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="an exported model, such as …/cofi/60/compact")
    endings = ", ".join((*FILE_FORMATS, LINES))
    parser.add_argument("file", nargs="?", metavar="FILE", help=f"rows: {endings}; - is the standard input, see --as")
    parser.add_argument("--text", action="append", metavar="TEXT", help="a text to answer; may be given several times")
    parser.add_argument("--pair", action="append", metavar="TEXT", help="the other text of each --text, for tasks on pairs")
    parser.add_argument("--format", default="torch", choices=FORMATS, help="format that computes; default: %(default)s")
    parser.add_argument("--columns", nargs="+", metavar="NAME", help="columns of the text, where they have other names")
    formats = [ending.removeprefix(".") for ending in (*FILE_FORMATS, LINES)]
    parser.add_argument("--as", dest="ending", choices=formats, help="format of the standard input; default: csv")
    output_help = f"file to write: {', '.join(WRITTEN)}; default: csv on the standard output"
    parser.add_argument("--output", type=Path, metavar="FILE", help=output_help)
    return parser


def _check(options: Namespace) -> None:
    """Refuse options that do not fit together, before anything is read."""
    if bool(options.file) == bool(options.text):
        raise UserError("FILE or --text is needed, and not both")
    if options.pair and len(options.pair) != len(options.text or ()):
        raise UserError(f"--pair: got {len(options.pair)}, and {len(options.text or ())} --text; each --text needs one")
    if options.ending and options.file != "-":
        raise UserError("--as is for the standard input; the ending of FILE tells its format")

    if options.output and options.output.suffix not in WRITTEN:
        near = nearest(options.output.suffix, WRITTEN)
        raise UserError(
            f"--output {options.output}: got the ending {options.output.suffix!r}{near}; allowed: {_listed(WRITTEN)}"
        )
    if options.file and options.file != "-":
        ending, allowed = Path(options.file).suffix, (*FILE_FORMATS, LINES)
        if ending not in allowed:
            raise UserError(f"{options.file}: got the ending {ending!r}{nearest(ending, allowed)}; allowed: {_listed(allowed)}")
        if not Path(options.file).is_file():
            raise UserError(f"{options.file}: there is no such file; looked in {Path.cwd()}")


def _from_shell(options: Namespace, columns: tuple[str, ...]) -> SourceTable:
    """The texts of --text and --pair as a table."""
    if len(columns) > 2:
        raise UserError(f"the model reads {len(columns)} columns, {_listed(columns)}: give a file with them")
    if len(columns) == 2 and not options.pair:
        raise UserError(f"the model reads pairs, {_listed(columns)}: give the second one by --pair")
    if len(columns) == 1 and options.pair:
        raise UserError(f"the model reads one text, {columns[0]}; --pair is for tasks on pairs")

    texts = [options.text, *([options.pair] if options.pair else [])]
    return SourceTable("--text", pa.table(dict(zip(columns, texts, strict=True))))


def _from_file(options: Namespace, columns: tuple[str, ...]) -> SourceTable:
    """The rows of a file, or of the standard input by way of a file."""
    if options.file != "-":
        return SourceTable(options.file, _read(Path(options.file), columns))

    with tempfile.TemporaryDirectory(prefix="espalier-") as scratch:
        path = Path(scratch) / f"stdin.{options.ending or 'csv'}"
        path.write_bytes(sys.stdin.buffer.read())
        try:
            return SourceTable("standard input", _read(path, columns))
        except UserError as error:
            raise UserError(str(error).replace(str(path), "standard input")) from error


def _read(path: Path, columns: tuple[str, ...]) -> pa.Table:
    if path.suffix != LINES:
        return read_file(path, columns)

    if len(columns) != 1:
        raise UserError(f"{path}: a file with a text a line has one column; the model reads {_listed(columns)}")
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: got the byte 0x{error.object[error.start]:02x}, which is not UTF-8") from error
    return pa.table({columns[0]: pa.array(lines, pa.string())})


def _watched(pieces: Iterable[pd.DataFrame], rows: int) -> Iterator[pd.DataFrame]:
    with tqdm(total=rows, unit="row", file=sys.stderr, disable=None) as bar:
        for piece in pieces:
            # a piece has a line for each word where words are answered
            bar.update(min(ANSWERED_AT_ONCE, rows - bar.n))
            yield piece


def _say(answers: pd.DataFrame, classes: tuple[str, ...]) -> None:
    """Answers for people: a line each; where there are classes, the likeliest first, with their probabilities.

    Where a text may have several classes, those that it has stand before them.
    """
    for _, row in answers.iterrows():
        if classes and f"probability_{classes[0]}" in answers:
            if f"label_{classes[0]}" in row:
                print(", ".join(name for name in classes if row[f"label_{name}"]) or "none", end=": ")
            likeliest = sorted(classes, key=lambda name: -row[f"probability_{name}"])
            print(", ".join(f"{name} {row[f'probability_{name}']:.4f}" for name in likeliest))
        else:
            print(" ".join(map(_word, row)))


def _word(value: object) -> str:
    """A value for people; an answer that is missing is said."""
    if value is None:
        return "no answer"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _write(pieces: Iterator[pd.DataFrame], output: Path | None) -> None:
    """Write pieces as they come: to the standard output, or to a file under a temporary name."""
    if output is None:
        for number, piece in enumerate(pieces):
            piece.to_csv(sys.stdout, index=False, header=not number)
        return

    with atomic(output) as temporary:
        if output.suffix == ".parquet":
            pd.concat(pieces).to_parquet(temporary, index=False)
            return

        with temporary.open("w", encoding="utf-8", newline="") as file:
            for number, piece in enumerate(pieces):
                if output.suffix == ".csv":
                    piece.to_csv(file, index=False, header=not number)
                else:
                    piece.to_json(file, orient="records", lines=True, force_ascii=False, double_precision=9)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
