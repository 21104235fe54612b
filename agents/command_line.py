"""Hydra's command line with errors a person can act on: one message, exit status 2."""

from __future__ import annotations

import os
import sys
import tempfile
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from agents.overrides import Overrides, check_overrides, compose_config, first_line, fixed_keys, override_key
from agents.progress import make_console
from hpo_gym.errors import HPOGymError, InvalidSettingError

__all__ = ["Job", "require_named", "run_command", "store"]

#: What a command does, given the composed config and what its command line named.
Job = Callable[[DictConfig, Overrides], None]

_HELP_FLAGS = ("--help", "-h")
_HELP_WIDTH = 120
_SWEEP_FLAGS = ("--multirun", "-m")
# With these Hydra itself takes over; after some of them the next word is no override.
_WITH_WORD = ("--cfg", "-c", "--info", "-i", "--package", "-p")
_HYDRA_FLAGS = (*_SWEEP_FLAGS, *_WITH_WORD, "--hydra-help", "--version", "--resolve")


def store(name: str, config: Any, group: str | None = None) -> None:
    """Register a dataclass instance or class as a Hydra config node.

    Frozen dataclasses are made overridable: the result is built anew from the composed values. Commands share one
    store, so that what two of them store under one name has to be the same.
    """
    node = OmegaConf.structured(config)
    OmegaConf.set_readonly(node, None)
    ConfigStore.instance().store(group=group, name=name, node=node)


def require_named(key: str, value: str | None, what: str, example: str) -> None:
    """Refuse an empty setting that is to name something.

    Args:
        key: The setting.
        value: As it was given; ``None``: left out.
        what: Kind of what it names.
        example: Of it.

    Raises:
        InvalidSettingError: If it is empty.
    """
    if value is not None and not value.strip():
        raise InvalidSettingError(f"{key}= names no {what}. Write {key}={example}, or leave it out.")


def run_command(
    name: str,
    job: Job,
    groups: Mapping[str, Sequence[str]],
    arguments: Sequence[str] | None = None,
    help_text: str = "",
) -> int:
    """Compose the config from the command line and run a job; return the exit status.

    Args:
        name: The stored config.
        job: What to do.
        groups: Config groups and their options.
        arguments: Default: ``sys.argv[1:]``.
        help_text: What ``--help`` prints above the groups.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if any(item in _HELP_FLAGS for item in given):
            print(_help(help_text, groups))
        elif any(item.partition("=")[0] in _HYDRA_FLAGS for item in given):
            return _run_hydra(name, job, groups, given)
        else:
            job(compose_config(name, given, groups), Overrides(tuple(given)))
    except (HPOGymError, OSError) as error:
        _print_error(error)
        return 2
    except KeyboardInterrupt:
        make_console(stderr=True).print("stopped", highlight=False)
        return 130
    return 0


def _help(text: str, groups: Mapping[str, Sequence[str]]) -> str:
    width = max(len(group) for group in groups)
    options = [
        textwrap.fill(
            " | ".join(names),
            _HELP_WIDTH,
            initial_indent=f"  {group + '=':<{width + 1}}  ",
            subsequent_indent=" " * (width + 5),
            break_on_hyphens=False,
        )
        for group, names in groups.items()
    ]
    return "\n".join(
        [text.strip(), "", "Groups (first choose one, then change its settings: agent.<setting>=...)", *options]
    )


def _print_error(error: BaseException, job: str = "") -> None:
    foreign = isinstance(error, OSError) and not isinstance(error, HPOGymError)
    text = f"{error}. Check that path, and whether it can be read and written." if foreign else str(error)
    text = f"{job}: {text}" if job else text
    make_console(stderr=True).print(f"[bold red]error:[/] {_escape(text)}", highlight=False, soft_wrap=True)


def _run_hydra(name: str, job: Job, groups: Mapping[str, Sequence[str]], given: Sequence[str]) -> int:
    import hydra

    flags, items = _separate(given)
    sweep = any(flag in _SWEEP_FLAGS for flag in flags)
    checked = check_overrides(name, items, groups, sweep)
    fixed = fixed_keys(checked)

    def entry(config: DictConfig) -> None:
        from hydra.core.hydra_config import HydraConfig

        own = tuple(HydraConfig.get().overrides.task)
        swept = tuple(item for item in own if override_key(item) not in fixed)
        try:
            job(config, Overrides(own, swept))
        except (HPOGymError, OSError) as error:
            # Here and not in Hydra, which would add a traceback once all other jobs have ended.
            _print_error(error, " ".join(swept))
            failed.touch()

    before, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    # What a run leaves behind is in its run folder; Hydra's own files go where nobody needs to look.
    with tempfile.TemporaryDirectory() as scratch:
        # A file, because a launcher may run the jobs in other processes.
        failed = Path(scratch) / "failed"
        quiet = ["hydra.output_subdir=null", "hydra/job_logging=none", "hydra/hydra_logging=none"]
        folders = [f"hydra.sweep.dir={scratch}", "hydra.sweep.subdir=.", f"hydra.run.dir={scratch}"]
        sys.argv = [before[0], *flags, *checked, *quiet, *folders]
        # Otherwise Hydra prints errors itself, and ends the process with a status of its own.
        os.environ["HYDRA_FULL_ERROR"] = "1"
        try:
            hydra.main(version_base="1.3", config_path=None, config_name=name)(entry)()
        except (HydraException, OmegaConfBaseException) as error:
            raise InvalidSettingError(first_line(error)) from error
        finally:
            sys.argv = before
            del os.environ["HYDRA_FULL_ERROR"]
            if full is not None:
                os.environ["HYDRA_FULL_ERROR"] = full
        return 2 if failed.exists() else 0


def _separate(given: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return Hydra's flags with their words, and the overrides."""
    flags: list[str] = []
    items: list[str] = []
    for item in given:
        word = bool(flags) and flags[-1] in _WITH_WORD
        (flags if item.startswith("-") or word else items).append(item)
    return flags, items


def _escape(text: str) -> str:
    return text.replace("[", r"\[")
