"""What the conformance tests of model families share."""

import pytest
import torch

from tests import tiny


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(params=list(tiny.VARIANTS))
def variant(request):
    return request.param
