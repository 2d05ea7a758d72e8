"""What solving files costs, and how it grows: with problems, size, steps and workers. Writes docs/results/scale.json.

    python docs/experiments/scale.py memory sizes steps workers

``memory``: files of 10^4, 10^5 and 10^6 problems by the plain engine and by Ray, the highest memory of a process, and
answers compared with the closed form. ``sizes`` and ``steps``: one core. ``workers``: one and two workers of Ray on
chunks that take a second, start-up aside: the time from the first chunk to the last. ``ENGINES=plain`` leaves out Ray.
"""

import json
import os
import shlex
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import torch
from pyarrow import parquet

from energysolve import SGD, Energy, EnergySolver, GradientNorm, Never, Uniform
from energysolve.files import write_json
from energysolve.provenance import environment
from energysolve.streaming.chunks import InProcess
from energysolve.streaming.solve import solve_file

RESULT = Path(__file__).parents[1] / "results" / "scale.json"
DIM = 8


class Bowl(Energy):
    """A quadratic whose minimum is the problem."""

    def evaluate(self, context, y):
        """Energies ``(batch,)``."""
        return ((y - context) ** 2).sum(-1)


class Slow(Bowl):
    """A bowl of which a chunk takes a second of computation on one core."""

    def encode(self, x):
        """The problems as they are, a second later."""
        until = time.thread_time() + 1.0
        while time.thread_time() < until:
            torch.ones(64, 64).mm(torch.ones(64, 64))
        return x


def write_progress(found):
    """Show what has been measured so far."""
    sys.stderr.write(f"{found}\n")


def bowl(energy, halting=None, steps=60):
    """A solver of a quadratic."""
    return EnergySolver(
        energy,
        SGD(0.2),
        init=Uniform((DIM,)),
        halting=GradientNorm(1e-3) if halting is None else halting,
        max_steps=steps,
    )


