"""Settings: defaults that need no file, and faults that say what to do."""

from pathlib import Path

import pytest

from trimtab.config.settings import Settings
from trimtab.config.settings_file import load
from trimtab.errors import SettingsError


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("TRIMTAB_SERVER__PORT", "TRIMTAB_DATA"):
        monkeypatch.delenv(name, raising=False)


def faults(text: str, tmp_path: Path) -> str:
    file = tmp_path / "settings.toml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(file)
    return str(caught.value)


def test_no_setting_is_needed() -> None:
    settings = load()
    assert settings.server.host == "127.0.0.1"
    assert settings.server.port == 7860
    assert list(settings.deployments) == ["assistant"]


def test_file_in_this_folder_is_read(tmp_path: Path) -> None:
    (tmp_path / "trimtab.toml").write_text("[server]\nport = 8001\n")
    assert load().server.port == 8001


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_bytes(b"\xef\xbb\xbf[server]\r\nport = 7999\r\n")
    assert load(file).server.port == 7999
    file.write_bytes(b"\xff\xfe[\x00")
    with pytest.raises(SettingsError, match="not TOML"):
        load(file)


def test_environment_overrides_the_file_and_arguments_override_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "s.toml"
    file.write_text('data = "from-file"\n[server]\nport = 1\nhost = "127.0.0.2"\n')
    monkeypatch.setenv("TRIMTAB_SERVER__PORT", "2")
    settings = load(file)
    assert (settings.server.port, settings.server.host, settings.data) == (2, "127.0.0.2", Path("from-file"))
    assert load(file, server={"port": 3}).server.port == 3


def test_an_unknown_key_names_itself_its_file_and_the_nearest(tmp_path: Path) -> None:
    said = faults("[server]\nprot = 1\n", tmp_path)
    assert "server.prot: no such setting" in said
    assert "settings.toml" in said
    assert "did you mean 'port'?" in said
    assert "accepted here: allowed_hosts, cors_origins, drain_s, host, log_format, port, require_key" in said


def test_a_wrong_value_says_meaning_value_and_what_is_accepted(tmp_path: Path) -> None:
    said = faults("[server]\nport = 99999\n[schedule]\nmethod = 'ppo'\n", tmp_path)
    assert "server.port (port to listen on" in said
    assert "99999" in said
    assert "at most 65535" in said
    assert "schedule.method" in said
    assert "'dpo', 'sft'" in said


def test_a_gate_check_has_one_bound_and_its_keys_are_named(tmp_path: Path) -> None:
    file = tmp_path / "gate.toml"
    file.write_text(
        '[[gate.checks]]\nmeasure = "kl"\nmin = 0.1\nmax = 0.3\n[[gate.checks]]\nmeasur = "kl"\nmax = 0.3\n'
    )
    with pytest.raises(SettingsError) as caught:
        load(file)
    said = str(caught.value)
    assert "gate.checks.0" in said
    assert "exactly one of min, max, not_worse_than_stable_by, not_worse_than_anchor_by" in said
    assert "gate.checks.1.measur: no such setting" in said
    assert "did you mean 'measure'?" in said


def test_every_fault_is_reported_at_once(tmp_path: Path) -> None:
    said = faults("colour = 1\n[gate]\nmax_drift = -1\n[engines.a]\nbase = 'b'\nsize = 2\n", tmp_path)
    assert all(key in said for key in ("colour", "gate.max_drift", "engines.a.size"))


def test_an_unknown_environment_variable_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIMTAB_SEVER__PORT", "1")
    with pytest.raises(SettingsError, match="did you mean 'server'"):
        load()


def test_not_toml_and_no_such_file(tmp_path: Path) -> None:
    assert "is not TOML" in faults("= 3", tmp_path)
    with pytest.raises(SettingsError, match="no such file"):
        load(tmp_path / "nowhere.toml")


@pytest.mark.parametrize("expression", ["every day", "61 * * * *", "* * * *"])
def test_a_wrong_cron_expression(expression: str, tmp_path: Path) -> None:
    assert "not a cron expression" in faults(f"[schedule]\ncron = '{expression}'\n", tmp_path)


