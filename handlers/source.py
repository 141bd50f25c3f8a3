"""Analyse the source of one Python file: its functions, their complexity, its imports, its tokens.

What this handler shows: a typed result. A result has to be JSON, so a handler
that thinks in models ends with `model_dump(mode="json")`.
"""

import ast
import io
import keyword
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from engine import Context, handler

BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.comprehension,
            ast.match_case)
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


class SourceRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    path: Path


class FunctionReport(BaseModel):
    name: str
    line: int
    lines: int
    complexity: int


class SourceReport(BaseModel):
    path: str
    bytes: int
    lines: int
    comment_lines: int
    classes: int
    functions: int
    longest: FunctionReport | None
    most_complex: FunctionReport | None
    imports: list[str]
    tokens: int
    commonest_names: dict[str, int]


@handler("analyse_source", timeout=60, no_retry_on=(FileNotFoundError, PermissionError, SyntaxError, ValueError))
def analyse_source(request: SourceRequest, ctx: Context) -> dict[str, object]:
    """Parse and tokenise `path`; return counts, its longest and its most complex function.

    Raises `SyntaxError` where the file is not Python, and is not retried for it.
    """
    content = request.path.read_bytes()
    with warnings.catch_warnings(action="ignore"):
        tree = ast.parse(content, str(request.path))
    ctx.progress(0.5, "parsed")
    functions = [_report(node) for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]
    names, comment_lines, tokens = _count_tokens(content)
    report = SourceReport(
        path=str(request.path),
        bytes=len(content),
        lines=len(content.splitlines()),
        comment_lines=comment_lines,
        classes=sum(isinstance(node, ast.ClassDef) for node in ast.walk(tree)),
        functions=len(functions),
        longest=max(functions, key=lambda function: function.lines, default=None),
        most_complex=max(functions, key=lambda function: function.complexity, default=None),
        imports=sorted(set(_imports(tree))),
        tokens=tokens,
        commonest_names=dict(names.most_common(5)),
    )
    return report.model_dump(mode="json")


def complexity(function: ast.AST) -> int:
    """McCabe's cyclomatic complexity: the ways through a function, one more than its decisions.

    `a and b and c` decides twice. Source: T. J. McCabe, A Complexity Measure, 1976.
    """
    decisions = 0
    for node in ast.walk(function):
        if isinstance(node, BRANCHES):
            decisions += 1
        elif isinstance(node, ast.BoolOp):
            decisions += len(node.values) - 1
    return decisions + 1


def _report(node: ast.FunctionDef | ast.AsyncFunctionDef) -> FunctionReport:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    return FunctionReport(name=node.name, line=node.lineno, lines=lines, complexity=complexity(node))


def _imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def _count_tokens(content: bytes) -> tuple[Counter[str], int, int]:
    """Names that are no keywords with their counts, lines with a comment, and tokens in all."""
    names: Counter[str] = Counter()
    comment_lines = tokens = 0
    for token in tokenize.tokenize(io.BytesIO(content).readline):
        tokens += 1
        if token.type == tokenize.COMMENT:
            comment_lines += 1
        elif token.type == tokenize.NAME and not keyword.iskeyword(token.string):
            names[token.string] += 1
    return names, comment_lines, tokens
