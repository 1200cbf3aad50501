"""What the one declaration of an option gives: flags, checks in the same words, rules of a resumed run."""

from __future__ import annotations

import argparse
import subprocess
import sys
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from config_files import write_options

from seqbraid.cells import CellKind as CellKindOfCells
from seqbraid.cells import PropagatorKind
from seqbraid.cli.arguments import add_options
from seqbraid.cli.config import read_config
from seqbraid.cli.flags import in_flags
from seqbraid.cli.main import build_parser
from seqbraid.errors import OptionsError
from seqbraid.options import (
    MGRIT,
    CellKind,
    ModelOptions,
    TrainingOptions,
    options_of,
    require_beside,
    values_of,
)
from seqbraid.options.commands import OF_A_TRAINING
from seqbraid.options.declaring import Beside, Option, check, documented, option
from seqbraid.options.extraction import ExtractOptions
from seqbraid.options.kinds import FLAG, POSITIVE, Kind, Number, OneOf, PerLevel, Whole
from seqbraid.options.reference import CLASSES, reference
from seqbraid.options.resuming import changed_options, fallen_away, recorded, refuse_changes
from seqbraid.options.solver import CoarseKind

EVERY = [pytest.param(kind, each, id=each.name) for kind in CLASSES for each in options_of(kind)]


def inner(each: Option) -> Kind:
    return each.kind.each if isinstance(each.kind, PerLevel) else each.kind


NUMBERS = [
    pytest.param(kind, each, id=each.name)
    for kind in CLASSES
    for each in options_of(kind)
    if isinstance(inner(each), Whole | Number) and each.flag is not None
]
# Fields that are groups of options themselves.
OPTIONS_WITHIN: dict[type[Any], tuple[str, ...]] = {ExtractOptions: ("sampling", "splits")}
OUTSIDE: tuple[object, ...] = ("nonsense", -1, 10**40, float("nan"))
REQUIRED = {"feature_size": 3, "classes": 2}


@documented
@dataclass(frozen=True)
class Baking:
    """Options of another kind than any command has."""

    oven: str = option("gas", OneOf("gas", "wood"), "what heats it", change="fixed")
    logs: int = option(3, Whole(1, 9), "logs at a time", metavar="N", beside=Beside("oven", "wood"))
    heat: float = option(200.0, POSITIVE, "degrees", flag="--degrees", detail="Of Celsius.")
    turns: int | tuple[int, ...] = option(1, PerLevel(Whole(1, 5)), "turns on each rack", metavar="T")
    steam: bool = option(False, FLAG, "let steam in")
    patience: int | None = option(None, Whole(1, 99), "minutes at most", unset="any")
    cook: str = option("you", OneOf("you", "I"), "who does it", flag=None)

    def __post_init__(self) -> None:
        check(self)


BAKING = options_of(Baking)


def baking_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bake")
    add_options(parser, BAKING)
    return parser


