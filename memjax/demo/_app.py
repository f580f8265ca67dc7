"""The page's side of HTTP: who may ask, how much, and what each address does."""

import hmac
import ipaddress
import json
import sys
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from memjax import checkpoint, datasets
from memjax.demo import _steps as steps
from memjax.demo._beginnings import open_run, save_run
from memjax.demo._session import NotReadyError, Session

_STATIC = Path(__file__).parent / "static"
_FILES = tuple(path.name for path in _STATIC.iterdir() if path.suffix in (".css", ".js"))
_MOST_BYTES = 1 << 20
_MOST_PICTURES = 5000
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
        "connect-src 'self'; media-src 'self' blob:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class TooLargeError(ValueError):
    """More was sent than an image can need."""


class Site:
    """What the addresses of the page do."""

    def __init__(self, session: Session, folder: Path, load: Callable[[Path], Any]):
        self._session = session
        self._folder = folder
        self._load_run = load

    def app(self, token: str, host: str) -> Starlette:
        """Return the ASGI application; all addresses begin with the token."""
        asked = {
            "bank": self._bank,
            "digest": self._digest,
            "runs": self._runs,
            "example": self._example,
        }
        told = {
            "answer": self._answer,
            "pictures": self._pictures,
            "teach": self._teach,
            "forget": self._forget,
            "undo": self._undo,
            "empty": self._empty,
            "play": self._play,
            "save": self._save,
            "load": self._load,
        }
        routes = [Route("/{token}/", self._page)]
        routes += [Route(f"/{{token}}/{name}", self._file) for name in _FILES]
        for names, method in ((asked, "GET"), (told, "POST")):
            for name, endpoint in names.items():
                routes.append(Route(f"/{{token}}/{name}", _guarded(endpoint), methods=[method]))
        app = Starlette(routes=routes)
        app.add_middleware(_Door, token=token, host=host)
        return app

    async def _page(self, request: Request) -> Response:
        return FileResponse(_STATIC / "page.html")

    async def _file(self, request: Request) -> Response:
        return FileResponse(_STATIC / request.url.path.rpartition("/")[2])

    async def _bank(self, request: Request) -> Any:
        version = request.query_params.get("version", "0")
        if not version.isdecimal():
            raise ValueError("version: expected a whole number.")
        return await run_in_threadpool(self._session.overview, int(version))

    async def _digest(self, request: Request) -> Any:
        return {"digest": await run_in_threadpool(self._session.digest)}

    async def _example(self, request: Request) -> Response:
        pixels, name = await run_in_threadpool(self._session.example)
        return Response(pixels, headers={"X-Name": json.dumps(name)})

    async def _answer(self, request: Request) -> Any:
        image = self._image(await _body(request))
        return await run_in_threadpool(self._session.answer, image)

    async def _pictures(self, request: Request) -> Response:
        serials = (await _json(request)).get("serials")
        is_list = isinstance(serials, list) and all(isinstance(one, int) for one in serials)
        if not is_list or len(serials) > _MOST_PICTURES:
            raise ValueError(f"serials: expected a list of up to {_MOST_PICTURES} numbers.")
        return Response(await run_in_threadpool(self._session.pictures, serials))

    async def _teach(self, request: Request) -> Any:
        told = await _json(request)
        image, name = self._image(_pixels(told.get("image"))), told.get("name")
        return await self._step(f"teaching “{name}”", lambda known: steps.teach(known, image, name))

    async def _forget(self, request: Request) -> Any:
        told = await _json(request)
        if "memory" in told:
            serial = told["memory"]
            return await self._step(
                "forgetting a memory", lambda known: steps.forget_memory(known, serial)
            )
        name = told.get("name")
        return await self._step(
            f"forgetting “{name}”", lambda known: steps.forget_class(known, name)
        )

    async def _undo(self, request: Request) -> Any:
        return await run_in_threadpool(self._session.undo)

    async def _empty(self, request: Request) -> Any:
        return await self._step(
            "emptying the bank",
            lambda known: (steps.empty(known), "The bank is empty. Draw and teach, or play."),
        )

    async def _play(self, request: Request) -> Any:
        is_on = bool((await _json(request)).get("on"))
        return await run_in_threadpool(self._session.play, is_on)

    async def _runs(self, request: Request) -> Any:
        found = self._folder.glob("*/record.json") if self._folder.is_dir() else ()
        return {"folder": str(self._folder), "names": sorted(file.parent.name for file in found)}

    async def _save(self, request: Request) -> Any:
        run = self._run((await _json(request)).get("name"))
        await run_in_threadpool(save_run, self._session.now.knowledge, run)
        return {"said": f"Saved as {run}."}

    async def _load(self, request: Request) -> Any:
        run = self._run((await _json(request)).get("name"))
        return await self._step(
            f"loading {run.name}",
            lambda _: (open_run(run, self._load_run(run)), f"Loaded {run.name}."),
        )

    async def _step(self, title: str, change: Callable[[Any], Any]) -> Any:
        return await run_in_threadpool(self._session.step, title, change)

    def _image(self, pixels: bytes) -> np.ndarray:
        shape = self._session.now.knowledge.network.input_shape
        if len(pixels) != np.prod(shape):
            raise ValueError(
                f"image: expected {' x '.join(map(str, shape))} bytes, got {len(pixels)}."
            )
        return np.frombuffer(pixels, np.uint8).reshape(shape)

    def _run(self, name: Any) -> Path:
        """Return the folder of a run; a name leads to no other folder."""
        is_name = isinstance(name, str) and name == Path(name).name and name.isprintable()
        if not is_name or not 1 <= len(name) <= 100 or name.startswith("."):
            raise ValueError(
                "The name of a run is one word or several, without / or a leading dot."
            )
        return self._folder / name


