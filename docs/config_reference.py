"""Writes docs/config.md, every field: `python docs/config_reference.py`.

Fields, types and defaults are those of the options' dataclasses and of the
functions that make spaces; what a field means is said in their docstrings.
"""

from __future__ import annotations

import dataclasses
import inspect
import pathlib
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from proxyless_jax.run.config.options import Options
from proxyless_jax.run.config.sections import CostOptions
from proxyless_jax.run.config.space import SPACES, space_defaults

PAGE = pathlib.Path(__file__).resolve().parent / "config.md"
OPENING = """\
# The config

After this page you know every field of a config: its type, its default and what
it means. `python docs/config_reference.py` writes the page from the docstrings
of the options. Terms are defined in the [glossary](glossary.md).

A field is set on the command line, or in a file that is given as `--config`:

```sh
python -m proxyless_jax --config=mnist --workdir=runs/mnist \\
  --config.search.warmup_epochs=20
```

```python
import proxyless_jax as pj


def get_config():
  config = pj.configs.mnist.get_config()
  config.search.warmup_epochs = 20.0
  return config
```

The defaults are the published recipe for ImageNet (`--config=base`). The other
recipes, in `configs/`, say what they change; `config.json` in a workdir has all
values of its run. Unknown fields, wrong types and values out of range are
refused when a run starts, by their names. What may change between two starts of
a run is in [resume.md](resume.md#what-may-change); how to choose method and
length in [searching.md](searching.md); costs and targets in
[hardware.md](hardware.md).
"""
# Defaults that depend on the machine.
IN_WORDS = {"data.workers": "one per CPU, 32 at most"}
SPACE = """\
The section is a `space.family`, 'mobile' (the default) or 'tree', with its
arguments, as below; or, in Python, a network of your own such as `pj.Chain`
([extend.md](extend.md)); or the path of a network's JSON. Size, channels and
classes of the images come from the data.
"""


class Field(NamedTuple):
  """A row of the page.

  Attributes:
    name: dotted path in the config.
    kind: type, in words.
    default: value in Python, or in words; '' where there is none.
    meaning: description of the value.
  """

  name: str
  kind: str
  default: str
  meaning: str


def page() -> str:
  """The whole page."""
  return "\n".join([OPENING, *_sections(Options, "")])


def _sections(cls: type, path: str) -> Iterator[str]:
  """The part of the page on a dataclass, then those on its own sections."""
  hints, meanings = typing.get_type_hints(cls), _meanings(cls)
  inner = {name for name in hints if _is_section(path + name, hints[name])}
  if path:
    yield _heading(path.rstrip("."), inspect.getdoc(cls).splitlines()[0])
  else:
    yield _heading("Without a section", "What the whole run has.")
  yield _table(
    _fields(cls, path, [name for name in hints if name not in inner])
  )
  for name in hints:
    if path + name == "space":
      yield from _spaces()
    elif path + name == "search.costs":
      where = "search.costs.NAME"
      yield _heading(where, _sentence(meanings[name]))
      yield _table(_fields(CostOptions, f"{where}.", _names(CostOptions)))
    elif name in inner:
      yield from _sections(hints[name], f"{path}{name}.")


def _is_section(path: str, hint: Any) -> bool:
  return dataclasses.is_dataclass(hint) or path in ("space", "search.costs")


def _spaces() -> Iterator[str]:
  """The part of the page on the section `space`."""
  yield _heading("space", SPACE)
  for family, make in SPACES.items():
    yield f"### Family {family}\n\nThe arguments of `pj.{make.__name__}`.\n"
    yield _table(_space_fields(family))


def _heading(title: str, text: str) -> str:
  return f"## {title}\n\n{text.strip()}\n"


def _names(cls: type) -> list[str]:
  return [one.name for one in dataclasses.fields(cls)]


def _fields(cls: type, path: str, names: Iterable[str]) -> Iterator[Field]:
  """Rows of some of a dataclass's fields."""
  hints, meanings = typing.get_type_hints(cls), _meanings(cls)
  fields = {one.name: one for one in dataclasses.fields(cls)}
  for name in names:
    where, default = f"{path}{name}", fields[name].default
    if where in IN_WORDS:
      words = IN_WORDS[where]
    elif default is dataclasses.MISSING:
      words = "none: must be given"
    else:
      words = _value(default)
    yield Field(where, _kind(hints[name]), words, _sentence(meanings[name]))


def _space_fields(family: str) -> Iterator[Field]:
  """Rows of the arguments of a function that makes spaces."""
  make = SPACES[family]
  hints, meanings = typing.get_type_hints(make), _meanings(make)
  for name, default in space_defaults(family).items():
    kind, meaning = _kind(hints[name]), _sentence(meanings[name])
    yield Field(f"space.{name}", kind, _value(default), meaning)


def _table(rows: Iterator[Field]) -> str:
  lines = ["| field | type | default | meaning |", "|---|---|---|---|"]
  for row in rows:
    lines.append(
      f"| `{row.name}` | {row.kind} | {row.default} | {row.meaning} |"
    )
  return "\n".join(lines) + "\n"


def _value(default: Any) -> str:
  """A default as Python has it; of quotients, four digits."""
  if isinstance(default, float) and default != float(f"{default:.4g}"):
    return f"about `{default:.4g}`"
  return f"`{default!r}`"


def _kind(hint: Any) -> str:
  """A type in words."""
  origin, arguments = typing.get_origin(hint), typing.get_args(hint)
  if origin in (typing.Union, types.UnionType):
    return " or ".join(_kind(one) for one in arguments)
  if hint is Callable or origin is Callable:
    return "function"
  if arguments:
    inside = [_kind(one) for one in arguments if one is not Ellipsis]
    return f"{origin.__name__.lower()} of {', '.join(dict.fromkeys(inside))}"
  return hint.__name__


def _meanings(documented: Any) -> dict[str, str]:
  """What the docstrings of a function, or of a class and its bases, say."""
  is_class = isinstance(documented, type)
  bases = documented.__mro__[1:-1] if is_class else ()
  meanings = {}
  for source in (*bases, documented):
    entries = re.search(
      r"^(?:Args|Attributes[^\n]*):\n((?:  .*\n?)*)",
      inspect.getdoc(source) or "",
      re.MULTILINE,
    )
    if not entries:
      continue
    for entry in re.split(r"\n(?=  \w)", entries[1].rstrip()):
      names, _, text = entry.strip().partition(": ")
      for name in names.split(", "):
        meanings[name] = " ".join(text.split())
  return meanings


def _sentence(text: str) -> str:
  """A description for a cell of a table, where * is no emphasis."""
  text = text.replace("*", r"\*").replace("|", r"\|")
  return text[0].upper() + text[1:]


if __name__ == "__main__":
  PAGE.write_text(page())
