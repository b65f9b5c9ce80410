"""Paths: the folder of every student, the files that a stage starts from, and the user's own files."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

from espalier.config.blocks import ConfigError
from espalier.config.chains import Student, share_of, student_before, tasks_for
from espalier.config.data import VOCABULARIES, WEIGHTS, WEIGHTS_INDEX, LocalBase
from espalier.config.deployment.embeddings import tokenizer_problem
from espalier.config.deployment.formats import ONNX_FILE, converted_files, missing_packages
from espalier.config.families import ENCODERS, STRUCTURED, BaseUses, families_with, family_problems, own_code, read_object
from espalier.config.job_specs import readers
from espalier.config.kinds import ANALYSED, LABELLED
from espalier.config.lengths import length_problems
from espalier.config.project import READY_MADE, TEACHER, Config
from espalier.config.targets import Timed, percent_of
from espalier.config.teachers.checks import local_problems
from espalier.config.teachers.specs import is_the_base, own_teachers

MODEL = ("config.json", "model.safetensors")
STUDENT_FILES = (*MODEL, "masks.safetensors")
WILDCARDS = ("base", "task", "seed", "plan", "percent")
"""What names a student's folder, in the order of its path."""
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")
EXPORTED_FILES = (*MODEL, "modeling_espalier.py", ONNX_FILE, *TOKENIZER)
"""What `export` writes into a folder."""
PREPARED_ROWS = ("train.parquet", "evaluation.parquet")
COPIES = "/.dvc/tmp/exps/"
"""Where `dvc exp run --temp` and `--queue` put the copy of the repository in which they run."""
TRAVELS = "; into the copy of `dvc exp run --temp` goes what git or DVC follows: `dvc add` the file, or give an absolute path"
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
        self.readers = {task: readers(config, task) for task in config.tasks}

    def base(self, base: str) -> str:
        """Folder of a pre-trained encoder."""
        return f"{self.root}/bases/{base}"

    def checkpoint(self, base: str, task: str) -> str:
        """Folder of a teacher's checkpoint that somebody has fine-tuned: the base's own where that is the same."""
        return self.base(base) if is_the_base(self.config, base, task) else f"{self.root}/teachers/{task}/{base}"

    def own_teachers(self) -> list[tuple[str, str]]:
        """Base and task of every teacher that is a fine-tuned checkpoint."""
        return own_teachers(self.config)

    def encoder(self, base: str, plan: str) -> str:
        """The base whose weights and tokenizer a plan's students have: another one where the plan names it."""
        return self.config.ready_made.get(plan, base)

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

    def unlabelled(self, base: str, task: str) -> list[str]:
        """Token ids of a task's texts without labels under a base's tokenizer; empty where it has none."""
        return [f"{self.tokenised(base, task)}/unlabelled.parquet"] if self.config.tasks[task].unlabelled else []

    def taught_tokens(self, base: str, task: str, plan: str | None = None) -> list[str]:
        """The rows that a teacher's outputs are read for, in its own tokens: training rows, then texts without labels.

        A plan that does not distil reads the training rows alone; without a plan, all rows are meant.
        """
        mixed = plan is None or share_of(self.config, task, plan) is not None
        return [self.tokens(base, task)[0], *(self.unlabelled(base, task) if mixed else [])]

    def training_tokens(self, base: str, task: str, plan: str) -> list[str]:
        """The token ids that a plan trains on and is scored on: training and evaluation rows, then texts without labels."""
        encoder = self.encoder(base, plan)
        return [*self.tokens(encoder, task), *self.taught_tokens(encoder, task, plan)[1:]]

    def tokens_read(self, base: str, task: str, plan: str) -> list[str]:
        """The token ids that a plan's students read: training and evaluation rows."""
        return self.tokens(self.encoder(base, plan), task)

    def rows_read(self, base: str, task: str, plan: str) -> list[str]:
        """The rows that a plan's models tokenise themselves, training and evaluation; for text, the packed ones."""
        labelled = self.config.tasks[task].rules.labelled
        return paths_in(self.prepared(task), PREPARED_ROWS) if labelled else self.tokens_read(base, task, plan)

    def linear(self) -> list[str]:
        """Files of the linear models, one for each task that has one."""
        return [f"{self.prepared(task)}/linear.json" for task in self.config.linear_tasks]

    def student(self, base: str, task: str, seed: int | str, plan: str = TEACHER, percent: str = "0") -> str:
        """Folder of a student, or of the teacher."""
        return f"{self.root}/{base}/{task}/seed{seed}/{plan}/{percent}"

    def served(self, folder: str) -> list[str]:
        """All files of a model's folder in all formats of the configuration, the card left out."""
        return paths_in(folder, (*EXPORTED_FILES, *converted_files(self.config.deploy.formats)))

    def deployed(self) -> list[str]:
        """What is known of every model's folders in every format; empty where the configuration names no format.

        Rows of text are packed once in the tokens of the base, which a smaller vocabulary does not have.
        """
        if not self.config.deploy.formats:
            return []
        compact = [f"{folder}/deploy/compact.json" for folder in self.students()]
        return compact + [f"{folder}/deploy/trimmed.json" for folder in self._scored_trimmed()]

    def cards(self) -> list[str]:
        """The cards of all models, and of those with smaller embeddings that were scored."""
        trimmed = [f"{folder}/trimmed/README.md" for folder in self._scored_trimmed()]
        return [f"{folder}/compact/README.md" for folder in self.students()] + trimmed

    def _scored_trimmed(self) -> list[str]:
        """Folders of students whose smaller form is scored: its scores stand in no other place than its formats."""
        if not (self.config.deploy.trims and self.config.deploy.formats):
            return []
        labelled = self.config.tasks_of(*LABELLED)
        return [self.student(*names) for names in self._names() if names[1] in labelled]

    def percents(self, plan: str) -> list[str]:
        """The stages of a plan's path, as they appear in folders."""
        return [percent_of(target) for target in self.config.plans[plan].path]

    def start(self, base: str, task: str, seed: str, plan: str, percent: str) -> list[str]:
        """Files of the model that a stage starts from: a student, the teacher or the base."""
        before = student_before(self.config, Student(task, plan, percent))
        if before is not None:
            return paths_in(self.student(base, before.task, seed, before.plan, before.percent), STUDENT_FILES)
        from_teacher = self.plan(plan, task).start == TEACHER
        return paths_in(self.student(base, task, seed) if from_teacher else self.base(self.encoder(base, plan)), MODEL)

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

    def outputs(self, base: str, task: str, seed: str, plan: str) -> list[str]:
        """The note on the teacher's stored outputs that a plan's jobs read; empty if they read none."""
        reads = self.readers[task].get(plan)
        return [] if reads is None else [f"{self.student(base, task, seed)}/outputs/{reads.name}.json"]

    def notes(self) -> list[str]:
        """The notes on all stored outputs of teachers."""
        return list(
            dict.fromkeys(note for base, task, seed, plan, _ in self._names() for note in self.outputs(base, task, seed, plan))
        )

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

    def trimmed(self) -> list[str]:
        """Folders of models with smaller embeddings, where the configuration asks for them."""
        return [f"{folder}/trimmed" for folder in self.students()] if self.config.deploy.trims else []

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

    def names_of(self, wildcards: Collection[str]) -> list[dict[str, str]]:
        """Every combination of these wildcards (among base, task, seed, plan, percent) that a teacher or student has."""
        chosen = [name for name in WILDCARDS if name in wildcards]
        every = [*self._names(), *(self._other_names() if {*chosen} <= {"base", "task"} else ())]
        combinations = dict.fromkeys(tuple(names[WILDCARDS.index(name)] for name in chosen) for names in every)
        return [dict(zip(chosen, values, strict=True)) for values in combinations]

    def _names(self) -> Iterator[tuple[str, str, str, str, str]]:
        tasks = {plan: set(tasks_for(self.config, plan)) for plan in self.config.plans}
        for base in self.config.compressed_bases:
            for task in self.config.tasks:
                plans = [plan for plan in self.config.plans if task in tasks[plan]]
                stages = [(TEACHER, "0"), *((plan, percent) for plan in plans for percent in self.percents(plan))]
                for seed in self.config.seeds:
                    yield from ((base, task, str(seed), plan, percent) for plan, percent in stages)

    def _other_names(self) -> Iterator[tuple[str, str, str, str, str]]:
        """Bases that students are made from, each with the tasks on which that is done; nothing else has a folder there."""
        for plan, base in self.config.ready_made.items():
            yield from ((base, task, "", plan, "") for task in tasks_for(self.config, plan))


