"""Lists to pick an entry from: HTML whose entries are buttons, and dropdowns that are filled later."""

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
    """Build HTML that fires no event."""
    return gr.HTML(value, js_on_load=None, **settings)


def pickable(value: str = "", **settings: Any) -> gr.HTML:
    """Build HTML whose elements with `data-id` fire `click`; the handler finds the id as `event.id`."""
    return gr.HTML(value, js_on_load=_PICK, **settings)


def picker(label: str, elem_id: str, **settings: Any) -> gr.Dropdown:
    """Build a dropdown whose choices come with a refresh; a value may also be typed."""
    return gr.Dropdown(
        [], allow_custom_value=True, label=label, elem_id=elem_id, elem_classes="tt-picker", **settings
    )
