"""Heartbeats and elections go on while tasks use every processor."""

import logging
import os

log = logging.getLogger(__name__)

_NICE = -10


def prefer_this_process() -> None:
    """A higher priority, where we may have it.

    Only this thread has it; what it starts begins with the normal one (SCHED_RESET_ON_FORK).
    """
    try:
        policy = os.SCHED_OTHER | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    except (OSError, AttributeError):
        log.info("no right to a higher priority: heartbeats compete with tasks")
