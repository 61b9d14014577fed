"""vLLM plugin: finds an adapter by its name, so a fresh engine needs nobody to load adapters into it.

vLLM asks for every model name it does not know. Only names of the form `a-<16 hex>` are answered, and only
with a directory of that name directly in `TRIMTAB_ADAPTERS_DIR`. Runs inside the engine; without that
variable it answers nothing.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from serve.vllm_plugin.patches import group_rows_by_adapter, mask_rows_without_adapter
from serve.vllm_plugin.pinned_adapters import pin_adapters_in_one_block

if TYPE_CHECKING:
    from vllm.lora.request import LoRARequest

VARIABLE = "TRIMTAB_ADAPTERS_DIR"
_NAME = re.compile(r"a-[0-9a-f]{16}")


def find(name: str, adapters_dir: str | None) -> Path | None:
    """Return the adapter's directory, or None for a name that is not ours, not there or a link elsewhere."""
    if not adapters_dir or not _NAME.fullmatch(name):
        return None
    path = Path(adapters_dir) / name
    if path.is_symlink() or not (path / "adapter_config.json").is_file():
        return None
    return path.absolute()


def register() -> None:
    """Entry point of the group `vllm.general_plugins`; vLLM calls it in each of its processes."""
    from vllm.lora.request import LoRARequest
    from vllm.lora.resolver import LoRAResolver, LoRAResolverRegistry
    from vllm.platforms import current_platform

    class AdapterDirectory(LoRAResolver):  # type: ignore[misc]
        """Resolves published adapters from the adapter directory."""

        async def resolve_lora(self, base_model_name: str, lora_name: str) -> LoRARequest | None:
            """Answer a request for a published adapter; None leaves the name unknown."""
            path = find(lora_name, os.environ.get(VARIABLE))
            # vLLM overwrites the number; it only has to be positive.
            return None if path is None else LoRARequest(lora_name, 1, str(path))

    if os.environ.get(VARIABLE) and current_platform.is_cpu():
        mask_rows_without_adapter()
        group_rows_by_adapter()
    if os.environ.get(VARIABLE) and current_platform.is_cuda():
        pin_adapters_in_one_block()
    if "trimtab" not in LoRAResolverRegistry.get_supported_resolvers():
        LoRAResolverRegistry.register_resolver("trimtab", AdapterDirectory())
