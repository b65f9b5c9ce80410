# What the rules share: constants, and functions from a job's wildcards to its inputs and parameters.
from functools import cache

from espalier import config as settings  # the name `parse` belongs to Snakemake here
from espalier.config import TEACHER, job_specs, targets
from espalier.config.blocks import NAME
from espalier.config.kinds import KINDS, LABELLED, PACKED, rules_module
from espalier.config.layout import MODEL, STUDENT_FILES, TOKENIZER, Layout, base_files, check_files, paths_in, task_files
from espalier.config.methods import METHODS
from espalier.config.resources import resources_of
from espalier.provenance.code_digest import code_digest, work_folder
from espalier.provenance.job_environment import run_this_clone, tell_jobs

run_this_clone()
try:
    study = settings.parse(config)
    check_files(study)
except ConfigError as error:
    raise WorkflowError(str(error)) from None

tell_jobs(study.processes, study.measure.length)
layout = Layout(study)
PLAN = f"(?!{TEACHER}/){NAME}"  # in rules that teachers do not go through
LOCK = f"{CLONE}/envs/requirements.lock" if IS_MODULE else "envs/requirements.lock"
RESULTS = layout.root
BASE = layout.base("{base}")
PREPARED = layout.prepared("{task}")
TOKENS = layout.tokenised("{base}", "{task}")
STUDENT = layout.student("{base}", "{task}", "{seed}", "{plan}", "{percent}")
TEACHER_FOLDER = layout.student("{base}", "{task}", "{seed}")
TRAINING_THREADS = 8  # an upper bound; Snakemake lowers it to --cores
ALL_THREADS = workflow.resource_settings.cores or TRAINING_THREADS  # for a job that must have its machine alone


def one_of(names):
    """A wildcard's constraint to some names; where there are none, to nothing."""
    return "|".join(names) or "(?!)"


@cache
def _json(make, *names):
    return make(study, *names).model_dump_json()


def spec(make, *wildcards):
    """The part of the configuration that a job reads, as JSON; the names of the wildcards that it depends on."""
    return lambda w: _json(make, *(int(w[name]) if name == "seed" else w[name] for name in wildcards))


student_spec = spec(job_specs.compress_spec, "task", "plan", "seed", "percent")
recovery_spec = spec(job_specs.recover_spec, "task", "plan", "seed", "percent")


RULES_ALONE = ("pack", "export", "measure", "card")  # stages that ask no kind of task, but open models or speak of them


def code(stage, *more):
    """A digest of a stage's code and of all that it uses, the kind of its task among it."""
    return lambda w: code_digest(f"espalier.stages.{stage}", *more, *kind_code(stage, w))


def kind_code(stage, w):
    """What a digest covers of the kind of the job's task: its class, or its rules alone; nothing where no task is named."""
    if "task" not in w.keys():
        return []
    kind = study.tasks[w.task].kind
    return [f"{rules_module(kind)}:RULES" if stage in RULES_ALONE else KINDS[kind]]


def method_code(stage):
    """A digest of a stage's and its method's code."""
    return lambda w: code_digest(f"espalier.stages.{stage}", METHODS[study.plans[w.plan].method], *kind_code(stage, w))


def work(stage, spec, code):
    """Where a run keeps its checkpoints: outside all outputs, another folder for other parameters."""
    return lambda w: work_folder(stage, "/".join(w), spec(w), code(w))
