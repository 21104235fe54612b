"""The 36 scenarios of GRPOformer as data: six model families on six OpenML tasks, trained live.

Source: Guo, Pan and Zhai (2025), "GRPOformer", arXiv 2509.17105, and its released code (``zndwb/GRPOformer``), which
uses the search spaces of HPOBench (Eggensperger et al. 2021, arXiv 2109.06716). Where the paper and the code may
differ, this is the code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from hpo_gym.errors import unknown_name
from hpo_gym.spaces.columns import Column
from hpo_gym.spaces.spec import SpaceSpec
from hpo_gym.tasks.ref import TaskRef

__all__ = ["GRPOFORMER_36", "LiveProtocol", "ModelFamily", "PublishedBudget"]


@dataclass(frozen=True)
class ModelFamily:
    """A learner and its search space.

    Args:
        name: Short name in the released code.
        learner: What is trained, and with which settings that are not tuned.
        spec: The search space; defaults are HPOBench's.
        first: The configuration that every member of the group evaluates first; ``None`` where none is released.
        fidelity: What is spent on one evaluation: rounds of training, and ``subsample``, a share of the rows.
        note: What is inconsistent or not verified.
    """

    name: str
    learner: str
    spec: SpaceSpec
    first: Mapping[str, float | int] | None
    fidelity: Mapping[str, float | int]
    note: str = ""


@dataclass(frozen=True)
class PublishedBudget:
    """What a method spends per scenario in the released code.

    Args:
        method: Its name.
        evaluations: How many configurations are trained; ``None`` where nobody knows.
        how: Of what these are made up.
    """

    method: str
    evaluations: int | None
    how: str


@dataclass(frozen=True)
class LiveProtocol:
    """A comparison of optimisers on models that are trained at every evaluation.

    Args:
        name: Name of the protocol.
        families: The learners.
        tasks: The datasets.
        task_names: Names of those datasets that are known, by OpenML task id.
        objective: What is maximised.
        data_handling: From the task to what a learner sees.
        budgets: What each compared method spends per scenario.
        fair_budget: Evaluations per scenario that all methods get when the comparison is repeated.
        metrics: What is reported, with the reading that hpo_gym implements.
        caveats: What a reader of the published numbers has to know.
    """

    name: str
    families: tuple[ModelFamily, ...]
    tasks: tuple[TaskRef, ...]
    task_names: Mapping[str, str]
    objective: str
    data_handling: tuple[str, ...]
    budgets: tuple[PublishedBudget, ...]
    fair_budget: int
    metrics: Mapping[str, str]
    caveats: tuple[str, ...]

    def family(self, name: str) -> ModelFamily:
        """Return a model family by name.

        Raises:
            UnknownNameError: If there is none of that name.
        """
        for family in self.families:
            if family.name == name:
                return family
        raise unknown_name("model family", name, [family.name for family in self.families])

    def scenarios(self) -> tuple[tuple[ModelFamily, TaskRef], ...]:
        """Return every pair of model family and task."""
        return tuple((family, task) for family in self.families for task in self.tasks)


def _float(name: str, lower: float, upper: float, default: float, *, log: bool = True) -> Column:
    return Column(name, "float", lower, upper, log, default=default)


def _integer(name: str, lower: int, upper: int, default: int, *, log: bool = True) -> Column:
    return Column(name, "integer", lower, upper, log, default=default)


def _family(
    name: str,
    learner: str,
    columns: tuple[Column, ...],
    first: Mapping[str, Any] | None,
    rounds: Mapping[str, int],
    note: str = "",
) -> ModelFamily:
    frozen = None if first is None else MappingProxyType(dict(first))
    fidelity = MappingProxyType({**rounds, "subsample": 0.1})
    return ModelFamily(name, learner, SpaceSpec(columns, MappingProxyType({})), frozen, fidelity, note)


_FAMILIES = (
    _family(
        "xgb",
        "XGBoost, tree booster, histogram method; logistic or softmax loss; no subsampling of its own",
        (
            _float("eta", 2**-10, 1.0, 0.3),
            _integer("max_depth", 1, 50, 10),
            _float("colsample_bytree", 0.1, 1.0, 1.0, log=False),
            _float("reg_lambda", 2**-10, 2**10, 1.0),
        ),
        {"eta": 0.0018521105739, "max_depth": 5, "colsample_bytree": 0.4753198042323, "reg_lambda": 10.6247000215355},
        {"n_estimators": 128},
    ),
    _family(
        "svm",
        "scikit-learn SVC, RBF kernel",
        (_float("C", 2**-10, 2**10, 1.0), _float("gamma", 2**-10, 2**10, 0.1)),
        {"C": 0.316535692964, "gamma": 0.003512641104},
        {},
    ),
    _family(
        "nn",
        "scikit-learn MLPClassifier, depth layers of equal width, ReLU, Adam",
        (
            _integer("depth", 1, 3, 3, log=False),
            _integer("width", 16, 1024, 64),
            _integer("batch_size", 4, 256, 32),
            _float("alpha", 1e-8, 1.0, 1e-3),
            _float("learning_rate_init", 1e-5, 1.0, 1e-3),
        ),
        {
            "depth": 3,
            "width": 28,
            "batch_size": 5,
            "alpha": 2.16858294e-05,
            "learning_rate_init": 0.2458030016148,
        },
        {"iter": 100},
    ),
    _family(
        "lr",
        "scikit-learn SGDClassifier, logistic loss, adaptive schedule, tol=None",
        (_float("alpha", 1e-5, 1.0, 1e-3), _float("eta0", 1e-5, 1.0, 1e-2)),
        {"alpha": 0.0012164941464, "eta0": 2.89529602e-05},
        {"iter": 100},
    ),
    _family(
        "rf",
        "scikit-learn RandomForestClassifier, bootstrap; max_features=v means round(n_features ** v) features",
        (
            _integer("max_depth", 1, 50, 10),
            _integer("min_samples_split", 2, 128, 32),
            _float("max_features", 0.0, 1.0, 0.5, log=False),
            _integer("min_samples_leaf", 1, 20, 1, log=False),
        ),
        {"max_depth": 33, "min_samples_split": 3, "max_features": 0.4930595935447, "min_samples_leaf": 3},
        {"n_estimators": 128},
    ),
    _family(
        "histgb",
        "scikit-learn HistGradientBoostingClassifier, no early stopping",
        (
            _integer("max_depth", 6, 30, 6),
            _integer("max_leaf_nodes", 2, 64, 32),
            _float("learning_rate", 2**-10, 1.0, 0.1),
            _float("l2_regularization", 2**-10, 2**10, 0.1),
        ),
        None,
        {"n_estimators": 128},
        "Its import is disabled in the released main program, its fidelity there is 10 rounds on 1 % of the rows "
        "(the baselines' is given here), and no first configuration is released: that it is the sixth family is a "
        "reading, not verified.",
    ),
)

#: GRPOformer's comparison: 6 model families x 6 OpenML tasks.
GRPOFORMER_36 = LiveProtocol(
    name="grpoformer-36",
    families=_FAMILIES,
    tasks=tuple(TaskRef("openml-task", task) for task in ("167149", "167097", "167155", "167168", "167079", "167069")),
    task_names=MappingProxyType({"167149": "kr-vs-kp", "167168": "vehicle"}),
    objective="Accuracy on the validation part, maximised; balanced accuracy, macro F1 and macro precision are logged.",
    data_handling=(
        "The task's own split gives train and test; train is split 67/33, stratified, with seed 1, into train and "
        "validation.",
        "Numeric columns: median imputation and standardisation; categorical columns: mode imputation and one-hot "
        "encoding; both fitted on train.",
        "An evaluation trains on a random 10 % of the rows, drawn with replacement from the benchmark's running "
        "generator, but on no smaller share than 10 rows per class or 1/512.",
        "The released code trains on train plus validation rows whatever it is asked for (a comparison of Python's "
        "builtin eval with a string): about 9.5 % of the validation rows are in the training sample. A repetition "
        "should train on the train rows alone.",
    ),
    budgets=(
        PublishedBudget("GRPOformer", 8 * 50 * 10 + 8, "8 members x 50 episodes x 10 steps + 8 first configurations"),
        PublishedBudget("BOFormer", 5 + 50 * 10, "5 initial + 50 iterations x 10 random configurations"),
        PublishedBudget("OptFormer", 5 + 50 * 10, "5 initial + 50 iterations x 10 configurations, mostly random ones"),
        PublishedBudget("SBOA", 50 * 10, "50 iterations x population 10"),
        PublishedBudget("LLM (GLM-4)", 50 * 20, "50 configurations x 20 seeds, maximum over seeds, no history"),
        PublishedBudget(
            "uncertainty-guided successive halving", None, "few; apparently not in the paper's table (not verified)"
        ),
    ),
    fair_budget=50 * 10,
    metrics=MappingProxyType(
        {
            "BtR": "Beats-Random: share of scenarios whose final best score is strictly above random search's",
            "MP": "Median Performance: median over scenarios of the final best validation accuracy",
            "MnP": "Mean Performance: mean over scenarios of the final best validation accuracy",
            "MnR": "Mean Rank: mean over scenarios of the rank among the compared methods, 1 = best, ties averaged",
        }
    ),
    caveats=(
        "GRPOformer spends 4,008 evaluations per scenario against about 500 for a baseline: the honest control for its "
        "headline (BtR 94.44 %, MP 0.9545, MnP 0.9187, MnR 1.81) is random search with 4,008.",
        "Several baselines are random search in the released code; that the printed table used this code is not "
        "verified.",
        "The same configuration scores differently at each call, because the rows are drawn anew; the maximum over "
        "4,008 draws is optimistic. No test score is reported.",
        "6 families x 6 tasks = 36 is a reading of the code, not verified; so are the definitions of the four metrics. "
        "MnR depends on the set of compared methods: print that set beside it.",
        "The names of four of the six datasets, the number of seeds, and the rows of the baselines are unknown.",
        "The first configurations look like weak starts (not verified): give the same one to every method, or none.",
    ),
)
