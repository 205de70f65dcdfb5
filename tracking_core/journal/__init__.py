"""The journal: append-only JSON Lines in the run directory; the truth, the buffer and the bus."""

from tracking_core.base.json_text import pack, unpack
from tracking_core.journal.lines import FORMAT, Event, decode_line, encode_line
from tracking_core.journal.reader import JournalReader, WriterReader, read_events
from tracking_core.journal.segment_reader import Damage
from tracking_core.journal.segments import Place
from tracking_core.journal.superseded import Cut, Superseded, Truncation
from tracking_core.journal.writer import JournalWriter

__all__ = [
    "FORMAT",
    "Cut",
    "Damage",
    "Event",
    "JournalReader",
    "JournalWriter",
    "Place",
    "Superseded",
    "Truncation",
    "WriterReader",
    "decode_line",
    "encode_line",
    "pack",
    "read_events",
    "unpack",
]