def task_files(config: Config, task: str) -> dict[str, str]:
    """Key of the configuration → the user's file: of a task with source files, and of texts without labels."""
    block = config.tasks[task]
    texts = block.unlabelled.columns_of(block.text) if block.unlabelled else []
    others = {f"unlabelled.files.[{number}]": path for number, (path, _) in enumerate(texts)}
    if block.source != "files":
        return others
    named = isinstance(block.validation, dict)
    sets = {f"validation.{name}" if named else "validation": path for name, path in block.evaluation_sets.items()}
    return {"train": str(block.train)} | sets | others


def base_files(config: Config, base: str) -> list[str]:
    """The user's files of a base in a local folder: config.json, even if it is missing, and all files that may belong to it."""
    block = config.bases[base]
    return local_files(block) if isinstance(block, LocalBase) else []


def local_files(block: LocalBase) -> list[str]:
    """All files in a local folder that may belong to a model, config.json among them even if it is missing."""
    present = [path.name for path in Path(block.path).glob("*") if path.suffix in LOCAL_BASE_SUFFIXES]
    return [f"{block.path}/{name}" for name in sorted({"config.json", *present})]


def _incomplete(config: Config, base: str) -> list[str]:
    """Problems of a base in a local folder that lacks weights or a tokenizer."""
    block = config.bases[base]
    names = [Path(path).name for path in base_files(config, base)]
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


