"""The processes of one training run: how they meet, and what happens when one of them ends."""

import atexit
import contextlib
import importlib.metadata
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from flaxnets._version import __version__
from flaxnets.cli.common import Failure, UsageError
from flaxnets.run_config import RunOptions

# Seconds until all processes must have met.
TIMEOUT = 60
# The operating system ends a connection to a machine that has been silent for IDLE + COUNT * INTERVAL = 20 seconds.
_IDLE, _INTERVAL, _COUNT = 5, 5, 3
# Seconds in which a process can report an error itself that another process reports as well.
_GRACE = 1.0
# Options that may differ between processes: addresses, and folders and threads of one machine.
_LOCAL = ("process_id", "coordinator", "data_dir", "cache_dir", "config", "workers", "download")


def is_distributed(options: RunOptions) -> bool:
    """Return whether the options are those of one of many processes.

    Raises:
        UsageError: If an option of many processes is missing or out of range.

    >>> is_distributed(RunOptions())
    False
    """
    explicit = {
        "--coordinator": options.coordinator,
        "--num-processes": options.num_processes,
        "--process-id": options.process_id,
    }
    present = [flag for flag, value in explicit.items() if value is not None]
    if options.distributed is not None and present:
        raise UsageError(f"--distributed auto and {present[0]}: expected one of them. Fix: leave out {present[0]}")
    if present and len(present) < len(explicit):
        missing = ", ".join(flag for flag in explicit if flag not in present)
        raise UsageError(f"{present[0]} without {missing}. Expected all of {', '.join(explicit)}")
    if not present:
        return options.distributed is not None
    assert options.coordinator is not None
    assert options.num_processes is not None
    assert options.process_id is not None
    host, _, port = options.coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UsageError(f"--coordinator {options.coordinator}: expected HOST:PORT, such as 10.0.0.1:9876")
    if options.process_id >= options.num_processes:
        raise UsageError(
            f"--process-id {options.process_id}: expected 0 to {options.num_processes - 1}, because --num-processes is "
            f"{options.num_processes}"
        )
    return True


class Processes:
    """The connections between the processes of a run; each process other than 0 has one to process 0.

    A connection that ends tells that a process has ended: all others then end as well, with a message.

    Attributes:
        index: Index of this process.
        count: Number of processes.
        resume: The command line that resumes the run, for the message; empty before there is anything to resume.
    """

    def __init__(self, index: int, count: int, connections: Mapping[int, socket.socket]):
        self.index, self.count, self.resume = index, count, ""
        self._fails = False
        self._connections, self._finished = dict(connections), set[int]()
        self._lock, self._all_finished = threading.Lock(), threading.Event()
        for peer, connection in connections.items():
            _keep_alive(connection)
            threading.Thread(target=self._watch, args=(peer, connection), name="processes", daemon=True).start()
        if not connections:
            self._all_finished.set()

    def _watch(self, peer: int, connection: socket.socket) -> None:
        words = b""
        with contextlib.suppress(OSError):
            while not words.endswith(b"\n") and (part := connection.recv(4096)):
                words += part
        message = words.decode(errors="replace").strip()
        if message not in ("", "finished"):
            time.sleep(_GRACE)  # this process may be about to report the same error itself
        if message == "finished" or self._fails:
            with self._lock:
                self._finished.add(peer)
                if len(self._finished) == len(self._connections):
                    self._all_finished.set()
            return
        with self._lock:
            message = message or f"process {peer} of {self.count} has ended"
            self._tell(message, except_for=peer)
            resume = f". Fix: resume all processes; this one with:\n  {self.resume}" if self.resume else ""
            line = f"{os.path.basename(sys.argv[0])}: error: {message}; this process ends too{resume}\n"
            with contextlib.suppress(OSError):
                os.write(2, line.encode())
            os._exit(1)

    def _tell(self, message: str, except_for: int | None = None) -> None:
        for peer, connection in self._connections.items():
            if peer != except_for:
                with contextlib.suppress(OSError):
                    connection.sendall(f"{' '.join(message.split())}\n".encode())

    def finish(self) -> None:
        """Block until all processes have finished their work, and leave JAX's group of processes."""
        import jax

        if self.index != 0:
            self._tell("finished")
        self._all_finished.wait()
        if self.index == 0:
            self._tell("finished")
        jax.distributed.shutdown()

    def fail(self, error: BaseException) -> None:
        """Tell the other processes why this one ends, and wait a few seconds until they have reported it."""
        self._fails = True
        self._tell(f"process {self.index} of {self.count} has ended: {str(error) or type(error).__name__}")
        self._all_finished.wait(5 * _GRACE)


