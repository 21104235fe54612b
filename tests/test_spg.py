"""Sequential Policy Gradient: its formulas, its two forms, removal, and the controls of its study."""

from __future__ import annotations

import copy
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from training_runs import REPOSITORY

from agents.spg import SequentialPolicyGradient, SPGSettings
from agents.spg_controls import DeepSupervision, HeadDropout, Unattached
from agents.spg_models import perceptron
from agents.spg_settings import SPGConfig
from agents.spg_tasks import load_task
from agents.spg_trajectory import Trajectory, next_observed
from agents.task_replica import FORMS, SEARCHES, TaskReplicas, cumulative_dropout, drop
from hpo_gym.errors import InvalidSettingError, UnknownNameError
from hpo_gym.initial_weights import seeded
from hpo_gym.seeding import generator


class Net(nn.Module):
    """A user's own network, which counts its passes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.ReLU())
        self.out = nn.Linear(16, 4)
        self.passes = 0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        return self.out(self.body(inputs))


@pytest.fixture
def model() -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Net()


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    draws = generator(0, "test")
    inputs = torch.randn(200, 6, generator=draws)
    return inputs, (inputs[:, :4] + 0.5 * torch.randn(200, 4, generator=draws)).argmax(1)


def trained(model: Net, spg: SequentialPolicyGradient, batch: tuple[torch.Tensor, torch.Tensor], steps: int) -> None:
    optimizer = torch.optim.Adam([*model.parameters(), *spg.parameters()], lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        spg.loss(model(batch[0]), batch[1]).backward()
        optimizer.step()


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("form", FORMS)
def test_replicas_without_dropout_are_the_identity_at_first(search, form):
    features = torch.randn(5, 8, generator=generator(0, "features"))
    replicas = TaskReplicas(8, 3, search=search, form=form, rate=0.0, depth=2)
    for state in replicas(features, generator(0, "draws")):
        assert torch.equal(state, features)


def test_each_replica_has_lost_more_features():
    features = torch.ones(400, 50)
    states = TaskReplicas(50, 3, rate=0.2)(features, generator(0, "draws"))
    for replica, state in enumerate(states, start=1):
        assert float((state == 0).double().mean()) == pytest.approx(cumulative_dropout(0.2, replica), abs=0.015)
        assert float(state.detach().mean()) == pytest.approx(1.0, abs=0.05), "what is kept is scaled"
    assert [round(cumulative_dropout(0.2, replica), 3) for replica in (1, 2, 3)] == [0.2, 0.36, 0.488]


def test_dropout_draws_from_its_own_stream():
    before = torch.get_rng_state()
    first, second = (drop(torch.ones(100), 0.5, generator(3, "draws")) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(drop(first, 0.0, generator(3, "draws")), first)


def test_the_observed_state_ends_episodes_for_good():
    states, right = torch.tensor([1, 1, 0, 0, -1, -1]), torch.tensor([1, 0, 1, 0, 1, 0], dtype=torch.bool)
    # From 1 on or out, from 0 to -1, and from -1 to -1 or 0: the table of the paper's transition.
    assert next_observed(states, right).tolist() == [1, 0, -1, -1, -1, 0]
    draws = generator(0, "stages")
    stages, targets = torch.randn(6, 300, 3, generator=draws), torch.randint(3, (300,), generator=draws)
    episodes = Trajectory.of(stages, targets, top_k=1)
    reached = torch.cat([torch.ones(1, 300, dtype=torch.int64), episodes.correct[:-1].long()]).cumprod(0).bool()
    assert torch.equal(episodes.alive, reached)
    assert torch.equal(episodes.rewards.bool(), reached & episodes.correct)
    assert set(episodes.observed.unique().tolist()) == {-1, 0, 1}


@pytest.mark.parametrize("top_k", [1, 2])
def test_the_losses_are_those_of_the_released_code(top_k):
    """Section 2.4 of the method's description, written as loops over examples."""
    draws = generator(0, "stages")
    count, classes, weights = 40, 4, (0.4, 0.2, 0.1)
    stages = 2.0 * torch.randn(4, count, classes, generator=draws, dtype=torch.float64)
    targets = torch.randint(classes, (count,), generator=draws)
    masked = []
    alive = [1.0] * count
    summed, weighed = [0.0] * count, [1.0] * count
    for stage in range(4):
        total = 0.0
        for i in range(count):
            loss = float(F.cross_entropy(stages[stage, i], targets[i]))
            total += alive[i] * loss
            summed[i] += alive[i] * loss
        masked.append(total / (sum(alive) + 1e-6))
        for i in range(count):
            alive[i] *= float(targets[i] in stages[stage, i].topk(top_k).indices)
            if stage < 3:
                weighed[i] += weights[stage] * alive[i]
    expected = masked[0] + sum(weight * loss for weight, loss in zip(weights, masked[1:], strict=True))
    returned = sum(loss * one for loss, one in zip(summed, weighed, strict=True)) / (count + 1e-6)

    class Given(nn.Module):
        """A head that gives the prepared stages, one after the other."""

        def __init__(self) -> None:
            super().__init__()
            self.in_features, self.calls = 2, 0

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return stages[self.calls - 1]

    for loss, wanted in (("masked", expected), ("policy_gradient", returned)):
        head = Given()
        spg = SequentialPolicyGradient(head, head, SPGSettings(loss=loss, top_k=top_k))
        assert float(spg.loss(head(torch.zeros(count, 2)), targets)) == pytest.approx(wanted, rel=1e-7)
        assert dict(zip(spg.names, spg.figures.tolist(), strict=True))["stage_0_loss"] == pytest.approx(masked[0])