def needs_of(config: Config) -> dict[str, BaseUses]:
    """Base of a study → what is to be done with it → the families with which it can be done."""
    compressed = dict.fromkeys(config.compressed_bases, _needs_of_compressed(config))
    # the product of two tables stands in the compact format
    products = {"deploy.factorise": STRUCTURED} if config.deploy.factorise else {}
    return {base: {**compressed.get(base, {f"method {READY_MADE}": ENCODERS}), **products} for base in config.bases}


def _needs_of_compressed(config: Config) -> BaseUses:
    tasks = list(config.tasks)
    plans = [config.plan_for(plan, task) for plan in config.plans if plan not in config.ready_made for task in tasks]

    needs: dict[str, tuple[str, ...]] = {TEACHER: ENCODERS}
    for plan in plans:
        name = f"method {plan.method}"
        # per_task may change what a plan compares: what all its tasks need counts
        needs[name] = tuple(family for family in needs.get(name, ENCODERS) if family in plan.families)

    # a kind of task needs a head, which transformers does not have for every family
    heads = {f"a task of kind {task.kind}": families_with(task.rules.auto_class) for task in config.tasks.values()}
    return needs | {what: families for what, families in heads.items() if families != ENCODERS}


def _folder_at_hand(config: Config, base: str) -> Path:
    """Where a base's config.json lies: in the user's folder, or in the study's once it is fetched."""
    block = config.bases[base]
    return Path(block.path) if isinstance(block, LocalBase) else Path(Layout(config).base(base))


def _unsupported(config: Config) -> list[str]:
    """Problems of bases at hand that bring code of their own, or that a method of the study cannot work on."""
    needs, problems = needs_of(config), []
    for name in config.bases:
        folder = _folder_at_hand(config, name)
        brought = [problem for file in ("config.json", "tokenizer_config.json") if (problem := own_code(folder / file))]
        problems += [f"bases.{name}: {problem}" for problem in brought]

        tokenizer = tokenizer_problem(folder / "tokenizer.json") if config.deploy.vocabulary else None
        problems += [f"bases.{name}: {tokenizer}"] if tokenizer else []

        model = read_object(folder / "config.json")
        # whatever else is wrong with a base is said by `fetch`
        if model and isinstance(model.get("model_type"), str) and not brought:
            problems += family_problems(f"bases.{name}", model, needs[name])
    return problems


def check_files(config: Config) -> None:
    """Check before the first job that all files of the user exist, that bases at hand fit the methods and rows, and that what
    writes the formats is installed.

    Raises:
        ConfigError: it names every missing file, every base that a method cannot work on, every length that a base does
            not take, and every package that is missing.
    """
    needed = [(f"tasks.{task}.{key}", path) for task in config.tasks for key, path in task_files(config, task).items()]
    needed += [(f"bases.{base}.path", path) for base in config.bases for path in base_files(config, base)]
    hint = TRAVELS if COPIES in Path.cwd().as_posix() else ""
    problems = [f"{key}: no such file: {Path(path).absolute()}{hint}" for key, path in needed if not Path(path).is_file()]

    braced = [(key, path) for key, path in needed if "{" in path or "}" in path]
    problems += [f"{key}: got {path!r}; braces are wildcards to Snakemake: rename it" for key, path in braced]

    problems += [problem for base in config.bases for problem in _incomplete(config, base)]
    problems += _unsupported(config) + length_problems(config)
    problems += [f"deploy.formats: {problem}" for problem in map(missing_packages, config.deploy.formats) if problem]
    problems += local_problems(config, {base: _folder_at_hand(config, base) for base in config.bases})
    if problems:
        raise ConfigError(problems)
