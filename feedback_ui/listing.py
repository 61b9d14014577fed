"""HTML lists whose entries are buttons: a click carries the entry's id to Python."""

from __future__ import annotations

from typing import Any

import gradio as gr

_PICK = """
element.addEventListener('click', (event) => {
  const item = event.target.closest('[data-id]');
  if (item) trigger('click', { id: item.dataset.id });
});
"""


def static(value: str = "", **settings: Any) -> gr.HTML:
    """HTML that fires no event."""
    return gr.HTML(value, js_on_load=None, **settings)


def pickable(value: str = "", **settings: Any) -> gr.HTML:
    """HTML whose elements with `data-id` fire `click`; the handler finds the id as `event.id`."""
    return gr.HTML(value, js_on_load=_PICK, **settings)
