"""Registration: packaged cards, overrides, cards of a user's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import pytest
import yaml

import hpo_gym
from hpo_gym.envs import HPOEnv, HPOVectorEnv
from hpo_gym.errors import DataIntegrityError, InvalidSettingError, UnknownNameError
from hpo_gym.registration import packaged_cards
from hpo_gym.sources import register_source, source_names
from hpo_gym.tasks.suite import TaskSuite
from hpo_gym.testing.tiny import quadratic_suite

CARD = {
    "id": "HPO-OfMine-v0",
    "description": "A card of a user's own.",
    "source": "synthetic",
    "space": "bbob-2d",
    "split": "all",
    "episode": {"budget": 7, "action": "continuous"},
}


@pytest.fixture(autouse=True)
def clean_registry() -> Iterator[None]:
    before = dict(gym.registry)
    yield
    gym.registry.clear()
    gym.registry.update(before)


def test_every_promised_id_is_registered() -> None:
    promised = {
        "HPO-OpenML-v0",
        "HPO-OpenMLContinuous-v0",
        "HPO-OpenMLMultiFidelity-v0",
        "HPO-YAHPO-v0",
        "HPO-YAHPOContinuous-v0",
        "HPO-HPOB-v0",
        "HPO-HPOBContinuous-v0",
        "HPO-Synthetic-v0",
        "HPO-SyntheticContinuous-v0",
    }
    assert promised <= set(hpo_gym.registered_ids()) <= set(gym.registry)


@pytest.mark.parametrize("path", packaged_cards(), ids=lambda path: path.stem)
def test_cards_describe_what_they_register(path: Path) -> None:
    card = yaml.safe_load(path.read_text())
    spec = gym.spec(card["id"])
    assert spec.kwargs["source"] == card["source"]
    assert spec.kwargs["action"] == card["episode"]["action"]
    assert len(card["description"]) > 40


def test_make_and_make_vec_pick_their_classes() -> None:
    assert isinstance(gym.make("HPO-Synthetic-v0").unwrapped, HPOEnv)
    envs = gym.make_vec("HPO-Synthetic-v0", num_envs=3)
    assert isinstance(envs.unwrapped, HPOVectorEnv) and envs.num_envs == 3


def test_keyword_arguments_override_the_card() -> None:
    env = gym.make("HPO-Synthetic-v0", space="bbob-3d", budget=9, action="continuous", split="all")
    engine = env.unwrapped.engine
    assert (engine.suite.name, engine.settings.budget) == ("bbob-3d", 9)
    assert env.action_space.shape == (3,)
    envs = gym.make_vec("HPO-Synthetic-v0", num_envs=2, space="bbob-3d", budget=9)
    assert envs.unwrapped.engine.settings.budget == 9


def test_own_card_as_mapping() -> None:
    packaged = hpo_gym.registered_ids()
    assert hpo_gym.register_card(CARD) == "HPO-OfMine-v0"
    assert hpo_gym.registered_ids() == (*packaged, "HPO-OfMine-v0")
    gym.register("HPO-NoCard-v0", entry_point="hpo_gym.envs:HPOEnv")
    assert hpo_gym.registered_ids() == (*packaged, "HPO-OfMine-v0")
    assert gym.make("HPO-OfMine-v0").unwrapped.engine.settings.budget == 7
    assert gym.make_vec("HPO-OfMine-v0", num_envs=2).num_envs == 2


def test_own_card_as_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(CARD))
    assert hpo_gym.register_card(path) == hpo_gym.register_card(str(path)) == CARD["id"]
    assert gym.make(CARD["id"]).unwrapped.suite.name == "bbob-2d"


def test_same_card_twice_is_fine_another_is_not() -> None:
    hpo_gym.register_card(CARD)
    hpo_gym.register_card(dict(CARD))
    with pytest.raises(InvalidSettingError, match="already registered"):
        hpo_gym.register_card(CARD | {"space": "bbob-4d"})
    with pytest.raises(InvalidSettingError, match="HPO-OpenML-v0"):
        hpo_gym.register_card(CARD | {"id": "HPO-OpenML-v0"})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"spaec": "bbob-2d"}, r"'spaec'.*Did you mean 'space'"),
        ({"action": "continuous"}, r"'action' on the top level of card: .*Put it under 'episode:'"),
        ({"budget": 5}, r"'budget' on the top level of card: .*Put it under 'episode:'"),
        ({"episode": {"bugdet": 5}}, r"'bugdet'.*Did you mean 'budget'"),
        ({"episode": {"action": "gridstep"}}, r"'gridstep'.*Did you mean 'grid_step'"),
        ({"source": "sinthetic"}, r"'sinthetic'.*Did you mean 'synthetic'.*register_source"),
        ({"split": "tets"}, r"'tets'.*Did you mean 'test'"),
        ({"protocol": "per_space"}, r"'per_space'.*Did you mean 'per-space'"),
    ],
)
def test_unknown_key_names_the_closest(change: dict[str, object], match: str) -> None:
    with pytest.raises(UnknownNameError, match=match):
        hpo_gym.register_card(CARD | change)
    assert "HPO-OfMine-v0" not in gym.registry


@pytest.mark.parametrize("key", ["id", "description", "source"])
def test_missing_key_is_named(key: str) -> None:
    with pytest.raises(InvalidSettingError, match=key):
        hpo_gym.register_card({name: value for name, value in CARD.items() if name != key})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"id": 5}, r"id=5 .*must be text"),
        ({"id": "HPO Of Mine"}, r"id='HPO Of Mine'.*HPO-OfMine-v0"),
        ({"split": 3}, r"split=3 .*must be text"),
        ({"space": 3}, r"space=3 .*must be text"),
        ({"metric": ["gap"]}, r"metric=\['gap'\].*must be text"),
        ({"entry_point": 3}, r"entry_point=3 .*must be text"),
        ({"episode": "grid_step"}, r"episode='grid_step'.*mapping"),
        ({"source_options": ["seed"]}, r"source_options=\['seed'\].*mapping"),
        ({"source_options": {"metric": "gap"}}, r"'metric'.*environment argument, metric='gap'"),
        ({"episode": {"terminate_on_repeat": "no"}}, r"terminate_on_repeat='no'.*True or False"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(change: dict[str, object], match: str) -> None:
    before = set(gym.registry)
    with pytest.raises(InvalidSettingError, match=match):
        hpo_gym.register_card(CARD | change)
    assert set(gym.registry) == before


def test_an_option_that_the_source_has_not_is_named() -> None:
    with pytest.raises(UnknownNameError, match=r"'sede'.*Did you mean 'seed'"):
        hpo_gym.register_card(CARD | {"source_options": {"sede": 1}})


@pytest.mark.parametrize("card", [5, None, ["HPO-OfMine-v0"]])
def test_what_is_no_card_is_refused(card: object) -> None:
    with pytest.raises(InvalidSettingError, match=r"register_card\(.*path of a YAML file"):
        hpo_gym.register_card(card)  # type: ignore[arg-type]


def test_a_key_without_a_value_is_as_if_left_out(tmp_path: Path) -> None:
    path = tmp_path / "blank.yaml"
    kept = {name: value for name, value in CARD.items() if name not in ("episode", "split")}
    path.write_text(yaml.safe_dump(kept) + "episode:\nsource_options:\nsplit:\nprotocol:\n")
    env = gym.make(hpo_gym.register_card(path))
    assert env.unwrapped.engine.split == "train" and env.unwrapped.engine.settings.budget == 50


@pytest.mark.parametrize("text", ["just text", "- a\n- list", "id: [unclosed", ""])
def test_unreadable_card_names_the_file(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(DataIntegrityError, match=r"broken\.yaml"):
        hpo_gym.register_card(path)
    with pytest.raises(DataIntegrityError, match=r"absent\.yaml"):
        hpo_gym.register_card(tmp_path / "absent.yaml")


def test_own_source_under_an_own_card() -> None:
    def load_tiny(
        space: str | None = None,
        *,
        metric: str | None = None,
        protocol: str = "dataset-disjoint",
        data_dir: str | None = None,
        num_tasks: int = 3,
    ) -> TaskSuite:
        return quadratic_suite(num_tasks)

    register_source("tiny-of-mine", load_tiny)
    assert "tiny-of-mine" in source_names()
    card = {
        "id": "HPO-Tiny-v0",
        "description": "Quadratic bowls.",
        "source": "tiny-of-mine",
        "split": "all",
        "source_options": {"num_tasks": 5},
    }
    hpo_gym.register_card(card)
    assert gym.make("HPO-Tiny-v0").unwrapped.suite.num_tasks == 5
    with pytest.raises(InvalidSettingError, match="already a source"):
        register_source("tiny-of-mine", quadratic_suite)
    with pytest.raises(UnknownNameError, match=r"'num_task'.*Did you mean 'num_tasks'"):
        gym.make("HPO-Tiny-v0", source_options={"num_task": 2})
