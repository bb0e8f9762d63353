"""Say in the words of the command line what the library says about arguments.

Messages of the library write an argument as Python does, between backticks: `on_error='skip'`. A
command writes it as the flag that sets it, --on-error skip; what has no flag of its own is a pair
of --option or --benchmark-option. Nothing outside backticks is changed, so that a file called
seed=3 keeps its name.
"""

from __future__ import annotations

import ast
import functools
import inspect
import json
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, TypeAlias

from typer import Option, Typer
from typer.core import TyperCommand, TyperOption

from t2v_eval.cli import console
from t2v_eval.cli.help.examples import EXAMPLES, help_of
from t2v_eval.errors import T2VError, UnknownNameError
from t2v_eval.registry import benchmarks, models
from t2v_eval.utils.signatures import accepted, source_of

ARGUMENT = re.compile(r"`([a-z]\w*)=([^`]*)`")
# Parameters of commands by what they are called in Python, where that differs.
PARAMETERS = {
    "again": ["new_store"],
    "answer_template": ["answer"],
    "benchmark_options": ["benchmark_option"],
    "benchmarks": ["benchmark"],
    "columns": ["column"],
    "file": ["out"],
    "metrics": ["metric"],
    "metric_options": ["metric_option"],
    "folder": ["out", "root"],
    "question_template": ["question"],
    "scorers": ["model"],
    "seconds": ["timeout"],
    "texts": ["text"],
}
Quiet = Annotated[
    bool,
    Option("--quiet", "-q", help="Print results and errors alone: no progress, notes or warnings."),
]
OF_BENCHMARKS = ("column", "images", "root")  # flags that concern how a benchmark is read
Parameters: TypeAlias = Mapping[str, Any]  # of a command, by name


class App(Typer):
    """An application, or a group of commands, whose commands are a `Command` with --quiet."""

    def command(self, *arguments: Any, **settings: Any) -> Callable[[Any], Any]:
        """Return a decorator that registers a command."""

        def decorate(command: Callable[..., None]) -> Callable[..., None]:
            name = arguments[0] if arguments else settings.get("name", command.__name__)
            module = command.__module__.rpartition(".")[2]  # several groups have an `export`
            example = EXAMPLES.get(f"{module}.{name}") or EXAMPLES.get(name)
            extra = {"epilog": f"Example: {example}"} if example else {}
            defaults = {"cls": Command, "help": help_of(command.__doc__), **extra}
            register = super(App, self).command(*arguments, **{**defaults, **settings})
            register(with_quiet(command))
            return command

        return decorate


