"""The trained closures of this package: folders below ``closures/pretrained``, each named after its closure."""

from __future__ import annotations

import json
from pathlib import Path

from closures import operators
from closures.operators.role import ROLES

PRETRAINED = Path(__file__).parents[1] / "pretrained"


def shipped() -> dict[str, Path]:
    """Folders by name; networks for the pressure equation are no closures."""
    cards = sorted(PRETRAINED.glob("*/card.json"))
    return {card.parent.name: card.parent for card in cards if not _reads_residuals(card)}


def with_artefact() -> list[str]:
    """The names that need ``artefact = "FOLDER"``: roles and architectures."""
    acting = [name for name, role in ROLES.items() if role.is_closure]
    return [name for name in (*acting, *operators.names()) if name not in shipped()]


def _reads_residuals(card: Path) -> bool:
    """Without building anything; a damaged card is refused when it is used, not when it is listed."""
    try:
        return json.loads(card.read_text(encoding="utf-8")).get("inputs") == "residual"
    except (OSError, ValueError, AttributeError):
        return False
