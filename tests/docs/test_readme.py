"""What the README says is shown: each line of its table, and each of its limits, by a test."""

from __future__ import annotations

import re
from functools import cache

import pytest

from tests.docs.pages import README, ROOT

# The first words of a line, and the tests that show what it says.
SHOWN_BY = {
    "Which of these do I need?": "test_each_helper_of_an_application_is_found_by_its_question",
    "Two lines in [an application you have]": (
        "test_an_application_can_be_prepared_by_two_lines"
        " test_engine_options_of_the_application_win"
    ),
    "Database URLs, drivers, the production check": (
        "test_psycopg2_is_taken_when_psycopg_3_is_not_there"
        " test_each_extra_is_all_that_its_feature_needs"
    ),
    "SQLite without lost updates": (
        "test_a_killed_writer_leaves_a_sound_database_and_an_open_gate"
        " test_one_writer_at_a_time_passes"
    ),
    "PostgreSQL and PgBouncer": (
        "test_a_connection_is_pinged_after_it_was_idle test_a_session_is_strict_and_in_utc"
    ),
    "Preloading servers": (
        "test_no_order_of_fork_write_close_and_exit_loses_an_acknowledged_row"
        " test_preloaded_workers_lose_nothing_when_one_of_them_is_replaced"
    ),
    "Several databases": "test_writes_to_several_databases_are_refused_before_any_commit",
    "Deploys that lose nothing": (
        "test_a_killed_upgrade_leaves_a_usable_database test_a_bad_revision_is_flagged"
    ),
    "Models on `Base`": "test_the_typed_application_runs",
    "Points in time in UTC": "test_a_session_is_strict_and_in_utc",
    "Timestamps, UUIDv7 keys, optimistic locks": (
        "test_version_and_updated_at_follow_real_changes"
        " test_uuids_made_within_one_millisecond_ascend"
    ),
    "`get_or_create` and `upsert`": "test_each_key_is_created_once",
    "Lazy attributes for a whole page": (
        "test_random_walks_are_equal_with_and_without_peers test_a_fix_works_when_it_is_pasted"
    ),
    "Pages by number and by cursor": "test_a_page_is_the_slice_of_the_unpaged_query",
    "Sorting and filtering": "test_no_query_string_breaks_a_route",
    "Pages as JSON": (
        "test_openapi_parameters_are_parameter_objects"
        " test_iterating_in_batches_reads_every_row_once"
    ),
    "Database errors as good answers": (
        "test_no_answer_holds_values_sql_hosts_or_names_of_the_schema"
        " test_no_line_of_the_log_holds_values_sql_or_hosts"
    ),
    "See every query": (
        "test_every_loop_is_found_and_nothing_else"
        " test_prometheus_is_told_of_statements_errors_pools_and_requests"
        " test_a_connection_that_is_held_for_too_long_is_told_once"
    ),
    "Transaction scopes in routes": "test_hooks_run_in_the_order_they_were_registered_in",
    "… in jobs and scripts": "test_a_job_has_context_session_and_commit",
    "… replayed after a conflict": (
        "test_a_deadlock_victim_is_replayed_and_both_succeed"
        " test_a_serialization_failure_at_commit_is_replayed"
    ),
    "… over several databases": "test_two_phases_are_all_or_nothing",
    "… per request": "test_a_stream_commits_when_it_is_exhausted",
    "The checklist as a command": "test_each_fault_of_code_and_configuration_is_found",
    "Health that tells the truth": (
        "test_a_frozen_server_is_answered_at_the_deadline"
        " test_other_routes_stay_fast_while_the_database_is_frozen"
    ),
    "Backups that were restored once": (
        "test_every_acknowledged_row_is_there_or_in_the_safety_backup"
        " test_every_command_works_on_a_remote_place"
    ),
    "Everyday chores": "test_a_snippet_does_on_postgresql_what_its_page_says",
    "Tests that leave nothing behind": "test_an_application_tests_with_the_plugin",
    "`flask dbkit info`": "test_info_shows_what_is_in_force",
    # The limits.
    "Not tested:": "",  # it is what no test shows
    "SQLite has one writer.": (
        "test_one_writer_at_a_time_passes test_a_network_file_system_is_warned_of"
    ),
    "SQLite may forget the last commits after a power cut": "",  # SQLite's own documentation
    "SQLite in memory": "test_nested_contexts_in_memory_do_not_destroy_each_other",
    "MariaDB commits at DDL.": "test_ddl_inside_a_scope_is_refused_since_it_would_commit",
    "Without a statement timeout a frozen server holds its requests.": (
        "test_a_network_that_is_cut_is_answered_at_the_deadline"
    ),
    "The ORM has its price.": "",  # benchmarks/transactions.py
}

