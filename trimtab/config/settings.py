"""The settings file as a whole. No setting is needed; `trimtab.config.settings_file` reads them.

Its tables are in the modules `…_sections`: every setting, its meaning, its default and what it accepts.
"""

from __future__ import annotations

import tomllib
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from trimtab.config.data_sections import PrivacySettings, RankSettings, StoreSettings
from trimtab.config.paths import DEFAULT_DATA
from trimtab.config.rollout_sections import CanarySettings, GateSettings
from trimtab.config.serving_sections import (
    DEFAULT_BASE,
    DeploymentSettings,
    EngineSettings,
    LimitsSettings,
    ServerSettings,
)
from trimtab.config.training_sections import (
    AdaptersSettings,
    ScheduleSettings,
    SnapshotSettings,
    TrainingSettings,
)


class _TomlFile(TomlConfigSettingsSource):
    """A settings file, in UTF-8 with or without a byte order mark, which some editors write."""

    def _read_file(self, file_path: Path | Traversable) -> dict[str, Any]:
        return tomllib.loads(file_path.read_text("utf-8-sig"))


class Settings(BaseSettings):
    """The whole settings file."""

    model_config = SettingsConfigDict(
        env_prefix="TRIMTAB_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    data: Path = Field(Path(DEFAULT_DATA), description="data directory")
    server: ServerSettings = Field(default_factory=ServerSettings, description="where the platform listens")
    engines: dict[str, EngineSettings] = Field(
        default_factory=lambda: {"main": EngineSettings(base=DEFAULT_BASE)}, description="engines by name"
    )
    deployments: dict[str, DeploymentSettings] = Field(
        default_factory=lambda: {"assistant": DeploymentSettings()}, description="deployments by name"
    )
    limits: LimitsSettings = Field(default_factory=LimitsSettings, description="limits of the gateway")
    schedule: ScheduleSettings = Field(default_factory=ScheduleSettings, description="automatic retraining")
    schedules: dict[str, ScheduleSettings] = Field(
        default_factory=dict, description="more schedules by name, of this deployment or others"
    )
    store: StoreSettings = Field(default_factory=StoreSettings, description="what is kept")
    snapshot: SnapshotSettings = Field(default_factory=SnapshotSettings, description="data sets")
    training: TrainingSettings = Field(default_factory=TrainingSettings, description="runs")
    adapters: AdaptersSettings = Field(default_factory=AdaptersSettings, description="old adapters")
    gate: GateSettings = Field(default_factory=GateSettings, description="thresholds before traffic")
    canary: CanarySettings = Field(default_factory=CanarySettings, description="rollouts")
    rank: RankSettings = Field(default_factory=RankSettings, description="what raters are shown")
    privacy: PrivacySettings = Field(default_factory=PrivacySettings, description="redaction")

    @model_validator(mode="after")
    def _fits_together(self) -> Settings:
        bases = sorted({engine.base for engine in self.engines.values()})
        for name, deployment in self.deployments.items():
            if deployment.base not in bases:
                raise ValueError(
                    f"deployments.{name}.base {deployment.base!r}: no engine serves it; accepted: {', '.join(bases)}"
                )
        for key, schedule in self.named_schedules().items():
            self._check_schedule(key, schedule)
        return self

    def named_schedules(self) -> dict[str, ScheduleSettings]:
        """Return every schedule by its table: `schedule`, `schedules.NAME`."""
        more = {f"schedules.{name}": schedule for name, schedule in self.schedules.items()}
        return {"schedule": self.schedule, **more}

    def _check_schedule(self, key: str, schedule: ScheduleSettings) -> None:
        """Raise `ValueError` for a schedule whose runs would be refused."""
        # The table that nobody wrote names a deployment that need not exist.
        asked = schedule.enabled or "deployment" in schedule.model_fields_set
        if asked and schedule.deployment not in self.deployments:
            raise ValueError(
                f"{key}.deployment {schedule.deployment!r}: no such deployment; "
                f"accepted: {', '.join(self.deployments)}"
            )
        if schedule.recipe is None and not schedule.params:
            return
        # Only where needed: the settings are read at each command's start.
        from align.errors import RecipeError
        from align.recipe import recipe

        if schedule.recipe is not None and schedule.recipe not in recipe.names():
            accepted = ", ".join(recipe.names())
            raise ValueError(f"{key}.recipe {schedule.recipe!r}: no such recipe; accepted: {accepted}")
        try:
            recipe.resolve(schedule.method, schedule.qlora, schedule.params, schedule.recipe)
        except RecipeError as error:
            name = error.field if error.field in ("method", "recipe") else f"params.{error.field}"
            raise ValueError(f"{key}.{name} {error.value!r}: accepted: {error.accepted}") from error

    @field_validator("deployments")
    @classmethod
    def _names(cls, value: dict[str, DeploymentSettings]) -> dict[str, DeploymentSettings]:
        if not value:
            raise ValueError("at least one deployment is needed")
        for name in value:
            if "@" in name or "/" in name or not name:
                raise ValueError(f"a deployment's name has no '@' or '/': {name!r}")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Command line over environment over file over defaults."""
        path = settings_cls.model_config.get("toml_file")
        file = (_TomlFile(settings_cls, toml_file=path),) if path else ()
        return (init_settings, env_settings, *file)
