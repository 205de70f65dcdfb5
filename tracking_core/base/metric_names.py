"""What the name of a metric says: whether larger is better, and which of several is the main one."""

from __future__ import annotations

import re
from collections.abc import Iterable

_LARGER = re.compile(
    r"(?:^|[^a-z])(?:acc|accuracy|auc|auroc|ap|map|f1|precision|recall|reward|return|score|psnr|ssim|iou|dice|bleu|rouge"
    r"|r2|success|win|correct|elbo|likelihood|throughput)(?:$|[^a-z])",
    re.IGNORECASE,
)
"""Names of which the largest value is the best."""
_ERROR = re.compile(r"loss|err", re.IGNORECASE)
_VALIDATION = re.compile(r"(?:^|[^a-z])(?:val|valid|validation|eval|evaluation|dev|test)(?:$|[^a-z])", re.IGNORECASE)
_LOSS = re.compile(r"(?:^|[^a-z])loss(?:$|[^a-z])", re.IGNORECASE)
_ACCURACY = re.compile(r"(?:^|[^a-z])(?:acc|accuracy)(?:$|[^a-z])", re.IGNORECASE)


def is_larger_better(name: str) -> bool:
    """Whether the largest value of a metric is its best, going by its name; otherwise the smallest is.

    Example:
        >>> is_larger_better("val/accuracy"), is_larger_better("val/loss"), is_larger_better("score_loss")
        (True, False, False)
    """
    # "score_loss" is a loss.
    return _LARGER.search(name) is not None and _ERROR.search(name) is None


def is_validation(name: str) -> bool:
    """Whether a metric is about validation, going by its name."""
    return _VALIDATION.search(name) is not None


def main_metric(names: Iterable[str]) -> str | None:
    """The metric by which runs are compared: a loss of the validation, else its accuracy; None when there is neither.

    Args:
        names: Names of metrics; of several that fit, the shortest counts.

    Example:
        >>> main_metric(["train/loss", "val/accuracy", "val/loss"]), main_metric(["train/loss"])
        ('val/loss', None)
    """
    found = sorted(filter(is_validation, names), key=lambda name: (len(name), name))
    return next((name for kind in (_LOSS, _ACCURACY) for name in found if kind.search(name)), None)
