"""The page of the ablation study of GRPO: variants against the base, churn, and numbers of training datasets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agents.grpo_ablation_study_figure import ablation_figure
from agents.grpo_ablation_study_results import COMMAND, NAME, TRAINING, TRIALS, SpaceAblations, ablations_of
from agents.grpo_ablations import BASE, CHURN, VARIANTS
from agents.study import mean_curves, read_results
from agents.study_tables import interval
from agents.versions import versions_text
from hpo_gym.documents import fill_page, markdown_table
from hpo_gym.evaluation import pairwise_tests, save_figure
from hpo_gym.evaluation.style import p_value_text

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["write_page"]


_TESTED = (10, 30)


def write_page(documents: Path) -> str:
    """Fill the page and draw its figure; return the page.

    Raises:
        DataMissingError: If the study was never played.
        InvalidSettingError: If the page cannot be filled.
    """
    folder = documents / "studies"
    frames, facts = read_results(folder / "data", NAME, COMMAND)
    spaces = [ablations_of(str(space), rows) for space, rows in frames[NAME].groupby("space", sort=False)]
    training = frames[TRAINING]
    for space in spaces:
        mine = training[training["space"] == space.space]
        save_figure(
            ablation_figure(space, mine, facts["datasets"][space.space]), folder / "figures" / f"{NAME}-{space.space}"
        )
    tables = {
        "ablations_figure": lambda: "\n\n".join(
            f"![{space.space}: regret by number of training datasets, and returns by weight of policy churn "
            f"regularisation](figures/{NAME}-{space.space}.png)"
            for space in spaces
        ),
        "ablations_results": lambda: "\n\n".join(_results(space) for space in spaces),
        "ablations_churn": lambda: _churn(spaces, training),
        "ablations_made": lambda: _made(facts),
    }
    return fill_page(folder / f"{NAME}.md", tables)


def _results(space: SpaceAblations) -> str:
    units = [("bundled", space.space, task) for task in space.tasks]
    means = {variant: values.mean(1) for variant, values in space.values.items()}
    tests = {trial: pairwise_tests(mean_curves(units, means), BASE, TRIALS.index(trial) + 1) for trial in _TESTED}
    base = {trial: space.of_seeds(BASE, trial) for trial in _TESTED}
    rows = []
    for variant in space.values:
        what = VARIANTS[variant].what if variant in VARIANTS else "random search"
        cells = [f"`{variant}`", what]
        for trial in TRIALS:
            seeds = space.of_seeds(variant, trial)
            cells.append(interval(seeds) if trial in _TESTED else f"{seeds.mean():.4f}")
        for trial, by_variant in tests.items():
            test = by_variant.get(variant)
            if test is None:
                cells.append("")
                continue
            seeds = space.of_seeds(variant, trial)
            paired = min(len(seeds), len(base[trial]))
            lower = int((seeds[:paired] < base[trial][:paired]).sum())
            p_value = p_value_text(test.corrected_p, "= ")
            cells.append(f"{test.wins}/{test.ties}/{test.losses}, {p_value}; {lower} of {paired}")
        rows.append(cells)
    titles = ["variant", "what differs", *(f"at {trial}" for trial in TRIALS)]
    titles += [f"W/T/L against the base, p; trainings that are better, at {trial}" for trial in _TESTED]
    table = markdown_table(titles, rows, (0, 1))
    trainings = space.values[BASE].shape[1]
    return f"### {space.space}\n\n{len(space.tasks)} held-out datasets, {trainings} trainings of each.\n\n{table}"


def _churn(spaces: list[SpaceAblations], training: pd.DataFrame) -> str:
    """Return what policy churn regularisation does to updates, to returns and to what is learned."""
    import numpy as np

    rows = []
    for space in spaces:
        for variant, weight in CHURN.items():
            mine = training[(training["space"] == space.space) & (training["variant"] == variant)]
            if not len(mine):
                continue
            cells = [f"`{space.space}`", f"{weight:g}"]
            for name in ("churn", "divergence", "clipped"):
                # Before the first update there is no earlier trajectory that a policy could be held on.
                cells.append(_of_trainings(np.array([np.mean(values[1:]) for values in mine[name]])))
            returns = np.stack(mine["returns"].tolist())
            cells.append(f"{returns.std(0, ddof=1).mean():.2f}")
            cells.append(f"{np.abs(np.diff(returns, axis=1)).mean():.2f}")
            cells.append(f"{returns[:, -1].mean():.2f}")
            regret = space.of_seeds(variant, TRIALS[-1])
            cells += [f"{regret.mean():.4f}", f"{regret.std(ddof=1):.4f}"]
            rows.append(cells)
    titles = [
        "space",
        "weight",
        "divergence on earlier states per update",
        "divergence on new states",
        "share of clipped ratios",
        "return: standard deviation over trainings",
        "return: change from update to update",
        "return in the end",
        f"regret at {TRIALS[-1]}",
        "its standard deviation over trainings",
    ]
    return markdown_table(titles, rows, (0,))


def _of_trainings(values: np.ndarray[Any, Any]) -> str:
    return f"{values.mean():.2g} +- {values.std(ddof=1):.1g}"


def _made(facts: Mapping[str, Any]) -> str:
    commits = ", ".join(facts["trained_with"].get("commit", ()))
    return (
        f"{facts['steps']:,} transitions a training, {facts['repetitions']} episodes per training and dataset, root "
        f"seeds 0, 1, ...; trained at commit {commits}. {versions_text(facts['versions'])}."
    )
