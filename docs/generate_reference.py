"""Writes docs/reference/configuration.md from the code: settings, grammar, options of every first-party backend.

Run it after changing a setting or an option:

    python docs/generate_reference.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tracking_core.backends import targets
from tracking_core.backends.hooks import AdapterInfo
from tracking_core.backends.plugins import FIRST_PARTY, find_adapter
from tracking_core.environment.settings import VARIABLES, Variable, option_variable

PAGE = Path(__file__).parent / "reference" / "configuration.md"

_HEAD = """\
# Configuration

<!-- Written by docs/generate_reference.py; change the code or that script, not this page. -->

A setting can be an argument of `start_run`, a part of a target, an environment variable, or an entry of a file.
`tracking doctor` shows every setting with its value and its source.

## Precedence

The first of these that sets a value is used:

| | from | example |
|---|---|---|
| 1 | argument | `start_run(project="vae", backends="tensorboard:./tb")` |
| 2 | target | `TRACKING_BACKEND='wandb?mode=offline'` for the option `mode` |
| 3 | environment | `TRACKING_PROJECT=vae`, and `TRACKING_BACKEND_WANDB_MODE=offline` for an option |
| 4 | file | `project = "vae"` in `tracking.toml`, and `mode = "offline"` below `[options.wandb]` |
| 5 | default | see the tables below |

An empty value (`TRACKING_GROUP=`) means the default, and hides the value in the file. Examples, for a program that sets
nothing itself:

```bash
# file: the settings of the repository, for everybody who uses it
printf 'project = "vae"\\nbackend = "tensorboard:./tb"\\n' > tracking.toml
python train.py                                            # project vae, to ./tb

# environment: wins over the file
TRACKING_PROJECT=ablation python train.py                  # project ablation, to ./tb

# target: wins over an option in the environment
TRACKING_BACKEND_WANDB_MODE=online TRACKING_BACKEND='wandb?mode=offline' python train.py     # offline
```

An argument wins over all of them:

```python
import tracking_core as tracking

with tracking.start_run(project="vae", backends="local") as run:  # whatever environment and file say
    assert run.project == "vae"
```

## Settings
"""

_TARGETS = """\
## Targets

`TRACKING_BACKEND`, the setting `backend`, and the argument `backends` name where runs go: one or more targets.

```text
{grammar}
```

{encoding}

| target | means |
|---|---|
| `local` | only the run store, which is always on |
| `local:/data/runs` | the run store, with this root instead of `TRACKING_DIR` |
| `none` | records nothing; cannot be combined with other targets |
| `tensorboard:./tb` | event files below `./tb` |
| `tensorboard:C:\\tb` | a Windows path |
| `tensorboard:./a%2Cb` | the directory `a,b` |
| `wandb://team/digits?mode=offline` | authority `team`, path `digits`, and an option |
| `tensorboard:./tb,wandb` | both |
| `wandb?include=train/*\\|val/*&every=10` | a part of the records, see [filters](#filters) |

Relative paths start at the working directory of the program. Keys and passwords are refused in targets and options:
each backend reads its own environment variables, such as `WANDB_API_KEY`. In a shell, quote targets with `?`, `&` or
`*`.

### Filters

Every target accepts these besides its own options. Records that a filter leaves out are still in the run store; for
`local` itself filters do nothing.
"""

_FILE = """\
## Settings file

The nearest `tracking.toml`, or `pyproject.toml` with a table `[tool.tracking]`, from the working directory upwards to
the top of the repository; if both are in one directory, `tracking.toml`. The keys are those of the table of settings,
and `options` with a table for each backend. An unknown key is an error that names the closest one.

```toml
# tracking.toml
project = "vae"
backend = "tensorboard:./tb,wandb"
tags = ["baseline", "digits"]

[options.wandb]
mode = "offline"

[options.tensorboard]
every = 10
```

The same in `pyproject.toml`:

```toml
[tool.tracking]
project = "vae"
backend = "tensorboard:./tb,wandb"

[tool.tracking.options.wandb]
mode = "offline"
```

Values may be strings, numbers, `true` (for `on`), `false` (for `off`) and lists of strings (joined by commas).

## Options of backends

An option is set in the target (`wandb?mode=offline`), in the environment (`TRACKING_BACKEND_WANDB_MODE=offline`), or in
the file (`mode` below `[options.wandb]`). `tracking backends NAME` shows the options of any installed backend, also of
other packages.
"""


def page() -> str:
    """The whole page, as Markdown."""
    parts = [
        _HEAD,
        _table(("setting", "environment variable", "default", "meaning"), map(_setting, VARIABLES)),
        _TARGETS.format(grammar=_grammar(), encoding=_encoding()),
        _table(("filter", "meaning"), ((f"`{name}`", text) for name, text in targets.COMMON_OPTIONS.items())),
        _FILE,
        *(_backend(find_adapter(name).info) for name in FIRST_PARTY),
    ]
    return "\n".join(part.strip("\n") + "\n" for part in parts)


def _setting(variable: Variable) -> Sequence[str]:
    default = f"`{variable.default}`" if variable.default else variable.otherwise
    if default.startswith("<"):
        default = f"`{default}`"
    return f"`{variable.key}`", f"`{variable.env}`", default, variable.help


def _backend(info: AdapterInfo) -> str:
    lines = [f"### {info.name}", "", f"{info.description[:1].upper()}{info.description[1:]}."]
    if info.extra:
        lines[-1] += f" Needs `pip install '{info.extra}'`."
    lines += [f"Delivery: {info.guarantee}.", ""]
    options: Mapping[str, str] = info.options or {}
    if not options:
        return "\n".join([*lines, "It has no options of its own."])
    rows = ((f"`{name}`", f"`{option_variable(info.name, name)}`", text) for name, text in options.items())
    return "\n".join(lines) + "\n" + _table(("option", "environment variable", "meaning"), rows)


def _grammar() -> str:
    return _documentation().split("```")[1].strip()


def _encoding() -> str:
    return _documentation().split("```")[2].strip()


def _documentation() -> str:
    text = targets.__doc__
    assert text is not None, "python -OO leaves the grammar out"
    return text


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"wrote {PAGE}", file=sys.stderr)
