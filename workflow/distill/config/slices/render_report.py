"""The slice of the config that `render_report` depends on."""

from typing import Any

from distill.config.slices.render_tables import RenderTables


class RenderReport(RenderTables):
    """Slice of render_report, besides that of the tables' page.

    Attributes:
        recipes: each system's name without its training seed.
        prompts: how many prompts of each set are shown with their answers.
        folders: the artifacts of each system, as paths in the results folder.
        config: the whole config, which the report shows.
        template: digest of the page's template, style and script.
    """

    recipes: dict[str, str]
    prompts: int
    folders: dict[str, list[str]]
    config: dict[str, Any]
    template: str
