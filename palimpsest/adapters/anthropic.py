"""A backend of Anthropic's memory tool: its files are corrections, whose situation is the path and whose answer is the text.

So every version of a file stays in the ledger, can be rolled back to, and is forgotten as corrections are. A file has 1 to 20,000
characters. What a deleted file said is not answered any more; administrators can still look it up, and erase it.
"""

import posixpath
from collections.abc import Iterator

from palimpsest.adapters import missing
from palimpsest.adapters.exactly import containing, suppress
from palimpsest.client import Client
from palimpsest.errors import PalimpsestError
from palimpsest.replies import Correction

try:
    from anthropic.lib.tools import BetaAbstractMemoryTool, BetaFunctionToolResultType, ToolError
    from anthropic.types import beta
except ImportError as absent:
    raise missing("anthropic") from absent

ROOT = "/memories"
DEPTH = 2  # levels of a folder that are listed
BESIDE = 2  # lines that are shown on either side of a change


class MemoryTool(BetaAbstractMemoryTool):
    """For `client.beta.messages.tool_runner(tools=[MemoryTool(memory)])`; its files are those of the memory's bank, below /memories."""

    def __init__(self, memory: Client, *, cache_control: beta.BetaCacheControlEphemeralParam | None = None) -> None:
        super().__init__(cache_control=cache_control)
        self._memory = memory

    def execute(self, command: beta.BetaMemoryTool20250818Command) -> BetaFunctionToolResultType:
        """Perform a command; what the memory refuses is told to the model, as the failure of its tool."""
        try:
            return super().execute(command)
        except PalimpsestError as refused:
            raise ToolError(str(refused)) from refused

    def view(self, command: beta.BetaMemoryTool20250818ViewCommand) -> str:
        """A file with its lines numbered, or a folder."""
        path = _checked(command.path)
        file = self._file(path)
        if file is None:
            return self._folder(path)
        lines = _text(file).split("\n")
        first, last = command.view_range if command.view_range and len(command.view_range) == 2 else (1, -1)
        first, last = max(first, 1), len(lines) if last == -1 else min(last, len(lines))
        return f"Here's the content of {path} with line numbers:\n{_numbered(lines, first, last)}"

    def create(self, command: beta.BetaMemoryTool20250818CreateCommand) -> str:
        """A new file."""
        path = _checked(command.path)
        if path == ROOT or self._file(path) or self._below(path):
            raise ToolError(f"File {path} already exists")
        self._memory.correct(path, command.file_text)
        return f"File created successfully at: {path}"

    def str_replace(self, command: beta.BetaMemoryTool20250818StrReplaceCommand) -> str:
        """A file with one part of it replaced."""
        path = _checked(command.path)
        old = _text(self._wanted(path))
        at = [place for place in range(len(old)) if command.old_str and old.startswith(command.old_str, place)]
        if not at:
            raise ToolError(f"No replacement was performed, old_str `{command.old_str}` did not appear verbatim in {path}.")
        if len(at) > 1:
            lines = ", ".join(str(old.count("\n", 0, place) + 1) for place in at)
            raise ToolError(
                f"No replacement was performed. Multiple occurrences of old_str `{command.old_str}` in lines: {lines}. "
                "Please ensure it is unique"
            )
        new = old[: at[0]] + command.new_str + old[at[0] + len(command.old_str) :]
        self._memory.correct(path, new, old)
        lines_now, line = new.split("\n"), old.count("\n", 0, at[0]) + 1
        shown = _numbered(lines_now, max(line - BESIDE, 1), min(line + BESIDE, len(lines_now)))
        return f"The memory file has been edited. Here is the snippet showing the change (with line numbers):\n{shown}"

    def insert(self, command: beta.BetaMemoryTool20250818InsertCommand) -> str:
        """A file with lines put in after a line of it; 0 puts them before the first."""
        path = _checked(command.path)
        old = _text(self._wanted(path))
        lines = old.removesuffix("\n").split("\n")
        if not 0 <= command.insert_line <= len(lines):
            raise ToolError(f"Invalid `insert_line` parameter: {command.insert_line}. It should be within the range [0, {len(lines)}].")
        lines.insert(command.insert_line, command.insert_text.rstrip("\n"))
        self._memory.correct(path, "\n".join(lines) + "\n", old)
        return f"The file {path} has been edited."

    def delete(self, command: beta.BetaMemoryTool20250818DeleteCommand) -> str:
        """No file any more, or no folder with what is in it."""
        path = _checked(command.path)
        if path == ROOT:
            raise ToolError(f"Cannot delete the {ROOT} directory itself")
        if not self._file(path) and not self._below(path):
            raise ToolError(f"The path {path} does not exist")
        self._suppress(path)
        return f"Successfully deleted {path}"

    def rename(self, command: beta.BetaMemoryTool20250818RenameCommand) -> str:
        """A file under another path, or a folder with what is in it."""
        old, new = _checked(command.old_path), _checked(command.new_path)
        if old in (ROOT, new) or new.startswith(f"{old}/"):
            raise ToolError(f"Cannot rename {old} to {new}")
        if new == ROOT or self._file(new) or self._below(new):
            raise ToolError(f"The destination {new} already exists")
        file = self._file(old)
        moved = [file] if file else self._below(old)
        if not moved:
            raise ToolError(f"The path {old} does not exist")
        self._memory.correct_many([{"input": new + _path(each).removeprefix(old), "right": _text(each)} for each in moved])
        self._suppress(old)
        return f"Successfully renamed {old} to {new}"

    def clear_all_memory(self) -> str:
        """No files any more."""
        self._suppress(ROOT)
        return "All memory cleared"

    def _file(self, path: str) -> Correction | None:
        return next((each for each in containing(self._memory, path) if each.input == path and each.status == "active"), None)

    def _wanted(self, path: str) -> Correction:
        file = self._file(path)
        if file is None:
            raise ToolError(f"The path {path} does not exist. Please provide a valid path.")
        return file

    def _below(self, path: str) -> list[Correction]:
        """The files in a folder and its folders, by path."""
        found = {_path(each): each for each in self._at(path) if each.status == "active" and each.input != path}
        return [found[name] for name in sorted(found)]

    def _at(self, path: str) -> Iterator[Correction]:
        """Whatever was taught at a path or below it, and is not forgotten."""
        return (each for each in containing(self._memory, path) if f"{each.input}/".startswith(f"{path}/"))

    def _suppress(self, path: str) -> None:
        suppress(self._memory, list(self._at(path)), "deleted by the memory tool")  # older versions, too: they must not come back

    def _folder(self, path: str) -> str:
        files = self._below(path)
        if not files and path != ROOT:
            raise ToolError(f"The path {path} does not exist. Please provide a valid path.")
        sizes: dict[str, int] = {}
        for file in files:
            size, parts = len(_text(file).encode()), _path(file).removeprefix(f"{path}/").split("/")
            for depth in range(1, min(len(parts), DEPTH) + 1):
                name = "/".join(parts[:depth]) + ("/" if depth < len(parts) else "")
                sizes[name] = sizes.get(name, 0) + size
        lines = [f"{_size(sum(len(_text(file).encode()) for file in files))}\t{path}"]
        lines += [f"{_size(size)}\t{path}/{name}" for name, size in sizes.items()]
        header = f"Here're the files and directories up to {DEPTH} levels deep in {path}, excluding hidden items:"
        return "\n".join((header, *lines))


def _checked(path: str) -> str:
    """The path without a slash at its end.

    Raises:
        ToolError: it is not below the root, or not written plainly.
    """
    plain = path.rstrip("/")
    if plain != posixpath.normpath(path) or not f"{plain}/".startswith(f"{ROOT}/"):
        raise ToolError(f"Path must start with {ROOT}, and have no empty, `.` or `..` parts, got: {path}")
    return plain


def _path(file: Correction) -> str:
    return file.input or ""


def _text(file: Correction) -> str:
    return file.right or ""


def _numbered(lines: list[str], first: int, last: int) -> str:
    return "\n".join(f"{number:6}\t{line}" for number, line in enumerate(lines[first - 1 : last], first))


def _size(number: int) -> str:
    return f"{number}B" if number < 1024 else f"{number / 1024:.1f}K"
