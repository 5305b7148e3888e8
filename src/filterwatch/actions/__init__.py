"""Acting on anomaly filters: masking them, or stopping in time."""

from filterwatch.actions.action import Action, Watch
from filterwatch.actions.action_list import ActionList
from filterwatch.actions.finished import MaskedFilters, mask_filters
from filterwatch.actions.flags import FlaggedFilter
from filterwatch.actions.mask_action import MaskFilters
from filterwatch.actions.stop_action import StopTraining

__all__ = [
    "Action",
    "ActionList",
    "FlaggedFilter",
    "MaskFilters",
    "MaskedFilters",
    "StopTraining",
    "Watch",
    "mask_filters",
]
