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
        if _half_imported():
            _register_at_first_use()
        else:
            _register()


def _register() -> None:
    importlib.import_module("espalier.models.modeling_espalier")


def _half_imported() -> bool:
    """Whether a module of models has begun, and imports the Auto classes itself: its own classes cannot be had yet."""
    names = [name for name in sys.modules if name.startswith("transformers.models.") and ".modeling_" in name and name != _AUTO]
    return any(getattr(sys.modules[name].__spec__, "_initializing", False) for name in names)


def _register_at_first_use() -> None:
    """Register the compact classes when an Auto class is first asked for a model or a configuration."""
    factory = importlib.import_module("transformers.models.auto.auto_factory")
    configurations = importlib.import_module("transformers.models.auto.configuration_auto")
    places = [(factory._BaseAutoModelClass, name) for name in ("from_pretrained", "from_config")]
    places += [(configurations.AutoConfig, name) for name in ("from_pretrained", "for_model")]
    before = {place: place[0].__dict__[place[1]] for place in places}

    def first_use(name):
        def ask(cls, *arguments, **options):
            for (owner, its_name), method in before.items():
                setattr(owner, its_name, method)
            _register()
            return getattr(cls, name)(*arguments, **options)

        return ask

    for owner, name in places:
        setattr(owner, name, classmethod(first_use(name)))


if _AUTO in sys.modules:
    _register()
else:
    sys.meta_path.insert(0, _WithAutoClasses())
