"""Which code a scope is around: generators, tasks, threads, and scopes that nobody ever left."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any, Self

import pytest
from flask import stream_with_context
from werkzeug.test import create_environ

from flask_dbkit import (
    OwnershipError,
    TransactionError,
    attempts,
    in_transaction,
    on_commit,
    run,
    savepoint,
    session_scope,
    stream,
    transaction,
)

from .conftest import Ledger

Write = Callable[[], None]


# -- scopes that a generator holds ------------------------------------------------------------


class Opener(ExitStack):
    """A context manager of the application's own around a scope."""

    def __enter__(self) -> Self:
        self.enter_context(transaction())
        return super().__enter__()


def _plain(ledger: Ledger) -> Iterator[int]:
    with transaction():
        ledger.read()
        yield from (1, 2, 3)


def _with_savepoint(ledger: Ledger) -> Iterator[int]:
    with transaction(), savepoint():
        ledger.read()
        yield from (1, 2, 3)


def _by_session_scope(ledger: Ledger) -> Iterator[int]:
    with session_scope():
        yield from (1, 2, 3)


def _by_attempts(ledger: Ledger) -> Iterator[int]:
    for attempt in attempts():
        with attempt:
            yield from (1, 2, 3)


def _by_stack(ledger: Ledger) -> Iterator[int]:
    with ExitStack() as stack:
        stack.enter_context(transaction(read_only=True))
        yield from (1, 2, 3)


def _by_opener(ledger: Ledger) -> Iterator[int]:
    with Opener():
        yield from (1, 2, 3)


def _behind_another(ledger: Ledger) -> Iterator[int]:
    yield from _plain(ledger)


def _by_manager(ledger: Ledger) -> Iterator[int]:
    with contextmanager(_once)():
        yield from (1, 2, 3)


def _once() -> Iterator[None]:
    with transaction():
        yield


HELD: tuple[Callable[[Ledger], Iterator[int]], ...] = (
    _plain,
    _with_savepoint,
    _by_session_scope,
    _by_attempts,
    _by_stack,
    _by_opener,
    _behind_another,
    _by_manager,
)


def block(write: Write) -> None:
    with transaction():
        write()


def inner_savepoint(write: Write) -> None:
    with savepoint():
        write()


def loop_of_attempts(write: Write) -> None:
    for attempt in attempts():
        with attempt:
            write()


def in_session_scope(write: Write) -> None:
    with session_scope():
        write()


def through_a_stack(write: Write) -> None:
    with ExitStack() as stack:
        stack.enter_context(transaction())
        write()


FORMS = (
    block,
    inner_savepoint,
    lambda write: transaction(write)(),
    run,
    loop_of_attempts,
    in_session_scope,
    through_a_stack,
)


def check_refused(ledger: Ledger, form: Callable[[Write], None], held: Iterator[int]) -> None:
    """Read a generator's first piece, try to join its scope, then throw the generator away."""
    done: list[int] = []

    def write() -> None:
        ledger.insert(len(done) + 1)
        on_commit(done.append, 0)

    next(held)
    with pytest.raises(OwnershipError, match="suspended generator"):
        form(write)
    held.close()  # type: ignore[attr-defined]
    assert (ledger.saved(), done) == ([], [])
    block(write)
    assert (ledger.saved(), done) == ([1], [0])


@pytest.mark.parametrize("held", HELD, ids=lambda held: held.__name__)
def test_no_block_joins_a_scope_that_a_suspended_generator_holds(
    ledger: Ledger, held: Callable[[Ledger], Iterator[int]]
) -> None:
    """Such a scope is not around the block: the generator's early end would undo its work."""
    check_refused(ledger, block, held(ledger))


@pytest.mark.parametrize("form", FORMS, ids=range(len(FORMS)))
def test_in_no_form_does_a_block_join_the_scope_of_a_suspended_generator(
    ledger: Ledger, form: Callable[[Write], None]
) -> None:
    """Whatever opens it: a block, a decorator, a retried function."""
    check_refused(ledger, form, _plain(ledger))


@pytest.mark.backends("sqlite-file")
def test_hooks_and_own_savepoints_are_refused_there_too(ledger: Ledger) -> None:
    """They would belong to the generator's transaction."""
    held = _plain(ledger)
    next(held)
    with pytest.raises(OwnershipError, match="suspended generator"):
        on_commit(print)
    with pytest.raises(OwnershipError, match="suspended generator"):
        ledger.session.begin_nested()
    held.close()  # type: ignore[attr-defined]


