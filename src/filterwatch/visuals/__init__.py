"""Pictures: figures and their way to a logger, progress bars, and the HTML pages."""

from typing import TYPE_CHECKING

from filterwatch._lazy import lazy_names

if TYPE_CHECKING:
    from filterwatch.visuals.drawing import render as render
    from filterwatch.visuals.gallery import Gallery as Gallery
    from filterwatch.visuals.gallery import Pictures as Pictures
    from filterwatch.visuals.gallery import chosen_pictures as chosen_pictures
    from filterwatch.visuals.loggers import send_text as send_text
    from filterwatch.visuals.memorization_figures import memorization_figure as memorization_figure
    from filterwatch.visuals.page import write_page as write_page
    from filterwatch.visuals.page_memorization import PageMemorization as PageMemorization
    from filterwatch.visuals.page_numbers import PageModel as PageModel
    from filterwatch.visuals.progress import probe_progress as probe_progress
    from filterwatch.visuals.progress import progress_bar as progress_bar
    from filterwatch.visuals.report_figure import report_figure as report_figure
    from filterwatch.visuals.report_page import write_report_page as write_report_page
    from filterwatch.visuals.sprite_sheet import PageImages as PageImages
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        drawing=["render"],
        gallery=["Gallery", "Pictures", "chosen_pictures"],
        loggers=["send_text"],
        memorization_figures=["memorization_figure"],
        page=["write_page"],
        page_memorization=["PageMemorization"],
        page_numbers=["PageModel"],
        progress=["probe_progress", "progress_bar"],
        report_figure=["report_figure"],
        report_page=["write_report_page"],
        sprite_sheet=["PageImages"],
    )
