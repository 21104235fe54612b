"""What commands return, and what they leave of rows that were there before."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from agents import grpo_study
from agents.study import read_results, with_other_rows, write_results
from agents.study_command import with_exit_status
from hpo_gym.errors import DataIntegrityError, InvalidSettingError


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (None, 0, ""),
        (InvalidSettingError("seeds=0 is too few."), 2, "error: seeds=0 is too few.\n"),
        (FileNotFoundError("nowhere"), 2, "error: nowhere\n"),
        (KeyboardInterrupt(), 130, "stopped; the same command goes on from here\n"),
    ],
)
def test_a_command_ends_with_a_line_and_a_status(error, status, said, capsys):
    given = []

    @with_exit_status
    def command(first: int, *, second: int) -> None:
        """Do it."""
        given.append((first, second))
        if error is not None:
            raise error

    assert command(1, second=2) == status
    assert given == [(1, 2)] and command.__doc__ == "Do it."
    assert capsys.readouterr().err == said


def test_an_error_of_our_own_making_is_not_hidden():
    @with_exit_status
    def command() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        command()


def rows(spaces: list[str], value: float) -> pd.DataFrame:
    """Return two rows of each space, as the GRPO study keeps them."""
    columns = {"space": np.repeat(spaces, 2).tolist(), "agent": "grpo", "task": ["first", "second"] * len(spaces)}
    frame = pd.DataFrame(columns)
    frame["regret"] = [np.full(3, value, dtype="float32")] * len(frame)
    return frame


def test_rows_of_spaces_that_are_not_played_again_stay(tmp_path):
    first = rows(["rpart", "xgboost"], 0.5)
    assert with_other_rows(first, tmp_path, "grpo", "make it") is first, "nothing was there"
    (table, _) = write_results(tmp_path, "grpo", {"grpo": first}, {"seeds": 10})
    found = with_other_rows(rows(["xgboost", "ranger"], 0.25), tmp_path, "grpo", "make it")
    assert found["space"].tolist() == ["rpart"] * 2 + ["xgboost"] * 2 + ["ranger"] * 2
    assert [float(regret[0]) for regret in found["regret"]] == [0.5] * 2 + [0.25] * 4
    table.write_bytes(table.read_bytes()[:-1])
    with pytest.raises(DataIntegrityError, match=r"another one.*make it"):
        with_other_rows(first, tmp_path, "grpo", "make it")


def test_the_grpo_study_does_not_mix_numbers_of_repetitions(tmp_path, capsys):
    folder = tmp_path / "studies" / "data"
    write_results(folder, "grpo", {"grpo": rows(["rpart", "xgboost"], 0.5)}, {"seeds": 10})
    before = [path.read_bytes() for path in sorted(folder.iterdir())]
    assert grpo_study.main(["--spaces", "rpart", "--seeds", "3", "--documents", str(tmp_path)]) == 2
    assert "xgboost" in (said := capsys.readouterr().err) and "Give --seeds 10" in said
    assert [path.read_bytes() for path in sorted(folder.iterdir())] == before
    assert grpo_study.main(["--spaces", "rpat", "--documents", str(tmp_path)]) == 2
    assert "Did you mean 'rpart'" in capsys.readouterr().err
    assert len(read_results(folder, "grpo", "")[0]["grpo"]) == 4
