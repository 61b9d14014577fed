"""What the package imports, and when."""

from __future__ import annotations

import subprocess
import sys

import pytest

import feedback_ui


def test_texts_are_read_without_gradio() -> None:
    code = "import sys; from feedback_ui import texts; assert texts.CHAT_EXAMPLES; print('gradio' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "False"


def test_a_name_that_the_package_does_not_have_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'buidl'"):
        feedback_ui.buidl  # noqa: B018
