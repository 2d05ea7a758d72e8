"""Fuzzes the readers of files: damaged files must be refused by the errors that are documented, and harm nothing.

    python tests/fuzz.py --seconds 600            # each of the readers
    python tests/fuzz.py parquet --seconds 60

Files are made from valid ones by changing bytes, numbers, JSON, the headers of arrays and the members of archives. Each
is read in a process of its own kind, which watches three things: exceptions that the reader does not document, a crash
or a hang; code that is executed (unpickled, imported, started); and memory beyond ``MEMORY`` bytes and ``FACTOR`` times
the size of the file. What is found is written to ``tests/fuzz/corpus/<reader>``, whose files a test reads.
"""

import argparse
import hashlib
import json
import os
import random
import re
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from io import BytesIO
from pathlib import Path

from fuzz_targets import TARGETS

CORPUS = Path(__file__).parent / "fuzz" / "corpus"
MEMORY, FACTOR = 96 << 20, 1100
"""Deflate, the least compact of the compressions, packs 1032 bytes into one."""
HANG = 20
"""Seconds that reading a file of some kilobytes may take."""
EVENTS = ("pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "subprocess.Popen", "socket.connect", "exec")
NUMBERS = [0, 1, 2, 7, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**64 - 1]
VALUES = [None, True, -1, 0, 1, 2**31, 2**63, 10**30, 1.5, -1.5, 1e300, "", "inf", "x", [], [1], {}, {"type": "SGD"}]
WORDS = [b"'descr': '|O'", b"'shape': (9999999999, 3)", b"'shape': ()", b"[[[[[[", b"{" * 5000, b"[" * 100_000]


def mutate(draw: random.Random, content: bytes, others: list[bytes]) -> bytes:
    """The content with a few changes."""
    kind = draw.random()
    if kind < 0.25 and content[:2] == b"PK":
        return _in_archive(draw, content, others)
    if kind < 0.6:
        changed = _in_json(draw, content)
        if changed is not None:
            return changed
    for _ in range(draw.choice([1, 1, 1, 2, 4, 16])):
        content = _in_bytes(draw, content, others)
    return content


def _in_bytes(draw: random.Random, content: bytes, others: list[bytes]) -> bytes:
    at = draw.randrange(len(content) + 1)
    to = min(len(content), at + draw.choice([1, 1, 2, 4, 8, 32, 256]))
    number = draw.choice(NUMBERS)
    order = draw.choice("<>")
    choice = draw.randrange(9)
    if choice == 0:
        return content[:at] + bytes(byte ^ (1 << draw.randrange(8)) for byte in content[at:to]) + content[to:]
    if choice == 1:
        return content[:at] + draw.randbytes(to - at) + content[to:]
    if choice == 2:
        return content[:at] + content[to:]
    if choice == 3:
        return content[:at] + content[at:to] * draw.choice([2, 3, 50]) + content[to:]
    if choice == 4:
        packed = struct.pack(order + draw.choice("QIHB" if number > 255 else "BQIH")[:1].replace("B", "Q"), number % 2**16)
        return content[:at] + packed + content[at + len(packed) :]
    if choice == 5:
        size = draw.choice([4, 8])
        return content[:at] + (number % 256**size).to_bytes(size, "little") + content[at + size :]
    if choice == 6:
        other = draw.choice(others)
        start = draw.randrange(len(other) + 1)
        return content[:at] + other[start : start + draw.choice([8, 64, 1024])] + content[to:]
    if choice == 7:
        return content[:at]
    found = list(re.finditer(rb"-?\d+(\.\d+)?", content))
    if not found or draw.random() < 0.2:
        return content[:at] + draw.choice(WORDS) + content[to:]
    match = draw.choice(found)
    return content[: match.start()] + str(draw.choice([number, -number, 1e308])).encode() + content[match.end() :]


def _in_archive(draw: random.Random, content: bytes, others: list[bytes]) -> bytes:
    """An archive with valid checksums, of which a member is changed."""
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        name = draw.choice([*members])
    except Exception:
        return _in_bytes(draw, content, others)
    if draw.random() < 0.1:
        members[draw.choice(["x.npy", "../x.npy", "data.npy", "y.npy", "format.npy"])] = members.pop(name)
    else:
        members[name] = _in_bytes(draw, members[name], [*members.values()])
    made = BytesIO()
    with zipfile.ZipFile(made, "w", draw.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
        for name, member in members.items():
            archive.writestr(name, member)
    return made.getvalue()


def _in_json(draw: random.Random, content: bytes) -> bytes | None:
    """JSON at the beginning, or that of a safetensors file, with a value changed, and checksums made right again."""
    try:
        if content[:1] == b"{":
            head, mark, tail = content.partition(b"\0PART\0")
            return _changed(draw, head) + mark + tail
        length = int.from_bytes(content[:8], "little")
        header, tensors = json.loads(content[8 : 8 + length]), content[8 + length :]
        state = header.get("__metadata__", {}).get("state")
        if state is not None and draw.random() < 0.7:
            text = _changed(draw, state.encode()).decode()
            return _resigned(header, tensors, text)
        made = _changed(draw, content[8 : 8 + length])
        return len(made).to_bytes(8, "little") + made + tensors
    except (ValueError, KeyError, AttributeError, RecursionError):
        return None


def _resigned(header: dict, tensors: bytes, text: str) -> bytes:
    import safetensors.torch

    from energysolve.files import tensors_digest

    plain = json.dumps(header).encode()
    loaded = safetensors.torch.load(len(plain).to_bytes(8, "little") + plain + tensors)
    header["__metadata__"] |= {"state": text, "sha256": tensors_digest(loaded, text)}
    plain = json.dumps(header).encode()
    return len(plain).to_bytes(8, "little") + plain + tensors


def _changed(draw: random.Random, text: bytes) -> bytes:
    tree = json.loads(text)
    places: list[tuple] = []

    def visit(node):
        for key, child in list(node.items() if isinstance(node, dict) else enumerate(node)):
            places.append((node, key))
            if isinstance(child, dict | list):
                visit(child)

    visit(tree)
    for _ in range(draw.choice([1, 1, 2])):
        node, key = draw.choice(places)
        choice = draw.randrange(4)
        if choice == 0 and isinstance(node, dict):
            node.pop(key, None)
        elif choice == 1:
            other, name = draw.choice(places)
            node[key] = other[name] if name in other or isinstance(name, int) else None
        elif choice == 2 and isinstance(node, dict):
            node[draw.choice(["", "x", "type", "format_version", "rows"])] = draw.choice(VALUES)
        else:
            node[key] = draw.choice(VALUES)
    return json.dumps(tree).encode()


class Watch:
    """Notices code that is executed while a file is read."""

    def __init__(self):
        self.on, self.seen = False, []
        sys.addaudithook(self._hear)

    def _hear(self, event, arguments):
        if self.on and event in EVENTS:
            if event == "exec" and "/site-packages/" in str(getattr(arguments[0], "co_filename", "")):
                return  # a module of a library that is imported at its first use
            if event == "exec" and str(getattr(arguments[0], "co_filename", "")).startswith((sys.prefix, sys.base_prefix)):
                return
            self.seen.append(f"{event} {arguments}"[:200])


def read(name: str, content: bytes, watch: Watch, folder: Path) -> str | None:
    """What is wrong with reading this content; None if nothing is."""
    target = TARGETS[name]
    before = _peak(reset=True)
    watch.seen, watch.on = [], True
    signal.alarm(HANG)
    try:
        target.read(content, folder)
    except target.errors as error:
        if type(error) not in target.errors:
            return traceback.format_exc()
    except Exception:
        return traceback.format_exc()
    finally:
        signal.alarm(0)
        watch.on = False
    if watch.seen:
        return f"executed: {watch.seen}"
    grown = _peak() - before
    return f"took {grown} bytes for {len(content)}" if grown > MEMORY + FACTOR * len(content) else None


def _peak(reset: bool = False) -> int:
    if not Path("/proc/self/clear_refs").exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024


def work(name: str, seconds: float, seed: int, folder: Path) -> None:
    """Read mutated files for a time; each is on disk before it is read, so that a crash leaves it there."""
    draw, seeds, watch = random.Random(seed), TARGETS[name].seeds(), Watch()
    pool = seeds + [path.read_bytes() for path in sorted((CORPUS / name).glob("*"))]
    for content in seeds:
        watch.on = False
        _clear(folder)
        read(name, content, watch, folder)  # so that what is imported at first use is imported
    current, until, count, kept = folder / "current.bin", time.monotonic() + seconds, 0, set()
    while time.monotonic() < until:
        content = mutate(draw, draw.choice(pool), seeds)
        _clear(folder)
        current.write_bytes(content)
        wrong = read(name, content, watch, folder)
        count += 1
        if wrong is None and draw.random() < 0.01 and len(content) < 20_000:
            pool.append(content)
            del pool[len(seeds) : -200]
        elif wrong is not None and (place := _place(wrong)) not in kept:
            kept.add(place)
            print(f"{name}: {_save(name, content)}\n{wrong}", flush=True)
    print(f"{name}: {count} files in {seconds:.0f} s, {len(kept)} findings", flush=True)


def _place(wrong: str) -> str:
    lines = [line for line in wrong.splitlines() if line.startswith("  File")]
    return f"{lines[-1:]} {wrong.splitlines()[-1].partition(':')[0]}" if lines else wrong.partition(" ")[0]


def _save(name: str, content: bytes) -> Path:
    path = CORPUS / name / hashlib.sha256(content).hexdigest()[:16]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _clear(folder: Path) -> None:
    for path in folder.glob("**/*"):
        if path.is_file() and path.name != "current.bin":
            path.unlink()


def fuzz(name: str, seconds: float, seed: int) -> bool:
    """Fuzz one reader, in processes that are replaced if they crash or hang; whether nothing was found."""
    until, good = time.monotonic() + seconds, True
    with tempfile.TemporaryDirectory() as folder:
        while (left := until - time.monotonic()) > 1:
            command = [sys.executable, __file__, name, "--seconds", str(left), "--seed", str(seed), "--work", folder]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
            print(done.stdout, end="", flush=True)
            good = good and " 0 findings" in done.stdout
            if done.returncode:
                good = False
                saved = _save(name, (Path(folder) / "current.bin").read_bytes())
                print(f"{name}: the process ended with {done.returncode}: {saved}", flush=True)
            seed += 1
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="reader", help=f"of {', '.join(TARGETS)}; by default all")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    seed = int.from_bytes(os.urandom(4), "big") if arguments.seed is None else arguments.seed
    if arguments.work is not None:
        work(arguments.targets[0], arguments.seconds, seed, arguments.work)
        return 0
    results = {name: fuzz(name, arguments.seconds, seed) for name in arguments.targets or TARGETS}
    print("Found nothing." if all(results.values()) else f"Findings in: {[n for n in results if not results[n]]}")
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
