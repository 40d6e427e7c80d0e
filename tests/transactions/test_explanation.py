"""Each sentence of the page that explains what a scope promises, and the tests that show it."""

from __future__ import annotations

from tests.support.sentences import (
    LEADS_ON,
    ROOT,
    Shown,
    gone,
    without_one_entry,
    without_sentence,
)

PAGE = ROOT / "docs" / "explanation" / "transactions.md"

OF_OTHERS = "It is about a library that is no part of these tests, and was run or read once."
MEASURED = "A figure: benchmarks/transactions.py measures it anew."
REASON = "It says why, and promises nothing."

SHOWN: Shown = {
    # The promise
    "A block never ends normally unless": (
        "test_what_is_saved_is_the_work_of_blocks_that_ended_normally",
        "test_no_block_of_a_listener_ends_normally_without_its_work",
    ),
    "There are two exceptions": (
        "test_raising_rollback_ends_silently_and_goes_on_after_the_block",
        "test_set_rollback_only_ends_silently_with_nothing_saved",
    ),
    "It sounds like what": LEADS_ON,
    "It is not.": LEADS_ON,
    "This page shows where others": LEADS_ON,
    # Where work disappears
    "*A database error that was caught.*": LEADS_ON,
    "A flush fails inside a block": ("test_a_caught_error_ends_a_begin_block_silently",),
    "The session has rolled back by then": ("test_a_caught_error_ends_a_begin_block_silently",),
    "SQLAlchemy's `with session.begin():`": ("test_a_caught_error_ends_a_begin_block_silently",),
    "Django's `atomic()` does the same": OF_OTHERS,
    "*A rollback as the last thing.*": LEADS_ON,
    "`session.rollback()` or `db.session.remove()` at the end": (
        "test_an_early_end_of_a_begin_block_saves_half_or_nothing",
    ),
    "*A commit inside.*": LEADS_ON,
    "`session.commit()` in a function": (
        "test_an_early_end_of_a_begin_block_saves_half_or_nothing",
    ),
    "If the rest fails, the half stays": (
        "test_an_early_end_of_a_begin_block_saves_half_or_nothing",
    ),
    "*A deadlock in a savepoint.*": LEADS_ON,
    "MariaDB rolls back the whole transaction": (
        "test_a_deadlock_in_a_savepoint_cannot_be_swallowed",
    ),
    "Code that catches the error and goes on": (
        "test_a_deadlock_in_a_savepoint_cannot_be_swallowed",
    ),
    "*Two databases.*": LEADS_ON,
    "With rows in two PostgreSQL databases": (
        "test_best_effort_tells_what_was_committed",
        "test_two_phases_are_all_or_nothing",
    ),
    # What each library does
    "Each of these was run on": (
        "test_a_caught_error_ends_a_begin_block_silently",
        "test_a_swallowed_database_error_cannot_look_like_success",
    ),
    "Rails and Spring were read": OF_OTHERS,
    "| a failed flush is caught, the block ends": (
        "test_a_caught_error_ends_a_begin_block_silently",
        "test_a_swallowed_error_is_raised_at_the_end",
    ),
    "| a failed statement is caught": (
        "test_a_caught_error_ends_a_begin_block_silently",
        "test_a_swallowed_syntax_error_counts_too",
    ),
    "| an inner, joined block fails": (
        "test_a_flush_error_caught_in_a_savepoint_loses_the_savepoint_alone",
        "test_a_swallowed_inner_error_makes_the_outer_exit_raise",
    ),
    "| a failed flush is caught *in* a savepoint": (
        "test_a_flush_error_caught_in_a_savepoint_loses_the_savepoint_alone",
        "test_an_error_swallowed_inside_a_savepoint_is_raised_at_its_end",
    ),
    "| `commit()` |": (
        "test_an_early_end_of_a_begin_block_saves_half_or_nothing",
        "test_commit_inside_a_scope_is_refused_and_changes_nothing",
    ),
    "| `rollback()` at the end": (
        "test_an_early_end_of_a_begin_block_saves_half_or_nothing",
        "test_ending_the_transaction_last_in_the_block_is_noticed_at_its_end",
    ),
    "| `remove()`, then more work": (
        "test_an_early_end_of_a_begin_block_saves_half_or_nothing",
        "test_work_on_the_session_that_replaced_a_removed_one_is_not_committed",
    ),
    "| `COMMIT` as text": (
        "test_an_early_end_of_a_begin_block_saves_half_or_nothing",
        "test_transaction_control_as_text_is_refused_before_it_is_sent",
    ),
    "| a loader has read before": (
        "test_a_loader_before_a_begin_block_is_in_its_way",
        "test_a_scope_follows_a_read_on_the_same_session",
    ),
    "| a hook after the commit fails": (
        "test_an_after_commit_listener_that_fails_leaves_the_session_unusable",
        "test_a_failing_hook_stops_no_other_and_is_reported",
    ),
    "| an `async` or generator function": ("test_generators_and_coroutines_are_refused",),
    "Rails lets an inner": OF_OTHERS,
    "Spring marks the transaction": OF_OTHERS,
    "That is the behaviour scopes have taken over": (
        "test_a_swallowed_inner_error_makes_the_outer_exit_raise",
        "test_a_swallowed_error_is_raised_at_the_end",
    ),
    # How it is kept
    "**One owner.**": LEADS_ON,
    "The outermost scope owns the COMMIT": ("test_an_outer_error_undoes_an_inner_success",),
    "Nested scopes join it and send nothing": (
        "test_nested_scopes_that_succeed_are_one_transaction_without_a_savepoint",
    ),
    "A SAVEPOINT is sent on request only": (
        "test_nested_scopes_that_succeed_are_one_transaction_without_a_savepoint",
        "test_a_savepoint_in_which_nothing_is_executed_sends_nothing",
    ),
    "**Errors stick.**": LEADS_ON,
    "A database error that no savepoint contains": (
        "test_a_swallowed_database_error_cannot_look_like_success",
        "test_an_error_contained_by_a_savepoint_is_no_harm",
    ),
    "The next statement is refused": (
        "test_a_statement_after_a_swallowed_error_is_refused_with_its_cause",
        "test_a_swallowed_error_is_raised_at_the_end",
    ),
    "On PostgreSQL the server would do so": ("test_a_caught_error_ends_a_begin_block_silently",),
    "**Other people's endings are noticed.**": LEADS_ON,
    "`commit()` on the session or the connection is refused": (
        "test_commit_inside_a_scope_is_refused_and_changes_nothing",
        "test_commit_on_the_connection_is_refused_and_changes_nothing",
        "test_transaction_control_as_text_is_refused_before_it_is_sent",
    ),
    "A rollback, `close()` or `remove()` is noticed": (
        "test_ending_the_transaction_last_in_the_block_is_noticed_at_its_end",
        "test_work_after_ending_the_transaction_is_not_saved",
    ),
    "Before COMMIT the driver is asked": (
        "test_a_commit_through_the_drivers_cursor_is_noticed_at_the_end",
    ),
    "Where that ending may have been a COMMIT": ("test_what_is_said_of_the_data_is_true",),
    "**A scope is one flow's": LEADS_ON,
    "Threads and tasks that run side by side": (
        "test_another_thread_can_neither_join_nor_register",
        "test_another_thread_can_neither_send_a_statement_nor_flush",
        "test_a_task_cannot_join_the_scope_of_another_one",
    ),
    "Nor does a block join": (
        "test_no_block_joins_a_scope_that_a_suspended_generator_holds",
        "test_in_no_form_does_a_block_join_the_scope_of_a_suspended_generator",
    ),
    "A scope that was never left": (
        "test_a_scope_that_was_never_left_is_over_with_its_context",
        "test_a_context_begins_without_the_session_of_a_dead_thread_whose_id_it_has",
    ),
    "**What came before is kept, or named.**": LEADS_ON,
    "A session that has only read is begun anew": (
        "test_a_session_that_has_only_read_is_begun_again",
        "test_a_scope_with_options_restarts_a_session_that_only_read",
    ),
    "Where something else was sent before": (
        "test_settings_and_locks_from_before_are_kept_or_named",
        "test_a_schema_translate_map_is_in_force_or_named",
        "test_functions_of_an_application_s_own_are_not_forgotten",
    ),
    "**Hooks run afterwards.**": LEADS_ON,
    "SQLAlchemy's `after_commit` event comes": (
        "test_an_after_commit_listener_that_fails_leaves_the_session_unusable",
    ),
    "The scope calls its hooks itself": (
        "test_the_connection_is_back_when_a_hook_runs",
        "test_a_hook_may_query_and_open_a_scope",
    ),
    "A scope that a listener opens": (
        "test_no_block_of_a_listener_ends_normally_without_its_work",
        "test_savepoints_in_before_commit_are_saved_with_the_scope",
    ),
    "A hook that fails, or ends the process": (
        "test_a_failing_hook_stops_no_other_and_is_reported",
        "test_a_hook_that_stops_the_process_lets_the_others_run",
    ),
    "**A replay begins at the beginning.**": LEADS_ON,
    "A serialization failure inside a savepoint": (
        "test_a_retry_inside_a_savepoint_fails_as_long_as_the_snapshot_lives",
    ),
    "So only the outermost function is replayed": (
        "test_the_outermost_policy_replays_the_nested_ones",
        "test_a_deadlock_hidden_behind_a_lost_savepoint_is_replayed",
    ),
    "That one is noted beside the deadlock": (
        "test_the_error_of_a_deadlock_is_not_hidden_by_that_of_its_savepoint",
        "test_a_database_error_poisons_whatever_a_listener_makes_of_it",
    ),
    "**What nobody can know is said.**": LEADS_ON,
    "If the connection breaks during COMMIT": (
        "test_a_backend_killed_during_commit_leaves_the_outcome_unknown",
        "test_an_answer_to_commit_that_proves_nothing_is_no_rollback",
    ),
    "That is `CommitOutcomeUnknown`": (
        "test_a_connection_lost_just_before_commit_leaves_the_outcome_unknown",
    ),
    # What it costs
    "Microseconds of CPU per transaction": MEASURED,
    '"Same application" is': MEASURED,
    '"Joined" is one scope': MEASURED,
    "| the driver alone": MEASURED,
    "| Core `engine.begin()`": MEASURED,
    "| `Session.begin()`, bare engine": MEASURED,
    "| `Session.begin()`, same application": MEASURED,
    "| `db.session`, add and commit": MEASURED,
    "| Django `atomic()`": MEASURED,
    "| `transaction()` |": MEASURED,
    "So an outermost scope adds": MEASURED,
    "A joined scope adds": MEASURED,
    "An empty scope sends nothing": ("test_an_empty_scope_sends_nothing_and_takes_no_connection",),
    "Where a scope asks for no more": REASON,
    # What it does not promise
    "Work on an engine or a connection that is not": (
        "test_a_connection_beside_the_scope_is_not_the_scopes",
    ),
    "On SQLite, what is read on the driver's own": (
        "test_what_is_read_past_sqlalchemy_is_not_compared",
    ),
    "MariaDB and MySQL commit at DDL": (
        "test_ddl_inside_a_scope_is_refused_since_it_would_commit",
    ),
    "A scope there refuses `CREATE TABLE`": (
        "test_ddl_inside_a_scope_is_refused_since_it_would_commit",
        "test_what_commits_by_the_way_is_refused_on_mariadb",
    ),
    "A procedure that commits is noticed": ("test_a_commit_inside_a_procedure_is_noticed",),
    "Tables without transactions": ("test_tables_without_transactions_raise_no_false_alarm",),
    "On every database: a COMMIT or ROLLBACK": (
        "test_a_commit_through_the_drivers_cursor_is_noticed_at_the_end",
    ),
    "The driver's own `commit()` and `rollback()`": (
        "test_the_driver_s_own_end_is_noticed_behind_another_write",
    ),
    "Only `executescript()` of SQLite": (
        "test_a_script_of_the_driver_is_refused_before_it_commits",
    ),
    "A function of the database that writes": (
        "test_a_function_that_writes_passes_for_reading_but_in_a_read_only_scope",
    ),
    "In a read-only scope the database itself": (
        "test_a_function_that_writes_passes_for_reading_but_in_a_read_only_scope",
    ),
    "A scope does not span the body": ("test_the_scope_does_not_span_a_streamed_body",),
    "The COMMIT of SQLite in its default setting": (
        "test_a_writer_that_is_killed_leaves_what_it_had_committed",
    ),
    "To survive a power cut too": ("test_the_defaults_are_in_force_on_a_file",),
}


def test_every_sentence_of_the_explanation_is_shown_by_a_test() -> None:
    """The headline promise is true to the letter, or the page does not say it."""
    assert without_one_entry(PAGE, SHOWN) == []
    assert without_sentence(PAGE, SHOWN) == []


def test_what_shows_a_sentence_is_there() -> None:
    """A test that is renamed takes its sentence along."""
    assert gone(SHOWN) == set()