def write_problems(path, rows, block=10_000):
    """A file of random problems, written a block at a time."""
    draw = np.random.default_rng(0)
    with parquet.ParquetWriter(path, pa.schema({"id": pa.int64(), "x": pa.list_(pa.float32(), DIM)})) as writer:
        for first in range(0, rows, block):
            x = pa.array(draw.uniform(-1, 1, min(block, rows - first) * DIM).astype(np.float32))
            ids = pa.array(np.arange(first, first + len(x) // DIM))
            writer.write_table(pa.table([ids, pa.FixedSizeListArray.from_arrays(x, DIM)], writer.schema))


class Peaks(threading.Thread):
    """The highest resident memory without shared pages, in bytes, of this process and of the largest worker."""

    def __init__(self):
        super().__init__(daemon=True)
        self.here = self.worker = 0
        self.on = True

    def run(self):
        """Look twice a second."""
        me = psutil.Process()
        while self.on:
            self.here = max(self.here, private(me))
            for child in me.children(recursive=True):
                try:
                    if child.name().startswith("ray::Map"):
                        self.worker = max(self.worker, private(child))
                except psutil.Error:
                    pass
            time.sleep(0.5)


def private(process):
    """Bytes in memory that no other process shares."""
    found = process.memory_info()
    return found.rss - found.shared


def memory(engine_name, rows):
    """Solve a file of this length, and compare answers with the problems, where the minima are."""
    from energysolve.streaming.cluster import Ray

    with tempfile.TemporaryDirectory() as folder:
        path, output = Path(folder) / "p.parquet", Path(folder) / "a.parquet"
        write_problems(path, rows)
        peaks = Peaks()
        peaks.start()
        engine = Ray(workers=2) if engine_name == "ray" else InProcess()
        summary = solve_file(bowl(Bowl()), path, output, chunk=4096, engine=engine)
        peaks.on = False
        error = 0.0
        places = set(np.random.default_rng(1).integers(0, rows, 2000).tolist())
        for number, (given, found) in enumerate(zip(batches(path, "x"), batches(output, "y"), strict=True)):
            rows_here = [place - number * 1000 for place in places if 0 <= place - number * 1000 < len(given)]
            error = max([error, *np.abs(given[rows_here] - found[rows_here]).max(1)])
        ids = parquet.read_table(output, columns=["id"])["id"].to_numpy()
        assert (ids == np.arange(rows)).all()
    numbers = {"converged": summary.converged, "seconds": round(summary.seconds, 1), "error": float(error)}
    numbers |= {"memory_MB": peaks.here >> 20, "worker_MB": peaks.worker >> 20}
    return {"engine": engine_name, "problems": rows} | numbers


def batches(path, name):
    """The rows of a column of lists, 1000 at a time."""
    with parquet.ParquetFile(path) as file:
        pending = np.zeros((0, DIM), np.float32)
        for batch in file.iter_batches(1000, columns=[name]):
            pending = np.concatenate([pending, np.array(batch.column(0).flatten()).reshape(-1, DIM)])
            while len(pending) >= 1000:
                yield pending[:1000]
                pending = pending[1000:]
        if len(pending):
            yield pending


def seconds_of(call, repeats=3):
    """The least time of some calls, in seconds of one core."""
    call()
    taken = []
    for _ in range(repeats):
        started = time.process_time()
        call()
        taken.append(time.process_time() - started)
    return min(taken)


def sizes():
    """Shipped energies at several sizes."""
    found = []
    for name, size, build in (
        *(("addition", size, lambda size: torch.rand(256, 2 * size)) for size in (50, 100, 200, 400, 800)),
        *(("inverse", size, matrices) for size in (10, 20, 40)),
    ):
        from energysolve.presets import domain_named

        solver = EnergySolver.from_pretrained(name)
        x = build(size)
        solver = domain_named(name).at_size(solver, tuple(x.shape[1:]))
        with torch.no_grad():
            steps = solver.minimize(x).steps.float().mean().item()
            taken = seconds_of(lambda: solver.minimize(x))  # noqa: B023
        found.append({"task": name, "size": size, "steps": round(steps, 1), "rate": round(256 / taken)})
        write_progress(found[-1])
    return found


def matrices(size):
    """Positive definite matrices."""
    a = torch.randn(256, size, size)
    return a @ a.mT / size + torch.eye(size)


def steps():
    """Solves of a fixed number of steps."""
    x, found = torch.rand(1024, DIM), []
    for count in (10, 100, 1000):
        solver = bowl(Bowl(), Never(), count)
        found.append({"steps": count, "rate": round(1024 / seconds_of(lambda: solver.minimize(x)))})  # noqa: B023
    return found


def workers():
    """The rate of one worker, and of two."""
    import ray

    from energysolve.streaming.cluster import Ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=256 << 20)
    found = []
    for count, chunks in ((1, 14), (2, 28)):
        with tempfile.TemporaryDirectory() as folder:
            write_problems(Path(folder) / "p.parquet", 64 * chunks)
            times = []
            solve_file(
                *(bowl(Slow()), Path(folder) / "p.parquet", Path(folder) / "a.parquet"),
                chunk=64,
                engine=Ray(workers=count),
                progress=lambda done, total: times.append((done, time.perf_counter())),  # noqa: B023
            )
        (first, started), (last, ended) = times[count * 2], times[-1]  # each worker has had its first chunk by then
        found.append({"workers": count, "rate": (last - first) / 64 / (ended - started)})
        write_progress(found[-1])
    ray.shutdown()
    return found


def main():
    """Measure the parts that the command line names."""
    torch.set_num_threads(1)
    result = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    for part in sys.argv[1:]:
        if part == "memory":
            for engine in os.environ.get("ENGINES", "plain ray").split():
                for rows in (10**4, 10**5, 10**6):
                    result[part] = [
                        each for each in result.get(part, []) if (each["engine"], each["problems"]) != (engine, rows)
                    ]
                    result[part].append(memory(engine, rows))
                    write_progress(result[part][-1])
        else:
            result[part] = {"sizes": sizes, "steps": steps, "workers": workers}[part]()
            write_progress(result[part])
        engines = f"ENGINES={shlex.quote(os.environ['ENGINES'])} " if "ENGINES" in os.environ else ""
        command = f"{engines}python docs/experiments/scale.py {shlex.join(sys.argv[1:])}"
        write_json(RESULT, result | {"kind": "scale", "command": command} | environment())


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
