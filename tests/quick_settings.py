"""Settings with which agents train or act in no time."""

from __future__ import annotations

from typing import Any

_CONTINUOUS: dict[str, Any] = {
    "total_steps": 4_000,
    "hidden": (32, 32),
    "learning_starts": 500,
    "batch_size": 64,
    "transitions_per_update": 16,
    "target_rate": 0.05,
    "buffer_size": 4_000,
    "discount": 0.5,
    "meta_feature_dropout": 0.0,
}
# Of the agents of Stable-Baselines3.
_REPLAY: dict[str, Any] = {
    "total_steps": 5_000,
    "net_arch": (64, 64),
    "learning_starts": 500,
    "batch_size": 128,
    "train_freq": 16,
    "buffer_size": 5_000,
    "tau": 0.05,
    "meta_features": True,
}
_GREEDY: dict[str, Any] = {
    **_REPLAY,
    "total_steps": 7_000,
    "buffer_size": 7_000,
    "learning_rate": 2e-3,
    "gamma": 0.9,
    "target_update_interval": 32,
    "evaluation_epsilon": 0.1,
}
_ROLLOUT: dict[str, Any] = {"learning_rate": 5e-3, "gamma": 0.9, "meta_features": True}
# Nothing lies ahead that an action now could spoil: the best next configuration is the best one.
_BOX: dict[str, Any] = {**_REPLAY, "learning_rate": 3e-3, "gamma": 0.0, "learning_starts": 1_500}

#: Settings with which an agent that is trained learns the tiny environments in seconds.
QUICK: dict[str, dict[str, Any]] = {
    "dqn": {
        "total_steps": 5_000,
        "hidden": (64, 64),
        "learning_starts": 500,
        "batch_size": 128,
        "transitions_per_update": 16,
        "target_rate": 0.05,
        "evaluation_epsilon": 0.0,
        "buffer_size": 5_000,
        "learning_rate": 2e-3,
        "discount": 0.9,
    },
    "grpo": {
        "total_steps": 12_000,
        "group_size": 8,
        "width": 32,
        "layers": 1,
        "heads": 2,
        "bins": 8,
        "meta_features": True,
        "epochs": 4,
        "minibatches": 2,
        "learning_rate": 5e-3,
        "entropy": 0.0,
        "proposals": 1,
    },
    "grpo_universal": {
        "total_steps": 20_000,
        "group_size": 8,
        "width": 32,
        "layers": 1,
        "heads": 2,
        "bins": 8,
        "hidden_descriptors": 0.0,
        "epochs": 4,
        "minibatches": 2,
        "learning_rate": 5e-3,
        "entropy": 0.0,
        "proposals": 1,
    },
    "agnostic_q": {
        "total_steps": 4_000,
        "hidden": (32, 32),
        "learning_starts": 500,
        "batch_size": 128,
        "transitions_per_update": 32,
        "target_rate": 0.05,
        "evaluation_epsilon": 0.0,
        "buffer_size": 4_000,
        "learning_rate": 3e-3,
        "discount": 0.9,
    },
    "portfolio_q": {
        "total_steps": 3_000,
        "hidden": (64, 64),
        "learning_starts": 500,
        "batch_size": 128,
        "transitions_per_update": 16,
        "target_rate": 0.05,
        "buffer_size": 3_000,
        "learning_rate": 2e-3,
        "candidates": 12,
        "drawn": 256,
        "score_dropout": 0.0,
    },
    "hyp_rl": {
        "total_steps": 4_000,
        "learning_starts": 500,
        "batch_size": 64,
        "transitions_per_update": 32,
        "target_rate": 0.05,
        "buffer_size": 4_000,
        "learning_rate": 3e-3,
        "discount": 0.9,
        "cells": 16,
        "hidden": (32,),
        "meta_feature_dropout": 0.0,
    },
    "hyp_rl_faithful": {
        "total_steps": 3_200,
        "learning_starts": 500,
        "batch_size": 32,
        "transitions_per_update": 20,
        "buffer_size": 4_000,
        "exploration_share": 0.6,
        "discount": 0.3,
        "cells": 16,
        "hidden": (32,),
    },
    "naf": {**_CONTINUOUS, "learning_rate": 8e-3, "noise_end": 0.2, "evaluation_noise": 0.12},
    "qt_opt": {**_CONTINUOUS, "learning_rate": 3e-3, "evaluation_noise": 0.0, "cem_target_samples": 8},
    "sb3_dqn": {**_GREEDY, "total_steps": 10_000, "buffer_size": 10_000},
    "sb3_qrdqn": {**_GREEDY, "n_quantiles": 10},
    "sb3_ppo": {**_ROLLOUT, "total_steps": 8_192, "n_steps": 8, "batch_size": 128, "n_epochs": 4},
    # With so few updates it finds a good policy only if it neither looks far ahead nor stops exploring early.
    "sb3_a2c": {
        **_ROLLOUT,
        "total_steps": 16_000,
        "learning_rate": 4e-3,
        "n_steps": 3,
        "gamma": 0.7,
        "gae_lambda": 0.9,
        "ent_coef": 0.002,
        "use_rms_prop": False,
    },
    "sb3_sac": {**_BOX, "ent_coef": 0.005},
    "sb3_td3": {**_BOX, "total_steps": 8_000, "buffer_size": 8_000, "action_noise": 0.5, "evaluation_noise": 0.3},
    "random": {"total_steps": 2_000},
}


#: Settings with which the slow ones act in no time: models of SMAC and of Gaussian processes are tested by themselves.
CHEAP: dict[str, dict[str, Any]] = {
    "gp": {"startup_trials": 11},
    "portfolio": {"candidates": 64},
    "portfolio_gp": {"candidates": 64},
    "portfolio_local": {"candidates": 64},
    "transfer_gp": {
        "samples": 64,
        "hidden": 16,
        "surface_steps": 100,
        "kernel_steps": 5,
        "candidates": 16,
        "neighbours": 16,
    },
    "smac": {"initial_share": 1.0},
    "grpo_paper": {"group_size": 2, "steps": 2, "width": 16, "layers": 1, "heads": 2},
}
