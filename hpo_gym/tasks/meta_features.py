"""Interim."""

import torch


def suite_meta_features(space, protocol, tasks):
    return torch.zeros(len(tasks), 0)
