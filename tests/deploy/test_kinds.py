"""One list of operation kinds, `runtime.reader.FIELDS`: what it holds is packed, and computed by every engine."""

import bayesbinn as bb
from bayesbinn.runtime.container import read
from bayesbinn.runtime.native_engine import KINDS
from bayesbinn.runtime.reader import FIELDS, READERS
from tests.deploy.nets import NETWORKS


def test_the_networks_that_every_engine_and_export_is_tested_with_hold_every_kind() -> None:
    packed = [bb.deploy.pack(make(), input_shape=shape) for make, shape in NETWORKS]
    assert {entry["op"] for raw in packed for entry in read(raw).plan["ops"]} == FIELDS.keys() == READERS.keys()
    assert {op.kind for raw in packed for op in bb.deploy.load_program(raw).ops} == set(KINDS)
