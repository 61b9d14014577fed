"""Ops, Access: users, API keys and what they used."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import gradio as gr

from feedback_ui import texts
from feedback_ui.connection import Connection
from feedback_ui.errors import toasts
from feedback_ui.html import form_head
from feedback_ui.listing import picker, static
from feedback_ui.ops import actions as ops
from feedback_ui.ops.access import actions, render
from feedback_ui.ops.command_lines import command_lines
from feedback_ui.part import Part, Update, unchanged


class _UserForms(NamedTuple):
    """The table of users, and the fields and buttons that add and remove them."""

    users: gr.HTML
    name: gr.Textbox
    password: gr.Textbox
    roles: gr.CheckboxGroup
    add: gr.Button
    leaving: gr.Dropdown
    remove: gr.Button


def _build_user_forms() -> _UserForms:
    """Lay out the table of users and the forms that add and remove them."""
    users = static(elem_id="ops-users")
    with gr.Group(elem_classes="tt-form"):
        static(form_head(texts.USER_ADD))
        name = gr.Textbox(label=texts.USER_NAME, elem_id="user-name")
        password = gr.Textbox(
            label=texts.USER_PASSWORD,
            info=texts.USER_PASSWORD_INFO,
            type="password",
            elem_id="user-password",
        )
        roles = gr.CheckboxGroup(
            list(texts.ROLES), value=["chat", "rater"], label=texts.USER_ROLES, elem_id="user-roles"
        )
        add = gr.Button(texts.USER_ADD, elem_id="user-add")
        static(command_lines(user_add=texts.USER_ADD))
    with gr.Group(elem_classes="tt-form"):
        leaving = picker(texts.USER_PICK, "user-pick")
        remove = gr.Button(texts.USER_REMOVE, variant="stop", elem_id="user-remove")
        static(command_lines(user_remove=texts.USER_REMOVE))
    return _UserForms(users, name, password, roles, add, leaving, remove)


class _KeyForms(NamedTuple):
    """The table of keys, and the fields and buttons that create and revoke them."""

    keys: gr.HTML
    label: gr.Textbox
    key_roles: gr.CheckboxGroup
    make: gr.Button
    secret: gr.HTML
    dying: gr.Dropdown
    revoke: gr.Button


def _build_key_forms() -> _KeyForms:
    """Lay out the table of keys and the forms that create and revoke them."""
    keys = static(elem_id="ops-keys")
    with gr.Group(elem_classes="tt-form"):
        static(form_head(texts.KEY_CREATE))
        label = gr.Textbox(label=texts.KEY_NAME, elem_id="key-name")
        key_roles = gr.CheckboxGroup(
            list(texts.ROLES), value=["chat"], label=texts.USER_ROLES, elem_id="key-roles"
        )
        make = gr.Button(texts.KEY_CREATE, elem_id="key-create")
        static(command_lines(key_create=texts.KEY_CREATE))
        secret = static(elem_id="key-secret")
    with gr.Group(elem_classes="tt-form"):
        dying = picker(texts.KEY_PICK, "key-pick")
        revoke = gr.Button(texts.KEY_REVOKE, variant="stop", elem_id="key-revoke")
        static(command_lines(key_revoke=texts.KEY_REVOKE))
    return _KeyForms(keys, label, key_roles, make, secret, dying, revoke)


class _ErasureForm(NamedTuple):
    """The fields, buttons and results of an erasure."""

    gone: gr.Textbox
    again: gr.Textbox
    look: gr.Button
    erase: gr.Button
    erased: gr.HTML
    flagged: gr.HTML


def _build_erasure_form() -> _ErasureForm:
    """Lay out the form of an erasure."""
    with gr.Group(elem_classes="tt-form"):
        static(form_head(texts.ERASE, texts.ERASE_HINT))
        with gr.Row():
            gone = gr.Textbox(label=texts.ERASE_NAME, min_width=120, elem_id="erase-name")
            again = gr.Textbox(label=texts.ERASE_AGAIN, min_width=120, elem_id="erase-again")
        look = gr.Button(texts.ERASE_PREVIEW, elem_id="erase-preview")
        erase = gr.Button(texts.ERASE_DO, variant="stop", elem_id="erase-do")
        static(command_lines(erase_preview=texts.ERASE_PREVIEW, erase_do=texts.ERASE_DO))
        erased = static(elem_id="erase-result")
        flagged = static(elem_id="erase-flagged")
    return _ErasureForm(gone, again, look, erase, erased, flagged)


def build_access(connection: Connection) -> Part:
    """Lay out the tab; returns how to refresh it."""
    with gr.Row(elem_classes="tt-columns"):
        with gr.Column(min_width=320):
            users = _build_user_forms()
            used = static(elem_id="ops-usage")
        with gr.Column(min_width=320):
            keys = _build_key_forms()
            erasure = _build_erasure_form()

    async def refresh(request: gr.Request) -> Update:
        """Show users, keys and usage as they are now; a secret that was shown is gone."""
        with toasts():
            async with connection.client(request) as client:
                if not await ops.may_operate(client):
                    return unchanged()
                now = await actions.access(client)
        return {
            users.users: render.users(now.users),
            keys.keys: render.keys(now.keys),
            used: render.usage(now.usage),
            users.leaving: gr.Dropdown([row["name"] for row in now.users], value=None),
            keys.dying: gr.Dropdown(now.live_keys(), value=None),
            keys.secret: "",
            erasure.flagged: render.flagged(now.flagged),
        }

    async def on_add(who: str, word: str, may: list[str], request: gr.Request) -> Update:
        """Add a user."""
        with toasts():
            async with connection.client(request) as client:
                made = await actions.add_user(client, who, word, may)
        if made.get("notice"):
            gr.Info(str(made["notice"]))
        return {**await refresh(request), users.name: "", users.password: ""}

    async def on_remove(who: str | None, request: gr.Request) -> Update:
        """Remove the chosen user."""
        if who:
            with toasts():
                async with connection.client(request) as client:
                    await actions.remove_user(client, who)
        return await refresh(request)

    async def on_make(called: str, may: list[str], request: gr.Request) -> Update:
        """Make a key and show its secret once."""
        with toasts():
            async with connection.client(request) as client:
                made = await actions.create_key(client, called, may)
        return {**await refresh(request), keys.label: "", keys.secret: render.secret(made)}

    async def on_revoke(ident: str | None, request: gr.Request) -> Update:
        """Revoke the chosen key."""
        if ident:
            with toasts():
                async with connection.client(request) as client:
                    await actions.revoke_key(client, ident)
        return await refresh(request)

    screen = [
        users.users, keys.keys, used, users.name, users.password, users.leaving, keys.label, keys.secret,
        keys.dying, erasure.gone, erasure.again, erasure.erased, erasure.flagged,
    ]  # fmt: skip
    _wire_erasure(erasure, screen, refresh, connection)
    users.add.click(
        on_add,
        [users.name, users.password, users.roles],
        screen,
        api_name="add_user",
        show_progress="hidden",
    )
    users.remove.click(on_remove, [users.leaving], screen, api_name="remove_user", show_progress="hidden")
    keys.make.click(
        on_make, [keys.label, keys.key_roles], screen, api_name="create_key", show_progress="hidden"
    )
    keys.revoke.click(on_revoke, [keys.dying], screen, api_name="revoke_key", show_progress="hidden")
    return Part(refresh, screen)


def _wire_erasure(
    form: _ErasureForm,
    screen: list[Any],
    refresh: Callable[[gr.Request], Awaitable[Update]],
    connection: Connection,
) -> None:
    """Connect the preview of an erasure and the erasure."""

    async def on_look(who: str, request: gr.Request) -> Update:
        """Show what erasing a person would delete."""
        with toasts():
            async with connection.client(request) as client:
                return {form.erased: render.erased(await actions.preview_erasure(client, who or ""))}

    async def on_erase(who: str, same: str, request: gr.Request) -> Update:
        """Erase a person."""
        with toasts():
            async with connection.client(request) as client:
                done = await actions.erase_person(client, who or "", same or "")
        return {
            **await refresh(request),
            form.gone: "",
            form.again: "",
            form.erased: render.erased(done),
        }

    form.look.click(on_look, [form.gone], [form.erased], api_name="preview_erasure", show_progress="hidden")
    form.erase.click(
        on_erase, [form.gone, form.again], screen, api_name="erase_person", show_progress="hidden"
    )
