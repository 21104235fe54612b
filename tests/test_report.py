"""The report: one page that needs nothing else, says what is missing, and shows what the statistics say."""

from __future__ import annotations

import base64
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch

import hpo_gym
from hpo_gym.errors import InvalidSettingError, UnknownNameError
from hpo_gym.evaluation import (
    Contender,
    EvaluationResult,
    Failure,
    RecordTable,
    Rules,
    evaluate_all,
    interquartile_mean,
    pairwise_tests,
    regret_curves,
    summarise,
)
from hpo_gym.evaluation.report import write_report
from hpo_gym.mdp.observations import Observation

# Names that a page or a picture could take for something else.
MARKUP, DOLLARS = "low <b>&amp;", 'high <b>&"$x$'

# Elements of HTML without an end.
VOID = {"meta", "img", "br", "hr", "link", "input"}


class Page(HTMLParser):
    """Reads a page and refuses elements that are not closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.words.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def images(self) -> dict[str, str]:
        """Return the sources of the pictures by the id of the figure around them."""
        names = [attributes["id"] for tag, attributes in self.tags if tag == "figure"]
        sources = [attributes["src"] for tag, attributes in self.tags if tag == "img"]
        return dict(zip(names, sources, strict=True))


def contender(name: str, width: int, power: float) -> Contender:
    """Random search whose draws are pulled to one end of the unit interval."""

    def act(seen: Observation, mask: torch.Tensor | None, draws: torch.Generator) -> torch.Tensor:
        rows = len(seen) if isinstance(seen, torch.Tensor) else len(seen["mask"])
        return torch.rand((rows, width), generator=draws) ** power

    return Contender(name, "", "continuous", "flat", act)


def play(space: str, powers: Mapping[str, float], seeds: int = 2) -> EvaluationResult:
    suite = hpo_gym.load_suite("bundled", space)
    contenders = [contender(name, len(suite.space.spec.columns), power) for name, power in powers.items()]
    return evaluate_all(contenders, suite, Rules(split="test", seeds=seeds, budget=8))


@pytest.fixture(scope="module")
def rpart() -> EvaluationResult:
    return play("rpart", {"random": 1.0, MARKUP: 3.0, DOLLARS: 0.3})


@pytest.fixture(scope="module")
def written(rpart: EvaluationResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(
        rpart.records,
        tmp_path_factory.mktemp("report"),
        reference="random",
        split="test",
        settings={"command": "evaluate.py <x>", "versions": {"torch": "2.9", "numpy": "1"}, "seeds": [0, 1]},
        configurations=rpart.configurations,
    )


@pytest.fixture(scope="module")
def page(written: Path) -> Page:
    return Page(written)


def only(records: RecordTable, **values: str) -> RecordTable:
    frame = records.frame
    for name, value in values.items():
        frame = frame[frame[name] == value]
    return RecordTable(frame)


def first_tasks(records: RecordTable) -> RecordTable:
    """Return the first repetition on the first three tasks."""
    frame = records.frame
    return RecordTable(frame[(frame["seed"] == 0) & frame["task"].isin(sorted(frame["task"].unique())[:3])])


def test_the_page_is_well_formed_and_needs_nothing_else(page: Page, written: Path) -> None:
    addresses = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "data", "action")
    ]
    assert len(addresses) > 8 and all(address.startswith(("data:", "#")) for address in addresses)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    style = re.findall(r"<style>(.*?)</style>", written.read_text(encoding="utf-8"), re.DOTALL)
    assert len(style) == 1 and "url(" not in style[0] and "@import" not in style[0] and "@media print" in style[0]
    anchors = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    assert {address[1:] for address in addresses if address.startswith("#")} <= anchors
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")


def test_every_figure_is_there_as_file_and_in_the_page(page: Page, written: Path) -> None:
    names = ["regret", "ranks", "critical-difference", "profile", "datasets", "trace"]
    images = page.images()
    assert list(images) == names
    folder = written.parent / "figures"
    assert sorted(os.listdir(folder)) == sorted(f"{name}.{kind}" for name in names for kind in ("png", "svg"))
    for name, source in images.items():
        kind, _, content = source.removeprefix("data:").partition(";base64,")
        suffix = {"image/png": "png", "image/svg+xml": "svg"}[kind]
        assert base64.b64decode(content) == (folder / f"{name}.{suffix}").read_bytes()
    for number in range(1, len(names) + 1):
        assert page.text.count(f"Figure {number}.") == 1
    # Names of agents are text of the picture as they are.
    drawing = ElementTree.parse(folder / "regret.svg").getroot()
    texts = {"".join(element.itertext()).strip() for element in drawing.iter() if element.tag.endswith("}text")}
    assert {"random", MARKUP, DOLLARS} <= texts


def test_names_and_settings_are_shown_as_they_are_and_never_as_markup(page: Page, written: Path) -> None:
    assert MARKUP in page.text and "evaluate.py <x>" in page.text
    assert "b" not in {tag for tag, _ in page.tags}
    raw = written.read_text(encoding="utf-8")
    assert "<b>" not in raw and "low &lt;b&gt;&amp;amp;" in raw
    assert ["versions.torch", "2.9"] in page.rows and ["command", "evaluate.py <x>"] in page.rows


def test_the_tables_hold_the_numbers_of_the_statistics(page: Page, rpart: EvaluationResult) -> None:
    curves = regret_curves(rpart.records)
    summary = summarise(rpart.records, "random")
    tests = pairwise_tests(curves, "random")
    for name in curves.agents:
        mine = [row for row in page.rows if row[0] == name]
        final = curves.of(name)[:, -1].mean()
        bounds = summary["agents"][name]["regret"]["8"]
        assert any(f"{final:.4f} [{bounds['low']:.4f}, {bounds['high']:.4f}]" in row for row in mine)
        robust = float(interquartile_mean(curves.episodes[name][:, :, -1:])[0])
        assert any(cell.startswith(f"{robust:.4f} [") for row in mine for cell in row)
        if name != "random":
            test = tests[name]
            expected = [f"{test.wins} / {test.ties} / {test.losses}", f"{test.p_value:.2g}", f"{test.corrected_p:.2g}"]
            assert any(row[1:4] == expected for row in mine)
    order = [row[0] for row in page.rows if row[0] in curves.agents][:3]
    assert order == sorted(curves.agents, key=lambda name: curves.of(name)[:, -1].mean())


def test_the_same_records_give_the_same_files(written: Path, rpart: EvaluationResult, tmp_path: Path) -> None:
    again = write_report(
        RecordTable(rpart.records.frame.iloc[::-1]),
        tmp_path,
        reference="random",
        split="test",
        settings={"command": "evaluate.py <x>", "versions": {"torch": "2.9", "numpy": "1"}, "seeds": [0, 1]},
        configurations=rpart.configurations,
    )
    assert again.read_bytes() == written.read_bytes()
    for path in (written.parent / "figures").iterdir():
        assert (tmp_path / "figures" / path.name).read_bytes() == path.read_bytes()


@pytest.fixture(scope="module")
def alone(rpart: EvaluationResult, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Return the page of one agent, after five episodes of another one have failed."""
    lost = [Failure("smac", "s<1>", "openml-dataset:3", 4, 5, "Traceback: <boom> & more")]
    records, folder = only(rpart.records, agent="random"), tmp_path_factory.mktemp("alone")
    return Page(write_report(records, folder, reference="random", split="test", failures=lost))


