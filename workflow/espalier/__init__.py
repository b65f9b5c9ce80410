"""Espalier: compress Transformer encoders by pruning and distillation.

After `import espalier`, the Auto classes of transformers open compact models. Nothing heavy is imported for that: the
classes are registered when transformers' Auto classes are.
"""

import importlib
import importlib.abc
import importlib.util
import sys

_AUTO = "transformers.models.auto.modeling_auto"


class _WithAutoClasses(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads transformers' Auto classes as usual, then registers the compact ones."""

    def find_spec(self, name, path=None, target=None):
        if name != _AUTO:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        self.loader, spec.loader = spec.loader, self
        return spec

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        self.loader.exec_module(module)
        importlib.import_module("espalier.models.modeling_espalier")


if _AUTO in sys.modules:
    importlib.import_module("espalier.models.modeling_espalier")
else:
    sys.meta_path.insert(0, _WithAutoClasses())
