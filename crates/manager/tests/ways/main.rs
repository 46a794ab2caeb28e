//! The ways in as their senders use them. This file has its own `main`: workers are this program started again, and
//! credentials of the simulator come from the environment, which is set for a child.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod decisions;
mod isolation;
mod lines;
mod posted;
mod queue;
mod topic;
mod world;

use sakimori_sys::harness;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next().unwrap_or_default();
    if first == "worker" {
        sakimori_manager::ingest::worker::run().unwrap();
        return;
    }
    if std::env::var_os("AWS_ACCESS_KEY_ID").is_none() && first != "--list" {
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        again.args(std::env::args().skip(1)).envs([("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")]);
        std::process::exit(again.status().unwrap().code().unwrap_or(1));
    }
    let all: &[(&'static str, fn())] = &[
        ("findings_through_a_topic_and_a_queue_are_blocked_in_the_waf", queue::findings),
        ("an_instance_whose_malware_stays_is_isolated_and_released", isolation::cleaning_failed),
        ("a_message_of_a_queue_is_taken_once_whatever_ends_in_between", queue::once),
        ("a_webhook_shows_who_it_is_and_is_taken_once", posted::webhook),
        ("a_signed_request_begins_a_playbook_once", posted::begins_a_playbook),
        ("a_message_of_the_manager_s_own_begins_nothing_here", posted::own_message),
        ("a_worker_that_dies_costs_nothing", posted::worker_dies),
        ("a_topic_is_believed_by_its_signature_alone", topic::believed),
        ("a_datagram_is_stored_or_counted", lines::datagrams),
        ("decisions_are_told_in_the_form_that_bouncers_read", decisions::form),
        ("a_real_bouncer_blocks_and_unblocks", decisions::bouncer),
        ("lines_come_by_both_framings_and_in_tls", lines::streams),
    ];
    harness::run(&first, all, || Ok(()));
}
