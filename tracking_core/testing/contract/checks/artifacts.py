"""Artifacts: files, to the byte, under a name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tracking_core.base.text import counted
from tracking_core.testing.contract.registry import check
from tracking_core.values import ArtifactRef

if TYPE_CHECKING:
    from tracking_core.backends.hooks import RunInfo
    from tracking_core.testing.contract.context import Context
    from tracking_core.testing.contract.harness import StoredArtifact

#: Every byte there is, so that no conversion of line ends or of text goes unseen.
_BYTES = bytes(range(256)) * 3 + b"\r\n\n"


def _versions(ctx: Context, run: RunInfo, name: str, count: int) -> list[StoredArtifact]:
    every = ctx.artifacts(run)
    found = [one for one in every if one.name == name]
    ctx.require(
        len(found) == count,
        f"{counted(len(found), 'version')} of {name!r}, expected {count}; the backend holds "
        f"{[(one.type, one.name) for one in every][:20]}",
    )
    return found


def _require_files(ctx: Context, stored: StoredArtifact, expected: dict[str, bytes]) -> None:
    ctx.require(
        sorted(stored.files) == sorted(expected),
        f"artifact {stored.name!r} holds {sorted(stored.files)!r:.300}, logged were {sorted(expected)!r:.300}",
    )
    for path, data in expected.items():
        ctx.require(
            stored.files[path] == data,
            f"artifact {stored.name!r}, file {path!r}: {len(data)} bytes were logged, {len(stored.files[path])} other "
            "bytes are stored",
        )


@check("artifacts.file_kept", needs=("artifacts",))
def file_kept(ctx: Context) -> None:
    """A file comes back byte by byte under its own name, or the given name.

    If this fails, list the files with `tracking_core.values.artifact_files`, and copy them as bytes.
    """
    run = ctx.new_run()
    path = ctx.directory / "input" / "weights.bin"
    path.parent.mkdir()
    path.write_bytes(_BYTES)
    with ctx.tracker(run) as tracker:
        tracker.log_artifact(path)
        tracker.log_artifact(str(path), name="renamed", type="model")
    _require_files(ctx, _versions(ctx, run, "weights.bin", 1)[0], {"weights.bin": _BYTES})
    stored = _versions(ctx, run, "renamed", 1)[0]
    _require_files(ctx, stored, {"weights.bin": _BYTES})
    ctx.require(stored.type == "model", f"logged with type='model', stored with {stored.type!r}")


@check("artifacts.directory_kept", needs=("artifacts",))
def directory_kept(ctx: Context) -> None:
    """A directory comes back with its files at their relative paths, empty files included.

    If this fails, look at nested directories and at empty files.
    """
    run = ctx.new_run()
    files = {"a.txt": b"a\n", "empty": b"", "deep/er/b.bin": _BYTES, "größe 1.txt": b"x"}
    root = ctx.directory / "input" / "checkpoint"
    for path, data in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    with ctx.tracker(run) as tracker:
        tracker.log_artifact(root, type="model")
    _require_files(ctx, _versions(ctx, run, "checkpoint", 1)[0], files)


@check("artifacts.mapping_kept", needs=("artifacts",))
def mapping_kept(ctx: Context) -> None:
    """A mapping of names to bytes and paths comes back as files of those names.

    If this fails, use `tracking_core.values.artifact_files`: its sources are bytes or paths.
    """
    run = ctx.new_run()
    path = ctx.directory / "somewhere.bin"
    path.write_bytes(_BYTES)
    with ctx.tracker(run) as tracker:
        tracker.log_artifact({"in/memory.bin": b"\0\1\2", "from/disk.bin": path}, name="mixture")
    _require_files(ctx, _versions(ctx, run, "mixture", 1)[0], {"in/memory.bin": b"\0\1\2", "from/disk.bin": _BYTES})


@check("artifacts.versions_kept", needs=("artifacts",))
def versions_kept(ctx: Context) -> None:
    """Logging under a name again adds a version, and keeps the earlier one.

    If this fails, the second version overwrites the first: number them.
    """
    run = ctx.new_run()
    with ctx.tracker(run) as tracker:
        for number in range(3):
            tracker.log_artifact({f"epoch-{number}.bin": bytes([number])}, name="weights", type="model")
    contents = sorted(sorted(version.files) for version in _versions(ctx, run, "weights", 3))
    expected = [[f"epoch-{number}.bin"] for number in range(3)]
    ctx.require(contents == expected, f"three versions of one file each were logged, stored are {contents}")


@check("artifacts.facts_kept", needs=("artifacts",))
def facts_kept(ctx: Context) -> None:
    """Aliases and metadata come back with their version.

    If this fails, look for a place beside the files; the alias "latest" is the backend's own.
    """
    run = ctx.new_run()
    metadata: dict[str, Any] = {"accuracy": 0.5, "epoch": 3, "data": {"name": "digits"}}
    with ctx.tracker(run) as tracker:
        tracker.log_artifact({"w": b"1"}, name="weights", type="model", metadata=metadata, aliases=("best", "final"))
    stored = _versions(ctx, run, "weights", 1)[0]
    lacking = {"best", "final"} - set(stored.aliases)
    ctx.require(not lacking, f"the aliases {sorted(lacking)} are missing; stored are {list(stored.aliases)}")
    kept = dict(stored.metadata or {})
    for key, value in metadata.items():
        ctx.require(kept.get(key) == value, f"metadata {key!r} was {value!r}, and came back as {kept.get(key)!r}")


@check("artifacts.reference_returned", needs=("artifacts",))
def reference_returned(ctx: Context) -> None:
    """`log_artifact` returns an `ArtifactRef` with the name and the type.

    Callers store it. If this fails, return `ArtifactRef(name, type)`; the version is None if it is not known.
    """
    run = ctx.new_run()
    with ctx.tracker(run) as tracker:
        ref: Any = tracker.log_artifact({"w": b"1"}, name="weights", type="model")
    ctx.require(isinstance(ref, ArtifactRef), f"log_artifact() returned {type(ref).__name__}, expected ArtifactRef")
    ctx.require((ref.name, ref.type) == ("weights", "model"), f"log_artifact() returned {ref!r}")


@check("artifacts.names_kept", needs=("artifacts",))
def names_kept(ctx: Context) -> None:
    """Artifacts with odd names stay separate.

    If this fails, encode names with `tracking_core.naming`, and decode them in the harness.
    """
    run = ctx.new_run()
    names = ("a", "A", "a/b", "a b", "../up", "größe 🙂", "new\nline", "a:b", "x" * 200)
    with ctx.tracker(run) as tracker:
        for number, name in enumerate(names):
            tracker.log_artifact({f"{number}.bin": bytes([number])}, name=name)
    for number, name in enumerate(names):
        files = sorted(_versions(ctx, run, name, 1)[0].files)
        ctx.require(files == [f"{number}.bin"], f"{name!r:.50} should hold '{number}.bin', and holds {files}")


@check("artifacts.source_may_go", needs=("artifacts",))
def source_may_go(ctx: Context) -> None:
    """The file may be changed or removed as soon as the call has returned.

    Checkpoints are rotated. If this fails, copy (or link) the file before returning.
    """
    run = ctx.new_run()
    first, second = ctx.directory / "changed.bin", ctx.directory / "removed.bin"
    first.write_bytes(b"before")
    second.write_bytes(b"gone")
    with ctx.tracker(run) as tracker:
        tracker.log_artifact(first)
        tracker.log_artifact(second)
        first.write_bytes(b"after!")
        second.unlink()
    _require_files(ctx, _versions(ctx, run, "changed.bin", 1)[0], {"changed.bin": b"before"})
    _require_files(ctx, _versions(ctx, run, "removed.bin", 1)[0], {"removed.bin": b"gone"})
