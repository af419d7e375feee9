"""What `evaluate` asks of the data, beyond what test_commands.py runs."""

import numpy as np

from bayesbinn.cli.evaluate import CALIBRATION, _calibration
from bayesbinn.train.data import make_data


def test_batch_norm_sees_every_class_of_a_file_that_goes_through_them_in_turn():
    count, classes = 4 * CALIBRATION, 10
    x = np.arange(count, dtype=np.float32)[:, None]
    y = np.arange(count) % classes
    data = make_data("in turn", {"x_train": x, "y_train": y, "x_test": x[:20], "y_test": y[:20]})
    seen = _calibration(data)
    shares = np.bincount(y[seen[:, 0].long().numpy()], minlength=classes) / CALIBRATION
    assert len(seen) == CALIBRATION
    assert np.abs(shares - 1 / classes).max() < 0.03