@pytest.mark.backends("sqlite-file")
def test_an_async_generator_holds_its_scope_alone_too(ledger: Ledger) -> None:
    """``async for`` suspends it as ``for`` does; an asynchronous context manager is around."""

    async def pieces() -> AsyncIterator[int]:
        with transaction():
            yield 1

    @asynccontextmanager
    async def scope() -> AsyncIterator[None]:
        await asyncio.sleep(0)
        with transaction():
            yield

    async def view() -> None:
        async for _ in pieces():
            with pytest.raises(OwnershipError, match="suspended generator"):
                block(lambda: ledger.insert(1))
        async with scope():
            await asyncio.sleep(0)
            block(lambda: ledger.insert(2))

    asyncio.run(view())
    assert ledger.saved() == [2]


@pytest.fixture
def scope_around(ledger: Ledger) -> Iterator[None]:
    """A fixture that holds a scope around its test."""
    with transaction():
        yield


@pytest.mark.usefixtures("scope_around")
@pytest.mark.backends("sqlite-file")
def test_a_fixture_s_scope_is_around_its_test(ledger: Ledger) -> None:
    """Pytest suspends the fixture for as long as the test runs."""
    block(lambda: ledger.insert(1))
    assert ledger.read() == [1]


@pytest.mark.backends("sqlite-file")
def test_a_context_manager_s_scope_is_around_its_block(ledger: Ledger) -> None:
    """A generator under ``contextmanager`` is suspended on purpose, nested and in a stack."""

    @contextmanager
    def outer() -> Iterator[None]:
        with contextmanager(_once)():
            yield

    with ExitStack() as stack:
        stack.enter_context(outer())
        block(lambda: ledger.insert(1))
        with savepoint():
            ledger.insert(2)
    assert ledger.saved() == [1, 2]


def test_blocks_of_a_generator_itself_join_its_scope(ledger: Ledger) -> None:
    """While it runs it is around them; and the loop may open scopes when it is at its end."""

    def pieces() -> Iterator[int]:
        with transaction():
            for n in (1, 2):
                block(lambda n=n: ledger.insert(n))  # type: ignore[misc]
                yield n

    assert list(pieces()) == [1, 2]
    block(lambda: ledger.insert(3))
    assert ledger.saved() == [1, 2, 3]


# -- tasks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS[:4], ids=range(4))
def test_a_task_cannot_join_the_scope_of_another_one(
    ledger: Ledger, form: Callable[[Write], None]
) -> None:
    """It would be rolled back with it. Whoever opened the scope goes on, across its awaits."""
    entered, tried = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        with transaction():
            ledger.insert(1)
            entered.set()
            await tried.wait()
            block(lambda: ledger.insert(2))

    async def second() -> None:
        await entered.wait()
        try:
            form(lambda: ledger.insert(3))
        finally:
            tried.set()

    async def both() -> Any:
        return await asyncio.gather(first(), second(), return_exceptions=True)

    outcomes = asyncio.run(both())
    assert outcomes[0] is None
    assert isinstance(outcomes[1], OwnershipError)
    assert "another task" in str(outcomes[1])
    assert ledger.saved() == [1, 2]


@pytest.mark.backends("sqlite-file")
def test_a_loop_that_runs_inside_a_block_may_use_its_scope_one_task_at_a_time(
    ledger: Ledger,
) -> None:
    """The thread waits for the loop, so that there is one flow; two tasks side by side are two."""

    async def write(n: int) -> None:
        block(lambda: ledger.insert(n))

    async def hold(n: int) -> None:
        with transaction():
            ledger.insert(n)
            await asyncio.sleep(0.01)

    async def side_by_side() -> Any:
        return await asyncio.gather(hold(2), hold(3), return_exceptions=True)

    with transaction():
        asyncio.run(write(1))
        outcomes = asyncio.run(side_by_side())
        block(lambda: ledger.insert(4))
    assert [type(outcome) for outcome in outcomes] == [type(None), OwnershipError]
    assert ledger.saved() == [1, 2, 4]


@pytest.mark.backends("sqlite-file", "postgresql")
def test_another_thread_can_neither_send_a_statement_nor_flush(ledger: Ledger) -> None:
    """Who has been handed the session of an open scope is told so before anything is sent."""
    session = ledger.session
    raised: list[BaseException] = []

    def try_both() -> None:
        for use in (lambda: session.connection().exec_driver_sql("SELECT 1"), session.flush):
            try:
                use()
            except TransactionError as error:
                raised.append(error)

    with transaction():
        ledger.insert(1)
        ledger.add(2)
        thread = threading.Thread(target=contextvars.copy_context().run, args=(try_both,))
        thread.start()
        thread.join()
    assert [type(error) for error in raised] == [OwnershipError] * 2
    assert ledger.saved() == [1, 2]


