"""Options from a TOML file mean what they mean on the command line, and a written file brings them back."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from config_files import write_options
from hypothesis import given, settings
from hypothesis import strategies as st

from seqbraid.cli.arguments import add_options, positive, whole
from seqbraid.cli.config import apply_config, read_config, require
from seqbraid.cli.main import build_parser, main
from seqbraid.errors import OptionsError
from seqbraid.options import RunOptions, options_of
from seqbraid.train.config_file import write_config


def subparser(command: str) -> argparse.ArgumentParser:
    """Return the real parser of one subcommand."""
    commands = next(action for action in build_parser()._actions if action.dest == "command")
    assert isinstance(commands.choices, dict)
    parser = commands.choices[command]
    assert isinstance(parser, argparse.ArgumentParser)
    return parser


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one option of each kind."""
    parser.add_argument("data", type=Path, nargs="?", metavar="DATA")
    parser.add_argument("--output", type=Path, metavar="RUN")
    add_options(parser, options_of(RunOptions, "overwrite", "resume", "config"))
    parser.add_argument("--name")
    parser.add_argument("--cell", choices=("classic", "implicit"), default="classic")
    parser.add_argument("--batch-size", "-b", type=whole(1, 10**9), default=100)
    parser.add_argument("--lr", type=positive, default=1e-3)
    parser.add_argument("--shift", type=float)
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--no-pinning", dest="pin", action="store_false")
    parser.add_argument("--standardise", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--sizes", type=whole(1, 9), nargs="+", default=[4])
    parser.add_argument("--range", type=float, nargs=2)
    parser.add_argument("--names", nargs="*")
    parser.set_defaults(parser=parser)


def small_parser() -> argparse.ArgumentParser:
    """Return a parser with one option of each kind."""
    parser = argparse.ArgumentParser(prog="braid run")
    add_arguments(parser)
    return parser


def parse(*arguments: str, file: Path | None = None) -> argparse.Namespace:
    """Parse as `main` does it, behind a parser of several commands."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(dest="command", required=True)
    add_arguments(commands.add_parser("run"))
    commands.add_parser("other")
    words = [*arguments, *([] if file is None else ["--config", str(file)])]
    return apply_config(parser, words, parser.parse_args(words))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "run.toml"


def refused(file: Path, text: str, parser: argparse.ArgumentParser | None = None) -> str:
    """Return the one line that reading `text` raises, after the name of the file."""
    file.write_text(text, encoding="utf-8")
    with pytest.raises(OptionsError) as caught:
        read_config(file, parser or small_parser())
    message = str(caught.value)
    assert message.startswith(str(file))
    assert "\n" not in message
    return message[len(str(file)) :]


def test_train_takes_its_options_from_a_file(file: Path) -> None:
    file.write_text(
        'data = "features/"\noutput = "run"\ncell = "implicit"\nhidden-size = 30\nnum_layers = 2\nlr = 1e-2\n'
        'solver = "mgrit"\ncoarsening = "auto"\ntolerance = 1\nsplit = 2\noverwrite = true\n',
        encoding="utf-8",
    )
    words = "train features/ --output run --cell implicit --hidden-size 30 --num-layers 2 --lr 1e-2"
    words += " --solver mgrit --coarsening auto --tolerance 1 --split 2 --overwrite"
    expected = vars(build_parser().parse_args(words.split()))
    found = read_config(file, subparser("train"))
    assert found == {name: expected[name] for name in found}
    assert [type(value) for value in found.values()] == [type(expected[name]) for name in found]
    assert len(found) == 11


@pytest.mark.parametrize(
    ("option", "word"),
    [
        ("batch-size", "0"),
        ("batch-size", "2.0"),
        ("lr", "nan"),
        ("lr", "'much'"),
        ("coarsening", "0"),
        ("coarsening", "'all'"),
        ("cell", "'lstm'"),
        ("gamma", "-1"),
    ],
)
def test_a_wrong_value_is_told_as_on_the_command_line(
    file: Path, capsys: pytest.CaptureFixture[str], option: str, word: str
) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["train", "data", "--output", "run", f"--{option}={word.strip(chr(39))}"])
    match = re.search(rf"argument --{option}: (.*); see seqbraid train --help", capsys.readouterr().err)
    assert match is not None
    assert refused(file, f"{option} = {word}", subparser("train")) == f": {option}: {match[1]}"


def test_a_type_without_words_of_its_own_is_told_as_argparse_tells_it(file: Path) -> None:
    assert refused(file, "shift = 'far'") == ": shift: invalid float value: 'far'"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bach-size = 3", "'bach-size' is no option of braid run; did you mean batch-size?"),
        ("batchsize = 3", "did you mean batch-size?"),
        ("weather = 3", "'weather' is no option of braid run; see braid run --help"),
        ('"two\\nlines" = 3', r"'two\nlines' is no option"),
        ("b = 3", "'b' is no option"),
        ("pin = true", "'pin' is no option"),
        ("resume = true", "resume is for the command line alone"),
        ("help = true", "help is for the command line alone"),
        ("config = 'other.toml'", "config is for the command line alone"),
        ("[batch-size]\nvalue = 3", "'batch-size' is a table; write its options as plain lines"),
        ("[training]\nlr = 3", "'training' is a table"),
        ("[[sizes]]\nlr = 3", "'sizes' is a table"),
        ("training.lr = 3", "'training' is a table"),
        ("batch-size = 3\nbatch_size = 3", "batch-size is given twice"),
        ("fast = 1", "fast: 1 is neither true nor false"),
        ("standardise = 'no'", "standardise: 'no' is neither true nor false"),
        ("lr = true", "lr: true is neither text in quotes nor a number"),
        ("name = [1]", "name: [1] is neither text in quotes nor a number"),
        ("name = 2026-01-02", "name: 2026-01-02 is neither text in quotes nor a number"),
        ('data = "a\\u0000b"', r"data: 'a\x00b' holds the character of number 0"),
        ("sizes = 3", "sizes: 3 is not a list"),
        ("sizes = [3, 10]", "sizes: '10' is not a whole number from 1 to 9"),
        ("sizes = []", "sizes: the list is empty"),
        ("range = [1]", "range: 1 values; expected 2"),
    ],
)
def test_what_a_file_cannot_say_is_an_error_that_names_it(file: Path, text: str, message: str) -> None:
    assert message in refused(file, text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("lr = 1\ncell = implicit\n", 2),
        ("lr = 1\n\nlr = 2\n", 3),
        ("lr = 1\nname = 'open\n", 2),
        ("lr = 1\n\nsizes = [1,\n2\n", 4),
        ("lr", 1),
    ],
)
def test_a_broken_file_is_an_error_that_names_the_line(file: Path, text: str, line: int) -> None:
    message = refused(file, text)
    assert message.startswith(" is no TOML: ")
    assert re.search(rf"at line {line}\b", message), message


def test_a_file_that_is_not_utf8_is_an_error_that_names_the_line(file: Path) -> None:
    file.write_bytes(b"lr = 1\nname = 'caf\xe9'\n")
    with pytest.raises(OptionsError, match=r"run\.toml is no UTF-8 text \(at line 2\)"):
        read_config(file, small_parser())


def test_nesting_without_end_is_an_error(file: Path) -> None:
    refused(file, "sizes = " + "[" * 100_000)


def test_a_file_saved_by_windows_is_read(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbflr = 2\r\nfast = true\r\n")
    assert read_config(file, small_parser()) == {"lr": 2.0, "fast": True}


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OptionsError, match=r"absent\.toml cannot be read \(No such file or directory\)"):
        read_config(tmp_path / "absent.toml", small_parser())
    with pytest.raises(OptionsError, match="cannot be read"):
        read_config(tmp_path, small_parser())


def test_flags_take_true_and_false(file: Path) -> None:
    file.write_text("fast = true\nno-pinning = true\nstandardise = false", encoding="utf-8")
    assert read_config(file, small_parser()) == {"fast": True, "pin": False, "standardise": False}
    file.write_text("fast = false\nno-pinning = false\nstandardise = true", encoding="utf-8")
    assert read_config(file, small_parser()) == {"fast": False, "pin": True, "standardise": True}


def test_the_command_line_wins_over_the_file_and_the_file_over_defaults(file: Path) -> None:
    file.write_text(
        "data = 'a'\nlr = 2\nbatch-size = 7\nsizes = [1, 2]\nstandardise = false", encoding="utf-8"
    )
    options = parse("run", "--lr", "3", "--sizes", "9", "--standardise", file=file)
    assert (options.lr, options.batch_size, options.cell) == (3.0, 7, "classic")
    assert (options.sizes, options.standardise) == ([9], True)
    assert options.data == Path("a")
    assert parse("run", "b", file=file).data == Path("b")
    assert parse("run", file=file).sizes == [1, 2]


def test_without_a_file_nothing_changes() -> None:
    assert parse("run", "--lr", "3").lr == 3.0
    assert vars(parse("other")) == {"command": "other"}


def test_what_neither_gives_is_told_by_the_names_on_the_command_line(file: Path) -> None:
    parser = small_parser()
    require(parser, parser.parse_args(["a", "--output", "b"]), "data", "output")
    with pytest.raises(OptionsError, match=r"^DATA, --output must be given, on the command line or in a"):
        require(parser, parser.parse_args([]), "data", "output")
    file.write_text("output = 'run'", encoding="utf-8")
    with pytest.raises(OptionsError, match=r"^DATA must be given"):
        require(parser, parse("run", file=file), "data", "output")


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
LINE = TEXT | st.sampled_from(
    ['a "b" c', "it's", "back\\slash\\", "two\nlines\r\n", '"""', "\x7f\x1b", "# no", " "]
)
NUMBER = st.floats(allow_nan=False)
OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "data": st.none() | LINE.map(Path),
    "output": st.none() | LINE.map(Path),
    "overwrite": st.just(False),
    "resume": st.just(False),
    "name": st.none() | LINE,
    "cell": st.sampled_from(["classic", "implicit"]),
    "batch_size": st.integers(1, 10**9),
    "lr": st.floats(1e-300, 1e29) | st.sampled_from([1e-3, 1.0, 0.1 + 0.2]),
    "shift": st.none() | NUMBER,
    "fast": st.booleans(),
    "pin": st.booleans(),
    "standardise": st.booleans(),
    "sizes": st.lists(st.integers(1, 9), min_size=1),
    "range": st.none() | st.lists(NUMBER, min_size=2, max_size=2),
    "names": st.none() | st.lists(LINE),
}


