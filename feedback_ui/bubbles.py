"""Turns as HTML for the bubbles of Chat, and what stands above them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from feedback_ui import answer_parts, texts
from feedback_ui.html import duration, esc, fold
from feedback_ui.model_text import plain, rendered, wrapped
from feedback_ui.turn import STOPPED, SYSTEM_ROLES, Turn, read_turn, tools_of


def bubble(role: str, html: str) -> dict[str, Any]:
    """Make a message for `gr.Chatbot`: as a part, since Gradio expands the tabs of a plain string."""
    return {"role": role, "content": [{"type": "text", "text": html}]}


def bubble_of(turns: Sequence[Turn], last: bool = False) -> dict[str, Any]:
    """Return the turns of one bubble as a message for `gr.Chatbot`, a finished answer signed by its release.

    The `last` one of a conversation offers to go on where its answer was cut.
    """
    only = turns[0] if len(turns) == 1 else None
    below = versions(turns[0]) + (cut(turns[-1]) if last else "")
    if only and only.role != "tool" and not (only.calls or only.thinking):
        return bubble(only.role, rendered(only.content) + signature(only) + below)
    return bubble("assistant", steps(turns) + signature(turns[-1]) + below)


def versions(turn: Turn) -> str:
    """Return the arrows to the versions of a message; nothing where it is the only one, or still being written."""
    if len(turn.versions) < 2 or not turn.done:
        return ""
    at, count = turn.version, len(turn.versions)
    arrows = [
        _arrow(turn.versions[place] if 0 <= place < count else "", label)
        for place, label in ((at - 1, texts.CHAT_VERSION_BEFORE), (at + 1, texts.CHAT_VERSION_AFTER))
    ]
    number = f"<span>{at + 1} / {count}</span>"
    return f'<div class="tt-versions">{arrows[0]}{number}{arrows[1]}</div>'


def cut(turn: Turn) -> str:
    """Return the button that has a cut answer continued; nothing for one that is whole."""
    if not turn.is_cut or turn.calls:
        return ""
    why = texts.CHAT_CUT_STOPPED if turn.finish_reason == STOPPED else texts.CHAT_CUT
    return (
        f'<div class="tt-cut"><span>{esc(why)}</span> '
        f'<button type="button" name="tt-continue">{esc(texts.CHAT_CONTINUE)}</button></div>'
    )


def _arrow(version: str, label: str) -> str:
    # Of attributes that name something, `gr.Chatbot` keeps these alone; the sign is in the style sheet.
    given = f'name="tt-version" value="{esc(version)}"' if version else "disabled"
    return f'<button type="button" title="{esc(label)}" {given}></button>'


def response(
    key: str,
    text: str,
    message: Mapping[str, Any] | None,
    *,
    as_written: bool = False,
    unfolded: bool = False,
) -> str:
    """Render a response to compare; `message` is the whole of one that has more than its text.

    `key` tells its folds from those of others; `unfolded` shows thinking open.
    """
    if message is None:
        html = plain(text) if as_written else rendered(text)
    else:
        html = steps([read_turn(message)], f"{key} ", as_written=as_written)
    return answer_parts.unfolded(html) if unfolded else html


def steps(turns: Sequence[Turn], page: str = "", *, as_written: bool = False) -> str:
    """Render messages without one of the person between them: thinking, calls with their results, texts.

    `page` tells their folds from those of others on the page; texts are Markdown or as they were written.
    """
    form = plain if as_written else rendered
    answered = results(turns)
    shown = {id for of in answered.values() for id in of.values()}
    html, said = [], []
    for place, turn in enumerate(turns):
        if turn.role == "tool":
            if place not in shown:
                html.append(answer_parts.result(turn.content, str(turn.carried.get("name") or "")))
                said.append(f"{texts.CHAT_RESULT}: {turn.content}")
            continue
        key = page + (turn.completion_id or str(place))
        running = not (turn.done or turn.content or turn.calls)
        html.append(answer_parts.thinking(turn.thinking, key, turn.thought_s, running))
        if turn.content:
            html.append(form(turn.content))
            said.append(turn.content)
        calls = [
            (call, turns[answered[place][number]].content if number in answered[place] else None)
            for number, call in enumerate(turn.calls)
        ]
        html += [answer_parts.call(call, came) for call, came in calls]
        said += answer_parts.copied(calls)
    return wrapped("tt-steps", "".join(html), "\n\n".join(said))


def results(turns: Sequence[Turn]) -> dict[int, dict[int, int]]:
    """Return where the results of calls stand: by the place of the turn that calls, and the number of its call.

    A result names its call; one that names none, or names calls that have none, belongs to the next call without one.
    """
    found: dict[int, dict[int, int]] = {}
    waiting: list[tuple[int, int, Mapping[str, Any]]] = []
    for place, turn in enumerate(turns):
        if turn.role == "tool":
            named = turn.carried.get("tool_call_id")
            match = next((one for one in waiting if named and one[2].get("id") == named), None)
            match = match or next((one for one in waiting if not (named and one[2].get("id"))), None)
            if match:
                waiting.remove(match)
                found[match[0]][match[1]] = place
        else:
            found[place] = {}
            waiting += [(place, number, call) for number, call in enumerate(turn.calls)]
    return found


def signature(turn: Turn) -> str:
    """Return the line below an answer that names its release; the page's script leaves it out of copies."""
    if turn.role != "assistant" or not turn.done:
        return ""
    said = turn.content.strip() or turn.calls
    body = "" if said else f'<span class="tt-subdued">{esc(texts.CHAT_EMPTY_ANSWER)}</span>'
    if not turn.release:
        return body
    lane = f" · {turn.lane}" if turn.lane and turn.lane != "pinned" else ""
    took = f" · {duration(turn.seconds)}" if turn.seconds is not None else ""
    return f'{body}<span class="tt-by">{esc(turn.release)}{esc(lane)}{took}</span>'


def context(turns: Sequence[Turn], key: str = "") -> str:
    """Render what stands above a conversation, folded: system messages, and the tools that it may use."""
    system = [turn.content for turn in turns if turn.role in SYSTEM_ROLES]
    tools = tools_of(turns[0].carried) if turns else []
    named = [texts.CHAT_SYSTEM] if system else []
    if tools:
        named.append(texts.CHAT_TOOLS.format(len(tools), "" if len(tools) == 1 else "s"))
    if not named:
        return ""
    body = "".join(map(plain, system)) + answer_parts.definitions(tools)
    return f'<div class="tt-context">{fold(f"context {key}", " · ".join(named), body)}</div>'


def earlier(hidden: int, more: int) -> str:
    """Return the button that shows more of a long conversation; nothing where all of it is shown."""
    if not hidden:
        return ""
    label = texts.CHAT_EARLIER.format(more, hidden)
    return f'<div class="tt-earlier"><button type="button" name="tt-earlier">{esc(label)}</button></div>'
