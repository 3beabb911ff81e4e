"""A headless Chromium driven over its DevTools protocol: open a page, look, click, tamper.

The protocol is JSON over one WebSocket: commands carry an id and are answered, events carry a
method. One browser serves a whole test session, each test opens a page of its own in a fresh
browser context, so that nothing stored by one test is seen by another.
Source: Chrome DevTools Protocol, domains Target, Page, Runtime, Log, Fetch, Emulation.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import aiohttp

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    # Pages of one test session need no walls between each other, and processes are slow to start.
    "--renderer-process-limit=1",
    "--remote-debugging-port=0",
)

DEADLINE_S = 20.0
POLL_S = 0.02
COMMAND_S = 15.0
# A screenshot in base64, or a page's whole text.
MESSAGE_BYTES = 64 * 1024 * 1024

Json = dict[str, Any]
Tamper = Callable[[Json, Any], Any]
"""(request, result) of one JSON-RPC call → the result that the page shall see instead."""


def chromium() -> str | None:
    """The browser, where it is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """One Chromium process with an empty profile. Use as an asynchronous context."""

    def __init__(self, binary: str) -> None:
        self._binary = binary
        self._profile = tempfile.TemporaryDirectory(
            prefix="tally-browser-", ignore_cleanup_errors=True
        )
        self._next_id = 0
        self._answers: dict[int, asyncio.Future[Json]] = {}
        self._listeners: dict[str, Callable[[str, Json], None]] = {}

    async def __aenter__(self) -> Self:
        command = [self._binary, *FLAGS, f"--user-data-dir={self._profile.name}", "about:blank"]
        self._process = await asyncio.create_subprocess_exec(
            *command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._http = aiohttp.ClientSession()
        port_file = Path(self._profile.name, "DevToolsActivePort")
        lines: list[str] = []

        async def listening() -> bool:
            assert self._process.returncode is None, "the browser ended by itself"
            lines[:] = _lines_of(port_file)
            return len(lines) == 2

        await until(listening, "the browser listens")
        self._socket = await self._http.ws_connect(
            f"ws://127.0.0.1:{lines[0]}{lines[1]}", max_msg_size=MESSAGE_BYTES
        )
        self._reader = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reader.cancel()
        await self._socket.close()
        await self._http.close()
        self._process.kill()
        await self._process.wait()
        self._profile.cleanup()

    async def _read(self) -> None:
        async for message in self._socket:
            content = json.loads(message.data)
            if "id" in content:
                answer = self._answers.pop(content["id"], None)
                if answer is not None and not answer.done():
                    answer.set_result(content)
            elif content.get("sessionId") in self._listeners:
                listener = self._listeners[content["sessionId"]]
                listener(content["method"], content.get("params", {}))

    async def send(self, method: str, session: str | None = None, **params: Any) -> Json:
        """One command's result."""
        self._next_id += 1
        body: Json = {"id": self._next_id, "method": method, "params": params}
        if session is not None:
            body["sessionId"] = session
        answer = self._answers[self._next_id] = asyncio.get_running_loop().create_future()
        await self._socket.send_str(json.dumps(body))
        content = await asyncio.wait_for(answer, COMMAND_S)
        assert "error" not in content, f"{method}: {content['error']}"
        result: Json = content["result"]
        return result

    async def new_page(self, *, width: int = 1280, height: int = 900, dark: bool = False) -> Page:
        """An empty page in a browser context of its own."""
        context = (await self.send("Target.createBrowserContext"))["browserContextId"]
        target = await self.send("Target.createTarget", url="about:blank", browserContextId=context)
        attached = await self.send(
            "Target.attachToTarget", targetId=target["targetId"], flatten=True
        )
        page = Page(self, attached["sessionId"], context)
        self._listeners[page.session] = page.on_event
        for domain in ("Page", "Runtime", "Log", "Network"):
            await page.send(f"{domain}.enable")
        await page.resize(width, height, dark=dark)
        return page


class Page:
    """One tab. `complaints` is everything a careful developer would see in the console."""

    def __init__(self, browser: Browser, session: str, context: str) -> None:
        self.session = session
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self._browser = browser
        self._context = context
        self._tamper: Tamper | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def send(self, method: str, **params: Any) -> Json:
        """One command's result."""
        return await self._browser.send(method, self.session, **params)

    def on_event(self, method: str, params: Json) -> None:
        """Keeps what is complained about, and answers paused requests."""
        match method:
            case "Runtime.exceptionThrown":
                details = params["exceptionDetails"]
                thrown = details.get("exception", {}).get("description", details["text"])
                self.complaints.append(f"exception: {thrown}")
            case "Runtime.consoleAPICalled" if params["type"] in ("error", "warning", "assert"):
                words = [str(each.get("value", each.get("description"))) for each in params["args"]]
                self.complaints.append(f"console: {' '.join(words)}")
            case "Log.entryAdded" if params["entry"]["level"] in ("error", "warning"):
                entry = params["entry"]
                self.complaints.append(f"{entry['source']}: {entry['text']} {entry.get('url', '')}")
            case "Network.requestWillBeSent":
                self.requests.append(params["request"]["url"])
            case "Fetch.requestPaused":
                task = asyncio.create_task(self._answer_paused(params))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Close it with all that it stored."""
        await self._browser.send("Target.disposeBrowserContext", browserContextId=self._context)

    # ---- looking ---------------------------------------------------------------------------------

    async def resize(self, width: int, height: int, *, dark: bool) -> None:
        """As on a screen of this size, with this preference for colours."""
        await self.send(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.send("Emulation.setEmulatedMedia", features=[scheme])

    async def open(self, url: str) -> None:
        """Load an address, or go to another fragment of the one that is open."""
        await self.send("Page.navigate", url=url)

    async def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page; promises are awaited."""
        answer = await self.send(
            "Runtime.evaluate",
            expression=expression,
            awaitPromise=True,
            returnByValue=True,
            # The page's policy holds for us too.
            allowUnsafeEvalBlockedByCSP=False,
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, expression: str, what: str | None = None) -> Any:
        """The expression's first true value. Says what the page showed when there is none.

        While a page loads, half of it is missing: an expression that throws is not true yet.
        """
        guarded = f"(() => {{ try {{ return {expression}; }} catch {{ return null; }} }})()"

        async def holds() -> Any:
            return await self.evaluate(guarded)

        try:
            return await until(holds, what or expression)
        except AssertionError as error:
            shown = await self.evaluate("document.body.innerText")
            raise AssertionError(f"{error}\n{self.complaints}\n{shown[:3_000]}") from None

    async def text(self, selector: str = "main") -> str:
        """The text that an element shows."""
        shown: str = await self.evaluate(
            f"document.querySelector({json.dumps(selector)}).innerText"
        )
        return shown

    async def until_text(self, wanted: str, selector: str = "main") -> None:
        """Until an element shows a text."""
        await self.until(
            f"document.querySelector({json.dumps(selector)})?.innerText"
            f".includes({json.dumps(wanted)})",
            f"{selector} shows {wanted!r}",
        )

    async def screenshot(self, *, whole: bool = False) -> bytes:
        """A PNG of what is seen, or of the whole page."""
        answer = await self.send(
            "Page.captureScreenshot", format="png", captureBeyondViewport=whole
        )
        return base64.b64decode(answer["data"])

    # ---- acting ----------------------------------------------------------------------------------

    async def click(self, selector: str) -> None:
        """Click the first element that matches."""
        await self.evaluate(f"document.querySelector({json.dumps(selector)}).click()")

    async def press(self, key: str, code: str, key_code: int, text: str = "") -> None:
        """One key, as from a keyboard."""
        for kind in ("keyDown", "keyUp"):
            await self.send(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=code,
                windowsVirtualKeyCode=key_code,
                **({"text": text} if text and kind == "keyDown" else {}),
            )

    async def type(self, text: str) -> None:
        """Text into what has the focus."""
        await self.send("Input.insertText", text=text)

    async def tamper_with(self, tamper: Tamper | None) -> None:
        """From now on the page sees what `tamper` makes of each JSON-RPC result."""
        self._tamper = tamper
        if tamper is None:
            await self.send("Fetch.disable")
        else:
            await self.send(
                "Fetch.enable", patterns=[{"urlPattern": "*", "requestStage": "Response"}]
            )

    async def _answer_paused(self, params: Json) -> None:
        request, paused = params["request"], params["requestId"]
        tamper = self._tamper
        if tamper is None or request["method"] != "POST" or "responseStatusCode" not in params:
            await self.send("Fetch.continueRequest", requestId=paused)
            return
        answer = await self.send("Fetch.getResponseBody", requestId=paused)
        body = answer["body"]
        raw = base64.b64decode(body) if answer["base64Encoded"] else body.encode()
        asked, answers = json.loads(request["postData"]), json.loads(raw)
        one = isinstance(asked, dict)
        by_id = {each["id"]: each for each in ([asked] if one else asked)}
        for each in [answers] if one else answers:
            if "result" in each:
                each["result"] = tamper(by_id[each["id"]], each["result"])
        await self.send(
            "Fetch.fulfillRequest",
            requestId=paused,
            responseCode=params["responseStatusCode"],
            responseHeaders=params["responseHeaders"],
            body=base64.b64encode(json.dumps(answers).encode()).decode(),
        )


def _lines_of(path: Path) -> list[str]:
    """The lines of a file that may not have been written yet."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_text().split()
    return []


async def until(condition: Callable[[], Awaitable[Any]], what: str) -> Any:
    """The condition's first true value, before the deadline."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + DEADLINE_S
    while True:
        found = await condition()
        if found:
            return found
        assert loop.time() < end_s, f"gave up waiting until {what}"
        await asyncio.sleep(POLL_S)
