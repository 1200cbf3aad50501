"""A run's beginning, anew or where it stopped."""

from __future__ import annotations

import argparse
from typing import Any

from seqbraid.cli.config import CONFIG, write_config
from seqbraid.cli.flags import in_flags
from seqbraid.cli.train.setup import Setup
from seqbraid.comm import Communicator, on_rank_zero
from seqbraid.data.dataset import Dataset, open_dataset
from seqbraid.errors import OptionsError
from seqbraid.options.commands import OF_A_TRAINING
from seqbraid.options.resuming import changed_options, fallen_away, refuse_changes
from seqbraid.train import RunFolder
from seqbraid.train.trained_on import open_for_run

__all__ = ["begin", "open_data", "resumes"]


def resumes(options: argparse.Namespace, folder: RunFolder, world: Communicator) -> bool:
    """Return whether there is a run to go on with, by rank 0's word; collective."""
    if options.resume and options.overwrite:
        raise OptionsError("--resume goes on with a run and --overwrite deletes it; give one of them")
    there = world.all_gather_objects(folder.holds_a_run, "looking for the run")[0]
    return bool(options.resume and there)


def open_data(options: argparse.Namespace, folder: RunFolder, resumed: bool) -> Dataset:
    """Open the data set; for a run that goes on, refuse another one, and options that it cannot change."""
    if not resumed:
        return open_dataset(options.data, options.split)
    trained = folder.options()
    before: dict[str, Any] = trained.get("arguments", {})
    refuse_changes(OF_A_TRAINING, before, vars(options), folder.folder)
    for name in fallen_away(OF_A_TRAINING, before, vars(options)):
        setattr(options, name, None)
    done = len(folder.metrics())
    if options.epochs < done:
        raise OptionsError(f"{folder.folder} has {done} epochs done, more than --epochs {options.epochs}")
    dataset = open_for_run(folder.folder, trained, options.data, options.split)
    found = {"train": len(dataset.train), "test": len(dataset.test)}
    if trained.get("sequences") != found:
        raise OptionsError(
            f"{folder.folder} was begun on {trained.get('sequences')} sequences, but {options.data} has "
            f"{found}; give the data that it was begun on, or begin another run"
        )
    return dataset


def begin(setup: Setup, folder: RunFolder, resumed: bool) -> list[str]:
    """Let rank 0 make or take over the run folder; return there what a resumed run changes. Collective."""
    changes: list[str] = []

    def make() -> None:
        if resumed:
            record, of_before = setup.record(), folder.options()
            lines = changed_options(OF_A_TRAINING, of_before.get("arguments", {}), setup.arguments)
            changes.extend(in_flags(line, setup.options.parser) for line in lines)
            for name in ("ranks", "threads"):
                if name in of_before and of_before[name] != record[name]:
                    changes.append(
                        f"{name}: {record[name]} (was {of_before[name]}); the run ends as an undisturbed one "
                        "to the solver's accuracy, not bit for bit"
                    )
            folder.write_options(record)
        else:
            folder.create(setup.record(), setup.options.overwrite)
        write_config(folder.folder / CONFIG, setup.options.parser, setup.options)

    # Not before all ranks have read what the run was begun with.
    setup.grid.world.barrier("reading the run folder")
    on_rank_zero(setup.grid.world, make, "making the run folder")
    return changes
