"""The warning that batch norm has the statistics of other weights than a prediction is made with."""

import pytest
import torch
from torch import nn

from bayesbinn import BinaryLinear, calibrate_, optimizer_for, predict
from bayesbinn.binarizers import SignSTE
from bayesbinn.nn import UncalibratedWarning


def test_the_mode_of_a_network_trained_since_its_calibration_is_warned_of():
    net = nn.Sequential(BinaryLinear(6, 4), nn.BatchNorm1d(4), BinaryLinear(4, 3))
    x = torch.randn(64, 6)

    def mode():
        return predict(net, x, 0)

    mode()  # nothing was trained: batch norm does nothing yet
    optimizer = optimizer_for(net, num_data=64)

    def train():
        net.train()(x).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    train()
    with pytest.warns(UncalibratedWarning, match=r"loses accuracy with them: call bb\.calibrate_"):
        mode()
    predict(net, x, 2)  # the draws have what they were trained with
    predict(net, x, 0, calibration=x)
    calibrate_(net, x)
    mode()
    copied = nn.Sequential(BinaryLinear(6, 4), nn.BatchNorm1d(4), BinaryLinear(4, 3))
    copied.load_state_dict(net.state_dict())
    predict(copied, x, 0)  # what was calibrated goes along
    train()
    with pytest.warns(UncalibratedWarning, match="loses accuracy"):
        mode()
    for layer in (net[0], net[2]):
        layer.binarizer = SignSTE()  # trained at its mode
    mode()
