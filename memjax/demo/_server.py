"""The server of the page: one process, one port, and an address that nobody can guess."""

import contextlib
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from memjax._checks import import_package
from memjax.demo._beginnings import learn_first, open_run
from memjax.demo._session import Session

__all__ = ["serve"]


def serve(
    load: Callable[[Path], Any],
    run: Path | None = None,
    dataset: str | None = None,
    folder: Path = Path("runs"),
    host: str = "127.0.0.1",
    port: int = 0,
    open: bool = False,
) -> None:
    """Serve the page until the process is interrupted, and print its address.

    Args:
        load: returns the network, params, state and record of the folder of a run.
        run: the folder of a run to begin with; None begins with a dataset.
        dataset: "digits", "mnist", or None for MNIST where it needs no download.
        folder: where runs are saved, and found again.
        host: the address to listen at.
        port: the port; 0 takes a free one.
        open: whether to open the page in a browser.
    """
    uvicorn = import_package("uvicorn", "The page", "demo")
    import_package("starlette", "The page", "demo")
    from memjax.demo._app import Site

    # A mistake in the run is told before the page is opened.
    begin = partial(learn_first, dataset) if run is None else partial(open_run, run, load(run))
    session = Session(begin)
    token = secrets.token_urlsafe(16)
    listening = _listen(host, port)
    port = listening.getsockname()[1]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/{token}/"
    app = Site(session, folder, load).app(token, host)
    config = uvicorn.Config(
        app, loop="asyncio", log_level="warning", access_log=False, server_header=False
    )
    print(f"memjax demo: {url}  (Ctrl-C ends it)", flush=True)
    if open:
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
    server = uvicorn.Server(config)
    # A signal ends the process as it ends the other commands, which uvloop would not let it. To
    # return to the interpreter while a thread compiles would abort it.
    server.capture_signals = contextlib.nullcontext
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:
        pass
    finally:
        session.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen()  # so that the address can be asked as soon as it is printed
    except OSError as error:
        listening.close()
        raise OSError(f"--port: {host}:{port} cannot be used ({error.strerror}).") from None
    return listening
