"""What went wrong without being raised: counted, said once, and visible to whoever wants to know.

Nothing in tracking may stop a training loop. So errors end here instead: a warning through the standard `logging`
(once for each kind of trouble of a run), a count, and the listeners, through which the tests turn what was swallowed
into failures.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

from tracking_core.base.handlers import raise_from_handler
from tracking_core.naming import printable

_SHORT = 8
"""Characters up to which what was raised is repeated."""
logger = logging.getLogger("tracking_core")

#: Called with (reason, message, error) for every trouble, the unsaid ones included.
listeners: list[Callable[[str, str, BaseException | None], None]] = []


class Troubles:
    """The troubles of one run.

    Args:
        where: Which run, for the messages.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._said: set[str] = set()
        self.counts: Counter[str] = Counter()
        """How often each reason was met."""
        self._messages: list[tuple[str, str]] = []
        self._held: list[str] | None = None
        self._last: dict[str, str] = {}

    def last_of(self, *reasons: str) -> str | None:
        """The last message that came under one of these reasons; None when none did."""
        found = [message for reason, message in self._last.items() if reason in reasons]
        return _hidden(found[-1]) if found else None

    def has_said(self, text: str) -> bool:
        """Whether a warning had this text in it."""
        return any(text in message for _, message in self._messages)

    def hold(self) -> None:
        """Keep warnings back until it is known whether what they say is raised."""
        self._held = []

    @property
    def is_held(self) -> bool:
        """Whether warnings are kept back."""
        return self._held is not None

    def release(self) -> None:
        """Give the warnings that were held back. Without it they are never given."""
        held, self._held = self._held or [], None
        for message in held:
            self._warn(message)

    def note(
        self, reason: str, message: str, *, key: str = "", kind: str = "", error: BaseException | None = None
    ) -> None:
        """Count one trouble, and warn if this reason and key were not warned about yet. Raises nothing of its own.

        Args:
            reason: A short word that counts are kept under, such as "invalid" or "journal".
            message: What happened and what to do about it.
            key: What it happened to; each key is warned about once, up to 20 keys a reason.
            kind: Tells several kinds of trouble with one key apart; each is warned about once. See `kind_of_mistake`.
            error: What was raised, if anything was.
        """
        try:
            self.counts[reason] += 1
            # Moved to the end: the last of several reasons is asked for.
            self._last.pop(reason, None)
            self._last[reason] = message
            said = f"{reason}:{key[:200]}:{kind}"
            if said not in self._said and self._room(reason):
                self._said.add(said)
                whose = reason.rpartition(": ")[0]
                self._warn(self._shortened(whose, message, error))
                self._messages.append((whose, message))
            for listener in tuple(listeners):
                listener(reason, message, error)
        except Exception as problem:  # noqa: BLE001 - a broken handler of the user must not stop the training either
            raise_from_handler(problem)
            self.counts["unsaid"] += 1

    def _warn(self, message: str) -> None:
        if self._held is not None:
            self._held.append(message)
        else:
            logger.warning("%s: %s", self._where, _on_one_line(message))

    def _shortened(self, whose: str, message: str, error: BaseException | None) -> str:
        """A message without what was raised, where a warning about the same target has quoted that already."""
        try:
            quoted = "" if error is None else str(error)
        except Exception:  # noqa: BLE001 - an exception's __str__ may raise as well
            return message
        known = whose and any(whose == target and quoted in said for target, said in self._messages)
        return message.replace(quoted, "as before") if known and len(quoted) > _SHORT else message

    def _room(self, reason: str) -> bool:
        return sum(1 for said in self._said if said.startswith(f"{reason}:")) < 20


def kind_of_mistake(error: BaseException) -> str:
    """What kind of mistake an error is about: that of the line that raised it.

    Two wrong steps are one kind, and a wrong step and a wrong mapping two, whatever values they quote.
    """
    traced = error.__traceback__
    if traced is None:
        return type(error).__name__
    while traced.tb_next is not None:
        traced = traced.tb_next
    return f"{traced.tb_frame.f_code.co_qualname}:{traced.tb_lineno}"


def _on_one_line(message: str) -> str:
    return printable(_hidden(message), limit=1000)


def _hidden(message: str) -> str:
    from tracking_core.base.redaction import redact_text

    return redact_text(message)


def brief(error: BaseException, limit: int = 500) -> str:
    """An exception as text: redacted before it is cut, since a secret that was cut in half is not recognised."""
    from tracking_core.base.redaction import redact_text

    try:
        return redact_text(f"{type(error).__name__}: {error}"[:20_000])[:limit]
    except Exception:  # noqa: BLE001 - an exception's __str__ may raise as well
        return type(error).__name__
