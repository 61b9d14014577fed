"""The look: one Gradio theme and the assets that go with it. Nothing here is fetched from outside."""

from __future__ import annotations

import json
from pathlib import Path

import gradio as gr
from gradio.themes.utils import colors, fonts, sizes

from feedback_ui import texts

ASSETS = Path(__file__).parent / "assets"
FAVICON = ASSETS / "favicon.svg"

# A sea green dark enough for white text on it (5.5:1) and light enough, at 400, for dark pages.
_TEAL = colors.Color(
    name="trimtab",
    c50="#f0faf8",
    c100="#d3f1ec",
    c200="#a8e2d9",
    c300="#73ccc1",
    c400="#45b0a5",
    c500="#249389",
    c600="#12766f",
    c700="#115e59",
    c800="#124b48",
    c900="#133f3d",
    c950="#052524",
)


def theme() -> gr.themes.Base:
    """Build the theme: bundled IBM Plex, sea green on slate, hairline borders, no gradients."""
    # Regular and bold: the bundled semi-bold files lack most of the alphabet.
    base = gr.themes.Base(
        primary_hue=_TEAL,
        secondary_hue=_TEAL,
        neutral_hue=colors.slate,
        spacing_size=sizes.spacing_md,
        radius_size=sizes.radius_md,
        text_size=sizes.text_md,
        font=(fonts.LocalFont("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif"),
        font_mono=(fonts.LocalFont("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "monospace"),
    )
    base.name = "trimtab"
    return base.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="#0b1220",
        body_text_color="*neutral_900",
        body_text_color_dark="*neutral_100",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        background_fill_primary="white",
        background_fill_primary_dark="#111a2b",
        background_fill_secondary="*neutral_50",
        background_fill_secondary_dark="#0e1626",
        border_color_primary="*neutral_200",
        border_color_primary_dark="#243047",
        border_color_accent="*primary_600",
        border_color_accent_dark="*primary_400",
        color_accent="*primary_600",
        color_accent_soft="*primary_50",
        color_accent_soft_dark="#12302f",
        link_text_color="*primary_700",
        link_text_color_dark="*primary_300",
        link_text_color_hover="*primary_800",
        link_text_color_hover_dark="*primary_200",
        block_background_fill="white",
        block_background_fill_dark="#111a2b",
        block_border_color="*neutral_200",
        block_border_color_dark="#243047",
        block_border_width="1px",
        block_shadow="none",
        block_radius="12px",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_300",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_300",
        block_title_text_weight="600",
        block_title_text_size="*text_sm",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
        input_background_fill="white",
        input_background_fill_dark="#0b1220",
        input_border_color="*neutral_300",
        input_border_color_dark="#33415c",
        input_border_color_focus="*primary_600",
        input_border_color_focus_dark="*primary_400",
        input_shadow_focus="0 0 0 3px rgb(36 147 137 / 0.18)",
        input_shadow_focus_dark="0 0 0 3px rgb(69 176 165 / 0.28)",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        input_border_width="1px",
        button_border_width="1px",
        button_border_width_dark="1px",
        button_large_text_size="*text_md",
        button_large_text_weight="600",
        button_medium_text_weight="600",
        button_small_text_weight="600",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_hover_dark="*primary_700",
        button_primary_border_color="*primary_600",
        button_primary_border_color_dark="*primary_600",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        button_secondary_background_fill="white",
        button_secondary_background_fill_dark="#16213a",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_hover_dark="#1d2a47",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="#33415c",
        button_secondary_text_color="*neutral_800",
        button_secondary_text_color_dark="*neutral_100",
        button_cancel_background_fill="white",
        button_cancel_background_fill_dark="#16213a",
        button_cancel_background_fill_hover="#fef2f2",
        button_cancel_background_fill_hover_dark="#3b1820",
        button_cancel_border_color="#fca5a5",
        button_cancel_border_color_dark="#7f1d1d",
        button_cancel_text_color="#b91c1c",
        button_cancel_text_color_dark="#fca5a5",
        slider_color="*primary_600",
        slider_color_dark="*primary_400",
        loader_color="*primary_600",
        checkbox_background_color_selected="*primary_600",
        checkbox_border_color_selected="*primary_600",
        checkbox_label_background_fill_selected="*primary_50",
        checkbox_label_background_fill_selected_dark="#12302f",
        checkbox_label_border_color_selected="*primary_600",
        checkbox_label_text_color_selected="*primary_800",
        checkbox_label_text_color_selected_dark="*primary_200",
    )


def css() -> str:
    """Read the style sheet."""
    return (ASSETS / "style.css").read_text(encoding="utf-8")


def head() -> str:
    """Build the inline head: page description, colour scheme and the script for keys and preferences."""
    keys = json.dumps(
        {
            "label": texts.SHORTCUTS_LABEL,
            "close": texts.SHORTCUTS_CLOSE,
            "groups": texts.SHORTCUTS,
            "save": texts.CHAT_ASK_SAVE,
            "cancel": texts.CHAT_ASK_CANCEL,
            "copied": texts.CODE_COPIED,
            "palette": {
                "label": texts.PALETTE_LABEL,
                "hint": texts.PALETTE_HINT,
                "nothing": texts.PALETTE_NOTHING,
            },
            "math": _katex(),
        }
    )
    script = (ASSETS / "trimtab.js").read_text(encoding="utf-8")
    return (
        '<meta name="description" content="Trimtab: chat, rank and operate aligned language models.">'
        '<meta name="color-scheme" content="light dark">'
        f"<script>window.trimtabKeys = {keys};</script><script>{script}</script>"
    )


def _katex() -> dict[str, str]:
    """Return where Gradio serves its KaTeX, script and style; nothing where this version has none."""
    served = Path(gr.__file__).parent / "templates" / "frontend" / "assets"
    found = {
        "script": next(served.glob("auto-render-*.js"), None),
        "style": next(served.glob("katex-*.css"), None),
    }
    return {name: f"assets/{path.name}" for name, path in found.items() if path}
