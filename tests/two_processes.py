"""Training on two processes in a test: each leaves its process group before it ends."""

import atexit

import torch
from lightning.pytorch.strategies import DDPStrategy


class TwoProcesses(DDPStrategy):
    """`ddp_spawn` whose processes destroy their process group while Python still runs.

    Lightning does so for NCCL alone. A thread of Gloo's that frees a last tensor while the
    interpreter shuts down aborts the process, at times, after all its work is done
    (https://github.com/pytorch/pytorch/issues/190489).
    """

    def __init__(self) -> None:
        super().__init__(start_method="spawn")

    def setup_environment(self) -> None:
        super().setup_environment()
        atexit.register(torch.distributed.destroy_process_group)