def refusal(parser: argparse.ArgumentParser, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with pytest.raises(SystemExit):
        parser.parse_args(words)
    return capsys.readouterr().err


@pytest.mark.parametrize(("kind", "each"), EVERY)
def test_every_option_says_all_that_there_is_to_say(kind: type[Any], each: Option) -> None:
    assert each.help
    assert each.help in " ".join((kind.__doc__ or "").split())
    assert each.flag is not None or each.default is MISSING
    if each.default not in (None, MISSING):
        assert each.kind.take(each.default) == each.default
    if each.beside is not None:
        assert each.beside.name in {other.name for other in OF_A_TRAINING}


def test_the_reference_in_the_docs_is_current() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "options.md"
    remedy = "run python -m seqbraid.options.reference > docs/options.md"
    assert page.read_text(encoding="utf-8") == reference(), remedy


def test_the_reference_tells_what_an_option_acts_beside_and_what_a_run_cannot_change() -> None:
    lines = {line.split(" | ")[1]: line for line in reference().splitlines() if line.startswith("| `-")}
    momentum = lines["`TrainingOptions.momentum`"]
    assert "| 0.9 |" in momentum
    assert "Acts beside `--optimizer sgd` alone." in momentum
    assert lines["`TrainingOptions.seed`"].endswith("| fixed |")
    assert len(lines) > 50


def test_every_field_is_an_option() -> None:
    for kind in CLASSES:
        own = [each.name for each in fields(kind) if each.name not in OPTIONS_WITHIN.get(kind, ())]
        assert own == [each.name for each in options_of(kind)]


def test_words_that_others_declare_too_are_the_same() -> None:
    assert get_args(CellKind) == get_args(CellKindOfCells)
    assert set(get_args(CoarseKind)) == set(get_args(PropagatorKind))


def test_options_bring_nothing_heavy() -> None:
    look = "import sys, seqbraid.options.commands, seqbraid.options.resuming; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert not {"torch", "numpy", "numba", "argparse"} & set(done.stdout.split())


@pytest.mark.parametrize(("kind", "each"), NUMBERS)
def test_a_value_outside_is_told_in_the_same_words_in_python_and_on_the_command_line(
    kind: type[Any], each: Option, capsys: pytest.CaptureFixture[str]
) -> None:
    phrase = inner(each).expected
    parser = argparse.ArgumentParser()
    add_options(parser, [each])
    for value in OUTSIDE:
        with pytest.raises(OptionsError) as caught:
            kind(**REQUIRED if kind is ModelOptions else {}, **{each.name: value})
        assert f"{each.name} is {value!r}; expected {phrase}" in str(caught.value)
        said = refusal(parser, capsys, f"{each.flag}={value}")
        assert f"argument {each.flag}: {str(value)!r} is not {phrase}" in said


def test_values_become_pythons_own() -> None:
    options = TrainingOptions(epochs=np.int64(3), learning_rate=np.float32(0.5), clip_norm=1)
    assert (type(options.epochs), type(options.learning_rate), type(options.clip_norm)) == (int, float, float)
    assert MGRIT(levels=3, coarsening=[4, 2]).coarsening == (4, 2)  # type: ignore[arg-type]  # as JSON has it


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"oven": "coal"}, "oven is 'coal'; expected one of gas, wood"),
        ({"logs": True}, "logs is True; expected a whole number from 1 to 9"),
        ({"logs": None}, "logs is None; expected a whole number from 1 to 9"),
        ({"heat": "hot"}, "heat is 'hot'; expected a positive number below 1e30"),
        ({"turns": (1, 6)}, "turns is 6; expected a whole number from 1 to 5"),
        ({"steam": 1}, "steam is 1; expected True or False"),
        ({"patience": 0}, "patience is 0; expected a whole number from 1 to 99 or None"),
    ],
)
def test_python_refuses_what_is_none_of_the_kind(values: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError) as caught:
        Baking(**values)
    assert str(caught.value) == message


def test_flags_and_help_come_from_the_declaration() -> None:
    parser = baking_parser()
    text = " ".join(parser.format_help().split())
    assert "--oven {gas,wood} what heats it (default: gas)" in text
    assert "--logs N logs at a time (default: 3)" in text
    assert "--degrees DEGREES degrees (default: 200)" in text
    assert "--patience PATIENCE minutes at most (default: any)" in text
    assert "--steam let steam in" in text
    assert "--cook" not in text
    words = ["--oven", "wood", "--degrees", "180", "--turns", "2,1", "--steam"]
    given = vars(parser.parse_args(words))
    assert values_of(Baking, given) == {"oven": "wood", "heat": 180.0, "turns": (2, 1), "steam": True}
    assert Baking(**values_of(Baking, given)) == Baking("wood", 3, 180.0, (2, 1), True)


