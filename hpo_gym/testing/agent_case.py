"""What every agent must do, learned or not."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import pytest
import torch
from torch import Tensor

from hpo_gym.envs import HPOVectorEnv
from hpo_gym.errors import InvalidSettingError
from hpo_gym.mdp.observations import Observation
from hpo_gym.seeding import generator

__all__ = ["AgentCase", "AnyAgent", "AnyTrainableAgent", "TrainableAgentCase"]


class AnyAgent(Protocol):
    """What an agent needs; see ``agents/base.py`` for its meaning."""

    def act(
        self, observation: Observation, mask: Tensor | None, draws: torch.Generator, explore: bool = False
    ) -> Tensor:
        """Choose one action per row."""


class AnyTrainableAgent(AnyAgent, Protocol):
    """What an agent needs that can be trained."""

    learns: bool

    def train(self, env: HPOVectorEnv, callback: Callable[..., bool]) -> None:
        """Interact with ``env`` until done or until the callback returns ``True``."""

    def state_dict(self, resumable: bool = True) -> dict[str, Any]:
        """Return the state as tensors and plain values."""

    def load_state_dict(self, saved: Mapping[str, Any], resumable: bool = True) -> None:
        """Restore a state: to go on training, or only to act like it."""


class AgentCase:
    """Subclass, and give the fixtures ``make_agent`` and ``make_vector_env``.

    ``make_vector_env(num_envs)`` returns an environment that the agent can use, ``make_agent(env, seed)`` a fresh
    agent for it, ready to act.
    """

    @pytest.fixture
    def make_vector_env(self) -> Callable[[int], HPOVectorEnv]:
        """Return the factory of an environment."""
        raise NotImplementedError("Give your test class a fixture make_vector_env.")

    @pytest.fixture
    def make_agent(self) -> Callable[[HPOVectorEnv, int], AnyAgent]:
        """Return the factory of the agent under test."""
        raise NotImplementedError("Give your test class a fixture make_agent.")

    def test_every_action_is_legal(self, make_vector_env: Any, make_agent: Any) -> None:
        env = make_vector_env(17)
        agent = make_agent(env, 0)
        observation, info = env.reset(seed=0)
        draws = generator(0, "testing", "act", device=env.device)
        for step in range(14):
            mask = info.get("action_mask")
            action = agent.act(observation, mask, draws, explore=step % 2 == 0)
            env.engine.check_action(action, env.num_envs)
            if mask is not None:
                assert bool(mask.gather(1, action[:, None]).all()), "an illegal action"
            observation, _, _, _, info = env.step(action)

    def test_acting_draws_from_the_given_stream_alone(self, make_vector_env: Any, make_agent: Any) -> None:
        env = make_vector_env(16)
        agent = make_agent(env, 0)
        observation, info = env.reset(seed=0)
        untouched = torch.random.get_rng_state()
        mask, streams = info.get("action_mask"), [generator(0, "testing", device=env.device) for _ in range(2)]
        actions = [agent.act(observation, mask, draws, explore=True) for draws in streams]
        assert torch.equal(actions[0], actions[1])
        assert torch.equal(untouched, torch.random.get_rng_state()), "the global generator was used"


class TrainableAgentCase(AgentCase):
    """The same for agents that can be trained.

    An agent of ``make_agent`` trains on a few thousand transitions, and learns within the first half of them.
    """

    @pytest.fixture
    def make_agent(self) -> Callable[[HPOVectorEnv, int], AnyTrainableAgent]:
        """Return the factory of the agent under test."""
        raise NotImplementedError("Give your test class a fixture make_agent.")

    def test_training_is_counted_in_transitions(self, make_vector_env: Any, make_agent: Any) -> None:
        env = make_vector_env(32)
        agent = make_agent(env, 0)
        env.reset(seed=0)
        counts: list[int] = []

        def callback(steps: int, logs: Mapping[str, Any], info: Mapping[str, Any]) -> bool:
            counts.append(steps)
            return len(counts) == 5

        agent.train(env, callback)
        assert counts == [32 * (index + 1) for index in range(5)]

    def test_one_seed_trains_one_agent_interrupted_or_not(self, make_vector_env: Any, make_agent: Any) -> None:
        torch.manual_seed(1)
        unbroken = _trained(make_vector_env, make_agent, 3, _INTERRUPTED)
        torch.manual_seed(2)
        env = make_vector_env(32)
        agent = make_agent(env, 3)
        env.reset(seed=3)
        agent.train(env, lambda steps, logs, info: steps >= _INTERRUPTED // 2)
        saved = _through_file({"agent": agent.state_dict(), "env": env.state_dict()})
        later = make_vector_env(32)
        resumed = make_agent(later, 99)
        resumed.load_state_dict(saved["agent"])
        later.load_state_dict(saved["env"])
        resumed.train(later, lambda steps, logs, info: steps >= _INTERRUPTED)
        assert_same(unbroken, resumed)

    def test_a_trained_agent_learned_and_acts_alike_wherever_it_is_loaded(
        self, make_vector_env: Any, make_agent: Any
    ) -> None:
        env = make_vector_env(256)
        agent = _trained(make_vector_env, make_agent, 0)
        regrets = [_final_regret(one, env) for one in (make_agent(env, 0), agent)]
        if agent.learns:
            assert regrets[1] < 0.5 * regrets[0], f"final regret {regrets[0]:.4f} before, {regrets[1]:.4f} after"
        else:
            assert abs(regrets[1] - regrets[0]) < 1e-6
        self._acts_alike_after_loading(agent, make_agent, make_vector_env(64))
        self._needs_nothing_of_its_device_to_act(agent, make_agent, make_vector_env(32))

    @staticmethod
    def _acts_alike_after_loading(agent: Any, make_agent: Any, env: HPOVectorEnv) -> None:
        other = make_agent(env, 5)
        other.load_state_dict(_through_file(agent.state_dict(resumable=False)))
        observation, info = env.reset(seed=1)
        mask = info.get("action_mask")
        streams = [generator(0, "testing", device=env.device) for _ in range(2)]
        pairs = zip((agent, other), streams, strict=True)
        actions = [one.act(observation, mask, draws) for one, draws in pairs]
        assert torch.equal(actions[0], actions[1])

    @staticmethod
    def _needs_nothing_of_its_device_to_act(agent: Any, make_agent: Any, env: HPOVectorEnv) -> None:
        policy, whole = agent.state_dict(resumable=False), agent.state_dict()
        assert not list(_streams(policy)), "a policy holds the state of a generator"
        for state, name in _streams(whole):
            # What a generator of another kind of device saves; 16 bytes on CUDA, thousands on the CPU.
            state[name] = torch.zeros(17, dtype=torch.uint8)
        other = make_agent(env, 5)
        other.load_state_dict(whole, resumable=False)
        assert_same(agent, other)
        if list(_streams(whole)):
            with pytest.raises(InvalidSettingError, match="device"):
                make_agent(env, 5).load_state_dict(whole)


# Transitions of the trainings that are compared bit by bit.
_INTERRUPTED = 2_000


def _trained(make_vector_env: Any, make_agent: Any, seed: int, stop: float = float("inf")) -> Any:
    env = make_vector_env(32)
    agent = make_agent(env, seed)
    env.reset(seed=seed)
    agent.train(env, lambda steps, logs, info: steps >= stop)
    return agent


def _final_regret(agent: Any, env: HPOVectorEnv) -> float:
    observation, info = env.reset(seed=0)
    draws = generator(0, "testing", "regret", device=env.device)
    done = torch.zeros(env.num_envs, dtype=torch.bool, device=env.device)
    regret = torch.zeros(env.num_envs, device=env.device)
    while not bool(done.all()):
        observation, _, ended, _, info = env.step(agent.act(observation, info.get("action_mask"), draws))
        # Episodes that a repeated trial ends do not end together: the first one of every row counts.
        regret = torch.where(ended & ~done, info["final_info"]["regret"], regret)
        done |= ended
    return float(regret.mean())


def _through_file(state: Mapping[str, Any]) -> Any:
    """Save and load without pickle: what a checkpoint may hold."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def _streams(state: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Return where a state holds those of generators: the only byte tensors that long."""
    for name, value in state.items():
        if isinstance(value, dict):
            yield from _streams(value)
        elif isinstance(value, Tensor) and value.dtype == torch.uint8 and value.numel() > 15:
            yield state, name


def assert_same(first: Any, second: Any) -> None:
    """Compare the policies of two agents bit by bit."""
    states = [one.state_dict(resumable=False) for one in (first, second)]
    flat = [dict(_leaves(state)) for state in states]
    assert flat[0].keys() == flat[1].keys()
    for name, value in flat[0].items():
        same = torch.equal(value, flat[1][name]) if isinstance(value, Tensor) else value == flat[1][name]
        assert same, f"{name} differs"


def _leaves(state: Mapping[str, Any], prefix: str = "") -> Any:
    for name, value in state.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
