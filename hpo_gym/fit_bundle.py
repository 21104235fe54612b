"""``python -m hpo_gym.fit_bundle``: make the embedded bundle again from its originals.

Needs the YAHPO surrogates and the OpenML run tables (``HPO_GYM_DATA``); takes about an hour on two
cores. Every space is written as soon as it is done, together with its measured fidelity.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from hpo_gym.errors import HPOGymError, require_names
from hpo_gym.fitting.recipes import RUN_RECIPES, SURROGATE_RECIPES
from hpo_gym.sources.bundle_files import BUNDLE_FOLDER
from hpo_gym.sources.temporaries import require_writable

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    known = [recipe.space for recipe in (*SURROGATE_RECIPES, *RUN_RECIPES)]
    parser = argparse.ArgumentParser(prog="python -m hpo_gym.fit_bundle", description=__doc__)
    parser.add_argument("spaces", nargs="*", help=f"spaces; default: all of {', '.join(known)}")
    parser.add_argument("--data-dir", default=None, help="folder of the originals")
    parser.add_argument("--output", type=Path, default=BUNDLE_FOLDER, help="where to write")
    options = parser.parse_args(arguments)
    try:
        require_names("embedded space", options.spaces, known)
        require_writable(options.output)
        for space in options.spaces or known:
            _build(space, options)
    except HPOGymError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _build(space: str, options: argparse.Namespace) -> None:
    from rich.progress import Progress, TimeElapsedColumn

    from hpo_gym.fitting.build import build_from_surrogate
    from hpo_gym.fitting.run_tables import build_from_runs, genuine_best

    begun = time.monotonic()
    with Progress(*Progress.get_default_columns(), TimeElapsedColumn()) as progress:
        bar = progress.add_task(space, total=1.0)

        def report(stage: str, share: float) -> None:
            progress.update(bar, description=f"{space}: {stage}", completed=share)

        for recipe in SURROGATE_RECIPES:
            if recipe.space == space:
                best = genuine_best(options.data_dir)
                result = build_from_surrogate(recipe, options.output, options.data_dir, best, report)
        for run_recipe in RUN_RECIPES:
            if run_recipe.space == space:
                result = build_from_runs(run_recipe, options.output, options.data_dir, report)
    print(f"{space}: {time.monotonic() - begun:.0f} s, {result['bytes'] / 1e3:.0f} kB")
    for name, value in result["summary"].items():
        print(f"  {name:24s} {value:.4f}")
    for exclusion in result["excluded"]:
        print(f"  without {exclusion.task} ({exclusion.rule}): {exclusion.reason}")


if __name__ == "__main__":
    sys.exit(main())
