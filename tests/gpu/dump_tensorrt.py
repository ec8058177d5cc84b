"""Prints what TensorRT's bindings have, as JSON: run in a process of its own over the stub libraries.

For every class its members, each with the lines of its documentation in which pybind11 states a signature; functions
of the module stand under the empty name.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from importlib import import_module
from types import ModuleType

SIGNATURE = re.compile(r"^(?:\d+\. )?(\w+)?\((.*)\) -> (.+)$")


def signatures(member: object) -> list[str]:
    """The signatures in a function's or property's documentation: none for what is not of pybind11."""
    if isinstance(member, property):
        member = member.fget
    text = getattr(member, "__doc__", None) or ""
    found = [line.strip() for line in text.splitlines() if SIGNATURE.match(line.strip())]
    if not found and inspect.isfunction(member):
        found = [f"{member.__name__}{inspect.signature(member)} -> object"]
    return found


def kind(member: object) -> str:
    if isinstance(member, property):
        return "property"
    return "function" if callable(member) and not isinstance(member, type) else "value"


def classes_of(module: ModuleType) -> dict[str, type]:
    found: dict[str, type] = {}

    def add(name: str, item: type) -> None:
        found[name] = item
        for inner, member in vars(item).items():
            if isinstance(member, type) and not inner.startswith("_"):
                add(f"{name}.{inner}", member)

    for name in dir(module):
        item = getattr(module, name)
        if isinstance(item, type) and not name.startswith("_"):
            add(name, item)
    return found


def main(name: str) -> None:
    module = import_module(name)
    described: dict[str, dict[str, dict[str, object]]] = {"": {}}
    for class_name, item in classes_of(module).items():
        described[class_name] = {
            member: {"kind": kind(value), "signatures": signatures(value)}
            for member in dir(item)
            if (value := inspect.getattr_static(item, member, None)) is not None or member == "__init__"
        }
        # An enumeration's members are of it.
        for member in getattr(item, "__members__", ()):
            described[class_name][member] = {"kind": "member", "signatures": []}
    for member in dir(module):
        value = getattr(module, member)
        if not isinstance(value, type):
            described[""][member] = {"kind": kind(value), "signatures": signatures(value)}
    print(json.dumps(described))


if __name__ == "__main__":
    main(sys.argv[1])
