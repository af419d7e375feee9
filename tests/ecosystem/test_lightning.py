"""Lightning with automatic optimization: one optimizer, a scheduler, clipping, accumulation, saving and resuming."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import bayesbinn as bb

# its import warns of pkg_resources and the like, which is not ours
pytestmark = pytest.mark.filterwarnings("ignore")
lightning = pytest.importorskip("lightning.pytorch", reason="needs lightning")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def module(num_data: int) -> Any:
    class Classifier(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            layers = [nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3), nn.BatchNorm1d(3)]
            self.net = bb.binarize_(nn.Sequential(*layers))
            self.losses: list[float] = []

        def training_step(self, batch: tuple[Tensor, Tensor], index: int) -> Tensor:
            x, y = batch
            loss = F.cross_entropy(self.net(x), y)
            self.losses.append(float(loss.detach()))
            return loss

        def configure_optimizers(self) -> Any:
            optimizer = bb.optimizer_for(self.net, num_data=num_data)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 60)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    torch.manual_seed(0)
    return Classifier()


def trainer(folder: Path, epochs: int, **options: Any) -> Any:
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return lightning.Trainer(max_epochs=epochs, accelerator="cpu", default_root_dir=folder, **quiet, **options)


@pytest.fixture
def loader() -> DataLoader[Any]:
    torch.manual_seed(1)
    x = torch.randn(320, 8)
    return DataLoader(TensorDataset(x, x[:, :3].argmax(1)), batch_size=32)


@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2, "gradient_clip_val": 1.0}], ids=["", "more"])
def test_it_trains_saves_and_resumes(tmp_path: Path, loader: DataLoader[Any], options: dict[str, Any]) -> None:
    whole = module(320)
    torch.manual_seed(2)
    trainer(tmp_path / "whole", 6, **options).fit(whole, loader)
    assert sum(whole.losses[-10:]) < 0.7 * sum(whole.losses[:10])

    first = module(320)
    torch.manual_seed(2)
    start = trainer(tmp_path / "parts", 3, **options)
    start.fit(first, loader)
    file = tmp_path / "parts" / "last.ckpt"
    start.save_checkpoint(file)
    state = torch.get_rng_state()  # of the draws; Lightning keeps no generators

    second = module(320)
    torch.set_rng_state(state)
    trainer(tmp_path / "parts", 6, **options).fit(second, loader, ckpt_path=file)
    for name, value in whole.net.state_dict().items():
        assert torch.equal(value, second.net.state_dict()[name]), name
    bb.calibrate_(second.net, loader)
    p = bb.predict(second.net, loader, num_samples=8)
    assert float((p.labels == torch.cat([y for _, y in loader])).float().mean()) > 0.8
