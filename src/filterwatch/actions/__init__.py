"""Acting on anomaly filters: masking them, or stopping in time."""

from filterwatch.actions.action import Action, RunningFit
from filterwatch.actions.action_states import (
    action_states,
    checked_actions,
    load_action_states,
    masks_of,
    refuse_lost_masks,
)
from filterwatch.actions.candidates import FlaggedFilter
from filterwatch.actions.finished import MaskedFilters, mask_filters
from filterwatch.actions.masking import MaskFilters
from filterwatch.actions.masks import FilterMasks
from filterwatch.actions.stopping import StopTraining
from filterwatch.actions.wiring import Filter

__all__ = [
    "Action",
    "Filter",
    "FilterMasks",
    "FlaggedFilter",
    "MaskFilters",
    "MaskedFilters",
    "RunningFit",
    "StopTraining",
    "action_states",
    "checked_actions",
    "load_action_states",
    "mask_filters",
    "masks_of",
    "refuse_lost_masks",
]
