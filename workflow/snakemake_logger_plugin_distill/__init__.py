"""Snakemake's output on a terminal: what is done, what runs now and how far it is (`--logger distill`).

Snakemake finds it by its name on Python's path, where `make env` puts this folder, and imports it at every start, so
that what it needs to draw is loaded where it draws. Without a terminal, in a dry run, and where the user asks for
Snakemake's own words, it prints them.
"""

import sys
from dataclasses import dataclass, field
from logging import Formatter
from typing import TYPE_CHECKING, Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase

if TYPE_CHECKING:
    from snakemake_logger_plugin_distill.display import Display


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """Options of the command line: `--logger-distill-plain`."""

    plain: bool = field(default=False, metadata={"help": "Print Snakemake's own lines on a terminal, too."})


class LogHandler(LogHandlerBase):
    """Passes records on to Snakemake's own handler until jobs start, and from then on to the display."""

    writes_to_stream = True
    writes_to_file = has_filter = has_formatter = needs_rulegraph = False
    _display: "Display | None" = None

    def __post_init__(self) -> None:
        from snakemake.logging import ColorizingTextHandler

        common = self.common_settings
        self._own = ColorizingTextHandler(common.nocolor, sys.stdout if common.stdout else sys.stderr)
        asked = common.dryrun or common.verbose or common.debug_dag or common.printshellcmds
        self._draws = (
            not (asked or (isinstance(self.settings, LogHandlerSettings) and self.settings.plain))
            and self._own.can_color_tty()
        )

    def setFormatter(self, fmt: Formatter | None) -> None:  # noqa: N802 - the name that logging asks for
        """Hands Snakemake's formatter to its handler."""
        self._own.setFormatter(fmt)

    def emit(self, record: Any) -> None:
        """Shows a record; the first statistics of jobs to run start the display."""
        event = getattr(record, "event", None)
        if self._draws and event in (LogEvent.WORKFLOW_STARTED, LogEvent.RESOURCES_INFO):
            return  # Snakemake's log has it
        if self._draws and self._display is None and event == LogEvent.RUN_INFO:
            from snakemake_logger_plugin_distill.display import Display

            self._display = Display(record.stats["total"], self.common_settings.nocolor)
        if self._display is None:
            self._own.emit(record)
        else:
            self._display.show(record)

    def close(self) -> None:
        """Ends the display, whose last lines stay."""
        if self._display is not None:
            self._display.stop()
        super().close()
