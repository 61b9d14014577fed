"""Documents that are made from code are fresh, and the README's commands exist."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_generated_pages_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "write_docs.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_command_in_the_readme_exists() -> None:
    readme = (ROOT / "README.md").read_text()
    cli = (ROOT / "docs" / "cli.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    commands = re.findall(r"\.venv/bin/(trimtab(?: [a-z]+)+)", readme)
    assert len(commands) >= 5
    for command in commands:
        words = command.split()
        assert any(f"`{' '.join(words[:n])}" in cli for n in (3, 2) if len(words) >= n), command
    for target in re.findall(r"^make (\w+)", readme, re.M):
        assert f"{target}:" in makefile


def test_every_link_in_the_readme_leads_somewhere() -> None:
    for page in ("README.md", "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(((?!http)[^)#]+)", (ROOT / page).read_text()):
            assert (ROOT / target).exists(), f"{page}: {target}"
