"""What scopes promise, rule by rule, and the tests that show it.

The table is for whoever changes a rule or doubts one: the names are those of test functions in
this folder.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

RULES = {
    "Without an application context nothing is made": [
        "test_a_scope_without_an_application_context_is_refused",
    ],
    "An idle session begins lazily: no SQL, no connection": [
        "test_an_empty_scope_sends_nothing_and_takes_no_connection",
        "test_a_scope_that_only_raises_takes_no_connection",
    ],
    "A session that has only read is adopted, on SQLite restarted for writing": [
        "test_a_scope_follows_a_read_on_the_same_session",
        "test_a_scope_follows_the_reading_of_an_expired_object",
        "test_a_clean_session_is_adopted_without_losing_its_snapshot",
        "test_a_writing_scope_on_sqlite_holds_the_write_lock_before_it_reads",
        "test_objects_read_before_a_writing_scope_are_fresh_inside_it",
    ],
    "Options restart a clean session": [
        "test_a_scope_with_options_restarts_a_session_that_only_read",
        "test_what_was_read_before_does_not_make_it_writable",
    ],
    "Uncommitted work from before is refused, or adopted when that is said": [
        "test_objects_that_were_added_before_are_stray_work",
        "test_every_kind_of_uncommitted_work_is_stray",
        "test_adopted_work_is_committed_with_the_scope",
        "test_adopted_work_is_rolled_back_with_the_scope",
        "test_adopted_work_cannot_be_given_options_afterwards",
        "test_the_setting_adopts_unless_a_scope_says_no",
    ],
    "After somebody else's end SQLAlchemy itself refuses statements": [
        "test_work_after_ending_the_transaction_is_not_saved",
    ],
    "A driver in autocommit mode is refused": ["test_an_engine_in_autocommit_mode_is_refused"],
    "A scope on another session inside a scope is refused unless it is independent": [
        "test_a_nested_context_cannot_open_a_scope_inside_an_outer_one",
        "test_an_independent_scope_commits_on_its_own",
        "test_an_independent_scope_on_sqlite_is_refused_beside_an_outer_write",
        "test_scopes_of_several_applications_know_nothing_of_each_other",
    ],
    "SQLite in memory shares one connection": [
        "test_an_independent_scope_in_memory_is_always_refused",
    ],
    "A scope belongs to a thread": [
        "test_another_thread_can_neither_join_nor_register",
        "test_a_scope_left_by_another_thread_stays_with_its_own",
        "test_a_worker_thread_of_asyncio_is_another_thread",
        "test_a_thread_with_a_context_of_its_own_is_independent",
        "test_another_thread_of_an_async_view_is_refused",
    ],
    "Nested scopes join and send nothing": [
        "test_nested_scopes_that_succeed_are_one_transaction_without_a_savepoint",
        "test_a_decorated_function_joins_when_it_is_called_inside",
    ],
    "A joined scope that fails marks its boundary": [
        "test_a_swallowed_inner_error_makes_the_outer_exit_raise",
        "test_sql_after_a_swallowed_inner_error_is_refused_with_its_cause",
        "test_a_joined_failure_inside_a_savepoint_is_undone_by_the_savepoint",
        "test_of_three_levels_the_cause_is_the_one_that_failed",
    ],
    "A savepoint is released or undone alone": [
        "test_a_savepoint_that_succeeds_is_committed_with_its_scope",
        "test_a_failed_savepoint_undoes_itself_alone",
        "test_of_many_savepoints_exactly_the_good_ones_are_kept",
        "test_a_savepoint_in_which_nothing_is_executed_sends_nothing",
        "test_a_released_savepoint_is_undone_with_its_scope",
        "test_objects_go_back_to_what_they_were_before_the_savepoint",
    ],
    "What is pending belongs to the outer block": [
        "test_an_error_of_pending_outer_work_belongs_to_the_outer_scope",
        "test_pending_objects_are_written_outside_a_savepoint_of_the_connection",
    ],
    "Durable means outermost": [
        "test_durable_scopes_are_outermost_and_may_follow_each_other",
        "test_a_durable_scope_inside_another_is_refused_before_any_sql",
    ],
    "savepoint() and require_transaction() need a scope": [
        "test_a_savepoint_needs_a_scope",
        "test_require_transaction_refuses_outside_and_joins_inside",
    ],
    "A joined scope cannot ask for other options": [
        "test_a_joined_scope_cannot_ask_for_another_isolation",
        "test_a_joined_scope_cannot_ask_for_more_time",
        "test_a_shorter_timeout_of_a_savepoint_ends_with_it",
        "test_writing_inside_a_read_only_scope_is_a_mismatch",
    ],
    "A read-only block inside a writing scope refuses writes": [
        "test_a_read_only_block_inside_a_writing_scope_refuses_writes",
    ],
    "The end is before_commit, flush, a look at the driver, COMMIT, hooks": [
        "test_what_before_commit_writes_is_committed",
        "test_the_connection_is_back_when_a_hook_runs",
        "test_work_left_to_the_end_by_no_autoflush_is_part_of_the_block",
    ],
    "No block ends silently with its work gone": [
        "test_what_is_saved_is_the_work_of_blocks_that_ended_normally",
        "test_a_swallowed_error_is_raised_at_the_end",
        "test_a_stale_version_that_is_swallowed_is_raised_at_the_end",
        "test_an_error_swallowed_inside_a_savepoint_is_raised_at_its_end",
    ],
    "Rollback and set_rollback_only() are the silent ways": [
        "test_set_rollback_only_ends_silently_with_nothing_saved",
        "test_raising_rollback_ends_silently_and_goes_on_after_the_block",
        "test_rollback_raised_in_a_joined_scope_ends_the_whole_transaction",
    ],
    "The driver's state tells of foreign endings": [
        "test_a_commit_through_the_drivers_cursor_is_noticed_at_the_end",
        "test_ddl_inside_a_scope_is_refused_since_it_would_commit",
    ],
    "Several databases: refused, two-phase, or best effort": [
        "test_writes_to_several_databases_are_refused_before_any_commit",
        "test_one_database_written_and_others_read_is_no_matter",
        "test_two_phases_are_all_or_nothing",
        "test_best_effort_tells_what_was_committed",
        "test_sqlite_cannot_prepare",
        "test_a_bind_first_touched_in_a_savepoint_counts",
    ],
    "After a read-only scope objects stay loaded": [
        "test_objects_stay_loaded_after_a_read_only_scope",
    ],
    "Whoever else ends the transaction is named at the exit": [
        "test_ending_the_transaction_last_in_the_block_is_noticed_at_its_end",
        "test_work_on_the_session_that_replaced_a_removed_one_is_not_committed",
        "test_commit_on_the_connections_transaction_saves_nothing",
    ],
    "Any exception rolls back and arrives as it is": [
        "test_an_exception_rolls_back_and_arrives_as_the_same_object",
        "test_ctrl_c_in_a_scope_rolls_back_and_the_process_can_go_on",
    ],
    "Errors that kill the transaction reach the outermost scope": [
        "test_a_deadlock_in_a_savepoint_cannot_be_swallowed",
        "test_a_serialization_failure_at_a_statement_ends_the_scope",
        "test_a_connection_lost_in_a_savepoint_is_the_end_of_everything",
    ],
    "A database error poisons the scope on every database": [
        "test_a_swallowed_syntax_error_counts_too",
        "test_a_failing_select_refuses_what_follows",
        "test_a_statement_after_a_swallowed_error_is_refused_with_its_cause",
        "test_an_error_contained_by_a_savepoint_is_no_harm",
    ],
    "A COMMIT that fails is a rollback, one without an answer is unknown": [
        "test_a_commit_that_fails_arrives_and_leaves_the_session_usable",
        "test_a_deferred_constraint_violated_at_commit_arrives",
        "test_a_serialization_failure_at_commit_is_a_rollback",
        "test_a_connection_lost_just_before_commit_leaves_the_outcome_unknown",
        "test_a_backend_killed_during_commit_leaves_the_outcome_unknown",
        "test_a_failing_after_commit_listener_undoes_nothing",
    ],
    "Scopes left in the wrong order roll everything back": [
        "test_a_suspended_generator_cannot_outlive_the_scope_it_joined",
        "test_a_generator_that_is_closed_early_rolls_back",
    ],
    "commit() is refused and changes nothing": [
        "test_commit_inside_a_scope_is_refused_and_changes_nothing",
        "test_commit_inside_ones_own_begin_nested_is_refused_too",
        "test_commit_on_the_connection_is_refused_and_changes_nothing",
        "test_ones_own_begin_nested_works_as_usual",
    ],
    "Transaction control as text is refused before it is sent": [
        "test_transaction_control_as_text_is_refused_before_it_is_sent",
        "test_what_commits_by_the_way_is_refused_on_mariadb",
        "test_a_script_of_the_driver_is_refused_before_it_commits",
    ],
    "A locking read outside a scope is told of": [
        "test_a_locking_read_outside_a_scope_is_told_of_once",
    ],
    "on_commit: in order, once, after the outermost COMMIT": [
        "test_on_commit_runs_when_others_can_see_the_row_and_not_before",
        "test_hooks_run_in_the_order_they_were_registered_in",
        "test_a_hook_may_query_and_open_a_scope",
        "test_an_object_can_be_used_in_a_hook",
    ],
    "A failing hook stops no other": [
        "test_a_failing_hook_stops_no_other_and_is_reported",
        "test_a_robust_hook_that_fails_is_logged_by_name",
        "test_the_next_scope_after_a_failed_hook_is_clean",
    ],
    "Hooks are dropped with what they belong to": [
        "test_hooks_of_a_rolled_back_scope_never_run",
        "test_hooks_are_dropped_with_their_savepoint",
        "test_a_released_savepoint_inside_an_undone_one_loses_its_hook",
        "test_hooks_are_dropped_with_ones_own_begin_nested",
        "test_no_hook_runs_when_a_joined_failure_is_swallowed",
        "test_only_the_hooks_of_the_last_attempt_run",
    ],
    "Outside a scope on_commit runs at once, or is refused": [
        "test_outside_a_scope_a_hook_runs_at_once_if_the_session_is_idle",
        "test_the_other_hooks_need_a_scope",
    ],
    "on_rollback gets the error, and hides none": [
        "test_on_rollback_runs_when_its_block_is_undone_and_only_then",
        "test_on_rollback_gets_a_rollback_when_it_is_silent",
        "test_a_failing_on_rollback_hook_hides_nothing",
    ],
    "Arguments are bound, and what cannot be called is refused, at registration": [
        "test_arguments_are_bound_when_the_hook_is_registered",
        "test_what_cannot_be_called_is_refused_at_once",
    ],
    "A with block cannot be replayed": ["test_a_with_block_refuses_retry_on_entry"],
    "Only the outermost is replayed": [
        "test_retry_inside_a_scope_is_ignored",
        "test_the_outermost_policy_replays_the_nested_ones",
    ],
    "A replay begins from a clean session": [
        "test_a_session_with_uncommitted_work_is_refused",
        "test_a_changed_object_is_uncommitted_work_too",
        "test_an_object_made_outside_the_body_cannot_be_added_twice",
        "test_keys_the_database_had_given_are_reset",
    ],
    "Attempts, jitter, deadline, and a note on the last error": [
        "test_pauses_double_up_to_the_cap_with_full_jitter",
        "test_no_connection_is_held_while_waiting",
        "test_no_attempt_begins_after_the_deadline",
        "test_a_database_that_stays_busy_ends_in_its_own_error",
    ],
    "The first error of an attempt decides": [
        "test_a_deadlock_hidden_behind_a_lost_savepoint_is_replayed",
        "test_a_serialization_failure_behind_a_wrapper_is_replayed",
        "test_the_codes_of_conflicts_are_replayed",
        "test_other_codes_are_not_replayed_unless_they_are_listed",
        "test_a_broken_constraint_runs_once",
        "test_an_unknown_outcome_is_not_replayed",
    ],
    "A view is replayed unless it has streamed its input": [
        "test_a_view_is_replayed_unless_it_streamed_its_input",
        "test_a_view_with_retry_is_replayed_as_a_whole",
    ],
    "Per request the view call is the block": [
        "test_work_is_visible_when_the_client_has_the_answer",
        "test_a_loader_may_have_read_before_the_view",
        "test_work_done_after_the_view_is_not_committed",
        "test_an_error_in_after_request_comes_too_late_to_undo",
    ],
    "Exceptions and statuses from 400 on roll back": [
        "test_what_ends_a_view_badly_undoes_its_work",
        "test_the_status_from_which_on_a_view_rolls_back",
        "test_marked_views_have_no_scope",
    ],
    "The commit is over before the response leaves": ["test_a_commit_that_fails_is_answered_once"],
    "A request without the database sends nothing": [
        "test_a_request_that_uses_no_database_sends_nothing",
    ],
    "A scope does not span the body; stream() has its own": [
        "test_the_scope_does_not_span_a_streamed_body",
        "test_a_stream_commits_when_it_is_exhausted",
        "test_a_client_that_goes_away_rolls_back",
    ],
    "Generators and coroutines cannot be decorated": [
        "test_what_runs_after_the_call_cannot_be_decorated",
        "test_generators_and_coroutines_are_refused",
    ],
    "A request inside a pushed context joins, one in its own does not": [
        "test_a_request_inside_a_scope_joins_it",
        "test_a_request_in_a_context_without_a_scope_has_its_own",
    ],
    "Isolation and timeouts end with their scope": [
        "test_the_isolation_asked_for_is_in_force_and_gone_afterwards",
        "test_a_statement_that_takes_too_long_is_stopped",
        "test_a_lock_is_waited_for_as_long_as_was_said",
        "test_the_next_scope_on_the_connection_can_write",
    ],
    "Read-only scopes truly cannot write": [
        "test_a_flush_in_a_read_only_scope_is_refused_before_it_is_sent",
        "test_a_core_statement_that_writes_is_refused_by_the_database",
        "test_a_write_that_was_refused_and_swallowed_is_raised_at_the_end",
    ],
    "Jobs and scripts end their transaction": [
        "test_a_script_needs_no_context",
        "test_a_dry_run_keeps_nothing",
        "test_no_connection_is_idle_in_transaction_after_a_job",
        "test_ctrl_c_rolls_a_command_back_and_exits_with_130",
    ],
    "Killed, full, interrupted: nothing half saved": [
        "test_a_writer_that_is_killed_leaves_what_it_had_committed",
        "test_a_full_disk_leaves_nothing_half_done",
        "test_ctrl_c_during_a_statement_rolls_back",
        "test_a_connection_lost_in_the_block_is_a_rollback",
    ],
}


@cache
def functions() -> set[str]:
    """Return the names of the test functions the table may speak of."""
    files = Path(__file__).parent.glob("test_*.py")
    return {
        node.name
        for path in files
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
    }


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_shown_by_tests_that_exist(rule: str) -> None:
    """A test that is renamed takes its rule along."""
    assert set(RULES[rule]) - functions() == set()
