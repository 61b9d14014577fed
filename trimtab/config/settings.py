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
        if self.schedule.deployment not in self.deployments:
            raise ValueError(
                f"schedule.deployment {self.schedule.deployment!r}: no such deployment; "
                f"accepted: {', '.join(self.deployments)}"
            )
        return self

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
