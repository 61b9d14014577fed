"""Where a training worker runs: the processor, or the cards with most room."""

from __future__ import annotations

from collections.abc import Sequence

from common.gpu_cards import VISIBLE, Card
from trimtab.errors import TrimtabError

ORDER = "CUDA_DEVICE_ORDER"
"""How CUDA counts cards; by default the fastest is the first, which is not how the driver's tool counts."""


class UnknownDevice(TrimtabError):
    """`training.device` names a card that is not there; the text says which are."""


def choose_cards(device: str, cards: Sequence[Card], number: int = 1) -> list[Card]:
    """Return the cards of a run in `number` processes, those with most room first; none for the processor.

    `device` is the setting `training.device`: auto, cpu, cuda, or cuda:N with the driver's index of a card. Raises
    UnknownDevice.
    """
    if device == "cpu":
        return []
    if device.startswith("cuda:"):
        found = [card for card in cards if f"cuda:{card.index}" == device]
        if cards and not found:
            accepted = ", ".join(f"cuda:{card.index}" for card in cards)
            raise UnknownDevice(f"training.device is {device}; accepted: auto, cpu, cuda, {accepted}")
        return found
    return sorted(cards, key=lambda card: card.free, reverse=True)[: max(1, number)]


def worker_environment(device: str, cards: Sequence[Card], number: int = 1) -> dict[str, str]:
    """Return the environment that gives a worker its cards, empty where it may take what it finds. Raises UnknownDevice."""
    if device == "cpu":
        return {VISIBLE: ""}
    chosen = choose_cards(device, cards, number)
    if not chosen:
        return {VISIBLE: device.removeprefix("cuda:"), ORDER: "PCI_BUS_ID"} if ":" in device else {}
    if len(cards) == 1:
        return {}
    return {VISIBLE: ",".join(str(card.index) for card in chosen), ORDER: "PCI_BUS_ID"}
