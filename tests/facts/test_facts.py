"""What Docker Swarm does, line by line, and the test that shows it here, or the difference.

The lines are those of a reading of moby/swarmkit and docker/cli. A line whose test goes, or whose
difference is no longer in docs/differences.md, fails.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
DIFFERENCES = TESTS.parent / "docs" / "differences.md"

# The tests of each line, by their names.
SHOWN: dict[str, tuple[str, ...]] = {
    # The cluster, managers, Raft
    "cluster: create": ("test_init", "test_a_cluster_begins_with_one_manager"),
    "cluster: addresses": ("test_init", "test_what_cannot_join_is_told_why"),
    "cluster: live tuning": (
        "test_swarm_update",
        "test_settings_are_updated_and_the_rest_stays",
        "test_another_interval_holds_from_when_it_is_set",
        "test_as_many_older_ones_are_kept_as_the_cluster_says",
    ),
    "cluster: join": ("test_join", "test_a_node_joins_with_the_role_of_its_token_once"),
    "cluster: leave": ("test_leave", "test_a_manager_leaves_by_force_only"),
    "raft: check quorum": ("test_a_leader_without_answers_steps_down_and_another_wins",),
    "raft: snapshots": ("test_a_snapshot_is_saved_every_so_many_entries_as_the_cluster_says",),
    "raft: size limits": ("test_a_request_that_is_too_large_is_refused_in_a_line",),
    "raft: followers ask the leader": ("test_a_follower_asks_the_leader_for_as_long_as_is_left",),
    "raft: wedge guard": ("test_a_frozen_leader_and_a_frozen_worker",),
    "raft: ids never come back": (
        "test_who_was_removed_or_is_another_is_told_so",
        "test_a_manager_that_lost_its_log_stays_out_until_it_has_a_new_id",
    ),
    "managers: promote and demote": (
        "test_promotion_role_first_vote_when_caught_up",
        "test_demotion_vote_first_role_last",
        "test_the_last_manager_stays",
        "test_a_demotion_keeps_the_quorum",
        "test_the_leader_hands_over_before_it_goes",
    ),
    "managers: lost quorum": (
        "test_a_manager_that_lost_its_quorum_goes_on_alone_and_others_join_again",
        "test_without_a_quorum_it_says_so_and_tasks_go_on",
    ),
    "managers: backup and restore": (
        "test_a_backup_is_restored_as_a_new_cluster_and_old_nodes_come_back",
    ),
    "managers: encrypted at rest": (
        "test_what_is_sealed_opens",
        "test_another_key_is_told_from_damage",
    ),
    # Identity, tokens, certificates
    "join tokens": (
        "test_a_token_has_dockers_form",
        "test_a_generated_token_pins_its_root",
        "test_one_token_is_replaced",
    ),
    "node certificates": ("test_lifetimes_are_dockers",),
    "what a certificate says": (
        "test_a_node_certificate_says_who_and_what_the_node_is",
        "test_roles_are_checked_at_every_method",
    ),
    "renewal": (
        "test_renewal_is_between_half_and_four_fifths_of_the_lifetime",
        "test_renewed_certificates_are_used_and_streams_go_on",
    ),
    # Nodes, agents, dispatcher
    "nodes: ls, inspect, update, rm": (
        "test_node_ls",
        "test_node_inspect",
        "test_node_update",
        "test_node_rm",
        "test_a_node_that_is_ready_is_removed_by_force_alone",
        "test_a_member_must_be_demoted_before_it_is_removed",
    ),
    "nodes: pause": ("test_pause_keeps_what_runs_and_takes_nothing_new",),
    "nodes: drain": ("test_drain_evicts_and_waits_for_the_old_task_to_stop",),
    "nodes: a changed label evicts at once": ("test_a_changed_label_evicts_at_once",),
    "nodes: down": ("test_tasks_of_a_node_that_is_down_are_replaced_at_once",),
    "nodes: come back": ("test_a_node_that_comes_back_stops_what_was_replaced",),
    "nodes: nothing moves with a new leader": (
        "test_a_new_leader_gives_every_node_the_whole_time",
        "test_nothing_moves_when_most_nodes_fall_silent_for_a_moment",
    ),
    "nodes: orphaned after a day": ("test_after_a_day_the_tasks_of_a_lost_node_are_orphaned",),
    "dispatcher: complete, then incremental": (
        "test_first_the_info_then_everything",
        "test_then_only_what_changed",
        "test_changes_are_collected_but_the_first_goes_at_once",
    ),
    "agent: keeps its tasks over a restart": (
        "test_a_restarted_agent_finds_its_tasks_again",
        "test_tasks_are_taken_up_again_without_any_manager",
    ),
    "agent: reconnects": ("test_attempts_wait_longer_and_longer_up_to_a_second",),
    # Tasks
    "tasks: states only grow": ("test_a_status_never_goes_back",),
    "tasks: removed once the agent confirms": ("test_removed_tasks_go_once_their_agent_confirms",),
    "tasks: history": (
        "test_five_tasks_are_kept_per_slot_the_live_one_included",
        "test_a_lower_limit_works_at_once_and_a_negative_one_keeps_all",
        "test_attempts_that_are_counted_are_kept",
    ),
    "tasks: a replacement waits a minute at most": ("test_a_replacement_waits_a_minute_at_most",),
    # Services
    "services: replicated": ("test_a_new_service_gets_its_tasks_made_and_placed_in_one_proposal",),
    "services: global": ("test_every_node_gets_a_task_and_so_does_one_that_joins",),
    "services: replicated job": (
        "test_so_many_at_a_time_until_all_are_complete",
        "test_an_update_runs_the_job_anew",
        "test_what_is_complete_is_not_run_again_under_restart_any",
    ),
    "services: global job": ("test_a_global_job_runs_once_on_every_node_and_on_those_that_come",),
    "services: mode and name stay": ("test_what_an_update_can_not_change",),
    "services: restart": (
        "test_the_condition_decides",
        "test_a_failed_task_is_replaced_after_the_delay",
        "test_attempts_are_counted_per_slot_and_run_out",
        "test_attempts_outside_of_the_window_do_not_count",
        "test_the_counter_starts_anew_with_a_new_revision",
        "test_a_new_leader_goes_on_with_a_delay_half_over",
    ),
    "services: update": (
        "test_one_slot_at_a_time_stop_first",
        "test_parallelism_0_is_all_at_once",
        "test_the_delay_is_kept_between_slots",
        "test_start_first_keeps_the_old_one_until_the_new_one_runs",
        "test_a_failure_pauses_the_update",
        "test_more_failures_than_the_ratio_pause",
        "test_continue_goes_on_whatever_fails",
        "test_a_delay_as_long_as_the_watch_prolongs_the_watch",
        "test_a_new_leader_finishes_the_update",
    ),
    "services: rollback": (
        "test_rollback_ends_at_the_old_spec",
        "test_a_rollback_is_never_rolled_back",
        "test_a_rollback_by_hand_and_back_again",
    ),
    "services: what restarts tasks": (
        "test_only_the_task_spec_replaces_tasks",
        "test_scaling_keeps_the_tasks_and_an_image_replaces_them",
    ),
    "services: scale": (
        "test_scaling_down_takes_from_the_nodes_with_most_copies",
        "test_scaling_down_prefers_tasks_that_do_not_run",
    ),
    "services: wait": (
        "test_create_prints_the_id_and_waits",
        "test_create_detached_prints_the_id_alone",
    ),
    "services: an older version is refused": (
        "test_an_update_of_an_older_version_is_refused",
        "test_update_is_repeated_when_somebody_else_came_between",
    ),
    "services: reservations and limits": (
        "test_reservations_are_respected_over_slices_and_services",
        "test_every_field_of_a_container_spec_reaches_the_container",
    ),
    "services: memory swap": (
        "test_swap_and_swappiness",
        "test_every_field_of_a_container_spec_reaches_the_container",
    ),
    "services: generic resources": (
        "test_named_generic_resources_are_given_one_by_one_and_taken_back",
        "test_what_a_node_has",
        "test_a_service_reserves_a_count",
        "test_a_task_is_told_its_generic_resources",
    ),
    "services: health": (
        "test_a_task_with_a_health_check_runs_once_it_is_healthy",
        "test_an_unhealthy_task_is_stopped_and_fails",
    ),
    "services: stop signal and grace": (
        "test_stop_with_a_signal_and_kill",
        "test_the_grace_period_is_ten_seconds_unless_set_even_to_nothing",
    ),
    "services: caps, ulimits, sysctls, user, group, read-only, init, oom": (
        "test_every_field_of_a_container_spec_reaches_the_container",
    ),
    "services: mounts": (
        "test_mounts",
        "test_every_field_of_a_container_spec_reaches_the_container",
        "test_refusals_name_the_field",
    ),
    "services: placeholders": (
        "test_placeholders",
        "test_unknown_placeholders_are_refused_by_name",
    ),
    "services: a driver that can't says which field": (
        "test_what_cannot_be_honoured_is_refused",
        "test_refusals_name_the_field_and_leave_nothing",
    ),
    "services: logs": ("test_logs", "test_followed_logs_go_on_when_the_leader_is_killed"),
    "services: ls, ps, inspect": (
        "test_ls",
        "test_ps_shows_a_slots_history",
        "test_inspect_pretty",
    ),
    "services: why it waits": ("test_as_many_as_fit_are_placed_and_the_reason_is_stored_once",),
    # The scheduler
    "scheduler: filters in order, and what they say": (
        "test_the_same_as_the_slow_and_obvious_scheduler",
        "test_explanations_are_swarms",
    ),
    "scheduler: constraints": ("test_holds", "test_what_can_not_be_read"),
    "scheduler: preferences": (
        "test_preferences_even_out_every_level_within_1",
        "test_nodes_without_the_label_are_a_branch_of_their_own",
    ),
    "scheduler: replicas per node": (
        "test_replicas_per_node_are_limited",
        "test_a_task_that_makes_room_but_is_not_stopped_after_all",
    ),
    "scheduler: rank": ("test_fewer_tasks_in_all_decide_between_equals",),
    "scheduler: failing nodes last": (
        "test_a_node_where_the_revision_keeps_failing_goes_last_for_five_minutes",
    ),
    "scheduler: platforms": ("test_platforms",),
    "scheduler: host ports": ("test_a_host_port_is_waited_for_node_by_node",),
    # Ports, secrets, configs, stacks
    "ports: picked from 30000 to 32767": (
        "test_a_port_is_picked_from_the_start_on_and_wraps_around",
        "test_a_range_that_is_used_up",
    ),
    "ports: a clash is refused": ("test_a_port_of_another_service_is_refused_with_its_name",),
    "ports: ingress on every node": ("test_connections_reach_tasks_here_and_elsewhere_in_turn",),
    "secrets": (
        "test_sizes",
        "test_names_that_are_refused",
        "test_what_a_service_uses_stays",
        "test_a_secret_is_in_memory_for_its_tasks_and_nowhere_else",
    ),
    "configs": ("test_targets_modes_and_owners", "test_templates"),
    "stacks": ("test_the_textbook_example", "test_the_stack_goes_as_one"),
    "watch": ("test_a_watch_resumes_from_a_kept_revision_or_lists_anew",),
}

# What of docs/differences.md answers for each line.
DIFFERENT: dict[str, str] = {
    "cluster: data path, address pools": "networks",
    "raft: ticks": "| Raft election |",
    "raft: a wedged leader hands over": "| A leader that can't go on |",
    "managers: address change": "| A manager that comes back at another address |",
    "managers: autolock": "autolock",
    "CA rotation, external CA": "CA\nrotation",
    "nodes: heartbeat": "| Heartbeat, node down |",
    "nodes: unknown, disconnected": "| Node states |",
    "nodes: registration limit": "| Sessions of one node |",
    "services: isolation, credential spec": "`--isolation`",
    "services: only constraints changed": "A change of constraints alone",
    "nodes: fewer resources than reserved": "A node that reports less CPU",
    "networks: overlay, discovery, VIP": "networks",
    "ports: protocols": "Published ports are TCP",
    "services: images pulled by oci": "A task on `oci` pulls",
    "stacks: one request each": "| `stack deploy` |",
    "secrets: removal": "| `secret rm`, `config rm` |",
    "logs: a node that is gone": "| `service logs` with a node that is gone |",
}


@cache
def names_of_tests() -> frozenset[str]:
    names: set[str] = set()
    for file in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names.add(node.name)
    return frozenset(names)


@pytest.mark.parametrize("fact", list(SHOWN))
def test_is_shown(fact: str):
    assert set(SHOWN[fact]) <= names_of_tests()


@pytest.mark.parametrize("fact", list(DIFFERENT))
def test_is_a_difference_that_is_written_down(fact: str):
    assert DIFFERENT[fact] in DIFFERENCES.read_text()
