"""The HParams tab: a run's configuration and how it ended, as TensorBoard's hparams plugin reads them.

No experiment summary is written: TensorBoard would take the columns of the whole table from that of one run, which
hides what only other runs have, and the metrics of all. Without it TensorBoard makes the table from all runs.

Source of the format: `tensorboard/plugins/hparams/{metadata.py,plugin_data.proto}` of TensorBoard.
"""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Mapping
from typing import Any

from tracking_tensorboard import summaries
from tracking_tensorboard.markdown import encode
from tracking_tensorboard.protos import HParamsPluginData, SessionEndInfo, SessionStartInfo, Status, SummaryMetadata
from tracking_tensorboard.tags import SESSION_END_TAG, SESSION_START_TAG, escape

_EXACT = 2**53


def flat(config: Mapping[str, Any]) -> dict[str, bool | float | str]:
    """A configuration by joined names, with the kinds of values that the tab knows: bool, number, text.

    Non-finite numbers, and integers that float64 cannot hold, become text: the tab would fail over the former, and
    round the latter.
    """
    from tracking_core.values import flatten_config

    return {escape(str(name)): _plain(value) for name, value in flatten_config(config).items()}


def metrics(summary: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a summary by joined names: the tab takes every scalar of a run for a metric of its row."""
    from tracking_core.values import flatten_config

    found: dict[str, float] = {}
    for name, value in flatten_config(summary).items():
        if isinstance(value, (bool, int, float)):
            with contextlib.suppress(OverflowError):  # an integer beyond the range of floats
                found[str(name)] = float(value)
    return found


def session_start(config: Mapping[str, bool | float | str], started: float) -> Any:
    """The summary value that makes a run a row of the table.

    Args:
        config: What `flat` returned.
        started: Seconds since the epoch.
    """
    info = SessionStartInfo(start_time_secs=started)
    for name, value in config.items():
        if isinstance(value, bool):
            info.hparams[name].bool_value = value
        elif isinstance(value, str):
            info.hparams[name].string_value = value
        else:
            info.hparams[name].number_value = value
    return _summary(SESSION_START_TAG, HParamsPluginData(session_start_info=info))


def session_end(status: str) -> Any:
    """The summary value that says how, and that now, a run ended.

    Args:
        status: "finished" is a success, anything else a failure: the tab knows no more.
    """
    code = Status.Value("STATUS_SUCCESS" if status == "finished" else "STATUS_FAILURE")
    info = SessionEndInfo(status=code, end_time_secs=time.time())
    return _summary(SESSION_END_TAG, HParamsPluginData(session_end_info=info))


def _summary(tag: str, data: Any) -> Any:
    # Deterministic: the order of a map would else differ between processes, and with it the bytes of the file.
    content = data.SerializeToString(deterministic=True)
    about = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="hparams", content=content))
    return summaries.Value(tag=tag, tensor=summaries.nothing(), metadata=about)


def _plain(value: Any) -> bool | float | str:
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)):
        exact = math.isfinite(value) if isinstance(value, float) else abs(value) < _EXACT
        return float(value) if exact else str(value)
    text = value if isinstance(value, str) else "None" if value is None else json.dumps(value, default=str)
    return encode(text).decode()
