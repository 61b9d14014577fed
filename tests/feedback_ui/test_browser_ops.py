"""Ops in a real browser: runs, recipes, imports, gold questions, keys, erasures, snapshots, roles."""

from __future__ import annotations

import json

import pytest
from playwright.sync_api import Page, expect

from tests.feedback_ui.conftest import Screens
from tests.feedback_ui.test_browser import until

pytestmark = pytest.mark.browser

GOOD_ROW = '{"prompt": "p", "chosen": "c", "rejected": "r"}'


class TestOps:
    def test_retrain_with_live_progress_then_promote_and_roll_back(
        self, page: Page, screens: Screens
    ) -> None:
        screens.stub.pairs.append({"id": "pair-1", "prompt": [], "chosen": "a", "rejected": "b"})
        page.goto(screens.url + "/ops")
        expect(page.locator("#ops-tiles")).to_contain_text("New pairs")
        page.get_by_role("tab", name="Training").click()
        page.get_by_label("QLoRA").check()
        page.locator("#train-steps").get_by_role("textbox").fill("12")
        page.locator("#train-start").click()
        expect(page.locator("#run-progress")).to_contain_text("Step 12 of 12", timeout=30_000)
        expect(page.locator("#plot-loss canvas, #plot-loss svg").first).to_be_visible()
        expect(page.locator("#run-progress")).to_contain_text("passed", timeout=30_000)
        expect(page.locator("#ops-runs")).to_contain_text("assistant@2")
        page.locator("#overlay-runs input").click()
        page.get_by_role("option", name=next(iter(screens.stub.runs))).click()
        expect(page.locator("#plot-overlay .mark-line path")).to_have_count(1)
        page.keyboard.press("Escape")
        page.get_by_role("tab", name="Overview").click()
        expect(page.locator("#ops-deployments")).to_contain_text("assistant@2 · canary · 10%")
        page.locator("#rollout-promote").click()
        expect(page.locator("#ops-deployments")).to_contain_text("assistant@2 · stable · 100%")
        page.locator("#rollout-rollback").click()
        expect(page.locator("#ops-deployments")).to_contain_text("assistant@1 · stable · 100%")

    def test_a_recipe_is_chosen_and_planned_before_it_starts(self, page: Page, screens: Screens) -> None:
        screens.stub.pairs.append({"id": "pair-1", "prompt": [], "chosen": "a", "rejected": "b"})
        page.goto(screens.url + "/ops")
        page.get_by_role("tab", name="Training").click()
        page.locator("#train-recipe input").click()
        expect(page.get_by_role("option", name="thumbs")).to_have_count(0)
        page.get_by_role("option", name="first-preferences").click()
        page.locator("#train-plan").click()
        planned = page.locator("#train-planned")
        expect(planned).to_contain_text("1.90 GB of 22.00 GB")
        expect(planned.locator(".tt-badge")).to_have_text("fits")
        page.get_by_role("button", name="More parameters").click()
        page.locator("#train-rank").get_by_role("textbox").fill("512")
        page.locator("#train-plan").click()
        expect(planned.locator(".tt-badge")).to_have_text("does not fit")
        expect(planned).to_contain_text("lower r")
        assert screens.stub.runs == {}
        page.locator("#train-rank").get_by_role("textbox").fill("")
        page.locator("#train-start").click()
        expect(page.locator("#run-progress")).to_contain_text("run-")
        expect(planned).to_be_empty()
        sent = [body for _, path, body, _ in screens.stub.requests if path == "/api/runs"]
        assert sent[0]["recipe"] == "first-preferences"
        page.get_by_label("KTO, from likes").check()
        page.locator("#train-recipe input").click()
        expect(page.get_by_role("option", name="thumbs")).to_be_visible()

    def test_a_wrong_number_names_its_field(self, page: Page, screens: Screens) -> None:
        page.goto(screens.url + "/ops")
        page.get_by_role("tab", name="Training").click()
        page.locator("#train-rate").get_by_role("textbox").fill("fast")
        page.locator("#train-start").click()
        expect(page.locator(".toast-body")).to_contain_text("Learning rate")
        assert screens.stub.runs == {}

    def choose(self, page: Page, screens: Screens, *rows: str) -> None:
        """Open the Data tab and choose a file of these rows."""
        page.goto(screens.url + "/ops")
        page.get_by_role("tab", name="Data").click()
        content = "".join(f"{row}\n" for row in rows).encode()
        chosen = {"name": "votes.jsonl", "mimeType": "application/jsonl", "buffer": content}
        page.locator("#import-file input[type=file]").set_input_files(chosen)
        expect(page.locator("#import-file")).to_contain_text("votes")

    def test_import_reports_refused_rows_and_gives_them_back(self, page: Page, screens: Screens) -> None:
        screens.stub.import_breaks_off = "the file breaks off after row 2"
        self.choose(page, screens, GOOD_ROW, '{"prompt": "p"}')
        page.get_by_label("Only check").check()
        page.locator("#import-start").click()
        expect(page.locator("#import-result")).to_contain_text("nothing kept: 1 accepted")
        assert screens.stub.pairs == []
        page.get_by_label("Only check").uncheck()
        page.locator("#import-start").click()
        expect(page.locator("#import-result")).not_to_contain_text("Checked")
        expect(page.locator("#import-result")).to_contain_text("1 accepted, 0 known already, 1 refused")
        expect(page.locator("#import-result")).to_contain_text("chosen: missing")
        expect(page.locator("#import-result")).to_contain_text("breaks off after row 2")
        expect(page.locator("#ops-pairs")).to_contain_text("p")
        with page.expect_download() as download:
            page.locator("#import-refused").click()
        assert download.value.suggested_filename == "votes.jsonl.rejects.jsonl"
        assert json.loads(download.value.path().read_text())["row"] == 2

    def test_an_import_shows_how_far_it_is_and_can_be_stopped(self, page: Page, screens: Screens) -> None:
        screens.stub.import_held = True
        self.choose(page, screens, GOOD_ROW)
        page.locator("#import-start").click()
        expect(page.locator("#import-result")).to_contain_text("25% of the file")
        page.locator("#import-cancel").click()
        expect(page.locator("#import-result")).to_contain_text("At least 1 rows were taken and stay")
        expect(page.locator("#import-start")).to_be_enabled()
        until(lambda: screens.stub.cancelled == 1, "the import went on")

    def test_a_gold_question_is_asked(self, page: Page, screens: Screens) -> None:
        page.goto(screens.url + "/ops")
        page.get_by_role("tab", name="Data").click()
        page.locator("#gold-question textarea").fill("2 + 2?")
        page.locator("#gold-good textarea").fill("4")
        page.locator("#gold-add").click()
        expect(page.locator(".toast-body")).to_contain_text("Wrong answer is empty")
        page.locator("#gold-bad textarea").fill("5")
        page.locator("#gold-add").click()
        expect(page.locator("#gold-question textarea")).to_have_value("")
        assert [row["good"] for row in screens.stub.gold] == ["4"]

    def test_a_key_s_secret_is_shown_once(self, page: Page, screens: Screens) -> None:
        page.goto(screens.url + "/ops")
        page.get_by_role("tab", name="Access").click()
        page.locator("#key-name").get_by_role("textbox").fill("ci")
        page.locator("#key-create").click()
        expect(page.locator("#key-secret")).to_contain_text("tt-4f9c2b8e6a1d7f30")
        page.get_by_role("tab", name="Audit").click()
        expect(page.locator("#ops-audit")).to_contain_text("key.create")
        page.locator("#audit-text input, #audit-text textarea").fill("something else")
        page.locator("#audit-text input, #audit-text textarea").press("Enter")
        expect(page.locator("#ops-audit")).to_contain_text("Nothing in the log fits")
        page.get_by_role("tab", name="Access").click()
        expect(page.locator("#key-secret")).not_to_contain_text("tt-4f9c")

    def test_erasing_a_person_needs_the_name_twice(self, page: Page, screens: Screens) -> None:
        page.goto(screens.url + "/ops")
        page.get_by_role("tab", name="Access").click()
        page.locator("#erase-name").get_by_role("textbox").fill("ada")
        page.locator("#erase-preview").click()
        expect(page.locator("#erase-result")).to_contain_text(
            "Nothing is deleted yet. These rows would go: 3 votes, 2 pairs"
        )
        page.locator("#erase-again").get_by_role("textbox").fill("ad")
        page.locator("#erase-do").click()
        expect(page.locator(".toast-body")).to_contain_text("nothing was deleted")
        assert screens.stub.erased == []
        page.locator("#erase-again").get_by_role("textbox").fill("ada")
        page.locator("#erase-do").click()
        expect(page.locator("#erase-result")).to_contain_text("3 votes, 2 pairs")
        expect(page.locator("#erase-result")).to_contain_text("other people gave 1 votes")
        expect(page.locator("#erase-result")).to_contain_text("ask for them anew: run-0007")

    def test_data_shows_raters_and_what_a_snapshot_holds(self, page: Page, screens: Screens) -> None:
        page.goto(screens.url + "/ops")
        page.get_by_role("tab", name="Data").click()
        expect(page.locator("#ops-raters")).to_contain_text("position bias")
        expect(page.locator("#ops-raters")).to_contain_text("alpha is 0.58")
        page.locator("#ops-snapshots summary").click()
        expect(page.locator("#ops-snapshots")).to_contain_text("en 97%")
        expect(page.locator("#ops-snapshots")).to_contain_text("Chosen one was longer")

    def test_a_role_without_ops_sees_why(self, page: Page, screens: Screens) -> None:
        screens.stub.roles = ["chat"]
        page.goto(screens.url + "/ops")
        expect(page.locator("#tt-denied")).to_contain_text("Ops is for operators")
        expect(page.locator("#ops-tabs")).to_be_hidden()
