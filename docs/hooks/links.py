"""Links that hold both on the site and in the repository.

Pages link to other files of the repository by relative paths. On the site, links to examples lead to their pages in the
gallery, and links to files that are no pages to copies of them. Names of the public API in the text lead to their
entries in the reference.
"""

import html
import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, InclusionLevel

import energysolve

ROOT = Path(__file__).parents[2]
ELSEWHERE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
    "docs": "index.md",
    "examples": "gallery/index.md",
}
"""Files and folders of the repository whose pages have other names."""
CODE = re.compile(r"(^ *(`{3,}|~{3,}).*?^ *\2`*~*[ \t]*$)", flags=re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
SCRIPT = re.compile(r"(?<!\[)`examples/(\w+)\.py`")
TOKEN = re.compile(r"(<[^>]+>)")
CLOSED = ("a", "pre", "h1", "h2", "h3", "h4", "h5", "h6", "autoref")
"""Names inside these elements stay as they are."""


def source_of(page: str) -> PurePosixPath:
    """The file in the repository behind a page."""
    path = PurePosixPath(page)
    if path.parts[0] == "gallery" and path.stem != "index":
        return PurePosixPath("examples", path.stem + ".py")
    for source, other in ELSEWHERE.items():
        if other == page == "changelog.md":
            return PurePosixPath(source)
    return PurePosixPath("docs") / path


def target_of(source: PurePosixPath, files) -> str:
    """The path on the site of a file in the repository; one that is no page is added to ``files``."""
    if str(source) in ELSEWHERE:
        return ELSEWHERE[str(source)]
    if source.parts[0] == "examples" and source.suffix == ".py":
        return f"gallery/{source.stem}.md"
    if source.parts[0] == "docs":
        known = files.get_file_from_path(str(source.relative_to("docs")))
        if known is not None and known.inclusion.is_included():
            return known.src_uri
    return f"repository/{source}"


def on_files(files, config):
    """The changelog becomes a page."""
    files.append(File.generated(config, "changelog.md", abs_src_path=str(ROOT / "CHANGELOG.md")))
    return files


def on_page_markdown(markdown, page, config, files):
    """Rewrites the links of a page that lead out of the folder of pages."""
    source = source_of(page.file.src_uri)

    def rewritten(match: re.Match) -> str:
        before, link, anchor, after = match.groups(default="")
        found = PurePosixPath(os.path.normpath(source.parent / link))
        if "://" in link or link.startswith(("mailto:", "/")) or not (ROOT / found).exists():
            return match[0]
        target = target_of(found, files)
        if target.startswith("repository/") and files.get_file_from_path(target) is None:
            if (ROOT / found).is_dir():
                raise PluginError(f"{source} links to the folder {found}, which has no page on the site")
            file = File.generated(config, target, abs_src_path=str(ROOT / found), inclusion=InclusionLevel.INCLUDED)
            files.append(file)
        return f"{before}{os.path.relpath(target, PurePosixPath(page.file.src_uri).parent)}{anchor}{after}"

    def to_page(match: re.Match) -> str:
        page_name = f"gallery/{match[1]}.md"
        if files.get_file_from_path(page_name) is None:
            return match[0]
        return f"[{match[0]}]({os.path.relpath(page_name, PurePosixPath(page.file.src_uri).parent)})"

    def changed(text: str) -> str:
        return SCRIPT.sub(to_page, LINK.sub(rewritten, text))

    pieces = CODE.split(markdown)  # text, fenced block, its fence, text, ...
    return "".join(changed(text) if k % 3 == 0 else text for k, text in enumerate(pieces) if k % 3 != 2)


def on_page_content(content, page, config, files):
    """Links the first mention of each public name in a page to its entry in the reference."""
    public = {name: f"energysolve.{name}" for name in energysolve.__all__}
    open_elements, pieces, seen = [], TOKEN.split(content), set()
    for k, piece in enumerate(pieces):
        if k % 2:
            _track(open_elements, piece)
            continue
        name = html.unescape(piece).partition("(")[0]
        wanted = pieces[k - 1] == "<code>" and pieces[k + 1] == "</code>" if 0 < k < len(pieces) - 1 else False
        if wanted and name in public and name not in seen and not open_elements:
            seen.add(name)
            pieces[k - 1] = f'<autoref identifier="{public[name]}" optional><code>'
            pieces[k + 1] = "</code></autoref>"
    return "".join(pieces)


def _track(open_elements: list[str], tag: str) -> None:
    """Keeps the list of the elements that are open, of those whose text stays as it is."""
    name = re.match(r"</?(\w+)", tag)
    if name is None or name[1] not in CLOSED:
        return
    if not tag.startswith("</"):
        open_elements.append(name[1])
    elif open_elements:
        open_elements.pop()
