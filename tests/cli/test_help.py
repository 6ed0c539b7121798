"""What the command line says before it does anything: help with examples, completion, one line for wrong words."""

import os
import pty
import re
import sys
import time
from pathlib import Path

import pytest
from command_tree import COMMANDS, command_lines, parse

from surrogate.cli import main
from surrogate.progress import ProgressBar


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_ends_in_an_example_that_can_be_typed(name: str) -> None:
    example = COMMANDS[name].epilog or ""
    assert example.startswith("Example")
    assert name in [parse(words) for words in command_lines(example.partition(": ")[2])]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is(name: str) -> None:
    assert COMMANDS[name].help
    for parameter in COMMANDS[name].params:
        if name != "launch":  # its only parameter is a command line
            assert getattr(parameter, "help", None), parameter.name


def test_without_arguments_the_command_says_where_to_start(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["surrogate"])
    with pytest.raises(SystemExit):
        main()
    shown = " ".join("".join(capsys.readouterr()).split())
    start = shown[shown.index("Start with your data: ") :]
    assert [parse(words) for words in command_lines(start)] == ["new", "run"]


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["trian"], ["train"]], ids=" ".join)
def test_no_output_is_coloured_without_a_terminal(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["surrogate", *words])
    with pytest.raises(SystemExit):
        main()
    shown = "".join(capsys.readouterr())
    assert shown.startswith("Usage: surrogate")
    assert "\x1b" not in shown


def test_no_progress_is_coloured_where_that_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal, end = pty.openpty()
    with os.fdopen(end, "w") as file, ProgressBar("training", "steps", file=file) as progress:
        progress(0, 100)
        time.sleep(0.01)
        progress(50, 100)
    shown = os.read(terminal, 100_000).decode()
    os.close(terminal)
    assert re.search(r"50 of 100 steps, [0-9.e+]+ per s, \d+ s left", shown)
    assert not re.search(r"\x1b\[[0-9;]*[34][0-9]", shown)  # colours of letters and of their ground


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("surrogate stat", ["statistics"]),
        ("surrogate run quick", ["quickstart"]),
        ("surrogate simulate pea", ["peaks"]),
        ("surrogate train --resu", ["--resume"]),
        ("surrogate train mi", ["mine.yaml"]),
    ],
)
def test_the_shell_completes(typed: str, completed: list[str], tmp_path: Path, monkeypatch, capsys) -> None:
    (tmp_path / "mine.yaml").touch()
    monkeypatch.chdir(tmp_path)
    position = str(len(typed.split()) - 1)
    for name, value in {"_SURROGATE_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": position}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["surrogate"])
    with pytest.raises(SystemExit):
        main()
    assert capsys.readouterr().out.split() == completed
