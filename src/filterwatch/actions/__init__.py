"""Acting on anomaly filters: masking them, or stopping in time."""

from typing import TYPE_CHECKING

from filterwatch._lazy import lazy_names

if TYPE_CHECKING:
    from filterwatch.actions.action import Action as Action
    from filterwatch.actions.action import RunningFit as RunningFit
    from filterwatch.actions.candidates import FlaggedFilter as FlaggedFilter
    from filterwatch.actions.finished import mask_filters as mask_filters
    from filterwatch.actions.masking import MaskFilters as MaskFilters
    from filterwatch.actions.masks import FilterMasks as FilterMasks
    from filterwatch.actions.state_of_actions import action_states as action_states
    from filterwatch.actions.state_of_actions import checked_actions as checked_actions
    from filterwatch.actions.state_of_actions import load_action_states as load_action_states
    from filterwatch.actions.state_of_actions import refuse_lost_masks as refuse_lost_masks
    from filterwatch.actions.stopping import StopTraining as StopTraining
    from filterwatch.actions.wiring import Filter as Filter
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        action=["Action", "RunningFit"],
        candidates=["FlaggedFilter"],
        finished=["mask_filters"],
        masking=["MaskFilters"],
        masks=["FilterMasks"],
        state_of_actions=[
            "action_states",
            "checked_actions",
            "load_action_states",
            "refuse_lost_masks",
        ],
        stopping=["StopTraining"],
        wiring=["Filter"],
    )
