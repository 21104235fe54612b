"""SPG as an agent of live environments: ``python benchmarks/spg_as_agent.py [--write-docs]``.

Every method trains the networks of ``env=live_spg`` on scikit-learn's datasets, as many of them as any other. The
control is SPG's own search with plain trainings: random search, where dropout is drawn with the other hyperparameters.
Finished trainings are kept in ``--output``, so that a killed run goes on. ``--write-docs`` renews the tables of
docs/agents/spg.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _timing import markdown_table, show, write_between

# The zoo is not installed: it is in the checkout, beside this folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from agents.comparison import ComparisonConfig, prepare
from agents.environments import preset
from agents.grpoformer_study_data import best_models
from agents.progress import EvaluationDisplay, make_console
from hpo_gym.evaluation import CellStore

PAGE = Path(__file__).resolve().parents[1] / "docs" / "agents" / "spg.md"
MODELS = {
    "MLP": ("sklearn:iris", "sklearn:wine", "sklearn:breast_cancer", "sklearn:digits"),
    "CNN": ("sklearn:digits", "sklearn:digits_parity"),
}
AGENTS = ("spg", "random", "tpe", "default")
CONTROL = "spg_plain"
TITLES = (
    "network",
    "method",
    "validation error, %",
    "minus that of the control [95 %]",
    "better / same / worse",
    "test error, %",
    "ms a training",
)


def play(model: str, budget: int, seeds: int, workers: int, output: Path) -> pd.DataFrame:
    """Return one row per method, dataset and repetition: errors of the best model in percent, seconds a training."""
    options = {"datasets": list(MODELS[model]), "workers": workers, "trainings": str(output / "trainings.sqlite")}
    env = dataclasses.replace(preset("live_spg"), space=f"agents.spg_networks:{model}", source_options=options)
    common = {"env": env, "split": "all", "seeds": seeds, "budget": budget}
    chosen = prepare(ComparisonConfig(agents=AGENTS, **common))
    plain = prepare(ComparisonConfig(agents=("spg",), settings={"spg": {"training": "plain"}}, **common))
    renamed = [dataclasses.replace(each, name=CONTROL) for each in plain.contenders]
    whole = dataclasses.replace(chosen, contenders=(*chosen.contenders, *renamed))
    with CellStore(output / f"{model}.sqlite") as store, EvaluationDisplay(make_console()) as display:
        result = whole.run(display.update, store, 1).require_complete()
    last, models = best_models(result, whole.suite)
    frame = result.records.frame
    ends = frame.iloc[last]
    wanted = [whole.suite.surrogate.metric_index(name) for name in ("accuracy", "test_accuracy")]
    error = 100.0 * (1.0 - models.metrics[:, wanted].double().numpy())
    keys = ["agent", "task", "seed"]
    # The first training is the start's, which is no method's own.
    own = frame[frame["trial"] > 1].groupby(keys, observed=True)["seconds"].mean()
    table = ends[keys].astype({"agent": str, "task": str}).assign(validation=error[:, 0], test=error[:, 1])
    return table.assign(seconds=[own[tuple(key)] for key in ends[keys].itertuples(index=False)])


def rows(model: str, table: pd.DataFrame, draws: np.random.Generator) -> list[list[str]]:
    """Return the table's lines of a kind of network."""
    control = table[table["agent"] == CONTROL].set_index(["task", "seed"])["validation"]
    lines = []
    for name, mine in table.groupby("agent"):
        difference = (mine.set_index(["task", "seed"])["validation"] - control).to_numpy()
        compared = ["-", "-"]
        if name != CONTROL:
            means = draws.choice(difference, (10_000, len(difference))).mean(1)
            low, high = np.quantile(means, [0.025, 0.975])
            better, same = int((difference < -1e-9).sum()), int((abs(difference) <= 1e-9).sum())
            outcome = f"{better} / {same} / {len(difference) - better - same}"
            compared = [f"{difference.mean():+.2f} [{low:+.2f}, {high:+.2f}]", outcome]
        mean = mine[["validation", "test", "seconds"]].mean()
        numbers = [f"{mean['validation']:.2f}", *compared, f"{mean['test']:.2f}", f"{1000.0 * mean['seconds']:.0f}"]
        lines.append([model, f"`{name}`", *numbers])
    return sorted(lines, key=lambda line: float(line[2]))


def main() -> None:
    """Play, print and, where asked, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=int, default=15, help="trainings per episode, the start's included")
    parser.add_argument("--seeds", type=int, default=5, help="repetitions per dataset")
    parser.add_argument("--workers", type=int, default=1, help="trainings at once")
    parser.add_argument("--output", type=Path, default=Path("evaluations/spg-as-agent"), help="what was played")
    parser.add_argument("--write-docs", action="store_true", help=f"replace the table of {PAGE.name}")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    for model in MODELS:
        table = play(model, options.budget, options.seeds, options.workers, options.output)
        lines += rows(model, table, np.random.default_rng(0))
    show(TITLES, lines, f"{options.budget} trainings, {options.seeds} repetitions per dataset")
    if options.write_docs:
        write_between(PAGE, "spg_as_agent", markdown_table(TITLES, lines, 2))


if __name__ == "__main__":
    main()
