# What the rules share: constants, and functions from a job's wildcards to its inputs and parameters.
import re
from functools import cache

from espalier import config as settings  # the name `parse` belongs to Snakemake here
from espalier.config import TEACHER, job_specs, targets
from espalier.config.deployment import specs as deployment_specs
from espalier.config.deployment.formats import ONNX_FILE, SENTENCE_FILES, converted_files
from espalier.config.kinds import ANALYSED, LABELLED, PACKED, VECTORS
from espalier.config.kinds import specs as kind_specs
from espalier.config.layout import EXPORTED_FILES, MODEL, STUDENT_FILES, TOKENIZER, WILDCARDS, Layout, paths_in
from espalier.config.layout import base_files, check_files, needs_of
from espalier.config.reporting import specs as reporting_specs
from espalier.config.resources import resources_of
from espalier.config.teachers import specs as teacher_specs
from espalier.provenance.job_environment import run_this_clone, serve_stages, tell_jobs
from espalier.provenance.row_contents import rows_made_from, teacher_made_from, texts_made_from

run_this_clone()
try:
    study = settings.parse(config)
    check_files(study)
except ConfigError as error:
    raise WorkflowError(str(error)) from None

tell_jobs(study.processes, study.measure.length, needs_of(study))
layout = Layout(study)
LOCK = f"{CLONE}/envs/requirements.lock" if IS_MODULE else "envs/requirements.lock"
RESULTS = layout.root
BASE = layout.base("{base}")
PREPARED = layout.prepared("{task}")
TOKENS = layout.tokenised("{base}", "{task}")
STUDENT = layout.student("{base}", "{task}", "{seed}", "{plan}", "{percent}")
TEACHER_FOLDER = layout.student("{base}", "{task}", "{seed}")
OWN_TEACHERS = layout.own_teachers()  # base and task of teachers that somebody has fine-tuned already
TRAINING_THREADS = 8  # an upper bound; Snakemake lowers it to --cores
ALL_THREADS = workflow.resource_settings.cores or TRAINING_THREADS  # for a job that must have its machine alone


def one_of(names):
    """A wildcard's constraint to some names; where there are none, to nothing."""
    return "|".join(names) or "(?!)"


def plans_where(condition):
    """A wildcard's constraint to plans that meet a condition, each with its own percents."""
    stages = {name: layout.percents(name) for name, plan in study.plans.items() if condition(plan)}
    return one_of(f"{name}(?=/(?:{one_of(map(re.escape, percents))})/)" for name, percents in stages.items())


def first_of(pairs):
    """A wildcard's constraint to the first names of pairs, each before the second names that it has, as folders follow."""
    followers = {}
    for first, second in pairs:
        followers.setdefault(first, []).append(second)
    return one_of(f"{first}(?=/(?:{one_of(seconds)})/)" for first, seconds in followers.items())


@cache
def _json(make, *names):
    return make(study, *names).model_dump_json()


def spec(make, *wildcards):
    """The part of the configuration that a job reads, as JSON; the names of the wildcards that it depends on."""
    return lambda w: _json(make, *(int(w[name]) if name == "seed" else w[name] for name in wildcards))


def uncompared(param):
    """The same param, which is then no reason to run again: Snakemake compares none that may depend on the outputs."""
    return lambda w, output: param(w)


student_spec = spec(job_specs.compress_spec, "task", "plan", "seed", "percent")
recovery_spec = spec(job_specs.recover_spec, "task", "plan", "seed", "percent")
