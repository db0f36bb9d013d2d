//! Ring 3: one stack, all tests.
//!
//! `./stack test e2e` or `cargo test --release -p e2e [FILTER]`. The stack is brought up by `./stack up` under a project name, ports and a
//! subnet of its own. Tests that only call run first and in parallel, each with owners of its own; tests that break things run after
//! them, one at a time and in the order of the list, and each ends by proving the stack whole. Nothing is retried.

mod bench;
mod browser;
mod documents;
mod edge;
mod explain;
mod firewall;
mod ledger;
mod lifecycle;
mod load;
mod tour;
mod trace;
mod wire;

use std::{
    future::Future,
    pin::Pin,
    process::ExitCode,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Result;
use harness::compose::Stack;
use libtest_mimic::{Arguments, Conclusion, Failed, Trial};

/// Each test has a run-time of its own, which drives it on its own thread: it need not be `Send`.
type Outcome<'a> = Pin<Box<dyn Future<Output = Result<()>> + 'a>>;
type Test = (&'static str, fn(&Stack) -> Outcome<'_>);

/// Lists test functions under their own names.
macro_rules! tests {
    ($($($path:ident)::+),* $(,)?) => {
        [$((
            concat!($("::", stringify!($path)),+),
            (|stack| Box::pin($($path)::+(stack))) as fn(&Stack) -> Outcome<'_>,
        )),*]
    };
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let calling: Vec<Test> = tests![
        edge::the_start_page_answers_over_https,
        edge::plain_http_is_sent_to_https_and_gets_nothing_else,
        edge::every_answer_carries_the_headers_of_the_edge,
        edge::http_1_and_http_2_are_both_served,
        edge::both_web_servers_are_used,
        edge::a_client_that_does_not_trust_our_authority_is_not_fooled,
        edge::metrics_are_not_to_be_had_at_the_edge,
        lifecycle::status_and_doctor_find_the_stack_whole,
        trace::a_trace_shows_the_log_lines_of_every_service_that_the_request_crossed,
        documents::a_document_that_shows_something_else_is_found_out,
        trace::what_is_no_trace_is_refused_in_words,
        explain::a_statement_is_explained_and_not_sent,
        explain::what_cannot_be_sent_is_refused_with_what_to_do,
        firewall::every_pod_reaches_what_the_matrix_says_and_nothing_else,
        firewall::this_machine_reaches_the_edge_and_the_pages_and_nothing_else,
        ledger::calls::an_owner_opens_accounts_and_transfers_between_them,
        ledger::calls::a_write_on_one_web_server_is_read_at_once_on_the_other,
        ledger::calls::reads_come_from_the_replica_and_writes_go_to_the_primary,
        ledger::calls::the_same_key_answers_the_same_and_moves_money_once,
        ledger::calls::bad_input_is_refused_with_a_problem_that_names_the_field,
        ledger::pages::the_pages_do_all_of_it_by_links_and_forms,
        ledger::pages::a_form_that_cannot_be_done_comes_back_with_what_is_wrong,
        ledger::pages::a_form_of_another_site_changes_nothing,
        ledger::pages::every_problem_leads_to_a_page_that_explains_it,
        ledger::browser::a_person_opens_accounts_and_sends_money_with_scripts_off,
        ledger::browser::a_form_that_failed_keeps_its_values_and_says_what_is_wrong_beside_the_field,
        ledger::browser::the_keyboard_goes_through_a_page_in_the_order_in_which_it_is_read,
        ledger::browser::every_page_fits_a_phone_and_a_desktop_in_the_light_and_in_the_dark,
        ledger::telemetry::one_request_is_one_trace_from_the_edge_to_the_statements,
        ledger::telemetry::checks_of_health_make_no_spans,
        ledger::telemetry::prometheus_is_answered_by_every_service_and_every_firewall,
        ledger::telemetry::every_metric_is_documented_and_every_documented_one_is_there,
        ledger::telemetry::prometheus_took_its_rules_and_nothing_critical_fires,
        browser::the_status_page_shows_the_whole_stack_as_prometheus_sees_it,
        browser::the_panel_of_a_page_leads_to_its_trace,
    ]
    .into();
    let breaking: Vec<Test> = tests![
        lifecycle::a_second_up_changes_nothing,
        // It breaks nothing but a browser's connections, which Chromium drops when an address of this machine comes or goes.
        firewall::a_container_in_no_pod_reaches_the_edge_and_nothing_else,
        wire::nothing_on_any_interface_is_in_plain_text,
        firewall::a_pod_whose_own_rules_let_everything_out_reaches_no_more,
        firewall::a_rule_that_is_taken_away_is_seen_by_this_test_and_by_the_owner,
        browser::without_prometheus_the_status_page_says_so_and_shows_what_it_knows,
        ledger::faults::a_web_server_killed_under_load_fails_no_request,
        ledger::faults::a_pod_whose_owner_is_killed_under_load_fails_no_request,
        ledger::faults::containers_replaced_in_turn_under_load_fail_no_request,
        tour::the_tour_shows_what_it_promises_and_leaves_the_stack_as_it_was,
        tour::a_tour_that_is_ended_puts_back_what_it_broke,
        documents::every_command_in_the_documents_prints_what_they_show,
        load::the_smoke_test_holds_every_threshold_and_its_script_is_understood,
        load::a_load_that_fails_says_so_and_why,
        bench::the_bench_of_the_balancer_runs_and_no_request_fails,
        bench::the_bench_of_sick_backends_runs,
        bench::the_bench_of_the_router_runs_and_a_read_takes_fewer_round_trips_than_a_pool,
        ledger::faults::a_build_is_rolled_out_under_load_and_one_that_fails_changes_nothing,
        ledger::faults::rolling_web_servers_or_balancers_under_load_fails_no_request,
        ledger::faults::a_switchover_under_load_fails_no_request,
        ledger::faults::without_the_replica_the_primary_goes_on_alone,
        ledger::faults::without_the_primary_the_replica_takes_its_place_and_no_acknowledged_write_is_lost,
        ledger::faults::without_the_arbiter_everything_goes_on,
        firewall::services_come_back_by_themselves_when_their_owner_is_started_anew,
        ledger::telemetry::without_jaeger_and_prometheus_every_answer_is_the_same,
        ledger::faults::after_everything_was_stopped_one_up_brings_it_back_with_its_data,
        ledger::faults::down_and_up_keeps_the_data_and_down_with_volumes_forgets,
    ]
    .into();

    if arguments.list {
        return run(&arguments, None, calling.into_iter().chain(breaking)).exit_code();
    }
    // Whoever wants only some of the tests may not want those with a browser, which install it for themselves.
    if arguments.filter.is_none()
        && let Err(error) = harness::browser::install()
    {
        eprintln!("{error:#}");
        return ExitCode::FAILURE;
    }
    let stack = match Stack::up() {
        Ok(stack) => Arc::new(stack),
        Err(error) => {
            eprintln!("the stack did not come up: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let failures = Failures::default();
    let first = run(&arguments, Some((&stack, &failures)), calling);
    let one_at_a_time = Arguments {
        test_threads: Some(1),
        ..arguments
    };
    let second = run(&one_at_a_time, Some((&stack, &failures)), breaking);
    drop(stack);
    // Once more at the end, where somebody looks first: the first half's stand far above.
    for (test, why) in failures
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
    {
        println!("\nFAIL {test}\n{why}");
    }
    println!(
        "\nend to end: {} passed, {} failed",
        first.num_passed + second.num_passed,
        first.num_failed + second.num_failed
    );
    if first.has_failed() || second.has_failed() {
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// The tests that failed, and why.
type Failures = Arc<Mutex<Vec<(&'static str, String)>>>;

fn run(
    arguments: &Arguments,
    on: Option<(&Arc<Stack>, &Failures)>,
    tests: impl IntoIterator<Item = Test>,
) -> Conclusion {
    let trials = tests
        .into_iter()
        .map(|(name, test)| {
            let name = name.trim_start_matches(':');
            let on = on.map(|(stack, failures)| (Arc::clone(stack), Arc::clone(failures)));
            Trial::test(name, move || {
                let (stack, failures) = on.ok_or("a test was run while listing")?;
                tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(2)
                    .enable_all()
                    .build()?
                    .block_on(test(&stack))
                    .map_err(|error| {
                        let why = format!("{error:?}");
                        let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
                        failures.push((name, why.clone()));
                        Failed::from(why)
                    })
            })
        })
        .collect();
    libtest_mimic::run(arguments, trials)
}
