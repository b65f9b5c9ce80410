"""What is wrong with teachers of one's own, said before the first job: settings, and files that are at hand."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from pydantic import ValidationError

from espalier.config.blocks import nearest, problem_lines
from espalier.config.data import LocalBase
from espalier.config.families import own_code, read_object
from espalier.config.kinds import FINE_TUNED
from espalier.config.project import Config, for_base
from espalier.config.teachers.matching import architecture_problem, class_names_in, class_order
from espalier.config.teachers.sources import PER_BASE, source_of_teacher
from espalier.config.teachers.specs import own_teachers
from espalier.config.training import Teacher

PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
"""Files of weights that can run code when they are opened."""


def teacher_problems(config: Config) -> list[str]:
    """Problems of the keys that say where teachers come from."""
    blocks = [("teacher", config.teacher), *((f"teacher.per_task.{task}", config.teacher_for(task)) for task in _tasks(config))]
    problems = {problem: None for place, block in blocks for problem in _per_base_problems(config, place, block)}
    if not problems:
        problems |= dict.fromkeys(_without_head(config))
    return list(problems)


def _tasks(config: Config) -> list[str]:
    """Tasks with settings of their own."""
    return [task for task in config.teacher.per_task if task in config.tasks]


def _per_base_problems(config: Config, place: str, teacher: Teacher) -> Iterator[str]:
    for base, changes in teacher.per_base.items():
        where = f"{place}.per_base.{base}"
        allowed = config.compressed_bases
        if base not in allowed:
            yield f"{where}: got '{base}'; allowed: {', '.join(allowed)}{nearest(base, allowed)}"
        elif unknown := [key for key in changes if key not in PER_BASE]:
            near = nearest(unknown[0], PER_BASE)
            yield f"{where}: {unknown[0]} cannot differ between bases{near}; allowed: {', '.join(PER_BASE)}"
        else:
            try:
                for_base(teacher, base)
            except ValidationError as error:
                yield from problem_lines(error, Teacher, where)


def _without_head(config: Config) -> Iterator[str]:
    """Problems of checkpoints for tasks whose teachers have no head that was fine-tuned."""
    if source_of_teacher(config.teacher) and not config.tasks_of(*FINE_TUNED):
        kinds = ", ".join(sorted({task.kind for task in config.tasks.values()}))
        allowed = ", ".join(FINE_TUNED)
        yield f"teacher.source: a checkpoint with a head is for tasks of kind {allowed}; the tasks here are of kind {kinds}"


def local_problems(config: Config, folder_of_base: dict[str, Path]) -> list[str]:
    """Problems of checkpoints in folders of this machine, as far as config.json and names of files tell.

    Args:
        config: checked.
        folder_of_base: base → folder in which its config.json lies, or will lie.
    """
    problems: dict[str, None] = {}
    for base, task in own_teachers(config):
        source = source_of_teacher(config.teacher_on(base, task))
        if isinstance(source, LocalBase):
            problems |= dict.fromkeys(_of_folder(config, base, task, Path(source.path), folder_of_base[base]))
    return list(problems)


def _of_folder(config: Config, base: str, task: str, folder: Path, base_folder: Path) -> Iterator[str]:
    place = f"teacher.path: {folder.absolute()}"
    if not folder.is_dir():
        yield f"{place}: there is no such folder"
        return
    if brought := [problem for name in ("config.json", "tokenizer_config.json") if (problem := own_code(folder / name))]:
        yield f"teacher.path: {brought[0]}"
        return

    names = sorted(path.name for path in folder.iterdir())
    if not any(fnmatch(name, "*.safetensors") for name in names):
        pickled = [name for name in names if any(fnmatch(name, pattern) for pattern in PICKLED)]
        refused = f"; {', '.join(pickled)} can run code when it is opened, so it is refused" if pickled else ""
        yield f"{place}: no model.safetensors{refused}; save_pretrained of transformers writes it"
    own = read_object(folder / "config.json")
    if own is None:
        yield f"{place}: no config.json with an object in it; files: {', '.join(names) or 'none'}"
        return

    there = read_object(base_folder / "config.json")
    if there and (problem := architecture_problem(own, there)):
        yield f"{place}: base {base}: {problem}"
    yield from _classes(config, base, task, place, class_names_in(own))


def _classes(config: Config, base: str, task: str, place: str, own: list[str] | None) -> Iterator[str]:
    """Problem of the names of classes, where the task says them; else `admit` compares them."""
    wanted = config.tasks[task].classes
    if not (wanted and own and config.tasks[task].rules.named_classes):
        return
    try:
        class_order(own, wanted, by_position=config.teacher_on(base, task).classes == "by-position")
    except ValueError as error:
        yield f"{place}: task {task}: {error}"
