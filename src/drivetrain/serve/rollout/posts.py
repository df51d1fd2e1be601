"""Webhooks, sent from a thread of their own, tried a few times, and counted."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping
from typing import Any

from drivetrain.errors import DrivetrainError
from drivetrain.flows.webhook import check_webhook, post_signed
from drivetrain.serve.metrics import Metrics
from drivetrain.settings import Settings

from .background import Background

__all__ = ["Posts"]

_PAUSES_S = (1.0, 5.0, 25.0)  # between tries
_WAITING_MAX = 1_000
_TIMEOUT_S = 10.0
_IDLE_S = 60.0
_log = logging.getLogger("drivetrain.serve")


class Posts:
    """`send` never waits. What could not be sent in four tries is given up: GET /predictions stays the truth."""

    def __init__(self, settings: Settings, metrics: Metrics, *, pauses_s: tuple[float, ...] = _PAUSES_S) -> None:
        self._url, self._secret = settings.webhook, settings.webhook_secret
        if self.is_on:
            check_webhook(self._url, self._secret)
        self._metrics = metrics
        self._pauses_s = pauses_s
        self._queue: deque[tuple[str, Mapping[str, Any]]] = deque()
        self._thread = Background("drivetrain-webhook", self._run)

    @property
    def is_on(self) -> bool:
        return self._url != "none"

    def send(self, event: str, body: Mapping[str, Any]) -> None:
        """Later, by the thread. Nothing where no address is set."""
        if not self.is_on:
            return
        with self._thread.changed:
            is_full = len(self._queue) >= _WAITING_MAX
            if not is_full:
                self._queue.append((event, body))
        if is_full:
            _log.error("a webhook %s was not sent: %d wait already", event, _WAITING_MAX)
            self._metrics.webhook(event, "dropped")
            return
        self._thread.wake()

    def close(self, *, wait_s: float) -> None:
        """Send no more; what waits gets one try within `wait_s`."""
        self._thread.close(wait_s=wait_s)

    def _run(self) -> None:
        while True:
            self._thread.pause(_IDLE_S, until=lambda: self._queue)
            if not self._queue:
                if self._thread.is_closed:
                    return
                continue
            event, body = self._queue.popleft()
            try:
                self._post(event, body)
            except Exception:  # the edge of a thread: the next one is still to be sent
                _log.exception("a webhook %s failed", event)

    def _post(self, event: str, body: Mapping[str, Any]) -> None:
        for pause_s in (*self._pauses_s, None):
            try:
                post_signed(self._url, self._secret, event, body, timeout_s=_TIMEOUT_S)
            except DrivetrainError as exc:
                if pause_s is None or self._thread.is_closed:
                    _log.error("a webhook %s was given up: %s", event, exc.message)
                    self._metrics.webhook(event, "failed")
                    return
                self._thread.pause(pause_s)
            else:
                self._metrics.webhook(event, "sent")
                return
