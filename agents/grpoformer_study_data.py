"""What the study of GRPOformer's scenarios compares, and what it keeps of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from hpo_gym.errors import InvalidSettingError, require_integer, unknown_name
from hpo_gym.evaluation import EvaluationResult, RecordTable
from hpo_gym.evaluation.published import GRPOFORMER_36
from hpo_gym.tasks.suite import Evaluation, TaskSuite

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["BUDGETS", "TRIALS", "Entry", "best_models", "entries", "kept_trials", "records_of"]

#: The two comparisons: everybody spends the same, or what the released code spends on each.
BUDGETS = ("equal", "paper")
#: Trials that are kept of an episode, besides the last.
TRIALS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)

_EQUAL = ("random", "tpe", "gp", "grpo_paper")
_GRPOFORMER = "grpo_paper"
_KEYS = ["method", "space", "task", "seed"]
_TEST = "test_accuracy"


@dataclass(frozen=True)
class Entry:
    """A method with its budget.

    Args:
        method: What the page calls it.
        agent: Its agent.
        evaluations: Evaluations per scenario, the shared first one included.
    """

    method: str
    agent: str
    evaluations: int

    def __post_init__(self) -> None:
        require_integer("evaluations", self.evaluations, 2, "an episode is a start and at least one choice")


def entries(budgets: str, evaluations: int, agents: Sequence[str] | None = None) -> tuple[Entry, ...]:
    """Return who plays with which budget.

    Args:
        budgets: One of :data:`BUDGETS`.
        evaluations: Of everybody (``equal``), or of all but GRPOformer and the random search that spends as much as
            that (``paper``).
        agents: Names of agents; ``None``: ``random``, ``tpe``, ``gp`` and ``grpo_paper``; with ``paper`` ``sboa``,
            which the paper compares with, stands in for ``gp``, whose cost grows with the cube of the evaluations.

    Raises:
        UnknownNameError: For other budgets.
        InvalidSettingError: For too few evaluations, too many (``paper``), or no random search.
    """
    if budgets not in BUDGETS:
        raise unknown_name("budgets", budgets, BUDGETS)
    chosen = agents or (_EQUAL if budgets == "equal" else ("random", "tpe", "sboa", _GRPOFORMER))
    if "random" not in chosen:
        raise InvalidSettingError(
            f"agents {', '.join(chosen)}: random search is what the metrics compare with. Add it."
        )
    if budgets == "equal":
        return tuple(Entry(name, name, evaluations) for name in chosen)
    spent = next(each.evaluations for each in GRPOFORMER_36.budgets if each.method == "GRPOformer")
    assert spent is not None  # it is known of GRPOformer
    if evaluations >= spent:
        raise InvalidSettingError(
            f"evaluations={evaluations}: the others spend less than GRPOformer's {spent}, or use budgets=equal."
        )
    found = [Entry(name, name, spent if name == _GRPOFORMER else evaluations) for name in chosen]
    return (*found, Entry(f"random@{spent}", "random", spent))


def kept_trials(result: EvaluationResult, suite: TaskSuite, methods: Mapping[str, str], budgets: str) -> pd.DataFrame:
    """Return the rows of an evaluation that the study keeps.

    Args:
        result: Complete.
        suite: What was played.
        methods: Name of each agent's method.
        budgets: Of which comparison.

    Returns:
        Columns ``budgets``, ``method``, ``space``, ``task``, ``dataset`` (text), ``seed``, ``trial``, ``evaluations``
        (the budget), ``incumbent``, ``seconds`` and ``agent_seconds`` (sums since the start of the episode) and
        ``test``: the accuracy on the test rows of the model of the last incumbent, NaN but for the last trial.
    """
    import numpy as np
    import pandas as pd

    frame = result.records.frame
    episodes = frame.groupby(["agent", "task", "seed"], observed=True, sort=False)
    last = episodes["trial"].transform("max")
    ended, models = best_models(result, suite)
    test = np.full(len(frame), np.nan)
    test[ended] = models.metrics[:, suite.surrogate.metric_index(_TEST)].double().numpy()
    columns: dict[str, Any] = {
        "budgets": budgets,
        "method": frame["agent"].astype(str).map(methods),
        **{name: frame[name].astype(str) for name in ("space", "task", "dataset")},
        **{name: frame[name] for name in ("seed", "trial")},
        "evaluations": last,
        "incumbent": frame["incumbent"],
        "seconds": episodes["seconds"].cumsum(),
        "agent_seconds": episodes["agent_seconds"].cumsum(),
        "test": test,
    }
    kept = frame["trial"].isin(TRIALS) | (frame["trial"] == last)
    return pd.DataFrame(columns)[kept].reset_index(drop=True)


def best_models(result: EvaluationResult, suite: TaskSuite) -> tuple[Any, Evaluation]:
    """Return the best models of episodes with all of their metrics.

    Most are taken from the cache; the others are trained again, to the same bits.

    Returns:
        Positions of the last trials of the ``E`` episodes in the records, int64 ``[E]``, and what their best models
        reach, the test rows included, which nothing was chosen by.
    """
    import numpy as np

    frame = result.records.frame
    episodes = frame.groupby(["agent", "task", "seed"], observed=True, sort=False)
    best, last = (frame.index.get_indexer(episodes[name].idxmax()) for name in ("score", "trial"))
    rows = result.configurations.frame.iloc[best]
    columns = [
        # Choices are written as text, in the order of their positions; -1 is what was inactive.
        rows[each.name].astype(np.float64) if each.is_numeric else rows[each.name].cat.codes.replace(-1, np.nan)
        for each in suite.space.spec.columns
    ]
    numbers = np.stack([column.to_numpy(dtype=np.float64) for column in columns], 1)
    u = suite.space.snap(suite.space.encode(torch.from_numpy(numbers)).clamp(0.0, 1.0))
    task = torch.tensor([suite.position(name) for name in frame["task"].astype(str).iloc[best]])
    return last, suite.evaluate(task, u, suite.space.active(u))


def records_of(frame: pd.DataFrame) -> RecordTable:
    """Return kept rows as a record table whose trials are numbered 1, 2, ... in the order of the kept ones.

    Args:
        frame: Rows of one comparison (see :func:`kept_trials`).
    """
    import pandas as pd

    ordered = frame.sort_values([*_KEYS, "trial"]).reset_index(drop=True)
    number = ordered.groupby(_KEYS, sort=False).cumcount() + 1
    columns: dict[str, Any] = {
        "agent": ordered["method"],
        "run": "",
        "source": "live",
        **{name: ordered[name] for name in ("space", "task", "dataset", "seed")},
        "trial": number,
        **dict.fromkeys(("score", "metric", "incumbent"), ordered["incumbent"]),
        "regret": float("nan"),
        "spent": number,
        "fidelity": 1.0,
        "seconds": ordered["seconds"],
        "agent_seconds": ordered["agent_seconds"],
    }
    return RecordTable(pd.DataFrame(columns))