# The methods of the table of figures, as the explanation calls them.
METHODS = {
    "paginate_keyset()": "ours: keyset",
    "keyset written by hand": "by hand: ORM keyset",
    "sqlakeyset": "sqlakeyset select_page",
    "fastapi-pagination, cursor": "fastapi-pagination CursorPage, no total",
    "Django REST framework, cursor": "DRF CursorPagination",
    "paginate(count=10_000)": "ours: offset, count to 10,000",
    "paginate()": "ours: offset, exact count",
    "Flask-SQLAlchemy": "Flask-SQLAlchemy paginate()",
    "fastapi-pagination, page": "fastapi-pagination Page",
    "Django Paginator": "Django Paginator",
    "advanced-alchemy": "advanced-alchemy list_and_count, two statements",
}


def _told() -> list[str]:
    text = README.read_text(encoding="utf-8")
    table = text.partition("## What it does")[2].partition("\n\nThe [reference]")[0]
    rows = re.findall(r"^\| (.+?) \|", table, re.MULTILINE)
    limits = text.partition("## Limits")[2].partition("## Contributing")[0]
    rows = [each for each in rows if each.strip(" -|")]
    return [*rows, *re.findall(r"^- \*\*(.+?)\*\*", limits, re.MULTILINE)]


@cache
def _tests() -> frozenset[str]:
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    return frozenset(name for text in sources for name in re.findall(r"def (test_\w+)\(", text))


def _is_of(words: str, told: str) -> bool:
    return told.startswith((words, f"[{words}]"))


def test_each_line_of_the_readme_is_shown_by_a_test() -> None:
    """A new line needs one, and one that goes takes its entry here along."""
    told = _told()
    assert len(told) > 30
    for each in told:
        assert len([words for words in SHOWN_BY if _is_of(words, each)]) == 1, each
    for words in SHOWN_BY:
        assert any(_is_of(words, each) for each in told), words


@pytest.mark.parametrize("words", SHOWN_BY)
def test_the_test_that_shows_a_line_is_there(words: str) -> None:
    """By its name, which says what it shows."""
    assert set(SHOWN_BY[words].split()) <= _tests()


def _cells(line: str) -> list[str]:
    return [cell.strip(" *`") for cell in line.strip("|").split("|")]


def test_the_figures_of_the_readme_are_those_of_the_explanation() -> None:
    """Medians of pages 1, 10,000 and the last, from the three tables with all methods."""
    text = README.read_text(encoding="utf-8").partition("## How fast pages are")[2]
    lines = [line for line in text.partition("## What it runs on")[0].splitlines() if "|" in line]
    page = (ROOT / "docs/explanation/how-fast-pages-are.md").read_text(encoding="utf-8")
    measured = [
        {cells[0]: cells[1:] for cells in map(_cells, section.splitlines()) if len(cells) > 4}
        for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:4]
    ]
    told = {cells[0]: cells[1:] for cells in map(_cells, lines[2:])}
    assert set(told) == set(METHODS)
    for name, figures in told.items():
        rows = [table[METHODS[name]] for table in measured]
        assert figures == [row[at].split(" ")[0] for row in rows for at in (0, 2, 3)], name