def test_an_option_beside_one_that_is_another_is_refused_by_its_flag() -> None:
    parser = baking_parser()
    given = vars(parser.parse_args(["--logs", "2"]))
    with pytest.raises(OptionsError) as caught:
        require_beside(BAKING, given)
    assert in_flags(str(caught.value), parser) == "--logs is for --oven wood; add that, or leave it out"
    require_beside(BAKING, vars(parser.parse_args(["--logs", "2", "--oven", "wood"])))
    require_beside(BAKING, vars(parser.parse_args([])))


def test_an_option_beside_any_value_of_another_is_refused_without_one() -> None:
    options = options_of(TrainingOptions, "nested_levels", "nested_epochs")
    with pytest.raises(OptionsError, match="`nested_epochs` is for `nested_levels`; add that"):
        require_beside(options, {"nested_levels": 0, "nested_epochs": 1})
    require_beside(options, {"nested_levels": 1, "nested_epochs": 1})


def test_a_parameter_is_told_by_its_flag_where_that_is_another_word() -> None:
    assert in_flags("take `heat=180`, not `logs`", baking_parser()) == "take --degrees 180, not --logs"


def test_values_a_level_come_back_from_a_file(tmp_path: Path) -> None:
    commands = next(action for action in build_parser()._actions if action.dest == "command")
    assert isinstance(commands.choices, dict)
    train = commands.choices["train"]
    words = "data --output run --solver mgrit --levels 3 --coarsening 16,4 --relaxation FCF,F"
    words += " --c-weight 1,0.5"
    given = train.parse_args(words.split())
    assert values_of(MGRIT, vars(given)) == {
        "coarsening": (16, 4),
        "levels": 3,
        "relaxation": ("FCF", "F"),
        "c_weight": (1.0, 0.5),
    }
    file = tmp_path / "run.toml"
    write_options(file, train, given)
    found = read_config(file, train)
    assert [found[name] for name in ("coarsening", "relaxation", "c_weight")] == [
        (16, 4),
        ("FCF", "F"),
        (1.0, 0.5),
    ]
    file.write_text("coarsening = [16, 0]")
    with pytest.raises(OptionsError, match="coarsening: '0' is not a whole number from 1 to"):
        read_config(file, train)


def test_a_run_keeps_what_belongs_to_it_as_plain_values() -> None:
    given = {"data": Path("x"), "output": Path("run"), "resume": True, "coarsening": (4, 2), "lr": 0.1}
    assert recorded(OF_A_TRAINING, given) == {"data": "x", "coarsening": [4, 2], "lr": 0.1}


def test_a_run_that_goes_on_refuses_what_would_make_it_another() -> None:
    before = {"oven": "wood", "logs": 4, "degrees": 200.0}
    refuse_changes(BAKING, before, {"oven": "wood", "degrees": 100.0}, "bread")
    with pytest.raises(OptionsError) as caught:
        refuse_changes(BAKING, before, {"oven": "gas"}, "bread")
    assert str(caught.value) == (
        "bread was begun with `oven=wood`, which it cannot change to gas; leave it out, or begin another run"
    )


def test_an_option_that_is_younger_than_the_run_was_at_its_default() -> None:
    refuse_changes(BAKING, {}, {"oven": "gas"}, "bread")
    with pytest.raises(OptionsError, match="begun with `oven=gas`"):
        refuse_changes(BAKING, {}, {"oven": "wood"}, "bread")


def test_a_run_that_goes_on_tells_its_changes_and_drops_what_has_lost_its_meaning() -> None:
    before = {"oven": "wood", "logs": 4, "degrees": 200.0, "turns": [1, 2]}
    now: dict[str, Any] = {"oven": "gas", "logs": 4, "degrees": 100.0, "turns": (1, 2), "steam": False}
    assert fallen_away(BAKING, before, now) == ["logs"]
    assert fallen_away(BAKING, before, {**now, "logs": 5}) == []  # which is refused, since it was asked for
    assert changed_options(options_of(MGRIT, "coarse"), {"coarse": None}, {"coarse": "frozen"}) == []
    now["logs"] = None
    assert changed_options(BAKING, before, now) == ["`oven=gas` (was wood)", "`heat=100.0` (was 200.0)"]