def test_a_deployment_needs_a_base_that_is_served(tmp_path: Path) -> None:
    said = faults("[deployments.assistant]\nbase = 'llama'\n", tmp_path)
    assert "no engine serves it; accepted: smollm2-135m-instruct" in said


@pytest.mark.parametrize("name", ["a@b", "a/b"])
def test_a_deployment_name_that_would_be_ambiguous(name: str, tmp_path: Path) -> None:
    assert "has no '@' or '/'" in faults(f"[deployments.'{name}']\n", tmp_path)


def test_the_example_file_shows_every_setting_and_loads() -> None:
    example = Path(__file__).parents[3] / "trimtab.example.toml"
    settings = load(example)
    assert settings.server.port == 7860
    text = example.read_text()
    missing = [name for name in Settings.model_fields if name not in text]
    assert not missing


def test_budgets_of_days_and_months(tmp_path: Path) -> None:
    file = tmp_path / "s.toml"
    file.write_text("[limits]\ntokens_per_month = 9\n[limits.budgets.ci]\nrequests_per_day = 5\n")
    limits = load(file).limits.build()
    assert (limits.of("ci").requests_per_day, limits.of("ci").tokens_per_month) == (5, 9)
    assert limits.of("ada").requests_per_day is None
    said = faults("[limits]\ntokens_per_day = 0\n[limits.budgets.ci]\nrequests_per_week = 5\n", tmp_path)
    assert "limits.tokens_per_day (prompt and completion tokens" in said
    assert "at least 1" in said
    assert "limits.budgets.ci.requests_per_week: no such setting" in said
    assert "requests_per_day, requests_per_minute, requests_per_month" in said


SCHEDULES = """
[deployments.assistant]
[deployments.poet]
[schedule]
cron = "0 3 * * *"
recipe = "first-preferences"
[schedules.poet]
deployment = "poet"
method = "kto"
recipe = "thumbs"
every_pairs = 20
params = { beta = 0.2 }
"""


def test_each_deployment_may_have_a_schedule_with_a_recipe(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(SCHEDULES)
    found = load(file).named_schedules()
    assert list(found) == ["schedule", "schedules.poet"]
    assert found["schedule"].recipe == "first-preferences"
    assert (found["schedules.poet"].deployment, found["schedules.poet"].recipe) == ("poet", "thumbs")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[schedule]\nrecipe = 'thumb'\n", "schedule.recipe 'thumb': no such recipe; accepted: 65b-on-48gb, "),
        ("[schedule]\nrecipe = 'thumbs'\n", "schedule.recipe 'thumbs': accepted: a recipe for dpo"),
        ("[schedules.p]\nrecipe = 'thumb'\n", "schedules.p.recipe 'thumb': no such recipe; accepted: "),
        ("[schedules.p]\ndeployment = 'p'\n", "schedules.p.deployment 'p': no such deployment; accepted: assistant"),
        ("[schedules.p]\nmethod = 'ppo'\n", "schedules.p.method"),
        ("[schedules.p]\ndeployments = 'p'\n", "did you mean 'deployment'?"),
        ("[schedule]\nparams = { beta = -1 }\n", "schedule.params.beta -1: accepted: 'auto' or a number above 0"),
        ("[schedule]\nparams = { betas = 1 }\n", "schedule.params.betas 1: accepted: a field of dpo"),
        ("[schedules.p]\nevery_pairs = 0\n", "schedules.p.every_pairs"),
        ("[deployments.poet]\n[schedule]\ncron = '0 3 * * *'\n", "schedule.deployment 'assistant': no such deployment"),
    ],
)  # fmt: skip
def test_a_wrong_schedule(text: str, said: str, tmp_path: Path) -> None:
    assert said in faults(text, tmp_path)


def test_a_schedule_that_is_off_needs_no_deployment(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[deployments.poet]\n")
    assert list(load(file).deployments) == ["poet"]
