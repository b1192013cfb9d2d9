from __future__ import annotations

import logging

import pytest

from twincar.core.quiet import quiet_loggers


def test_loggers_are_quiet_inside_only_and_whatever_happens() -> None:
    logger, other = logging.getLogger("a.library"), logging.getLogger("another")
    logger.setLevel(logging.INFO)

    def fail() -> None:
        with quiet_loggers("a.library", "another", level=logging.CRITICAL):
            assert not logger.isEnabledFor(logging.ERROR)
            assert not other.isEnabledFor(logging.ERROR)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (logger.level, other.level) == (logging.INFO, logging.NOTSET)
