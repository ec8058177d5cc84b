"""Reading the configuration: defaults, then the file, then the environment, then ``--set``; the last one wins."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from daemon.settings.model import Settings
from engines.errors import UsageError

PREFIX = "MILLWATCH_"
DEFAULT_FILE = Path("config.yaml")

# Where Pydantic speaks of Python's types, these are the words for somebody who writes a file.
_MESSAGES = {
    "model_type": "should be a section of keys",
    "dict_type": "should be a section of keys",
    "path_type": "should be a path",
}

KeyPath = tuple[str, ...]
Values = dict[KeyPath, Any]


def load_settings(config: Path | None = None, overrides: Sequence[str] = ()) -> Settings:
    """The settings from the file ``config`` (``./config.yaml``, if there is one, where it is None), the environment
    and ``overrides`` of the form ``key.path=value``.

    Relative paths start at the file's folder. Raises :class:`UsageError` with one line for each thing that is wrong.
    """
    if config is None and DEFAULT_FILE.is_file():
        config = DEFAULT_FILE
    values: Values = {}
    origins: dict[KeyPath, str] = {}
    for origin, path, value in _sources(config, os.environ, overrides):
        values[path] = value
        origins[path] = origin
    folder = Path.cwd() if config is None else config.absolute().parent
    try:
        return Settings.model_validate(_with_all_sections(Settings, _tree(values)), context={"folder": folder})
    except ValidationError as error:
        raise UsageError("\n".join(_line(problem, origins, config) for problem in error.errors())) from None


def known_keys(model: type[BaseModel] = Settings, above: KeyPath = ()) -> Iterator[KeyPath]:
    """The path of every key and section; the number of a class stands as ``N``."""
    for name, field in model.model_fields.items():
        path = (*above, name)
        yield path
        section = _section(field.annotation)
        if section is not None:
            yield from known_keys(section, path)
        elif name == "classes":
            yield from known_keys(get_args(field.annotation)[1], (*path, "N"))


def _sources(
    config: Path | None, environment: Mapping[str, str], overrides: Sequence[str]
) -> Iterator[tuple[str, KeyPath, Any]]:
    if config is not None:
        for path, value in _flat(_read(config)):
            yield str(config), path, value
    for name, text in sorted(environment.items()):
        path = tuple(name.removeprefix(PREFIX).lower().split("__"))
        # Other programs, container platforms among them, set variables like MILLWATCH_PORT: only what is a key of the
        # first level, or has the separator of levels, is ours.
        if name.startswith(PREFIX) and (len(path) > 1 or _is_meant(path[0])):
            yield name, path, _from_text(text)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise UsageError(f"--set {override}: should be key.path=value, as in --set batch.max_frames=8")
        yield "--set", tuple(key.strip().split(".")), _from_text(text)


def _is_meant(word: str) -> bool:
    """Whether a word is a key of the first level, or so near to one that it is a slip."""
    return bool(difflib.get_close_matches(word, Settings.model_fields, n=1, cutoff=0.85))


def _from_text(text: str) -> str | None:
    # Numbers and truth values stay text here and are read by their field, so that a password of digits stays one.
    return None if text == "null" else text


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice: the second would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, str | int) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is there twice", key_node.start_mark
                )
            if isinstance(key, str | int):
                seen.add(key)
        return super().construct_mapping(node, deep)


def _read(config: Path) -> dict[Any, Any]:
    try:
        tree = yaml.load(config.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a SafeLoader
    except FileNotFoundError:
        raise UsageError(f"{config}: no such configuration file") from None
    except OSError as error:
        raise UsageError(f"{config}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{config}: not a text in UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}:" if error.problem_mark else ""
        raise UsageError(f"{config}:{line} not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{config}: not valid YAML: {' '.join(str(error).split())}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise UsageError(f"{config}: should hold keys and values, as in the config.yaml that comes with Millwatch")
    return tree


def _flat(tree: dict[Any, Any], above: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    for key, value in tree.items():
        path = (*above, str(key))
        if isinstance(value, dict) and value:
            yield from _flat(value, path)
        else:
            yield path, value


def _tree(values: Values) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for path, value in values.items():
        node = root
        for part in path[:-1]:
            below = node.get(part)
            if not isinstance(below, dict):
                below = node[part] = {}
            node = below
        node[path[-1]] = value
    return root


def _with_all_sections(model: type[BaseModel], tree: dict[str, Any]) -> dict[str, Any]:
    # A section that is not given, or has all its keys commented out, is still checked: its paths need the folder.
    for name, field in model.model_fields.items():
        section = _section(field.annotation)
        if section is not None or name == "classes":
            tree[name] = {} if tree.get(name) is None else tree[name]
        if section is not None and isinstance(tree[name], dict):
            _with_all_sections(section, tree[name])
    return tree


def _section(annotation: object) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _line(problem: ErrorDetails, origins: dict[KeyPath, str], config: Path | None) -> str:
    path = tuple(str(part) for part in problem["loc"] if part != "[key]")
    key, value = ".".join(path), problem["input"]
    start = [origin for known, origin in origins.items() if known[: len(path)] == path]
    where = start[-1] if start else str(config or "configuration")
    if problem["type"] == "extra_forbidden":
        shown = "" if isinstance(value, dict) or "security" in path else f" (its value is {value!r})"
        return f"{where}: {key}: no such key{shown}{_nearest(path)}"
    message = _MESSAGES.get(problem["type"], problem["msg"].removeprefix("Value error, ").removeprefix("Input "))
    if isinstance(value, dict | BaseModel) or _is_secret(path):
        return f"{where}: {key}: {message}" if key else f"{where}: {message}"
    shown = "null" if value is None else repr(value)
    return f"{where}: {key}: {shown} {message}"


def _nearest(path: KeyPath) -> str:
    number = path[1] if path[0] == "classes" and len(path) > 1 else "N"
    known = sorted(".".join(number if part == "N" else part for part in keys) for keys in known_keys())
    words = {key: key.rpartition(".")[2] for key in known}
    # The right word in the wrong section is a likelier slip than a similar path, and that than a similar word.
    candidates = [key for key in known if words[key] == path[-1]]
    candidates += difflib.get_close_matches(".".join(path), known, n=1)
    for word in difflib.get_close_matches(path[-1], sorted(set(words.values())), n=1):
        candidates += [key for key in known if words[key] == word]
    return f"; did you mean {candidates[0]}?" if candidates else ""


def _is_secret(path: KeyPath) -> bool:
    model: type[BaseModel] | None = Settings
    for part in path[:-1]:
        model = _section(model.model_fields[part].annotation) if model and part in model.model_fields else None
    field = model.model_fields.get(path[-1]) if model and path else None
    return field is not None and SecretStr in (field.annotation, *get_args(field.annotation))
