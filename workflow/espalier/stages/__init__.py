"""One module a stage, in folders by what they do; each has a `run` whose keyword arguments are its paths.

Standard library only: the Snakefile imports this.
"""

from pathlib import Path

FILES = {file.stem: file for file in sorted(Path(__file__).parent.glob("*/[a-z]*.py"), key=lambda file: file.stem)}
"""Stage → its file."""
MODULES = {stage: f"{__name__}.{file.parent.name}.{stage}" for stage, file in FILES.items()}
"""Stage → its module, such as `espalier.stages.training.compress`."""
TRAINING = tuple(stage for stage, file in FILES.items() if file.parent.name == "training")
"""Stages that train; several processes can share one."""
