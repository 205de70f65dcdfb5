"""Run ids, and run names that people can say to each other.

Randomness comes from the operating system: a run must not get the id of another because both seeded `random` alike,
and a seeded program must not compute something else because a run was started.
"""

from __future__ import annotations

import os
import re
import time
from typing import Protocol

from tracking_core.errors import SettingsError

MAX_RUN_ID = 64

# Base 32 without i, l, o and u: nothing to misread, and few words by accident.
_ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ARTIFACTS = "artifacts"
_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class RandomSource(Protocol):
    """Where `readable_name` takes its choices from; `random.Random` is one."""

    def randrange(self, stop: int, /) -> int:
        """An integer from 0 up to, and without, `stop`."""
        ...


class _SystemSource:
    def randrange(self, stop: int, /) -> int:
        return int.from_bytes(os.urandom(8), "big") % stop


def new_run_id() -> str:
    """A new run id: the time (UTC, to the second) and 40 random bits, such as `20261124-053012-k3x9q1zr`.

    Ids sort by the time they were made, and are safe as names of directories and as ids at Weights & Biases.
    """
    bits = int.from_bytes(os.urandom(5), "big")
    suffix = "".join(_ID_ALPHABET[bits >> shift & 31] for shift in range(35, -1, -5))
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{suffix}"


def readable_name(rng: RandomSource | None = None) -> str:
    """A generated run name: adjective, noun and a number of two digits, such as `amber-lagoon-42`.

    Args:
        rng: Where the choices come from; None means the operating system, never the global `random` state.

    Example:
        >>> import random
        >>> readable_name(random.Random(7)) == readable_name(random.Random(7))
        True
    """
    source = _SystemSource() if rng is None else rng
    adjective, noun = ADJECTIVES[source.randrange(len(ADJECTIVES))], NOUNS[source.randrange(len(NOUNS))]
    return f"{adjective}-{noun}-{10 + source.randrange(90)}"


def is_run_id(run_id: str) -> bool:
    """Whether `check_run_id` takes it."""
    return _RUN_ID.fullmatch(run_id) is not None and not run_id.endswith(".") and run_id.lower() != _ARTIFACTS


def check_run_id(run_id: str) -> str:
    """`run_id`, if it may be one.

    Args:
        run_id: 1 to 64 characters: ASCII letters, digits, ".", "_" and "-", beginning with a letter or a digit and
            not ending with ".".

    Raises:
        SettingsError: It may not.
    """
    if not _RUN_ID.fullmatch(run_id) or run_id.endswith("."):
        shown = repr(run_id if len(run_id) <= MAX_RUN_ID + 16 else f"{run_id[:MAX_RUN_ID]}…")
        raise SettingsError(
            f"run id {shown} (from run_id= or TRACKING_RUN_ID) cannot name a directory everywhere: expected 1 to "
            f"{MAX_RUN_ID} letters, digits, '.', '_' or '-', beginning with a letter or a digit and not ending with "
            "'.'; leave it out to get a generated one"
        )
    if run_id.lower() == _ARTIFACTS:
        raise SettingsError("run id 'artifacts': the artifacts of a project are stored under that name; choose another")
    return run_id


ADJECTIVES: tuple[str, ...] = (
    "agile", "airy", "alpine", "amber", "ample", "apt", "ardent", "azure", "balmy", "bold", "brave", "breezy",
    "bright", "brisk", "bronze", "calm", "candid", "cheerful", "clear", "clever", "coastal", "copper", "coral",
    "cosmic", "crimson", "crisp", "curious", "daring", "deft", "dewy", "eager", "early", "earnest", "elegant",
    "emerald", "fabled", "fair", "fearless", "fleet", "floral", "fluent", "fond", "fresh", "gentle", "gilded", "glad",
    "gleaming", "golden", "graceful", "hardy", "hazel", "hearty", "honest", "indigo", "ivory", "jade", "jolly",
    "keen", "kind", "lively", "loyal", "lucid", "lucky", "lunar", "mellow", "merry", "mindful", "misty", "modest",
    "mossy", "nimble", "noble", "northern", "olive", "opal", "patient", "pearly", "placid", "polar", "prime", "quiet",
    "radiant", "rapid", "rosy", "ruby", "rustic", "sage", "sandy", "serene", "silken", "silver", "sincere", "smooth",
    "snowy", "solar", "southern", "spry", "steady", "stellar", "sunny", "swift", "tidal", "tidy", "tranquil", "trusty",
    "upbeat", "velvet", "verdant", "vivid", "warm", "wise", "witty", "woven", "zesty",
)  # fmt: skip
NOUNS: tuple[str, ...] = (
    "acorn", "alder", "anchor", "apricot", "arbor", "aspen", "aurora", "badger", "bamboo", "basin", "bay", "beacon",
    "birch", "bison", "bramble", "breeze", "brook", "canyon", "cedar", "cliff", "clover", "comet", "cove", "crane",
    "creek", "cricket", "cypress", "dahlia", "dale", "delta", "dolphin", "dove", "dune", "eagle", "ember", "falcon",
    "fern", "finch", "fjord", "forest", "fox", "garden", "geyser", "glacier", "glade", "grove", "gull", "harbor",
    "hare", "harvest", "heath", "heron", "hill", "horizon", "iris", "island", "jasmine", "juniper", "kestrel",
    "lagoon", "lake", "lantern", "larch", "lark", "lily", "linden", "lotus", "lynx", "maple", "marsh", "meadow",
    "mesa", "meteor", "moon", "moose", "nebula", "oak", "oasis", "orbit", "orchard", "orchid", "osprey", "otter",
    "owl", "pebble", "penguin", "pine", "plateau", "plum", "pond", "poplar", "prairie", "puffin", "quail", "quartz",
    "rain", "raven", "reef", "ridge", "river", "robin", "rowan", "sequoia", "shore", "sparrow", "spring", "spruce",
    "star", "stream", "summit", "swan", "thicket", "thistle", "tide", "trail", "tulip", "tundra", "valley", "violet",
    "walnut", "warbler", "waterfall", "willow", "wren", "zephyr",
)  # fmt: skip