class Command(TyperCommand):
    """A command whose messages name its flags where the library names arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> Any:
        """Parse the arguments; an error about them names this command and the remedy."""
        words = list(args)
        ctx.allow_extra_args = True  # they are refused here, with a remedy
        try:
            rest = super().parse_args(ctx, args)
        except Exception as error:
            if getattr(error, "ctx", ctx) is None:  # the parser of options does not say where
                error.ctx = ctx  # type: ignore[attr-defined]
            raise
        if rest and not ctx.resilient_parsing:
            ctx.fail(unexpected(rest, words, self.params))
        return rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        parameters = {parameter.name or "": parameter for parameter in self.params}

        def translate(message: str) -> str:
            return with_flags(message, parameters, ctx.params)

        with console.translating(translate):
            try:
                return super().invoke(ctx)
            except T2VError as error:  # shown when this command has ended
                error.args = (translate(str(error)),)
                if isinstance(error, ImportError):
                    (error.msg,) = error.args  # which is what it shows
                raise


def unexpected(rest: Sequence[str], words: Sequence[str], parameters: Sequence[Any]) -> str:
    """Return a message about arguments that a command does not take.

    Args:
        rest: these arguments.
        words: all arguments, in which an option before the first of `rest` tells what was meant.
        parameters: of the command.

    >>> from types import SimpleNamespace
    >>> text = SimpleNamespace(opts=["--text"], is_flag=False, multiple=False)
    >>> unexpected(["b"], ["--text", "a", "b"], [text])
    "unexpected argument 'b' after --text: put a value with spaces in quotes"
    """
    from t2v_eval.evaluation.selection import first_few

    text = f"unexpected argument{'s' if len(rest) > 1 else ''} {first_few(list(map(repr, rest)))}"
    flag, value = flag_before(rest[0], words, parameters)
    if not flag:
        return text
    option = next(p for p in parameters if flag in p.opts)
    if option.is_flag:
        return f"{text} after {flag}, which takes no value"
    if option.multiple:
        example = shlex.join([flag, value, flag, rest[0]])
        return f"{text} after {flag}: repeat {flag} before each value, as {example}"
    return f"{text} after {flag}: put a value with spaces in quotes"


def flag_before(word: str, words: Sequence[str], parameters: Sequence[Any]) -> tuple[str, str]:
    """Return the last flag before an argument that is not its value, and its value; or two "".

    >>> from types import SimpleNamespace
    >>> text = SimpleNamespace(opts=["--text"], is_flag=False)
    >>> flag_before("b", ["--text", "a", "b"], [text])
    ('--text', 'a')
    """
    options = {flag: p for p in parameters for flag in p.opts if flag.startswith("-")}
    with_value = {flag for flag, option in options.items() if not option.is_flag}
    places = [n for n in range(1, len(words)) if words[n] == word]
    place = next((n for n in places if words[n - 1] not in with_value), 0)
    for n in reversed(range(place)):
        flag, _, value = words[n].partition("=")
        if flag in options:
            return flag, value or words[n + 1]
        if flag == "--":
            break
    return "", ""


def with_quiet(command: Callable[..., None]) -> Callable[..., None]:
    """Add the flag --quiet to a command."""
    parameters = inspect.signature(command, eval_str=True).parameters.values()

    @functools.wraps(command)
    def wrapper(quiet: bool, **values: Any) -> None:
        with console.quieting(quiet):
            command(**values)

    keyword = inspect.Parameter.KEYWORD_ONLY
    both = [p.replace(kind=keyword) for p in parameters]
    both.append(inspect.Parameter("quiet", keyword, default=False, annotation=Quiet))
    wrapper.__signature__ = inspect.Signature(both)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {p.name: p.annotation for p in both}
    return wrapper


def flag_of(name: str) -> str:
    """Return the flag of `scorer_options` or of a benchmark that sets an argument; "" for none.

    >>> flag_of("question_template"), flag_of("share")
    ('--question', '')
    """
    from t2v_eval.cli import options

    shared = inspect.signature(options.scorer_options).parameters
    for parameter in PARAMETERS.get(name, [name]):
        if parameter in (*shared, *OF_BENCHMARKS):
            return f"--{parameter.replace('_', '-')}"
    return ""


def with_flags(message: str, parameters: Parameters, values: Mapping[str, Any]) -> str:
    """Return a message of the library with flags in the place of arguments.

    Args:
        message: arguments stand between backticks.
        parameters: the parameters of the command.
        values: their values, by which the options of scorers and benchmarks are told apart.
    """

    def flag(match: re.Match[str]) -> str:
        name, text = match[1], match[2]
        value = _literal(text)
        for own_name in PARAMETERS.get(name, [name]):
            parameter = parameters.get(own_name)
            if parameter is not None and (named := _of_parameter(parameter, parameters, value)):
                return named
        return _of_option(name, value, parameters, values) or f"{name}={text}"

    return ARGUMENT.sub(flag, message)


def _of_parameter(parameter: Any, parameters: Parameters, value: Any) -> str:
    """Return the flag or the argument that sets a value; "" where this parameter cannot."""
    if not isinstance(parameter, TyperOption):
        words = [str(part) for part in _several(value)]
        return shlex.join(words) or parameter.metavar or parameter.name.upper()
    flag = max(parameter.opts, key=len)
    if value is None:
        return f"--no-{flag[2:]}" if f"no_{parameter.name}" in parameters else f"no {flag}"
    if parameter.is_flag:
        return flag if value in (True, "") else ""
    if isinstance(value, Mapping):
        pairs = ((key, part) for key, several in value.items() for part in _several(several))
        return " ".join(f"{flag} {_word(f'{key}={_plain(part)}')}" for key, part in pairs)
    return " ".join(f"{flag} {_word(_plain(part))}" for part in _several(value)) or flag


def _of_option(name: str, value: Any, parameters: Parameters, values: Mapping[str, Any]) -> str:
    """Return the pair of --option or --benchmark-option that sets a value, if the command can."""
    typed = {pair.partition("=")[0] for pair in values.get("benchmark_option") or ()}
    of_scorers = _options_of(models, values.get("model"))
    of_benchmarks = _options_of(benchmarks, values.get("benchmark")) | typed
    of_benchmark = name in of_benchmarks and name not in of_scorers
    flag = "benchmark_option" if of_benchmark else "option"
    if flag not in parameters:
        return ""
    plain = value if isinstance(value, str) else _json(value)
    return f"--{flag.replace('_', '-')} {_word(f'{name}={plain}')}"


def _options_of(registry: Any, names: str | Iterable[str] | None) -> set[str]:
    """Return the options that the classes of some names take."""
    options: set[str] = set()
    for name in [names] if isinstance(names, str) else names or ():
        try:
            card = registry.card(name)
        except UnknownNameError:
            continue
        if card.file is not None:
            options |= accepted(source_of(card.file, card.module), card.entry) or set()
    return options


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text) if text else ""
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _several(value: Any) -> list[Any]:
    if isinstance(value, (list, tuple, set)):
        return list(value)
    return [] if value == "" else [value]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else "..." if value is ... else _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _word(text: str) -> str:
    """Return a text as one word of a shell; what is only a place for one stays readable."""
    return text if re.fullmatch(r"[\w@%+=:,./{}~-]*", text) else shlex.quote(text)
