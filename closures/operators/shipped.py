"""The trained closures of this package: folders below ``closures/pretrained``, each named after its closure."""

from __future__ import annotations

import json
from pathlib import Path

from closures import operators
from closures.operators.role import ROLES

ELSEWHERE = {role.inputs for role in ROLES.values() if not role.is_closure}
PRETRAINED = Path(__file__).parents[1] / "pretrained"


def shipped() -> dict[str, Path]:
    """Folders by name; networks for the pressure equation and for walls are no closures."""
    return {card.parent.name: card.parent for card in _cards() if _inputs(card) not in ELSEWHERE}


def wall_models() -> dict[str, Path]:
    """Folders of trained wall models by name."""
    return {card.parent.name: card.parent for card in _cards() if _inputs(card) == ROLES["wall_model"].inputs}


def with_artefact() -> list[str]:
    """The names that need ``artefact = "FOLDER"``: roles and architectures."""
    acting = [name for name, role in ROLES.items() if role.is_closure]
    return [name for name in (*acting, *operators.names()) if name not in shipped()]


def _cards() -> list[Path]:
    return sorted(PRETRAINED.glob("*/card.json"))


def _inputs(card: Path) -> str:
    """Without building anything; a damaged card is refused when it is used, not when it is listed."""
    try:
        return str(json.loads(card.read_text(encoding="utf-8")).get("inputs"))
    except (OSError, ValueError, AttributeError):
        return ""
