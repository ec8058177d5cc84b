"""Finds every name of TensorRT that a package uses, and those that TensorRT does not have.

The source is walked, never run. What a value is follows from where it came from: the module is what ``import tensorrt``
binds or a parameter named ``library`` is given, a class of it makes objects of that class, and pybind11 writes into the
documentation of every method what it returns. Types go through assignments, attributes, arguments and results within
the package, so that no list of names has to be kept beside the code. A value typed ``Any`` of which none of this tells
what it is, and whose attributes are used, is a problem too: it could be hiding a name.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

MODULE_NAMES: Final = frozenset({"library", "trt", "tensorrt", "_library", "_trt", "_tensorrt"})
"""Parameters and attributes of these names are the module, whoever gives it."""

PACKAGES: Final = frozenset({"tensorrt", "tensorrt_bindings", "tensorrt_rtx"})

Api = Mapping[str, Mapping[str, Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class Value:
    """What an expression is: TensorRT's ``module``, a ``class`` or an ``object`` of it by name, a collection of such
    objects (``many``), one of its functions with its signatures; an object of one of the package's own classes
    (``own``); something that came from another import (``foreign``); or ``other``: nothing of TensorRT's, as far as
    can be told."""

    kind: str
    name: str = ""
    signatures: tuple[str, ...] = ()
    through_class: bool = False


MODULE: Final = Value("module")
OTHER: Final = Value("other")
FOREIGN: Final = Value("foreign")


@dataclass(slots=True)
class Names:
    """What was found: every name that was looked up, by its dotted form, and the ``places`` where; the classes of which
    a member is looked up by a name that is only known when the code runs; and the problems with their places."""

    used: set[str] = field(default_factory=set)
    places: list[ast.Attribute] = field(default_factory=list)
    chosen_from: set[str] = field(default_factory=set)
    problems: set[str] = field(default_factory=set)


class Walk:
    """The source of one package; ``api`` is what ``dump_tensorrt`` prints."""

    def __init__(self, files: Sequence[Path], api: Api) -> None:
        self.trees = {path.name: ast.parse(path.read_text(encoding="utf-8")) for path in files}
        self._package = _Package(api)
        for file, tree in self.trees.items():
            self._package.declare(tree, file)
        # Once for each function that a type goes through.
        known = -1
        while known != (known := self._package.known):
            self.look(self.trees)

    def look(self, files: Iterable[str]) -> Names:
        """What is used in these files, as their trees are now."""
        self._package.names = Names()
        for file in files:
            _Scope(self._package, file, {}).run(self.trees[file].body)
        return self._package.names


def names_in(files: Sequence[Path], api: Api) -> Names:
    """What a whole package uses."""
    walk = Walk(files, api)
    return walk.look(walk.trees)


class _Package:
    """What is known of the package's own functions, classes and attributes, by their bare names."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.names = Names()
        self.parameters: dict[str, list[str]] = {}
        self.classes: set[str] = set()
        self.given: dict[tuple[str, str], Value] = {}
        self.results: dict[str, Value] = {}
        self.attributes: dict[tuple[str, str], Value] = {}
        self.globals: dict[str, Value] = {}
        methods = {name for owner in api if owner for name, item in api[owner].items() if item["kind"] == "function"}
        self.methods = {name for name in methods if "_" in name.strip("_")}

    def declare(self, tree: ast.Module, file: str) -> None:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                listed = [item.arg for item in (*node.args.posonlyargs, *node.args.args) if item.arg != "self"]
                if node.name != "__init__":
                    self.parameters[self.called(node.name, file)] = listed
            elif isinstance(node, ast.ClassDef):
                self.classes.add(node.name)
                constructor = next(
                    (item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"), None
                )
                if constructor is not None:
                    listed = [item.arg for item in constructor.args.args if item.arg != "self"]
                else:
                    listed = [
                        item.target.id
                        for item in node.body
                        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
                    ]
                self.parameters[node.name] = listed

    @property
    def known(self) -> int:
        """How much is known by now: it only grows."""
        types = (*self.given.values(), *self.results.values(), *self.attributes.values(), *self.globals.values())
        return sum(1 + (value.kind not in {"foreign", "other"}) for value in types)

    @staticmethod
    def called(name: str, file: str) -> str:
        """The key of a function: of a private one its file is part, where another may have one of the same name."""
        return f"{file}:{name}" if name.startswith("_") else name

    def attribute(self, owner: Value | None, name: str) -> Value | None:
        """An attribute of one of the package's own objects; of one whose class is not known where all agree."""
        if owner is not None and owner.kind == "own":
            return self.attributes.get((owner.name, name))
        found = {value for (_, attribute), value in self.attributes.items() if attribute == name}
        return found.pop() if len(found) == 1 else None

    def keep(self, owner: str, name: str, value: Value) -> None:
        """Note what an attribute of one of the package's own classes holds."""
        if value.kind not in {"foreign", "other"} or (owner, name) not in self.attributes:
            self.attributes[owner, name] = value

    def member(self, owner: Value, name: str, place: str) -> Value:
        """An attribute of the module, a class or an object."""
        if owner.kind == "module":
            if name in self.api and name:
                self.names.used.add(name)
                return Value("class", name)
            found, dotted = self.api[""].get(name), name
        else:
            inner = f"{owner.name}.{name}"
            if inner in self.api:
                self.names.used.add(inner)
                return Value("class", inner)
            found, dotted = self.api[owner.name].get(name), inner
        if found is None:
            self.names.problems.add(f"{place}: TensorRT has no {dotted}")
            return OTHER
        self.names.used.add(dotted)
        if found["kind"] == "member":
            return Value("object", owner.name)
        if found["kind"] == "property":
            return self.returned(found["signatures"])
        if found["kind"] == "function":
            return Value("function", dotted, tuple(found["signatures"]), through_class=owner.kind == "class")
        return OTHER

    def returned(self, signatures: Sequence[str]) -> Value:
        for signature in signatures:
            # As in `-> tensorrt_bindings.tensorrt.ITensor`, or `nvonnxparser::IParserError` for ParserError.
            name = re.split(r"::|tensorrt\.(?!tensorrt\.)", signature.rpartition(" -> ")[2])[-1].strip()
            for candidate in (name, name.removeprefix("I")):
                if candidate in self.api and candidate:
                    return Value("object", candidate)
        return OTHER

    def check_call(self, function: Value, node: ast.Call, place: str) -> None:
        """Keywords and the number of arguments against every form of a function."""
        if function.kind == "class":
            found = self.api[function.name].get("__init__")
            signatures = tuple(found["signatures"]) if found else ()
        else:
            signatures = function.signatures
        if not signatures or any(isinstance(item, ast.Starred) for item in node.args):
            return
        forms = [parameters_of(signature) for signature in signatures]
        if any("*" in form for form in forms):
            return
        keywords = [item.arg for item in node.keywords if item.arg]
        known = {name for form in forms for name in form}
        for name in keywords:
            self.names.used.add(f"{function.name}({name}=)")
            if name not in known:
                self.names.problems.add(f"{place}: {function.name} takes no {name}=")
        count = len(node.args) + len(keywords) - function.through_class
        if all(count > len(form) for form in forms):
            self.names.problems.add(f"{place}: {function.name} takes fewer arguments")


def parameters_of(signature: str) -> list[str]:
    """The names of a signature's parameters without ``self``; a star where it takes any number."""
    inside = signature[signature.index("(") + 1 : signature.rindex(") ->")]
    names, depth, start = [], 0, 0
    for position, letter in enumerate(f"{inside},"):
        depth += (letter in "([{<") - (letter in ")]}>")
        if letter == "," and depth == 0:
            names.append(re.split(r"[:=]", inside[start:position])[0].strip())
            start = position + 1
    names = ["*" if name.startswith("*") else name for name in names if name and name != "self"]
    # Of an unnamed parameter pybind11 says arg0, which for a method is the object itself.
    return names[1:] if names and names[0] == "arg0" and not signature.startswith("(arg0") else names


class _Scope:
    """One block of code and the values of its variables."""

    def __init__(self, package: _Package, file: str, variables: dict[str, Value], unsure: frozenset[str] = frozenset()):
        self.package = package
        self.file = file
        self.variables = variables
        self.unsure = unsure
        self.function = ""
        self.owner = ""

    def run(self, body: Sequence[ast.stmt]) -> None:
        for statement in body:
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:
        match node:
            case ast.FunctionDef():
                self.enter(node)
            case ast.ClassDef():
                for base in node.bases:
                    self.value(base)
                outer, self.owner = self.owner, node.name
                self.run(node.body)
                self.owner = outer
            case ast.Import():
                for item in node.names:
                    bound = item.asname or item.name.partition(".")[0]
                    self.bind(bound, MODULE if item.name.partition(".")[0] in PACKAGES else FOREIGN)
            case ast.ImportFrom():
                for item in node.names:
                    self.imported(node, item)
            case ast.Assign():
                value = self.value(node.value)
                for target in node.targets:
                    self.assign(target, node.value, value)
            case ast.AnnAssign() if node.value is not None:
                self.assign(node.target, node.value, self.value(node.value))
            case ast.AugAssign():
                self.value(node.target)
                self.value(node.value)
            case ast.Return() if node.value is not None:
                self.result(self.value(node.value))
            case ast.With():
                for item in node.items:
                    value = self.value(item.context_expr)
                    if item.optional_vars is not None:
                        self.assign(item.optional_vars, item.context_expr, value)
                self.run(node.body)
            case ast.For():
                self.assign(node.target, node.iter, self.element(self.value(node.iter)))
                self.run([*node.body, *node.orelse])
            case ast.Try():
                self.run([*node.body, *(inner for handler in node.handlers for inner in handler.body)])
                self.run([*node.orelse, *node.finalbody])
            case _:
                for child in ast.iter_child_nodes(node):
                    if isinstance(child, ast.stmt):
                        self.statement(child)
                    elif isinstance(child, ast.expr):
                        self.value(child)
                    else:
                        self.run([inner for inner in ast.walk(child) if isinstance(inner, ast.stmt)])

    def imported(self, node: ast.ImportFrom, item: ast.alias) -> None:
        if (node.module or "").partition(".")[0] in PACKAGES:
            place = f"{self.file}:{node.lineno}"
            self.bind(item.asname or item.name, self.package.member(MODULE, item.name, place))
        elif item.name not in self.package.parameters:
            self.bind(item.asname or item.name, self.package.globals.get(item.name, FOREIGN))

    def enter(self, node: ast.FunctionDef) -> None:
        listed = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        variables = dict(self.variables)
        unsure = set()
        for item in listed:
            called = self.owner if node.name == "__init__" else self.package.called(node.name, self.file)
            given = self.package.given.get((called, item.arg))
            annotation = "" if item.annotation is None else ast.unparse(item.annotation)
            if item.arg in MODULE_NAMES:
                given = MODULE
            elif item.arg == "self":
                given = Value("own", self.owner)
            elif annotation in self.package.classes:
                given = Value("own", annotation)
            if "Any" in annotation:
                if given is None:
                    unsure.add(item.arg)
            elif given is None or given.kind == "foreign":
                given = OTHER
            variables.pop(item.arg, None)
            if given is not None:
                variables[item.arg] = given
        inner = _Scope(self.package, self.file, variables, frozenset(unsure))
        inner.function = self.package.called(node.name, self.file)
        inner.owner = self.owner
        inner.run(node.body)
        for decorator in node.decorator_list:
            self.value(decorator)
            # What a property or a context manager yields is found under the function's own name.
            if (
                isinstance(decorator, ast.Name)
                and decorator.id == "property"
                and inner.function in self.package.results
            ):
                self.package.keep(self.owner, node.name, self.package.results[inner.function])

    def bind(self, name: str, value: Value) -> None:
        self.variables[name] = value
        if not self.function and value.kind not in {"foreign", "other"}:
            self.package.globals[name] = value

    def assign(self, target: ast.expr, source: ast.expr, value: Value | None) -> None:
        if isinstance(target, ast.Name):
            if value is None:
                self.variables.pop(target.id, None)
            else:
                self.bind(target.id, value)
        elif isinstance(target, ast.Attribute):
            owner = self.value(target.value)
            if owner is not None and owner.kind in {"module", "class", "object"}:
                self.package.member(owner, target.attr, self.place(target))
            elif value is not None and owner is not None and owner.kind == "own":
                self.package.keep(owner.name, target.attr, value)
        elif isinstance(target, (ast.Tuple, ast.List)):
            sources = source.elts if isinstance(source, (ast.Tuple, ast.List)) else []
            for number, item in enumerate(target.elts):
                known = self.value(sources[number]) if number < len(sources) else None
                # Of a mapping's items, or of what is numbered, the last is the object.
                if not sources and value is not None and item is target.elts[-1]:
                    known = value
                self.assign(item, source, known)
        else:
            self.value(target)

    def result(self, value: Value | None) -> None:
        if value is not None and self.function and (value != OTHER or self.function not in self.package.results):
            self.package.results[self.function] = value

    def element(self, container: Value | None) -> Value | None:
        if container is not None and container.kind == "many":
            return Value("object", container.name)
        if container is None or container.kind != "object":
            return container if container == OTHER else None
        found = self.package.api[container.name].get("__getitem__")
        return self.package.returned(found["signatures"]) if found else OTHER

    def value(self, node: ast.expr) -> Value | None:
        match node:
            case ast.Name():
                return self.variables.get(node.id)
            case ast.Attribute():
                return self.attribute(node, node.value, node.attr)
            case ast.Call():
                return self.call(node)
            case ast.Subscript():
                self.value(node.slice)
                return self.element(self.value(node.value))
            case ast.NamedExpr():
                value = self.value(node.value)
                self.assign(node.target, node.value, value)
                return value
            case ast.IfExp():
                self.value(node.test)
                return self.either(node.body, node.orelse)
            case ast.BoolOp():
                return self.either(*node.values)
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                return self.comprehension(node)
            case ast.List() | ast.Tuple() | ast.Set():
                return self.many(*node.elts)
            case ast.Dict():
                return self.many(*node.values)
            case ast.Lambda():
                self.value(node.body)
                return OTHER
            case ast.Yield() if node.value is not None:
                value = self.value(node.value)
                self.result(value)
                return None
            case ast.Constant() | ast.JoinedStr():
                for child in ast.walk(node):
                    if isinstance(child, ast.FormattedValue):
                        self.value(child.value)
                return OTHER
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.value(child)
        return OTHER

    def either(self, *nodes: ast.expr) -> Value | None:
        values = [self.value(node) for node in nodes]
        return next((value for value in values if value not in (None, OTHER)), values[0])

    def comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> Value | None:
        for loop in node.generators:
            self.assign(loop.target, loop.iter, self.element(self.value(loop.iter)))
            for condition in loop.ifs:
                self.value(condition)
        if isinstance(node, ast.DictComp):
            self.value(node.key)
        return self.many(node.value if isinstance(node, ast.DictComp) else node.elt)

    def many(self, *nodes: ast.expr) -> Value:
        """A collection of what the nodes are."""
        values = [self.value(node) for node in nodes]
        found = next((value for value in values if value is not None and value.kind in {"object", "many"}), OTHER)
        return Value("many", found.name) if found != OTHER else OTHER

    def attribute(self, node: ast.AST, of: ast.expr, name: str) -> Value | None:
        owner = self.value(of)
        if owner is not None and owner.kind in {"module", "class", "object"}:
            if isinstance(node, ast.Attribute):
                self.package.names.places.append(node)
            return self.package.member(owner, name, self.place(node))
        if owner == FOREIGN:
            return FOREIGN
        if owner is None and isinstance(of, ast.Name) and of.id in self.unsure:
            self.package.names.problems.add(f"{self.place(node)}: nothing tells what {of.id}.{name} is an attribute of")
        if owner is not None and owner.kind == "many":
            return owner if name in {"values", "items", "copy"} else Value("object", owner.name)
        found = self.package.attribute(owner, name)
        if name in MODULE_NAMES:
            return MODULE
        if found is None and name in self.package.methods - set(self.package.parameters):
            self.package.names.problems.add(f"{self.place(node)}: nothing tells what has the method {name}")
        return OTHER if found is None and owner == OTHER else found

    def call(self, node: ast.Call) -> Value | None:
        given = [self.value(item) for item in node.args]
        named = {item.arg: self.value(item.value) for item in node.keywords}
        function = node.func
        bare = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
        if bare == "getattr" and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
            return self.attribute(node, node.args[0], str(node.args[1].value))
        if bare == "getattr" and given and given[0] is not None and given[0].kind in {"module", "class", "object"}:
            self.package.names.chosen_from.add(given[0].name)
            return Value("object", given[0].name) if given[0].kind == "class" else OTHER
        if bare == "import_module" and isinstance(node.args[0], ast.Constant):
            return MODULE if node.args[0].value in PACKAGES else OTHER
        value = self.value(function)
        if value is not None and value.kind in {"class", "function"}:
            self.package.check_call(value, node, self.place(node))
            return Value("object", value.name) if value.kind == "class" else self.package.returned(value.signatures)
        if bare in {"enter_context", "list", "tuple", "iter", "next", "reversed", "sorted", "enumerate"}:
            many = given[0] if given else None
            return self.element(many) if bare == "next" else many
        if bare == "cast" and len(given) > 1:
            return given[1]
        if bare not in self.package.classes:
            bare = self.package.called(bare, self.file)
        if bare in self.package.parameters:
            for name, item in (*zip(self.package.parameters[bare], given, strict=False), *named.items()):
                self.hand_over(bare, name or "", item)
            return Value("own", bare) if bare in self.package.classes else self.package.results.get(bare)
        return value

    def hand_over(self, function: str, parameter: str, value: Value | None) -> None:
        if value is None:
            return
        if value.kind not in {"foreign", "other"} or (function, parameter) not in self.package.given:
            self.package.given[function, parameter] = value
        # A data class keeps what it is given under the parameter's name.
        if function in self.package.classes:
            self.package.keep(function, parameter, value)

    def place(self, node: ast.AST) -> str:
        return f"{self.file}:{getattr(node, 'lineno', 0)}"
