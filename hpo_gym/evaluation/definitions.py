"""Terms of a report and what they mean."""

from __future__ import annotations

__all__ = ["DEFINITIONS"]

#: Terms of the page and what they mean.
DEFINITIONS: tuple[tuple[str, str], ...] = (
    (
        "Normalised regret",
        "(best - incumbent) / (best - worst) of a task, in [0, 1]: 0 is the best score that is known of it, 1 the "
        "worst. The incumbent is the best full evaluation so far.",
    ),
    ("Trial", "One evaluation of a configuration. Every one is charged, the first included."),
    (
        "Task",
        "One dataset with its search space. Repetitions (seeds) of a task are averaged before tasks are compared.",
    ),
    (
        "Interval over tasks",
        "95 %, bias-corrected and accelerated bootstrap of the mean over tasks (Efron, 1987): how far the mean would "
        "move on other datasets of the same kind.",
    ),
    (
        "Interquartile mean (IQM)",
        "Mean of the middle half of all episodes, with a 95 % stratified bootstrap interval over repetitions (Agarwal "
        "et al., 2021): how far it would move with other seeds.",
    ),
    (
        "Area under the curve",
        "Mean regret over all trials from the first to the last: low means good early and late.",
    ),
    ("Log regret", "Mean of log10(regret) at the end, regrets below 1e-6 counting as 1e-6."),
    (
        "p (Holm)",
        "Wilcoxon's signed-rank test on the tasks' mean regrets against the reference, two-sided, with Holm's "
        "correction over all agents of the table.",
    ),
    (
        "Critical difference",
        "Friedman's test, then Nemenyi's (Demsar, 2006): mean ranks that differ by less are not told apart at the "
        "5 % level.",
    ),
    (
        "Trials to reach",
        "The first trial at which an agent's mean regret is at most the reference's at its last trial; the budget "
        "divided by it is the speed-up factor.",
    ),
)
