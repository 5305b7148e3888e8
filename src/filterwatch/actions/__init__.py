"""Acting on anomaly filters: masking them, or stopping in time."""

from typing import TYPE_CHECKING

from filterwatch._lazy import lazy_names

if TYPE_CHECKING:
    from filterwatch.actions.action import Action, RunningFit
    from filterwatch.actions.candidates import FlaggedFilter
    from filterwatch.actions.finished import mask_filters
    from filterwatch.actions.masking import MaskFilters
    from filterwatch.actions.masks import FilterMasks
    from filterwatch.actions.state_of_actions import (
        action_states,
        checked_actions,
        load_action_states,
        refuse_lost_masks,
    )
    from filterwatch.actions.stopping import StopTraining
    from filterwatch.actions.wiring import Filter
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        action=["Action", "RunningFit"],
        state_of_actions=[
            *("action_states", "checked_actions"),
            *("load_action_states", "refuse_lost_masks"),
        ],
        candidates=["FlaggedFilter"],
        finished=["mask_filters"],
        masking=["MaskFilters"],
        masks=["FilterMasks"],
        stopping=["StopTraining"],
        wiring=["Filter"],
    )

__all__ = [
    "Action",
    "Filter",
    "FilterMasks",
    "FlaggedFilter",
    "MaskFilters",
    "RunningFit",
    "StopTraining",
    "action_states",
    "checked_actions",
    "load_action_states",
    "mask_filters",
    "refuse_lost_masks",
]