def _guarded(endpoint: Callable[[Request], Awaitable[Any]]) -> Callable[..., Awaitable[Response]]:
    """Answer with JSON, and whatever goes wrong with a sentence."""

    async def answer(request: Request) -> Response:
        try:
            found = await endpoint(request)
            return found if isinstance(found, Response) else JSONResponse(found)
        except NotReadyError as error:
            return _sentence(error, 503)
        except TooLargeError as error:
            return _sentence(error, 413)
        except (
            ValueError,
            TypeError,
            ImportError,
            OSError,
            datasets.DatasetError,
            checkpoint.CheckpointError,
        ) as error:
            return _sentence(error, 400)
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            return _sentence(f"Something went wrong on the server ({type(error).__name__}).", 500)

    return answer


def _sentence(error: Any, status: int) -> Response:
    return JSONResponse({"error": " ".join(str(error).split())}, status)


async def _body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BYTES:
            raise TooLargeError(f"Expected at most {_MOST_BYTES:,} bytes.")
    return body


async def _json(request: Request) -> Any:
    try:
        told = json.loads(await _body(request))
    except ValueError as error:
        if isinstance(error, TooLargeError):
            raise
        raise ValueError("Expected JSON.") from None
    if not isinstance(told, dict):
        raise ValueError("Expected a JSON object.")
    return told


def _pixels(text: Any) -> bytes:
    """Return the bytes of an image that is written in hexadecimal."""
    if not isinstance(text, str):
        raise ValueError("image: expected pixels in hexadecimal.")
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ValueError("image: expected pixels in hexadecimal.") from None


class _Door:
    """Let those in who know the token, and come from the page itself.

    A page of another host that has its name point at this machine says its own name in Host.
    """

    def __init__(self, app: Any, token: str, host: str):
        self._app = app
        self._token = token.encode()
        self._hosts = {"localhost", "127.0.0.1", "[::1]", host, f"[{host}]"}
        self._is_open = host in ("0.0.0.0", "::")

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        origin = headers.get(b"origin")
        token = scope["path"].lstrip("/").partition("/")[0].encode("utf-8", "replace")
        if not self._knows(host):
            refused = _sentence("This page answers to its own address only.", 421)
        elif origin is not None and origin != f"{scope['scheme']}://{host}":
            refused = _sentence("This page takes requests from itself only.", 403)
        elif not hmac.compare_digest(token, self._token):
            refused = _sentence("Open the page by the address that memjax demo has printed.", 404)
        else:
            refused = self._app

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                more = [(k.lower().encode(), v.encode()) for k, v in _HEADERS.items()]
                message = message | {"headers": [*message.get("headers", []), *more]}
            await send(message)

        await refused(scope, receive, send_with_headers)

    def _knows(self, host: str) -> bool:
        name, _, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
        name = name if port.isdecimal() else host
        if name in self._hosts:
            return True
        if not self._is_open:
            return False
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True