# -- scopes that nobody ever left -------------------------------------------------------------


def left_in_a_generator(kept: list[Any]) -> None:
    kept.append(_once())
    next(kept[-1])


def left_by_hand(kept: list[Any]) -> None:
    kept.append(transaction(read_only=True))
    kept[-1].__enter__()


def left_with_a_savepoint(kept: list[Any]) -> None:
    left_by_hand(kept)
    kept.append(savepoint())
    kept[-1].__enter__()


def left_in_session_scope(kept: list[Any]) -> None:
    kept.append(session_scope())
    kept[-1].__enter__()


@pytest.mark.parametrize(
    "leave", [left_in_a_generator, left_by_hand, left_with_a_savepoint, left_in_session_scope]
)
def test_a_scope_that_was_never_left_is_over_with_its_context(
    ledger: Ledger, leave: Callable[[list[Any]], None], caplog: pytest.LogCaptureFixture
) -> None:
    """Later contexts are as if it had never been: no refused scope, no lock, no connection."""
    kept: list[Any] = []
    told: list[BaseException | None] = []
    with ledger.app.app_context():
        leave(kept)
        ledger.session.info["kept"] = True
        ledger.read()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "never left" in caplog.text
    with ledger.app.app_context():
        assert not in_transaction()
        with ledger.statements() as sent:
            assert ledger.read() == []
        assert len(sent) == 1
        ledger.db.session.rollback()
        block(lambda: ledger.insert(1))
    for one in reversed(kept):
        close = getattr(one, "close", None) or (lambda one=one: one.__exit__(None, None, None))
        try:
            close()
        except OwnershipError as error:
            told.append(error)  # a block that ends normally has to be told
    assert len(told) == sum(not hasattr(one, "close") for one in kept)
    assert ledger.saved() == [1]


@pytest.mark.parametrize("scope", [True, False])
def test_a_context_begins_without_the_session_of_a_dead_thread_whose_id_it_has(
    ledger: Ledger, scope: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Sessions are found by the id of a context; one that was never popped leaves its own."""
    left: list[Any] = []

    def die() -> None:
        context = ledger.app.app_context()
        context.push()
        left.append(id(context))
        if scope:
            left.append(transaction())
            left[-1].__enter__()
        ledger.insert(1)

    thread = threading.Thread(target=die)
    thread.start()
    thread.join()
    sessions = ledger.db.session.registry.registry
    context = ledger.app.app_context()
    sessions[id(context)] = session = sessions.pop(left[0])
    with context:
        assert ledger.session is not session
        assert not in_transaction()
        block(lambda: ledger.insert(2))
        kept = ledger.session
        with context:  # the same one, once more
            assert ledger.session is kept
    assert caplog.text.count("never left") == scope
    assert ledger.saved() == [2]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Flask's own
def test_an_abandoned_stream_leaves_the_thread_usable(ledger: Ledger) -> None:
    """A server drops the body; Flask's stream leaves its context, with its scope, in the thread."""

    def numbers() -> Iterator[str]:
        with transaction(read_only=True):
            yield str(ledger.read())
            yield ""

    app = ledger.app
    app.add_url_rule("/flask", "flask", lambda: app.response_class(stream_with_context(numbers())))
    app.add_url_rule("/kit", "kit", lambda: app.response_class(stream(iter(["a", "b"]))))

    def write() -> str:
        block(lambda: ledger.insert(1 + len(ledger.saved())))
        ledger.db.session.add_all(())
        ledger.db.session.commit()
        return "ok"

    app.add_url_rule("/", "write", write, methods=["POST"])
    status: list[str] = []
    kept: list[Any] = []

    def ask(path: str, method: str = "GET") -> Any:
        environ = create_environ(path, method=method)
        start: Any = lambda code, headers, error=None: status.append(code[:3])  # noqa: E731
        return app.wsgi_app(environ, start)

    def serve() -> None:
        for path in ("/kit", "/flask"):
            parts = iter(ask(path))
            next(parts)
            kept.append(parts)
            for _ in range(2):
                body = ask("/", "POST")
                b"".join(body)
                body.close()

    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()
    assert status == ["200"] * 6
    assert ledger.saved() == [1, 2, 3, 4]
    with contextlib.suppress(Exception):
        kept.clear()
        gc.collect()
