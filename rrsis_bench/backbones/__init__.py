"""Finds and builds backbones by name.

A backbone is one module in this folder and one file in ``conf/vision/`` or ``conf/text/`` whose field ``backbone``
names the module. The module defines one subclass of `Backbone`. Nothing else is registered.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any, TypeVar

from rrsis_bench import codec
from rrsis_bench.backbones.interfaces import Backbone, TextConfig
from rrsis_bench.errors import UserError, unknown

HELPERS = frozenset({"interfaces", "lora", "positions", "sam2_meta", "weights"})  # modules without a backbone

Needed = TypeVar("Needed", bound=Backbone)


def build_vision(node: Mapping[str, Any], needs: type[Needed], **given: Any) -> Needed:
    """Build the vision backbone that the node ``vision`` of the configuration describes.

    Args:
        node: the field ``backbone`` and the options of that backbone.
        needs: the class or interface that the model works with.
        given: further arguments of the constructor, such as ``image_size`` of a `StagedEncoder`.

    Raises:
        UserError: an unknown backbone or option, a backbone that is no `needs`, or weights that cannot be read.
    """
    return _build(node, "vision", needs, given)


def build_text(node: Mapping[str, Any], needs: type[Needed]) -> Needed:
    """Build the text backbone that the node ``text`` of the configuration describes; see `build_vision`."""
    return _build(node, "text", needs, {})


def backbone_class(name: str, field: str) -> type[Backbone]:
    """Import the module of a backbone and return its class.

    Args:
        name: of the module.
        field: node of the configuration, for messages.

    Raises:
        UserError: no such module, or a module that does not define exactly one backbone.
    """
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in HELPERS)
    if name not in names:
        raise unknown(f"{field}.backbone", name, names)
    module = importlib.import_module(f"{__name__}.{name}")
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Backbone) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        raise UserError(
            f"{module.__file__} must define exactly one subclass of Backbone, but it defines "
            f"{', '.join(cls.__name__ for cls in found) or 'none'}."
        )
    return found[0]


def _build(node: Mapping[str, Any], field: str, needs: type[Needed], given: Mapping[str, Any]) -> Needed:
    cls = backbone_class(str(node.get("backbone")), field)
    is_text = issubclass(cls.Config, TextConfig)
    if not issubclass(cls, needs) or is_text != (field == "text"):
        raise UserError(
            f"{field}.backbone={node['backbone']} is a {cls.__name__}, but the model needs a {needs.__name__}. "
            f"Choose another file of conf/{field}/ with {field}=."
        )
    config = codec.decode(cls.Config, node, f"The backbone '{node['backbone']}'", path=field)
    return cls(config, **given)
