"""The temporary server of `metaloom serve` dies."""

from __future__ import annotations

import psutil
import pytest

SOON = 30  # seconds after which it has ended


@pytest.mark.slow
def test_serve_ends_with_an_error_when_its_server_dies(standin):
    process = standin.start("serve", "--interval", "86400")
    assert "serving the deployment" in process.stdout.readline()
    (server,) = psutil.Process(process.pid).children()
    login = standin.root / ".metaloom/prefect.env"
    assert login.exists()
    server.kill()
    out, err = process.communicate(timeout=SOON)
    assert process.returncode == 1
    assert err.startswith("error: Prefect's temporary server has ended (") and "start again" in err
    assert standin.ended(server.pid)
    assert not login.exists()  # commands that take it would ask a server that is gone
