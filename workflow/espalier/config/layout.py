"""Paths: the folder of every student, the files that a stage starts from, and the user's own files."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

from espalier.config.blocks import ConfigError
from espalier.config.chains import Student, student_before, tasks_for
from espalier.config.data import VOCABULARIES, WEIGHTS, WEIGHTS_INDEX, LocalBase
from espalier.config.kinds import ANALYSED
from espalier.config.lengths import length_problems
from espalier.config.project import TEACHER, Config
from espalier.config.targets import Timed, percent_of

MODEL = ("config.json", "model.safetensors")
STUDENT_FILES = (*MODEL, "masks.safetensors")
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
LOCAL_BASE_SUFFIXES = (".json", ".safetensors", ".txt", ".model")
"""Configuration, weights and vocabularies of a base in a local folder."""


def paths_in(folder: str, names: tuple[str, ...]) -> list[str]:
    """Paths of these files in a folder, in order."""
    return [f"{folder}/{name}" for name in names]


class Layout:
    """The folders of one study. A student's folder is named by base, task, seed, plan and percent, in this order."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.root = f"results/{config.project}"
        self.plan = cache(config.plan_for)

    def base(self, base: str) -> str:
        """Folder of a pre-trained encoder."""
        return f"{self.root}/bases/{base}"

    def prepared(self, task: str) -> str:
        """Folder of a task's checked rows."""
        return f"{self.root}/prepared/{task}"

    def tokenised(self, base: str, task: str) -> str:
        """Folder of a task's token ids under a base's tokenizer."""
        return f"{self.root}/{base}/{task}/tokens"

    def tokens(self, base: str, task: str) -> list[str]:
        """A task's token ids under a base's tokenizer: training and evaluation rows."""
        ending = "parquet" if self.config.tasks[task].rules.labelled else "arrow"
        return [f"{self.tokenised(base, task)}/{split}.{ending}" for split in ("train", "evaluation")]

    def student(self, base: str, task: str, seed: int | str, plan: str = TEACHER, percent: str = "0") -> str:
        """Folder of a student, or of the teacher."""
        return f"{self.root}/{base}/{task}/seed{seed}/{plan}/{percent}"

    def percents(self, plan: str) -> list[str]:
        """The stages of a plan's path, as they appear in folders."""
        return [percent_of(target) for target in self.config.plans[plan].path]

    def start(self, base: str, task: str, seed: str, plan: str, percent: str) -> list[str]:
        """Files of the model that a stage starts from: a student, the teacher or the base."""
        before = student_before(self.config, Student(task, plan, percent))
        if before is not None:
            return paths_in(self.student(base, before.task, seed, before.plan, before.percent), STUDENT_FILES)
        from_teacher = self.plan(plan, task).start == TEACHER
        return paths_in(self.student(base, task, seed) if from_teacher else self.base(base), MODEL)

    def kept(self, base: str, task: str, seed: str, plan: str, percent: str) -> str:
        """File that lists which parts are kept in the student that a stage starts from."""
        before = student_before(self.config, Student(task, plan, percent))
        return f"{self.student(base, before.task, seed, before.plan, before.percent)}/structure.json"

    def latency_table(self, base: str, batch: int | str, length: int | str) -> str:
        """The table of a base's sublayer times at a batch size and a length."""
        return f"{self.root}/latency/{base}/b{batch}-l{length}.json"

    def latency(self, base: str, plan: str) -> list[str]:
        """The table of sublayer times that the plan's stages need; empty if the targets are no speeds."""
        target = self.config.plans[plan].path[0]
        return [self.latency_table(base, target.batch_size, target.length)] if isinstance(target, Timed) else []

    def recovers(self, plan: str, task: str) -> bool:
        """Whether the plan's students are trained further at their final masks before export."""
        return self.plan(plan, task).recover.epochs > 0

    def final(self, base: str, task: str, seed: str, plan: str, percent: str) -> str:
        """Folder of the weights to export: the teacher's, the stage's own, or the recovered ones."""
        folder = self.student(base, task, seed, plan, percent)
        return f"{folder}/recovered" if plan != TEACHER and self.recovers(plan, task) else folder

    def students(self) -> list[str]:
        """Folders of all teachers and students: one row of the table each."""
        return [self.student(*names) for names in self._names()]

    def compressed(self) -> list[str]:
        """Folders of all students, the teachers left out."""
        return [self.student(*names) for names in self._names() if names[3] != TEACHER]

    def analysed(self) -> list[str]:
        """Folders of the students that are analysed."""
        tasks = self.config.tasks_of(*ANALYSED)
        return [self.student(*names) for names in self._names() if names[3] in self.config.analyses and names[1] in tasks]

    def runs(self) -> list[str]:
        """Folders of all training runs: teachers, students and recoveries."""
        finals = {self.final(*names): None for names in self._names()}
        return list(dict.fromkeys([*self.students(), *finals]))

    def _names(self) -> Iterator[tuple[str, str, str, str, str]]:
        tasks = {plan: set(tasks_for(self.config, plan)) for plan in self.config.plans}
        for base in self.config.bases:
            for task in self.config.tasks:
                plans = [plan for plan in self.config.plans if task in tasks[plan]]
                stages = [(TEACHER, "0"), *((plan, percent) for plan in plans for percent in self.percents(plan))]
                for seed in self.config.seeds:
                    yield from ((base, task, str(seed), plan, percent) for plan, percent in stages)


