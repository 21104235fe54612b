"""Registration of environments from cards: one YAML file per id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import gymnasium as gym
import yaml

from hpo_gym.errors import DataIntegrityError, InvalidSettingError, UnknownNameError, unknown_name
from hpo_gym.mdp.settings import EpisodeSettings
from hpo_gym.sources import check_source_options, source_names
from hpo_gym.tasks.splits import PROTOCOLS, SPLITS
from hpo_gym.tasks.subsets import check_subset

__all__ = ["EnvironmentCard", "packaged_cards", "register_card", "register_packaged_cards", "registered_ids"]

# Gymnasium's registry does not tell which of its ids came from cards. A dictionary, for its order.
_FROM_CARDS: dict[str, None] = {}


@dataclass(frozen=True)
class EnvironmentCard:
    """What is registered under one id.

    Args:
        id: The Gymnasium id, e.g. ``HPO-OpenML-v0``.
        description: One paragraph.
        source: Where the tasks come from.
        space: Default search space.
        split: Default split.
        protocol: Default split protocol.
        metric: Optimised metric; ``None`` means the source's main one.
        source_options: Further arguments of the source's loader.
        max_tasks: Only so many tasks of the split; ``None`` means all.
        tasks_seed: Which ones.
        episode: Fields of :class:`~hpo_gym.mdp.EpisodeSettings`.
        entry_point: Class of the scalar environment.
        vector_entry_point: Class of the vector environment.

    Raises:
        UnknownNameError: For an unknown source, option of it, split, protocol or episode setting. Its spaces are known
            once it is loaded, which is when the environment is made.
        InvalidSettingError: For a value of the wrong type, or an id that Gymnasium cannot parse.
    """

    id: str
    description: str
    source: str
    space: str | None = None
    split: str = "train"
    protocol: str = "dataset-disjoint"
    metric: str | None = None
    source_options: Mapping[str, Any] = field(default_factory=dict)
    max_tasks: int | None = None
    tasks_seed: int = 0
    episode: Mapping[str, Any] = field(default_factory=dict)
    entry_point: str = "hpo_gym.envs:HPOEnv"
    vector_entry_point: str = "hpo_gym.envs:HPOVectorEnv"

    def __post_init__(self) -> None:
        texts = ("id", "description", "source", "split", "protocol", "entry_point", "vector_entry_point")
        for name in (*texts, "space", "metric"):
            value = getattr(self, name)
            if not isinstance(value, str) and (value is not None or name in texts):
                raise InvalidSettingError(f"{name}={value!r} of an environment card must be text: quote it.")
        for name in ("source_options", "episode"):
            if not isinstance(getattr(self, name), Mapping):
                raise InvalidSettingError(
                    f"{name}={getattr(self, name)!r} of the environment card {self.id!r} must be a mapping of names "
                    "to values; leave it out if there are none."
                )
        try:
            gym.envs.registration.parse_env_id(self.id)
        except gym.error.Error as error:
            raise InvalidSettingError(
                f"id={self.id!r} is no id of an environment ({error}). Write it like 'HPO-OfMine-v0'."
            ) from error
        if self.source not in source_names():
            remedy = "A source of your own must be registered first: hpo_gym.sources.register_source."
            raise unknown_name("source", self.source, source_names(), remedy)
        for kind, value, allowed in (("split", self.split, SPLITS), ("protocol", self.protocol, PROTOCOLS)):
            if value not in allowed:
                raise unknown_name(kind, value, allowed)
        check_source_options(self.source, self.source_options)
        check_subset(self.max_tasks, self.tasks_seed)
        EpisodeSettings.from_mapping(self.episode)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], origin: str = "card") -> EnvironmentCard:
        """Build a card from parsed YAML; a key without a value is as if left out.

        Raises:
            UnknownNameError: For an unknown key, with the closest match.
            InvalidSettingError: If ``id``, ``description`` or ``source`` is missing.
        """
        known = [item.name for item in fields(cls)]
        of_episode = [item.name for item in fields(EpisodeSettings)]
        for key in values:
            if key not in known:
                if key in of_episode:
                    raise UnknownNameError(
                        f"Unknown key {key!r} on the top level of {origin}: it is a setting of the episode. Put it "
                        "under 'episode:'."
                    )
                raise unknown_name(f"key in {origin}", key, known)
        given = {key: value for key, value in values.items() if value is not None}
        for key in ("id", "description", "source"):
            if not given.get(key):
                raise InvalidSettingError(f"{origin} needs a value for {key!r}.")
        return cls(**given)

    @classmethod
    def read(cls, path: str | Path) -> EnvironmentCard:
        """Read a card file.

        Raises:
            DataIntegrityError: If the file is not a YAML mapping.
        """
        path = Path(path)
        try:
            values = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise DataIntegrityError(f"Cannot read environment card {path}: {error}") from error
        if not isinstance(values, dict):
            raise DataIntegrityError(f"Environment card {path} must be a YAML mapping.")
        return cls.from_mapping(values, f"environment card {path.name}")

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of the environment's constructor."""
        arguments: dict[str, Any] = {
            "source": self.source,
            "space": self.space,
            "split": self.split,
            "protocol": self.protocol,
            "metric": self.metric,
            "source_options": dict(self.source_options) or None,
        }
        if self.max_tasks is not None:
            arguments |= {"max_tasks": self.max_tasks, "tasks_seed": self.tasks_seed}
        return arguments | dict(self.episode)


