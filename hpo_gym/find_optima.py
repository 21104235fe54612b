"""``python -m hpo_gym.find_optima yahpo rbv2_svm``: find and keep the range of a suite's tasks."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from hpo_gym.errors import HPOGymError, InvalidSettingError
from hpo_gym.sources import load_suite
from hpo_gym.sources.ranges import range_name, save_range
from hpo_gym.sources.store import cache_folder
from hpo_gym.sources.temporaries import require_writable
from hpo_gym.tasks.optimum import OptimumSearch, find_known_range
from hpo_gym.tasks.unknown_range import RANGE_SOURCES, range_remedy

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m hpo_gym.find_optima", description=__doc__)
    parser.add_argument("source", help="source of the suite, e.g. yahpo")
    parser.add_argument("space", nargs="+", help="spaces, e.g. rbv2_svm")
    parser.add_argument("--restriction", default="default", help="named restriction of the space")
    parser.add_argument("--metric", default=None, help="metric; default: the main one")
    parser.add_argument("--data-dir", default=None, help="folder of the source's files")
    parser.add_argument("--output", type=Path, default=None, help="folder; default: the cache")
    parser.add_argument("--sobol", type=int, default=OptimumSearch.sobol, help="points per task")
    options = parser.parse_args(arguments)
    try:
        for space in options.space:
            _find(options, space)
    except HPOGymError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _find(options: argparse.Namespace, space: str) -> None:
    from rich.progress import Progress

    # Only some sources know restrictions; those without would refuse the argument.
    more = {} if options.restriction == "default" else {"restriction": options.restriction}
    suite = load_suite(options.source, space, metric=options.metric, data_dir=options.data_dir, **more)
    search = OptimumSearch(sobol=options.sobol)
    if options.source not in RANGE_SOURCES and options.output is None:
        raise InvalidSettingError(
            f"Nobody would find the range of {options.source!r} again in the cache. "
            f"{range_remedy(options.source, space)} Or keep it in a folder: --output."
        )
    require_writable(options.output or cache_folder() / "ranges")
    with Progress() as progress:
        bar = progress.add_task(space, total=1.0)
        known = find_known_range(
            suite,
            search,
            lambda stage, share: progress.update(bar, description=f"{space}: {stage}", completed=share),
        )
    # The suite's own name: an alias of a space must find the same file again.
    name = range_name(options.source, suite.name, options.restriction, suite.spec.metric)
    path = save_range(name, known, suite.tasks, options.output)
    print(f"{space}: {suite.num_tasks} tasks, {known.method} -> {path}")


if __name__ == "__main__":
    sys.exit(main())
