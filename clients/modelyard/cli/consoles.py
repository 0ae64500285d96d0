"""Consoles that commands open: of the user's own server, or of one elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from modelyard.client import Access
from modelyard.client.access import SERVER_FILE, TOKEN_FILE
from modelyard.console.launch import Behind, Console

FOLDER: Final = "console"
LOG: Final = "logs/console.log"


def open_own(data_dir: Path, port: int) -> Console:
    """The console of the server that has a data folder, and that listens."""
    address = json.loads((data_dir / SERVER_FILE).read_text())["address"]
    token = (data_dir / TOKEN_FILE).read_text().strip()
    return Console(Behind(address, token), data_dir / FOLDER, port, log=data_dir / LOG)


def open_other(address: str, access: Access, project: str, data_dir: Path, port: int) -> Console:
    """A console of a server elsewhere, with what the options say of the user."""
    behind = Behind(
        address,
        access.token,
        ca=str(access.ca or ""),
        certificate=str(access.certificate or ""),
        key=str(access.key or ""),
        server_name=access.server_name,
        project=project,
    )
    return Console(behind, data_dir / f"{FOLDER}-other", port, log=data_dir / LOG)
