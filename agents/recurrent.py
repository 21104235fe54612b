"""An LSTM over the trials of an episode, from its history to action values.

The architecture of Jomaa, Grabocka and Schmidt-Thieme (2019), "Hyp-RL: Hyperparameter Optimization by Reinforcement
Learning", arXiv 1906.11527, and its released code.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from agents.episode_states import EpisodeStates, Histories
from agents.networks import action_values, value_head

__all__ = ["RecurrentValueNetwork"]


class _Body(nn.Module):
    """From histories to the output of an LSTM after the last trial, ``[B, C]``."""

    def __init__(self, columns: int, meta_features: int, cells: int) -> None:
        super().__init__()
        self.cells = cells
        self.start = nn.Linear(meta_features, cells, bias=False) if meta_features > 0 else None
        if self.start is not None:
            nn.init.xavier_uniform_(self.start.weight)
        self.lstm = nn.LSTM(columns, cells, batch_first=True)
        for name, parameter in self.lstm.named_parameters():
            if name.startswith("bias"):
                nn.init.zeros_(parameter)
                # torch adds two biases, of which the second would only double the learning rate of the first.
                parameter.requires_grad_(name == "bias_ih_l0")
            else:
                # One orthogonal matrix for each of the four gates.
                for gate in parameter.data.view(4, cells, -1):
                    nn.init.orthogonal_(gate)

    def forward(self, histories: Histories) -> Tensor:
        trials, length = histories.trials, histories.length
        # Later steps change no earlier output: what is not yet known of a shorter episode does not matter.
        known = trials[:, : int(length.max())]
        steps = torch.cat([torch.zeros_like(trials[:, :1]), known], 1)
        zero = trials.new_zeros(1, len(trials), self.cells)
        hidden = zero if self.start is None else self.start(histories.meta_features)[None]
        outputs: Tensor = self.lstm(steps, (hidden, zero))[0]
        return outputs[torch.arange(len(trials), device=trials.device), length]


class RecurrentValueNetwork(nn.Module):
    """Action values of whole episodes.

    Step 0 of the LSTM gets zeros, step ``t`` the columns of trial ``t``. Its output after the last trial goes through
    hidden layers with tanh to one value for each action.

    Args:
        states: How episodes are laid out as rows.
        num_actions: ``A``.
        cells: Width of the LSTM.
        hidden: Widths of the layers after it, at least one.
        heads: Members ``H`` of an ensemble on one body.
        dueling, noise, prior: As for :class:`agents.networks.ValueNetwork`.
    """

    def __init__(
        self,
        states: EpisodeStates,
        num_actions: int,
        cells: int,
        hidden: Sequence[int],
        heads: int = 1,
        dueling: bool = False,
        noise: float | None = None,
        prior: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads, self.dueling, self._prior = heads, dueling, prior
        self.states = states
        self.body = _Body(states.columns, states.meta_features, cells)
        layers: list[nn.Module] = []
        for before, after in zip((cells, *hidden), hidden, strict=False):
            layers += [nn.Linear(before, after), nn.Tanh()]
        self.hidden = nn.Sequential(*layers)
        self.head = value_head(hidden[-1], heads * (num_actions + dueling), noise)
        if prior > 0.0:
            self.prior_body = _Body(states.columns, states.meta_features, cells).requires_grad_(False)
            self.prior_head = nn.Linear(cells, heads * num_actions).requires_grad_(False)

    def forward(self, rows: Tensor, draws: torch.Generator | None = None) -> Tensor:
        """Return action values, float32 ``[B, H, A]``, of episodes ``[B, W]``.

        Args:
            rows: The episodes.
            draws: Where the noise of noisy layers comes from; ``None``: there is none.
        """
        histories = self.states.read(rows)
        features = self.hidden(self.body(histories))
        raw = self.head(features) if draws is None else self.head(features, draws)
        values = action_values(raw, self.heads, self.dueling)
        if self._prior > 0.0:
            values = values + self._prior * self.prior_head(self.prior_body(histories)).view_as(values)
        return values
