"""Commands as forks of one process that has imported what they import: the imports take 9 seconds.

``run`` and ``start`` are as ``subprocess.run`` and ``Popen``: a command has arguments, environment,
folder and streams of its own, and its end is waited for. Where the start itself is what a test is
about, it starts a process as a user does.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from select import select
from tempfile import TemporaryFile
from typing import IO, Any, NoReturn

import frozen

HERE = Path(__file__).parent
# Program -> the function that its script calls; others are paths of Python files.
PROGRAMS = {
    "lm_eval": "lm_eval.__main__:cli_evaluate",
    "automix-eval": "automix_eval.commands.main:main",
}
IMPORTED = (
    "accelerate", "hydra", "matplotlib.pyplot", "statsmodels.stats.power",
    "lm_eval.__main__", "lm_eval.evaluator", "lm_eval.models.huggingface",
    "lm_eval.models.openai_completions", "lm_eval.loggers",
    "transformers.models.llama.modeling_llama", "transformers.models.gemma3.modeling_gemma3",
    "automix_eval.commands.main", "automix_eval.commands.job", "automix_eval.commands.report",
    "automix_eval.harness.model", "automix_eval.harness.evaluate",
    "automix_eval.backends.hf.backend", "automix_eval.backends.embedded",
    "automix_eval.analysis.gather", "automix_eval.report.output", "automix_eval.report.pictures",
)  # fmt: skip


class Forked:
    """A process, as far as tests use of ``subprocess.Popen``."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status once it has ended."""
        if self.returncode is None:
            self.returncode = _ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float = 600) -> int:
        """The exit status; a process that does not end in time is killed."""
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                self.send_signal(signal.SIGKILL)
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.01)
        return status

    def send_signal(self, number: int) -> None:
        """As ``os.kill``; the process is there until its end was asked for."""
        if self.returncode is None:
            os.kill(self.pid, number)


def start(
    command: Sequence[str], env: Mapping[str, str], cwd: Path,
    streams: Sequence[IO[Any] | int] = (),
) -> Forked:  # fmt: skip
    """A command with these streams as its standard input, output and error."""
    with Path(os.devnull).open("r+b") as null:
        given = [*streams, null, null, null][:3]
        numbers = [f if isinstance(f, int) else f.fileno() for f in given]
        request = {"command": list(command), "env": dict(env), "cwd": str(cwd)}
        return Forked(_ask(request, numbers))


def run(
    command: Sequence[str], env: Mapping[str, str], cwd: Path, timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    """A command from its start to its end, and what it said."""
    with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
        with Path(os.devnull).open("rb") as null:
            status = start(command, env, cwd, (null, out, err)).wait(timeout)
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(list(command), status, out.read(), err.read())


# --------------------------------------------------------------------------- between the two


def _ask(request: Mapping[str, Any], numbers: Sequence[int] = ()) -> Any:
    connection = _connection()
    socket.send_fds(connection, [json.dumps(request).encode()], list(numbers))
    reply = connection.recv(1 << 16)
    assert reply, "the process that forks has ended"
    return json.loads(reply)


@lru_cache(maxsize=1)
def _connection() -> socket.socket:
    """To the process that forks for all workers of a run, and ends with the last of them."""
    from processes import environment

    address = f"\0automix-forks-{os.environ.get('PYTEST_XDIST_TESTRUNUID', os.getpid())}"
    while True:
        ours, listening = (socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2))
        with listening:
            try:
                ours.connect(address)
            except ConnectionRefusedError:  # nobody is there yet
                ours.close()
                with suppress(OSError):  # another worker was quicker
                    listening.bind(address)
                    listening.listen()
                    subprocess.Popen(
                        [sys.executable, __file__, str(listening.fileno())],
                        env=environment() | {"HF_HUB_OFFLINE": "1"},
                        pass_fds=[listening.fileno()],
                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                    )  # fmt: skip
            else:
                return ours


# --------------------------------------------------------------------------- the process that forks


def _serve(listening: socket.socket) -> None:
    import torch
    from torch.utils import collect_env

    torch.set_num_threads(1)
    collect_env.get_pretty_env_info = lambda: "not asked for in tests"  # two seconds a run
    for name in IMPORTED:
        importlib.import_module(name)
    importlib.import_module("hydra_once").install()
    # what is read once is read here
    importlib.import_module("automix_eval.config.compose").build({})
    index: Any = importlib.import_module("lm_eval.tasks._index")
    index.TaskIndex._iter_yaml_files(Path(index.__file__).parent)
    importlib.import_module("automix_eval.analysis.operating_points").FOLDS = 3  # see conftest.py
    frozen.freeze()  # a fork copies what its collector walks
    running: dict[socket.socket, set[int]] = {listening.accept()[0]: set()}
    while running:
        for ready in select([listening, *running], [], [])[0]:
            if ready is listening:
                running[listening.accept()[0]] = set()
            elif not _answer(ready, [listening, *running], running[ready]):
                for pid in running.pop(ready):
                    os.kill(pid, signal.SIGKILL)


def _answer(asked: socket.socket, held: Sequence[socket.socket], running: set[int]) -> bool:
    """One request of a worker; false once there is none any more."""
    text, numbers, _, _ = socket.recv_fds(asked, 1 << 20, 3)
    if not text:
        return False
    request = json.loads(text)
    if "poll" in request:
        ended, status = os.waitpid(request["poll"], os.WNOHANG)
        reply = os.waitstatus_to_exitcode(status) if ended else None
        running.discard(ended)
    else:
        sys.stderr.flush()
        reply = os.fork()
        if not reply:
            for one in held:
                one.close()
            _become(request, numbers)
        running.add(reply)
        for number in numbers:
            os.close(number)
    asked.send(json.dumps(reply).encode())
    return True


def _become(request: Mapping[str, Any], numbers: Sequence[int]) -> NoReturn:
    """The command; a fork never returns into its parent's loop."""
    status = 1
    try:
        for stream, number in enumerate(numbers):
            os.dup2(number, stream)
            os.close(number)
        os.environ.clear()
        os.environ.update(request["env"])
        os.chdir(request["cwd"])
        sys.argv = request["command"]
        # a shell's background jobs ignore it, and so does what they start
        signal.signal(signal.SIGINT, signal.default_int_handler)
        _execute(sys.argv[0])
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        sys.excepthook(*sys.exc_info())
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:  # noqa: BLE001 - shown as at the end of any process
        sys.excepthook(*sys.exc_info())
    finally:
        try:
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
        except BaseException:  # noqa: BLE001 - the process ends all the same
            traceback.print_exc()
        os._exit(status)


def _execute(program: str) -> None:
    if program in PROGRAMS:
        module, _, function = PROGRAMS[program].partition(":")
        sys.exit(getattr(importlib.import_module(module), function)())
    sys.path.insert(0, str(Path(program).parent))
    runpy.run_path(program, run_name="__main__")


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
