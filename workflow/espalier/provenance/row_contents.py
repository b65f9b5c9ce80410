"""What a task's rows are made from, wherever it lies: content decides whether rows are made anew, not the name of a folder."""

from __future__ import annotations

import json
import shlex
from functools import cache
from pathlib import Path

from espalier.config.job_specs import PrepareSpec, prepare_spec
from espalier.config.kinds.specs import collect_spec
from espalier.config.project import Config
from espalier.runtime.files import sha256


def rows_made_from(config: Config, task: str) -> str:
    """What `prepare` reads, as JSON, with the digest of each of the user's files in the place of its path.

    Args:
        config: checked; the user's files are there.
        task: one of its tasks.
    """
    block = prepare_spec(config, task).model_dump(mode="json")
    rows = block["task"]
    if rows["source"] == "files":
        sets = config.tasks[task].evaluation_sets
        rows |= {"train": _content(rows["train"]), "validation": {name: _content(path) for name, path in sets.items()}}
    return json.dumps(block)


def texts_made_from(config: Config, task: str) -> str:
    """What `collect` reads, as JSON, with the digest of each of the user's files in the place of its path."""
    spec = collect_spec(config, task)
    files = [[_content(path), list(columns)] for path, columns in spec.unlabelled.columns_of(spec.text)]
    block = spec.model_dump(mode="json", exclude={"text"})
    block["unlabelled"]["files"] = files
    return json.dumps(block)


def named_files(made_from: str, command: str) -> tuple[str, dict[str, str]]:
    """The spec that a job of `prepare` was given, and path → SHA-256 of the user's files that it read.

    Args:
        made_from: what `rows_made_from` gave for the job, or a spec with paths in it, as jobs were noted before.
        command: the job's command, in which its spec stands.
    """
    words = shlex.split(command)
    if "--spec" not in words:
        return made_from, {}

    spec, contents = words[words.index("--spec") + 1], json.loads(made_from)["task"]
    task = PrepareSpec.model_validate_json(spec).task
    if task.source != "files" or spec == made_from:
        return spec, {}
    digests = {str(task.train): contents["train"]}
    digests |= {path: contents["validation"][name] for name, path in task.evaluation_sets.items()}
    return spec, {path: digest.partition(".")[0] for path, digest in digests.items()}


@cache
def _content(path: str) -> str:
    """Ending and digest of a file: the ending says how it is read."""
    file = Path(path)
    return f"{sha256(file)}{file.suffix}"
