"""Makes the tables of docs/spec/messages.md from the messages themselves."""

import ast
import re
from pathlib import Path

from atoll.core import messages
from atoll.core.errors import Kind, meaning_of

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "spec" / "messages.md"
SOURCES = sorted((ROOT / "src" / "atoll" / "core" / "messages").glob("[a-z]*.py"))


KINDS = {kind.__name__: kind for kind in messages.Message.__subclasses__()}
"""All messages by name."""


def _plain(text: str | None) -> str:
    """A docstring as one line of Markdown."""
    line = " ".join((text or "").split())
    return re.sub(r"``([^`]+)``", r"`\1`", line).replace("|", "\\|")


def _fields(node: ast.ClassDef) -> list[tuple[str, str, str, str]]:
    """Name, type, default and meaning of each field."""
    rows: list[tuple[str, str, str, str]] = []
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            default = ast.unparse(statement.value) if statement.value else ""
            rows.append((statement.target.id, ast.unparse(statement.annotation), default, ""))
        elif rows and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            rows[-1] = (*rows[-1][:3], _plain(str(statement.value.value)))
    return rows


def _section(node: ast.ClassDef) -> str:
    kind = KINDS[node.name]
    lines = [f"### {node.name}", "", _plain(ast.get_docstring(node))]
    if kind in messages.ANSWERS:
        lines[-1] += f" Answer: `{messages.ANSWERS[kind].__name__}`."
    rows = _fields(node)
    if rows:
        lines += ["", "| field | type | default | |", "|---|---|---|---|"]
        lines += [
            f"| `{name}` | `{kind}` | {f'`{default}`' if default else ''} | {meaning} |".replace(
                "  ", " "
            )
            for name, kind, default, meaning in rows
        ]
    return "\n".join(lines)


def message_tables() -> str:
    """All messages, in families."""
    classes = {
        node.name: node
        for source in SOURCES
        for node in ast.parse(source.read_text()).body
        if isinstance(node, ast.ClassDef) and node.name in KINDS
    }
    node_names = [kind.__name__ for kind in messages.NODE_REQUESTS]
    control_names = [kind.__name__ for kind in messages.CONTROL_REQUESTS]
    asked = set(node_names + control_names)
    families = {
        "Requests of nodes": node_names,
        "Requests of gateways": control_names,
        "Answers, and what messages are made of": [n for n in classes if n not in asked],
    }
    return "\n\n".join(
        "\n\n".join([f"## {title}", *(_section(classes[name]) for name in names)])
        for title, names in families.items()
    )


def kind_table() -> str:
    """All kinds of failure."""
    rows = ["| kind | HTTP | S3 code | exit code | transient |", "|---|---|---|---|---|"]
    for kind in Kind:
        meaning = meaning_of(kind)
        transient = "yes" if meaning.transient else ""
        rows.append(
            f"| `{kind.value}` | {meaning.http_status} | {meaning.s3_code} | {meaning.exit_code}"
            f" | {transient} |"
        )
    return "\n".join(rows)


def page() -> str:
    """The page with its tables made anew."""
    text = PAGE.read_text(encoding="utf-8")
    for name, table in (("kinds", kind_table()), ("messages", message_tables())):
        pattern = re.compile(rf"(<!-- {name}:[^\n]*-->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text, count = pattern.subn(lambda at, t=table: f"{at[1]}\n{t}\n\n{at[2]}", text)
        assert count == 1, f"the page has a place for {name}"
    return text


def write_page() -> None:
    """Bring the page up to date."""
    PAGE.write_text(page(), encoding="utf-8")
