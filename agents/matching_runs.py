"""Policies of one agent for several spaces: each space has its own, which together are the agent."""

from __future__ import annotations

from hpo_gym.evaluation import RecordTable

__all__ = ["with_matching_runs"]


def with_matching_runs(records: RecordTable) -> RecordTable:
    """Return the same trials, where agents have as many runs in every space, but other ones, with runs by number.

    A report wants every run on every task. Runs of an agent that played all spaces keep their names, and so does an
    agent with more runs in one space than in another, which the report refuses.
    """
    frame = records.frame
    renamed = frame["run"].astype(str)
    for agent, rows in frame.groupby("agent", observed=True):
        names = {
            space: sorted(part["run"].astype(str).unique())
            for space, part in rows.groupby(["source", "space"], observed=True)
        }
        counts, different = {len(each) for each in names.values()}, {tuple(each) for each in names.values()}
        if len(different) == 1 or len(counts) > 1:
            continue
        for (source, space), each in names.items():
            mine = (frame["agent"] == agent) & (frame["source"] == source) & (frame["space"] == space)
            numbers = {name: "" if len(each) == 1 else str(index + 1) for index, name in enumerate(each)}
            renamed = renamed.mask(mine, renamed.map(numbers))
    return RecordTable(frame.assign(run=renamed.astype("category")))
