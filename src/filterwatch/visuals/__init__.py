"""Pictures: figures and their way to a logger, and the HTML reports."""

from filterwatch.visuals.page import write_page
from filterwatch.visuals.page_numbers import PageModel
from filterwatch.visuals.pictures import Pictures
from filterwatch.visuals.progress import progress_bar
from filterwatch.visuals.sprite_sheet import PageImages

__all__ = ["PageImages", "PageModel", "Pictures", "progress_bar", "write_page"]