@contextlib.contextmanager
def joined(options: RunOptions) -> Iterator[Processes | None]:
    """Join the processes of a run, and leave them at the end; yield None for one process.

    Args:
        options: The options of the command.

    Raises:
        UsageError: If the processes do not meet within 60 seconds, or differ in options or versions.
    """
    if not is_distributed(options):
        yield None
        return
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    # JAX would replace the handler of SIGTERM, for a protocol that is not used here.
    jax.config.update("jax_enable_preemption_service", False)
    processes = None
    try:
        processes = _join_explicit(options) if options.coordinator else _join_detected(options)
        yield processes
    except BaseException as error:
        if jax.distributed.is_initialized():
            atexit.register(_leave, 2 if isinstance(error, UsageError) else 1, processes, error)
        raise
    processes.finish()


def _leave(status: int, processes: Processes | None, error: BaseException) -> None:
    """End this process without JAX, which would wait for the other processes."""
    if processes is not None:
        processes.fail(error)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def _join_explicit(options: RunOptions) -> Processes:
    """Meet at the coordinator's port before JAX uses it, because JAX aborts a process that cannot join."""
    assert options.coordinator is not None
    assert options.num_processes is not None
    assert options.process_id is not None
    connections = meet(options.coordinator, options.num_processes, options.process_id, _introduction(options))
    with _deadline("the processes have met, but JAX could not connect them"):
        _initialize(options.coordinator, options.num_processes, options.process_id)
    return Processes(options.process_id, options.num_processes, connections)


def _join_detected(options: RunOptions) -> Processes:
    """Join the processes that JAX detects, and meet at a free port of process 0."""
    import jax

    from flaxnets.training.processes import gather_texts

    with _deadline("--distributed auto: the coordinator that JAX detects cannot be reached"):
        try:
            _initialize()
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split()).rstrip(".")
            raise UsageError(
                f"--distributed auto: JAX detects no cluster here: {reason}. Fix: use "
                "--coordinator HOST:PORT --num-processes N --process-id I"
            ) from error
        index, count = jax.process_index(), jax.process_count()
        server = None if index else _listen(0)
        port = 0 if server is None else server.getsockname()[1]
        address = gather_texts(f"{socket.gethostname()}:{port}")[0]
    return Processes(index, count, meet(address, count, index, _introduction(options), server))


def _initialize(coordinator: str | None = None, count: int | None = None, index: int | None = None) -> None:
    import jax

    # Our own deadline is shorter: it prints a message, where JAX aborts. Our connections also tell earlier than JAX
    # that a process has ended.
    jax.distributed.initialize(coordinator, count, index, initialization_timeout=2 * TIMEOUT)


@contextlib.contextmanager
def _deadline(words: str) -> Iterator[None]:
    """End this process with a message if the block does not end in time; JAX waits without a way to interrupt it."""

    def end() -> None:
        line = f"{os.path.basename(sys.argv[0])}: error: {words} within {TIMEOUT} seconds\n"
        with contextlib.suppress(OSError):
            os.write(2, line.encode())
        os._exit(2)

    timer = threading.Timer(TIMEOUT, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _introduction(options: RunOptions) -> dict[str, Any]:
    """Return what must be equal in all processes."""
    versions = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "flax")}
    values = {f"--{name.replace('_', '-')}": value for name, value in vars(options).items() if name not in _LOCAL}
    return json.loads(json.dumps({"flaxnets": __version__, **versions, **values}))


