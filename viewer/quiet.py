"""viser's server without what it prints."""

import io
import warnings
from contextlib import redirect_stdout

import viser


def start_server(host: str, port: int) -> viser.ViserServer:
    """On this port or the next free one."""
    # Browsers leave while something is on its way to them: nobody needs to know.
    warnings.filterwarnings("ignore", r"Queued a \w+ on a closed connection", UserWarning)
    # The table of addresses is printed whatever `verbose` says.
    with redirect_stdout(io.StringIO()):
        return viser.ViserServer(host=host, port=port, label="recon", verbose=False)


def stop_server(server: viser.ViserServer) -> None:
    """Close its port and connections."""
    with redirect_stdout(io.StringIO()):
        server.stop()
