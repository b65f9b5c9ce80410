"""What an exported folder says of itself. No torch here."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import ValidationError

from espalier.config.families import read_object
from espalier.config.job_specs import SERVING, Serving
from espalier.runtime.errors import UserError


def read_serving(folder: Path) -> Serving:
    """What config.json of an exported folder says of the model's inputs.

    Raises:
        UserError: the folder is no exported model, or one of an earlier version.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; looked in {Path.cwd()}")
    content = read_object(folder / "config.json")
    if content is None:
        raise UserError(f"{folder}: no config.json with an object in it; a folder `compact/` of a finished study is needed")
    if SERVING not in content:
        raise UserError(
            f"{folder}/config.json: no section '{SERVING}', which says how texts are read: an earlier version or another "
            "program wrote the folder; export it again"
        )
    try:
        return Serving.model_validate_json(json.dumps(content[SERVING]))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, (SERVING, *problem["loc"])))
        raise UserError(f"{folder}/config.json, {place}: {problem['msg']}; got {problem['input']!r}") from error
