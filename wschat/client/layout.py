"""How a `Screen` lies on a terminal, and its keys: prompt_toolkit, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer, CompletionState
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import (
    BufferControl,
    CompletionsMenu,
    Float,
    FloatContainer,
    HSplit,
    Layout,
    UIContent,
    UIControl,
    VSplit,
    Window,
)
from prompt_toolkit.layout.processors import BeforeInput
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.styles import Style

from wschat.client.completion import complete
from wschat.client.entries import Fragments
from wschat.client.screen import Screen

#: The width of the people's column, and from which width of the terminal on the wide one.
_SIDEBAR: Final = 16
_WIDE_SIDEBAR: Final = 24
_WIDE: Final = 120

#: The longest line that can be typed, in characters: no server takes a message that is longer.
MAX_LINE: Final = 50_000

_STYLE: Final = {
    "time": "ansibrightblack",
    "head": "bold",
    "own": "ansicyan",
    "alarm": "bg:ansired ansiwhite bold",
    "note": "ansibrightblack",
    "warning": "ansiyellow bold",
    "mark": "ansigreen",
    "rule": "ansibrightblack",
    "new": "ansired",
    "line": "ansibrightblack",
    "title": "bold underline",
    "away": "ansibrightblack",
    "unread": "ansiyellow bold",
    "status": "reverse",
    "prompt": "bold",
}


class _Part(UIControl):
    """A part of the screen that is drawn whole, for the size that it has."""

    def __init__(self, draw: Callable[[int, int], list[Fragments]]) -> None:
        self._draw = draw

    def create_content(self, width: int, height: int | None) -> UIContent:
        lines = self._draw(width, height or 1)
        return UIContent(lambda number: list(lines[number]), len(lines), show_cursor=False)


class _Completer(Completer):
    """Names and commands."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
        line = document.text_before_cursor
        for candidate in complete(line, self._screen.names):
            start = candidate.start - len(line)
            yield Completion(candidate.text, start, display_meta=candidate.meaning)


def application(
    screen: Screen,
    *,
    typed: Callable[[Buffer], bool],
    too_long: Callable[[int], None],
    status: Callable[[int], Fragments],
    end: Callable[[], None],
    coloured: bool,
) -> Application[None]:
    """
    The program that shows a screen.

    `typed` is called with each line, and says whether it is kept; `too_long`
    with the length of what was pasted and is not taken; `status` with a
    width, for the status line; `end` when the user has enough.
    """
    completer = _Completer(screen)
    buffer = Buffer(
        completer=completer,
        complete_while_typing=True,
        accept_handler=typed,
        multiline=False,
    )
    made: Application[None] = Application(
        key_bindings=_keys(screen, completer, too_long, end),
        style=Style.from_dict(_STYLE),
        full_screen=True,
        min_redraw_interval=0.02,  # … however fast messages come
        color_depth=None if coloured else ColorDepth.DEPTH_1_BIT,
    )
    made.layout = _layout(screen, buffer, status, lambda: made.output.get_size().columns)
    made.key_processor.before_key_press += lambda _: screen.attention()
    return made


def _layout(
    screen: Screen,
    buffer: Buffer,
    status: Callable[[int], Fragments],
    columns: Callable[[], int],
) -> Layout:
    """Messages and people, below them the status, and at the bottom what is typed."""

    def sidebar_width() -> int:
        return _WIDE_SIDEBAR if columns() >= _WIDE else _SIDEBAR

    body = VSplit(
        [
            Window(_Part(screen.pane)),
            Window(width=1, char="│", style="class:line"),
            Window(_Part(screen.sidebar), width=sidebar_width),
        ]
    )
    line = Window(_Part(lambda width, height: [status(width)]), height=1)
    control = BufferControl(buffer, input_processors=[BeforeInput("> ", style="class:prompt")])
    rows = HSplit([body, line, Window(control, height=1, wrap_lines=False)])
    menu = Float(CompletionsMenu(max_height=10), xcursor=True, ycursor=True)
    return Layout(FloatContainer(rows, [menu]))


def _keys(
    screen: Screen,
    completer: Completer,
    too_long: Callable[[int], None],
    end: Callable[[], None],
) -> KeyBindings:
    keys = KeyBindings()
    scrolled = Condition(lambda: not screen.at_the_end)

    @keys.add("pageup")
    def _(event: KeyPressEvent) -> None:
        screen.scroll(-1)

    @keys.add("pagedown")
    def _(event: KeyPressEvent) -> None:
        screen.scroll(1)

    @keys.add("end", filter=scrolled)
    def _(event: KeyPressEvent) -> None:
        screen.to_the_end()

    @keys.add("tab")
    def _(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.complete_state is not None and buffer.complete_state.completions:
            buffer.complete_next()
            return
        # What completes while one types may not be ready yet, and would not select anything.
        asked = CompleteEvent(completion_requested=True)
        found = list(completer.get_completions(buffer.document, asked))
        if found:
            buffer.complete_state = CompletionState(buffer.document, found)
            buffer.go_to_completion(0)

    @keys.add("c-l")
    def _(event: KeyPressEvent) -> None:
        event.app.renderer.clear()

    @keys.add(Keys.BracketedPaste)
    def _(event: KeyPressEvent) -> None:
        text = event.data.replace("\r\n", "\n").replace("\r", "\n")
        if len(event.current_buffer.text) + len(text) > MAX_LINE:
            too_long(len(text))
        else:
            event.current_buffer.insert_text(text)

    @keys.add("c-z")
    def _(event: KeyPressEvent) -> None:
        event.app.suspend_to_background()

    @keys.add("c-c")
    @keys.add("c-d")
    def _(event: KeyPressEvent) -> None:
        end()

    return keys
