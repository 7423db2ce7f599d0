"""Code from outside the package: which components come from it, and a hash of it for the identity of what uses them."""

from __future__ import annotations

import hashlib
import inspect
import sys
from pathlib import Path
from types import ModuleType

OWN = __name__.partition(".")[0]

# What of a package decides what its components do: code, templates and presets, not data or models.
_SUFFIXES = (".py", ".jinja", ".yaml", ".yml", ".json", ".toml", ".txt")


def plugin_of(component: type) -> str | None:
    """Return the package or module that a component comes from; None for the project's own."""
    top = component.__module__.partition(".")[0]
    if top == OWN:
        return None
    root = _root(component.__module__)
    return component.__module__ if root is None else root.__name__


def plugin_code(component: type) -> str | None:
    """Return a hash of the code and templates that a component comes from; None for the project's own.

    It is that of the whole package, or of the file of a module or script that is in none. A component that was typed
    into a session without a file has the hash of its own source.
    """
    if plugin_of(component) is None:
        return None
    root = _root(component.__module__)
    hashed = hashlib.sha256()
    file = getattr(root, "__file__", None)
    if file is None or not Path(file).is_file():
        try:
            hashed.update(inspect.getsource(component).encode())
        except (OSError, TypeError):
            hashed.update(component.__qualname__.encode())
    elif hasattr(root, "__path__"):
        folder = Path(file).parent
        for path in sorted(folder.rglob("*")):
            if path.suffix in _SUFFIXES and "__pycache__" not in path.parts and path.is_file():
                hashed.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    else:
        hashed.update(Path(file).read_bytes())
    return hashed.hexdigest()[:16]


def _root(name: str) -> ModuleType | None:
    """The outermost package around a module that has a file (a namespace has none), or the module itself; None for a
    module that is not loaded any more.
    """
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    name = spec.name if spec is not None else name
    parts = name.split(".")
    for length in range(1, len(parts)):
        package = sys.modules.get(".".join(parts[:length]))
        if package is not None and getattr(package, "__file__", None):
            return package
    return module
