# Before any job: files that the command line asks for, and results that no note describes.
from snakemake.cli import get_argument_parser
from snakemake.iocontainers import Wildcards

from espalier.config.kinds.checks import left_aside
from espalier.config.requests import asked_files, request_problem
from espalier.provenance.job_records import vouched
from espalier.provenance.kept_notes import bring_back_notes, has_more_files_than_notes, keep_notes, without_note


def refuse_unknown_files():
    """Check the files that the command line asks for. Snakemake itself would name the place in the code that fails.

    The command line is read once more, because Snakemake does not tell a Snakefile what is asked for.
    """
    if not asked_files(sys.argv[1:], layout.root.split("/")[0]):
        return
    options, _ = get_argument_parser().parse_known_args(sys.argv[1:])
    words = [*options.targets, *options.until, *options.forcerun, *options.prioritize]
    asked = asked_files([word for word in words if not workflow.is_rule(word)], layout.root.split("/")[0])
    asked = [path for path in asked if not any(pattern.match(path) for pattern in patterns(named=False))]
    made = list(all_files()) if asked else []
    problems = [problem for path in asked if (problem := request_problem(path, made))]
    if problems:
        raise WorkflowError("\n".join(problems))


def say_what_is_left_aside():
    """Say which plans leave texts without labels, or a task without labels, aside, and why."""
    for line in left_aside(study):
        logger.info(f"note: {line}")


def patterns(named):
    """Outputs of all rules: those that base, task, seed, plan and percent name, or those that have other wildcards, too."""
    outputs = [pattern for rule in workflow.rules for pattern in rule.output]
    return [pattern for pattern in outputs if (pattern.get_wildcard_names() <= set(WILDCARDS)) == named]


def named_files():
    """Every file that the wildcards of teachers and students name: the output that makes it, the wildcards, and its path."""
    for pattern in patterns(named=True):
        for names in layout.names_of(pattern.get_wildcard_names()):
            if pattern.match(path := str(pattern.apply_wildcards(names))):
                yield pattern, names, path


def all_files():
    """Every file that the rules make for this configuration."""
    yield from (path for _, _, path in named_files())
    for base in study.compressed_bases:
        yield from (table for plan in study.plans for table in layout.latency(base, plan))
    yield from layout.notes()


def specs_of(outputs):
    """Output → what its job reads of the configuration; not where contents of the user's files count, too (prepare)."""
    wanted = set(outputs)
    for pattern, names, path in named_files():
        spec = dict(pattern.rule.params.items()).get("spec") if path in wanted else None
        if spec is not None and "output" not in spec.__code__.co_varnames:
            yield path, spec(Wildcards(fromdict=names))


def run_again_what_has_no_note():
    """Let results run again of which neither Snakemake nor their own record says that the job that is wanted wrote them.

    Snakemake by itself takes them as done. The lock file, an input of every rule, becomes newer than all results. Those with
    a note are compared by its content.
    """
    bring_back_notes(RESULTS)
    if not has_more_files_than_notes(RESULTS):
        return
    unnoted = without_note(all_files())
    known = vouched(RESULTS, dict(specs_of(unnoted))) if unnoted else set()
    if unknown := [path for path in unnoted if path not in known]:
        logger.info(f"{RESULTS}: of {len(unknown)} files no job is noted that wrote them, such as {unknown[0]}: it runs again.")
        Path(LOCK).touch()