def test_without_masks_every_stage_learns_from_every_example(model, batch):
    settings = SPGSettings(loss="unmasked", dropout=0.0, weights=(0.5, 0.25))
    spg = SequentialPolicyGradient(model, "out", settings)
    logits = model(batch[0])
    alone = F.cross_entropy(logits, batch[1])
    assert float(spg.loss(logits, batch[1]).detach()) == pytest.approx(1.75 * float(alone.detach()), rel=1e-5)


def test_the_released_form_never_moves_a_replica_and_the_paper_s_does(model, batch):
    for form, moves in (("released", False), ("paper", True)):
        net = copy.deepcopy(model)
        spg = SequentialPolicyGradient(net, "out", SPGSettings(form=form))
        before = [weight.detach().clone() for weight in spg.parameters()]
        spg.loss(net(batch[0]), batch[1]).backward()
        assert [bool((weight.grad != 0).any()) for weight in spg.parameters()] == [moves] * len(before)
        trained(net, spg, batch, 20)
        assert [not torch.equal(old, new) for old, new in zip(before, spg.parameters(), strict=True)] == [moves] * len(
            before
        )


def test_the_released_form_of_layers_learns_nothing_but_its_last_bias(model, batch):
    moved = {}
    for form in FORMS:
        net = copy.deepcopy(model)
        spg = SequentialPolicyGradient(net, "out", SPGSettings(search="layers", form=form, weights=(0.4,)))
        before = {name: weight.detach().clone() for name, weight in spg.replicas.named_parameters()}
        trained(net, spg, batch, 20)
        after = spg.replicas.named_parameters()
        moved[form] = [name for name, weight in after if not torch.equal(weight, before[name])]
    assert moved["released"] == ["replicas.0.blocks.0.2.bias"]
    assert len(moved["paper"]) == 4


def test_the_released_normaliser_is_always_one(model, batch):
    found = {}
    for form in FORMS:
        for normalise in (False, True):
            net = copy.deepcopy(model)
            spg = SequentialPolicyGradient(net, "out", SPGSettings(form=form, normalise=normalise))
            loss = spg.loss(net(batch[0]), batch[1])
            loss.backward()
            found[form, normalise] = float(loss.detach()), net.out.weight.grad, float(spg.figures[-2])
    assert found["released", True][0] == found["released", False][0]
    assert torch.equal(found["released", True][1], found["released", False][1])
    plain, normalised = found["paper", False], found["paper", True]
    assert found["released", True][2] == 1.0 and 0.0 < normalised[2] < 1.0
    assert normalised[0] == pytest.approx(plain[0] * normalised[2], rel=1e-5)
    torch.testing.assert_close(normalised[1], plain[1] * normalised[2])


def test_a_batch_passes_the_network_once(model, batch):
    spg = SequentialPolicyGradient(model, "out")
    spg.loss(model(batch[0]), batch[1])
    assert model.passes == 1


