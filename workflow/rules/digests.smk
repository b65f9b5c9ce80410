# What decides whether a job's results are still those of its code: digests, and folders named by them.
from espalier.config.kinds import KINDS, rules_module
from espalier.config.methods import METHODS
from espalier.provenance.code_digest import code_digest, work_folder
from espalier.stages import MODULES

RULES_ALONE = ("pack", "linear", "export", "trim", "measure", "card")  # stages that ask no kind of task, but its rules


def code(stage, *more):
    """A digest of a stage's code and of all that it uses, the kind of its task among it."""
    return lambda w: code_digest(MODULES[stage], *more, *kind_code(stage, w))


def kind_code(stage, w):
    """What a digest covers of the kind of the job's task: its class, or its rules alone; nothing where no task is named."""
    if "task" not in w.keys():
        return []
    kind = study.tasks[w.task].kind
    return [f"{rules_module(kind)}:RULES" if stage in RULES_ALONE else KINDS[kind]]


def method_code(stage):
    """A digest of a stage's and its method's code."""
    return lambda w: code_digest(MODULES[stage], METHODS[study.plans[w.plan].method], *kind_code(stage, w))


def work(stage, spec, code):
    """Where a run keeps its checkpoints: outside all outputs, another folder for other parameters."""
    return lambda w: work_folder(stage, "/".join(w), spec(w), code(w))