def _listen(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def meet(
    address: str, count: int, index: int, introduction: Mapping[str, Any], server: socket.socket | None = None
) -> dict[int, socket.socket]:
    """Return the connections of this process after all processes have met and agree.

    Raises:
        UsageError: If they do not meet in time, or do not agree.
    """
    deadline = time.monotonic() + TIMEOUT
    host, _, port = address.rpartition(":")
    mine = {"index": index, "count": count, **introduction}
    if index != 0:
        return {0: _visit(host.strip("[]"), int(port), mine, deadline)}
    try:
        server = server or _listen(int(port))
    except OSError as error:
        raise UsageError(
            f"--coordinator {address}: cannot listen there: {error.strerror}. Expected a free port of this machine, "
            "and one process with --process-id 0"
        ) from error
    with server:
        return _receive(server, mine, count, deadline)


def _receive(server: socket.socket, mine: Mapping[str, Any], count: int, deadline: float) -> dict[int, socket.socket]:
    """Wait in process 0 for the others, and compare them."""
    connections: dict[int, socket.socket] = {}
    problem = ""
    while len(connections) < count - 1 and not problem:
        server.settimeout(max(deadline - time.monotonic(), 0.001))
        connection = None
        try:
            connection, _ = server.accept()
            connection.settimeout(5)
            theirs = json.loads(_line(connection))
            peer = int(theirs["index"])
        except TimeoutError:
            if connection is not None:  # a visitor that says nothing
                connection.close()
                continue
            absent = [str(peer) for peer in range(1, count) if peer not in connections]
            problem = f"no sign of process {', '.join(absent)} of {count} within {TIMEOUT} seconds. Fix: start it"
            break
        except (OSError, ValueError, KeyError, TypeError):  # not one of our processes
            if connection is not None:
                connection.close()
            continue
        if peer in connections or peer == 0:
            problem = f"two processes have --process-id {peer}. Expected 0 to {count - 1}, each once"
            connections[-1] = connection
            break
        connections[peer] = connection
        differences = [
            f"{'--num-processes' if name == 'count' else name} is {mine.get(name)!r} in process 0 and "
            f"{theirs.get(name)!r} in process {peer}"
            for name in {**mine, **theirs}
            if name != "index" and mine.get(name) != theirs.get(name)
        ]
        problem = f"the processes differ: {'; '.join(differences)}" if differences else ""
    for connection in connections.values():
        with contextlib.suppress(OSError):
            connection.sendall(json.dumps({"problem": problem}).encode() + b"\n")
    if problem:
        for connection in connections.values():
            connection.close()
        raise UsageError(problem)
    return connections


def _visit(host: str, port: int, mine: Mapping[str, Any], deadline: float) -> socket.socket:
    """Connect to process 0, and wait for its answer."""
    address = f"--coordinator {host}:{port}"
    while True:
        try:
            connection = socket.create_connection((host, port), timeout=max(deadline - time.monotonic(), 0.001))
            break
        except OSError as error:
            if time.monotonic() > deadline - 0.5:
                raise UsageError(
                    f"{address}: cannot be reached within {TIMEOUT} seconds: {error.strerror or error}. "
                    "Fix: start process 0 on that machine, and open the port"
                ) from error
            time.sleep(0.5)
    try:
        connection.sendall(json.dumps(mine).encode() + b"\n")
        connection.settimeout(max(deadline - time.monotonic(), 0) + 5)
        problem = json.loads(_line(connection))["problem"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        connection.close()
        raise UsageError(
            f"{address}: process 0 gave no answer within {TIMEOUT} seconds: {error}. Fix: start all processes with "
            "this version of flaxnets"
        ) from error
    if problem:
        connection.close()
        raise UsageError(problem)
    return connection


def _line(connection: socket.socket) -> bytes:
    """Read one line, without a byte that follows it."""
    words = bytearray()
    while not words.endswith(b"\n"):
        part = connection.recv(1)
        if not part or len(words) > 2**20:
            raise ValueError("the connection was closed")
        words += part
    return bytes(words)


def _keep_alive(connection: socket.socket) -> None:
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", _IDLE), ("TCP_KEEPINTVL", _INTERVAL), ("TCP_KEEPCNT", _COUNT)):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def same_everywhere(words: str, what: str) -> None:
    """Check that all processes have the same text.

    Raises:
        UsageError: If they differ, in all processes.

    >>> same_everywhere("one process", "the data")
    """
    from flaxnets.training.processes import gather_texts

    texts = gather_texts(words)
    different = [str(index) for index, text in enumerate(texts) if text != texts[0]]
    if different:
        raise UsageError(f"{what} of process {', '.join(different)} differs from that of process 0")


def from_first(words: str, error: BaseException | None = None) -> str:
    """Return the text of process 0; an error of process 0 is raised in all processes.

    >>> from_first("one process")
    'one process'
    """
    from flaxnets.training.processes import gather_texts

    kind = {UsageError: "2", type(None): "0"}.get(type(error), "1")
    first = gather_texts(f"{kind}{words if error is None else error}")[0]
    if first[0] != "0":
        raise UsageError(first[1:]) if first[0] == "2" else Failure(first[1:])
    return first[1:]