def test_removed_replicas_leave_the_user_s_own_network(model, batch):
    fresh, names = Net(), set(vars(model))
    keys, shapes = list(model.state_dict()), [value.shape for value in model.state_dict().values()]
    with SequentialPolicyGradient(model, model.out) as spg:
        trained(model, spg, batch, 5)
        assert list(model.state_dict()) == keys, "not even meanwhile"
        with torch.no_grad():
            model(batch[0])
    assert set(vars(model)) == names
    assert [value.shape for value in model.state_dict().values()] == shapes
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    fresh.load_state_dict(model.state_dict())
    for mode in (True, False):
        assert torch.equal(model.train(mode)(batch[0]), fresh.train(mode)(batch[0]))
    with pytest.raises(InvalidSettingError, match="were removed"):
        spg.loss(model(batch[0]), batch[1])
    spg.remove()


def test_attached_replicas_change_no_prediction(model, batch):
    bare = model(batch[0])
    SequentialPolicyGradient(model, "out")
    assert torch.equal(model(batch[0]), bare)
    assert torch.equal(model.eval()(batch[0]), bare)


def test_a_weight_of_zero_is_training_without_replicas(model, batch):
    other = copy.deepcopy(model)
    trained(model, SequentialPolicyGradient(model, "out", SPGSettings(weights=(0.0,))), batch, 10)
    optimizer = torch.optim.Adam(other.parameters(), lr=0.02)
    for _ in range(10):
        optimizer.zero_grad()
        F.cross_entropy(other(batch[0]), batch[1]).backward()
        optimizer.step()
    assert_close = torch.testing.assert_close
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert_close(mine, theirs, atol=1e-4, rtol=1e-3)


def test_running_averages_of_a_head_are_those_of_the_model_s_own_features():
    def network():
        with seeded(3):
            return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 4)))

    mine, theirs = network(), network()
    spg = SequentialPolicyGradient(mine, "2", SPGSettings(weights=(0.3, 0.2)), width=8)
    draws = torch.Generator().manual_seed(0)
    for _ in range(5):
        inputs, targets = torch.randn(32, 2, generator=draws), torch.randint(4, (32,), generator=draws)
        spg.loss(mine(inputs), targets).backward()
        theirs(inputs)
    before, after = (dict(one.named_buffers()) for one in (theirs, mine))
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert all(part.track_running_stats for part in mine.modules() if isinstance(part, nn.BatchNorm1d))


@pytest.mark.parametrize("weights", [(0.4, float("nan")), (0.4, float("inf")), (-0.1,), (), 0.4])
def test_weights_are_finite_numbers(weights):
    with pytest.raises(InvalidSettingError, match="weights="):
        SPGSettings(weights=weights)


