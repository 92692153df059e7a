"""Progress bars: what they show on a terminal, and silence elsewhere."""

from __future__ import annotations

import time

from xairt.progress import bar, track


def test_a_terminal_shows_steps_rate_and_note(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with bar(5, "explaining", True, done=2) as advance:
        for _ in range(3):
            time.sleep(0.02)
            advance("ok")
    shown = capsys.readouterr().err
    assert "explaining" in shown
    assert "5/5" in shown
    assert "/s" in shown
    assert "ok" in shown


def test_nothing_is_shown_elsewhere(monkeypatch, capsys):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert list(track("abc", 3, "explaining", True)) == ["a", "b", "c"]
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert list(track("abc", 3, "explaining", False)) == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")
