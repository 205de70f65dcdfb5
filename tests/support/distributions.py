"""Small distributions, laid out as an installer leaves them: modules beside a `.dist-info` directory."""

from __future__ import annotations

import textwrap
from pathlib import Path

#: An adapter that keeps what it is told in a file; `{name}` is its name.
GOOD = """
import json
import tracking_core as tracking

@tracking.hookimpl
def tracking_adapter():
    return tracking.AdapterInfo(
        name="{name}",
        api_version=1,
        options={{"indent": "how far lines are indented"}},
        description="one line a call",
    )

@tracking.hookimpl
def open_tracker(target, run):
    return Lines(target.path)

class Lines:
    def __init__(self, path):
        self.file = open(path, "w")

    def log_scalars(self, scalars, *, step, step_axis="step", wall_time=None):
        self.file.write(json.dumps([step_axis, step, scalars]) + "\\n")

    def log_images(self, images, *, step, step_axis="step", wall_time=None, value_range=None):
        pass

    def log_histogram(self, name, values, *, step, step_axis="step", wall_time=None, bins=64):
        pass

    def log_artifact(self, artifact, *, name=None, type="file", metadata=None, aliases=()):
        return tracking.ArtifactRef(name or "unnamed", type)

    def finish(self, status="finished", *, error=None):
        self.file.close()
"""


def good(name: str, *, before: str = "", **info: str) -> str:
    """The source of an adapter that works.

    Args:
        name: Its name.
        before: Code that is put in front.
        info: More arguments of `AdapterInfo`, as source.
    """
    text = GOOD.format(name=name)
    for key, value in info.items():
        # Later keywords replace earlier ones of the same name.
        text = "\n".join(line for line in text.split("\n") if not line.strip().startswith(f"{key}="))
        text = text.replace("api_version=1,", f"api_version=1,\n        {key}={value},", 1)
    return textwrap.dedent(before) + text


def install(
    site: Path,
    name: str,
    version: str = "1.0",
    entries: dict[str, str] | str | None = None,
    modules: dict[str, str] | None = None,
    *,
    metadata: bool = True,
) -> Path:
    """Install a distribution.

    Args:
        site: A directory that will be on `sys.path`.
        name: Name of the distribution.
        version: Its version.
        entries: Entry points of the group `tracking_core.adapters`, name to value; or the whole text of the file.
        modules: Sources by module name.
        metadata: Whether there is a METADATA file, as there should be.
    """
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    if metadata:
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if entries is not None:
        if not isinstance(entries, str):
            lines = "".join(f"{key} = {value}\n" for key, value in entries.items())
            entries = f"[tracking_core.adapters]\n{lines}"
        (folder / "entry_points.txt").write_text(entries)
    for module, source in (modules or {}).items():
        (site / f"{module}.py").write_text(textwrap.dedent(source))
    return site
