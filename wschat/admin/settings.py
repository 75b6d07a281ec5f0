"""`wschat config`: every option, its value, and where that is from."""

from __future__ import annotations

import json
from argparse import Namespace
from typing import Any

from wschat import config
from wschat.admin.context import Context


def add_parser(commands: Any) -> None:
    """The command's own."""
    parser = commands.add_parser("config", help="print every option with its value and its source")
    parser.set_defaults(run=run)


def run(context: Context, arguments: Namespace) -> None:
    """A line for each option, as the configuration file has it; secrets are not shown."""
    for given in context.given:
        setting = given.setting
        text = setting.default if given.text is None else given.text
        if setting.name == "data-dir" and given.text is None:
            text = str(context.config.data_dir)
        source = given.source or "the default"
        if setting.name == "config-file" and text:
            context.say(f"# {setting.name} = {text}  # {source}")  # it cannot name itself
        elif setting.secret and text:
            public = config.without_secrets(text) if setting.name == "database" else ""
            context.say(f"# {setting.name} = {public or '(not shown)'}  # {source}")
        elif given.text is None and not text:
            context.say(f"# {setting.name} is not set")
        else:
            context.say(f"{setting.name} = {json.dumps(text, ensure_ascii=False)}  # {source}")
