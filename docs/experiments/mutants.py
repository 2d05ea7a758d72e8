"""The mutants of a module: copies with one change each, which `mutation.py` shows to the tests."""

import ast
import re
from pathlib import Path
from typing import Any, NamedTuple

import cosmic_ray.plugins
import parso
import tomllib
from cosmic_ray.ast import ast_nodes
from cosmic_ray.mutating import mutate_code

ROOT = Path(__file__).resolve().parents[2]
SETTING = tomllib.loads(Path(__file__).with_name("mutation.toml").read_text())


class Mutant(NamedTuple):
    """A module with one change; ``stamp`` is the file's time of change, so that no stale .pyc is taken for it."""

    module: str
    line: int
    operator: str
    source: str
    stamp: int

    def change(self) -> dict[str, Any]:
        """The first line that differs, before and after."""
        pairs = zip((ROOT / self.module).read_text().splitlines(), self.source.splitlines(), strict=False)
        number, old, new = next((number, a.strip(), b.strip()) for number, (a, b) in enumerate(pairs, 1) if a != b)
        return {"line": number, "operator": self.operator, "old": old, "new": new}


class DeleteStatement:
    """A cosmic-ray operator: leave out a call, a ``raise`` or an augmented assignment."""

    def mutation_positions(self, node):  # noqa: D102
        if node.type == "simple_stmt":
            first = node.children[0]
            call = first.type == "atom_expr" and first.children[-1].get_code().startswith("(")
            update = first.type == "expr_stmt" and first.children[1].type == "operator"
            if call or (update and first.children[1].value != "=") or first.type == "raise_stmt":
                yield first.start_pos, first.end_pos

    def mutate(self, node, index):  # noqa: D102
        return parso.parse(node.get_first_leaf().prefix + "pass\n")


def mutants(module: str) -> list[Mutant]:
    """The mutants of a module that are worth a run of the tests."""
    source = (ROOT / module).read_text()
    skipped, lines = skipped_spans(ast.parse(source)), source.splitlines()
    found = []
    for name in ["DeleteStatement", *SETTING["operators"]]:
        operator = DeleteStatement() if name == "DeleteStatement" else cosmic_ray.plugins.get_operator(f"core/{name}")()
        spots = [spot for node in ast_nodes(parso.parse(source)) for spot in operator.mutation_positions(node)]
        for number, (start, end) in enumerate(spots):
            within = any(first <= start and end <= last for first, last in skipped)
            within = within or any(re.search(pattern, lines[start[0] - 1]) for pattern in SETTING["skip_lines"])
            mutated = None if within else mutate_code(source, operator, number)
            if mutated not in (None, source):
                found.append(Mutant(module, start[0], name, mutated, 10**9 + len(found)))
    return sorted(found, key=lambda mutant: mutant.line)


def skipped_spans(tree: ast.AST) -> list:
    """From where to where there is nothing that a test should notice: annotations, messages, type aliases."""
    nodes: list = []
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign):
            nodes.append(node.annotation)
        elif isinstance(node, ast.FunctionDef):
            nodes += [node.returns, *([node] if node.name in SETTING["skip_functions"] else [])]
        elif isinstance(node, ast.Raise):
            nodes.append(node.exc and getattr(node.exc, "args", [None])[0])
        elif isinstance(node, ast.JoinedStr):
            nodes.append(node)
        elif isinstance(node, ast.Module):
            aliases = (ast.Subscript, ast.List, ast.Tuple)  # and tables of names
            nodes += [part.value for part in node.body if isinstance(getattr(part, "value", None), aliases)]
        elif isinstance(node, ast.Assert):  # for the type checker
            nodes.append(node)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in SETTING["skip_arguments"]:
            nodes += node.args[SETTING["skip_arguments"][ast.unparse(node.func)] :]
    return [((n.lineno, n.col_offset), (n.end_lineno, n.end_col_offset)) for n in nodes if n is not None]
