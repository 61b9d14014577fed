"""The command line of each button in Ops: what does the same in a shell."""

from __future__ import annotations

from feedback_ui import texts
from feedback_ui.html import esc, fold

COMMANDS = {
    "rollout-canary": "trimtab rollout canary DEPLOYMENT RELEASE --weight 0.1",
    "rollout-promote": "trimtab rollout promote DEPLOYMENT RELEASE",
    "rollout-rollback": "trimtab rollout rollback DEPLOYMENT",
    "train-plan": "trimtab train dpo --deployment DEPLOYMENT --plan",
    "train-start": "trimtab train dpo --deployment DEPLOYMENT --recipe RECIPE --rollout canary",
    "run-cancel": "trimtab runs cancel RUN",
    "run-resume": "trimtab runs resume RUN",
    "release-create": "trimtab releases create DEPLOYMENT --system-prompt TEXT",
    "release-diff": "trimtab releases diff RELEASE AGAINST",
    "eval-start": "trimtab eval RELEASE --against RELEASE",
    "ways-search": "trimtab prompts search DEPLOYMENT",
    "ways-compare": "trimtab releases compare DEPLOYMENT",
    "ways-cancel": "trimtab jobs cancel JOB",
    "import-start": "trimtab pairs import FILE",
    "import-cancel": "trimtab pairs import FILE",
    "import-refused": "trimtab pairs import FILE --rejects FILE",
    "curate-search": "trimtab rows list pairs --text WORDS",
    "curate-next": "trimtab rows list pairs --after ROW",
    "curate-first": "trimtab rows list pairs",
    "curate-save": "trimtab rows save-view NAME pairs --text WORDS",
    "curate-remove": "trimtab rows remove-view NAME",
    "curate-exclude": "trimtab rows exclude pairs ROW --reason TEXT",
    "curate-approve": "trimtab rows approve pairs ROW --reason TEXT",
    "curate-restore": "trimtab rows restore pairs ROW --reason TEXT",
    "curate-draw": "trimtab rows report pairs",
    "make-start": "trimtab pairs make DEPLOYMENT",
    "make-cancel": "trimtab jobs cancel JOB",
    "gold-add": "trimtab gold add QUESTION --good ANSWER --bad ANSWER",
    "user-add": "trimtab users add NAME --role rater",
    "user-remove": "trimtab users remove NAME",
    "key-create": "trimtab keys create NAME --role chat",
    "key-revoke": "trimtab keys revoke KEY",
    "erase-preview": "trimtab users erase NAME --dry-run",
    "erase-do": "trimtab users erase NAME",
}
"""By the button's id in the page. Words in capitals are to be filled in."""

_ENDED_BY_KEY = ("import-cancel",)


def command_lines(**buttons: str) -> str:
    """Render the commands of a form's buttons, folded: ids with `_` for `-`, and what stands on each button."""
    shown = {name.replace("_", "-"): label for name, label in buttons.items()}
    rows = "".join(
        f"<div><dt>{esc(label)}</dt><dd>{_command(name)}</dd></div>" for name, label in shown.items()
    )
    key = f"commands {next(iter(shown))}"
    return f'<div class="tt-commands">{fold(key, texts.COMMAND_LINE, f"<dl>{rows}</dl>")}</div>'


def _command(name: str) -> str:
    line = f"<code>{esc(COMMANDS[name])}</code>"
    return f"{esc(texts.COMMAND_ENDED)} {line}" if name in _ENDED_BY_KEY else line
