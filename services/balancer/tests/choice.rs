//! What the simulation of choosing must come to, and that the document shows what it comes to. Its dice have seeds, so it comes to the same every time.

#[path = "../benches/choice/comparison.rs"]
mod comparison;
#[path = "../benches/choice/marks.rs"]
mod marks;
#[path = "../benches/choice/plot.rs"]
mod plot;
#[path = "../benches/choice/report.rs"]
mod report;
#[path = "../benches/choice/simulation/mod.rs"]
mod simulation;
#[path = "../benches/choice/table.rs"]
mod table;

use std::fs;
use std::path::Path;

use simulation::chooser::Way;
use simulation::filling::skew_max;
use simulation::scene::Scene;
use simulation::work::Work;
use simulation::world::play;

#[test]
fn a_slow_backend_makes_fewer_wait_than_by_round_robin() {
    for load in [0.3, 0.65] {
        let scene = Scene::one_is_slow(load);
        let ours = play(&scene, Way::OURS).quantile_ms(0.99);
        let round_robin = play(&scene, Way::RoundRobin).quantile_ms(0.99);
        assert!(ours < 0.6 * round_robin, "{ours} {round_robin} at {load}");
    }
}

#[test]
fn a_backend_that_fails_at_once_draws_no_more_than_its_share_because_of_the_echoes() {
    let scene = Scene::one_fails();
    let share = |way| play(&scene, way).shares()[3];
    let (with, without) = (share(Way::OURS), share(Way::WITHOUT_ECHOES));
    assert!(with <= 0.25, "{with} with echoes");
    assert!(without > 0.5, "{without} without echoes");
}

#[test]
fn balancers_that_fill_equals_are_no_further_apart_than_there_are_balancers() {
    for balancers in 1..=4 {
        for servers in 2..=6 {
            for seed in 0..20 {
                let skew = skew_max(Way::OURS, balancers, servers, 300, seed);
                assert!(
                    skew <= balancers,
                    "{skew}: {balancers} on {servers}, {seed}"
                );
            }
        }
    }
    // The bound is reached, and is not one for whoever does not look.
    assert_eq!(2, skew_max(Way::OURS, 2, 4, 300, 1));
    assert!(skew_max(Way::Random, 2, 4, 300, 1) > 2);
}

#[test]
fn a_pair_is_nearly_as_even_as_one_and_evener_than_two_choices() {
    let pair = Scene::of_a_pair();
    let ours = play(&pair, Way::OURS);
    let one = play(&Scene::equal(Work::Lognormal), Way::OURS);
    let two_choices = play(&pair, Way::TwoChoices);
    assert!(
        ours.skew_mean() < 2.0 * one.skew_mean(),
        "{}",
        ours.skew_mean()
    );
    assert!(ours.skew_mean() < two_choices.skew_mean());
    assert!(ours.quantile_ms(0.99) < 1.05 * one.quantile_ms(0.99));
}

#[test]
fn a_slow_start_spares_those_who_come_to_a_cold_backend() {
    let scene = Scene::one_recovers();
    let slow = play(&scene, Way::OURS);
    let none = play(&scene, Way::WITHOUT_SLOW_START);
    assert!(slow.quantile_ms(0.99) < 0.9 * none.quantile_ms(0.99));
    assert!(slow.waiting_max()[3] < none.waiting_max()[3]);
}

#[test]
fn the_document_shows_what_the_simulation_comes_to() {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/performance.md");
    let text = fs::read_to_string(&document).unwrap();
    let (_, shown, _) = marks::split(&text, "choice").unwrap();
    let picture = fs::read_to_string(document.with_file_name("images/choice.svg")).unwrap();
    let command = "./stack bench choice --write docs/performance.md makes them anew";
    assert!(shown.trim() == report::markdown().trim(), "{command}");
    assert!(picture == report::picture(), "{command}");
}
