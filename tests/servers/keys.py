"""The keys of the S3 servers of the tests: SeaweedFS checks them, moto accepts any."""

from __future__ import annotations

from typing import Any

KEYS: dict[str, Any] = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
