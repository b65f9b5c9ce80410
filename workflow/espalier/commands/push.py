"""Send an exported model with its card to the Hugging Face hub, or show what would be sent."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError
from huggingface_hub.utils import validate_repo_id

from espalier.config.deployment.formats import FORMATS
from espalier.config.families import read_object
from espalier.config.layout import MODEL, TOKENIZER
from espalier.deployment.serving import read_serving
from espalier.results.summary import size_text
from espalier.runtime.errors import UserError

CARD = "README.md"
MIB = 2**20


def main(arguments: Sequence[str]) -> int:
    """Check folder, name and token, then send everything in one commit."""
    options = _parser().parse_args(arguments)

    check_repository(options.repository)
    files = sent_files(options.folder)
    place = f"{constants.ENDPOINT}/{options.repository}"
    if options.dry_run:
        print("\n".join(listing(options.folder, files)))
        new = "private" if options.private else "as public as the owner's repositories are"
        print(f"Would go to {place}; where that is new, it would be {new}. Nothing was sent.")
        return 0

    token = get_token()
    if token is None:
        raise UserError("no token of the hub: run `hf auth login`, or set HF_TOKEN (https://huggingface.co/settings/tokens)")
    print(f"Sent: {send(options.folder, files, options.repository, token, options.private, options.message)}")
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser("python -m espalier push", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="an exported model, such as …/cofi/60/compact")
    parser.add_argument("repository", metavar="REPO", help="name on the hub: user/name or organisation/name")
    parser.add_argument("--private", action="store_true", help="make the repository private where it is new")
    parser.add_argument("--dry-run", action="store_true", help="print what would be sent, and send nothing")
    parser.add_argument("--message", default="Upload from Espalier", help="message of the commit; default: %(default)s")
    return parser


def check_repository(name: str) -> None:
    """Refuse a name that the hub would refuse.

    Raises:
        UserError: it is not of the form owner/name, or has signs that names cannot have.
    """
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UserError(f"REPO: {error}") from error
    if name.count("/") != 1:
        raise UserError(f"REPO: got {name!r}; user/name or organisation/name is needed")


def sent_files(folder: Path) -> list[str]:
    """Files of a folder that belong to the model, as paths in it; anything else that lies there stays at home.

    Raises:
        UserError: the folder is no exported model, or has no card.
    """
    read_serving(folder)
    needed = (*MODEL, *TOKENIZER, CARD)
    if missing := [name for name in needed if not (folder / name).is_file()]:
        hint = "; the rule `card` writes it" if missing == [CARD] else ""
        raise UserError(f"{folder}: no {', '.join(missing)}{hint}")
    if not (folder / CARD).read_text(encoding="utf-8").startswith("---\n"):
        raise UserError(f"{folder}/{CARD}: does not begin with metadata for the hub; the rule `card` writes them")

    # the code lies beside stock models, too, which do not use it
    classes = (read_object(folder / "config.json") or {}).get("auto_map", {})
    code = [f"{place.partition('.')[0]}.py" for place in classes.values()]
    served = [file for format in FORMATS.values() for file in (*format.weights, *format.copies)]
    return [name for name in dict.fromkeys((*needed, *code, *served)) if (folder / name).is_file()]


def listing(folder: Path, files: Sequence[str]) -> list[str]:
    """A line for each file with its size, and one for all of them."""
    sizes = {name: (folder / name).stat().st_size / MIB for name in files}
    lines = [f"{size_text(size):>8} MiB  {name}" for name, size in sizes.items()]
    return [*lines, f"{size_text(sum(sizes.values())):>8} MiB  in {len(files)} files"]


def send(folder: Path, files: Sequence[str], repository: str, token: str, private: bool, message: str) -> str:
    """Make the repository where it is missing and send the files in one commit; returns the commit's address.

    Raises:
        UserError: the hub refuses, or cannot be reached.
    """
    hub = HfApi(token=token)
    additions = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in files]
    try:
        hub.create_repo(repository, private=private or None, exist_ok=True)  # None: as the owner's repositories are
        return hub.create_commit(repository, additions, commit_message=message).commit_url
    except HfHubHTTPError as error:
        status = error.response.status_code
        said = error.server_message or " ".join(str(error).split())
        hint = {401: "; the token is not valid", 403: "; the token may not write there"}.get(status, "")
        raise UserError(f"{repository}: the hub refused, status {status}{hint}: {said}") from error
    except (HTTPError, ConnectionError) as error:
        raise UserError(f"{constants.ENDPOINT}: the hub cannot be reached: {error}") from error