@pytest.fixture(scope="module")
def shared_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config") / "config.toml"


def read_back(file: Path, parser: argparse.ArgumentParser) -> dict[str, Any]:
    parser.set_defaults(**read_config(file, parser))
    return vars(parser.parse_args([]))


@settings(deadline=None)
@given(values=st.fixed_dictionaries(OPTIONS))
def test_a_written_file_brings_every_option_back(shared_file: Path, values: dict[str, Any]) -> None:
    write_options(shared_file, small_parser(), argparse.Namespace(**values))
    found = read_back(shared_file, small_parser())
    assert {name: found[name] for name in values} == values
    assert all(type(found[name]) is type(value) for name, value in values.items())


@pytest.mark.parametrize(
    "words",
    [
        "train data --output run",
        "train data --output run --overwrite --solver mgrit --coarsening auto --memory 55 --pad zeros",
        "train data --output run --solver mgrit --tolerance 1e-4 --lr 1e-5 --storage c_points --split 2",
        "evaluate run data",
        "evaluate run data --which best --part train --solver mgrit --coarsening 8 --on-divergence serial",
    ],
)
def test_the_real_commands_options_come_back(file: Path, words: str) -> None:
    parser = subparser(words.split()[0])
    given = vars(parser.parse_args(words.split()[1:]))
    write_options(file, parser, argparse.Namespace(**given))
    found = read_config(file, parser)
    assert found == {
        name: value
        for name, value in given.items()
        if value is not None and name not in ("overwrite", "run", "config", "resume", "parser")
    }


