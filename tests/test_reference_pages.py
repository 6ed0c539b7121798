"""The generated pages of the documentation: every command and option, every key of the YAML, each with its meaning."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from command_tree import COMMANDS

from surrogate.experiment.settings import Experiment
from surrogate.models.registry import families, settings_of
from surrogate.studies import StudySettings

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "docs" / "_ext"))
from reference import commands_page, configuration_page

ROW = re.compile(r"^\| `(\w+)` \| (?:.*) \| (.*) \|$", re.MULTILINE)


def test_every_command_and_option_is_described() -> None:
    page = commands_page()
    for name, command in COMMANDS.items():
        section = page.partition(f"## `surrogate {name}`\n")[2].partition("\n## ")[0]
        assert section, name
        for parameter in command.params:
            shown = parameter.opts[0] if parameter.param_type_name == "option" else parameter.name.upper()
            assert parameter.name == "help" or shown in section, (name, parameter.name)


def test_every_key_has_its_meaning() -> None:
    page = configuration_page()
    without = [key for key, meaning in ROW.findall(page) if not meaning.strip()]
    assert without == []
    keys = {key for key, _ in ROW.findall(page)} | set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    expected = {*Experiment.model_fields, *StudySettings.model_fields, "cases", "study"}
    for family in families():
        assert f"{{family: {family}}}" in page
        expected |= set(type(settings_of({"family": family})).model_fields) - {"family"}
    assert expected <= keys, expected - keys
