"""The screens of Trimtab: Chat, Rank and Ops, in Gradio.

A client of the platform's HTTP contract and nothing else: it opens no store, reaches no engine and decides no
permission. Whatever the browser may do is decided where the platform reads the forwarded cookie or key.

views    lay components out and wire their events
actions  talk to the platform through `trimtab_client.AsyncClient` and return small values
render   turn the platform's JSON into HTML, purely
texts    every sentence that a person reads
"""

from feedback_ui.app import build, mount

__all__ = ["build", "mount"]
