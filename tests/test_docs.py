"""The documentation says what the registries say, and its code prints what it shows."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from xairt.attribution.registry import ALIASES, METHODS, Method
from xairt.conventions import CONVENTIONS, Convention

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
EXAMPLE = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)
NEEDS_DATA = ("cobe_correlation", "mamalakis2022-sst")


def read(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def sections(page: str, level: str) -> list[tuple[str, str]]:
    """Return name and text of every section whose heading is a name in code style."""
    parts = re.split(rf"^{level} `([^`]+)`\n", page, flags=re.MULTILINE)
    texts = [re.split(r"^## ", text, flags=re.MULTILINE)[0] for text in parts[2::2]]
    return list(zip(parts[1::2], texts, strict=True))


def facts_in(text: str) -> dict[str, str]:
    """Return the list of facts that a section begins with."""
    lines = re.match(r"\n((?:- .*\n)+)", text)[1].splitlines()
    return dict(line.removeprefix("- ").split(": ", 1) for line in lines)


def facts_of(method: Method) -> dict[str, str]:
    defaults = ", ".join(f"{k}={f.default!r}" for k, f in method.parameters.model_fields.items())
    aliases = [f"`{alias}`" for alias, (name, _) in ALIASES.items() if name == method.name]
    return {
        "Parameters": f"`{defaults}`" if defaults else "none",
        "Sum": method.promise,
        "Signed": "yes" if method.signed else "no",
        "Engines": ", ".join(method.engines),
        "Baseline": "yes" if method.baseline else "no",
        "Conventions": ", ".join(method.conventions) or "none",
        "Aliases": ", ".join(aliases) or "none",
        "Reference": method.reference,
    }


def facts_of_convention(convention: Convention) -> dict[str, str]:
    return {
        "Applies to": convention.applies_to,
        "Difference": convention.difference,
        "Source": convention.source,
    }


def test_every_method_has_one_section():
    assert sorted(name for name, _ in sections(read("methods.md"), "###")) == sorted(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_facts_of_a_method_are_those_of_the_registry(name):
    assert facts_in(dict(sections(read("methods.md"), "###"))[name]) == facts_of(METHODS[name])


@pytest.mark.parametrize("name", METHODS)
def test_section_tells_formula_publication_and_cost(name):
    text = dict(sections(read("methods.md"), "###"))[name]
    body = text.split("\n\n", 1)[1]  # behind the facts
    assert re.search(r"^    \S.*(=|:|minimise)", body, re.MULTILINE)
    assert "Cost:" in body
    author, year = re.search(r"([A-Z]\w+)(?: and \w+| et al\.) (\d{4})", METHODS[name].reference).groups()
    assert re.search(rf"{author}.* \({year}\)", body)


def test_every_convention_has_one_section_with_the_text_of_the_registry():
    found = sections(read("conventions.md"), "##")
    assert [name for name, _ in found] == list(CONVENTIONS)
    page = read("conventions.md")
    for name, convention in CONVENTIONS.items():
        section = page.split(f"\n## `{name}`\n", 1)[1]
        assert facts_in(section) == facts_of_convention(convention)


def test_innvestigate_names_the_methods_that_follow_it():
    named = CONVENTIONS["innvestigate"].applies_to.split(", ")
    following = {name for name, method in METHODS.items() if "innvestigate" in method.conventions}
    assert {
        name for name in METHODS if name in named or (name.startswith("lrp.") and "lrp.*" in named)
    } == following


def test_pages_link_only_to_files_that_exist():
    for page in [*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        for link in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).is_file(), f"{page.name}: {link}"


@pytest.mark.parametrize("page", ["methods.md", "conventions.md"])
def test_pages_are_found_from_index_and_readme(page):
    assert f"]({page})" in read("index.md")
    assert f"](docs/{page})" in (ROOT / "README.md").read_text(encoding="utf-8")


def printed(code: str, names: dict) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, names)
    return out.getvalue()


def test_numbers_on_the_page_of_conventions(monkeypatch):
    monkeypatch.chdir(ROOT)
    names: dict = {}
    examples = [e for e in EXAMPLE.findall(read("conventions.md")) if not any(n in e[0] for n in NEEDS_DATA)]
    assert len(examples) == 7
    for code, shown in examples:
        assert printed(code, names) == shown


@pytest.mark.slow
def test_numbers_of_the_archived_network_on_the_page_of_conventions(monkeypatch, data_dir):
    monkeypatch.chdir(ROOT)
    names: dict = {}
    for code, shown in EXAMPLE.findall(read("conventions.md")):
        assert printed(code, names) == shown


def test_example_of_a_composite_is_read_alike_in_python_and_yaml(tmp_path):
    from xairt.attribution.registry import resolve

    text = dict(sections(read("methods.md"), "###"))["lrp.composite"]
    python, yaml = (
        re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)[1] for language in ("python", "yaml")
    )
    given = eval(re.search(r"rules=(\[.*\]),?\s*\)", python, re.DOTALL)[1])
    (tmp_path / "rules.yaml").write_text(yaml, encoding="utf-8")
    read_rules = resolve("lrp.composite", {"rules": tmp_path / "rules.yaml"}).parameters.rules
    assert resolve("lrp.composite", {"rules": given}).parameters.rules == read_rules[:2]
    assert len(read_rules) == 3
