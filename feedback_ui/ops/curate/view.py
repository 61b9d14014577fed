"""Ops, Curate: search the training data, read rows with their lineage, leave out or approve, saved views, a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import gradio as gr

from feedback_ui import texts
from feedback_ui.connection import Connection
from feedback_ui.errors import toasts
from feedback_ui.html import empty, form_head
from feedback_ui.listing import pickable, static
from feedback_ui.ops import actions as ops
from feedback_ui.ops.command_lines import command_lines
from feedback_ui.ops.curate import filters, render
from feedback_ui.part import Part, Update, unchanged
from trimtab_client import ApiError

PAGE = 25
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
# What is ticked in the page goes along with the click.
_CHOSEN = (
    "(ids, ...rest) => [Array.from(document.querySelectorAll('#curate-rows .tt-picked > input:checked'), "
    "(box) => box.value).join(' '), ...rest]"
)

_TO_LINEAGE = "() => { document.querySelector('#curate-lineage').scrollIntoView({ block: 'nearest' }); }"


@dataclass(frozen=True)
class _Search:
    """The fields and buttons of the search."""

    view: gr.Dropdown
    kind: gr.Radio
    fields: dict[str, Any]
    search: gr.Button
    name: gr.Textbox
    save: gr.Button
    remove: gr.Button


@dataclass(frozen=True)
class _Review:
    """The fields and buttons of a review."""

    chosen: gr.Textbox
    reason: gr.Textbox
    everything: gr.Checkbox
    exclude: gr.Button
    approve: gr.Button
    restore: gr.Button


def build_curate(connection: Connection) -> Part:
    """Lay out and wire the tab; return how to refresh it."""
    chosen = gr.Textbox("", visible=False)  # the first of the inputs, for the script
    search = _build_search()
    review = _build_review(chosen)
    lineage = static(elem_id="curate-lineage")
    rows = pickable(elem_id="curate-rows")
    with gr.Row(elem_classes="tt-actions"):
        first = gr.Button(texts.CURATE_FIRST, visible=False, scale=0, min_width=140, elem_id="curate-first")
        following = gr.Button(texts.CURATE_NEXT, visible=False, scale=0, min_width=140, elem_id="curate-next")
    static(command_lines(curate_first=texts.CURATE_FIRST, curate_next=texts.CURATE_NEXT))
    with gr.Group(elem_classes="tt-form"):
        static(form_head(texts.CURATE_REPORT, texts.CURATE_REPORT_HINT))
        with gr.Row(elem_classes="tt-actions"):
            draw = gr.Button(texts.CURATE_REPORT_SHOW, scale=0, min_width=180, elem_id="curate-draw")
        report = static(empty(texts.CURATE_REPORT_EMPTY), elem_id="curate-report")
        static(command_lines(curate_draw=texts.CURATE_REPORT_SHOW))
    tab = _Curate(connection, search, review, rows, first, following, lineage, report)
    tab.wire(draw)
    return Part(tab.refresh, tab.screen, tab.inputs)


def _build_search() -> _Search:
    with gr.Group(elem_classes="tt-form"):
        static(form_head(texts.CURATE, texts.CURATE_HINT))
        with gr.Row():
            kind = gr.Radio(
                list(texts.DATA_KINDS), value="pairs", label=texts.CURATE_KIND, elem_id="curate-kind"
            )
            view = gr.Dropdown(
                [(texts.CURATE_VIEW_NONE, "")], value="", label=texts.CURATE_VIEW, elem_id="curate-view"
            )
        with gr.Row():
            text, state = filters.FIRST
            fields: dict[str, Any] = {
                text.name: filters.textbox(text),
                state.name: gr.Dropdown(
                    list(texts.CURATE_STATES), value="", label=state.label, elem_id="curate-state"
                ),
            }
        with gr.Accordion(texts.CURATE_MORE, open=False, elem_id="curate-more"):
            for begin in range(0, len(filters.MORE), 4):
                with gr.Row():
                    fields |= {one.name: filters.textbox(one) for one in filters.MORE[begin : begin + 4]}
            name = gr.Textbox(label=texts.CURATE_VIEW_NAME, elem_id="curate-view-name", max_length=100)
            with gr.Row(elem_classes="tt-actions"):
                remove = gr.Button(texts.CURATE_REMOVE, scale=0, min_width=140, elem_id="curate-remove")
                save = gr.Button(texts.CURATE_SAVE, scale=0, min_width=140, elem_id="curate-save")
        with gr.Row(elem_classes="tt-actions"):
            search = gr.Button(
                texts.CURATE_SEARCH, variant="primary", scale=0, min_width=160, elem_id="curate-search"
            )
        buttons = {
            "curate_search": texts.CURATE_SEARCH, "curate_save": texts.CURATE_SAVE, "curate_remove": texts.CURATE_REMOVE,
        }  # fmt: skip
        static(command_lines(**buttons))
    return _Search(view, kind, fields, search, name, save, remove)


def _build_review(chosen: gr.Textbox) -> _Review:
    with gr.Group(elem_classes="tt-form"):
        static(form_head(texts.CURATE_REVIEW, texts.CURATE_REVIEW_HINT))
        reason = gr.Textbox(
            label=texts.CURATE_REASON,
            info=texts.CURATE_REASON_INFO,
            max_length=1000,
            elem_id="curate-reason",
        )
        everything = gr.Checkbox(label=texts.CURATE_ALL, elem_id="curate-all")
        with gr.Row(elem_classes="tt-actions"):
            restore = gr.Button(texts.CURATE_RESTORE, scale=0, min_width=120, elem_id="curate-restore")
            approve = gr.Button(texts.CURATE_APPROVE, scale=0, min_width=120, elem_id="curate-approve")
            exclude = gr.Button(
                texts.CURATE_EXCLUDE, variant="stop", scale=0, min_width=120, elem_id="curate-exclude"
            )
        buttons = {
            "curate_restore": texts.CURATE_RESTORE, "curate_approve": texts.CURATE_APPROVE,
            "curate_exclude": texts.CURATE_EXCLUDE,
        }  # fmt: skip
        static(command_lines(**buttons))
    return _Review(chosen, reason, everything, exclude, approve, restore)


class _Curate:
    """The handlers of the tab; each gets what stands in the fields by component."""

    def __init__(
        self,
        connection: Connection,
        search: _Search,
        review: _Review,
        rows: gr.HTML,
        first: gr.Button,
        following: gr.Button,
        lineage: gr.HTML,
        report: gr.HTML,
    ) -> None:
        self.connection, self.search, self.review = connection, search, review
        self.rows, self.first, self.following = rows, first, following
        self.lineage, self.report = lineage, report
        self.after = gr.State(None)
        self.inputs = {search.kind, *search.fields.values()}
        self.screen = [rows, first, following, lineage, self.after, search.view]

    def wire(self, draw: gr.Button) -> None:
        """Connect the events."""
        search, review = self.search, self.review
        search.search.click(
            self.refresh, self.inputs, self.screen, api_name="search_rows", show_progress="hidden"
        )
        for field in (search.kind, search.fields["state"]):
            field.input(self.refresh, self.inputs, self.screen, **QUIET)
        for field in search.fields.values():
            if isinstance(field, gr.Textbox):
                field.submit(self.refresh, self.inputs, self.screen, **QUIET)
        self.first.click(self.refresh, self.inputs, self.screen, **QUIET)
        self.following.click(self.on_next, {self.after, *self.inputs}, self.screen, **QUIET)
        picked = self.rows.click(self.on_pick, [search.kind], [self.lineage], **QUIET)
        picked.then(None, None, None, js=_TO_LINEAGE, api_visibility="private")
        filled = [search.kind, search.name, *search.fields.values()]
        chosen = search.view.input(self.on_view, [search.view], filled, **QUIET)
        chosen.then(self.refresh, self.inputs, self.screen, **QUIET)
        search.save.click(self.on_save, {search.name, *self.inputs}, self.screen, **QUIET)
        search.remove.click(self.on_remove, {search.name, *self.inputs}, self.screen, **QUIET)
        draw.click(self.on_report, self.inputs, [self.report], api_name="row_report", show_progress="hidden")
        given = {review.chosen, review.reason, review.everything, *self.inputs}
        changed = [*self.screen, review.reason, review.everything]
        for button, handler, name in (
            (review.exclude, self.on_exclude, "exclude_rows"),
            (review.approve, self.on_approve, "approve_rows"),
            (review.restore, self.on_restore, "restore_rows"),
        ):
            button.click(handler, given, changed, js=_CHOSEN, api_name=name, show_progress="hidden")

    async def refresh(self, filled: dict, request: gr.Request) -> Update:
        """Show the first page of what the search finds."""
        return await self._show(filled, None, request)

    async def on_next(self, filled: dict, request: gr.Request) -> Update:
        """Show the page after this one."""
        return await self._show(filled, filled[self.after], request)

    async def _show(self, filled: dict, after: str | None, request: gr.Request) -> Update:
        with toasts():
            wanted = self._wanted(filled)
            async with self.connection.client(request) as client:
                if not await ops.may_operate(client):
                    return unchanged()
                page = await client.data.rows(filled[self.search.kind], limit=PAGE, after=after, **wanted)
                views = await client.data.views()
        names = [(texts.CURATE_VIEW_NONE, ""), *((row["name"], row["name"]) for row in views)]
        return {
            self.rows: render.rows(page),
            self.first: gr.Button(visible=after is not None),
            self.following: gr.Button(visible=page["next"] is not None),
            self.after: page["next"],
            self.lineage: "",
            self.search.view: gr.Dropdown(names),
        }

    def _wanted(self, filled: dict) -> dict[str, Any]:
        """Return the filters that the fields describe. Raises `ApiError`."""
        return filters.read({name: filled[field] for name, field in self.search.fields.items()})

    async def on_pick(self, kind: Any, event: gr.EventData, request: gr.Request) -> str:
        """Show the lineage of the row that was clicked."""
        with toasts():
            async with self.connection.client(request) as client:
                return render.lineage(await client.data.row(kind, str(event.id)))

    async def on_view(self, name: str, request: gr.Request) -> Update:
        """Fill the fields from a saved view; none empties them."""
        found: dict[str, Any] = {"noun": "pairs", "filters": {}}
        with toasts():
            async with self.connection.client(request) as client:
                found = next((row for row in await client.data.views() if row["name"] == name), found)
        shown = filters.typed(found["filters"])
        update: Update = {self.search.kind: found["noun"], self.search.name: name}
        return update | {field: shown[key] for key, field in self.search.fields.items()}

    async def on_save(self, filled: dict, request: gr.Request) -> Update:
        """Keep the search under a name."""
        with toasts():
            name, wanted = _filled(filled[self.search.name]), self._wanted(filled)
            async with self.connection.client(request) as client:
                await client.data.save_view(name, filled[self.search.kind], wanted)
        gr.Info(texts.CURATE_SAVED.format(name=name))
        return await self._show(filled, None, request)

    async def on_remove(self, filled: dict, request: gr.Request) -> Update:
        """Delete a saved view."""
        with toasts():
            name = _filled(filled[self.search.name])
            async with self.connection.client(request) as client:
                await client.data.remove_view(name)
        gr.Info(texts.CURATE_REMOVED.format(name=name))
        return await self._show(filled, None, request)

    async def on_report(self, filled: dict, request: gr.Request) -> str:
        """Draw what the search finds, in whatever language."""
        with toasts():
            wanted = self._wanted(filled)
            async with self.connection.client(request) as client:
                return render.report(await client.data.row_report(filled[self.search.kind], **wanted))

    async def on_exclude(self, filled: dict, request: gr.Request) -> Update:
        """Leave the rows out of later training sets and exports."""
        return await self._change("excluded", filled, request)

    async def on_approve(self, filled: dict, request: gr.Request) -> Update:
        """Mark the rows as looked at and good."""
        return await self._change("approved", filled, request)

    async def on_restore(self, filled: dict, request: gr.Request) -> Update:
        """Undo an exclusion or an approval."""
        return await self._change(None, filled, request)

    async def _change(
        self, state: Literal["excluded", "approved"] | None, filled: dict, request: gr.Request
    ) -> Update:
        review = self.review
        reason, ids, everything = (
            filled[review.reason],
            filled[review.chosen].split(),
            filled[review.everything],
        )
        with toasts():
            if not reason.strip():
                raise ApiError(422, "Invalid", texts.CURATE_NO_REASON, field=texts.CURATE_REASON)
            if not ids and not everything:
                raise ApiError(422, "Invalid", texts.CURATE_NO_ROWS, field=texts.CURATE_ROWS)
            which: dict[str, Any] = {"filters": self._wanted(filled)} if everything else {"ids": ids}
            async with self.connection.client(request) as client:
                done = await client.data.review(filled[self.search.kind], state, reason, **which)
        gr.Info(texts.CURATE_DONE.format(count=done["changed"]))
        shown = await self._show(filled, None, request)
        return shown | {review.reason: "", review.everything: False}


def _filled(name: str | None) -> str:
    if not (given := (name or "").strip()):
        raise ApiError(422, "Invalid", texts.CURATE_NO_NAME, field=texts.CURATE_VIEW_NAME)
    return given
