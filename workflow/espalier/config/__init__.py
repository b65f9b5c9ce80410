"""The configuration: strict blocks, readable errors, and the part that each job reads. No torch here."""

from espalier.config.blocks import ConfigError
from espalier.config.project import TEACHER, Config
from espalier.config.reading import parse

__all__ = ["TEACHER", "Config", "ConfigError", "parse"]