def test_a_written_file_says_how_to_use_it_and_what_was_not_given(
    write_arrays: Callable[..., Path], tmp_path: Path
) -> None:
    data = write_arrays()
    assert main(["train", str(data), "--output", str(tmp_path / "run"), "--epochs", "1"]) == 0
    lines = (tmp_path / "run" / "config.toml").read_text(encoding="utf-8").splitlines()
    assert lines[0].endswith("seqbraid train --config THIS_FILE --output ANOTHER")
    assert f'data = "{data}"' in lines
    assert "hidden-size = 100" in lines
    assert "lr = 0.001" in lines
    assert "# patience is not given" in lines
    assert not any("overwrite" in line for line in lines)


def test_a_path_that_is_no_text_becomes_a_comment(file: Path) -> None:
    options = small_parser().parse_args(["caf\udce9", "--name", "x", "--names", "a", "b\udce9"])
    write_options(file, small_parser(), options)
    assert r"# data is 'caf\udce9', which is no UTF-8; give it on the command line" in file.read_text("utf-8")
    found = read_config(file, small_parser())
    assert found["name"] == "x"
    assert not {"data", "names"} & set(found)


def test_options_that_a_file_cannot_hold_are_a_defect_of_the_command(file: Path) -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--word", action="append")
    with pytest.raises(TypeError, match="word: options of the kind _AppendAction have no form in a file"):
        read_config(file, parser)
    with pytest.raises(TypeError, match=r"part: .* has no form in TOML"):
        write_config(file, {"part": {1}}, "braid run")
