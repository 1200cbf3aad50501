"""A run's beginning, anew or where it stopped."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from seqbraid.comm import Communicator, on_rank_zero
from seqbraid.data.dataset import Dataset, open_dataset
from seqbraid.errors import OptionsError
from seqbraid.options import MGRIT, Option, Serial, solver_to_dict
from seqbraid.options.commands import OF_A_FIT, OF_A_TRAINING
from seqbraid.options.kinds import require
from seqbraid.options.resuming import changed_options, fallen_away, refuse_changes
from seqbraid.train.run_folder import RunFolder
from seqbraid.train.setup import Setup
from seqbraid.train.trained_on import open_for_run

__all__ = ["arguments_of", "begin", "open_data", "resumes"]

_ASKED = {each.name: each for each in OF_A_FIT}


def arguments_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options, given by their names in Python, by their names in a run's record.

    `solver` may be a `Serial` or an `MGRIT`, which stands for all of its own options. Raises `OptionsError`
    for an option that there is not, and for a value that it cannot have.
    """
    named = dict(given)
    if isinstance(named.get("solver"), Serial | MGRIT):
        of_solver = solver_to_dict(named["solver"])
        if twice := [name for name in of_solver if name != "solver" and name in named]:
            raise OptionsError(f"{twice[0]} is given beside `solver`, which has one of its own; leave it out")
        named |= of_solver
    for name in named:
        if name not in _ASKED:
            by_flag = next((each for each in _ASKED if _ASKED[each].dest == name), None)
            if by_flag is not None:
                raise OptionsError(f"{name!r} is no option of a training; did you mean {by_flag}?")
            near = difflib.get_close_matches(name, _ASKED, 1)
            hint = f"did you mean {near[0]}?" if near else f"expected some of {', '.join(_ASKED)}"
            raise OptionsError(f"{name!r} is no option of a training; {hint}")
    return {
        _ASKED[name].dest: require(
            name, value, _ASKED[name].of_command, optional=_ASKED[name].default_of_command is None
        )
        for name, value in named.items()
    }


def resumes(folder: RunFolder, world: Communicator, resume: bool, overwrite: bool) -> bool:
    """Return whether there is a run to go on with, by rank 0's word; collective."""
    if resume and overwrite:
        raise OptionsError("`resume` goes on with a run and `overwrite` deletes it; give one of them")
    return on_rank_zero(world, lambda: folder.holds_a_run, "looking for the run") and resume


def open_data(
    data: str | Path | Dataset | None, given: Mapping[str, Any], folder: RunFolder, resumed: bool
) -> tuple[Dataset, dict[str, Any]]:
    """Return the data set, and all arguments of the training: those given, then the run's own, then defaults.

    For a run that goes on, data of None are those that it was begun on; other data are refused, and options
    that it cannot change.
    """
    if data is not None and not isinstance(data, str | Path | Dataset):
        raise TypeError(
            f"data is a {type(data).__name__}; expected a path (of a store, an .npz file or a folder of .npy "
            "files) or a Dataset"
        )
    arguments = {each.dest: each.default_of_command for each in _ASKED.values()}
    if not resumed:
        arguments |= {**given, "data": None if isinstance(data, Dataset) else data}
        if data is None:
            raise OptionsError(f"{folder.folder} holds no run to go on with; give `data` to begin one there")
        if isinstance(data, Dataset):
            if arguments["split"] is not None:
                raise OptionsError("`split` is for a path; open the data set by that split")
            return data, arguments
        return open_dataset(data, arguments["split"]), arguments
    trained = folder.options()
    before: dict[str, Any] = trained.get("arguments", {})
    arguments |= {name: value for name, value in before.items() if name in arguments} | dict(given)
    refuse_changes(OF_A_TRAINING, before, arguments, folder.folder)
    for name in fallen_away(OF_A_TRAINING, before, arguments):
        arguments[name] = None
    done = len(folder.metrics())
    if arguments["epochs"] < done:
        raise OptionsError(
            f"{folder.folder} has {done} epochs done, more than `epochs={arguments['epochs']}`"
        )
    if data is None and trained.get("data") is None:
        raise OptionsError(f"{folder.folder} was begun on data in memory; give them again as `data`")
    of_run: str | Path | Dataset = trained["data"] if data is None else data
    arguments["data"] = None if isinstance(of_run, Dataset) else of_run
    dataset = open_for_run(
        folder.folder,
        trained,
        of_run,
        None if isinstance(of_run, Dataset) else arguments["split"],
    )
    found = {"train": len(dataset.train), "test": len(dataset.test)}
    if trained.get("sequences") != found:
        name = "the data set" if isinstance(of_run, Dataset) else str(of_run)
        raise OptionsError(
            f"{folder.folder} was begun on {trained.get('sequences')} sequences, but {name} has "
            f"{found}; give the data that it was begun on, or begin another run"
        )
    return dataset, arguments


def begin(setup: Setup, folder: RunFolder, resumed: bool, overwrite: bool) -> list[str]:
    """Let rank 0 make or take over the run folder; return what a resumed run changes. Collective."""

    def make() -> list[str]:
        changes: list[str] = []
        if resumed:
            record, of_before = setup.record(), folder.options()
            changes = changed_options(OF_A_TRAINING, of_before.get("arguments", {}), record["arguments"])
            for name in ("ranks", "threads"):
                if name in of_before and of_before[name] != record[name]:
                    changes.append(
                        f"{name}: {record[name]} (was {of_before[name]}); the run ends as an undisturbed one "
                        "to the solver's accuracy, not bit for bit"
                    )
            folder.write_options(record)
        else:
            folder.create(setup.record(), overwrite)
        values = {**setup.arguments, "output": folder.folder}
        folder.write_config({_name_in_file(each): values[each.dest] for each in _in_file()})
        return changes

    # Not before all ranks have read what the run was begun with.
    setup.grid.world.barrier("reading the run folder")
    return on_rank_zero(setup.grid.world, make, "making the run folder")


def _in_file() -> list[Option]:
    return [each for each in OF_A_TRAINING if each.in_file == "kept" and each.flag is not None]


def _name_in_file(option: Option) -> str:
    return option.dest if option.positional else str(option.flag).removeprefix("--")