def task_files(config: Config, task: str) -> dict[str, str]:
    """Key of the configuration → the user's file, for a task with source files."""
    block = config.tasks[task]
    if block.source != "files":
        return {}
    sets = block.evaluation_sets
    named = isinstance(block.validation, dict)
    return {"train": str(block.train)} | {f"validation.{name}" if named else "validation": path for name, path in sets.items()}


def base_files(config: Config, base: str) -> list[str]:
    """The user's files of a base in a local folder: config.json, even if it is missing, and all files that may belong to it."""
    block = config.bases[base]
    if not isinstance(block, LocalBase):
        return []
    present = [path.name for path in Path(block.path).glob("*") if path.suffix in LOCAL_BASE_SUFFIXES]
    return [f"{block.path}/{name}" for name in sorted({"config.json", *present})]


def _incomplete(config: Config, base: str) -> list[str]:
    """Problems of a base in a local folder that lacks weights or a tokenizer."""
    names = [Path(path).name for path in base_files(config, base)]
    block = config.bases[base]
    folder = Path(block.path).absolute() if names and isinstance(block, LocalBase) else None
    if not (folder and folder.is_dir()):
        return []

    needed = {"weights": (WEIGHTS, WEIGHTS_INDEX), "tokenizer": VOCABULARIES}
    lacking = [
        (what, patterns)
        for what, patterns in needed.items()
        if not any(fnmatch(name, pattern) for name in names for pattern in patterns)
    ]
    return [f"bases.{base}.path: no {what} in {folder}; needed: {' or '.join(patterns)}" for what, patterns in lacking]


def check_files(config: Config) -> None:
    """Check before the first job that all files of the user exist, and that rows are not too long for the bases at hand.

    Raises:
        ConfigError: it names every missing file, and every length that a base does not take.
    """
    needed = [(f"tasks.{task}.{key}", path) for task in config.tasks for key, path in task_files(config, task).items()]
    needed += [(f"bases.{base}.path", path) for base in config.bases for path in base_files(config, base)]
    problems = [f"{key}: no such file: {Path(path).absolute()}" for key, path in needed if not Path(path).is_file()]

    braced = [(key, path) for key, path in needed if "{" in path or "}" in path]
    problems += [f"{key}: got {path!r}; braces are wildcards to Snakemake: rename it" for key, path in braced]

    problems += [problem for base in config.bases for problem in _incomplete(config, base)] + length_problems(config)
    if problems:
        raise ConfigError(problems)
