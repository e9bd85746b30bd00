"""Where there is no Chromium these tests are left out, and in CI they fail instead."""

import pytest

from tests.browser.chromium import chromium


def test_ci_does_not_pass_without_a_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both say how to get one."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="apt-get install chromium"):
        chromium()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="apt-get install chromium"):
        chromium()
