"""Replay buffers, priorities and transitions over several steps."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.multi_step import MultiStep
from agents.replay import PrioritisedReplay, ReplayBuffer, Transitions
from hpo_gym.errors import InvalidSettingError
from hpo_gym.seeding import generator


def transitions(count: int, first: int = 0) -> Transitions:
    number = torch.arange(first, first + count)
    return Transitions(
        observation=number[:, None].float().expand(-1, 3).clone(),
        action=number % 4,
        reward=number.float(),
        following=number[:, None].float().expand(-1, 3) + 0.5,
        terminated=number % 2 == 0,
        discount=torch.full((count,), 0.9),
        following_mask=torch.ones(count, 4, dtype=torch.bool),
    )


@pytest.fixture(params=[ReplayBuffer, PrioritisedReplay])
def kind(request: pytest.FixtureRequest) -> type[ReplayBuffer]:
    return request.param


def test_replay_keeps_the_newest_transitions_row_by_row(kind):
    buffer = kind(10)
    for first in range(0, 21, 7):
        buffer.append(transitions(7, first))
    drawn = buffer.sample(2_000, generator(0, "test")).transitions
    assert set(drawn.reward.int().tolist()) == set(range(11, 21))
    assert torch.equal(drawn.following[:, 0], drawn.observation[:, 0] + 0.5)
    assert torch.equal(drawn.action, drawn.reward.long() % 4)
    counts = torch.bincount(drawn.reward.long(), minlength=21)[11:]
    assert int(counts.min()) > 140, "sampling is far from uniform"


def test_replay_accepts_a_batch_larger_than_itself_and_refuses_to_sample_nothing(kind):
    buffer = kind(5)
    with pytest.raises(InvalidSettingError, match="empty"):
        buffer.sample(1, generator(0, "test"))
    buffer.append(transitions(12))
    assert set(buffer.sample(200, generator(0, "test")).transitions.reward.int().tolist()) == {7, 8, 9, 10, 11}


def test_replay_state_goes_on_where_it_was(kind):
    first, second = kind(10), kind(10)
    first.append(transitions(7))
    if isinstance(first, PrioritisedReplay):
        first.update(torch.tensor([1, 3]), torch.tensor([5.0, 0.01]))
    second.load_state_dict(first.state_dict())
    for buffer in (first, second):
        buffer.append(transitions(7, 7))
    drawn = [buffer.sample(50, generator(1, "test")).transitions.reward for buffer in (first, second)]
    assert torch.equal(drawn[0], drawn[1])
    with pytest.raises(InvalidSettingError, match="buffer_size"):
        kind(9).load_state_dict(first.state_dict())


def test_continuous_actions_and_members_are_kept_in_their_shapes(kind):
    buffer = kind(8)
    count = 5
    batch = transitions(count)
    batch.action, batch.members = torch.rand(count, 3), torch.rand(count, 6) < 0.5
    batch.following_mask = None
    rows = buffer.append(batch)
    stored = buffer.at(rows)
    assert torch.equal(stored.action, batch.action) and torch.equal(stored.members, batch.members)
    assert stored.following_mask is None


@settings(max_examples=40, deadline=None)
@given(
    priorities=st.lists(st.floats(0.01, 100.0), min_size=1, max_size=33),
    exponent=st.sampled_from([0.3, 0.6, 1.0]),
)
def test_transitions_are_drawn_in_proportion_to_their_priority(priorities, exponent):
    buffer = PrioritisedReplay(40, exponent=exponent)
    rows = buffer.append(transitions(len(priorities)))
    error = torch.tensor(priorities)
    buffer.update(rows, error)
    drawn = buffer.sample(20_000, generator(0, "test"), correction=1.0)
    expected = error.double() ** exponent
    expected /= expected.sum()
    shares = torch.bincount(drawn.rows, minlength=len(priorities)) / 20_000
    # Stratified: each share is within one part per stratum border of what it should be.
    torch.testing.assert_close(shares.double(), expected, atol=2e-4, rtol=1e-3)
    # With the full correction a weight undoes how likely its draw was.
    undone = drawn.weights.double() * expected[drawn.rows]
    torch.testing.assert_close(undone, undone[:1].expand_as(undone), atol=0.0, rtol=1e-3)
    assert float(drawn.weights.max()) == 1.0


def test_new_transitions_have_the_largest_priority_so_far():
    buffer = PrioritisedReplay(100, exponent=1.0)
    buffer.update(buffer.append(transitions(50)), torch.full((50,), 4.0))
    buffer.append(transitions(50, 50))
    drawn = buffer.sample(10_000, generator(0, "test"))
    assert float((drawn.rows >= 50).float().mean()) == pytest.approx(0.5, abs=0.01)


def step(rewards: list[float], ends: list[bool], number: int) -> Transitions:
    count = len(rewards)
    return Transitions(
        observation=torch.full((count, 1), float(number)),
        action=torch.full((count,), number),
        reward=torch.tensor(rewards),
        following=torch.full((count, 1), number + 0.5),
        terminated=torch.tensor(ends),
        discount=torch.zeros(count),
        following_mask=torch.full((count, 3), number % 2 == 0),
    )


def test_several_steps_are_joined_as_worked_by_hand():
    """Three steps, discount one half; the first episode goes on, the second ends with its second step."""
    join = MultiStep(3, 0.5)
    assert join(step([1.0, 1.0], [False, False], 0)) is None
    assert join(step([2.0, 2.0], [False, True], 1)) is None
    joined = join(step([4.0, 4.0], [False, False], 2))
    assert joined.reward.tolist() == [1.0 + 0.5 * 2.0 + 0.25 * 4.0, 1.0 + 0.5 * 2.0]
    assert joined.discount.tolist() == [0.125, 0.25]
    assert joined.terminated.tolist() == [False, True]
    assert joined.following.tolist() == [[2.5], [1.5]]
    assert joined.following_mask.tolist() == [[True] * 3, [False] * 3]
    assert joined.action.tolist() == [0, 0] and joined.observation.tolist() == [[0.0], [0.0]]
    later = join(step([8.0, 8.0], [True, False], 3))
    # The second row began anew with step 2: what is joined from step 1 on is its last step alone.
    assert later.reward.tolist() == [2.0 + 0.5 * 4.0 + 0.25 * 8.0, 2.0]
    assert later.terminated.tolist() == [True, True]


def test_one_step_is_left_as_it_is():
    single = step([1.0, 2.0], [False, True], 4)
    joined = MultiStep(1, 0.9)(single)
    assert torch.equal(joined.reward, single.reward) and torch.equal(joined.following, single.following)
    assert joined.discount.tolist() == pytest.approx([0.9, 0.9])


def test_steps_that_wait_survive_a_checkpoint():
    first, second = MultiStep(3, 0.9), MultiStep(3, 0.9)
    for number in range(4):
        first(step([float(number)], [number == 2], number))
    second.load_state_dict(first.state_dict(), torch.device("cpu"))
    one, other = (join(step([7.0], [False], 9)) for join in (first, second))
    assert torch.equal(one.reward, other.reward) and torch.equal(one.following, other.following)