def test_one_agent_alone_gets_a_report_that_says_what_it_lacks(alone: Page) -> None:
    assert list(alone.images()) == ["regret", "profile", "datasets"]
    assert "ranks need two" in alone.text
    assert "need at least 3 agents and 2 tasks; there are 1 and" in alone.text


def test_one_task_alone_gets_a_report_without_intervals_over_tasks(rpart: EvaluationResult, tmp_path: Path) -> None:
    task = str(rpart.records.frame["task"].iloc[0])
    single = only(rpart.records, task=task)
    shown = Page(write_report(single, tmp_path, reference="random", split="test"))
    assert list(shown.images()) == ["regret", "ranks", "profile", "datasets"]
    assert "there are 3 and 1" in shown.text
    final = regret_curves(single).of("random")[0, -1]
    assert any(row[0] == "random" and f"{final:.4f}" in row for row in shown.rows)
    assert "nan" not in shown.text.lower().split()


def test_several_spaces_have_sections_of_their_own(rpart: EvaluationResult, tmp_path: Path) -> None:
    played = [only(rpart.records, agent="random"), play("ranger", {"random": 1.0}).records]
    both = RecordTable.concat([first_tasks(records) for records in played])
    shown = Page(write_report(both, tmp_path, reference="random", split="test"))
    assert [name for name in shown.images() if name.startswith("regret-")] == ["regret-ranger", "regret-rpart"]
    assert "spaces" in shown.images()
    svg = (tmp_path / "figures" / "regret-rpart.svg").read_text(encoding="utf-8")
    assert "rpart, test split: 3 tasks" in svg and "ranger" not in svg


def test_what_failed_is_on_top_and_in_full(alone: Page) -> None:
    assert "5 episodes could not be played" in alone.text
    assert alone.text.index("could not be played") < alone.text.index("What was compared")
    (row,) = [row for row in alone.rows if "Traceback" in row[-1]]
    assert row[-1] == "Traceback: <boom> & more" and "smac" in row[0] and "seed 4" in row[0]


def test_bad_input_writes_nothing(rpart: EvaluationResult, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="nobody"):
        write_report(rpart.records, tmp_path / "a", reference="nobody", split="test")
    frame = rpart.records.frame
    hole = RecordTable(frame[(frame["agent"] != DOLLARS) | (frame["seed"] != np.int64(1))])
    with pytest.raises(InvalidSettingError, match=r"high .*x\$.*seed 1"):
        write_report(hole, tmp_path / "a", reference="random", split="test")
    assert not (tmp_path / "a").exists()
