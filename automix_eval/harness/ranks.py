"""Several processes of one run: who this one is, and how they exchange what each has found.

The rank is the global process index, so that a run may span machines (the harness's own hf model
takes the local one). Exchanges stand before and after the cascade, never inside it: an escalation
is uneven, and a rank must not wait for another in the middle of a question.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from automix_eval.safety.errors import AutoMixError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

# Ranks wait for the slowest one, whose questions may all be escalated.
TIMEOUT = timedelta(weeks=4)


class Ranks:
    """The processes of this run.

    Attributes:
        index: Global index of this process.
        number: How many there are.
    """

    def __init__(self) -> None:
        self.index, self.number = 0, 1
        self._accelerator: Any = None
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from accelerate import Accelerator
            from accelerate.utils import InitProcessGroupKwargs

            self._accelerator = Accelerator(
                kwargs_handlers=[InitProcessGroupKwargs(timeout=TIMEOUT)]
            )
            # A worker of gloo that frees its last tensors while the interpreter goes down aborts
            # the process when all is done (pytorch/pytorch#190489): the group ends before.
            atexit.register(self._accelerator.end_training)
            self.index = int(self._accelerator.process_index)
            self.number = int(self._accelerator.num_processes)
            if self.number != int(os.environ["WORLD_SIZE"]):
                raise AutoMixError(
                    f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, and accelerate finds {self.number} "
                    "process(es): start the run with accelerate launch or torchrun (on a machine "
                    "without GPU with ACCELERATE_USE_CPU=true and torchrun)"
                )

    @property
    def device(self) -> torch.device:
        """Where tensors of the harness's own exchanges live."""
        return self._accelerator.device  # type: ignore[no-any-return]

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's share, strided like the harness strides its documents."""
        return items[self.index :: self.number]

    def gather_tensor(self, tensor: Any) -> Any:
        """Tensors of all processes, concatenated."""
        return self._accelerator.gather(tensor) if self.number > 1 else tensor

    def gather(self, value: T) -> list[T]:
        """The value of every process, in the order of their indices, in every process."""
        if self.number == 1:
            return [value]
        from torch import distributed

        values: list[Any] = [None] * self.number
        distributed.all_gather_object(values, value)
        return values

    def first(self, value: T) -> T:
        """The value of process 0, in every process."""
        return self.gather(value)[0]

    def barrier(self) -> None:
        """Wait for all."""
        if self.number > 1:
            self._accelerator.wait_for_everyone()

    def together(self, work: Callable[[], T]) -> list[T]:
        """Do something in every process, then exchange the results.

        Raises:
            AutoMixError: It failed in some process: then it fails in all of them, so that none
                waits for one that is gone. The process's own error is raised where it happened.
        """
        value: T | None = None
        error: Exception | None = None
        try:
            value = work()
        except Exception as err:  # noqa: BLE001 - raised again below, once the others know
            error = err
        problem = None if error is None else f"{type(error).__name__}: {error}"
        outcomes = self.gather((problem, value))
        if error is not None:
            raise error
        failed = [f"process {i}: {text}" for i, (text, _) in enumerate(outcomes) if text]
        if failed:
            raise AutoMixError(
                "another process of this run failed; finished calls are kept and the same command "
                "resumes. " + "; ".join(failed)
            )
        return [value for _, value in outcomes]  # type: ignore[misc]


def interleave(shares: Sequence[Sequence[T]], kept: Sequence[bool]) -> list[T]:
    """The inverse of :meth:`Ranks.share`: all items in their order from the processes' shares.

    Args:
        shares: Of each process what is kept of its own.
        kept: Of all items whether they are.
    """
    own = [iter(share) for share in shares]
    return [next(own[i % len(own)]) for i, keeps in enumerate(kept) if keeps]
