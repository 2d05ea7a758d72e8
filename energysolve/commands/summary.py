"""The result of solving a file, in words."""

from ..solution import Status
from ..solver import EnergySolver
from ..streaming.solve import Summary


def in_words(summary: Summary, solver: EnergySolver) -> list[str]:
    """How many problems ended in which way, what that means, and what to do about it."""
    here = summary.problems - summary.resumed
    before = f" and {summary.resumed:,} before" if summary.resumed else ""
    counted = [f"{summary.converged:,} converged", f"{summary.max_steps:,} used up their steps"]
    counted.append(f"{summary.nonfinite:,} met a NaN or an infinity")
    counted += [f"{summary.stalled:,} stalled"] if summary.stalled else []
    counted += [f"{summary.rejected:,} rejected"] if summary.rejected else []
    lines = [f"Solved {here:,} problems{before} ({summary.seconds:.1f} s): {', '.join(counted)}."]
    meanings = {
        Status.CONVERGED: f"converged: {solver.halting} held at the answer.",
        Status.MAX_STEPS: f"used up their steps: it did not hold after {solver.max_steps} steps; the answer is the "
        f"last iterate. Allow more, such as --max-steps {max(10 * solver.max_steps, 10)}.",
        Status.NONFINITE: "met a NaN or an infinity: in the problem, or on the way, where the energy has no minimum or "
        "the step size is too large. The answer is the last finite iterate.",
        Status.STALLED: "stalled: no step lowers the energy by more than its rounding, so the answer is as low as the "
        "precision can tell.",
        Status.REJECTED: "rejected: the answer failed the energy's own test. The problem is not of the kind that the "
        "energy solves, or needs more precision.",
    }
    ended = [status for status in Status if getattr(summary, status.name.lower())]
    lines += [f"  {status.value} = {meanings[status]}" for status in ended]
    lines.append("The numbers are those of status in the output.")
    for name, (mean, most) in summary.measures.items():
        lines.append(f"{_NAMES.get(name, name)} of the converged answers: {mean:.1e} on average, at most {most:.1e}.")
    if not summary.converged + summary.stalled:
        lines.append("No problem was solved.")
    return lines


_NAMES = {"residual": "The residual |M Y - I| / |I|"}
