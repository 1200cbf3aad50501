"""Log messages as the command line shows them."""

from __future__ import annotations

import logging

import pytest

from seqbraid.messages import RankZeroHandler, messages_shown

LOGGER = logging.getLogger("seqbraid.test")


def say() -> None:
    LOGGER.info("all is well")
    LOGGER.warning("clip 7 is \udcff")


def test_messages_go_to_standard_output_and_warnings_to_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with messages_shown(str.upper):
        LOGGER.debug("details")
        say()
    LOGGER.info("nobody hears this")
    assert capsys.readouterr() == ("ALL IS WELL\n", "warning: CLIP 7 IS \\udcff\n")


def test_only_rank_0_speaks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("PMI_RANK", "1")
    with messages_shown():
        say()
    assert capsys.readouterr() == ("", "")


def test_a_handler_of_the_users_own_says_nothing_twice(capsys: pytest.CaptureFixture[str]) -> None:
    logger, handler = logging.getLogger("seqbraid"), RankZeroHandler()
    logger.addHandler(handler)
    try:
        with messages_shown():
            LOGGER.info("once")
        assert logger.handlers == [handler]
    finally:
        logger.removeHandler(handler)
    assert capsys.readouterr().out == "once\n"
