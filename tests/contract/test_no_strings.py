"""Names come from elsewhere: none ever gets to a shell, is a template itself, or gets into XML by
string building."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SNAPD = Path(__file__).parents[2] / "snapd"
SHELLS = {"system", "popen", "getoutput", "getstatusoutput", "create_subprocess_shell"}
INTROSPECTION = {"bus/router.py", "bus/standard.py"}
"""Of our own contract, and of object labels, which are [A-Za-z0-9_] alone."""
OWN_SENTENCES = {"logind.py"}
"""Fills in sentences of its own, from a table."""
TAG = re.compile(r"</?[a-z][a-z:]*[ >/]")


def faults(text: str) -> Iterator[str]:
    """Calls of a shell, and tags in strings that are filled in."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            word = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if word in SHELLS or any(k.arg == "shell" for k in node.keywords):
                yield f"line {node.lineno}: a shell"
            if word == "format" and isinstance(node.func, ast.Attribute):
                yield from _tags(node.func.value)
        elif isinstance(node, ast.JoinedStr):
            yield from (fault for value in node.values for fault in _tags(value))
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod | ast.Add):
            yield from (fault for side in (node.left, node.right) for fault in _tags(side))


def _tags(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str) and TAG.search(node.value):
        yield f"line {node.lineno}: XML by string building"


@pytest.mark.parametrize(
    "text",
    [
        "f'<name>{name}</name>'",
        "'<name>%s</name>' % name",
        "'<name>' + name + '</name>'",
        "'<name>{}</name>'.format(name)",
        "os.system('virsh ' + name)",
        "subprocess.run(['x'], shell=False)",
        "asyncio.create_subprocess_shell(x)",
    ],
)
def test_faults_each_kind_is_found(text: str) -> None:
    assert list(faults(text))


@pytest.mark.parametrize(
    "path", sorted(SNAPD.rglob("*.py")), ids=lambda p: str(p.relative_to(SNAPD))
)
def test_no_shell_and_no_xml_by_string_building(path: Path) -> None:
    found = list(faults(path.read_text()))
    if str(path.relative_to(SNAPD)) in INTROSPECTION:
        found = [fault for fault in found if "XML" not in fault]
    assert found == []


LOGS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def templates(text: str) -> Iterator[str]:
    """Strings that are filled in and are no literals: `{x.__class__}` in a file must stay text."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod) and _is_text(node.left):
            yield f"line {node.lineno}: % on text"
        if not isinstance(node, ast.Call):
            continue
        word = getattr(node.func, "attr", getattr(node.func, "id", ""))
        of = getattr(node.func, "value", None)
        if word in {"format_map", "safe_substitute", "substitute", "vformat", "eval", "exec"}:
            yield f"line {node.lineno}: {word}"
        if word == "format" and not isinstance(of, ast.Constant):
            yield f"line {node.lineno}: a template that is no literal"
        if word in LOGS and isinstance(of, ast.Name) and of.id in ("log", "logging"):
            first = node.args[1 if word == "log" else 0]
            if not isinstance(first, ast.Constant):
                yield f"line {node.lineno}: a log line that is no literal"


def _is_text(node: ast.expr) -> bool:
    """Whether it can be text: what arithmetic is made of (int() and what we compute) is not."""
    name = getattr(node, "attr", getattr(node, "id", ""))
    return isinstance(node, ast.JoinedStr) or any(
        word in name for word in ("text", "message", "what", "why", "name", "reason", "glob")
    )


@pytest.mark.parametrize(
    "text",
    [
        "policy.name.format(policy=policy)",
        "message % values",
        "f'{name} %s' % (x,)",
        "string.Template(glob).substitute(x=1)",
        "log.error(error.message)",
        "log.warning(f'{glob} is odd')",
        "log.log(30, message)",
        "eval(glob)",
    ],
)
def test_templates_each_kind_is_found(text: str) -> None:
    assert list(templates(text))


@pytest.mark.parametrize(
    "path", sorted(SNAPD.rglob("*.py")), ids=lambda p: str(p.relative_to(SNAPD))
)
def test_no_text_from_elsewhere_is_a_template(path: Path) -> None:
    found = list(templates(path.read_text()))
    if str(path.relative_to(SNAPD)) in OWN_SENTENCES:
        found = [fault for fault in found if "template" not in fault]
    assert found == []
