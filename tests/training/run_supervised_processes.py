"""Supervised runs for several processes: writes the weights of the baselines to the file given, and noise drawn."""

import sys

import torch
from accelerate.utils import gather_object
from safetensors.torch import save_file

from energysolve.baselines import Feedforward, IterativeFeedforward, UnrolledFeedforward
from energysolve.tasks import Addition
from energysolve.training import SupervisedTrainer, make_accelerator


class Watched(IterativeFeedforward):
    """Keeps the noise levels of its batches."""

    def forward(self, x, y, share):
        self.seen = [*getattr(self, "seen", []), *share.flatten().tolist()]
        return super().forward(x, y, share)


def main(path: str) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    accelerator = make_accelerator(cpu=True)
    written = {"processes": torch.tensor(accelerator.num_processes)}
    for cls, settings in ((Feedforward, {}), (Watched, {}), (UnrolledFeedforward, {"replay": 30})):
        torch.manual_seed(accelerator.process_index)
        model = cls(12, (6,), width=16)
        options = {"batch_size": 8, "accumulate": 2, "lr": 1e-2, "generator": torch.Generator().manual_seed(7)}
        SupervisedTrainer(model, Addition(6), accelerator=accelerator, **options, **settings).fit(20)
        if cls is Watched:
            written["levels"] = torch.tensor(gather_object([model.seen]))
        written |= {f"{cls.__name__}.{name}": value for name, value in model.state_dict().items()}
    if accelerator.is_main_process:
        save_file(written, path)


if __name__ == "__main__":
    main(sys.argv[1])
