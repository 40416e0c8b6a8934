"""The seeded faults fit the code of today; running them takes most of an hour: `make seeded-faults`."""

from __future__ import annotations

import pytest

from tests.seeded_faults import run


@pytest.mark.parametrize("fault", run.read_faults(), ids=lambda fault: f"{fault.area}: {fault.name}")
def test_a_seeded_fault_fits_the_file_that_it_breaks(fault: run.Fault) -> None:
    text = (run.ROOT / fault.file).read_text()

    assert fault.applied_to(text) != text
    assert all((run.ROOT / test.partition("::")[0]).exists() for test in fault.tests)
