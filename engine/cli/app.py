"""The command line as a whole: which commands there are, and what goes for all of them."""

from typing import Annotated

import typer

from engine.cli.exit_codes import table
from engine.cli.output import Output
from engine.cli.registry import Nouns
from engine.cli.session import Common, ConfigOption, DataOption, JsonOption, PrefixOption, RedisOption

_EPILOG = f"""\b
Examples:
  ganger run --handlers my_app.tasks
  ganger submit thumbnail --payload '{{"id": 7}}' --wait
  ganger tasks --status FAILED
  ganger top

\b
Without a Redis URL, commands share an embedded Redis that keeps its data in .ganger/.
The options above may stand before or after the name of a command.

\b
Exit codes:
{table()}
"""

app = typer.Typer(
    name="ganger", cls=Nouns, epilog=_EPILOG,
    help="Run CPU-heavy Python tasks in isolated worker processes, by priority.",
    no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})


def _version(wanted: bool) -> None:
    if wanted:
        from engine import __version__

        Output().line(f"ganger {__version__}")
        raise typer.Exit


@app.callback()
def _common(context: typer.Context, config: ConfigOption = None, redis_url: RedisOption = None,
            data_dir: DataOption = None, queue_prefix: PrefixOption = None, json: JsonOption = False,
            version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True,
                                                  help="Print the version.")] = False) -> None:
    context.obj = Common(config, redis_url, data_dir, queue_prefix, json)