def register_card(card: EnvironmentCard | Mapping[str, Any] | str | Path) -> str:
    """Register an environment with Gymnasium and return its id.

    Args:
        card: A card, its fields as a mapping, or the path of a YAML file.

    Raises:
        UnknownNameError: For an unknown key, source, split, protocol or setting.
        InvalidSettingError: If the id is taken by another environment, or a value is illegal.
        DataIntegrityError: If the file cannot be read.
    """
    if isinstance(card, str | Path):
        card = EnvironmentCard.read(card)
    elif isinstance(card, Mapping):
        card = EnvironmentCard.from_mapping(card)
    elif not isinstance(card, EnvironmentCard):
        raise InvalidSettingError(
            f"register_card({card!r}): a card is the path of a YAML file, a mapping of its keys to values, or an "
            "EnvironmentCard."
        )
    taken = gym.registry.get(card.id)
    if taken is not None:
        if taken.kwargs == card.arguments() and taken.entry_point == card.entry_point:
            _FROM_CARDS[card.id] = None
            return card.id
        raise InvalidSettingError(
            f"The id {card.id!r} is already registered with other arguments. Give the card another "
            "id, e.g. with a higher version suffix."
        )
    gym.register(
        id=card.id,
        entry_point=card.entry_point,
        vector_entry_point=card.vector_entry_point,
        kwargs=card.arguments(),
    )
    _FROM_CARDS[card.id] = None
    return card.id


def registered_ids() -> tuple[str, ...]:
    """Return the ids of all registered cards, those that travel with hpo_gym first."""
    return tuple(name for name in _FROM_CARDS if name in gym.registry)


def packaged_cards() -> list[Path]:
    """Return the card files that travel with hpo_gym, sorted by name.

    An installed wheel holds them as package data; a checkout, in its ``envs_registry`` folder.

    Raises:
        DataIntegrityError: If the installation holds none.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "envs_registry", package.parent / "envs_registry"):
        cards = sorted(folder.glob("*.yaml"))
        if cards:
            return cards
    raise DataIntegrityError(
        f"This installation of hpo_gym holds no environment cards (looked beside {package}). "
        "Reinstall it: `pip install --force-reinstall .` in a checkout of hpo_gym."
    )


def register_packaged_cards() -> list[str]:
    """Register every packaged card and return the ids."""
    return [register_card(path) for path in packaged_cards()]