def test_three_lines_in_a_training_loop_of_one_s_own_learn(model, batch):
    inputs, targets = batch
    before = float((model(inputs).argmax(1) == targets).double().mean())
    spg = SequentialPolicyGradient(model, "out", SPGSettings(normalise=True))
    optimizer = torch.optim.Adam([*model.parameters(), *spg.parameters()], lr=0.02)
    for _ in range(60):
        for rows in torch.arange(200).split(50):
            loss = spg.loss(model(inputs[rows]), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    spg.remove()
    # Of four classes; with other first weights it reaches .80 to .86.
    assert before < 0.5
    assert float((model(inputs).argmax(1) == targets).double().mean()) > 0.7


def test_the_documented_loop_runs_as_it_stands():
    text = (REPOSITORY / "docs" / "agents" / "spg.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    model, inputs = perceptron(4, 3, (8,)), torch.randn(5, 4, generator=generator(0, "inputs"))
    before = copy.deepcopy(model.state_dict())
    names = {"torch": torch, "model": model, "loader": [(inputs, torch.arange(5) % 3)]}
    exec(compile(block, "docs/agents/spg.md", "exec"), names)
    assert all(not torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not model.head._forward_pre_hooks


@pytest.mark.parametrize("channels_first", [False, True])
def test_tokens_and_pixels_are_episodes_of_their_own(channels_first):
    head: nn.Module = nn.Conv2d(8, 3, 1) if channels_first else nn.Linear(8, 3)
    model = nn.Sequential(nn.Identity(), head)
    shape = (2, 8, 4, 5) if channels_first else (2, 20, 8)
    targets = torch.randint(3, (2, 4, 5) if channels_first else (2, 20), generator=generator(0, "targets"))
    targets[0, 0] = -100
    spg = SequentialPolicyGradient(model, "1", channels_first=channels_first)
    features = torch.randn(shape, generator=generator(0, "features"))
    episodes = spg.trajectory(model(features), targets)
    assert episodes.losses.shape == (4, 40)
    assert int(episodes.alive[0].sum()) == int((targets != -100).sum())
    assert not episodes.losses[:, (targets == -100).flatten()].any()
    loss = spg.loss(model(features), targets)
    expected = F.cross_entropy(model(features).movedim(1 if channels_first else -1, 1), targets)
    assert float(spg.figures[0]) == pytest.approx(float(expected.detach()), rel=1e-5)
    loss.backward()
    assert head.weight.grad is not None


def test_what_goes_wrong_says_what_to_do(model, batch):
    with pytest.raises(UnknownNameError, match=r"'outt'.*Did you mean 'out'"):
        SequentialPolicyGradient(model, "outt")
    with pytest.raises(InvalidSettingError, match=r"no module of this Net.*body\.0"):
        SequentialPolicyGradient(model, nn.Linear(2, 2))
    with pytest.raises(InvalidSettingError, match="width="):
        SequentialPolicyGradient(model, "body")
    assert len(SequentialPolicyGradient(model, "body", width=6).replicas.replicas) == 3
    spg = SequentialPolicyGradient(model, "out")
    with pytest.raises(InvalidSettingError, match="training mode"):
        spg.loss(model.eval()(batch[0]), batch[1])
    model.train()(batch[0])
    with pytest.raises(InvalidSettingError, match="training mode"):
        # Not with the hidden states of the batch before.
        spg.loss(model.eval()(batch[0]), batch[1])
    logits = model.train()(batch[0])
    with pytest.raises(InvalidSettingError, match=r"\[7\] do not fit logits of shape \[200, 4\]"):
        spg.loss(logits, batch[1][:7])
    with pytest.raises(InvalidSettingError, match="once before every loss"):
        spg.loss(logits, batch[1])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"search": "layer"}, "Did you mean 'layers'"),
        ({"form": "release"}, "Did you mean 'released'"),
        ({"loss": "mask"}, "Did you mean 'masked'"),
        ({"weights": ()}, "at least one"),
        ({"weights": (0.4, -0.1)}, ">= 0"),
        ({"dropout": 1.0}, r"\[0, 1\)"),
        ({"depth": 0}, "depth=0"),
        ({"top_k": 0}, "top_k=0"),
        ({"task": "digits"}, "Did you mean 'digits-"),
        ({"epochs": 0}, "epochs=0"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"decay_factor": 0.0}, "decay_factor=0.0"),
        ({"checkpoint_every": 0}, "checkpoint_every=0"),
    ],
)
def test_impossible_settings_are_refused(setting, message):
    with pytest.raises((InvalidSettingError, UnknownNameError), match=message):
        SPGConfig(**setting)


def test_controls_are_what_they_say(model, batch):
    bare = model(batch[0])
    dropout = HeadDropout(model, "out", 0.4)
    assert not torch.equal(model(batch[0]), bare)
    assert torch.equal(model.eval()(batch[0]), bare)
    dropout.remove()
    assert torch.equal(model.train()(batch[0]), bare)
    network = load_task("digits-cnn").model(0)
    added = DeepSupervision(list(network.stages), network.widths, 10, (0.4, 0.2, 0.1))
    inputs, targets = torch.rand(6, 1, 8, 8, generator=generator(0, "images")), torch.arange(6)
    with_heads = added.loss(network(inputs), targets)
    assert float(with_heads.detach()) > float(Unattached().loss(network(inputs), targets).detach())
    with_heads.backward()
    assert all(bool((weight.grad != 0).any()) for weight in added.parameters())
    with pytest.raises(InvalidSettingError, match="no batch"):
        added._seen.clear()
        added.loss(network.eval()(inputs), targets)
    added.remove()
    assert not any(stage._forward_hooks for stage in network.stages)
    with pytest.raises(InvalidSettingError, match=r"\[0, 1\)"):
        HeadDropout(model, "out", 1.0)
